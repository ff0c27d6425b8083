"""The remux: packets of the source become fragments of an MP4; nothing is re-encoded.

`remux(inputs, emit)` is a plain function that blocks until the inputs end; it runs on a worker
thread, and would run as well in a process of its own.  For each section of the source:

1. A `Demuxer` opens it and chooses the tracks.
2. Priming: packets are held until every track has shown its first samples, so that the sample
   entries and the shift of the timeline are known.  A track that the source announces and that
   stays silent for 2 s of media is given up: it holds nobody up.
3. At the start, the init segment leaves; then the held packets do.
4. Every further packet is placed in time and handed to the `Fragmenter`.

A clock that jumps without a word (no EXT-X-DISCONTINUITY) leads back to step 2, track by track.
Two inputs (separate audio) are read by turns, whichever is behind.
Errors of PyAV are translated here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from functools import partial

import av

from proxy.errors import CorruptMedia, ProxyError, RemuxFailed, SpliceIncompatible
from proxy.media import libav
from proxy.media.beginning import Beginning
from proxy.media.boxes import TrackBox, init_segment
from proxy.media.demux import Frames, Packet, Packets
from proxy.media.feed import Feed
from proxy.media.fragment import FRAGMENT_BYTES, FRAGMENT_S, Fragmenter, InitSegment, Part
from proxy.media.lane import TOGETHER_S, Held, Lane
from proxy.media.nal import BitstreamError
from proxy.media.plain import Flow
from proxy.media.ring import BridgeClosed
from proxy.media.section import Input, Section
from proxy.media.timeline import Alignment, align, align_after, exact
from proxy.media.wish import Counts, Wish

SILENT_S = 2  # seconds of media after which an announced track counts as absent

# Bytes held while priming before the source is called damaged: more than two seconds of any
# stream that HLS is used for, and little enough to have it for each of many streams.
_PRIMING_BYTES = 32 * 1024 * 1024

# Packets in a row that nothing can decode before the source is called damaged: half a minute
# of pictures at 60 per second without a random access point.
_NO_START_PACKETS = 1800

# Pictures that are complete only when the next one comes: in their PES packet, and in the parser.
_UNSEEN_FRAMES = 2


class _Remux:
    """The state of one remux."""

    def __init__(
        self, feeds: Sequence[Feed], emit: Callable[[Part], None], wish: Wish, counts: Counts
    ) -> None:
        self._feeds = feeds
        self._emit = emit
        self._wish = wish
        self._counts = counts
        counts.missing_s = self._missing_s
        self._lanes: list[Lane] = []  # all tracks there have been, in the order of the output
        self._hole_s = 0.0  # missing before what is held
        self._lead = Fraction(0)
        self._origin = Fraction(0)
        self._epoch = 0  # how many shifts there have been
        self._new_clock = False  # whether a discontinuity came, and its tracks wait
        self._beginning = Beginning(wish, self._lanes)
        self._start_s = Fraction(0)  # where the output begins, from that picture on
        self._fragmenter: Fragmenter | None = None

    def run(self) -> None:
        """Remux until the inputs end."""
        for feed in self._feeds:
            feed.settle = self._settle
            feed.advance()
        while any(feed.next is not None for feed in self._feeds) and not self._has_ended():
            try:
                self._run_clock()
            except SpliceIncompatible:
                if not self._wish.skip_splices or self._fragmenter is None:
                    raise
                self._skip_clock()
        self._finish()

    def _run_clock(self) -> None:
        """Remux all sections of all inputs up to the next discontinuity."""
        self._new_clock = True
        self._pair()
        for feed in self._feeds:
            # Said before any is opened: where one of them cannot be, all of them are left out.
            feed.exhausted = feed.next is None
        for feed in self._feeds:
            if feed.next is None:
                raise SpliceIncompatible("one of two playlists has fewer discontinuities")
        # A hole in one of two is in its clock already: only what all of them miss moves the shift.
        self._hole_s = min(feed.next.hole_s for feed in self._feeds if feed.next is not None)
        self._beginning.hole_s = self._hole_s
        for feed in self._feeds:
            assert feed.next is not None
            self._enter(feed, feed.next, discontinuity=True)
        reading = [feed for feed in self._feeds if not feed.exhausted]
        while reading and not self._has_ended():
            feed = reading[0] if len(reading) == 1 else min(reading, key=self._urgency)
            packet = feed.packet()
            if packet is not None:
                self._add(feed, packet)
                continue
            for lane in feed.lanes.values():
                self._take(lane, lane.flush())
            feed.advance()
            if feed.next is None or feed.next.discontinuity:
                feed.exhausted = True
            else:
                self._enter(feed, feed.next, discontinuity=False)
            reading = [feed for feed in self._feeds if not feed.exhausted]
        while self._waiting():
            self._start()

    def _pair(self) -> None:
        """See to it that the sections that come next belong to the same discontinuity."""
        while True:
            ahead = [feed for feed in self._feeds if feed.next is not None]
            if len(ahead) < len(self._feeds) or len({feed.group() for feed in ahead}) == 1:
                return
            if not self._wish.skip_splices or self._fragmenter is None:
                raise SpliceIncompatible("two playlists with different discontinuities")
            self._counts.sections_skipped += 1
            min(ahead, key=Feed.group).skip()

    def _skip_clock(self) -> None:
        """Leave out what is left up to the next discontinuity."""
        self._counts.sections_skipped += 1
        for lane in self._lanes:
            lane.drop_held()
        for feed in self._feeds:
            feed.close()
            if not feed.exhausted:
                feed.skip()

    @staticmethod
    def _urgency(feed: Feed) -> float:
        """Read what is not primed yet first, and then what is behind."""
        if not all(lane.is_primed() for lane in feed.lanes.values()):
            return float("-inf")
        return feed.position_s()

    def _enter(self, feed: Feed, section: Section, *, discontinuity: bool) -> None:
        """Open the section of a feed and tie its tracks to the lanes of the output."""
        tracks = feed.open()
        if not tracks:
            return
        before = [lane for lane in feed.lanes.values() if lane.index >= 0]
        feed.lanes = {}
        for track in tracks:
            lane = next((lane for lane in self._lanes if lane.kind == track.kind), None)
            if lane is None:
                if self._fragmenter is not None:
                    raise SpliceIncompatible(f"{track.kind} appears in mid-stream")
                lane = Lane(track)
                lane.others_s = partial(self._others_s, lane)
                self._lanes.append(lane)
            lane.enter(track, section, discontinuity=discontinuity)
            if discontinuity:
                lane.epoch = self._epoch
            feed.lanes[track.index] = lane
        if discontinuity and self._fragmenter is not None:
            self._check_vanished()
        for lane in () if discontinuity else before:
            if lane not in feed.lanes.values():
                raise SpliceIncompatible(f"{lane.kind} vanishes in mid-stream")

    def _check_vanished(self) -> None:
        present = {id(lane) for feed in self._feeds for lane in feed.lanes.values()}
        if all(feed.lanes for feed in self._feeds):
            for lane in self._lanes:
                if lane.index >= 0 and id(lane) not in present:
                    raise SpliceIncompatible(f"{lane.kind} vanishes in mid-stream")

    # -- packets -----------------------------------------------------------------------------------

    def _add(self, feed: Feed, packet: Packets) -> None:
        if isinstance(packet, Frames):
            for frame in feed.lanes[packet.stream_index].feed_frames(packet):
                self._add(feed, frame)
            return
        lane = feed.lanes.get(packet.stream_index)
        if lane is None:
            left_out = self._counts.left_out
            left_out["other_streams"] = left_out.get("other_streams", 0) + 1
            return
        if lane.begins:
            lane.near_s = self._near_s(lane)
        if self._wish.start_s is not None and packet.pts is not None:
            self._beginning.note(lane, packet.pts, packet.time_base)
        held = lane.feed(packet)
        if held:
            self._take(lane, held)
        elif lane.barren:
            self._look_for_start(lane, packet)

    def _settle(self) -> Flow | None:
        """Return a flow that takes all further packets, where nothing has to be looked into."""
        fragmenter, lanes = self._fragmenter, [lane for lane in self._lanes if lane.index >= 0]
        if fragmenter is None or len(self._feeds) > 1 or self._hole_s or self._new_clock:
            return None
        if {id(lane) for lane in self._feeds[0].lanes.values()} != {id(lane) for lane in lanes}:
            return None
        lanes.sort(key=lambda lane: lane.index)
        if any(lane.steady_state() is None for lane in lanes):
            return None
        if fragmenter.steady_state() is None:
            return None
        return Flow(fragmenter, lanes, target_s=FRAGMENT_S, most_bytes=FRAGMENT_BYTES)

    def _look_for_start(self, lane: Lane, packet: Packet) -> None:
        """Give up where nothing can begin, or go on: a picture was left out."""
        if self._wish.insists and packet.pts is not None:
            self._beginning.check_passed(lane, packet.pts * packet.time_base)
        if lane.barren >= _NO_START_PACKETS:
            self._beginning.check_missed()
            raise CorruptMedia(f"no random access point in {lane.barren} packets")

    def _near_s(self, begins: Lane) -> float | None:
        """Where the other tracks are on the same clock: it wraps, and may have done so between."""
        lanes = (lane for feed in self._feeds for lane in feed.lanes.values())
        positions = (lane.position_s for lane in lanes if lane is not begins)
        return next((position for position in positions if position is not None), None)

    def _others_s(self, jumps: Lane) -> float | None:
        """How far the other tracks have been read, on the clock that this one has followed."""
        positions = [
            lane.position_s
            for feed in self._feeds
            for lane in feed.lanes.values()
            if lane is not jumps and lane.epoch == jumps.epoch and not lane.waits
        ]
        return max((p for p in positions if p is not None), default=None)

    def _take(self, lane: Lane, samples: Sequence[Held]) -> None:
        for held in samples:
            if not lane.waits:
                if lane.index >= 0:
                    lane.place(held)
                else:
                    left_out = self._counts.left_out
                    left_out["silent_track"] = left_out.get("silent_track", 0) + 1
            elif lane.epoch < self._epoch and self._follows(lane, held):
                self._follow(lane, held)
            else:
                lane.hold(held, self._beginning.begin_s(lane, held))
                if self._is_primed():
                    self._start()

    def _follows(self, lane: Lane, held: Held) -> bool:
        """Whether the jump of a track is the one that others have made: with their shift, it goes
        on near to where all of them are."""
        lane.epoch = self._epoch
        ends_s = [other.end_s for other in self._lanes if other.index >= 0]
        shown_s = held.present_s - self._origin
        return (
            not lane.held
            and bool(ends_s)
            and min(ends_s) - TOGETHER_S <= shown_s <= max(ends_s) + TOGETHER_S
        )

    def _follow(self, lane: Lane, held: Held) -> None:
        """The clock jumped for this track too: it moves as the others did."""
        reserve = held.timeline.reserve([held.times])
        held.timeline.start(origin=self._origin, lead=self._lead, reserve=reserve)
        lane.release()
        lane.place(held)

    def _has_ended(self) -> bool:
        """Whether all tracks have passed the wished end."""
        if self._wish.end_s is None or self._fragmenter is None:
            return False
        return all(lane.ended for lane in self._lanes if lane.index >= 0)

    def _missing_s(self, position: int) -> float:
        """Say how many seconds are missing up to the wished end; see `Counts`."""
        if self._wish.end_s is None:
            return 0.0
        begun = self._fragmenter is not None
        lanes = [
            lane for lane in self._feeds[position].lanes.values() if lane.index >= 0 or not begun
        ]
        lane = next((lane for lane in lanes if lane.kind == "video"), lanes[0] if lanes else None)
        if lane is None or not (begun or lane.held):
            return math.inf
        held = [one.present_s for one in lane.held]
        reached_s = max(held) - min(held) + lane.frame_s if held else Fraction(0)
        if begun:
            reached_s += self._start_s + lane.end_s
        elif self._beginning.zero_s is not None:
            reached_s += min(held) - self._beginning.zero_s
        return self._wish.end_s - float(reached_s + _UNSEEN_FRAMES * lane.frame_s)

    # -- priming -----------------------------------------------------------------------------------

    def _waiting(self) -> list[Lane]:
        return [lane for lane in self._lanes if lane.waits and lane.held]

    def _is_primed(self) -> bool:
        present = [lane for feed in self._feeds for lane in feed.lanes.values()]
        needed = [lane for lane in present if lane.index >= 0 or self._fragmenter is None]
        unprimed = [
            lane
            for lane in needed
            if not (lane.waits and lane.is_primed(self._beginning.passes_s(lane)))
        ]
        if not unprimed and all(feed.lanes for feed in self._feeds):
            return True
        if sum(lane.held_bytes for lane in self._lanes) > _PRIMING_BYTES:
            raise CorruptMedia(f"nothing could begin within {_PRIMING_BYTES} bytes")
        waiting = [
            lane for lane in present if lane.waits and self._beginning.follow_s(lane) is None
        ]
        waited_s = max((lane.span_s() for lane in waiting), default=0.0)
        return waited_s >= SILENT_S and all(
            lane.is_idle(self._beginning.follow_s(lane)) for lane in unprimed
        )

    def _start(self) -> None:
        """Fix the shift and send what was held."""
        waiting = self._waiting()
        later = [(lane, lane.held[0].timeline, lane.split_held()) for lane in waiting]
        if self._fragmenter is None:
            self._begin(waiting)
        elif waiting:
            if self._new_clock and len(waiting) < sum(lane.index >= 0 for lane in self._lanes):
                raise SpliceIncompatible("a track stays silent behind a discontinuity")
            alignment = align_after(
                [(lane.held[0].timeline, [held.times for held in lane.held]) for lane in waiting],
                lead=self._lead,
                hole_s=self._hole_s,
            )
            self._origin = alignment.origin
            for lane, reserve in zip(waiting, alignment.reserves, strict=True):
                lane.held[0].timeline.start(
                    origin=alignment.origin, lead=alignment.lead, reserve=reserve
                )
        self._epoch += 1
        self._new_clock = False
        self._hole_s = 0.0
        for lane in waiting:
            lane.epoch = self._epoch
        released = [(lane, held) for lane in waiting for held in lane.release()]
        released.sort(key=lambda pair: pair[1].decode_s)  # stable: each track keeps its order
        for lane, held in released:
            lane.place(held)
        for lane, timeline, jumped in later:
            if jumped and lane.index >= 0:
                lane.hold_behind(timeline, jumped)

    def _begin(self, present: Sequence[Lane]) -> None:
        """Send the init segment."""
        if not present:
            self._beginning.check_missed()
            raise CorruptMedia("no packet of any track can be decoded")
        if any(lane.kind == "video" and lane.left_out and not lane.held for lane in self._lanes):
            self._beginning.check_missed()
            raise CorruptMedia("none of its pictures can be decoded")  # sound alone is not it
        start_s = self._start_s = self._beginning.cut(present)
        self._beginning.check_missed(start_s)
        present = [lane for lane in present if lane.held]
        alignment = self._aligned(present)
        if self._wish.end_s is not None:  # what begins behind the end has nothing to show
            end_s = alignment.origin + exact(self._wish.end_s) - start_s
            for lane in present:
                if all(held.present_s >= end_s - lane.half_tick_s for held in lane.held):
                    lane.drop_held()
            present = [lane for lane in present if lane.held]
            if not present:
                raise CorruptMedia("nothing begins before the wished end")
            alignment = self._aligned(present)
        self._lead = alignment.lead
        duration_s = self._wish.duration_s
        if duration_s is not None:
            duration_s = max(duration_s - float(start_s), 0.0)
        begins_s = [min(held.present_s for held in lane.held) for lane in present]
        boxes = []
        for index, lane in enumerate(present):
            lane.index = index
            lasts_s = (duration_s or 0) - float(begins_s[index] - min(begins_s))
            media_start = lane.held[0].timeline.start(
                origin=alignment.origin, lead=alignment.lead, reserve=alignment.reserves[index]
            )
            if self._wish.end_s is not None:
                end_s = exact(self._wish.end_s) - start_s
                lane.end_ticks = media_start + round(end_s * lane.timescale)
            boxes.append(
                TrackBox(
                    track_id=index + 1,
                    timescale=lane.timescale,
                    sample_entry=lane.path.sample_entry(),
                    media_start=media_start,
                    duration=max(round(lasts_s * lane.timescale), 0),
                    language=lane.language,
                    picture=lane.path.picture,
                )
            )
        for lane in self._lanes:
            if lane.index < 0:  # silent: it is left out from now on
                lane.waits = False
                self._counts.left_out["silent_track"] = 0
        codecs = ",".join(lane.path.rfc6381 for lane in present)
        self._emit(
            InitSegment(
                data=init_segment(boxes),
                codecs=codecs,
                duration_s=duration_s,
                start_s=float(start_s),
            )
        )
        self._fragmenter = Fragmenter(
            [(lane.index + 1, lane.timescale, lane.kind == "video") for lane in present],
            self._emit,
        )
        for lane in present:
            lane.fragmenter = self._fragmenter
        self._beginning.decided = True

    def _aligned(self, present: Sequence[Lane]) -> Alignment:
        """Find the shift at the start.  A hole is kept but where a later beginning is wished: time
        starts at 0 with the first picture then."""
        return align(
            [(lane.held[0].timeline, [held.times for held in lane.held]) for lane in present],
            hole_s=self._hole_s if self._wish.start_s is None else 0.0,
        )

    def _finish(self) -> None:
        if self._fragmenter is None:
            self._beginning.check_missed()
            raise CorruptMedia("no packet of any track can be decoded")
        self._fragmenter.finish()

    def count(self) -> None:
        """Sum up."""
        for lane in self._lanes:
            if lane.index >= 0:
                self._counts.packets[lane.kind] = lane.copied
            if lane.left_out:
                self._counts.left_out[f"undecodable_{lane.kind}"] = lane.left_out
        incomplete = sum(feed.incomplete for feed in self._feeds)
        if incomplete:
            self._counts.left_out["broken_off"] = incomplete


@contextmanager
def _translated() -> Iterator[None]:
    """The door: what PyAV and damaged bytes raise becomes an error of ours, with what libav said
    about it last."""
    libav.forget()
    try:
        yield
    except CorruptMedia as error:
        if type(error) is not CorruptMedia or libav.last_words() is None:
            raise
        raise CorruptMedia(_told(str(error)), detail=error.detail) from error
    except (ProxyError, BridgeClosed):
        raise
    except av.FFmpegError as error:
        # Not its own text: the last line of the log in that may be of another thread.
        raise CorruptMedia(_told(f"{type(error).__name__}: {error.strerror}")) from error
    except BitstreamError as error:
        raise CorruptMedia(_told(f"{type(error).__name__}: {error}")) from error
    except Exception as error:
        raise RemuxFailed(f"{type(error).__name__}: {error}") from error


def _told(reason: str) -> str:
    words = libav.last_words()
    return reason if words is None else f"{reason}; {words}"


def remux(
    inputs: Sequence[Input],
    emit: Callable[[Part], None],
    wish: Wish | None = None,
    counts: Counts | None = None,
) -> None:
    """Remux one or two sources into a fragmented MP4.

    Args:
        inputs: one; or two, of which the first has the video and the second the audio.
        emit: called with one InitSegment and then with Fragments; may block.
        wish: which tracks.
        counts: filled in, also when this raises.

    Raises:
        StartMissed: nothing begins at or before the start, and the wish insists.
        UnsupportedCodec: players of MP4 do not take what it holds.
        CorruptMedia: it is no media, or nothing in it can be decoded.
        SpliceIncompatible: it changes in mid-stream in a way that one sample entry cannot tell.
        RemuxFailed: our own fault.
        Whatever the inputs and `emit` raise, as far as it is of our family.
    """
    wish = wish or Wish()
    counts = counts or Counts()
    apart = len(inputs) > 1
    feeds = [
        Feed(
            source,
            video=wish.video and position == 0,
            audio=not apart or position == 1,
            language=wish.language,
        )
        for position, source in enumerate(inputs)
    ]
    state = _Remux(feeds, emit, wish, counts)
    with _translated(), ExitStack() as stack:
        stack.callback(state.count)
        for feed in feeds:
            stack.callback(feed.close)
        state.run()
