"""A pipeline that plays a script: for everything about requests that needs no media.

pipeline = ScriptedPipeline(parts=(b"init", b"one"), breaks=SourceTimeout("..."))
app = App(pipeline)
...
await pipeline.streams[0].closed.wait()
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from proxy.errors import ProxyError, StreamAborted
from proxy.events import Event, Planned, Trail
from proxy.pipeline import StreamRequest

PARTS = (b"ftypmoov" * 10, b"moofmdat" * 100, b"moofmdat" * 50)


@dataclass(kw_only=True)
class ScriptedPipeline:
    """What each opened stream does, in the order in which it does it."""

    opening: asyncio.Event | None = None  # waited for before a stream opens
    refuses: BaseException | None = None  # raised instead of opening
    parts: tuple[bytes, ...] = PARTS
    endless: bool = False  # the last part again and again
    stall: asyncio.Event | None = None  # waited for behind the parts
    breaks: Exception | None = None  # what ends the stream; a ProxyError comes as StreamAborted
    asked: asyncio.Event = field(default_factory=asyncio.Event)  # something was
    requests: list[StreamRequest] = field(default_factory=list)
    streams: list["ScriptedStream"] = field(default_factory=list)
    happens: tuple[Event, ...] = (Planned(live=False, elapsed_s=0.25),)  # noted while opening
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)  # while one was being opened

    async def open_stream(self, request: StreamRequest, trail: Trail, /) -> "ScriptedStream":
        await self._begin(request, trail)
        self.streams.append(ScriptedStream(self, trail))
        return self.streams[-1]

    async def inspect(self, request: StreamRequest, trail: Trail, /) -> Mapping[str, Any]:
        await self._begin(request, trail)
        return {"kind": "multivariant", "live": False, "name": "Füße"}

    async def _begin(self, request: StreamRequest, trail: Trail) -> None:
        self.requests.append(request)
        for event in self.happens:
            trail.note(event)
        self.asked.set()
        try:
            if self.opening is not None:
                await self.opening.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if self.refuses is not None:
            raise self.refuses


class ScriptedStream:
    """Plays the script of its pipeline; `closed` is set by the first `aclose`."""

    codecs = "avc1.64001f,mp4a.40.2"
    duration_s = 30.0
    start_s = 8.0
    tally: Mapping[str, int] = {"other_streams": 12}
    timings = (("plan", 0.0125), ("fetch", 0.25))

    media_s = 1.5
    held_bytes = 1000
    ring_bytes = 300
    ring_capacity_bytes = 1000
    share_bytes = 4000

    def __init__(self, script: ScriptedPipeline, trail: Trail) -> None:
        self.id = trail.id
        self.trail = trail
        self.taken = 0  # parts
        self.closed = asyncio.Event()
        self._script = script
        self._parts = self._play()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._parts

    async def _play(self) -> AsyncIterator[bytes]:
        script = self._script
        for part in script.parts:
            self.taken += 1
            yield part
        while script.endless:
            self.taken += 1
            yield script.parts[-1]
        if script.stall is not None:
            await script.stall.wait()
        if isinstance(script.breaks, ProxyError):
            raise StreamAborted(script.breaks)
        if script.breaks is not None:
            raise script.breaks

    async def aclose(self) -> None:
        self.closed.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
