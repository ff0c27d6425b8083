"""A client leaves, at every stage of a stream: the origin's connection is closed, the worker thread
ends, and nothing is left, over both faces and behind nginx.

The promise is 500 ms (p99 of a thousand); the tests guard ten times that, and `make soak` tells
what it was (`support/figures.py`).
"""

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy import admission
from proxy.app import App, Settings
from tests.support.client import Conversation, stream_target
from tests.support.clips import make_clip
from tests.support.figures import in_ms, report
from tests.support.nginx import nginx
from tests.support.origin import Origin, Stall, Trickle
from tests.support.served import Serve, real_app
from tests.support.streams import Resources, publish

PROMISED_S = 0.5
GUARD_S = 10 * PROMISED_S
MIB = 1024 * 1024

# More than we, nginx and the kernel between them would hold for a client that takes nothing.
LARGE_SECONDS, LARGE_BITRATE, LARGE_TIMES = 8.0, 5_000_000, 6

STAGES = (
    "playlist",  # before the headers: the playlist does not come
    "segment",  # before the headers: the first segment does not come
    "fragment",  # during the first fragment
    "flowing",  # in mid-stream, while it flows
    "stall",  # in mid-stream, while the origin says nothing
    "full",  # in mid-stream, while the client takes nothing and every buffer is full
)


@dataclass(frozen=True, slots=True)
class Left:
    """How long it took from the moment a client closed its connection."""

    stage: str
    origin_s: float  # until the origin saw its connections closed
    thread_s: float  # until the worker thread had ended; 0 where there was none


class Place:
    """An origin with a presentation for each stage, and an app in front of it."""

    def __init__(self, origin: Origin, app: App) -> None:
        self.origin = origin
        self.app = app
        self.targets: dict[str, str] = {}
        self.background: set[threading.Thread] = set()
        self.start = Resources.now()
        small = make_clip(seconds=6.0)
        for stage in STAGES[:-1]:
            self.targets[stage] = stream_target(publish(origin, small, prefix=f"/{stage}/"))
        large = make_clip(seconds=LARGE_SECONDS, width=640, height=360, bitrate=LARGE_BITRATE)
        address = publish(origin, large, prefix="/full/", times=LARGE_TIMES)
        self.targets["full"] = stream_target(address)

    async def leave(self, address: str, stage: str) -> Left:
        """Ask for a stream, leave it at this stage, and wait until nothing of it is left."""
        origin = self.origin
        origin.requests.clear()
        connect = Conversation.narrow if stage == "full" else Conversation.open
        async with await connect(address) as conversation:
            await self._reach(conversation, stage)
            threads = set(_workers()) - self.background
            began_s = time.monotonic()
            conversation.leave()
        mine = [request for request in origin.requests if request.path.startswith(f"/{stage}/")]
        ends = [asyncio.to_thread(_end_of, thread) for thread in threads]
        closed = origin.until(lambda: all(each.ended for each in mine), timeout_s=GUARD_S)
        async with asyncio.timeout(GUARD_S):
            *ended_s, origin_s = await asyncio.gather(*ends, _end_of_waiting(closed))
        assert len(threads) == (0 if stage == "playlist" else 1)
        thread_s = max([*ended_s, began_s]) - began_s
        return Left(stage=stage, origin_s=origin_s - began_s, thread_s=thread_s)

    async def _reach(self, conversation: Conversation, stage: str) -> None:
        origin = self.origin
        origin.heal()
        held = {"playlist": "media.m3u8", "segment": "0.ts", "fragment": "0.ts"}.get(stage, "2.ts")
        path = f"/{stage}/{held}"
        before_headers = Stall(None)
        match stage:
            case "playlist" | "segment":
                origin.fault(path, before_headers)
            case "fragment" | "stall":
                origin.fault(path, Stall(5000))
            case "flowing":
                origin.fault(path, Trickle(drip_bytes=188, every_s=0.005))
        conversation.request(self.targets[stage])
        if stage in {"flowing", "stall", "full"}:
            await conversation.head()
            await conversation.read(1000)
        if stage == "full":
            sent = await origin.standstill(quiet_s=0.5)
            assert MIB / 4 < sent < LARGE_TIMES * LARGE_SECONDS * LARGE_BITRATE / 8
            return
        await origin.until(lambda: bool(origin.asked(path)))
        asked = origin.asked(path)[0]
        match stage:
            case "fragment" | "stall":
                await origin.until(lambda: asked.sent_bytes >= 5000)
            case "flowing":
                await origin.until(lambda: asked.sent_bytes >= 1000)

    async def settled(self) -> None:
        """Wait until tasks and files are as at the start: closing takes its rounds.

        Connections that both sides keep for the next stream do not count.
        """
        async with asyncio.timeout(GUARD_S):
            await self.app.idle()
            while self._more_than_at_the_start():  # noqa: ASYNC110 - files tell nobody
                await asyncio.sleep(0.01)

    def _more_than_at_the_start(self) -> bool:
        now = Resources.now()
        files = now.files - 2 * self.origin.open_connections
        return now.tasks > self.start.tasks or files > self.start.files


