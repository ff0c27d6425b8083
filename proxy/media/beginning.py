"""Where a clip begins: with the random access point at or before the wished start.

The first picture decides, or sound where there is no picture; the other tracks begin with it.  All
of this is about the time before the init segment leaves, in seconds of the source's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from proxy.errors import CorruptMedia
from proxy.media.lane import Held, Lane
from proxy.media.timeline import exact
from proxy.media.wish import StartMissed, Wish


class Beginning:
    """Says to each lane from where on it is held.

    Args:
        wish: what the client wants.
        lanes: those of the output, as they come.
    """

    def __init__(self, wish: Wish, lanes: Sequence[Lane]) -> None:
        self._wish = wish
        self._lanes = lanes
        self.zero_s: Fraction | None = None  # presentation time of the source's first picture
        self.hole_s = 0.0  # missing before it
        self.decided = False  # the init segment has left

    def note(self, lane: Lane, pts: int, time_base: Fraction) -> None:
        """Take the time of the source's first picture, also where nothing can decode it."""
        if self.zero_s is None and self._leads(lane) and lane.is_clocked:
            self.zero_s = Fraction(pts) * time_base - exact(self.hole_s)

    def begin_s(self, lane: Lane, held: Held | None = None) -> Fraction | None:
        """Return where the presentation is wished to begin, as far as `lane` has to care: the first
        picture decides, and audio follows it."""
        if self.decided or self._wish.start_s is None or not self._leads(lane):
            return None
        if self.zero_s is None and held is not None:  # its first packet stated no time
            self.zero_s = held.present_s - exact(self.hole_s)
        return None if self.zero_s is None else self.zero_s + exact(self._wish.start_s)

    def follow_s(self, lane: Lane) -> Fraction | None:
        """Return where a lane that does not lead begins, as far as is known, where a later
        beginning is wished: with the first picture."""
        if self.decided or self._wish.start_s is None or lane.kind == "video":
            return None
        leader = next((other for other in self._lanes if other.kind == "video"), None)
        return leader.held[0].present_s if leader is not None and leader.held else None

    def passes_s(self, lane: Lane) -> Fraction | None:
        """Return what a lane has to have passed before it is known where it begins."""
        begin_s = self.begin_s(lane)
        return self.follow_s(lane) if begin_s is None else begin_s

    def check_passed(self, lane: Lane, present_s: Fraction) -> None:
        """A picture was left out: see whether the start has been passed with it.

        Raises:
            StartMissed: nothing at or before the start can be the first picture.
        """
        begin_s = self.begin_s(lane) if lane.left_out and not lane.held else None
        if begin_s is not None and present_s > begin_s:
            raise StartMissed("the wished start was passed without a random access point")

    def check_missed(self, start_s: Fraction = Fraction(0)) -> None:
        """Nothing begins, or only at `start_s`: say so where an earlier segment would help.

        Raises:
            StartMissed: it would.
        """
        wish = self._wish
        if not wish.insists or wish.start_s is None or self.decided:
            return
        videos = [lane for lane in self._lanes if lane.kind == "video"]
        blind = any(lane.left_out and not lane.held for lane in videos)
        if blind or (videos and start_s > exact(wish.start_s)):
            raise StartMissed("nothing begins at or before the wished start")

    def cut(self, present: Sequence[Lane]) -> Fraction:
        """Let all tracks begin with the first picture, where a later beginning is wished.

        Returns the seconds that were left out.

        Raises:
            CorruptMedia: nothing is left.
        """
        if self._wish.start_s is None or self.zero_s is None:
            return Fraction(0)
        leader = next((lane for lane in present if lane.kind == "video"), present[0])
        if leader.kind == "audio":
            leader.begin_at(self.zero_s + exact(self._wish.start_s))
        if not leader.held:
            raise CorruptMedia("nothing is left behind the wished start")
        begin_s = leader.held[0].present_s
        for lane in present:  # of the leader too: pictures shown before the first one need others
            lane.begin_at(begin_s)
        return begin_s - self.zero_s

    def _leads(self, lane: Lane) -> bool:
        return lane.kind == "video" or all(other.kind != "video" for other in self._lanes)
