"""Where does the CPU of remuxd go: what does each step cost, alone and among others?

    python -m bench.steps [--runs 7]

Alone: the clip goes out of memory through the demuxer and the whole remux, in one thread that
nobody disturbs: as the plain transport stream that it is, and as one that libavformat has to take
apart, packet by packet.  In the server: what its event loop and what its workers take, for one
stream at full speed and for many that are paced, where each batch of bytes finds the caches cold
and two threads share one interpreter.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from bench import clip as clips
from bench import paced, tree
from bench.client import whole
from bench.contenders import REMUXD
from bench.load import Load
from bench.options import Options, alone
from bench.processes import Serving, serving
from bench.results import Result
from proxy.fetch.connection import READ_BYTES
from proxy.media.plain import open_section
from proxy.media.remux import remux
from proxy.media.section import Section

SHOWN = ("cpu_ms_per_mb",)
MB = 1e6
CHUNK_BYTES = READ_BYTES
SECONDS = 12.0
STREAMS = 50


class _Memory:
    """An input of one section that is there already."""

    broken_off = False

    def __init__(self, chunks: list[bytes], *, plain: bool) -> None:
        # What says nothing at its beginning of its streams is left to libavformat.
        self._section: Section | None = Section(explicit=plain)
        self._pieces = self._cut(chunks)
        next(self._pieces)

    def next_section(self) -> Section | None:
        section, self._section = self._section, None
        return section

    def read(self, n: int, /) -> bytes:
        return self._pieces.send(n)

    @staticmethod
    def _cut(chunks: list[bytes]) -> Generator[bytes, int, None]:
        n = yield b""
        for chunk in chunks:
            place = 0
            while place < len(chunk):
                piece = chunk[place : place + n]
                place += len(piece)
                n = yield piece
        while True:
            yield b""


def _demux(source: _Memory) -> None:
    section = source.next_section()
    assert section is not None
    with open_section(source, section, video=True, audio=True, language=None) as demuxer:
        for _ in demuxer.packets():
            pass


def _remux(source: _Memory) -> None:
    remux([source], lambda _part: None)


ALONE: dict[str, tuple[Callable[[_Memory], None], bool]] = {  # and whether it is plain to them
    "demux, by libavformat": (_demux, False),
    "remux, by libavformat": (_remux, False),
    "demux": (_demux, True),
    "remux": (_remux, True),
}


async def run(options: Options) -> Result:
    result = Result(question="steps")
    clip = clips.load(options.folder)
    data = b"".join(clip.files[path] for path in clip.segments())
    chunks = [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]
    for _ in range(options.runs):
        for name, (step, plain) in ALONE.items():
            began_s = time.thread_time()
            step(_Memory(chunks, plain=plain))
            used_s = time.thread_time() - began_s
            result.add(name, {"how": "alone"}, cpu_ms_per_mb=used_s * 1000 / (len(data) / MB))
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(paced.pacing_origin(options.folder))
        server = await stack.enter_async_context(serving(REMUXD))
        fast = source.url(f"fast/steps/{clips.MEDIA}")
        await asyncio.to_thread(whole, server, fast)
        for _ in range(options.runs):
            with _Threads(server, result, "1 stream, full speed") as threads:
                threads.delivered_bytes = (await asyncio.to_thread(whole, server, fast)).size
        for pace in paced.PACES:
            await _many(options.folder, server, paced.sources(source, STREAMS, pace), pace, result)
    return result


async def _many(folder: Path, server: Serving, urls: list[str], pace: str, result: Result) -> None:
    rate = clips.load(folder).bytes_per_s if pace == "client" else 0.0
    with Load(server, urls, bytes_per_s=rate) as load:
        await asyncio.sleep(SECONDS / 2)
        before = load.totals().bytes
        with _Threads(server, result, f"{len(urls)} streams, {pace}-paced") as threads:
            await asyncio.sleep(SECONDS)
            threads.delivered_bytes = load.totals().bytes - before


class _Threads:
    """Adds what the event loop and the workers of a server used meanwhile."""

    def __init__(self, server: Serving, result: Result, how: str) -> None:
        self._server = server
        self._result = result
        self._how = how
        self.delivered_bytes = 0

    def __enter__(self) -> Self:
        self._before = self._used_s()
        return self

    def __exit__(self, *_: object) -> None:
        for name, before_s, after_s in zip(
            ("event loop", "workers"), self._before, self._used_s(), strict=True
        ):
            used_ms = (after_s - before_s) * 1000
            case = {"how": self._how}
            self._result.add(name, case, cpu_ms_per_mb=used_ms / (self.delivered_bytes / MB))

    def _used_s(self) -> tuple[float, float]:
        """Return the CPU of the main thread, and of all others, also of those that have ended."""
        pid = self._server.pid
        file = Path(f"/proc/{pid}/task/{pid}/schedstat")  # proc(5): nanoseconds on a CPU first
        loop_s = int(file.read_text().split()[0]) / 1e9
        return loop_s, tree.cpu_s(pid) - loop_s


if __name__ == "__main__":
    alone(run, __doc__, SHOWN)
