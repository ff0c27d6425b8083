"""Any presentation of two inputs, real packets at any times: everything comes out, in step."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy.media.section import Format
from tests.support import ts, ts_tables
from tests.support.clips import Audio, make_clip
from tests.support.expected import Expected, expect
from tests.support.sources import (
    TICK_S,
    Output,
    Script,
    Told,
    remuxed,
    section,
    smallest_shift,
    stretches,
)
from tests.support.ts import TICKS_PER_S, WRAP, Pes

GOPS, GOP_TICKS = 8, TICKS_PER_S // 2
FRAMES, FRAME_TICKS = 188, 1920  # 1,024 samples at 48 kHz
# Where audio ends, and where it begins again, are ticks of 48 kHz each, and the shift is one of 90.
ROUNDED_S = Fraction(1, 48_000) + TICK_S
LASTS_S = {"video": Fraction(1, 10), "audio": Fraction(FRAME_TICKS, TICKS_PER_S)}
INTERLEAVED_S = Fraction(3, 2)  # as far apart as two tracks are, but for what is missing


@functools.cache
def material() -> tuple[ts_tables.Program, tuple[tuple[Pes, ...], ...], tuple[Pes, ...]]:
    """A program, its pictures by GOP, and its audio frames, one to a PES packet."""
    clip = make_clip(
        audio=(Audio(channels=1, bitrate=32_000),),
        fps=10,
        gop_s=0.5,
        width=32,
        height=32,
        start_s=1.0,
        muxer=(("pes_payload_size", "0"),),
    )
    pictures = clip.pictures()
    begins = [number for number, pes in enumerate(pictures) if pes.random_access]
    edges = itertools.pairwise([*begins, len(pictures)])
    gops = tuple(tuple(pictures[begin:end]) for begin, end in edges)
    sounds = tuple(ts.read_pes(clip.data, clip.audio_pids[0])[:FRAMES])
    assert (len(gops), len(sounds)) == (GOPS, FRAMES)
    return clip.program, gops, sounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One input behind one discontinuity."""

    shift: int  # ticks, on the source's clock
    borders: tuple[int, ...]  # of its segments: GOPs or frames
    lost: frozenset[int]  # segments that are missing

    def segments(self, units: int) -> list[tuple[int, int, float]]:
        """What is left: first and last unit, and the ticks that are missing in front of it."""
        ticks = GOP_TICKS if units == GOPS else FRAME_TICKS
        out, missing = [], 0
        for number, (begin, end) in enumerate(itertools.pairwise((0, *self.borders, units))):
            if number in self.lost:
                missing += (end - begin) * ticks
            else:
                out.append((begin, end, missing / TICKS_PER_S))
                missing = 0
        return out


@st.composite
def parts(draw: st.DrawFn, shift: int, units: int) -> Part:
    borders = sorted(draw(st.sets(st.integers(1, units - 1), max_size=5)))
    kept = draw(st.integers(0, len(borders)))
    lost = draw(st.frozensets(st.integers(0, len(borders)), max_size=3)) - {kept}
    return Part(shift=shift, borders=tuple(borders), lost=lost)


