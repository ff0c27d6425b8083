"""From an address to a stream: joins hls, fetch and media; knows no server.

    async with await pipeline.open_stream(StreamRequest(url=...)) as stream:
        async for part in stream:
            ...

`open_stream` returns when the init segment and the first fragment are in hand.  Until then every
failure is a `ProxyError`, and nothing has been promised; afterwards it is a `StreamAborted`.

A stream (`stream`) is shown a share of the memory budget, which changes as others come and go.
Runs on the event loop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Self

from proxy.clip import run_ups, wish_of
from proxy.errors import Overloaded, ProxyError
from proxy.events import Planned, Trail
from proxy.fetch.client import Fetcher
from proxy.fetch.keys import KeyRing
from proxy.follow import Clock
from proxy.hls.cursor import CursorSettings
from proxy.hls.select import Quality
from proxy.inspection import describe, describe_mp4
from proxy.media.turn import TurnGate
from proxy.media.wish import StartMissed
from proxy.pages import FoundMp4, Pages, PageSettings
from proxy.plan import Plan, PlaylistLimits, Source, check, check_keys, make_plan
from proxy.request import OnTrouble, StreamRequest
from proxy.stream import SMALLEST_SHARE_BYTES, MediaStream
from proxy.supply import Supply

__all__ = [
    "MediaStream",
    "OnTrouble",
    "PageSettings",
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    playlists: PlaylistLimits = field(default_factory=PlaylistLimits)
    streams: int = 200  # worker threads at a time
    budget_bytes: int = 64 * MIB  # of media in buffers, shared by all streams
    live: CursorSettings = field(default_factory=CursorSettings)
    pages: PageSettings = field(default_factory=PageSettings)


class Pipeline:
    """Opens streams; an async context manager.

    Args:
        fetcher: the outgoing network; belongs to whoever made it.
        upstreams: others, each with a policy and connections of its own, for requests that name
            one (`StreamRequest.upstream`); they belong to whoever made them, too.  They lead to
            playlists alone: no page is followed there.
        settings: limits.
        clock: the time, for live playlists.
        on_release: called whenever a stream has let go of memory: it ended, or needs less now.
        crowd: how many streams share the memory budget, where other processes have some of them;
            call `rebalance` from time to time then.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        settings: Settings | None = None,
        *,
        upstreams: Mapping[str, Fetcher] | None = None,
        clock: Clock | None = None,
        crowd: Callable[[], int] | None = None,
        on_release: Callable[[], None] = lambda: None,
    ) -> None:
        self._fetchers = {"": fetcher, **(upstreams or {})}
        self._settings = settings or Settings()
        self._clock = clock or Clock()
        self._crowd = crowd or (lambda: 0)
        pages = self._settings.pages
        # What an upstream leads to is its owner's secret, and a page tells of the addresses in it.
        shut = replace(pages, enabled=False)
        self._pages = {
            name: Pages(one, shut if name else pages) for name, one in self._fetchers.items()
        }
        self._on_release = on_release
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

    async def open_stream(self, request: StreamRequest, trail: Trail | None = None) -> MediaStream:
        """Open a stream; returns when its init segment and first fragment are in hand.

        `trail` is told what happens to it, and gives it its id.

        Raises:
            ProxyError: anything that kept it from starting; nothing is left running.
        """
        trail = trail or Trail()
        self._check_room()  # before anything is fetched for a stream that cannot be
        plan = await self._plan(request, trail)
        check(plan, request)
        return await self._start(plan, request, trail)

    async def inspect(self, request: StreamRequest, trail: Trail | None = None) -> dict[str, Any]:
        """Tell what is behind an address, and whether it can be copied into an MP4.

        Raises:
            ProxyError: there is no playlist to tell anything of.
        """
        trail = trail or Trail()
        try:
            plan = await self._plan(request, trail)
        except FoundMp4 as found:
            return describe_mp4(found.seen, found)
        codecs, reason = "", None
        try:
            check(plan, request)
            check_keys(plan)
            async with await self._start(plan, request, trail) as stream:
                codecs = stream.codecs
        except Overloaded:
            raise
        except ProxyError as error:
            reason = error
        return describe(plan, codecs=codecs, reason=reason)

    async def _plan(self, request: StreamRequest, trail: Trail) -> Plan:
        began_s = time.monotonic()
        plan = await make_plan(
            self._fetchers[request.upstream],
            request,
            self._settings.playlists,
            self._pages[request.upstream],
        )
        trail.note(Planned(live=plan.media.live, elapsed_s=time.monotonic() - began_s))
        return plan

    def _check_room(self) -> None:
        if len(self._streams) >= self._settings.streams:
            raise Overloaded("no free worker")
        crowd = max(len(self._streams) + 1, self._crowd())
        if self._settings.budget_bytes // crowd < SMALLEST_SHARE_BYTES:
            raise Overloaded("memory.budget_bytes is used up")

    async def _start(self, plan: Plan, request: StreamRequest, trail: Trail) -> MediaStream:
        """Open a stream; where its first segment lacks the picture that `start` needs, open it
        again from an earlier one, before anything is promised."""
        began_s = time.monotonic()
        keys = KeyRing(self._fetchers[request.upstream])
        supplies = self._supplies(plan, request, keys, trail)
        run_up = supplies[0].run_up
        try:
            return await self._open(plan, request, supplies, keys, trail, insists=run_up > 0)
        except StartMissed:
            logger.info("no picture to start with in its segment: looking for it before")
        stream: MediaStream | None = None
        for earlier in run_ups(run_up):
            keys = KeyRing(self._fetchers[request.upstream])
            supplies = self._supplies(plan, request, keys, trail, earlier=earlier)
            try:
                stream = await self._open(plan, request, supplies, keys, trail, insists=True)
            except StartMissed:
                continue
            except ProxyError as error:  # what lies before the start must not keep it from playing
                logger.info("%d segments before the start: %s", earlier, error)
            break
        if stream is None:
            keys = KeyRing(self._fetchers[request.upstream])
            supplies = self._supplies(plan, request, keys, trail)
            stream = await self._open(plan, request, supplies, keys, trail, insists=False)
        stream.timings = (*stream.timings, ("search", time.monotonic() - began_s))
        return stream

    async def _open(
        self,
        plan: Plan,
        request: StreamRequest,
        supplies: list[Supply],
        keys: KeyRing,
        trail: Trail,
        *,
        insists: bool,
    ) -> MediaStream:
        self._check_room()
        stream = MediaStream(
            supplies,
            keys=keys,
            gate=self._gate,
            on_close=self._leave,
            on_release=self._on_release,
            trail=trail,
        )
        self._streams.add(stream)
        self.rebalance()
        try:
            await stream.open(plan, wish_of(plan, request, supplies[0].skipped_s, insists=insists))
        except BaseException:
            await stream.aclose()
            raise
        return stream

    def _supplies(
        self,
        plan: Plan,
        request: StreamRequest,
        keys: KeyRing,
        trail: Trail,
        *,
        earlier: int = 0,
    ) -> list[Supply]:
        """Return what brings the playlists of a stream, all from the same place on: so many
        segments before the start, of the one that leads."""

        def supply(source: Source, start_s: float | None, earlier: int = 0) -> Supply:
            return Supply(
                source,
                request,
                start_s=start_s,
                earlier=earlier,
                fetcher=self._fetchers[request.upstream],
                keys=keys,
                gate=self._gate,
                limits=self._settings.playlists,
                live=self._settings.live,
                clock=self._clock,
                trail=trail,
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
        self._on_release()

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
        for pages in self._pages.values():
            pages.close()
