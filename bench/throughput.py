"""How fast does a whole clip come through, one at a time and eight?

    python -m bench.throughput [--runs 7]

Nothing waits: the origin has no delay and no rate, the clients take what comes.  The time of eight
is that of the last of them.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

from bench import clip as clips
from bench.client import whole
from bench.contenders import Serving, origin, serving
from bench.options import Options, alone
from bench.results import Result

SHOWN = ("total_ms", "mb_per_s", "times_real_time")
STREAMS = (1, 8)
MANY_RUNS = 3  # of eight at a time, unless the whole grid is asked for
MB = 1e6


async def run(options: Options) -> Result:
    result = Result(question="throughput")
    seconds = clips.load(options.folder).seconds
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(origin(options.folder, delay_ms=0, rate_mbit=0))
        servers = [await stack.enter_async_context(serving(c)) for c in options.contenders]
        for server in servers:
            await asyncio.to_thread(whole, server, source.url(f"one/{clips.MEDIA}"))
        for _ in range(options.runs):
            for streams in STREAMS:
                for server in servers:
                    if streams > 1 and not options.full and _enough(result, server, streams):
                        continue
                    began_s = time.perf_counter()
                    taken = await asyncio.gather(
                        *(
                            asyncio.to_thread(whole, server, source.url(clips.MEDIA))
                            for _ in range(streams)
                        )
                    )
                    total_s = time.perf_counter() - began_s
                    result.add(
                        server.contender.name,
                        {"streams": streams},
                        total_ms=total_s * 1000,
                        mb_per_s=sum(size for _, size in taken) / MB / total_s,
                        times_real_time=seconds * streams / total_s,
                    )
    return result


def _enough(result: Result, server: Serving, streams: int) -> bool:
    rows = result.find(server.contender.name, streams=streams)
    return server.contender.waits or any(len(row.values["total_ms"]) >= MANY_RUNS for row in rows)


if __name__ == "__main__":
    alone(run, __doc__, SHOWN)
