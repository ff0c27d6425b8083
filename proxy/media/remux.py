"""The remux: packets of a transport stream become fragments of an MP4; nothing is re-encoded.

`remux(source, emit)` is a plain function that blocks until the source ends; it runs on a worker
thread, and would run as well in a process of its own.  In four steps:

1. `Demuxer` opens the source and chooses the tracks.
2. Priming: packets are held until every track has shown its first sample, so that the sample
   entries and the one shift of the timeline are known.  A track that the source announces and that
   stays silent for 2 s of media is given up: it holds nobody up.
3. The init segment leaves, and the held packets with it.
4. Every further packet is placed in time and handed to the `Fragmenter`.

Errors of PyAV are translated here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av

from proxy.errors import CorruptMedia, ProxyError, RemuxFailed
from proxy.media.bitstream import Sample, path_for
from proxy.media.boxes import TrackBox, init_segment
from proxy.media.demux import Demuxer, Readable, SourceTrack
from proxy.media.fragment import Fragmenter, InitSegment, Part
from proxy.media.nal import BitstreamError
from proxy.media.ring import BridgeClosed
from proxy.media.timeline import TimelineJumped, Times, TrackTimeline, align

SILENT_S = 2  # seconds of media after which an announced track counts as absent

# Bytes held while priming before the source is called damaged: more than two seconds of any
# stream that HLS is used for, and little enough to have it for each of many streams.
_PRIMING_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the client wants of the source."""

    video: bool = True  # False: audio alone
    language: str | None = None  # of the audio track
    duration_s: float | None = None  # of the whole presentation, where it is known


@dataclass(slots=True, kw_only=True)
class Counts:
    """What became of the packets; filled in as the remux goes on."""

    packets: dict[str, int] = field(default_factory=dict)  # by kind: those that were copied
    left_out: dict[str, int] = field(default_factory=dict)  # by reason


# Packets that nothing can decode at the start before the source is called damaged: half a minute
# of pictures at 60 per second without a random access point.
_NO_START_PACKETS = 1800


class _Track:
    """One track on its way from the source to the output."""

    def __init__(self, source: SourceTrack) -> None:
        self.source = source
        self.path = path_for(source.codec)
        self.timeline: TrackTimeline | None = None  # known when the path is ready
        self.held: list[_Held] = []  # samples that wait for the end of priming
        self.index = -1  # its place in the output, once it has one
        self.copied = 0
        self._begun: Times | None = None  # times of a sample that more packets belong to

    @property
    def is_video(self) -> bool:
        return self.source.kind == "video"

    def feed(self, packet: av.Packet[Any]) -> _Held | None:
        """Take a packet; return the sample that it completes, or None."""
        sync = packet.is_keyframe
        sample = self.path.feed(memoryview(packet), keyframe=sync)
        if sample is None and not self.path.pending:
            return None
        times = self._times(packet.pts, packet.dts)
        self.copied += 1
        if self.path.pending:
            self._begun = self._begun or times
            return None
        if self._begun is not None:
            times, self._begun = self._begun, None
        assert sample is not None
        return times, sample, sync

    def flush(self) -> _Held | None:
        """Return a sample that the end of the source leaves incomplete."""
        sample = self.path.flush()
        return None if sample is None else (self._begun, sample, True)

    def _times(self, pts: int | None, dts: int | None) -> Times | None:
        """Return the packet's times, or None while the source has not stated any yet."""
        if self.timeline is None:
            self.timeline = TrackTimeline(
                timescale=self.source.timescale,
                frame_ticks=self.path.frame_duration_s() * self.source.timescale,
                reorder_frames=self.path.reorder_frames(),
                steady=not self.is_video,
            )
        if pts is None and dts is None and not self.timeline.anchored:
            return None
        return self.timeline.fill(pts, dts)

    def hold(self, held: _Held) -> None:
        """Keep a sample during priming, and date those before the first one with times."""
        self.held.append(held)
        times = held[0]
        unknown = len(self.held) - 1
        if times is not None and unknown and self.held[unknown - 1][0] is None:
            assert self.timeline is not None
            earlier = self.timeline.fill_backwards(unknown, times)
            self.held[:unknown] = [
                (found, sample, sync)
                for found, (_, sample, sync) in zip(earlier, self.held, strict=False)
            ]

    def is_primed(self) -> bool:
        """Whether its first sample and its earliest presentation time are known."""
        if not self.held or self.held[0][0] is None:
            return False
        if not self.is_video:
            return True
        # Pictures that are shown before the first one follow it at once; the first that is shown
        # behind it ends them.  The first fragment needs that picture anyhow.
        first = self.held[0][0][0]
        return any(times is not None and times[0] > first for times, _, _ in self.held)

    def span_s(self) -> float:
        """Seconds of media that are held."""
        if len(self.held) < 2 or self.held[0][0] is None or self.held[-1][0] is None:
            return 0.0
        return (self.held[-1][0][1] - self.held[0][0][1]) / self.source.timescale

    def first_times(self) -> list[Times]:
        return [times for times, _, _ in self.held if times is not None]


