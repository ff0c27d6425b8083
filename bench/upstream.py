"""What does a stream cost the origin: how many requests, and how many bytes?

    python -m bench.upstream

One whole stream from a multivariant playlist, and one from a media playlist.  It takes one GET for
each segment, and none from a variant that is not played.  What came at the other side is looked at
too: whether it is all there, and MP4.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Mapping
from contextlib import AsyncExitStack

from bench import clip as clips
from bench.attempts import Attempts
from bench.client import whole
from bench.contenders import MEDIAFLOW, MEDIAFLOW_MP4, Contender
from bench.options import Options, alone
from bench.processes import Origin, origin
from bench.results import Result

SHOWN = ("gets_per_segment", "most_gets_of_one", "variants", "playlists", "bytes_ratio")
SETTLE_S = 0.2  # what was asked for too much may still be on its way


async def run(options: Options) -> Result:
    result = Result(question="upstream")
    attempts = Attempts(result)
    clip = clips.load(options.folder)
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(origin(options.folder, delay_ms=5, rate_mbit=0))
        servers = await attempts.started(stack, _contenders(options))
        for kind, path in (("master", clips.MASTER), ("media", clips.MEDIA)):
            for index, server in enumerate(servers):
                # Below a name of its own nothing is known from another question or contender.
                name = f"fast/{kind}-{index}/"
                with attempts.of(server.contender, {"source": kind}):
                    taken = await asyncio.to_thread(whole, server, source.url(name + path))
                    await asyncio.sleep(SETTLE_S)
                    counts = await asyncio.to_thread(_counts, source)
                    result.add(
                        server.contender.name,
                        {"source": kind},
                        **_values(counts, name, clip),
                        delivered_ratio=taken.size / clip.best_bytes,
                        mp4=int(taken.mp4),
                    )
    return result


def _contenders(options: Options) -> list[Contender]:
    more = [MEDIAFLOW_MP4] if MEDIAFLOW in options.contenders else []
    return [*options.contenders, *more]


def _values(
    all_counts: Mapping[str, Mapping[str, int]], name: str, clip: clips.Clip
) -> dict[str, float]:
    counts = {
        path.removeprefix(name): count
        for path, count in all_counts.items()
        if path.startswith(name)
    }
    segments = {path: count for path, count in counts.items() if path.endswith(".ts")}
    gets = [count["requests"] for count in segments.values()]
    return {
        "gets": sum(gets),
        "gets_per_segment": sum(gets) / len(clip.segments()),
        "most_gets_of_one": max(gets, default=0),
        "variants": len({path.partition("/")[0] for path in counts if "/" in path}),
        "playlists": sum(c["requests"] for path, c in counts.items() if path.endswith(".m3u8")),
        "bytes_ratio": sum(count["bytes"] for count in segments.values()) / clip.best_bytes,
    }


def _counts(source: Origin) -> dict[str, dict[str, int]]:
    with urllib.request.urlopen(source.url("counts")) as response:
        counts: dict[str, dict[str, int]] = json.load(response)
    return counts


if __name__ == "__main__":
    alone(run, __doc__, SHOWN)