def _workers() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("remuxd-")]


def _end_of(thread: threading.Thread) -> float:
    thread.join(GUARD_S)
    return time.monotonic()


async def _end_of_waiting(waiting: Awaitable[None]) -> float:
    await waiting
    return time.monotonic()


@contextlib.asynccontextmanager
async def placed(serve: Serve) -> AsyncIterator[tuple[Place, str]]:
    settings = Settings(admission=admission.Settings(streams_per_client=100))
    patient: dict[str, Any] = {  # with an origin that says nothing, for as long as the soak lasts
        "read_timeout_s": 3600.0,
        "min_rate_grace_s": 3600.0,
        "segment_deadline_s": (3600.0, 3600.0),
    }
    async with Origin() as origin, real_app(settings, **patient) as app, serve(app) as address:
        yield Place(origin, app), address


@pytest.mark.parametrize("stage", STAGES)
async def test_client_leaves(serve: Serve, stage: str) -> None:
    """Whenever a client leaves, its stream goes with it, and nothing is left."""
    async with placed(serve) as (place, address):
        await place.leave(address, stage)
        before = Resources.now()
        for _ in range(3):
            await place.leave(address, stage)
        await place.settled()
        assert Resources.now().threads <= before.threads


@pytest.mark.parametrize("stage", STAGES)
async def test_client_leaves_behind_nginx(serve: Serve, stage: str, tmp_path: Path) -> None:
    """nginx in between tells us that its client has left, at every stage."""
    async with placed(serve) as (place, address), nginx(address, tmp_path) as front:
        await place.leave(front, stage)
        await place.leave(front, stage)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_thousand_clients_leave(serve: Serve) -> None:
    """A thousand of them, at random stages, beside four streams that go on: p99 is 500 ms."""
    order = random.Random(1).choices(STAGES, k=1000)
    async with placed(serve) as (place, address), contextlib.AsyncExitStack() as stack:
        url = publish(place.origin, make_clip(seconds=6.0), prefix="/background/")
        gate = place.origin.hold("/background/4.ts", after_bytes=1000)
        for _ in range(4):
            one = await stack.enter_async_context(await Conversation.open(address))
            one.request(stream_target(url))
            await one.head()
        await gate.reached()
        place.background = set(_workers())
        for stage in order[:300]:  # until the allocator holds what it will hold
            await place.leave(address, stage)
        before = Resources.now()
        left = [await place.leave(address, stage) for stage in order]
        after = Resources.now()
        assert set(_workers()) == place.background
        await stack.aclose()
        await place.settled()
    by_stage: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for each in left:
        by_stage[each.stage].append(max(each.origin_s, each.thread_s))
    report(
        "a client leaves",
        face=serve.__name__,
        origin_ms=in_ms([each.origin_s for each in left]),
        thread_ms=in_ms([each.thread_s for each in left]),
        by_stage_ms={stage: in_ms(each) for stage, each in by_stage.items()},
        threads=[before.threads, after.threads],
        resident_mib=[round(one.resident_bytes / MIB, 1) for one in (before, after)],
    )
    assert in_ms([max(each.origin_s, each.thread_s) for each in left])["p99"] < 1000 * GUARD_S
    assert after.threads <= before.threads
    assert after.resident_bytes - before.resident_bytes < 10 * MIB
