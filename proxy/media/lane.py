"""A lane: one track of the output, and whatever track of the source runs in it at the moment.

At every section the source's track is another one, with a codec path and a timeline of its own; the
lane is what stays.  Feeding it packets gives samples with their times, in the source's clock.
Runs on the worker thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from proxy.errors import CorruptMedia, SpliceIncompatible
from proxy.media.bitstream import path_for
from proxy.media.demux import Packet, SourceTrack
from proxy.media.fragment import Fragmenter
from proxy.media.path import Path, Sample
from proxy.media.section import Section
from proxy.media.timeline import TimelineJumped, Times, TrackTimeline, nearest

if TYPE_CHECKING:
    from proxy.media.transport import Frames

_CLOCK_HZ = 90000
_CLOCK_MODULUS = 1 << 33  # ISO/IEC 13818-1 section 2.4.3.6

# Tracks of one source are muxed no further apart than this.
TOGETHER_S = 10

# Formats whose packets carry times; those of packed audio are counted from 0 in each section.
_CLOCKED = frozenset({"mpegts", "mp4"})

# Ticks per second that are kept as they are.  Raw audio comes at 28,224,000 Hz, a common multiple
# of all sample rates, which is none of the source's; its sample rate says as much.
_FINEST_TIMESCALE = 1_000_000

# Packets without any time that are kept until one has it; a source that never states one is dated
# from its start then.  A PES packet holds fewer frames.
_UNDATED_PACKETS = 64


# What a duration and a composition offset of a sample can hold (ISO/IEC 14496-12 section 8.8.8): a
# bit less than seven hours at 90 kHz.
_LONGEST_TICKS = 1 << 31


def _nowhere() -> None:
    return None


def _path_of(track: SourceTrack) -> Path:
    return path_for(track.codec, track.config, track.size, prefixed=track.prefixed)


@dataclass(slots=True)
class Held:
    """A sample with its times in the source's clock."""

    times: Times
    parts: Sequence[bytes | memoryview]
    size: int
    sync: bool
    timeline: TrackTimeline

    @property
    def decode_s(self) -> float:
        return self.times[1] / self.timeline.source_timescale

    @property
    def present_s(self) -> Fraction:
        return Fraction(self.times[0], self.timeline.source_timescale)


