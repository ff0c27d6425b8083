"""What does a stream cost the origin: how many requests, and how many bytes?

    python -m bench.upstream

One whole stream from a multivariant playlist, and one from a media playlist.  It takes one GET for
each segment, and none from a variant that is not played.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from contextlib import AsyncExitStack

from bench import clip as clips
from bench.client import whole
from bench.contenders import Origin, Serving, origin, serving
from bench.options import Options, alone
from bench.results import Result

SHOWN = ("gets_per_segment", "most_gets_of_one", "variants", "playlists", "bytes_ratio")


async def run(options: Options) -> Result:
    result = Result(question="upstream")
    clip = clips.load(options.folder)
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(origin(options.folder, delay_ms=5, rate_mbit=0))
        servers = [await stack.enter_async_context(serving(c)) for c in options.contenders]
        for kind, path in (("master", clips.MASTER), ("media", clips.MEDIA)):
            for server in servers:
                values = await asyncio.to_thread(_one, server, source, path, clip)
                result.add(server.contender.name, {"source": kind}, **values)
    return result


def _one(server: Serving, source: Origin, path: str, clip: clips.Clip) -> dict[str, float]:
    _counts(source)
    _, delivered = whole(server, source.url(path))
    counts = _counts(source)
    segments = {path: count for path, count in counts.items() if path.endswith(".ts")}
    gets = sum(count["requests"] for count in segments.values())
    return {
        "gets_per_segment": gets / len(clip.segments()),
        "most_gets_of_one": max(count["requests"] for count in segments.values()),
        "variants": len({path.partition("/")[0] for path in counts if "/" in path}),
        "playlists": sum(c["requests"] for path, c in counts.items() if path.endswith(".m3u8")),
        "bytes_ratio": sum(count["bytes"] for count in segments.values()) / clip.best_bytes,
        "delivered_ratio": delivered / clip.best_bytes,
    }


def _counts(source: Origin) -> dict[str, dict[str, int]]:
    with urllib.request.urlopen(source.url("counts")) as response:
        counts: dict[str, dict[str, int]] = json.load(response)
    return counts


if __name__ == "__main__":
    alone(run, __doc__, SHOWN)
