"""Where packets belong in time: integers only, no media library.

Rules of this file:
1. No packet is refused: a time that is missing, stands still or steps back is repaired.
2. A presentation time that the source states is never changed, except by one shift that all tracks
   share.  Only decode times are moved, and only as far as rule 3 needs.
3. Decode times leave here strictly increasing, from 0 or more, and not behind their presentation
   time wherever that can be had.
4. Where the source's clock starts anew, all tracks get one new shift: the smallest with which no
   track overlaps itself.

`TrackTimeline.fill` says what the source left out, in the source's own ticks.  When the first
packets of all tracks are known, `align` (or, later on, `align_after`) finds the shift, `start`
fixes it, and `place` applies it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

Times = tuple[int, int]  # presentation time, decode time; in ticks of the track

# A step back of a muxer's jitter is repaired; one of a whole second is another timeline.  A step
# ahead is a hole, which is kept, up to what ffmpeg too takes for one (dts_delta_threshold).
_JUMP_BACK_S = 1
_JUMP_AHEAD_S = 10

# A step that is longer than so many pictures is a hole, and not what a picture lasts; the same one
# twice is a picture rate.
_HOLE_FRAMES = 4

# A picture waits no longer between decoding and presentation than so many others last: 16 is the
# most that a decoded picture buffer of H.264 or HEVC holds.
_LONGEST_DELAY_FRAMES = 17


class TimelineJumped(ValueError):
    """The source's clock jumped: this packet and those behind it belong to another timeline."""


