"""A supply: one media playlist on its way into a ring.

Puts together, for one playlist of a stream: the cursor that follows it, the prefetcher that brings
its segments, the decryption, and the intake that makes sections of them.  Runs on the event loop.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from proxy.errors import ProxyError, RemuxFailed
from proxy.fetch.client import Fetcher
from proxy.fetch.decrypt import DecryptingSink, read_init_section
from proxy.fetch.keys import KeyRing
from proxy.fetch.prefetch import Prefetcher
from proxy.follow import Clock, follow
from proxy.hls.cursor import CursorSettings, SegmentCursor
from proxy.hls.model import InitSection, MediaPlaylist
from proxy.intake import Holes, Intake
from proxy.media.ring import BridgeClosed, RingBuffer
from proxy.media.turn import TurnGate
from proxy.plan import Source, StreamRequest

__all__ = ["Settings", "Supply"]

logger = logging.getLogger(__name__)

KIB = 1024
MIB = 1024 * KIB

# A socket's read buffer comes in pieces of this size; less room would make every one of them wait.
_SMALLEST_RING_BYTES = 64 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    playlist_bytes: int = 8 * MIB  # 4 h of 2 s segments with signed addresses are 4.3 MB
    init_section_bytes: int = 1 * MIB  # EXT-X-MAP: a few KiB
    live: CursorSettings = field(default_factory=CursorSettings)


class Supply:
    """Brings one media playlist into a ring.

    Args:
        source: the playlist.
        request: what the client wants to happen at gaps, and where to end.
        start_s: where to start, as `SegmentCursor` takes it.
        fetcher: the outgoing network.
        gate: let go of by the ring's reader while it waits.
        settings: limits.
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
        gate: TurnGate,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self.ring = RingBuffer(_SMALLEST_RING_BYTES, gate)
        self.holes = Holes()
        self._fetcher = fetcher
        self._settings = settings
        self._source = source
        self._keys = KeyRing(fetcher)
        self._allowance_bytes = 0
        playlist = source.playlist
        cursor = SegmentCursor(start_s=start_s, start=playlist.start, settings=settings.live)
        first = cursor.feed(playlist, clock.now())
        self.skipped_s = cursor.skipped_s  # of the playlist, before what is fetched
        self._segments = follow(
            first,
            self._reload,
            cursor=cursor,
            holes=self.holes,
            target_duration_s=playlist.target_duration_s,
            last_s=None if request.end_s is None else request.end_s - cursor.skipped_s,
            on_gap=request.on_gap,
            clock=clock,
        )
        self._prefetcher = Prefetcher(fetcher, allowance=lambda: self._allowance_bytes)

    def share(self, ring_bytes: int, ahead_bytes: int) -> None:
        """Hold at most so many bytes in the ring, and in segments that were fetched ahead."""
        self.ring.capacity_bytes = max(ring_bytes, _SMALLEST_RING_BYTES)
        self._allowance_bytes = ahead_bytes

    def widen(self) -> None:
        """The first fragment is out: fetch ahead, and let batches win over latency."""
        self.ring.relax()
        self._prefetcher.widen()

    async def run(self) -> None:
        """Bring the segments into the ring, in order; errors travel through the ring."""
        intake = Intake(self.ring, self._read_init, self.holes)
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
        finally:
            await self._keys.aclose()

    async def _reload(self) -> MediaPlaylist:
        return await self._source.reload(
            self._fetcher, playlist_bytes=self._settings.playlist_bytes
        )

    async def _read_init(self, section: InitSection, sequence: int) -> bytes:
        return await read_init_section(
            self._fetcher,
            self._keys,
            section,
            sequence,
            max_bytes=self._settings.init_section_bytes,
        )
