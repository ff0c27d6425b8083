"""The origin of the measurements: a process of its own that serves the demo clip over loopback.

    python -m bench.origin --delay-ms 20 --rate-mbit 50

prints one line of JSON with its port, and ends with its standard input.  Every answer waits for the
delay (a round trip), every connection has the rate.  `/counts` tells the requests per path.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter

from aiohttp import web

from proxy.demo import clip

CHUNK_BYTES = 16 * 1024


class Origin:
    """Serves files from memory, slowly."""

    def __init__(self, files: dict[str, bytes], *, delay_s: float, rate_bytes_per_s: float) -> None:
        self._files = files
        self._delay_s = delay_s
        self._rate = rate_bytes_per_s
        self._counts: Counter[str] = Counter()

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path.lstrip("/")
        if path == "counts":
            counts, self._counts = self._counts, Counter()
            return web.json_response(counts)
        body = self._files.get(path)
        if body is None:
            return web.Response(status=404)
        self._counts[path] += 1
        await asyncio.sleep(self._delay_s)
        kind = "application/vnd.apple.mpegurl" if path.endswith("m3u8") else "video/mp2t"
        response = web.StreamResponse(headers={"Content-Type": kind})
        response.content_length = len(body)
        await response.prepare(request)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for start in range(0, len(body), CHUNK_BYTES):
            await response.write(body[start : start + CHUNK_BYTES])
            if self._rate:
                due_s = began_s + min(start + CHUNK_BYTES, len(body)) / self._rate
                await asyncio.sleep(max(due_s - loop.time(), 0))
        return response


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay-ms", type=float, default=20)
    parser.add_argument("--rate-mbit", type=float, default=50, help="per connection; 0: unlimited")
    parser.add_argument("--seconds", type=int, default=30)
    options = parser.parse_args()
    made = clip.make(options.seconds)
    origin = Origin(
        dict(made.files),
        delay_s=options.delay_ms / 1000,
        rate_bytes_per_s=options.rate_mbit * 1e6 / 8,
    )
    runner = web.ServerRunner(web.Server(origin.serve))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
