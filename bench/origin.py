"""The origin of the measurements: a process of its own that serves a clip over loopback.

    python -m bench.origin --clip FOLDER --delay-ms 20 --rate-mbit 50

prints one line of JSON with its port, and ends with its standard input.  It answers on all of
127.0.0.0/8, so that a host of its own for each run makes cold connections.

* Every answer waits for the delay (a round trip), the first one of a connection twice (TCP's own).
* Every connection has the rate; below `/s/NAME/` all connections together have it, what is played
  first before what is played later, so that the origin sets the pace of a stream, however many
  requests it is fetched with.
* Below `/live/NAME/` the media playlists are live: a window of six segments, which begins to move
  when NAME is first asked for.
* Below `/fast/NAME/` nothing has a rate.
* Below `/one/` nothing has one either, and the media playlists hold one segment: a stream that is
  soon over.
* Below `/head/` a segment ends behind its first picture and its first audio frame.
* `/counts` tells the GETs and the bytes per path since it was last asked.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from weakref import WeakSet

from aiohttp import web

from bench import clip
from bench.live import live_playlist, one_segment
from bench.service import run, serve_until_told

CHUNK_BYTES = 16 * 1024
LATE_S = 0.01  # a timer that fires late by less than this is made up for, or the rate is not kept
UNPACED = ("one/", "fast/")
TYPES = {".m3u8": "application/vnd.apple.mpegurl", ".ts": "video/mp2t"}


class Pace:
    """Gives out the time at which so many bytes more may have been sent.

    Where several answers share it, the one whose path is first has it all: a client that asks ahead
    gets what it plays next as soon as one that does not.
    """

    def __init__(self, bytes_per_s: float) -> None:
        self.rate = bytes_per_s  # 0: unlimited
        self._free_s = 0.0  # the clock's time when all that was promised is sent
        self._sending: list[str] = []  # in order
        self._left = asyncio.Event()

    @contextlib.contextmanager
    def sending(self, path: str) -> Iterator[None]:
        bisect.insort(self._sending, path)
        try:
            yield
        finally:
            self._sending.remove(path)
            self._left.set()

    async def wait(self, path: str, size: int) -> None:
        if not self.rate:
            return
        while self._sending[0] != path:
            self._left.clear()
            await self._left.wait()
        now_s = time.monotonic()
        self._free_s = max(self._free_s, now_s - LATE_S) + size / self.rate
        await asyncio.sleep(self._free_s - now_s)


class Origin:
    """Serves files from memory, slowly."""

    def __init__(self, files: dict[str, bytes], *, delay_s: float, bytes_per_s: float) -> None:
        self._files = files
        self._delay_s = delay_s
        self._rate = bytes_per_s
        self._counts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        self._known: WeakSet[asyncio.Transport] = WeakSet()
        self._paces: dict[str, Pace] = {}
        self._live: dict[str, float] = {}  # when each was first asked for

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path.lstrip("/")
        if path == "counts":
            counts = {k: {"requests": v[0], "bytes": v[1]} for k, v in self._counts.items()}
            self._counts.clear()
            return web.json_response(counts)
        pace, body = self._pace(path), self._body(path)
        if body is None:
            return web.Response(status=404)
        count = self._counts[path] if request.method == "GET" else [0, 0]
        count[0] += 1
        await asyncio.sleep(self._delay(request))
        response = web.StreamResponse(headers={"Content-Type": TYPES[Path(path).suffix]})
        response.content_length = len(body)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        step = CHUNK_BYTES if pace.rate else len(body)
        with pace.sending(path):
            for start in range(0, len(body), step):
                part = body[start : start + step]
                await pace.wait(path, len(part))
                await response.write(part)
                count[1] += len(part)
        return response

    def _delay(self, request: web.BaseRequest) -> float:
        transport = request.transport
        if transport is None or transport in self._known:
            return self._delay_s
        self._known.add(transport)
        return 2 * self._delay_s

    def _pace(self, path: str) -> Pace:
        if path.startswith("s/"):
            return self._paces.setdefault(path.split("/")[1], Pace(self._rate))
        return Pace(0 if path.startswith(UNPACED) else self._rate)

    def _body(self, path: str) -> bytes | None:
        first, _, rest = path.partition("/")
        if first == "one":
            whole = self._files.get(rest)
            return one_segment(whole) if whole and rest.endswith("/index.m3u8") else whole
        if first == "head":
            segment = self._files.get(rest)
            return segment and segment[: clip.first_bytes(segment)]
        if first not in {"s", "fast", "live"}:
            return self._files.get(path)
        name, _, rest = rest.partition("/")
        body = self._files.get(rest)
        if first == "live" and body is not None and rest.endswith("/index.m3u8"):
            began_s = self._live.setdefault(name, time.monotonic())
            return live_playlist(body, time.monotonic() - began_s)
        return body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--delay-ms", type=float, default=20)
    parser.add_argument("--rate-mbit", type=float, default=50, help="per connection; 0: unlimited")
    options = parser.parse_args()
    origin = Origin(
        clip.load(options.clip).files,
        delay_s=options.delay_ms / 1000,
        bytes_per_s=options.rate_mbit * 1e6 / 8,
    )

    async def serve() -> None:
        server = web.Server(origin.serve, access_log=None)
        await serve_until_told(web.ServerRunner(server), "0.0.0.0")

    run(serve())


if __name__ == "__main__":
    main()