_Held = tuple[Times | None, Sample, bool]  # times, bytes, whether it is a sync sample


class _Remux:
    """The state of one remux."""

    def __init__(
        self, tracks: list[_Track], emit: Callable[[Part], None], wish: Wish, counts: Counts
    ) -> None:
        self._tracks = tracks
        self._emit = emit
        self._wish = wish
        self._counts = counts
        self._held_bytes = 0
        self._fragmenter: Fragmenter | None = None

    def add(self, track: _Track, packet: av.Packet[Any]) -> None:
        """Take a packet of a track."""
        held = track.feed(packet)
        if held is None:
            if self._fragmenter is None and track.path.left_out >= _NO_START_PACKETS:
                raise CorruptMedia(f"no random access point in {track.path.left_out} packets")
        elif self._fragmenter is None:
            track.hold(held)
            self._held_bytes += held[1][1]
            if self._is_primed():
                self._start()
        elif track.index >= 0:
            self._place(track, held)
        else:
            self._counts.left_out["silent_track"] += 1

    # -- priming -----------------------------------------------------------------------------------

    def _is_primed(self) -> bool:
        waiting = [track for track in self._tracks if not track.is_primed()]
        if not waiting:
            return True
        if self._held_bytes > _PRIMING_BYTES:
            raise CorruptMedia(f"nothing could begin within {_PRIMING_BYTES} bytes")
        waited_s = max(track.span_s() for track in self._tracks)
        return waited_s >= SILENT_S and all(
            not track.held and not track.path.left_out for track in waiting
        )

    def _start(self) -> None:
        """Send the init segment and what was held."""
        present = [track for track in self._tracks if track.held]
        silent = [track for track in self._tracks if not track.held]
        if not present:
            raise CorruptMedia("no packet of any track can be decoded")
        if silent:
            self._counts.left_out["silent_track"] = 0
        for track in present:
            self._date_undated(track)
        alignment = align([(_timeline(track), track.first_times()) for track in present])
        boxes = []
        for index, track in enumerate(present):
            track.index = index
            timescale = track.source.timescale
            lead = _timeline(track).start(
                origin=alignment.origin, lead=alignment.lead, reserve=alignment.reserves[index]
            )
            box = TrackBox(
                track_id=index + 1,
                timescale=timescale,
                sample_entry=track.path.sample_entry(),
                media_start=lead,
                duration=round((self._wish.duration_s or 0) * timescale),
                language=track.source.language,
                picture=track.path.picture,
            )
            boxes.append(box)
        codecs = ",".join(track.path.rfc6381 for track in present)
        self._emit(InitSegment(data=init_segment(boxes), codecs=codecs))
        self._fragmenter = Fragmenter(
            [(track.index + 1, track.source.timescale, track.is_video) for track in present],
            self._emit,
        )
        held = [(track, sample) for track in present for sample in track.held]
        for track in present:
            track.held = []
        held.sort(key=lambda pair: _decode_time_s(*pair))  # stable: each track keeps its order
        for track, sample in held:
            self._place(track, sample)

    def _date_undated(self, track: _Track) -> None:
        """A track whose packets never state a time begins with the others."""
        if track.held[0][0] is not None:
            return
        starts = [
            Fraction(times[0], other.source.timescale)
            for other in self._tracks
            for times in other.first_times()[:1]
        ]
        begin = round(min(starts, default=Fraction(0)) * track.source.timescale)
        timeline = _timeline(track)
        track.held = [
            (timeline.fill(*((begin, begin) if position == 0 else (None, None))), sample, sync)
            for position, (_, sample, sync) in enumerate(track.held)
        ]

    # -- streaming ---------------------------------------------------------------------------------

    def _place(self, track: _Track, held: _Held) -> None:
        times, (parts, size), sync = held
        assert self._fragmenter is not None
        assert times is not None
        timeline = _timeline(track)
        pts, dts = timeline.place(times)
        self._fragmenter.add(
            track.index,
            pts,
            dts,
            sync=sync,
            parts=parts,
            size=size,
            frame_ticks=timeline.frame_ticks * track.path.packets_per_sample,
        )

    def finish(self) -> None:
        """Send what is left: the source has ended."""
        for track in self._tracks:
            rest = track.flush()
            if rest is None:
                continue
            if self._fragmenter is None:
                track.hold(rest)
            elif track.index >= 0:
                self._place(track, rest)
        if self._fragmenter is None:
            self._start()
        assert self._fragmenter is not None
        self._fragmenter.finish()

    def count(self) -> None:
        """Sum up."""
        for track in self._tracks:
            if track.index >= 0:
                self._counts.packets[track.source.kind] = track.copied
            if track.path.left_out:
                self._counts.left_out[f"undecodable_{track.source.kind}"] = track.path.left_out


