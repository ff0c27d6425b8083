"""Where packets belong in time: integers only, no media library.

Rules of this file:
1. No packet is refused: a time that is missing, stands still or steps back is repaired.
2. A presentation time that the source states is never changed, except by one shift that all tracks
   share.  Only decode times are moved, and only as far as rule 3 needs.
3. Decode times leave here strictly increasing, from 0 or more, and not behind their presentation
   time wherever that can be had.

`TrackTimeline.fill` says what the source left out, in the source's own ticks.  When the first
packets of all tracks are known, `align` finds the shift, and `TrackTimeline.place` applies it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

Times = tuple[int, int]  # presentation time, decode time; in ticks of the track


class TimelineJumped(ValueError):
    """The source's clock stepped back further than a repair may hide."""


# A step back of a muxer's jitter is repaired; one of a whole second is another timeline.
_JUMP_S = 1


class TrackTimeline:
    """The timeline of one track.

    Args:
        timescale: ticks per second, of the source and of the output.
        frame_ticks: what one packet lasts where the source does not tell; exact for audio.
        reorder_frames: pictures whose presentation may come before an earlier decoded one's, where
            the first packet does not show it; 0 for audio.
        steady: whether packets follow each other after `frame_ticks` exactly (audio).
    """

    def __init__(
        self, *, timescale: int, frame_ticks: Fraction, reorder_frames: int, steady: bool
    ) -> None:
        self.timescale = timescale
        self._frame_ticks = frame_ticks
        self._reorder_frames = reorder_frames
        self._steady = steady
        self._anchor: int | None = None  # the last decode time the source stated
        self._since_anchor = 0  # packets since then
        self._filled: int | None = None  # the last decode time, stated or found
        self._shift = 0
        self._reserve = 0
        self._placed = -1

    @property
    def anchored(self) -> bool:
        """Whether the source has stated a time yet."""
        return self._anchor is not None

    def fill(self, pts: int | None, dts: int | None) -> Times:
        """Return the times of the next packet, in source ticks, with what is missing found.

        Raises:
            TimelineJumped: the clock stepped back by more than a second.
        """
        expected = self._expected()
        if self._steady and dts is not None and self._is_stale(dts):
            pts = dts = None
        if dts is None:
            dts = pts if pts is not None and (self._steady or expected is None) else expected
            if dts is None:
                dts = 0
            elif pts is not None and dts > pts:
                dts = pts
            stated = pts is not None and dts == pts
        else:
            stated = True
        if self._filled is not None and dts < self._filled - _JUMP_S * self.timescale:
            raise TimelineJumped(f"the clock stepped back by {self._filled - dts} ticks")
        if stated:
            if not self._steady and self._filled is not None and dts > self._filled:
                self._frame_ticks = Fraction(dts - self._filled)
            self._anchor, self._since_anchor = dts, 1
        else:
            self._since_anchor += 1
        self._filled = dts
        return (dts if pts is None else pts), dts

    def _is_stale(self, dts: int) -> bool:
        """Whether an audio frame claims to begin no later than the one before.

        libavformat does that until it knows the sample rate: it repeats the last time that was
        stated.  A frame cannot begin there, whoever says so; the sample count tells where it does.
        """
        if self._filled is None:
            return False
        return self._filled - _JUMP_S * self.timescale <= dts <= self._filled

    def _expected(self) -> int | None:
        if self._anchor is None:
            return None
        return self._anchor + round(self._since_anchor * self._frame_ticks)

    def fill_backwards(self, count: int, following: Times) -> list[Times]:
        """Return the times of `count` packets before the first one whose times are stated."""
        return [
            (time, time)
            for time in (
                following[1] - round((count - i) * self._frame_ticks) for i in range(count)
            )
        ]

    def reserve(self, first: Sequence[Times]) -> int:
        """Return how many ticks earlier the packets have to be decoded than the source says, as far
        as its first ones show: some muxers state decode times that lie behind presentation."""
        late = max((dts - pts for pts, dts in first), default=0)
        if late <= 0 and first and first[0][0] == first[0][1]:
            late = round(self._reorder_frames * self._frame_ticks)
        return max(late, 0)

    def start(self, *, origin: Fraction, lead: Fraction, reserve: int) -> int:
        """Fix the shift.  Returns the lead in ticks: the decode time that is presented at 0.

        Args:
            origin: seconds, in the source's time, that become 0 of the presentation.
            lead: seconds that decoding begins before the presentation.
            reserve: ticks, as `reserve` gave them.
        """
        lead_ticks = -int(-lead * self.timescale // 1)
        self._shift = lead_ticks - round(origin * self.timescale)
        self._reserve = reserve
        return lead_ticks

    def place(self, times: Times) -> Times:
        """Return presentation and decode time in the output, in ticks from its start."""
        pts = times[0] + self._shift
        dts = times[1] + self._shift - self._reserve
        dts = min(dts, pts)
        if dts <= self._placed:
            dts = self._placed + 1
        self._placed = dts
        return pts, dts

    @property
    def frame_ticks(self) -> int:
        """What a packet lasts whose successor is not known."""
        return max(round(self._frame_ticks), 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """One shift for all tracks."""

    origin: Fraction  # seconds in the source's time: the earliest presentation time of all tracks
    lead: Fraction  # seconds that the earliest decode time lies before it
    reserves: tuple[int, ...]  # ticks, per track


def align(tracks: Sequence[tuple[TrackTimeline, Sequence[Times]]]) -> Alignment:
    """Find the shift from the first packets of every track (one at least of each)."""
    origin = min(
        Fraction(pts, timeline.timescale) for timeline, first in tracks for pts, _ in first
    )
    reserves = tuple(timeline.reserve(first) for timeline, first in tracks)
    earliest = min(
        Fraction(first[0][1] - reserve, timeline.timescale)
        for (timeline, first), reserve in zip(tracks, reserves, strict=True)
    )
    return Alignment(origin=origin, lead=max(origin - earliest, Fraction(0)), reserves=reserves)