def nearest(value: int, reference: int, modulus: int) -> int:
    """Return the number that equals `value` modulo `modulus` and lies nearest to `reference`."""
    return value + (reference - value + modulus // 2) // modulus * modulus


class TrackTimeline:
    """The timeline of one track, in one section of the source.

    Args:
        timescale: ticks per second of the output.
        frame_ticks: what one packet lasts, in source ticks, where the source does not tell; exact
            for audio.
        reorder_frames: pictures whose presentation may come before an earlier decoded one's, where
            the first packet does not show it; 0 for audio.
        steady: whether packets follow each other after `frame_ticks` exactly (audio).
        source_timescale: ticks per second of the source, where they differ.
        modulus: source ticks after which the source's clock wraps; None: it does not.
    """

    def __init__(
        self,
        *,
        timescale: int,
        frame_ticks: Fraction,
        reorder_frames: int,
        steady: bool,
        source_timescale: int | None = None,
        modulus: int | None = None,
    ) -> None:
        self.timescale = timescale
        self.source_timescale = source_timescale or timescale
        self._frame_ticks: Fraction | int = frame_ticks
        self._reorder_frames = reorder_frames
        self._delay_ticks = self._usual_delay()
        self._steady = steady
        self._modulus = modulus
        self._reference: int | None = None  # a time near which the first one must lie
        self._jump_ahead = _JUMP_AHEAD_S * self.source_timescale
        self._ahead = self._jump_ahead
        self._behind = -_JUMP_BACK_S * self.source_timescale
        self.frame_ticks = self._output_ticks()
        self._last_step: int | None = None  # between the decode times of two pictures
        self._longest_delay = 0  # between decoding and presentation, so far; 0: nothing reorders
        self._anchor: int | None = None  # the last decode time the source stated
        self._since_anchor = 0  # packets since then
        self._filled: int | None = None  # the last decode time, stated or found
        self._origin = Fraction(0)
        self._lead = Fraction(0)
        self._shift = 0  # ticks of the output
        self._reserve = 0  # source ticks
        self._placed = -1
        self._shown = 0  # end of the last presentation, in ticks of the output

    # -- the source's side -------------------------------------------------------------------------

    @property
    def anchored(self) -> bool:
        """Whether the source has stated a time yet."""
        return self._anchor is not None

    @property
    def position_s(self) -> float | None:
        """The last packet's decode time, in seconds of the source's clock."""
        return None if self._filled is None else self._filled / self.source_timescale

    def refer(self, seconds: float) -> None:
        """Say that the first time is near this one: a clock that wraps is unwrapped by it."""
        self._reference = round(seconds * self.source_timescale)

    def distance_s(self, time: int) -> float:
        """Return how far behind the last packet a time lies, in seconds."""
        unwrapped = self._unwrapped(time)
        assert unwrapped is not None
        return (unwrapped - (self._filled or 0)) / self.source_timescale

    def expect_hole(self, hole_s: float) -> None:
        """Say that so many seconds are missing before the next packet: no jump, then."""
        self._ahead += round(hole_s * self.source_timescale)

    def fill(self, pts: int | None, dts: int | None) -> Times:
        """Return the times of the next packet, in source ticks, with what is missing found.

        Raises:
            TimelineJumped: the clock stepped back by more than a second, or ahead by more than ten.
        """
        filled = self._filled
        # The way of nearly all packets: nothing of what `_fill` looks into can be the case.
        if filled is not None:
            if self._steady:
                if pts is None:
                    anchor = self._anchor
                    if dts is None and anchor is not None:
                        dts = self._filled = anchor + self._lasting(self._since_anchor)
                        self._since_anchor += 1
                        self._ahead = self._jump_ahead
                        return dts + self._delay_ticks, dts
                elif 0 < pts - filled <= self._ahead and (dts is None or dts == pts):
                    self._anchor = self._filled = pts
                    self._since_anchor = 1
                    self._ahead = self._jump_ahead
                    return pts, pts
            elif pts is not None and dts is not None:
                step, delay = dts - filled, pts - dts
                longest = self._longest_delay
                if 0 < step <= self._ahead and (0 < delay <= longest or delay == longest):
                    if step != self._frame_ticks:
                        self._learn_frame(step)
                    self._anchor = self._filled = dts
                    self._since_anchor = 1
                    self._ahead = self._jump_ahead
                    return pts, dts
        return self._fill(pts, dts)

    def _fill(self, pts: int | None, dts: int | None) -> Times:
        """Return the times of a packet about which there may be something to find out."""
        if self._modulus is not None:
            pts, dts = self._unwrapped(pts), self._unwrapped(dts)
        if (
            pts is not None
            and dts is not None
            and not -self._jump_ahead <= pts - dts <= self._jump_ahead
        ):
            pts, dts = self._believed(pts, dts)
        filled = self._filled
        if self._steady:  # sound has one time; where two are stated, it is heard at the first
            dts = dts if pts is None else pts
            if dts is not None and self._is_stale(dts):
                pts = dts = None
            elif pts is not None:
                pts = dts
        stated = dts is not None
        if dts is None or (self._longest_delay and dts == pts and self._is_undecided(dts)):
            dts, stated = self._found(pts)
        if filled is not None:
            step = dts - filled
            # A time that was found may lie too far ahead: only what was stated can be stepped back
            # from.
            back = dts - self._anchor if self._anchor is not None else step
            if back < self._behind or step > self._ahead:
                raise TimelineJumped(f"the clock jumped by {step / self.source_timescale:.3f} s")
            if stated and step > 0 and not self._steady and step != self._frame_ticks:
                self._learn_frame(step)
        if stated:
            self._anchor, self._since_anchor = dts, 1
        else:
            self._since_anchor += 1
        self._filled = dts
        self._ahead = self._jump_ahead
        if pts is None:
            return dts + self._delay_ticks, dts
        if pts - dts > self._longest_delay:  # noqa: PLR1730 - a call less for every packet
            self._longest_delay = pts - dts
        return pts, dts

    def _believed(self, pts: int, dts: int) -> tuple[int | None, int | None]:
        """Choose between two times that cannot both be true: no picture waits so long."""
        if self._modulus is not None:  # the clock wraps between them, and nothing came before
            near = nearest(dts, pts, self._modulus)
            if abs(pts - near) <= self._jump_ahead:
                return pts, near
        if self._filled is not None and abs(pts - self._filled) < abs(dts - self._filled):
            return pts, None
        return None, dts

    def _is_undecided(self, dts: int) -> bool:
        """Whether a decode time that equals the presentation time may be none: a PES packet without
        DTS says that they are equal, and some muxers leave it out of every one."""
        expected = self._expected()
        # Further ahead than any delay so far, it is the first one behind a hole and means it: found
        # times would stay behind by the hole for as long as none is stated otherwise.
        return expected is not None and 0 < dts - expected <= self._longest_wait()

    def _longest_wait(self) -> Fraction | int:
        """Return how long a picture has waited at most, as far as that can be true."""
        return min(self._longest_delay, _LONGEST_DELAY_FRAMES * self._frame_ticks)

    def _usual_delay(self) -> int:
        """Return how long a picture usually waits between decoding and presentation."""
        return round(self._reorder_frames * self._frame_ticks)

    def _learn_frame(self, step: int) -> None:
        """Take a step for what a picture lasts, unless it looks like a hole."""
        hole = self._ahead != self._jump_ahead or (
            step > _HOLE_FRAMES * self._frame_ticks and step != self._last_step
        )
        self._last_step = step
        if not hole:
            self._frame_ticks = step
            self.frame_ticks = self._output_ticks()
            self._delay_ticks = self._usual_delay()

    def _found(self, pts: int | None) -> tuple[int, bool]:
        """Return a decode time for a packet that has none, and whether `pts` states it."""
        expected = self._expected()
        if pts is None:
            return expected or 0, False
        if self._steady or expected is None or expected > pts:
            return pts, True
        if pts - expected > _LONGEST_DELAY_FRAMES * self._frame_ticks:  # it comes behind a hole
            return pts - self._delay_ticks, True
        return expected, expected == pts

    def _unwrapped(self, value: int | None) -> int | None:
        reference = self._filled if self._filled is not None else self._reference
        modulus = self._modulus
        if value is None or reference is None or modulus is None:
            return value
        if -modulus < 2 * (value - reference) < modulus:
            return value
        return nearest(value, reference, modulus)

    def _is_stale(self, dts: int) -> bool:
        """Whether an audio frame claims to begin where the last one did that stated a time.

        libavformat does that until it knows the sample rate.  A frame cannot begin there, whoever
        says so; the sample count tells where it does.  A step back is another matter: the frames
        behind it are where they say, or the track would stay late for good.
        """
        return dts == self._anchor

    def _expected(self) -> int | None:
        if self._anchor is None:
            return None
        return self._anchor + self._lasting(self._since_anchor)

    def _lasting(self, packets: int) -> int:
        """Return how many ticks so many packets last, rounded as `round` does (but 20 times as
        fast as with a Fraction)."""
        ticks = self._frame_ticks
        whole, rest = divmod(packets * ticks.numerator, ticks.denominator)
        twice = 2 * rest - ticks.denominator
        return whole + (twice > 0 or (twice == 0 and whole % 2 == 1))

    def steady_state(self) -> tuple[int, ...] | None:
        """Return what `fill` and `place` know, for somebody who goes on in their place; None where
        there is more to do than adding the shift: the clocks differ, or something is expected."""
        ticks = self._frame_ticks
        if (
            self._filled is None
            or self._anchor is None
            or self._ahead != self._jump_ahead
            or self.source_timescale != self.timescale
            or (self._steady and self._delay_ticks)
        ):
            return None
        last_step = 0 if self._last_step is None else self._last_step
        return (
            self._filled, self._anchor, self._since_anchor, ticks.numerator, ticks.denominator,
            last_step, self._longest_delay, self._reserve, self._shift, self._placed, self._shown,
            self._jump_ahead,
        )  # fmt: skip

    def go_on(
        self,
        *,
        filled: int,
        anchor: int,
        since_anchor: int,
        frame_ticks: Fraction,
        last_step: int,
        placed: int,
        shown: int,
    ) -> None:
        """Go on from where somebody else has come."""
        self._filled, self._anchor, self._since_anchor = filled, anchor, since_anchor
        self._placed, self._shown = placed, shown
        if not self._steady:
            self._last_step = last_step or None
        if frame_ticks != self._frame_ticks:
            self._frame_ticks = frame_ticks
            self.frame_ticks = self._output_ticks()
            self._delay_ticks = self._usual_delay()

    def fill_backwards(self, count: int, following: Times) -> list[Times]:
        """Return the times of `count` packets before the first one whose times are stated."""
        delay = self._delay_ticks
        return [
            (time + delay, time)
            for time in (following[1] - self._lasting(count - i) for i in range(count))
        ]

    def restart(self) -> None:
        """Forget the source's clock: it jumped."""
        self._anchor = self._filled = self._reference = None
        self._since_anchor = 0

    # -- the output's side -------------------------------------------------------------------------

    def reserve(self, first: Sequence[Times]) -> int:
        """Return how many ticks earlier the packets have to be decoded than the source says, as far
        as its first ones show: some muxers state decode times that lie behind presentation."""
        late = max((dts - pts for pts, dts in first), default=0)
        if not first or (late <= 0 and first[0][0] != first[0][1]):
            return 0
        # Later pictures may be shown earlier than the first ones tell: as far as reordering goes.
        pts, dts = first[0]
        return max(late, dts - pts + round(self._reorder_frames * self._frame_ticks))

    def start(self, *, origin: Fraction, lead: Fraction, reserve: int) -> int:
        """Fix the shift.  Returns the lead in ticks: the decode time that is presented at 0.

        Args:
            origin: seconds, in the source's time, that become 0 of the presentation.
            lead: seconds that decoding begins before the presentation.
            reserve: source ticks, as `reserve` gave them.
        """
        lead_ticks = -int(-lead * self.timescale // 1)
        self._origin, self._lead = origin, lead
        self._shift = lead_ticks - round(origin * self.timescale)
        self._reserve = reserve
        return lead_ticks

    def succeed(self, earlier: TrackTimeline, *, hole_s: float | None) -> None:
        """Go on in the output where the track's `earlier` section ended.

        Args:
            earlier: the track's timeline in that section.
            hole_s: seconds that are missing in between on the same clock; None: the clock is new,
                and a `start` will follow.
        """
        self._placed, self._shown = earlier._placed, earlier._shown
        self.start(origin=earlier._origin, lead=earlier._lead, reserve=0)
        if hole_s is not None and earlier.position_s is not None:
            self.refer(earlier.position_s)
            self._reserve = earlier._reserve * self.source_timescale // earlier.source_timescale
            if not hole_s:  # what has no time follows the packet before
                self._anchor, self._since_anchor = self._reference, 1
            self._filled = self._reference
            self.expect_hole(hole_s)

    def place(self, times: Times) -> Times:
        """Return presentation and decode time in the output, in ticks from its start."""
        pts, dts = times[0], times[1] - self._reserve
        if self.source_timescale != self.timescale:
            pts = round(Fraction(pts * self.timescale, self.source_timescale))
            dts = round(Fraction(dts * self.timescale, self.source_timescale))
        pts += self._shift
        dts = min(dts + self._shift, pts)
        if dts <= self._placed:
            dts = self._placed + 1
        self._placed = dts
        shown = pts + self.frame_ticks
        if shown > self._shown:  # noqa: PLR1730 - a call less for every packet
            self._shown = shown
        return pts, dts

    def _output_ticks(self) -> int:
        """Return what a packet lasts whose successor is not known, in ticks of the output."""
        ticks = self._frame_ticks
        if self.source_timescale != self.timescale:
            ticks = Fraction(ticks * self.timescale, self.source_timescale)
        return max(round(ticks), 1)

    @property
    def end_s(self) -> Fraction:
        """Where the presentation of the track ends so far, in seconds from its start."""
        return Fraction(self._shown, self.timescale) - self._lead


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """One shift for all tracks."""

    origin: Fraction  # seconds in the source's time that become 0 of the presentation
    lead: Fraction  # seconds that the earliest decode time lies before it
    reserves: tuple[int, ...]  # source ticks, per track


_Firsts = Sequence[tuple[TrackTimeline, Sequence[Times]]]


def _earliest_s(timeline: TrackTimeline, first: Sequence[Times]) -> Fraction:
    return Fraction(min(pts for pts, _ in first), timeline.source_timescale)


def exact(seconds: float) -> Fraction:
    """Return seconds as a fraction of the 90 kHz clock."""
    return Fraction(round(seconds * 90000), 90000)


def align(tracks: _Firsts, *, hole_s: float = 0.0) -> Alignment:
    """Find the shift at the start, from the first packets of every track (one at least of each).

    The earliest presentation time of all tracks becomes `hole_s`.
    """
    origin = min(_earliest_s(timeline, first) for timeline, first in tracks)
    reserves = tuple(timeline.reserve(first) for timeline, first in tracks)
    decoded = min(
        Fraction(first[0][1] - reserve, timeline.source_timescale)
        for (timeline, first), reserve in zip(tracks, reserves, strict=True)
    )
    origin -= exact(hole_s)
    return Alignment(origin=origin, lead=max(origin - decoded, Fraction(0)), reserves=reserves)


def align_after(tracks: _Firsts, *, lead: Fraction, hole_s: float = 0.0) -> Alignment:
    """Find the shift where the clock starts anew: the smallest with which no track overlaps."""
    origin = min(_earliest_s(timeline, first) - timeline.end_s for timeline, first in tracks)
    reserves = tuple(timeline.reserve(first) for timeline, first in tracks)
    return Alignment(origin=origin - exact(hole_s), lead=lead, reserves=reserves)
