"""A supply: one media playlist on its way into a ring.

Puts together, for one playlist of a stream: the cursor that follows it, the prefetcher that brings
its segments, the decryption, and the intake that makes sections of them.  EXTINF tells where a clip
ends, and the media have the last word: where they end earlier than it says, the segments behind are
brought too.  Runs on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from proxy.errors import ProxyError, RemuxFailed
from proxy.events import Trail
from proxy.fetch.client import Fetcher
from proxy.fetch.decrypt import DecryptingSink, read_init_section
from proxy.fetch.keys import KeyRing
from proxy.fetch.prefetch import Prefetcher, Sink
from proxy.fetch.renewal import Renewal
from proxy.follow import Clock, follow
from proxy.forgiving import ForgivingSink
from proxy.hls.cursor import CursorSettings, SegmentCursor
from proxy.hls.model import InitSection, MediaPlaylist, Segment
from proxy.intake import Holes, Intake
from proxy.media.ring import BridgeClosed, RingBuffer
from proxy.media.turn import TurnGate
from proxy.plan import PlaylistLimits, Source
from proxy.request import StreamRequest

__all__ = ["Supply"]

logger = logging.getLogger(__name__)

# A socket's read buffer comes in pieces of this size; less room would make every one of them wait.
_SMALLEST_RING_BYTES = 64 * 1024

# A clip may end so much earlier than wished before a further segment is fetched for it: EXTINF is
# rounded, and its sum drifts.
_SHORT_S = 0.1

# EXT-X-MAP: a few KiB; with many tracks and long parameter sets still far below this.
_INIT_SECTION_BYTES = 1024 * 1024


class _Handing:
    """A sink that knows what it has passed on."""

    def __init__(self, sink: Sink) -> None:
        self.write = sink.write
        self.segments = 0  # that have passed, or were lost
        self.lost_s = 0.0  # behind the last one that passed
        self._sink = sink
        self._changed = asyncio.Event()

    async def begin(self, segment: Segment) -> None:
        self.lost_s = 0.0
        await self._sink.begin(segment)

    async def end(self, segment: Segment) -> None:
        await self._sink.end(segment)
        self._count()

    async def lost(self, segment: Segment) -> None:
        await self._sink.lost(segment)
        self.lost_s += segment.duration_s
        self._count()

    def _count(self) -> None:
        self.segments += 1
        self._changed.set()

    async def until(self, segments: int) -> None:
        """Wait until so many have passed."""
        while self.segments < segments:
            self._changed.clear()
            await self._changed.wait()


def _unknown() -> float:
    return 0.0


class Supply:
    """Brings one media playlist into a ring.

    Args:
        source: the playlist.
        request: what the client wants to happen at gaps, and where to end.
        start_s: where to start, as `SegmentCursor` takes it.
        earlier: by how many segments to begin before that.
        fetcher: the outgoing network.
        keys: those of the stream, shared by its playlists; belong to whoever made them.
        gate: let go of by the ring's reader while it waits.
        limits: how large a playlist may be.
        live: how live playlists are followed.
        clock: the time.
        trail: is told what happens to the segments.

    Raises:
        StartBeyondEnd: `start_s` lies behind the last segment.
    """

    def __init__(
        self,
        source: Source,
        request: StreamRequest,
        *,
        start_s: float | None,
        earlier: int = 0,
        fetcher: Fetcher,
        keys: KeyRing,
        gate: TurnGate,
        limits: PlaylistLimits,
        live: CursorSettings,
        clock: Clock,
        trail: Trail,
    ) -> None:
        self.ring = RingBuffer(_SMALLEST_RING_BYTES, gate)
        self.holes = Holes(trail.note)
        self.missing_s: Callable[[], float] = _unknown  # of media, up to the wished end
        self._fetcher = fetcher
        self._limits = limits
        self._source = source
        self._renewal = Renewal(self._load)
        self._keys = keys
        self._allowance_bytes = 0
        playlist = source.playlist
        cursor = SegmentCursor(start_s=start_s, start=source.start, earlier=earlier, settings=live)
        first = cursor.feed(playlist, clock.now())
        # Discontinuity Sequence Number of the first segment; None: none has come yet.
        self.group = first.segments[0].discontinuity_sequence if first.segments else None
        self.skipped_s = cursor.skipped_s  # of the playlist, before what is fetched
        self.run_up = cursor.run_up  # segments of that which can help to decode it
        segments = follow(
            first,
            self._renewal.load,
            cursor=cursor,
            holes=self.holes,
            target_duration_s=playlist.target_duration_s,
            last_s=None if request.end_s is None else request.end_s - cursor.skipped_s,
            is_short=self._is_short,
            on_gap=request.on_gap,
            clock=clock,
        )
        self._segments = self._announced(segments)
        self._handing = _Handing(
            DecryptingSink(
                Intake(self.ring, self._read_init, self.holes, skipped_s=self.skipped_s),
                keys,
                renewal=self._renewal,
            )
        )
        skips = request.on_gap == "skip"
        self._wanted = 0  # segments that were handed to the prefetcher
        self._prefetcher = Prefetcher(
            fetcher,
            allowance=lambda: self._allowance_bytes,
            skip_lost=skips,
            renewal=self._renewal,
            on_event=trail.note,
        )
        self._sink: Sink = ForgivingSink(self._handing) if skips else self._handing

    @property
    def held_bytes(self) -> int:
        """Bytes in the ring, and in segments that were fetched ahead."""
        return self.ring.size + self._prefetcher.buffered_bytes

    def share(self, ring_bytes: int, ahead_bytes: int) -> None:
        """Hold at most so many bytes in the ring, and in segments that were fetched ahead."""
        self.ring.capacity_bytes = max(ring_bytes, _SMALLEST_RING_BYTES)
        self._allowance_bytes = ahead_bytes
        self._prefetcher.look_again()

    def widen(self) -> None:
        """The first fragment is out: fetch ahead, and let batches win over latency."""
        self.ring.relax()
        self._prefetcher.widen()

    async def run(self) -> None:
        """Bring the segments into the ring, in order; errors travel through the ring."""
        try:
            await self._prefetcher.deliver(self._segments, self._sink)
        except BridgeClosed:
            return  # the worker has ended, and the outlet says why
        except ProxyError as error:
            self.ring.fail(error)
        except Exception as error:
            logger.exception("fetching failed in a way nobody foresaw")
            self.ring.fail(RemuxFailed(repr(error)))
        else:
            self.ring.finish()

    async def _announced(self, segments: AsyncIterator[Segment]) -> AsyncIterator[Segment]:
        """Pass segments on, and let their keys be fetched beside them."""
        async for segment in segments:
            if segment.key is not None and not self._keys.knows(segment.key):
                segment = replace(segment, key=self._renewal.current(segment).key)  # noqa: PLW2901
            if segment.key is not None:
                self._keys.expect(segment.key)
            self._wanted += 1
            yield segment

    async def _is_short(self, left_out_s: float) -> bool:
        """Whether all media of the segments so far do not reach the wished end: known when the
        remux has read them and asks for more."""
        await self._handing.until(self._wanted)
        try:
            await self.ring.starved()
        except BridgeClosed:
            return False
        return self.missing_s() - left_out_s - self._handing.lost_s > _SHORT_S

    async def _load(self) -> MediaPlaylist:
        self._source = await self._source.reload(self._fetcher, self._limits)
        return self._source.playlist

    async def _read_init(self, section: InitSection, sequence: int) -> bytes:
        return await read_init_section(
            self._fetcher,
            self._keys,
            section,
            sequence,
            max_bytes=_INIT_SECTION_BYTES,
            renewal=self._renewal,
        )
