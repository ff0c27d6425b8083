"""The state of streams, over both faces: read, list, stop, and as server-sent events."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy import admission, delivery, enquiries, feed
from proxy.app import App, Settings
from proxy.errors import SourceTimeout
from proxy.guard import signing
from proxy.register import Settings as RegisterSettings
from tests.support.client import TIMEOUT_S, Conversation, Reply, ask, stream_target
from tests.support.clips import make_clip, pieces
from tests.support.origin import Origin, Status
from tests.support.pipelines import PARTS, ScriptedPipeline
from tests.support.served import Serve, real_app
from tests.support.streams import publish

TARGET = stream_target("http://origin.invalid/a.m3u8?token=secret")
TOKEN = "an-operators-token"
OPERATOR = (("Authorization", f"Bearer {TOKEN}"),)
SETTINGS = Settings(operator_token=TOKEN)
FIELDS = {
    "id", "phase", "outcome", "status", "url", "started_at", "elapsed_s", "ttfb_s", "live",
    "duration_s", "codecs", "bytes_in", "bytes_out", "media_s", "segments", "buffer",
    "client_stalls", "left_out", "root_cause",
}  # fmt: skip


def id_of(reply: Reply) -> str:
    stream = reply.header("x-stream-id")
    assert stream is not None
    return stream


async def begin(conversation: Conversation) -> str:
    """Start a stream and read its first part; return its id."""
    conversation.request(TARGET)
    _, headers = await conversation.head()
    await conversation.read(len(PARTS[0]))
    return dict(headers)["x-stream-id"]


async def state_of(address: str, stream: str) -> dict[str, Any]:
    reply = await ask(address, f"/streams/{stream}")
    assert (reply.status, reply.header("content-type")) == (200, "application/json")
    assert reply.header("cache-control") == "no-store"
    assert reply.header("x-stream-id") == stream
    state: dict[str, Any] = reply.json()
    assert state.keys() == FIELDS
    return state


def events(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    """The events of a feed, comments left out."""
    found = []
    for block in body.decode().split("\n\n"):
        if block and not block.startswith(":"):
            name, data = block.split("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


class Watching:
    """A client of the events of a stream."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self._blocks = self._read()

    async def _read(self) -> AsyncIterator[str]:
        text = b""
        while True:
            size = int(await self._until(b"\r\n"), 16)
            if not size:
                return
            text += (await self.conversation.read(size + 2))[:-2]
            while b"\n\n" in text:
                block, _, text = text.partition(b"\n\n")
                yield block.decode()

    async def _until(self, end: bytes) -> bytes:
        line = b""
        while not line.endswith(end):
            line += await self.conversation.read(1)
        return line

    async def next(self) -> str:
        return await asyncio.wait_for(anext(self._blocks), TIMEOUT_S)


# -- one stream ------------------------------------------------------------------------------------


async def test_state_of_a_running_stream(serve: Serve) -> None:
    """Whoever has the id of X-Stream-Id sees what the stream is doing, without its secrets."""
    gate = asyncio.Event()
    pipeline = ScriptedPipeline(stall=gate)
    async with serve(App(pipeline)) as address, await Conversation.open(address) as conversation:
        stream = await begin(conversation)
        state = await state_of(address, stream)
        assert (state["id"], state["phase"], state["outcome"]) == (stream, "streaming", None)
        assert (state["status"], state["url"]) == (200, "http://origin.invalid/a.m3u8")
        assert (state["live"], state["duration_s"]) == (False, 30.0)
        assert state["codecs"] == "avc1.64001f,mp4a.40.2"
        assert state["bytes_out"] >= len(PARTS[0])
        assert state["buffer"] == {"bytes": 1000, "capacity_bytes": 4000}
        assert state["segments"] == {"fetched": 0, "retried": 0, "skipped": 0}
        assert state["elapsed_s"] >= state["ttfb_s"] >= 0
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", state["started_at"])
        gate.set()


async def test_state_of_a_stream_that_opens(serve: Serve) -> None:
    """It is there before its client was answered."""
    opening = asyncio.Event()
    pipeline = ScriptedPipeline(opening=opening)
    served = App(pipeline, SETTINGS)
    async with serve(served) as address, await Conversation.open(address) as conversation:
        conversation.request(TARGET)
        await asyncio.wait_for(pipeline.asked.wait(), TIMEOUT_S)
        (state,) = (await ask(address, "/streams", headers=OPERATOR)).json()["streams"]
        assert (state["phase"], state["status"], state["ttfb_s"]) == ("opening", 0, None)
        opening.set()
        assert id_of(await conversation.reply()) == state["id"]


