"""From an address to a stream: joins hls, fetch and media; knows no server.

    async with await pipeline.open_stream(StreamRequest(url=...)) as stream:
        async for part in stream:
            ...

`open_stream` returns when the init segment and the first fragment are in hand.  Until then every
failure is a `ProxyError`, and nothing has been promised; afterwards it is a `StreamAborted`.

Everything runs on the event loop but the remux, which runs on a thread of its own for each stream
(the default executor also resolves names, and slow streams would starve it; a pool would keep
threads and their memory after the streams are gone).  A stream owns one fetch task and one worker;
`MediaStream.aclose` ends both, however far they are.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from proxy.errors import (
    CorruptMedia,
    NoPlayableVariant,
    NotSupportedYet,
    Overloaded,
    ProxyError,
    RemuxFailed,
    StreamAborted,
)
from proxy.fetch.client import Fetcher
from proxy.fetch.prefetch import Prefetcher
from proxy.hls.model import Segment
from proxy.hls.select import Quality
from proxy.inspection import describe
from proxy.media.fragment import InitSegment
from proxy.media.outlet import Outlet
from proxy.media.remux import Counts, Wish, remux
from proxy.media.ring import BridgeClosed, RingBuffer
from proxy.media.section import Section
from proxy.media.sniff import is_hopeless, sniff
from proxy.media.turn import TurnGate
from proxy.plan import Plan, StreamRequest, check, make_plan

__all__ = ["MediaStream", "Pipeline", "Quality", "Settings", "StreamRequest"]

logger = logging.getLogger(__name__)

KIB = 1024
MIB = 1024 * KIB

# What one stream may hold at most, however much of the budget is free (streamlink's ring is as
# large): enough for two segments of 8 Mbit/s x 6 s in flight.
_LARGEST_SHARE_BYTES = 16 * MIB

# Less than this, and ring and outlet could not hold one read and one short fragment each.
_SMALLEST_SHARE_BYTES = 256 * KIB

# A socket's read buffer comes in pieces of this size; less room would make every one of them wait.
_SMALLEST_RING_BYTES = 64 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    playlist_bytes: int = 8 * MIB  # 4 h of 2 s segments with signed addresses are 4.3 MB
    streams: int = 200  # worker threads at a time
    budget_bytes: int = 64 * MIB  # of media in buffers, shared by all streams


class MediaStream:
    """One running stream: an async iterator of whole parts, and a context manager.

    Iterating yields the init segment and then fragments, as bytes, and raises `StreamAborted` where
    the stream breaks.  Whoever was given it must `aclose` it.
    """

    def __init__(self, *, gate: TurnGate, on_close: Callable[[MediaStream], None]) -> None:
        self.id = secrets.token_hex(
            16
        )  # 128 random bits: whoever holds it may ask about the stream
        self.codecs = ""  # RFC 6381, of the tracks in the output
        self.duration_s: float | None = None
        self.timings: tuple[tuple[str, float], ...] = ()  # what came before, for Server-Timing
        self.counts = Counts()
        self._ring = RingBuffer(_SMALLEST_RING_BYTES, gate)
        self._outlet = Outlet(_SMALLEST_RING_BYTES, gate)
        self._gate = gate
        self._allowance_bytes = 0
        self._first: list[bytes] = []
        self._fetching: asyncio.Task[None] | None = None
        self._working: asyncio.Future[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._on_close = on_close

    def __repr__(self) -> str:
        return f"<MediaStream {self.id} {self._ring!r} {self._outlet!r}>"

    # -- opening -----------------------------------------------------------------------------------

    async def _open(self, plan: Plan, request: StreamRequest, fetcher: Fetcher) -> None:
        """Start fetching and remuxing, and wait for the first fragment."""
        media = plan.media
        self.duration_s = media.duration_s
        prefetcher = Prefetcher(fetcher, allowance=lambda: self._allowance_bytes)
        wish = Wish(video=not plan.audio_only, language=request.audio, duration_s=self.duration_s)
        began_s = time.monotonic()
        self._working = _in_thread(f"remuxd-{self.id[:8]}", lambda: self._work(wish))
        self._fetching = asyncio.create_task(self._fetch(prefetcher, media.segments))
        async for part in self._outlet:
            self._first.append(part.data)
            if not isinstance(part, InitSegment):
                break
            self.codecs = part.codecs
        if len(self._first) < 2:
            raise CorruptMedia("the source ended before its first fragment")
        self._ring.relax()
        prefetcher.widen()
        self.timings = (*plan.seconds, ("fragment", time.monotonic() - began_s))

    async def _fetch(self, prefetcher: Prefetcher, segments: Iterable[Segment]) -> None:
        """Bring the segments into the ring, in order."""
        try:
            await prefetcher.deliver(_each(segments), _RingSink(self._ring))
        except BridgeClosed:
            return  # the worker has ended, and the outlet says why
        except ProxyError as error:
            self._ring.fail(error)
        except Exception as error:
            logger.exception("fetching failed in a way nobody foresaw")
            self._ring.fail(RemuxFailed(repr(error)))
        else:
            self._ring.finish()

    def _work(self, wish: Wish) -> None:
        """Remux from the ring into the outlet: the worker thread."""
        with self._gate:
            try:
                remux([self._ring], self._outlet.put, wish, self.counts)
            except BridgeClosed:
                pass
            except Exception as error:  # noqa: BLE001 - travels through the outlet
                self._outlet.fail(error)
            else:
                self._outlet.finish()
            finally:
                self._ring.close()

    def share(self, share_bytes: int) -> None:
        """Hold at most so many bytes: a quarter in the ring, a quarter in the outlet, the rest in
        segments that were fetched ahead."""
        quarter = share_bytes // 4
        self._ring.capacity_bytes = max(quarter, _SMALLEST_RING_BYTES)
        self._outlet.capacity_bytes = quarter
        self._allowance_bytes = share_bytes - 2 * quarter

    # -- streaming ---------------------------------------------------------------------------------

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._first:
            yield self._first.pop(0)
        try:
            async for part in self._outlet:
                yield part.data
        except ProxyError as error:
            raise StreamAborted(error) from error
        if self._closing is not None:
            raise StreamAborted(ProxyError("the stream was closed while it was being read"))

    # -- closing -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop fetching, end the worker, free everything.

        Idempotent; a caller that is cancelled meanwhile does not stop it.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
        self._ring.close()
        self._outlet.close()
        self._first.clear()
        waiting: list[asyncio.Future[Any]] = [
            task for task in (self._fetching, self._working) if task is not None
        ]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                logger.error("a stream ended badly", exc_info=result)
        self._on_close(self)


def _in_thread(name: str, work: Callable[[], None]) -> asyncio.Future[None]:
    """Run `work`, which raises nothing, on a thread of its own; the future is its end."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def end() -> None:
        if not ended.done():
            ended.set_result(None)

    def run() -> None:
        try:
            work()
        finally:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(end)

    # A daemon, so that a program that forgot to close its streams still ends.
    threading.Thread(target=run, name=name, daemon=True).start()
    return ended