@st.composite
def presentations(draw: st.DrawFn) -> list[tuple[Part, Part]]:
    """Video and audio behind up to three discontinuities, on any clocks; often on one that wraps
    meanwhile, for one of them before the other."""
    out = []
    wraps = st.integers(WRAP - 6 * TICKS_PER_S, WRAP - 1)
    for _ in range(draw(st.integers(1, 3))):
        shift = draw(st.integers(0, WRAP - 1) | wraps)
        late = draw(st.integers(-TICKS_PER_S // 2, TICKS_PER_S // 2))
        out.append((draw(parts(shift, GOPS)), draw(parts(shift + late, FRAMES))))
    return out


def muxed(units: Sequence[Pes], shift: int, *, video: bool) -> bytes:
    """A transport stream of one track, moved in time."""
    program, _, _ = material()
    pid = program.video_pid if video else program.audio_pids[0]
    own = tuple(stream for stream in program.streams if stream.pid == pid)

    def moved(time: int | None) -> int | None:
        return None if time is None else (time + shift) % WRAP

    return ts_tables.mux(
        replace(program, pcr_pid=own[0].pid, streams=own),
        [replace(pes, pts=moved(pes.pts), dts=moved(pes.dts), pcr=None) for pes in units],
    )


def told(number: int, hole_s: float, data: bytes, *, pes: Pes | None, part: Part) -> Told:
    """A section of the n-th segment that is left; `pes`: it is packed audio, and begins there."""
    what: Format = "mpegts" if pes is None else "aac"
    clock = None
    if pes is not None:
        assert pes.pts is not None
        clock = (pes.pts + part.shift) % WRAP
    return section(data, format=what, discontinuity=number == 0, hole_s=hole_s, clock=clock)


def build(
    presentation: Sequence[tuple[Part, Part]], *, packed: bool
) -> tuple[list[Told], list[Told], list[tuple[Expected, ...]], list[float]]:
    """The sections of both inputs, what is in them, and what both miss in front of each."""
    _, gops, sounds = material()
    videos: list[Told] = []
    audios: list[Told] = []
    sections, holes_s = [], []
    for video, audio in presentation:
        shown: list[Pes] = []
        heard: list[Pes] = []
        first_holes = []
        for number, (begin, end, hole_s) in enumerate(video.segments(GOPS)):
            units = list(itertools.chain(*gops[begin:end]))
            shown += units
            data = muxed(units, video.shift, video=True)
            videos.append(told(number, hole_s, data, pes=None, part=video))
            first_holes += [hole_s] if number == 0 else []
        for number, (begin, end, hole_s) in enumerate(audio.segments(FRAMES)):
            frames = sounds[begin:end]
            heard += frames
            data = muxed(frames, audio.shift, video=False)
            if packed:
                data = b"".join(pes.payload for pes in frames)
            first = frames[0] if packed else None
            audios.append(told(number, hole_s, data, pes=first, part=audio))
            first_holes += [hole_s] if number == 0 else []
        pictures = expect(muxed(shown, video.shift, video=True), audio=None)
        frames_ = expect(muxed(heard, audio.shift, video=False), video=False)
        sections.append((*pictures, *frames_))
        holes_s.append(min(first_holes))
    return videos, audios, sections, holes_s


def assert_interleaved(output: Output, apart_s: Fraction) -> None:
    """No track comes long after the other one: what waits for it is held in memory."""
    movie = output.movie
    scales = {track.track_id: track.timescale for track in movie.tracks}
    furthest = dict.fromkeys(scales, Fraction(0))
    for fragment in movie.fragments:
        for sample in fragment.samples:
            time_s = Fraction(sample.decode_time, scales[sample.track_id])
            others = [there for track, there in furthest.items() if track != sample.track_id]
            assert time_s >= max(others) - apart_s
        for sample in fragment.samples:
            time_s = Fraction(sample.decode_time, scales[sample.track_id])
            furthest[sample.track_id] = max(furthest[sample.track_id], time_s)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    presentation=presentations(),
    packed=st.booleans(),
    sizes=st.tuples(*[st.lists(st.integers(100, 9_000), min_size=1, max_size=4)] * 2),
)
@example(  # a section of a single frame of packed audio, which libavformat does not date
    presentation=[
        (
            Part(shift=0, borders=(), lost=frozenset()),
            Part(shift=0, borders=(1,), lost=frozenset()),
        )
    ],
    packed=True,
    sizes=([9_000], [9_000]),
)
def test_apart_random(
    presentation: list[tuple[Part, Part]], packed: bool, sizes: tuple[list[int], list[int]]
) -> None:
    """Any borders of segments, holes in either input, discontinuities, clocks that wrap apart, and
    input in pieces of any size: every packet of both comes out in order, with decode times that
    grow; within a discontinuity all packets of both are moved by the same, and from one to the next
    by the smallest shift; and neither track waits long for the other."""
    videos, audios, sections, holes_s = build(presentation, packed=packed)
    output = remuxed(Script(*videos, sizes=sizes[0]), Script(*audios, sizes=sizes[1]))
    joined = stretches(sections, output.data, lasts_s=LASTS_S)
    begins_s = min(joined[0].begins_s.values())
    assert abs(begins_s - Fraction(holes_s[0])) <= 2 * TICK_S
    rest = zip(itertools.pairwise(joined), sections[1:], holes_s[1:], strict=True)
    for (before, behind), wanted, hole_s in rest:
        apart = behind.shift_s - smallest_shift(before, wanted, hole_s=hole_s)
        assert abs(apart) <= ROUNDED_S, f"{float(apart) * 1000:.3f} ms from the smallest shift"
    missing = sum(len(part.lost) > 0 for pair in presentation for part in pair)
    longest = max(
        GOPS * GOP_TICKS * (missing > 0) + abs(video.shift - audio.shift)
        for video, audio in presentation
    )
    assert_interleaved(output, INTERLEAVED_S + Fraction(longest, TICKS_PER_S))
