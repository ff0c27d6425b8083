"""Many streams at the speed at which they are watched: what memory and CPU are asked about.

`collect` runs each contender at each number of streams and both paces, in turns:

origin   the origin gives each stream its rate, and the clients take what comes: nothing piles up
client   the origin gives all it can, and the clients take what they play: everything piles up

Each run has a contender of its own, fresh from the start.  One stream has ended before anything is
measured, so that what is loaded once is not charged to the streams.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import clip as clips
from bench import tree
from bench.client import whole
from bench.contenders import Contender, Origin, Serving, origin, serving
from bench.load import Load
from bench.results import median

__all__ = ["PACES", "Paced", "collect", "run_once"]

PACES = ("origin", "client")
BEGUN_S = 120.0
BEGUN_BYTES = 100_000  # every stream is under way then
IDLE_S = 1.0
AFTER_S = 2.0  # the bound on what is given back is for this
SAMPLES = 5  # of memory, within the window


@dataclass(frozen=True, slots=True, kw_only=True)
class Paced:
    """One run of one contender."""

    contender: str
    pace: str
    streams: int
    fresh_pss_bytes: int  # before its first stream
    idle_pss_bytes: int
    idle_rss_bytes: int
    pss_bytes: int  # of the tree, median within the window
    rss_bytes: int
    after_pss_bytes: int  # some time after the streams have ended
    start_cpu_s: float  # from the first request until the window
    start_bytes: int  # delivered until then
    cpu_s: float  # within the window
    delivered_bytes: int
    window_s: float
    late_s: float  # of the last client, at the end of the window


async def collect(
    folder: Path,
    contenders: Sequence[Contender],
    *,
    streams: Sequence[int],
    runs: int,
    paces: Sequence[str] = PACES,
    window_s: float = 4.0,
) -> list[Paced]:
    """Measure every contender that can be paced; they take turns."""
    able = [contender for contender in contenders if not contender.waits]
    found: list[Paced] = []
    for _ in range(runs):
        for pace in paces:
            for count in streams:
                for contender in able:
                    one = await run_once(folder, contender, count, pace=pace, window_s=window_s)
                    found.append(one)
    return found


async def run_once(
    folder: Path,
    contender: Contender,
    streams: int,
    *,
    pace: str,
    window_s: float,
    settle_s: float = 2.0,
) -> Paced:
    """Start a contender, give it so many streams, and look."""
    bytes_per_s = clips.load(folder).bytes_per_s
    rate_mbit = bytes_per_s * 8 / 1e6 if pace == "origin" else 0
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(origin(folder, delay_ms=0, rate_mbit=0))
        server = await stack.enter_async_context(serving(contender))
        fresh = tree.memory(server.pid)
        await asyncio.to_thread(whole, server, source.url(f"one/{clips.MEDIA}"))
        await asyncio.sleep(IDLE_S)
        idle = tree.memory(server.pid)
        if pace == "origin":
            source = await stack.enter_async_context(
                origin(folder, delay_ms=0, rate_mbit=rate_mbit)
            )
        start_cpu_s = tree.cpu_s(server.pid)
        client_rate = bytes_per_s if pace == "client" else 0.0
        load = Load(server, _sources(source, streams), bytes_per_s=client_rate)
        with load:
            await _until_begun(load)
            await asyncio.sleep(settle_s)
            before, cpu_before_s = load.totals(), tree.cpu_s(server.pid)
            seen = await _memories(server, window_s)
            after, cpu_after_s = load.totals(), tree.cpu_s(server.pid)
        await asyncio.sleep(AFTER_S)
        return Paced(
            contender=contender.name,
            pace=pace,
            streams=streams,
            fresh_pss_bytes=fresh.pss_bytes,
            idle_pss_bytes=idle.pss_bytes,
            idle_rss_bytes=idle.rss_bytes,
            pss_bytes=round(median([memory.pss_bytes for memory in seen])),
            rss_bytes=round(median([memory.rss_bytes for memory in seen])),
            after_pss_bytes=tree.memory(server.pid).pss_bytes,
            start_cpu_s=cpu_before_s - start_cpu_s,
            start_bytes=before.bytes,
            cpu_s=cpu_after_s - cpu_before_s,
            delivered_bytes=after.bytes - before.bytes,
            window_s=after.at_s - before.at_s,
            late_s=max(after.late_s, default=0.0),
        )


def _sources(source: Origin, streams: int) -> list[str]:
    return [source.url(f"s/{index}/{clips.MEDIA}") for index in range(streams)]


async def _until_begun(load: Load) -> None:
    until_s = time.monotonic() + BEGUN_S
    while not load.begun(BEGUN_BYTES):
        if time.monotonic() > until_s:
            raise TimeoutError("not every stream has begun")
        await asyncio.sleep(0.1)


async def _memories(server: Serving, window_s: float) -> list[tree.Memory]:
    seen = []
    for _ in range(SAMPLES):
        await asyncio.sleep(window_s / SAMPLES)
        seen.append(tree.memory(server.pid))
    return seen