async def _each(segments: Iterable[Segment]) -> AsyncIterator[Segment]:
    for segment in segments:
        yield segment


class _RingSink:
    """Checks what each segment is before its bytes may pass into the ring."""

    def __init__(self, ring: RingBuffer) -> None:
        self._ring = ring
        self._head: bytes | None = b""  # of a segment that is not recognised yet
        self._begun = False

    async def begin(self, segment: Segment) -> None:  # noqa: ARG002 - sections come with it
        self._head = b""

    async def write(self, chunk: bytes) -> None:
        if self._head is None:
            await self._ring.write(chunk)
        else:
            self._head += chunk
            await self._recognise(complete=False)

    async def end(self, segment: Segment) -> None:
        if self._head is not None:
            await self._recognise(complete=True)
        if self._head is not None:
            raise CorruptMedia(f"segment {segment.sequence} holds no media")

    async def _recognise(self, *, complete: bool) -> None:
        head = self._head or b""
        container = sniff(head, complete=complete)
        if container == "mpegts":
            self._head = None
            if not self._begun:
                self._ring.begin(Section())
                self._begun = True
            await self._ring.write(head)
        elif container is not None:
            kind = {"mp4": "fragmented MP4", "packed_audio": "packed audio"}[container]
            raise NotSupportedYet(detail=f"Segments of {kind} are not supported yet.")
        elif head.lstrip(b"\xef\xbb\xbf")[:6] == b"WEBVTT":
            raise NoPlayableVariant(detail="The playlist holds text only.")
        elif is_hopeless(head):
            raise CorruptMedia("a segment is no media: " + repr(head[:40]))


class Pipeline:
    """Opens streams; an async context manager.

    Args:
        fetcher: the outgoing network; belongs to whoever made it.
        settings: limits.
    """

    def __init__(self, fetcher: Fetcher, settings: Settings | None = None) -> None:
        self._fetcher = fetcher
        self._settings = settings or Settings()
        self._gate = TurnGate()
        self._streams: set[MediaStream] = set()

    @property
    def active(self) -> int:
        """How many streams are running or being opened."""
        return len(self._streams)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def open_stream(self, request: StreamRequest) -> MediaStream:
        """Open a stream; returns when its init segment and first fragment are in hand.

        Raises:
            ProxyError: anything that kept it from starting; nothing is left running.
        """
        plan = await make_plan(self._fetcher, request, playlist_bytes=self._settings.playlist_bytes)
        check(plan)
        return await self._start(plan, request)

    async def inspect(self, request: StreamRequest) -> dict[str, Any]:
        """Tell what is behind an address, and whether it can be copied into an MP4.

        Raises:
            ProxyError: there is no playlist to tell anything of.
        """
        plan = await make_plan(self._fetcher, request, playlist_bytes=self._settings.playlist_bytes)
        codecs, reason = "", None
        try:
            check(plan)
            async with await self._start(plan, request) as stream:
                codecs = stream.codecs
        except Overloaded:
            raise
        except ProxyError as error:
            reason = error
        return describe(plan, codecs=codecs, reason=reason)

    async def _start(self, plan: Plan, request: StreamRequest) -> MediaStream:
        if len(self._streams) >= self._settings.streams:
            raise Overloaded("no free worker")
        if self._settings.budget_bytes // (len(self._streams) + 1) < _SMALLEST_SHARE_BYTES:
            raise Overloaded("memory.budget_bytes is used up")
        stream = MediaStream(gate=self._gate, on_close=self._leave)
        self._streams.add(stream)
        self._share()
        try:
            await stream._open(plan, request, self._fetcher)  # noqa: SLF001
        except BaseException:
            await stream.aclose()
            raise
        return stream

    def _leave(self, stream: MediaStream) -> None:
        self._streams.discard(stream)
        self._share()

    def _share(self) -> None:
        """Divide the memory budget among the streams there are."""
        if self._streams:
            share = min(self._settings.budget_bytes // len(self._streams), _LARGEST_SHARE_BYTES)
            for stream in self._streams:
                stream.share(share)

    async def aclose(self) -> None:
        """Close all streams; returns when their worker threads have ended."""
        for stream in list(self._streams):
            with suppress(Exception):
                await stream.aclose()
