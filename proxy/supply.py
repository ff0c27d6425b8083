"""A supply: one media playlist on its way into a ring.

Puts together, for one playlist of a stream: the cursor that follows it, the prefetcher that brings
its segments, the decryption, and the intake that makes sections of them.  Runs on the event loop.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from proxy.errors import ProxyError, RemuxFailed
from proxy.fetch.client import Fetcher
from proxy.fetch.decrypt import DecryptingSink, read_init_section
from proxy.fetch.keys import KeyRing
from proxy.fetch.prefetch import Prefetcher
from proxy.follow import Clock, follow
from proxy.hls.cursor import CursorSettings, SegmentCursor
from proxy.hls.model import InitSection, MediaPlaylist, Segment
from proxy.intake import Holes, Intake
from proxy.media.ring import BridgeClosed, RingBuffer
from proxy.media.turn import TurnGate
from proxy.plan import PlaylistLimits, Source, StreamRequest

__all__ = ["Supply"]

logger = logging.getLogger(__name__)

# A socket's read buffer comes in pieces of this size; less room would make every one of them wait.
_SMALLEST_RING_BYTES = 64 * 1024


# EXT-X-MAP: a few KiB; with many tracks and long parameter sets still far below this.
_INIT_SECTION_BYTES = 1024 * 1024


class Supply:
    """Brings one media playlist into a ring.

    Args:
        source: the playlist.
        request: what the client wants to happen at gaps, and where to end.
        start_s: where to start, as `SegmentCursor` takes it.
        fetcher: the outgoing network.
        keys: those of the stream, shared by its playlists; belong to whoever made them.
        gate: let go of by the ring's reader while it waits.
        limits: how large a playlist may be.
        live: how live playlists are followed.
        clock: the time.

    Raises:
        StartBeyondEnd: `start_s` lies behind the last segment.
    """

    def __init__(
        self,
        source: Source,
        request: StreamRequest,
        *,
        start_s: float | None,
        fetcher: Fetcher,
        keys: KeyRing,
        gate: TurnGate,
        limits: PlaylistLimits,
        live: CursorSettings,
        clock: Clock,
    ) -> None:
        self.ring = RingBuffer(_SMALLEST_RING_BYTES, gate)
        self.holes = Holes()
        self._fetcher = fetcher
        self._limits = limits
        self._source = source
        self._keys = keys
        self._allowance_bytes = 0
        playlist = source.playlist
        cursor = SegmentCursor(start_s=start_s, start=source.start, settings=live)
        first = cursor.feed(playlist, clock.now())
        # Discontinuity Sequence Number of the first segment; None: none has come yet.
        self.group = first.segments[0].discontinuity_sequence if first.segments else None
        self.skipped_s = cursor.skipped_s  # of the playlist, before what is fetched
        segments = follow(
            first,
            self._reload,
            cursor=cursor,
            holes=self.holes,
            target_duration_s=playlist.target_duration_s,
            last_s=None if request.end_s is None else request.end_s - cursor.skipped_s,
            on_gap=request.on_gap,
            clock=clock,
        )
        self._segments = self._announced(segments)
        self._prefetcher = Prefetcher(
            fetcher,
            allowance=lambda: self._allowance_bytes,
            skip_lost=request.on_gap == "skip",
        )

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
        intake = Intake(self.ring, self._read_init, self.holes, skipped_s=self.skipped_s)
        try:
            await self._prefetcher.deliver(self._segments, DecryptingSink(intake, self._keys))
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
            if segment.key is not None:
                self._keys.expect(segment.key)
            yield segment

    async def _reload(self) -> MediaPlaylist:
        return await self._source.reload(self._fetcher, self._limits)

    async def _read_init(self, section: InitSection, sequence: int) -> bytes:
        return await read_init_section(
            self._fetcher,
            self._keys,
            section,
            sequence,
            max_bytes=_INIT_SECTION_BYTES,
        )
