"""Fragments: where the output is cut, and the pieces it is cut into.

`Fragmenter` takes placed samples of all tracks and emits an `InitSegment` and `Fragment`s, each a
whole number of top-level boxes.  Rules of this file:
1. Every GOP starts a fragment: a video sync sample is always the first video sample of its own.
2. The first fragment leaves as soon as every track has a sample and the first picture's duration
   is known, or else a GOP is complete; the following ones grow: a player that has begun wants less
   overhead, not less delay.
3. The duration of a sample is the distance to its successor.  One whose successor is not known yet
   waits for the next fragment, so that no duration is a guess (but the last one's): a guess that
   is a tick too long makes samples overlap.
Runs on the worker thread; knows no media library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from proxy.media.boxes import TrackRun, movie_fragment

# Seconds of media per fragment, from the second one on; the last value stays.  A fragment is what a
# client at its own pace has waiting for it, so its length is memory: 50 streams of 4 Mbit/s took
# 1.9 MB each with 0.5, and 1.5 with 0.4, at the same CPU.
FRAGMENT_S = 0.4
_GROWTH_S = (0.1, 0.2, 0.3, FRAGMENT_S)

# Bytes of samples after which a fragment ends whatever its duration: at 10 Mbit/s 0.4 s, and the
# most that a stream of high bitrate holds back at a time.
FRAGMENT_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class InitSegment:
    """`ftyp` and `moov`: the first part of the output."""

    data: bytes = field(repr=False)
    codecs: str  # RFC 6381, as for the MIME parameter
    duration_s: float | None = None  # of the presentation, where it is known
    start_s: float = 0.0  # where in the source it begins, from the source's first picture


@dataclass(slots=True, kw_only=True)
class Fragment:
    """`moof` and `mdat`."""

    data: bytes = field(repr=False)
    sequence: int
    duration_s: float  # of the leading track
    starts_with_keyframe: bool

    def take(self) -> bytes:
        """Give its bytes away, once, to whoever it was emitted to; who made it, and may be waiting
        in `emit`, keeps none of them."""
        data, self.data = self.data, b""
        return data


Part = InitSegment | Fragment


# Decode time, composition offset, size, whether decoding can start there, bytes.
_Sample = tuple[int, int, int, bool, Sequence[bytes | memoryview]]


class _Track:
    """The samples of one track that have not left yet."""

    __slots__ = ("frame_ticks", "samples", "timescale", "track_id", "video")

    def __init__(self, track_id: int, timescale: int, *, video: bool) -> None:
        self.track_id = track_id
        self.timescale = timescale
        self.video = video
        self.frame_ticks = 1
        self.samples: list[_Sample] = []

    def take(
        self, *, following: int | None
    ) -> tuple[TrackRun, Sequence[Sequence[bytes | memoryview]]] | None:
        """Return the samples whose durations are known, and keep the rest; None: there are none."""
        taken = self.samples
        if following is None:
            self.samples = taken[-1:]
        else:
            self.samples = []
        times = [sample[0] for sample in taken]
        durations = [later - earlier for earlier, later in pairwise(times)]
        if following is None:
            taken = taken[:-1]
        else:
            durations.append(following - times[-1])
        if not taken:
            return None
        _, offsets, sizes, sync, parts = zip(*taken, strict=True)
        run = TrackRun(
            track_id=self.track_id,
            decode_time=times[0],
            durations=durations,
            sizes=sizes,
            sync=sync if self.video else None,
            offsets=offsets if self.video else None,
        )
        return run, parts


class Fragmenter:
    """Collects samples and emits fragments.

    Args:
        tracks: (track ID, timescale, whether it is video) of each track, in the order in which
            `add` counts them; the first video track leads, or else the first one.
        emit: called with each Fragment.
    """

    def __init__(
        self, tracks: Iterable[tuple[int, int, bool]], emit: Callable[[Fragment], None]
    ) -> None:
        self._tracks = [_Track(track_id, scale, video=video) for track_id, scale, video in tracks]
        self._leader = next((track for track in self._tracks if track.video), self._tracks[0])
        self._emit = emit
        self._sequence = 0
        self._bytes = 0
        self._started = False
        self._set_target(0.0)

    def _set_target(self, seconds: float) -> None:
        self._target = [round(seconds * track.timescale) for track in self._tracks]

    def add(  # noqa: PLR0917 - called for every sample
        self,
        index: int,
        pts: int,
        dts: int,
        sync: bool,  # noqa: FBT001
        parts: Sequence[bytes | memoryview],
        size: int,
        frame_ticks: int,
    ) -> None:
        """Add the next sample of a track, in decode order.

        Args:
            index: which track.
            pts: presentation time, in ticks of the track.
            dts: decode time, in ticks of the track, greater than the one before.
            sync: whether decoding can start here.
            parts: its bytes, in pieces; kept until the fragment leaves.
            size: how many bytes that are.
            frame_ticks: what it lasts, should no other follow.
        """
        track = self._tracks[index]
        if (
            track.samples
            # Spares nearly all of them a closer look.
            and (
                dts - track.samples[0][0] >= self._target[index]
                or self._bytes >= FRAGMENT_BYTES
                or (sync and track.video)
            )
            and self._is_full(track, index, dts, sync=sync)
        ):
            self._cut(track, dts)
        track.samples.append((dts, pts - dts, size, sync, parts))
        track.frame_ticks = frame_ticks
        self._bytes += size

    def _is_full(self, track: _Track, index: int, dts: int, *, sync: bool) -> bool:
        leads = track is self._leader
        if leads and track.video and sync:
            return True
        if not self._started:
            return leads and all(other.samples for other in self._tracks)
        lasting = dts - track.samples[0][0]
        if leads:
            return lasting >= self._target[index] or self._bytes >= FRAGMENT_BYTES
        # Another track does not wait for a leader that pauses: twice the target is enough.
        return lasting >= 2 * self._target[index] + track.timescale // 2 or (
            self._bytes >= 2 * FRAGMENT_BYTES
        )

    def _cut(self, arriving: _Track | None, dts: int) -> None:
        """Emit what is complete; `dts` is the decode time of the sample that arrives."""
        runs: list[TrackRun] = []
        payload: list[bytes | memoryview] = []
        leading_s, keyframe = 0.0, False
        for track in self._tracks:
            if not track.samples:
                continue
            following = dts if track is arriving else None
            if arriving is None:
                following = track.samples[-1][0] + track.frame_ticks
            taken = track.take(following=following)
            if taken is None:
                continue
            run, samples = taken
            if track is self._leader:
                leading_s = sum(run.durations) / track.timescale
                keyframe = run.sync is None or run.sync[0]
            runs.append(run)
            for sample in samples:
                payload.extend(sample)
        if not runs:
            return
        self._sequence += 1
        self._bytes = sum(sample[2] for track in self._tracks for sample in track.samples)
        self._started = True
        self._set_target(_GROWTH_S[min(self._sequence - 1, len(_GROWTH_S) - 1)])
        fragment = Fragment(
            data=b"".join((movie_fragment(self._sequence, runs), *payload)),
            sequence=self._sequence,
            duration_s=leading_s,
            starts_with_keyframe=keyframe,
        )
        # The packets go before `emit` waits for a slow client.
        payload.clear()
        samples = []
        self._emit(fragment)

    # -- for a flow --------------------------------------------------------------------------------

    def steady_state(
        self,
    ) -> tuple[int, list[tuple[int, int, bool, list[_Sample]]], int] | None:
        """Return what it holds, for somebody who goes on in its place: the last sequence number;
        track ID, timescale, kind and samples of each track; which of them leads.  None while
        fragments still grow."""
        if self._sequence < len(_GROWTH_S):
            return None
        tracks = [(t.track_id, t.timescale, t.video, t.samples) for t in self._tracks]
        return self._sequence, tracks, self._tracks.index(self._leader)

    def go_on(self, sequence: int, tracks: Sequence[tuple[list[_Sample], int]]) -> None:
        """Go on from where somebody else has come: samples and what one lasts, of each track."""
        self._sequence = sequence
        for track, (samples, frame_ticks) in zip(self._tracks, tracks, strict=True):
            track.samples, track.frame_ticks = samples, frame_ticks
        self._bytes = sum(sample[2] for track in self._tracks for sample in track.samples)

    def emit(self, fragment: Fragment) -> None:
        """Emit a fragment that somebody else has made."""
        self._emit(fragment)

    def finish(self) -> None:
        """Emit what is left; the last sample of each track lasts as long as the one before it."""
        self._cut(None, 0)
