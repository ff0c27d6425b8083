"""How fast does a whole clip come through, one at a time and eight?

    python -m bench.throughput [--runs 7]

Nothing waits: the origin has no delay and no rate, the clients take what comes.  The time of eight
is that of the last of them.  One clip is over in a tenth of a second, in which what else the
machine does weighs much (54 to 130 ms for one contender in one run): it is asked for more often,
and those whom figures are promised about take turns among themselves.  The others, some of whom
take seconds, have theirs behind that: a server that stood still for so long begins with cold caches
(one clip took us 0.52 of the pipe's time with them in between, and 0.46 to 0.50 without).
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack

from bench import clip as clips
from bench.attempts import Attempts
from bench.client import whole
from bench.contenders import CONTENDERS, RAW, RAW_KEPT
from bench.options import Options, alone
from bench.processes import Origin, Serving, origin
from bench.results import Result

SHOWN = ("total_ms", "mb_per_s", "times_real_time")
STREAMS = (1, 1, 1, 8)  # of each turn
MB = 1e6


async def run(options: Options) -> Result:
    result = Result(question="throughput")
    attempts = Attempts(result)
    compared = [one for one in options.contenders if one in {*CONTENDERS, RAW_KEPT}]
    if RAW in compared and RAW_KEPT not in compared:
        compared.append(RAW_KEPT)
    others = [one for one in options.contenders if one not in compared]
    async with origin(options.folder, delay_ms=0, rate_mbit=0) as source:
        for contenders in (compared, others):
            async with AsyncExitStack() as stack:
                servers = await attempts.started(stack, contenders)
                await _turns(servers, attempts, source=source, options=options)
    return result


async def _turns(
    servers: list[Serving], attempts: Attempts, *, source: Origin, options: Options
) -> None:
    """Ask servers by turns, after each of them has had one clip to warm up with."""
    seconds = clips.load(options.folder).seconds
    lots = random.Random(0)
    for server in servers:
        with attempts.of(server.contender, {"streams": 1}):
            await asyncio.to_thread(whole, server, source.url(f"one/{clips.MEDIA}"))
    for turn in range(options.runs):
        for streams in STREAMS:
            lots.shuffle(servers)  # nobody always comes behind the same one
            for server in servers:
                if not attempts.able(server.contender):
                    continue
                if streams > 1 and server.contender.waits and turn and not options.full:
                    continue  # eight times at once converting: once is enough to see it
                case = {"streams": streams}
                with attempts.of(server.contender, case):
                    values = await _once(server, source.url(clips.MEDIA), streams, seconds)
                    attempts.result.add(server.contender.name, case, **values)


async def _once(server: Serving, url: str, streams: int, seconds: int) -> dict[str, float]:
    began_s = time.perf_counter()
    taken = await asyncio.gather(
        *(asyncio.to_thread(whole, server, url) for _ in range(streams)), return_exceptions=True
    )
    total_s = time.perf_counter() - began_s
    sizes = []
    for one in taken:
        if isinstance(one, BaseException):
            raise one
        sizes.append(one.size)
    return {
        "total_ms": total_s * 1000,
        "mb_per_s": sum(sizes) / MB / total_s,
        "times_real_time": seconds * streams / total_s,
    }


if __name__ == "__main__":
    alone(run, __doc__, SHOWN)
