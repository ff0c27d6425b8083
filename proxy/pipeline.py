"""From an address to a stream: joins hls, fetch and media; knows no server.

    async with await pipeline.open_stream(StreamRequest(url=...)) as stream:
        async for part in stream:
            ...

`open_stream` returns when the init segment and the first fragment are in hand.  Until then every
failure is a `ProxyError`, and nothing has been promised; afterwards it is a `StreamAborted`.

Everything runs on the event loop but the remux, which runs on a thread of its own for each stream
(the default executor also resolves names, and slow streams would starve it; a pool would keep
threads and their memory after the streams are gone).  A stream owns one task for each playlist and
one worker; `MediaStream.aclose` ends them, however far they are.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

from proxy.clip import run_ups, wish_of
from proxy.errors import CorruptMedia, Overloaded, ProxyError, StreamAborted
from proxy.fetch.client import Fetcher
from proxy.fetch.keys import KeyRing
from proxy.follow import Clock
from proxy.hls.cursor import CursorSettings
from proxy.hls.select import Quality
from proxy.inspection import describe
from proxy.media.fragment import InitSegment
from proxy.media.outlet import Outlet
from proxy.media.remux import Counts, StartMissed, Wish, remux
from proxy.media.ring import BridgeClosed
from proxy.media.turn import TurnGate
from proxy.plan import Plan, PlaylistLimits, Source, check, check_keys, make_plan
from proxy.request import OnTrouble, StreamRequest
from proxy.supply import Supply

__all__ = [
    "MediaStream",
    "OnTrouble",
    "Pipeline",
    "PlaylistLimits",
    "Quality",
    "Settings",
    "StreamRequest",
]

logger = logging.getLogger(__name__)

KIB = 1024
MIB = 1024 * KIB

# What one stream may hold at most, however much of the budget is free (streamlink's ring is as
# large): enough for two segments of 8 Mbit/s x 6 s in flight.
_LARGEST_SHARE_BYTES = 16 * MIB

# Less than this, and ring and outlet could not hold one read and one short fragment each.
_SMALLEST_SHARE_BYTES = 256 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    playlists: PlaylistLimits = field(default_factory=PlaylistLimits)
    streams: int = 200  # worker threads at a time
    budget_bytes: int = 64 * MIB  # of media in buffers, shared by all streams
    live: CursorSettings = field(default_factory=CursorSettings)


class MediaStream:
    """One running stream: an async iterator of whole parts, and a context manager.

    Iterating yields the init segment and then fragments, as bytes, and raises `StreamAborted` where
    the stream breaks.  Whoever was given it must `aclose` it.
    """

    def __init__(
        self,
        supplies: list[Supply],
        *,
        keys: KeyRing,
        gate: TurnGate,
        on_close: Callable[[MediaStream], None],
    ) -> None:
        self.id = secrets.token_hex(16)  # 128 random bits: whoever holds it may ask about it
        self.codecs = ""  # RFC 6381, of the tracks in the output
        self.duration_s: float | None = None  # None: live
        self.start_s = 0.0  # where in the presentation it begins
        self.timings: tuple[tuple[str, float], ...] = ()  # what came before, for Server-Timing
        self.counts = Counts()
        self._outlet = Outlet(_SMALLEST_SHARE_BYTES, gate)
        self._gate = gate
        self._supplies = supplies
        for position, source in enumerate(supplies):
            source.missing_s = partial(self._missing_s, position)
        self._keys = keys
        self._first: list[bytes] = []
        self._fetching: list[asyncio.Task[None]] = []
        self._working: asyncio.Future[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._on_close = on_close

    def __repr__(self) -> str:
        rings = " ".join(repr(source.ring) for source in self._supplies)
        return f"<MediaStream {self.id} {rings} {self._outlet!r}>"

    @property
    def tally(self) -> dict[str, int]:
        """What was left out so far: packets by reason, skipped sections, missing segments."""
        told = {**self.counts.left_out, "sections_skipped": self.counts.sections_skipped}
        told["segments_missing"] = sum(source.holes.count for source in self._supplies)
        return {reason: count for reason, count in told.items() if count}

    # -- opening -----------------------------------------------------------------------------------

    async def open(self, plan: Plan, wish: Wish) -> None:
        """Start fetching and remuxing; returns when the first fragment is in hand."""
        began_s = time.monotonic()
        self._working = _in_thread(f"remuxd-{self.id[:8]}", lambda: self._work(wish))
        self._fetching = [asyncio.create_task(source.run()) for source in self._supplies]
        async for part in self._outlet:
            self._first.append(part.data)
            if not isinstance(part, InitSegment):
                break
            self.codecs, self.duration_s = part.codecs, part.duration_s
            self.start_s = self._supplies[0].skipped_s + part.start_s
        if len(self._first) < 2:
            raise CorruptMedia("the source ended before its first fragment")
        for source in self._supplies:
            source.widen()
        self.timings = (*plan.seconds, ("fragment", time.monotonic() - began_s))

    def _missing_s(self, position: int) -> float:
        return self.counts.missing_s(position)

    def _work(self, wish: Wish) -> None:
        """Remux from the rings into the outlet: the worker thread."""
        with self._gate:
            try:
                rings = [source.ring for source in self._supplies]
                remux(rings, self._outlet.put, wish, self.counts)
            except BridgeClosed:
                pass
            except Exception as error:  # noqa: BLE001 - travels through the outlet
                self._outlet.fail(error)
            else:
                self._outlet.finish()
            finally:
                for source in self._supplies:
                    source.ring.close()

    def share(self, share_bytes: int) -> None:
        """Hold at most so many bytes: a quarter in the rings, a quarter in the outlet, the rest in
        segments that were fetched ahead."""
        quarter = share_bytes // 4
        self._outlet.capacity_bytes = quarter
        for source in self._supplies:
            source.share(quarter // len(self._supplies), 2 * quarter // len(self._supplies))

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
        for task in self._fetching:
            task.cancel()
        for source in self._supplies:
            source.ring.close()
        self._outlet.close()
        self._first.clear()
        waiting: list[asyncio.Future[Any]] = [*self._fetching]
        if self._working is not None:
            waiting.append(self._working)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        await self._keys.aclose()
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


class Pipeline:
    """Opens streams; an async context manager.

    Args:
        fetcher: the outgoing network; belongs to whoever made it.
        settings: limits.
        clock: the time, for live playlists.
        crowd: how many streams share the memory budget, where other processes have some of them;
            call `rebalance` from time to time then.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        settings: Settings | None = None,
        *,
        clock: Clock | None = None,
        crowd: Callable[[], int] | None = None,
    ) -> None:
        self._fetcher = fetcher
        self._settings = settings or Settings()
        self._clock = clock or Clock()
        self._crowd = crowd or (lambda: 0)
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
        self._check_room()  # before anything is fetched for a stream that cannot be
        plan = await self._plan(request)
        check(plan, request)
        return await self._start(plan, request)

    async def inspect(self, request: StreamRequest) -> dict[str, Any]:
        """Tell what is behind an address, and whether it can be copied into an MP4.

        Raises:
            ProxyError: there is no playlist to tell anything of.
        """
        plan = await self._plan(request)
        codecs, reason = "", None
        try:
            check(plan, request)
            check_keys(plan)
            async with await self._start(plan, request) as stream:
                codecs = stream.codecs
        except Overloaded:
            raise
        except ProxyError as error:
            reason = error
        return describe(plan, codecs=codecs, reason=reason)

    async def _plan(self, request: StreamRequest) -> Plan:
        return await make_plan(self._fetcher, request, self._settings.playlists)

    def _check_room(self) -> None:
        if len(self._streams) >= self._settings.streams:
            raise Overloaded("no free worker")
        crowd = max(len(self._streams) + 1, self._crowd())
        if self._settings.budget_bytes // crowd < _SMALLEST_SHARE_BYTES:
            raise Overloaded("memory.budget_bytes is used up")

    async def _start(self, plan: Plan, request: StreamRequest) -> MediaStream:
        """Open a stream; where its first segment lacks the picture that `start` needs, open it
        again from an earlier one, before anything is promised."""
        began_s = time.monotonic()
        keys = KeyRing(self._fetcher)
        supplies = self._supplies(plan, request, keys)
        run_up = supplies[0].run_up
        try:
            return await self._open(plan, request, supplies, keys, insists=run_up > 0)
        except StartMissed:
            logger.info("no picture to start with in its segment: looking for it before")
        stream: MediaStream | None = None
        for earlier in run_ups(run_up):
            keys = KeyRing(self._fetcher)
            supplies = self._supplies(plan, request, keys, earlier=earlier)
            try:
                stream = await self._open(plan, request, supplies, keys, insists=True)
            except StartMissed:
                continue
            except ProxyError as error:  # what lies before the start must not keep it from playing
                logger.info("%d segments before the start: %s", earlier, error)
            break
        if stream is None:
            keys = KeyRing(self._fetcher)
            supplies = self._supplies(plan, request, keys)
            stream = await self._open(plan, request, supplies, keys, insists=False)
        stream.timings = (*stream.timings, ("search", time.monotonic() - began_s))
        return stream

    async def _open(
        self,
        plan: Plan,
        request: StreamRequest,
        supplies: list[Supply],
        keys: KeyRing,
        *,
        insists: bool,
    ) -> MediaStream:
        self._check_room()
        stream = MediaStream(supplies, keys=keys, gate=self._gate, on_close=self._leave)
        self._streams.add(stream)
        self.rebalance()
        try:
            await stream.open(plan, wish_of(plan, request, supplies[0].skipped_s, insists=insists))
        except BaseException:
            await stream.aclose()
            raise
        return stream

    def _supplies(
        self, plan: Plan, request: StreamRequest, keys: KeyRing, *, earlier: int = 0
    ) -> list[Supply]:
        """Return what brings the playlists of a stream, all from the same place on: so many
        segments before the start, of the one that leads."""

        def supply(source: Source, start_s: float | None, earlier: int = 0) -> Supply:
            return Supply(
                source,
                request,
                start_s=start_s,
                earlier=earlier,
                fetcher=self._fetcher,
                keys=keys,
                gate=self._gate,
                limits=self._settings.playlists,
                live=self._settings.live,
                clock=self._clock,
            )

        supplies = [supply(plan.sources[0], request.start_s, earlier)]
        for source in plan.sources[1:]:
            start_s = request.start_s
            if start_s is not None and not source.playlist.live:
                # audio that is apart begins with the first picture, on the same clock
                nth = (supplies[0].group or 0) - plan.sources[0].first_group
                start_s = source.nearest_in(nth, supplies[0].skipped_s)
            supplies.append(supply(source, start_s))
        # Live windows may begin on both sides of a discontinuity: the later one counts.
        groups = [s.group for s in supplies if s.group is not None]
        for position, (source, one) in enumerate(zip(plan.sources, supplies, strict=True)):
            if one.group is not None and one.group < max(groups):
                begin_s = source.position_of(max(groups))
                if begin_s is not None and source.playlist.live:
                    supplies[position] = supply(source, begin_s)
        return supplies

    def _leave(self, stream: MediaStream) -> None:
        self._streams.discard(stream)
        self.rebalance()

    def rebalance(self) -> None:
        """Divide the memory budget among the streams there are."""
        if self._streams:
            crowd = max(len(self._streams), self._crowd())
            share = min(self._settings.budget_bytes // crowd, _LARGEST_SHARE_BYTES)
            for stream in self._streams:
                stream.share(share)

    async def aclose(self) -> None:
        """Close all streams; returns when their worker threads have ended."""
        for stream in list(self._streams):
            with suppress(Exception):
                await stream.aclose()
