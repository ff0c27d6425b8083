"""How many milliseconds of CPU does a delivered megabyte cost?

    python -m bench.cpu [--streams 50] [--seconds 14] [--runs 3]

At many paced streams, and for one whole stream at full speed.  The whole work counts: all processes
from before the first request until everything has ended, those that have ended meanwhile too, user
and system time, per megabyte that came at the clients.  What the origin and the clients cost does
not, nor the start of the server.

A process that is started for a stream costs most at its start, so the length of the streams
matters.  What they cost once all are under way is therefore told apart, and what is left of the
whole is their start (and end): from these two follows what a stream of any length costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from bench import clip as clips
from bench import paced, tree
from bench.attempts import Attempts
from bench.client import whole
from bench.options import Options, alone
from bench.processes import origin
from bench.results import Case, Failure, Result

SHOWN = ("whole_cpu_ms_per_mb", "cpu_ms_per_mb", "start_cpu_ms", "cores", "late_s")
GRID = (1, 10, 50, 100)
MB = 1e6


async def run(options: Options) -> Result:
    found = await paced.collect(
        options.folder,
        options.contenders,
        streams=GRID if options.full else options.streams,
        runs=options.runs,
        seconds=options.seconds,
        window_s=options.window_s,
    )
    result = summarise(found.runs, found.failures)
    await full_speed(options, result)
    return result


def summarise(found: Sequence[paced.Paced], failures: Sequence[Failure] = ()) -> Result:
    """Answer from runs that have been made."""
    result = Result(question="cpu", failures=list(failures))
    for one in found:
        result.add(
            one.contender,
            paced.case(one),
            whole_cpu_ms_per_mb=one.whole_cpu_s * 1000 / (one.whole_bytes / MB),
            cores=one.cpu_s / one.window_s,
            delivered_mbit_per_s=one.delivered_bytes * 8 / one.window_s / MB,
            late_s=one.late_s,
        )
        if one.delivered_bytes:  # otherwise the window was shorter than a fragment
            per_byte_s = one.cpu_s / one.delivered_bytes
            start_s = max(one.whole_cpu_s - one.whole_bytes * per_byte_s, 0) / one.streams
            result.add(
                one.contender,
                paced.case(one),
                cpu_ms_per_mb=per_byte_s * 1000 * MB,
                start_cpu_ms=start_s * 1000,
            )
    return result


def at_length_ms_per_mb(start_cpu_ms: float, cpu_ms_per_mb: float, size_mb: float) -> float:
    """Return what a megabyte of a stream of a size costs, its start put to it."""
    return start_cpu_ms / size_mb + cpu_ms_per_mb


async def full_speed(options: Options, result: Result) -> None:
    """Add what one whole stream costs when nobody slows it down."""
    attempts = Attempts(result)
    case: Case = {"pace": "none", "streams": 1}
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(origin(options.folder, delay_ms=0, rate_mbit=0))
        servers = await attempts.started(stack, options.contenders)
        for server in servers:
            with attempts.of(server.contender, case):
                await asyncio.to_thread(whole, server, source.url(f"one/{clips.MEDIA}"))
        for _ in range(options.runs):
            for server in servers:
                if not attempts.able(server.contender):
                    continue
                with attempts.of(server.contender, case):
                    before_s = tree.cpu_s(server.pid)
                    taken = await asyncio.to_thread(whole, server, source.url(clips.MEDIA))
                    used_s = tree.cpu_s(server.pid) - before_s
                    result.add(
                        server.contender.name,
                        case,
                        whole_cpu_ms_per_mb=used_s * 1000 / (taken.size / MB),
                    )


if __name__ == "__main__":
    alone(run, __doc__, SHOWN)
