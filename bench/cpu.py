"""How many milliseconds of CPU does a delivered megabyte cost?

    python -m bench.cpu [--streams 50] [--runs 3]

At many paced streams, and for one stream at full speed.  Paced, it is measured over some seconds
once all streams are under way; what a stream costs at its start (a process, probing) is told apart
from that, and put to it for a clip that is watched to its end.  All processes count, those that
have ended too, user and system time; what the origin and the clients cost does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from bench import clip as clips
from bench import paced, tree
from bench.client import whole
from bench.contenders import origin, serving
from bench.options import Options, alone
from bench.results import Result

SHOWN = ("whole_cpu_ms_per_mb", "cpu_ms_per_mb", "start_cpu_ms", "cores", "late_s")
GRID = (1, 10, 50, 100)
MB = 1e6


async def run(options: Options) -> Result:
    found = await paced.collect(
        options.folder,
        options.contenders,
        streams=GRID if options.full else options.streams,
        runs=options.runs,
        window_s=options.window_s,
    )
    result = summarise(found, clips.load(options.folder))
    await full_speed(options, result)
    return result


def summarise(found: Sequence[paced.Paced], clip: clips.Clip) -> Result:
    """Answer from runs that have been made."""
    result = Result(question="cpu")
    for one in found:
        if not one.delivered_bytes:
            continue  # a window shorter than a fragment, at a stream or two
        per_byte_s = one.cpu_s / one.delivered_bytes
        # What is left of the CPU until then, when delivering is paid for.
        start_s = max(one.start_cpu_s - one.start_bytes * per_byte_s, 0) / one.streams
        result.add(
            one.contender,
            {"pace": one.pace, "streams": one.streams},
            cpu_ms_per_mb=per_byte_s * 1000 * MB,
            start_cpu_ms=start_s * 1000,
            whole_cpu_ms_per_mb=(per_byte_s + start_s / clip.best_bytes) * 1000 * MB,
            cores=one.cpu_s / one.window_s,
            delivered_mbit_per_s=one.delivered_bytes * 8 / one.window_s / MB,
            late_s=one.late_s,
        )
    return result


async def full_speed(options: Options, result: Result) -> None:
    """Add what one whole stream costs when nobody slows it down."""
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(origin(options.folder, delay_ms=0, rate_mbit=0))
        servers = [await stack.enter_async_context(serving(c)) for c in options.contenders]
        for server in servers:
            await asyncio.to_thread(whole, server, source.url(f"one/{clips.MEDIA}"))
        for _ in range(options.runs):
            for server in servers:
                before_s = tree.cpu_s(server.pid)
                _, size = await asyncio.to_thread(whole, server, source.url(clips.MEDIA))
                used_s = tree.cpu_s(server.pid) - before_s
                result.add(
                    server.contender.name,
                    {"pace": "none", "streams": 1},
                    whole_cpu_ms_per_mb=used_s * 1000 / (size / MB),
                )


if __name__ == "__main__":
    alone(run, __doc__, SHOWN)