class Lane:
    """One track of the output."""

    def __init__(self, track: SourceTrack) -> None:
        self.kind: Literal["video", "audio"] = track.kind
        self.timescale = track.timescale
        self.language = track.language
        self.index = -1  # its place in the output; -1: it has none
        self.end_ticks: int | None = None  # presentation times from here on are left out
        self.ended = False  # whether nothing before that can follow
        self.waits = True  # whether its samples are held until the shift is known
        self.held: list[Held] = []
        self.held_bytes = 0
        self.fragmenter: Fragmenter | None = None  # where its samples go, once it has a place
        self._placed_ticks = 0  # the last decode time in the output
        self.flows = False  # whether its samples go there at once
        self.copied = 0  # packets
        self.barren = 0  # packets since the last one of which something came
        self.epoch = 0  # how many shifts of the output it has followed
        self.others_s: Callable[[], float | None] = _nowhere  # how far they have been read
        self.near_s: float | None = None  # where the other tracks of its clock are
        self.path = _path_of(track)
        self._track = track
        self._section = Section()
        self._clock: int | None = None  # of the section, unwrapped
        self._entry_sets: Sequence[bytes] | None = None  # parameter sets of the sample entry
        self._sets_change = False  # whether a section has had other ones
        self._format: object = None  # what the sample entry says
        self._timeline: TrackTimeline | None = None
        self._earlier: TrackTimeline | None = None
        self._hole_s: float | None = None
        self._begun: Times | None = None  # times of a sample that more packets belong to
        self._undated: list[tuple[Sample, bool]] = []
        self._left_out = 0  # by the paths of earlier sections

    @property
    def left_out(self) -> int:
        """Packets that nothing can decode."""
        return self._left_out + self.path.left_out

    @property
    def packets_per_sample(self) -> int:
        return self.path.packets_per_sample

    @property
    def position_s(self) -> float | None:
        """How far it has been read, in the source's clock."""
        return None if self._timeline is None else self._timeline.position_s

    @property
    def frame_s(self) -> Fraction:
        """What a sample lasts, as far as is known."""
        timeline = self._timeline or self._earlier
        return Fraction(timeline.frame_ticks, self.timescale) if timeline else Fraction(0)

    @property
    def end_s(self) -> Fraction:
        """Where its presentation ends in the output so far."""
        timeline = self._timeline or self._earlier
        return timeline.end_s if timeline else Fraction(0)

    @property
    def half_tick_s(self) -> Fraction:
        """As far as rounding may move a sample in the output."""
        return Fraction(1, 2 * self.timescale)

    def enter(self, track: SourceTrack, section: Section, *, discontinuity: bool) -> None:
        """Begin a section.

        Raises:
            SpliceIncompatible: its codec is another one.
        """
        if track.codec != self._track.codec:
            message = f"{self._track.codec} becomes {track.codec} in mid-stream"
            raise SpliceIncompatible(message)
        self._section = section
        self.flows = False
        timeline = self._timeline
        same = track.config == self._track.config and track.timescale == self._track.timescale
        self._track = track
        if not discontinuity and same and timeline is not None and section.format in _CLOCKED:
            timeline.expect_hole(section.hole_s)
            self.path.prefixed = track.prefixed
            return
        self._earlier = timeline or self._earlier
        self._timeline = None
        self._hole_s = None if discontinuity else section.hole_s
        self._left_out += self.path.left_out
        self.path = _path_of(track)
        self.path.follows = self._entry_sets is not None
        if track.config and self._entry_sets is not None:
            self._sets_change |= self._entry_sets != self.path.parameter_sets
            if self._sets_change:  # the sample entry has others, or a section in between had
                self.path.in_band = self.path.parameter_sets
        if discontinuity:
            self.waits = self.waits or self.index >= 0

    # -- packets -----------------------------------------------------------------------------------

    @property
    def is_clocked(self) -> bool:
        """Whether its packets carry times of the source's own."""
        return self._section.format in _CLOCKED

    @property
    def begins(self) -> bool:
        """Whether its next packet is the first of a section."""
        return self._timeline is None

    def feed(self, packet: Packet) -> Sequence[Held]:
        """Take a packet.  In the middle of a track its sample goes into the output at once;
        otherwise return the samples that are complete and dated with it.

        Raises:
            SpliceIncompatible: its configuration is not that of the sample entry.
            CorruptMedia: as `place`.
        """
        sync = packet.is_keyframe
        sample = self.path.feed(memoryview(packet), keyframe=sync)
        timeline = self._timeline
        if self.flows and sample is not None and timeline is not None:
            try:
                times = timeline.fill(packet.pts, packet.dts)
            except TimelineJumped:
                pass  # once more, as one that is looked into
            else:
                self.copied += 1
                self.barren = 0
                self._place(times, *sample, sync, timeline)
                return ()
        self.flows = False
        held = self._examine(packet, sample, sync=sync)
        self.flows = (
            self.fragmenter is not None
            and not self.waits
            and not self.begins
            and self._clock is None
            and self._begun is None
            and not (self._undated or self.path.pending)
        )
        return held

    def feed_frames(self, frames: Frames) -> Sequence[Packet]:
        """Take audio frames that follow each other, in the middle of a track; return those that
        `feed` has to look into.

        Raises:
            CorruptMedia: as `place`.
        """
        timeline = self._timeline
        if not self.flows or timeline is None or not self.path.passes(frames.data):
            return frames.packets()
        data, sizes = frames.blocks()
        blocks, end = memoryview(data), 0
        pts, dts = frames.pts, frames.dts
        self.barren = 0
        for count, size in enumerate(sizes):
            try:
                times = timeline.fill(pts, dts)
            except TimelineJumped:
                return frames.packets()[count:]
            pts = dts = None
            begin, end = end, end + size
            self.copied += 1
            self._place(times, (blocks[begin:end],), size, True, timeline)  # noqa: FBT003
        return ()

    def steady_state(self) -> tuple[int, ...] | None:
        """Return what its timeline knows, where its samples need no look: see `flow`."""
        timeline = self._timeline
        if not self.flows or timeline is None or self.end_ticks is not None:
            return None
        return timeline.steady_state() if self.path.is_settled else None

    def go_on(
        self, *, frame: int, frame_denominator: int, last_step: int, placed: int, **state: int
    ) -> None:
        """Go on from where a flow has come."""
        assert self._timeline is not None
        self._placed_ticks = placed
        self._timeline.go_on(
            frame_ticks=Fraction(frame, frame_denominator),
            last_step=last_step,
            placed=placed,
            **state,
        )

    def note_copied(self, count: int) -> None:
        """So many packets were copied past it."""
        self.copied += count
        if count:
            self.barren = 0

    def _examine(self, packet: Packet, sample: Sample | None, *, sync: bool) -> Sequence[Held]:
        """Take a packet where anything may be the case; see `feed`."""
        pending = self.path.pending
        if sample is None and not pending:
            self.barren += 1
            return ()
        self.barren = 0
        timeline = self._timeline or self._begin_timeline()
        self.copied += 1
        pts, dts = packet.pts, packet.dts
        if pts is None and dts is None and not timeline.anchored:
            if sample is not None:
                self._undated.append((sample, sync))
            return self._date(None) if len(self._undated) >= _UNDATED_PACKETS else ()
        times = self._times(timeline, pts, dts)
        timeline = self._timeline or timeline
        if pending:
            self._begun = self._begun or times
            return ()
        if self._begun is not None:
            times, self._begun = self._begun, None
        assert sample is not None
        held = Held(times, *sample, sync, timeline)
        return (*self._date(times), held) if self._undated else (held,)

    def place(self, held: Held) -> None:
        """Put a sample into the output.

        Raises:
            CorruptMedia: its times are further apart than a fragment can say.
        """
        self._place(held.times, held.parts, held.size, held.sync, held.timeline)

    def _place(
        self,
        times: Times,
        parts: Sequence[bytes | memoryview],
        size: int,
        sync: bool,  # noqa: FBT001 - called for every sample
        timeline: TrackTimeline,
    ) -> None:
        assert self.fragmenter is not None
        pts, dts = timeline.place(times)
        if self.end_ticks is not None and pts >= self.end_ticks:
            self.copied -= self.packets_per_sample
            self.ended = self.ended or dts >= self.end_ticks
            return
        if (
            not -_LONGEST_TICKS < pts - dts < _LONGEST_TICKS
            or dts - self._placed_ticks >= _LONGEST_TICKS
        ):
            raise CorruptMedia(f"the times of its {self.kind} are torn apart")
        self._placed_ticks = dts
        frame_ticks = timeline.frame_ticks * self.path.packets_per_sample
        self.fragmenter.add(self.index, pts, dts, sync, parts, size, frame_ticks)

    def _begin_timeline(self) -> TrackTimeline:
        """Make the timeline, now that the path knows the format."""
        if self._format is not None and not self.path.fits(self._format):
            raise SpliceIncompatible(f"another {self.kind} configuration in mid-stream")
        source_timescale = self._track.timescale
        if self._format is None and source_timescale > _FINEST_TIMESCALE and self.path.sample_rate:
            self.timescale = self.path.sample_rate
        timeline = self._timeline = TrackTimeline(
            timescale=self.timescale,
            source_timescale=source_timescale,
            frame_ticks=self.path.frame_duration_s() * source_timescale,
            reorder_frames=self.path.reorder_frames(),
            steady=self.kind == "audio",
            modulus=_CLOCK_MODULUS if self._track.wraps else None,
        )
        if self._format is None:
            self._format = self.path.format
            self._entry_sets = self.path.parameter_sets
        if self._earlier is not None:
            timeline.succeed(self._earlier, hole_s=self._hole_s)
        if self.near_s is not None and self._hole_s is None:
            timeline.refer(self.near_s)
        self._clock = self._section_clock()
        return timeline

    def _section_clock(self) -> int | None:
        """Return the 90 kHz time at which the section begins, where its packets do not tell."""
        clock, near_s = self._section.clock, self.near_s
        if self._section.format in _CLOCKED:
            return None
        if clock is None and self._hole_s is not None and self._earlier is not None:
            followed_s = (self._earlier.position_s or 0.0) + float(self.path.frame_duration_s())
            return round((followed_s + self._hole_s) * _CLOCK_HZ)
        if clock is None or near_s is None:
            return clock
        return nearest(clock, round(near_s * _CLOCK_HZ), _CLOCK_MODULUS)

    def _times(self, timeline: TrackTimeline, pts: int | None, dts: int | None) -> Times:
        if self._clock is not None:
            ticks = round(Fraction(self._clock * self._track.timescale, _CLOCK_HZ))
            pts = None if pts is None else pts + ticks
            dts = None if dts is None else dts + ticks
        try:
            return timeline.fill(pts, dts)
        except TimelineJumped:
            if self._returns(timeline, pts if dts is None else dts):
                return timeline.fill(pts, dts)
            self._earlier, self._hole_s, self.near_s = timeline, None, None
            self.waits = self.index >= 0 or self.waits
            fresh = self._begin_timeline()
            return fresh.fill(pts, dts)

    def _returns(self, timeline: TrackTimeline, time: int | None) -> bool:
        """Whether a jump ahead only ends a pause: the track is where the others are by now."""
        others_s, position_s = self.others_s(), timeline.position_s
        if time is None or others_s is None or position_s is None:
            return False
        ahead_s = timeline.distance_s(time)
        if ahead_s < 0 or abs(position_s + ahead_s - others_s) > TOGETHER_S:
            return False
        timeline.expect_hole(ahead_s)
        return True

    def _date(self, following: Times | None) -> list[Held]:
        """Give times to the samples that came before the first one with times."""
        assert self._timeline is not None
        undated, self._undated = self._undated, []
        if following is None:
            # A section's own clock is added to what is stated; where it has none, the others tell.
            begin = round((self.near_s or 0) * self._track.timescale) if self._clock is None else 0
            times = [
                self._times(self._timeline, stated, stated)
                for stated in (begin, *(None for _ in undated[1:]))
            ]
        else:
            times = self._timeline.fill_backwards(len(undated), following)
        return [
            Held(time, *sample, sync, self._timeline)
            for time, (sample, sync) in zip(times, undated, strict=True)
        ]

    def flush(self) -> Sequence[Held]:
        """Return what the end of the section leaves incomplete or undated."""
        held = self._date(None) if self._undated else []
        sample = self.path.flush()
        if sample is not None and self._begun is not None and self._timeline is not None:
            held.append(Held(self._begun, *sample, True, self._timeline))  # noqa: FBT003
            self._begun = None
        return held

    # -- priming -----------------------------------------------------------------------------------

    def is_primed(self, begin_s: Fraction | None = None) -> bool:
        """Whether its earliest presentation time is known, and `begin_s` has been passed."""
        if not self.waits:
            return True
        if not self.held or (begin_s is not None and self.held[-1].present_s <= begin_s):
            return False
        if self.kind == "audio":
            return True
        # Pictures that are shown before the first one follow it at once; the first that is shown
        # behind it ends them.  The first fragment needs that picture anyhow.
        first = self.held[0].times[0]
        return any(held.times[0] > first for held in self.held)

    def is_idle(self, begin_s: Fraction | None = None) -> bool:
        """Whether nothing has come of it that waits: nothing at all, or nothing behind `begin_s`
        where a later beginning is wished."""
        if not self.waits:
            return True
        if begin_s is not None:
            return not self.held or self.held[-1].present_s < begin_s
        return not (self.held or self._undated or self.path.left_out)

    def span_s(self) -> float:
        """Seconds of media that are held."""
        return self.held[-1].decode_s - self.held[0].decode_s if len(self.held) > 1 else 0.0

    def hold(self, held: Held, begin_s: Fraction | None = None) -> None:
        """Keep a sample until the shift is known; where a later beginning is wished, what lies
        before the last random access point at or before it is dropped."""
        if begin_s is not None and held.sync and held.present_s <= begin_s:
            self.drop_held()
            self.path.begin_here()
        self.held.append(held)
        self.held_bytes += held.size

    def begin_at(self, begin_s: Fraction) -> None:
        """Drop what is presented before (audio, whose every frame is a beginning)."""
        kept = [held for held in self.held if held.present_s >= begin_s]
        self.copied -= (len(self.held) - len(kept)) * self.packets_per_sample
        self.held, self.held_bytes = kept, sum(held.size for held in kept)

    def split_held(self) -> list[Held]:
        """Keep the held samples that share the first one's timeline, and return those behind: the
        clock jumped before the shift was known."""
        first = self.held[0].timeline if self.held else None
        count = next((n for n, held in enumerate(self.held) if held.timeline is not first), None)
        if count is None:
            return []
        later = self.held[count:]
        del self.held[count:]
        self.held_bytes = sum(held.size for held in self.held)
        return later

    def hold_behind(self, earlier: TrackTimeline, later: list[Held]) -> None:
        """Hold what `split_held` returned, now that what came before it has been placed."""
        later[0].timeline.succeed(earlier, hole_s=None)
        self.held, self.held_bytes, self.waits = later, sum(held.size for held in later), True
        self.flows = False

    def release(self) -> list[Held]:
        """Return what was held; from now on nothing is."""
        held, self.held, self.held_bytes, self.waits = self.held, [], 0, False
        return held

    def drop_held(self) -> None:
        """Forget what was held: its section is left out."""
        self.copied -= len(self.held) * self.packets_per_sample
        self.held.clear()
        self.held_bytes = 0
        self._undated.clear()
