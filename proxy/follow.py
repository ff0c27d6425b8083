"""A media playlist as a stream of segments: all of a VOD, and a live one as it grows.

`follow` reloads by the rules of `hls.cursor` (RFC 8216bis section 6.3.4), leaves out what
EXT-X-GAP marks, and ends where the playlist ends.  Runs on the event loop; the clock and the sleep
are handed in, so that a day can pass in a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal

from proxy.errors import ProxyError, SourceTimeout, SourceUnavailable
from proxy.hls.cursor import SegmentCursor, Update
from proxy.hls.model import MediaPlaylist, Segment
from proxy.intake import Holes

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Clock:
    """The time, and waiting for it."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


async def follow(
    first: Update,
    reload: Callable[[], Awaitable[MediaPlaylist]],
    *,
    cursor: SegmentCursor,
    holes: Holes,
    target_duration_s: float,
    last_s: float | None = None,
    is_short: Callable[[float], Awaitable[bool]] | None = None,
    on_gap: Literal["abort", "skip"] = "abort",
    clock: Clock,
) -> AsyncIterator[Segment]:
    """Yield the segments of a playlist, once each and in order.

    Args:
        first: what the cursor said of the playlist as it was fetched at the start.
        reload: fetches it again.
        cursor: decides when to reload, and what is new.
        holes: told what is left out.
        target_duration_s: of the playlist.
        last_s: end before segments that begin so many seconds behind the first one, by EXTINF.
        is_short: asked there, since EXTINF may say more than there is: whether the media of the
            segments yielded do not reach that far; told how much was left out behind the last one.
        on_gap: what to do when the window of a live playlist has moved past us.
        clock: the time.

    Raises:
        SourceUnavailable: segments are lost and `on_gap` is `abort`.
        SourceTimeout: the playlist stands still, or could not be reloaded, for too long.
        ProxyError: a reload failed, and Retry-After asks for more time than there is.
    """
    update = first
    position_s = left_out_s = 0.0
    while True:
        if update.lost:
            if on_gap == "abort":
                raise SourceUnavailable(f"{update.lost} segments came and went unseen")
            holes.leave_out(update.lost * target_duration_s, update.lost)
        segments = update.segments
        if update.restarted and segments:  # an encoder began anew, and its clock with it
            segments = (replace(segments[0], discontinuity=True), *segments[1:])
        for segment in segments:
            at_end = last_s is not None and position_s >= last_s
            if at_end and not (is_short is not None and await is_short(left_out_s)):
                return
            position_s += segment.duration_s
            if segment.gap:
                holes.leave_out(segment.duration_s, sequence=segment.sequence)
                left_out_s += segment.duration_s
                continue
            holes.next(segment)
            left_out_s = 0.0
            yield segment
        if cursor.ended:
            return
        while True:
            if cursor.is_stale(clock.now()):
                raise SourceTimeout("the playlist stands still")
            await clock.sleep(max(cursor.reload_at_s - clock.now(), 0))
            began_s = clock.now()
            try:
                update = cursor.feed(await reload(), began_s)
            except ProxyError as error:
                # Encoders restart, and edges fail for a while: patience decides, in `is_stale`.
                logger.info("reloading failed: %s", error)
                pause_s = max(target_duration_s / 2, error.retry_after_s or 0.0)
                if error.retry_after_s is not None and cursor.is_stale(clock.now() + pause_s):
                    raise  # it asks for more patience than there is
                await clock.sleep(pause_s)
            else:
                break
