"""Clips: what `start` and `end` mean to the remux, and where a first picture is looked for.  Pure.

The playlist's timeline, sums of EXTINF, says which segment a clip begins with; in it, the media say
which picture.  Most segments begin with a keyframe, but only EXT-X-INDEPENDENT-SEGMENTS promises it
(RFC 8216bis section 4.4.2.1): the one at or before the start may stand in a segment before, and is
looked for there, farther each time.
"""

from __future__ import annotations

from collections.abc import Iterator

from proxy.media.wish import Wish
from proxy.plan import Plan
from proxy.request import StreamRequest

__all__ = ["run_ups", "wish_of"]


def wish_of(plan: Plan, request: StreamRequest, skipped_s: float, *, insists: bool) -> Wish:
    """Say to the remux what the client wants, in seconds from the first segment fetched.

    Args:
        plan: what is behind the address.
        request: what the client asks for.
        skipped_s: seconds of the playlist before the first segment fetched.
        insists: whether to give up where only a later picture can be the first.
    """
    media = plan.media
    start_s = end_s = duration_s = None
    if not media.live:
        duration_s = media.duration_s - skipped_s if media.duration_s > 0 else None
        if request.start_s is not None:
            begin_s = request.start_s + (media.duration_s if request.start_s < 0 else 0)
            start_s = begin_s - skipped_s if begin_s > 0 else None
        if request.end_s is not None:
            end_s = request.end_s - skipped_s
            duration_s = None if duration_s is None else min(end_s, duration_s)
    return Wish(
        video=not plan.audio_only,
        language=request.audio,
        duration_s=duration_s,
        start_s=start_s,
        insists=insists,
        end_s=end_s,
        skip_splices=request.on_splice == "skip",
    )


def run_ups(segments: int) -> Iterator[int]:
    """Yield by how many segments to begin earlier, attempt by attempt, up to so many: a GOP of n
    segments costs about log2(n) attempts, and no more than twice what it holds."""
    earlier = 1
    while earlier < segments:
        yield earlier
        earlier *= 2
    if segments:
        yield segments
