"""SIGTERM, for `remuxd serve` and for the application under uvicorn: processes of their own.

What `tests/test_cli.py` has not: many streams, those that are still being opened, what a load
balancer sees, and how far uvicorn lets us go.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.support import boxes
from tests.support.client import TIMEOUT_S, Conversation, Reply, ask, stream_target
from tests.support.clips import make_clip
from tests.support.origin import Origin
from tests.support.served import LOOPBACK, Running, free_port, running, until_healthy
from tests.support.streams import publish

FACTORY = "proxy.faces.asgi:create_app"


@dataclass(frozen=True, slots=True)
class Site:
    origin: Origin
    run: Running
    address: str
    target: str

    async def play(self) -> Reply:
        return await ask(self.address, self.target)

    async def stop(self, signum: signal.Signals = signal.SIGTERM) -> None:
        self.run.process.send_signal(signum)


@contextlib.asynccontextmanager
async def serving(**changes: str) -> AsyncIterator[Site]:
    environment = {**LOOPBACK, "REMUXD_LIMITS__STREAMS_PER_CLIENT": "50", **changes}
    async with (
        Origin() as origin,
        running("proxy", "serve", "--port", "0", environment=environment) as run,
    ):
        address = (await run.until_said("listening on")).rpartition(" ")[2]
        yield Site(origin, run, address, stream_target(publish(origin, make_clip(seconds=6.0))))


@contextlib.asynccontextmanager
async def under_uvicorn(*options: str) -> AsyncIterator[Site]:
    port = free_port()
    command = ("uvicorn", "--factory", FACTORY, "--port", str(port), *options)
    async with Origin() as origin, running(*command, environment=LOOPBACK) as run:
        address = f"http://127.0.0.1:{port}"
        await until_healthy(address)
        yield Site(origin, run, address, stream_target(publish(origin, make_clip(seconds=6.0))))


# -- remuxd serve ----------------------------------------------------------------------------------


async def test_many_streams_finish_after_sigterm() -> None:
    """Ten streams under way come whole; nobody else gets in, and the refusal says when to ask."""
    async with serving() as site:
        gate = site.origin.hold("/4.ts", after_bytes=1000)
        playing = [asyncio.create_task(site.play()) for _ in range(10)]
        await site.origin.until(lambda: len(site.origin.asked("/4.ts")) == 10)
        assert (await ask(site.address, "/readyz")).status == 200
        await site.stop()
        await site.run.until_said("stopping")
        ready, refused = await ask(site.address, "/readyz"), await site.play()
        assert (ready.status, refused.status) == (503, 503)
        assert ready.header("retry-after")
        assert refused.header("retry-after")
        assert (await ask(site.address, "/healthz")).status == 200
        gate.open()
        replies = await asyncio.wait_for(asyncio.gather(*playing), TIMEOUT_S)
        assert {(reply.status, reply.ended) for reply in replies} == {(200, "complete")}
        assert await site.run.ended() == 0


@pytest.mark.parametrize("signals", [1, 2], ids=["at the deadline", "at the second signal"])
async def test_many_streams_are_cut(signals: int) -> None:
    """What does not end is cut: at `drain_s`, or at the second SIGTERM; the exit code is 0."""
    async with serving(REMUXD_SERVER__DRAIN_S="0.2" if signals == 1 else "3600") as site:
        site.origin.hold("/4.ts", after_bytes=1000)
        playing = [asyncio.create_task(site.play()) for _ in range(10)]
        await site.origin.until(lambda: len(site.origin.asked("/4.ts")) == 10)
        for _ in range(signals):
            await site.stop()
            await site.run.until_said("stopping")
        replies = await asyncio.wait_for(asyncio.gather(*playing), TIMEOUT_S)
        assert {(reply.status, reply.ended) for reply in replies} == {(200, "cut")}
        for reply in replies:
            assert boxes.read(reply.body).fragments
        assert await site.run.ended() == 0
        await site.origin.until(lambda: all(request.ended for request in site.origin.requests))


@pytest.mark.parametrize("path", ["/media.m3u8", "/0.ts"])
async def test_stream_that_is_being_opened_at_sigterm(path: str) -> None:
    """A request that was let in before the signal is answered, if that is possible in time."""
    async with serving() as site:
        gate = site.origin.hold(path, after_bytes=100)
        playing = asyncio.create_task(site.play())
        await gate.reached()
        await site.stop()
        await site.run.until_said("stopping")
        gate.open()
        assert (await playing).ended == "complete"
        assert await site.run.ended() == 0


async def test_stream_that_is_never_opened_is_given_up() -> None:
    """One that never comes to its first byte does not hold up the end; its client gets no 200."""
    async with serving(REMUXD_SERVER__DRAIN_S="0.2") as site:
        gate = site.origin.hold("/0.ts", after_bytes=100)
        async with await Conversation.open(site.address) as conversation:
            conversation.request(site.target)
            await gate.reached()
            await site.stop()
            assert not (await conversation.until_closed()).startswith(b"HTTP/1.1 200")
            assert await site.run.ended() == 0


# -- uvicorn ---------------------------------------------------------------------------------------


async def test_uvicorn_lets_streams_finish() -> None:
    """uvicorn stops listening at once, which is all a load balancer can see of it, and waits for
    the streams that run."""
    async with under_uvicorn() as site:
        gate = site.origin.hold("/4.ts", after_bytes=1000)
        playing = asyncio.create_task(site.play())
        await gate.reached()
        await site.stop()
        await site.run.until_said("Waiting for connections to close")
        with pytest.raises(ConnectionRefusedError):
            await site.play()
        gate.open()
        assert (await playing).ended == "complete"
        assert await site.run.ended() == -signal.SIGTERM  # it raises again what it has caught


@pytest.mark.parametrize("how", ["timeout", "SIGINT"])
async def test_uvicorn_cuts_streams(how: str) -> None:
    """At `--timeout-graceful-shutdown`, or at Ctrl-C behind the SIGTERM, what runs is cut."""
    options = ("--timeout-graceful-shutdown", "1") if how == "timeout" else ()
    async with under_uvicorn(*options) as site:
        gate = site.origin.hold("/4.ts", after_bytes=1000)
        playing = asyncio.create_task(site.play())
        await gate.reached()
        await site.stop()
        await site.run.until_said("Waiting for connections to close")
        if how == "SIGINT":
            await site.stop(signal.SIGINT)
        reply = await playing
        assert (reply.status, reply.ended) == (200, "cut")
        assert boxes.read(reply.body).fragments
        await site.run.ended()
        await site.origin.until(lambda: all(request.ended for request in site.origin.requests))
