"""Slow clients and slow origins, over both faces, with real media: what is held, and what ends."""

import asyncio
import time
from typing import Any

import pytest

from proxy.app import Settings
from proxy.faces.queue import UNSENT_BYTES
from proxy.pipeline import Settings as PipelineSettings
from tests.support import boxes
from tests.support.client import TIMEOUT_S, Conversation, ask, stream_target
from tests.support.clips import Clip, make_clip
from tests.support.origin import Fault, Origin, SlowHeaders, Stall, Trickle
from tests.support.served import Serve, over_aiohttp, real_app
from tests.support.streams import publish, workers

MIB = 1024 * 1024

# A minimum rate that shows within a second.
IMPATIENT: dict[str, Any] = {
    "segment_attempts": 2,
    "min_rate_window_s": 0.2,
    "min_rate_grace_s": 0.1,
    "read_timeout_s": 0.3,
    "headers_timeout_s": 0.3,
    "connect_timeout_s": 0.1,
    "tls_timeout_s": 0.0,
}


def large_clip() -> Clip:
    return make_clip(seconds=8.0, width=640, height=360, bitrate=5_000_000)


async def test_slow_client_stops_the_reading_of_the_origin(serve: Serve) -> None:
    """What is read ahead of a client is the budget, counted at the origin; nothing is lost."""
    settings = PipelineSettings(budget_bytes=MIB)
    async with (
        Origin(send_buffer_bytes=16_384) as origin,
        real_app(pipeline=settings) as app,
        serve(app) as address,
    ):
        target = stream_target(publish(origin, large_clip(), times=4))
        async with await Conversation.narrow(address) as conversation:
            conversation.request(target)
            status, _ = await conversation.head()
            assert status == 200
            sent = await origin.standstill(quiet_s=0.2)
            # the budget; what the sockets of three connections hold; the queue to the client
            assert sent < MIB + 3 * 256 * 1024 + 2 * UNSENT_BYTES
            assert sent < 4 * len(large_clip().data)
        whole = await ask(address, target)
        assert whole.ended == "complete"
        boxes.read(whole.body)


async def test_client_that_takes_nothing_is_ended(serve: Serve) -> None:
    """After `idle_client_s` without progress its stream is cut, and the origin is let go."""
    settings = Settings(idle_client_s=0.3)
    async with Origin() as origin, real_app(settings) as app, serve(app) as address:
        target = stream_target(publish(origin, large_clip(), times=4))
        async with await Conversation.narrow(address) as conversation:
            conversation.request(target)
            await conversation.head()
            await asyncio.wait_for(app.idle(), TIMEOUT_S)
            await origin.until(lambda: all(each.ended for each in origin.requests))
            assert not (await conversation.until_closed()).endswith(b"\r\n0\r\n\r\n")
    assert workers() == []


async def test_client_that_is_slow_but_steady_is_not_ended() -> None:
    """A client that takes its time, and takes something, gets all of the stream."""
    clip = make_clip(seconds=8.0, width=640, height=360, bitrate=1_000_000)
    settings = Settings(idle_client_s=0.3)
    async with Origin() as origin, real_app(settings) as app, over_aiohttp(app) as address:
        target = stream_target(publish(origin, clip, times=8))
        async with await Conversation.narrow(address) as conversation:
            conversation.request(target, headers=(("Connection", "close"),))
            await conversation.head()
            began_s = time.monotonic()
            while time.monotonic() - began_s < 3 * settings.idle_client_s:
                await conversation.read(250_000)
                await asyncio.sleep(0.1)  # the condition itself: slow, for longer than the limit
            assert (await conversation.until_closed()).endswith(b"\r\n0\r\n\r\n")
        await asyncio.wait_for(app.idle(), TIMEOUT_S)


SLOW = [Trickle(drip_bytes=20, every_s=0.02, after_bytes=5000), Stall(5000), SlowHeaders(0.05)]


@pytest.mark.parametrize("fault", SLOW, ids=str)
async def test_slow_origin_before_the_first_byte(serve: Serve, fault: Fault) -> None:
    """A trickle, a stall, slow headers: the client is told 504, and the origin is let go."""
    async with Origin() as origin, real_app(**IMPATIENT) as app, serve(app) as address:
        target = stream_target(publish(origin, large_clip()))
        origin.fault("/0.ts", fault)
        reply = await ask(address, target)
        code = "headers_timeout" if isinstance(fault, SlowHeaders) else "source_timeout"
        assert (reply.status, reply.json()["code"]) == (504, code)
        await origin.until(lambda: all(each.ended for each in origin.requests))
    assert workers() == []


@pytest.mark.parametrize("fault", SLOW, ids=str)
async def test_slow_origin_in_mid_stream(serve: Serve, fault: Fault) -> None:
    """The same in mid-stream: the connection is cut, behind whole fragments."""
    async with Origin() as origin, real_app(**IMPATIENT) as app, serve(app) as address:
        target = stream_target(publish(origin, large_clip()))
        origin.fault("/3.ts", fault)
        reply = await ask(address, target)
        assert (reply.status, reply.ended) == (200, "cut")
        boxes.read(reply.body)
        await origin.until(lambda: all(each.ended for each in origin.requests))
    assert workers() == []


async def test_segment_deadline(serve: Serve) -> None:
    """A segment that comes steadily but takes for ever is given up at its deadline."""
    told = {**IMPATIENT, "segment_deadline_s": (0.3, 0.3), "segment_attempts": 1}
    async with Origin() as origin, real_app(**told) as app, serve(app) as address:
        target = stream_target(publish(origin, large_clip()))
        origin.fault("/3.ts", Trickle(drip_bytes=5000, every_s=0.05))
        assert (await ask(address, target)).ended == "cut"
        origin.heal()
        origin.fault("/0.ts", Trickle(drip_bytes=2000, every_s=0.05))
        assert (await ask(address, target)).status == 504
    assert workers() == []
