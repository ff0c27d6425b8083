"""What our own server does beyond what both faces do: HTTP/1.0, unix sockets, timers, draining."""

import asyncio
from pathlib import Path

import pytest

from proxy.app import App
from proxy.errors import CorruptMedia
from proxy.faces import server as face
from proxy.faces.server import listen
from tests.support.client import TIMEOUT_S, Conversation, ask, stream_target
from tests.support.pipelines import PARTS, ScriptedPipeline

TARGET = stream_target()


async def test_http_1_0_stream_that_breaks_is_reset() -> None:
    """The end of an HTTP/1.0 body is the close of the connection: a cut must be a reset."""
    pipeline = ScriptedPipeline(breaks=CorruptMedia("broken"))
    async with listen(App(pipeline)) as server:
        reply = await ask(server.addresses[0], TARGET, version="1.0")
        await asyncio.wait_for(pipeline.streams[0].closed.wait(), TIMEOUT_S)
    assert (reply.status, reply.ended) == (200, "reset")


async def test_unix_socket_serves_and_is_removed(tmp_path: Path) -> None:
    """A unix socket serves like a port, and its file is gone afterwards."""
    path = tmp_path / "socket"
    async with listen(App(ScriptedPipeline()), unix_socket=str(path)) as server:
        assert server.addresses == (f"unix:{path}",)
        reply = await ask(server.addresses[0], TARGET)
        assert (reply.status, reply.body, reply.ended) == (200, b"".join(PARTS), "complete")
    assert not path.exists()


async def test_unix_socket_refuses_http_1_0_streams(tmp_path: Path) -> None:
    """There is no reset on a unix socket, so a cut could not be shown to HTTP/1.0."""
    path = tmp_path / "socket"
    async with listen(App(ScriptedPipeline()), unix_socket=str(path)) as server:
        reply = await ask(server.addresses[0], TARGET, version="1.0")
        assert (reply.status, reply.json()["code"]) == (505, "http_version_unsupported")


@pytest.mark.parametrize("begun", [b"", b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow: "])
async def test_connection_that_does_not_finish_its_head_is_closed(
    monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    """A client that says nothing, or never ends saying it, does not keep its connection."""
    monkeypatch.setattr(face, "HEADER_TIMEOUT_S", 0.05)
    async with listen(App(ScriptedPipeline())) as server:
        async with await Conversation.open(server.addresses[0]) as conversation:
            conversation.send(begun)
            await conversation.until_closed()


async def test_slow_head_of_the_second_request_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer starts anew with the first byte of each request on a kept connection."""
    async with listen(App(ScriptedPipeline())) as server:
        async with await Conversation.open(server.addresses[0]) as conversation:
            conversation.request("/healthz")
            assert (await conversation.reply()).status == 200
            monkeypatch.setattr(face, "HEADER_TIMEOUT_S", 0.05)
            conversation.send(b"GET /")
            await conversation.until_closed()


async def test_header_timer_spares_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that was read whole may take as long as it likes."""
    monkeypatch.setattr(face, "HEADER_TIMEOUT_S", 0.05)
    gate = asyncio.Event()
    async with listen(App(ScriptedPipeline(stall=gate))) as server:
        async with await Conversation.open(server.addresses[0]) as conversation:
            conversation.request(TARGET)
            asyncio.get_running_loop().call_later(0.2, gate.set)
            reply = await conversation.reply()
    assert (reply.body, reply.ended) == (b"".join(PARTS), "complete")


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        b"GET http://a b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
async def test_malformed_http_is_a_problem(head: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """What is no HTTP is 400 and the end of the connection, without a traceback in the log."""
    async with listen(App(ScriptedPipeline())) as server:
        async with await Conversation.open(server.addresses[0]) as conversation:
            conversation.send(head)
            reply = await conversation.reply()
            await conversation.until_closed()
    assert (reply.status, reply.json()["code"]) == (400, "invalid_request")
    assert reply.header("x-stream-id") == reply.json()["stream"]
    assert not caplog.records


async def test_close_cuts_what_still_runs() -> None:
    """Leaving `listen` cuts running streams, visibly, and waits until they are closed."""
    pipeline = ScriptedPipeline(stall=asyncio.Event())
    app = App(pipeline)
    async with listen(app) as server:
        conversation = await Conversation.open(server.addresses[0])
        conversation.request(TARGET)
        await conversation.head()
    async with conversation:
        assert pipeline.streams[0].closed.is_set()
        assert app.active == 0
        assert not (await conversation.until_closed()).endswith(b"\r\n0\r\n\r\n")


async def test_close_cuts_what_was_being_opened(caplog: pytest.LogCaptureFixture) -> None:
    """A stream whose first fragment comes when all others have been cut is cut as they were."""
    caplog.set_level("INFO", "proxy")
    opening = asyncio.Event()
    pipeline = ScriptedPipeline(opening=opening, stall=asyncio.Event())
    async with listen(App(pipeline)) as server:
        conversation = await Conversation.open(server.addresses[0])
        conversation.request(TARGET)
        await pipeline.asked.wait()
        asyncio.get_running_loop().call_later(0.05, opening.set)
    async with conversation:
        assert pipeline.streams[0].closed.is_set()
        assert "outcome=shutdown" in caplog.text


async def test_server_that_stops_listening_keeps_its_connections() -> None:
    """The address is free for another server, and what runs goes on."""
    gate = asyncio.Event()
    async with listen(App(ScriptedPipeline(stall=gate))) as server:
        async with await Conversation.open(server.addresses[0]) as conversation:
            conversation.request(TARGET)
            await conversation.begun()
            server.stop_listening()
            port = int(server.addresses[0].rpartition(":")[2])
            async with listen(App(ScriptedPipeline()), port=port) as other:
                assert (await ask(other.addresses[0], TARGET)).status == 200
            gate.set()
            assert (await conversation.reply()).ended == "complete"


async def test_drain_waits_for_the_running_streams() -> None:
    """`drain` refuses new streams at once, and returns with the last running one."""
    gate = asyncio.Event()
    app = App(ScriptedPipeline(stall=gate))
    async with listen(app) as server:
        async with await Conversation.open(server.addresses[0]) as conversation:
            conversation.request(TARGET)
            await conversation.head()
            draining = asyncio.ensure_future(server.drain(TIMEOUT_S, now=asyncio.Event()))
            refused = await ask(server.addresses[0], TARGET)
            assert (refused.status, refused.header("connection")) == (503, "close")
            assert not draining.done()
            gate.set()
            await asyncio.wait_for(draining, TIMEOUT_S)


async def test_drain_ends_at_its_deadline_or_at_once() -> None:
    """A stream that does not end holds up the drain no longer than told."""
    app = App(ScriptedPipeline(stall=asyncio.Event()))
    async with listen(app) as server:
        async with await Conversation.open(server.addresses[0]) as conversation:
            conversation.request(TARGET)
            await conversation.head()
            await asyncio.wait_for(server.drain(0.01, now=asyncio.Event()), TIMEOUT_S)
            now = asyncio.Event()
            now.set()
            await asyncio.wait_for(server.drain(3600, now=now), TIMEOUT_S)
            assert app.active == 1


async def test_port_that_is_taken_is_an_os_error() -> None:
    """The second server on a port says so."""
    async with listen(App(ScriptedPipeline())) as server:
        port = int(server.addresses[0].rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            async with listen(App(ScriptedPipeline()), port=port):
                pass
