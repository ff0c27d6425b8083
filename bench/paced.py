"""Many streams at the speed at which they are watched: what memory and CPU are asked about.

`collect` runs each contender at each number of streams and both paces, in turns:

origin   the origin gives each stream its rate, and the clients take what comes: nothing piles up
client   the origin gives all it can, and the clients take what they play: everything piles up

Each run has a contender of its own, fresh from the start.  One stream has ended before anything is
measured, so that what is loaded once is not charged to the streams.  Then:

  0                   the first request; the clients come within the length of a GOP
  seconds - window    memory is sampled from here on, and CPU over this window is told apart
  seconds             all clients leave, and everything that was started for them is ended
  + 2 s               memory given back; CPU from 0 to here is the whole work
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import clip as clips
from bench import tree
from bench.attempts import Attempts
from bench.client import whole
from bench.contenders import Contender
from bench.load import Load
from bench.processes import Origin, Serving, origin, serving
from bench.results import Failure, Result, median

__all__ = ["PACES", "Collected", "Paced", "case", "collect", "pacing_origin", "run_once", "sources"]

PACES = ("origin", "client")
BEGUN_S = 60.0
BEGUN_BYTES = 100_000  # every stream is under way then
SETTLE_S = 1.0  # at least, from when the last one has begun until the window
IDLE_S = 1.0
AFTER_S = 2.0  # the bound on what is given back is for this
SAMPLES = 5  # of memory, within the window


@dataclass(frozen=True, slots=True, kw_only=True)
class Paced:
    """One run of one contender."""

    contender: str
    pace: str
    streams: int
    seconds: float  # as planned, from the first request until all leave
    fresh_pss_bytes: int  # before its first stream
    idle_pss_bytes: int
    idle_rss_bytes: int
    pss_bytes: int  # of the tree, median within the window
    rss_bytes: int
    after_pss_bytes: int  # some time after the streams have ended
    whole_cpu_s: float  # from before the first request until all has ended
    whole_bytes: int  # delivered in all
    cpu_s: float  # within the window
    delivered_bytes: int
    window_s: float
    late_s: float  # of the last client, at the end of the window


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    runs: list[Paced]
    failures: list[Failure]


def case(one: Paced) -> dict[str, str | float | int]:
    """Return what a run stands for in a result."""
    return {"pace": one.pace, "streams": one.streams, "seconds": one.seconds}


async def collect(
    folder: Path,
    contenders: Sequence[Contender],
    *,
    streams: Sequence[int],
    runs: int,
    seconds: float,
    window_s: float,
    paces: Sequence[str] = PACES,
) -> Collected:
    """Measure every contender that can be asked for many streams; they take turns, each time in
    another order."""
    attempts = Attempts(Result(question="paced"))
    able = [contender for contender in contenders if contender.streams]
    found: list[Paced] = []
    lots = random.Random(0)
    async with pacing_origin(folder) as source:
        for _ in range(runs):
            for pace in paces:
                for count in streams:
                    lots.shuffle(able)
                    for contender in filter(attempts.able, able):
                        with attempts.of(contender, {"pace": pace, "streams": count}):
                            one = await run_once(
                                folder, contender, count,
                                source=source, pace=pace, seconds=seconds, window_s=window_s,
                            )  # fmt: skip
                            found.append(one)
    return Collected(runs=found, failures=attempts.result.failures)


def pacing_origin(folder: Path) -> AbstractAsyncContextManager[Origin]:
    """Run the origin that streams are measured with; it serves all runs, and so is no part of any.

    (Were it started within a run, the pages that it shares with a contender would make that one
    look smaller from then on.)
    """
    return origin(folder, delay_ms=0, rate_mbit=clips.load(folder).bytes_per_s * 8 / 1e6)


async def run_once(
    folder: Path,
    contender: Contender,
    streams: int,
    *,
    source: Origin,
    pace: str,
    seconds: float,
    window_s: float,
) -> Paced:
    """Start a contender, give it so many streams, and look.

    Where streams begin so late that there would be no time to look, they get some more.

    Raises:
        OSError: a stream was refused, or ended; or not all of them have begun (TimeoutError).
        RuntimeError: the contender did not start, or a stream broke.
    """
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(contender))
        fresh = tree.memory(server.pid)
        await asyncio.to_thread(whole, server, source.url(f"one/{clips.MEDIA}"))
        await asyncio.sleep(IDLE_S)
        idle, idle_cpu_s = tree.memory(server.pid), tree.cpu_s(server.pid)
        client_rate = clips.load(folder).bytes_per_s if pace == "client" else 0.0
        load = Load(server, sources(source, streams, pace), bytes_per_s=client_rate)
        with load:
            window_at_s = time.monotonic() + seconds - window_s
            await _until_begun(load)
            await asyncio.sleep(max(window_at_s - time.monotonic(), SETTLE_S))
            before, cpu_before_s = load.totals(), tree.cpu_s(server.pid)
            seen = await _memories(server, window_s)
            after, cpu_after_s = load.totals(), tree.cpu_s(server.pid)
        whole_bytes = load.totals().bytes
        await asyncio.sleep(AFTER_S)
        return Paced(
            contender=contender.name,
            pace=pace,
            streams=streams,
            seconds=seconds,
            fresh_pss_bytes=fresh.pss_bytes,
            idle_pss_bytes=idle.pss_bytes,
            idle_rss_bytes=idle.rss_bytes,
            pss_bytes=round(median([memory.pss_bytes for memory in seen])),
            rss_bytes=round(median([memory.rss_bytes for memory in seen])),
            after_pss_bytes=tree.memory(server.pid).pss_bytes,
            whole_cpu_s=tree.cpu_s(server.pid) - idle_cpu_s,
            whole_bytes=whole_bytes,
            cpu_s=cpu_after_s - cpu_before_s,
            delivered_bytes=after.bytes - before.bytes,
            window_s=after.at_s - before.at_s,
            late_s=max(after.late_s, default=0.0),
        )


def sources(source: Origin, streams: int, pace: str) -> list[str]:
    """Return the addresses of so many streams at a pace."""
    # A name of its own for each: they share nothing at the origin.
    where = "s" if pace == "origin" else "fast"
    run = next(_RUNS)
    names = [f"{run}-{index}" for index in range(streams)]
    return [source.url(f"{where}/{name}/{clips.MEDIA}") for name in names]


_RUNS = itertools.count()


async def _until_begun(load: Load) -> None:
    until_s = time.monotonic() + BEGUN_S
    while not load.begun(BEGUN_BYTES):
        if time.monotonic() > until_s:
            raise TimeoutError(f"not every stream has begun after {BEGUN_S:g} s")
        await asyncio.sleep(0.1)


async def _memories(server: Serving, window_s: float) -> list[tree.Memory]:
    seen = []
    for _ in range(SAMPLES):
        await asyncio.sleep(window_s / SAMPLES)
        seen.append(tree.memory(server.pid))
    return seen