def _timeline(track: _Track) -> TrackTimeline:
    assert track.timeline is not None
    return track.timeline


def _decode_time_s(track: _Track, held: _Held) -> float:
    assert held[0] is not None
    return held[0][1] / track.source.timescale


@contextmanager
def _translated() -> Iterator[None]:
    """The door: what PyAV and damaged bytes raise becomes an error of ours."""
    try:
        yield
    except (ProxyError, BridgeClosed):
        raise
    except (av.FFmpegError, BitstreamError, TimelineJumped) as error:
        raise CorruptMedia(f"{type(error).__name__}: {error}") from error
    except Exception as error:
        raise RemuxFailed(f"{type(error).__name__}: {error}") from error


def remux(
    source: Readable,
    emit: Callable[[Part], None],
    wish: Wish | None = None,
    counts: Counts | None = None,
) -> None:
    """Remux a transport stream into a fragmented MP4.

    Args:
        source: file-like object with the transport stream; read to its end.
        emit: called with one InitSegment and then with Fragments; may block.
        wish: which tracks.
        counts: filled in, also when this raises.

    Raises:
        UnsupportedCodec: players of MP4 do not take what it holds.
        CorruptMedia: it is no transport stream, or nothing in it can be decoded.
        SpliceIncompatible: it changes in mid-stream in a way that one sample entry cannot tell.
        RemuxFailed: our own fault.
        Whatever `source.read` and `emit` raise, as far as it is of our family.
    """
    wish = wish or Wish()
    counts = counts or Counts()
    with _translated(), Demuxer(source, video=wish.video, language=wish.language) as demuxer:
        tracks = {track.index: _Track(track) for track in demuxer.tracks}
        state = _Remux(list(tracks.values()), emit, wish, counts)
        others = 0
        try:
            for packet in demuxer.packets():
                track = tracks.get(packet.stream_index)
                if track is None:
                    others += 1
                else:
                    state.add(track, packet)
            state.finish()
        finally:
            if others:
                counts.left_out["other_streams"] = others
            state.count()