async def test_state_of_a_complete_stream(serve: Serve) -> None:
    """What has ended is still known: how, and all that it has moved."""
    async with serve(App(ScriptedPipeline())) as address:
        stream = id_of(await ask(address, TARGET))
        state = await ended(address, stream)
    assert (state["phase"], state["outcome"], state["status"]) == ("ended", "complete", 200)
    assert state["bytes_out"] == sum(map(len, PARTS))
    assert (state["media_s"], state["left_out"]) == (1.5, {"other_streams": 12})
    assert state["buffer"] == {"bytes": 0, "capacity_bytes": 0}


async def ended(address: str, stream: str) -> dict[str, Any]:
    """Wait for the end of a stream by its events, and return its last state."""
    (*_, (name, state)) = events((await ask(address, f"/streams/{stream}/events")).body)
    assert name == "end"
    assert state == await state_of(address, stream)
    return state


async def test_state_of_a_refused_stream(serve: Serve) -> None:
    """Every answer to /stream has the id of a state, whatever it was refused for."""
    signed = signing.Settings(keys={"k": "s" * 32}, required=False)
    limits = admission.Settings(streams=1)
    pipeline = ScriptedPipeline(refuses=SourceTimeout("late"))
    served = App(pipeline, Settings(admission=limits, signing=signed))
    async with serve(served) as address:
        for target, code, status in (
            (TARGET, "source_timeout", 504),
            ("/stream", "invalid_request", 400),
            (f"{TARGET}&signature=x", "forbidden", 403),
            (TARGET.replace("/stream", "/inspect"), "source_timeout", 504),
        ):
            reply = await ask(address, target)
            assert (reply.status, reply.json()["stream"]) == (status, id_of(reply))
            state = await state_of(address, id_of(reply))
            assert (state["phase"], state["outcome"], state["status"]) == ("ended", code, status)
        served.drain()
        state = await state_of(address, id_of(await ask(address, TARGET)))
        assert (state["outcome"], state["url"]) == ("overloaded", "http://origin.invalid/a.m3u8")


async def test_state_of_a_real_stream(serve: Serve) -> None:
    """Segments, bytes and media are counted as they are."""
    clip = make_clip(seconds=3)
    async with Origin() as origin, real_app() as served, serve(served) as address:
        url = publish(origin, clip)
        origin.fault("/1.ts", Status(503), times=1)
        reply = await ask(address, stream_target(url))
        state = await ended(address, id_of(reply))
    assert (state["outcome"], state["live"]) == ("complete", False)
    assert state["segments"] == {"fetched": 3, "retried": 1, "skipped": 0}
    assert state["bytes_in"] == sum(len(piece.data) for piece in pieces(clip, 1.0))
    assert state["bytes_out"] == len(reply.body)
    assert state["media_s"] == pytest.approx(3.0, abs=0.1)


async def test_state_of_nothing_is_404(serve: Serve) -> None:
    """An id that nobody was given, and what is none, are not there."""
    async with serve(App(ScriptedPipeline(), SETTINGS)) as address:
        for path in ("0" * 32, "0" * 31, "0" * 33, "g" * 32, "F" * 32, "0" * 32 + "/", "."):
            for target in (f"/streams/{path}", f"/streams/{path}/events"):
                assert (await ask(address, target)).status == 404, target
        reply = await ask(address, f"/streams/{'0' * 32}", method="DELETE", headers=OPERATOR)
        assert reply.status == 404


async def test_ended_streams_are_forgotten(serve: Serve) -> None:
    """Behind `history_s` nothing is known of them."""
    settings = Settings(register=RegisterSettings(history_s=0.0))
    async with serve(App(ScriptedPipeline(), settings)) as address:
        stream = id_of(await ask(address, TARGET))
        assert (await ask(address, f"/streams/{stream}/events")).status in {200, 404}
        assert (await ask(address, f"/streams/{stream}")).status == 404


async def test_client_that_takes_nothing_is_counted(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause of the client is a stall, also one in which it leaves; one of the source is not."""
    monkeypatch.setattr(delivery, "CLIENT_STALL_S", 0.05)
    pipeline = ScriptedPipeline(parts=(bytes(100_000),), endless=True)
    served = App(pipeline, Settings(idle_client_s=0.2))
    async with serve(served) as address:
        async with await Conversation.open(address, slow=True) as conversation:
            conversation.request(TARGET)
            _, headers = await conversation.head()
            await asyncio.wait_for(served.idle(), TIMEOUT_S)
        state = await ended(address, dict(headers)["x-stream-id"])
        assert (state["outcome"], state["client_stalls"]) == ("client_idle", 1)
        pipeline = ScriptedPipeline()
    async with serve(App(pipeline)) as address:
        state = await ended(address, id_of(await ask(address, TARGET)))
        assert state["client_stalls"] == 0


# -- the operator ----------------------------------------------------------------------------------


async def test_list_shows_all_streams(serve: Serve) -> None:
    """Running, ended and refused ones, the newest first, each as by itself."""
    gate = asyncio.Event()
    pipeline = ScriptedPipeline()
    async with serve(App(pipeline, SETTINGS)) as address:
        first = id_of(await ask(address, TARGET))
        await ended(address, first)
        second = id_of(await ask(address, "/stream"))
        pipeline.stall = gate
        async with await Conversation.open(address) as conversation:
            third = await begin(conversation)
            reply = await ask(address, "/streams", headers=OPERATOR)
            states = reply.json()["streams"]
            assert [state["id"] for state in states] == [third, second, first]
            assert [state["phase"] for state in states] == ["streaming", "ended", "ended"]
            assert states[2] == await state_of(address, first)
            assert b"secret" not in reply.body
            gate.set()


async def test_operator_needs_the_token(serve: Serve) -> None:
    """Without it, or with another, the answer is 401 and says what to send; nothing is stopped."""
    gate = asyncio.Event()
    async with (
        serve(App(ScriptedPipeline(stall=gate), SETTINGS)) as address,
        await Conversation.open(address) as conversation,
    ):
        stream = await begin(conversation)
        for headers in ((), (("Authorization", "Bearer wrong"),)):
            for target, method in (("/streams", "GET"), (f"/streams/{stream}", "DELETE")):
                reply = await ask(address, target, method=method, headers=headers)
                assert (reply.status, reply.json()["code"]) == (401, "unauthorized")
                assert (reply.header("www-authenticate") or "").startswith("Bearer ")
        assert (await state_of(address, stream))["phase"] == "streaming"
        gate.set()


async def test_operator_without_a_token_is_nobody(serve: Serve) -> None:
    """Where no token is set there is no list, and nothing to stop; states are there."""
    gate = asyncio.Event()
    async with (
        serve(App(ScriptedPipeline(stall=gate))) as address,
        await Conversation.open(address) as conversation,
    ):
        stream = await begin(conversation)
        for headers in ((), OPERATOR, (("Authorization", "Bearer "),)):
            assert (await ask(address, "/streams", headers=headers)).status == 404
            reply = await ask(address, f"/streams/{stream}", method="DELETE", headers=headers)
            assert reply.status == 404
        assert (await state_of(address, stream))["phase"] == "streaming"
        gate.set()


async def test_delete_cuts_a_stream(serve: Serve) -> None:
    """Its client sees a cut, its outcome is `stopped`, nothing is left, and again is harmless."""
    pipeline = ScriptedPipeline(stall=asyncio.Event())
    served = App(pipeline, SETTINGS)
    async with serve(served) as address, await Conversation.open(address) as conversation:
        conversation.request(TARGET)
        await conversation.begun()
        (state,) = (await ask(address, "/streams", headers=OPERATOR)).json()["streams"]
        target = f"/streams/{state['id']}"
        for _ in range(2):
            reply = await ask(address, target, method="DELETE", headers=OPERATOR)
            assert (reply.status, reply.body) == (204, b"")
        assert served.active == 0
        assert pipeline.streams[0].closed.is_set()
        assert (await conversation.reply()).ended == "cut"
        state = await state_of(address, state["id"])
        assert (state["phase"], state["outcome"], state["status"]) == ("ended", "stopped", 200)


async def test_delete_cuts_a_stream_whose_client_takes_nothing(serve: Serve) -> None:
    """It does not wait for the client."""
    pipeline = ScriptedPipeline(parts=(bytes(100_000),), endless=True)
    served = App(pipeline, SETTINGS)
    async with (
        serve(served) as address,
        await Conversation.open(address, slow=True) as conversation,
    ):
        conversation.request(TARGET)
        _, headers = await conversation.head()
        target = f"/streams/{dict(headers)['x-stream-id']}"
        reply = await ask(address, target, method="DELETE", headers=OPERATOR)
        assert (reply.status, served.active) == (204, 0)


async def test_delete_of_a_stream_that_opens_is_answered_to_its_client(serve: Serve) -> None:
    """Before the first byte there is still a status to be had."""
    pipeline = ScriptedPipeline(opening=asyncio.Event())
    served = App(pipeline, SETTINGS)
    async with serve(served) as address, await Conversation.open(address) as conversation:
        conversation.request(TARGET)
        await asyncio.wait_for(pipeline.asked.wait(), TIMEOUT_S)
        (state,) = (await ask(address, "/streams", headers=OPERATOR)).json()["streams"]
        target = f"/streams/{state['id']}"
        assert (await ask(address, target, method="DELETE", headers=OPERATOR)).status == 204
        reply = await conversation.reply()
        assert (reply.status, reply.json()["code"]) == (503, "stopped")
        assert id_of(reply) == state["id"]
        assert pipeline.cancelled.is_set()
        conversation.request("/healthz")
        assert (await conversation.reply()).status == 200


async def test_other_method_of_a_stream_is_405(serve: Serve) -> None:
    """What may be done with a stream, its events and the list is told in Allow."""
    async with serve(App(ScriptedPipeline(), SETTINGS)) as address:
        for target, method, allow in (
            (f"/streams/{'0' * 32}", "POST", "GET, HEAD, DELETE"),
            (f"/streams/{'0' * 32}/events", "DELETE", "GET, HEAD"),
            ("/streams", "DELETE", "GET, HEAD"),
        ):
            reply = await ask(address, target, method=method, headers=OPERATOR)
            assert (reply.status, reply.header("allow")) == (405, allow)


async def test_preflight_allows_the_operator(serve: Serve) -> None:
    """A page may send DELETE and Authorization, which `*` does not stand for."""
    served = App(ScriptedPipeline(), Settings(cors_origins=("https://a.invalid",)))
    headers = (("Origin", "https://a.invalid"), ("Access-Control-Request-Method", "DELETE"))
    async with serve(served) as address:
        reply = await ask(address, f"/streams/{'0' * 32}", method="OPTIONS", headers=headers)
    assert reply.status == 204
    assert reply.header("access-control-allow-methods") == "GET, HEAD, DELETE"
    assert "Authorization" in (reply.header("access-control-allow-headers") or "")


# -- events ----------------------------------------------------------------------------------------


async def test_events_follow_a_stream_to_its_end(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state at once, further ones while it changes, one at the end, and then no more."""
    monkeypatch.setattr(feed, "PACE_S", 0.01)
    gate = asyncio.Event()
    pipeline = ScriptedPipeline(stall=gate)
    async with (
        serve(App(pipeline)) as address,
        await Conversation.open(address) as conversation,
        await Conversation.open(address) as watcher,
    ):
        stream = await begin(conversation)
        watcher.request(f"/streams/{stream}/events")
        status, headers = await watcher.head()
        assert (status, dict(headers)["content-type"]) == (200, "text/event-stream")
        assert dict(headers)["x-stream-id"] == stream
        watching = Watching(watcher)
        (first,) = events((await watching.next()).encode())
        assert (first[0], first[1]["phase"]) == ("state", "streaming")
        pipeline.streams[0].media_s = 2.5
        (second,) = events((await watching.next()).encode())
        while second[1]["media_s"] != 2.5:  # what the client took was a change, too
            (second,) = events((await watching.next()).encode())
        gate.set()
        (last,) = events((await watching.next()).encode())
        while last[0] != "end":
            (last,) = events((await watching.next()).encode())
        assert (last[1]["phase"], last[1]["outcome"]) == ("ended", "complete")
        assert last[1] == await state_of(address, stream)
        with pytest.raises(StopAsyncIteration):
            await watching.next()


async def test_events_of_an_ended_stream_end_at_once(serve: Serve) -> None:
    """State, end, and the response is whole."""
    async with serve(App(ScriptedPipeline())) as address:
        stream = id_of(await ask(address, "/stream"))
        reply = await ask(address, f"/streams/{stream}/events")
        assert reply.ended == "complete"
        assert [name for name, _ in events(reply.body)] == ["state", "end"]
        head = await ask(address, f"/streams/{stream}/events", method="HEAD")
        assert (head.status, head.body) == (200, b"")


async def test_events_are_kept_alive_by_comments(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing changes a comment goes out, so that a client that is gone is noticed."""
    monkeypatch.setattr(feed, "PACE_S", 0.01)
    monkeypatch.setattr(feed, "SILENCE_S", 0.02)
    gate = asyncio.Event()
    async with (
        serve(App(ScriptedPipeline(stall=gate))) as address,
        await Conversation.open(address) as conversation,
        await Conversation.open(address) as watcher,
    ):
        watcher.request(f"/streams/{await begin(conversation)}/events")
        await watcher.head()
        watching = Watching(watcher)
        while not (await watching.next()).startswith(":"):
            pass
        gate.set()


async def test_events_take_no_slot_and_leave_nothing_behind(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Watchers are no streams, are bounded in number, and their place is free when they leave."""
    monkeypatch.setattr(enquiries, "FEEDS", 1)
    gate = asyncio.Event()
    served = App(ScriptedPipeline(stall=gate), Settings(admission=admission.Settings(streams=1)))
    async with serve(served) as address, await Conversation.open(address) as conversation:
        target = f"/streams/{await begin(conversation)}/events"
        async with await Conversation.open(address) as watcher:
            watcher.request(target)
            await watcher.head()
            assert served.active == 1
            refused = await ask(address, target)
            assert (refused.status, refused.json()["code"]) == (503, "overloaded")
            watcher.leave()
        async with asyncio.timeout(TIMEOUT_S):
            while served.watchers:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0)
        gate.set()
        await asyncio.wait_for(served.idle(), TIMEOUT_S)
        assert (await ask(address, target)).status == 200
        assert served.watchers == 0
