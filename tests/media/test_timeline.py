"""The timeline: what is missing is found, what is stated stays, and decode times only grow."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.media.timeline import (
    Alignment,
    TimelineJumped,
    Times,
    TrackTimeline,
    align,
    align_after,
    exact,
    nearest,
)

HZ = 90_000
WRAP = 1 << 33
Stated = tuple[int | None, int | None]  # presentation and decode time, as the source says them


def video(frame: int = 3_600, reorder: int = 2, **wishes: Any) -> TrackTimeline:
    return TrackTimeline(
        **{
            "timescale": HZ,
            "frame_ticks": Fraction(frame),
            "reorder_frames": reorder,
            "steady": False,
            **wishes,
        }
    )


def audio(frame: Fraction = Fraction(1_920), **wishes: Any) -> TrackTimeline:
    return TrackTimeline(
        **{
            "timescale": HZ,
            "frame_ticks": frame,
            "reorder_frames": 0,
            "steady": True,
            **wishes,
        }
    )


def fill(timeline: TrackTimeline, stated: Sequence[Stated]) -> list[Times]:
    return [timeline.fill(pts, dts) for pts, dts in stated]


def primed(times: Sequence[Times]) -> Sequence[Times]:
    """The packets up to the first one that is shown behind the first."""
    for number, (pts, _) in enumerate(times):
        if pts > times[0][0]:
            return times[: number + 1]
    return times


def remux(*tracks: tuple[TrackTimeline, Sequence[Stated]]) -> tuple[Alignment, list[list[Times]]]:
    """Take all tracks through the timeline as a remux does; returns their times in the output."""
    filled = [(timeline, fill(timeline, stated)) for timeline, stated in tracks]
    alignment = align([(timeline, primed(times)) for timeline, times in filled])
    out: list[list[Times]] = []
    for (timeline, times), reserve in zip(filled, alignment.reserves, strict=True):
        timeline.start(origin=alignment.origin, lead=alignment.lead, reserve=reserve)
        out.append([timeline.place(one) for one in times])
    return alignment, out


# -- any schedule ----------------------------------------------------------------------------------


@st.composite
def pictures(draw: st.DrawFn) -> tuple[int, list[Times]]:
    """A well-formed track of video: what a picture lasts, and its times in decode order."""
    frame = draw(st.sampled_from([1_500, 3_003, 3_600, 7_507]))
    start = draw(st.integers(0, 1 << 32))
    times: list[Times] = []
    shown = 0
    for between in draw(st.lists(st.integers(0, 3), min_size=1, max_size=12)):
        # one reference picture, and then those that are shown before it
        for place in (between, *range(between)):
            times.append((start + (shown + place + 1) * frame, start + len(times) * frame))
        shown += between + 1
    return frame, times


_SPOILS = st.sampled_from(["", "", "", "missing", "frozen", "back", "late", "no time"])


@st.composite
def spoilt_pictures(draw: st.DrawFn) -> tuple[int, list[Times], list[Stated]]:
    """A track of video, and what a bad muxer states of it; no step is longer than half a second."""
    frame, times = draw(pictures())
    stated: list[Stated] = []
    last = times[0][1]
    for pts, dts in times:
        spoil = draw(_SPOILS)
        if spoil == "missing":
            stated.append((pts, None))
        elif spoil == "no time" and stated:  # the first one with a time is the first one fed
            stated.append((None, None))
        else:
            moved = {"frozen": last - dts, "back": -draw(st.integers(1, HZ // 2))}.get(spoil, 0)
            if spoil == "late":
                moved = draw(st.integers(1, HZ // 2))
            stated.append((pts, max(dts + moved, dts - HZ // 2)))
        last = dts
    return frame, times, stated


@given(pictures())
def test_remux_of_good_video(track: tuple[int, list[Times]]) -> None:
    """Good times only move: all by the same, and the first decode time to 0."""
    frame, times = track
    _, (out,) = remux((video(frame), times))
    moved = {(b[0] - a[0], b[1] - a[1]) for a, b in zip(times, out, strict=True)}
    assert len(moved) == 1
    assert moved == {(-times[0][1], -times[0][1])}


@given(spoilt_pictures(), st.integers(0, 4))
def test_remux_of_spoilt_video(track: tuple[int, list[Times], list[Stated]], reorder: int) -> None:
    """Whatever is stated: nothing is dropped, decode times grow from 0, and every stated
    presentation time moves by the same."""
    frame, _, stated = track
    _, (out,) = remux((video(frame, reorder), stated))
    assert len(out) == len(stated)
    assert out[0][1] >= 0
    assert all(a[1] < b[1] for a, b in pairwise(out))
    moved = {b[0] - a[0] for a, b in zip(stated, out, strict=True) if a[0] is not None}
    assert len(moved) <= 1


@given(
    spoilt_pictures(),
    st.integers(-HZ // 2, HZ // 2),
    st.sampled_from([(1024, 44_100), (1024, 48_000), (1152, 22_050), (1536, 32_000)]),
    st.integers(1, 8),
    st.integers(0, 7),
)
def test_remux_keeps_the_tracks_together(
    track: tuple[int, list[Times], list[Stated]],
    offset: int,
    audio_frame: tuple[int, int],
    every: int,
    first: int,
) -> None:
    """Audio and video move by the same; audio frames without times are where the samples say."""
    frame, times, stated = track
    lasts = Fraction(audio_frame[0] * HZ, audio_frame[1])
    begin = times[0][0] + offset
    exact_times = [begin + n * lasts for n in range(40)]
    sounds: list[Stated] = [
        (round(time), round(time)) if n % every == first % every else (None, None)
        for n, time in enumerate(exact_times)
    ]
    head = first % every
    timeline = audio(lasts)
    later = fill(timeline, sounds[head:])
    filled = [*timeline.fill_backwards(head, later[0]), *later]

    pictures_timeline = video(frame)
    shown = fill(pictures_timeline, stated)
    alignment = align([(pictures_timeline, primed(shown)), (timeline, filled)])
    leads = [
        one.start(origin=alignment.origin, lead=alignment.lead, reserve=reserve)
        for one, reserve in zip((pictures_timeline, timeline), alignment.reserves, strict=True)
    ]
    out_video = [pictures_timeline.place(one) for one in shown]
    out_audio = [timeline.place(one) for one in filled]

    moved = [b[0] - a[0] for a, b in zip(stated, out_video, strict=True) if a[0] is not None]
    for number, (pts, dts) in enumerate(out_audio):
        assert pts == dts
        if moved:
            assert abs(pts - moved[0] - exact_times[number]) <= 2
    assert all(a[1] < b[1] for a, b in pairwise(out_audio))
    assert leads[0] == leads[1]
    firsts = [pts for pts, _ in (*out_video[: len(primed(shown))], *out_audio)]
    assert min(firsts) == leads[0]  # what is shown first is shown at 0
    assert min(out_video[0][1], out_audio[0][1]) >= 0


@st.composite
def pictures_with_holes(draw: st.DrawFn) -> tuple[int, list[Times], list[int]]:
    """Runs of pictures with holes between them, some reordered and some not; what a picture lasts,
    all times, and where the runs begin.  Decode times are the latest that are possible, so that
    they often equal presentation, at the beginning of a run too."""
    frame = draw(st.sampled_from([1_500, 3_003, 3_600]))
    times: list[Times] = []
    begins: list[int] = []
    at = draw(st.integers(0, 1 << 32))
    for _ in range(draw(st.integers(2, 5))):
        begins.append(len(times))
        if draw(st.booleans()):
            order = list(range(draw(st.integers(1, 8))))  # as they are shown
        else:
            order = [0]
            for between in draw(st.lists(st.integers(0, 3), min_size=1, max_size=4)):
                order += [order_end := max(order) + between + 1]
                order += range(order_end - between, order_end)
        delay = max(n - shown for n, shown in enumerate(order))
        times += [(at + (shown + delay) * frame, at + n * frame) for n, shown in enumerate(order)]
        at += (len(order) + draw(st.integers(0, 200))) * frame
    return frame, times, begins


@pytest.mark.parametrize(
    ("stated", "filled"),
    [
        ((3_600, WRAP - 3_600), (3_600, -3_600)),  # the clock wraps between the two
        ((WRAP - 3_600, 0), (WRAP - 3_600, WRAP)),
        ((50_000 * HZ, 7_200), (14_400, 7_200)),
        ((0, 50_000 * HZ), (50_000 * HZ + 7_200, 50_000 * HZ)),
    ],
)
def test_fill_torn_times(stated: Times, filled: Times) -> None:
    """Two times of a picture that lie hours apart are not both believed."""
    assert video(modulus=WRAP).fill(*stated) == filled


def test_fill_torn_times_behind_others() -> None:
    """The one that is nearer to the pictures before is believed."""
    timeline = video()
    fill(timeline, [(7_200 + 3_600 * n, 3_600 * n) for n in range(5)])
    assert timeline.fill(25_200, 9 * WRAP) == (25_200, 18_000)
    assert timeline.fill(-9 * WRAP, 21_600) == (28_800, 21_600)


@given(pictures_with_holes())
def test_fill_behind_holes(track: tuple[int, list[Times], list[int]]) -> None:
    """Decode times that the source states right, whether or not they equal presentation, come out
    right behind holes too: never off by more than pictures have waited, however long the hole."""
    frame, times, begins = track
    timeline = video(frame)
    waited = 0
    for number, (pts, dts) in enumerate(times):
        found = timeline.fill(pts, dts)
        assert found[0] == pts
        assert 0 <= dts - found[1] <= waited
        if number in begins and number and dts - times[number - 1][1] > waited + frame:
            assert found[1] == dts
        waited = max(waited, pts - dts)


@given(pictures_with_holes(), st.integers(0, 4))
def test_fill_behind_holes_without_decode_times(
    track: tuple[int, list[Times], list[int]], reorder: int
) -> None:
    """Where the source states none, they follow the presentation over every hole."""
    frame, times, _ = track
    timeline = video(frame, reorder)
    for pts, _ in times:
        found = timeline.fill(pts, None)
        assert pts - 17 * frame <= found[1] <= pts


# -- decode times of video -------------------------------------------------------------------------

# I P B B P B B: shown as I B B P B B P
REORDERED = [(1, 0), (4, 1), (2, 2), (3, 3), (7, 4), (5, 5), (6, 6)]


def ticks(times: Sequence[Times], begin: int = 0, frame: int = 3_600) -> list[Times]:
    return [(begin + pts * frame, begin + dts * frame) for pts, dts in times]


def test_fill_without_decode_times() -> None:
    """Reordered pictures without decode times: each presentation time is kept, and the decode
    times are far enough ahead of them."""
    times = ticks(REORDERED, 126_000)
    _, (out,) = remux((video(reorder=1), [(pts, None) for pts, _ in times]))
    assert [b[0] - a[0] for a, b in pairwise(out)] == [b[0] - a[0] for a, b in pairwise(times)]
    assert all(dts <= pts for pts, dts in out)
    assert all(a[1] < b[1] for a, b in pairwise(out))


@pytest.mark.parametrize("where", [1, 3, 5])
def test_fill_of_one_missing_decode_time(where: int) -> None:
    """A single missing decode time is found exactly, from the rate of the pictures before."""
    times = ticks(REORDERED, 1_000)
    stated: list[Stated] = list(times)
    stated[where] = (times[where][0], None)
    timeline = video()
    assert fill(timeline, stated) == times


def test_fill_of_decode_times_that_equal_presentation() -> None:
    """In a track that reorders, a decode time that equals the presentation time, and lies further
    ahead than the rate says, is one that was left out."""
    times = ticks(REORDERED, 9_000)
    stated: list[Stated] = [*times[:4], (times[4][0], times[4][0]), *times[5:]]
    timeline = video(reorder=1)
    assert fill(timeline, stated) == times
    plain = video(reorder=0)
    hole: list[Stated] = [(0, 0), (3_600, 3_600), (36_000, 36_000)]
    assert fill(plain, hole) == hole


def test_fill_of_still_decode_times() -> None:
    """Decode times that stand still come out one tick apart, and catch up with the source."""
    stated: list[Stated] = [(7_200, 0), (10_800, 3_600), (14_400, 3_600), (18_000, 3_600)]
    stated += [(21_600, 14_400)]
    _, (out,) = remux((video(), stated))
    assert [dts for _, dts in out] == [0, 3_600, 3_601, 3_602, 14_400]
    assert [pts for pts, _ in out] == [pts for pts, _ in stated]


def test_fill_of_backward_decode_times() -> None:
    """A decode time that steps back comes out one tick behind the one before."""
    stated: list[Stated] = [(7_200, 0), (10_800, 3_600), (14_400, 1_000), (18_000, 10_800)]
    _, (out,) = remux((video(), stated))
    assert [dts for _, dts in out] == [0, 3_600, 3_601, 10_800]


def test_fill_of_decode_times_behind_presentation() -> None:
    """Decode times that are late by the same move ahead of the pictures, by what is needed."""
    times = ticks(REORDERED, 90_000)
    late = [(pts, dts + 10_800) for pts, dts in times]
    _, (out,) = remux((video(reorder=1), late))
    assert all(dts <= pts for pts, dts in out)
    assert [b[1] - a[1] for a, b in pairwise(out)] == [3_600] * 6
    assert out[0][0] - out[0][1] == 3_600


def test_fill_without_presentation_time() -> None:
    """A packet that only states a decode time is shown then, or as much later as pictures are
    reordered."""
    assert audio().fill(None, 500) == (500, 500)
    assert video(reorder=0).fill(None, 500) == (500, 500)
    assert video(3_600, reorder=2).fill(None, 500) == (7_700, 500)


def test_fill_of_nothing() -> None:
    """A track that never states a time begins at 0 and goes on at its rate, once it is told to."""
    timeline = audio()
    assert not timeline.anchored
    assert timeline.position_s is None
    assert timeline.fill(None, None) == (0, 0)
    assert not timeline.anchored
    timeline = audio()
    assert fill(timeline, [(90_000, 90_000), (None, None), (None, None)]) == [
        (90_000, 90_000),
        (91_920, 91_920),
        (93_840, 93_840),
    ]
    assert timeline.anchored
    assert timeline.position_s == pytest.approx(93_840 / HZ)


def test_reserve() -> None:
    """How far decoding has to begin earlier: as far as the first packets show, or as far as
    reordering goes where they cannot show it."""
    timeline = video(reorder=2)
    assert timeline.reserve([]) == 0
    assert timeline.reserve([(7_200, 0), (10_800, 3_600)]) == 0
    assert timeline.reserve([(3_600, 0)]) == 0
    assert timeline.reserve([(0, 0), (3_600, 3_600)]) == 7_200
    assert timeline.reserve([(0, 1_000)]) == 8_200
    assert timeline.reserve([(3_600, 0), (0, 20_000)]) == 20_000
    assert video(reorder=0).reserve([(0, 0)]) == 0


def test_frame_ticks() -> None:
    """What the last picture lasts is what the one before lasted; audio knows it from the start."""
    timeline = video(3_600)
    assert timeline.frame_ticks == 3_600
    fill(timeline, [(0, 0), (3_003, 3_003)])
    assert timeline.frame_ticks == 3_003
    sound = audio(Fraction(1024 * HZ, 44_100))
    fill(sound, [(0, 0), (5_000, 5_000)])
    assert sound.frame_ticks == 2_090
    assert video(0).frame_ticks == 1
    assert audio(Fraction(1_000), source_timescale=HZ, timescale=48_000).frame_ticks == 533


# -- audio -----------------------------------------------------------------------------------------


def test_fill_of_undated_audio() -> None:
    """Frames inside a PES packet state no time: the sample count tells it, without rounding up."""
    lasts = Fraction(1024 * HZ, 44_100)
    timeline = audio(lasts)
    stated: list[Stated] = [(10_000, 10_000), *[(None, None)] * 99]
    assert [dts for _, dts in fill(timeline, stated)] == [
        10_000 + round(n * lasts) for n in range(100)
    ]


def test_fill_of_audio_that_repeats_its_time() -> None:
    """libavformat repeats a time until it knows the rate: the sample count is believed."""
    timeline = audio()
    stated: list[Stated] = [(500, 500), (500, 500), (500, 500), (6_260, 6_260), (6_260, 6_260)]
    assert [dts for _, dts in fill(timeline, stated)] == [500, 2_420, 4_340, 6_260, 8_180]


def test_fill_of_audio_that_steps_back() -> None:
    """Frames that overlap those before them are squeezed, and what follows is in step again."""
    stated: list[Stated] = [(n * 1_920, n * 1_920) for n in range(10)]
    stated += [(n * 1_920 - 5_000, n * 1_920 - 5_000) for n in range(10, 20)]
    timeline = audio()
    times = fill(timeline, stated)
    assert times == stated
    timeline.start(origin=Fraction(0), lead=Fraction(0), reserve=0)
    out = [timeline.place(one)[1] for one in times]
    assert all(a < b for a, b in pairwise(out))
    assert out[:10] == [n * 1_920 for n in range(10)]
    assert out[13:] == [dts for _, dts in stated[13:]]


def test_fill_of_audio_with_two_times() -> None:
    """Sound has one time: where two are stated, it is heard at its presentation time."""
    timeline = audio()
    assert fill(timeline, [(5_000, 4_000), (None, None)]) == [(5_000, 5_000), (6_920, 6_920)]


def test_fill_of_audio_with_a_hole() -> None:
    """A hole stays a hole."""
    timeline = audio()
    stated: list[Stated] = [(0, 0), (None, None), (500_000, 500_000), (None, None)]
    assert [dts for _, dts in fill(timeline, stated)] == [0, 1_920, 500_000, 501_920]


def test_fill_backwards() -> None:
    """Frames before the first time that is stated lie in front of it, at the track's rate."""
    timeline = audio(Fraction(1024 * HZ, 44_100))
    following = timeline.fill(100_000, 100_000)
    found = timeline.fill_backwards(3, following)
    assert [dts for _, dts in found] == [100_000 - round(n * 1024 * HZ / 44_100) for n in (3, 2, 1)]
    assert all(pts == dts for pts, dts in found)
    assert timeline.fill_backwards(0, following) == []


# -- jumps, wraps and holes ------------------------------------------------------------------------


@pytest.mark.parametrize("make", [video, audio])
@pytest.mark.parametrize(
    ("step", "jumps"),
    [(-HZ - 1, True), (-HZ, False), (10 * HZ, False), (10 * HZ + 1, True), (1 << 40, True)],
)
def test_fill_of_jumps(make: Any, step: int, jumps: bool) -> None:
    """A step back of more than a second, or ahead of more than ten, is another timeline."""
    timeline = make()
    timeline.fill(1 << 34, 1 << 34)
    later = (1 << 34) + step
    if not jumps:
        assert timeline.fill(later, later) == (later, later)
        return
    with pytest.raises(TimelineJumped, match="jumped by"):
        timeline.fill(later, later)


def test_fill_of_an_expected_hole() -> None:
    """A hole that was announced is no jump, however long; the next one is."""
    timeline = video()
    timeline.fill(0, 0)
    timeline.expect_hole(30.0)
    assert timeline.fill(40 * HZ, 40 * HZ) == (40 * HZ, 40 * HZ)
    with pytest.raises(TimelineJumped):
        timeline.fill(80 * HZ, 80 * HZ)


def test_restart() -> None:
    """Behind a jump the clock may be anywhere."""
    timeline = video()
    timeline.fill(1 << 30, 1 << 30)
    timeline.restart()
    assert not timeline.anchored
    assert timeline.fill(5, 5) == (5, 5)


@given(st.integers(-(1 << 40), 1 << 40), st.integers(-(1 << 40), 1 << 40))
def test_nearest(value: int, reference: int) -> None:
    """The number that is the same modulo the clock, and no more than half of it away."""
    found = nearest(value, reference, WRAP)
    assert (found - value) % WRAP == 0
    assert abs(found - reference) <= WRAP // 2


@given(pictures(), st.integers(0, 40_000))
def test_fill_of_a_wrapping_clock(track: tuple[int, list[Times]], before: int) -> None:
    """A clock of 33 bits that wraps goes on as if it had more, presentation times as well."""
    frame, times = track
    begin = WRAP - before - times[0][1]
    unwrapped = [(pts + begin, dts + begin) for pts, dts in times]
    timeline = video(frame, modulus=WRAP)
    timeline.refer(WRAP / HZ)
    assert fill(timeline, [(pts % WRAP, dts % WRAP) for pts, dts in unwrapped]) == unwrapped


def test_refer() -> None:
    """Two tracks of one clock, of which one has wrapped already, come out together."""
    timeline = audio(modulus=WRAP)
    timeline.refer((WRAP - 100) / HZ)
    assert timeline.fill(50, 50) == (WRAP + 50, WRAP + 50)
    timeline = audio(modulus=WRAP)
    timeline.refer(0.001)
    assert timeline.fill(WRAP - 50, WRAP - 50) == (-50, -50)


def test_distance() -> None:
    """How far a time lies behind the last packet is told over the wrap, without going there."""
    timeline = audio(modulus=WRAP)
    assert timeline.distance_s(HZ) == pytest.approx(1.0)
    timeline.fill(WRAP - HZ, WRAP - HZ)
    assert timeline.distance_s(HZ) == pytest.approx(2.0)
    assert timeline.distance_s(WRAP - 3 * HZ) == pytest.approx(-2.0)
    assert timeline.position_s == pytest.approx(WRAP / HZ - 1)


def test_fill_without_modulus() -> None:
    """A clock that does not wrap is taken as it is."""
    timeline = audio()
    timeline.refer(0.0)
    assert timeline.fill(1 << 40, 1 << 40) == (1 << 40, 1 << 40)


# -- the output ------------------------------------------------------------------------------------


def test_align_begins_with_the_earliest() -> None:
    """What is shown first is shown at 0, and decoding begins at 0 before it."""
    pictures_ = ticks(REORDERED, 900_000)
    sounds: list[Stated] = [(n * 1_920 + 880_000, n * 1_920 + 880_000) for n in range(4)]
    alignment, (shown, heard) = remux((video(), pictures_), (audio(), sounds))
    assert alignment.origin == Fraction(880_000, HZ)
    assert alignment.lead == 0
    assert heard[0] == (0, 0)
    assert shown[0] == (23_600, 20_000)


def test_align_in_different_clocks() -> None:
    """Tracks with other timescales keep their offset to the tick."""
    sound = audio(Fraction(1024), timescale=44_100)
    picture = video(512, timescale=12_800, reorder=2)
    alignment, (shown, heard) = remux(
        (picture, [(12_800 + 1_024, 12_800), (12_800 + 2_048, 12_800 + 512)]),
        (sound, [(48_510, 48_510)]),
    )
    assert alignment.origin == Fraction(13_824, 12_800)
    assert alignment.lead == Fraction(1_024, 12_800)
    assert shown == [(1_024, 0), (2_048, 512)]
    offset = Fraction(48_510, 44_100) - alignment.origin
    assert abs(Fraction(heard[0][0], 44_100) - alignment.lead - offset) <= Fraction(1, 44_100)


def test_align_with_hole() -> None:
    """What is missing at the very start stays empty."""
    timeline = video()
    times = fill(timeline, [(90_000, 90_000 - 7_200)])
    alignment = align([(timeline, times)], hole_s=4.0)
    lead = timeline.start(origin=alignment.origin, lead=alignment.lead, reserve=0)
    pts, dts = timeline.place(times[0])
    assert (pts - lead, dts >= 0) == (4 * HZ, True)


def test_exact() -> None:
    """Seconds are told in ticks of 90 kHz, in which HLS counts."""
    assert exact(1 / 3) == Fraction(1, 3)
    assert exact(2.0000001) == 2


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=4),
    st.integers(-HZ, HZ),
    st.lists(st.tuples(st.integers(0, 1 << 32), st.integers(-HZ // 4, HZ // 4)), max_size=4),
    st.floats(0, 6),
)
def test_align_after_discontinuities(
    counts: list[int], offset: int, sections: list[tuple[int, int]], hole_s: float
) -> None:
    """Behind a discontinuity both tracks move by one shift, the smallest with which neither
    overlaps what it showed before; the hole is kept."""
    picture, sound = video(reorder=0), audio()
    begin = 1 << 20
    shown = fill(picture, [(begin + n * 3_600,) * 2 for n in range(counts[0])])
    heard = fill(sound, [(begin + offset + n * 1_920,) * 2 for n in range(2 * counts[0])])
    alignment = align([(picture, shown), (sound, heard)])
    lead = alignment.lead
    for one, times in ((picture, shown), (sound, heard)):
        one.start(origin=alignment.origin, lead=lead, reserve=0)
        for time in times:
            one.place(time)
    for number, (clock, apart) in enumerate(sections):
        count = counts[number % len(counts)]
        later_picture, later_sound = video(reorder=0), audio()
        shown = fill(later_picture, [(clock + n * 3_600,) * 2 for n in range(count)])
        heard = fill(later_sound, [(clock + apart + n * 1_920,) * 2 for n in range(2 * count)])
        pairs = ((picture, later_picture, shown), (sound, later_sound, heard))
        for earlier, later, _ in pairs:
            later.succeed(earlier, hole_s=None)
            assert later.end_s == earlier.end_s
        ends = [earlier.end_s for earlier, _, _ in pairs]
        found = align_after([(later, times) for _, later, times in pairs], lead=lead, hole_s=hole_s)
        gaps: list[Fraction] = []
        for (_, later, times), end, reserve in zip(pairs, ends, found.reserves, strict=True):
            later.start(origin=found.origin, lead=found.lead, reserve=reserve)
            out = [later.place(time) for time in times]
            gaps.append(Fraction(out[0][0], HZ) - lead - end)
            assert [b[0] - a[0] for a, b in pairwise(out)] == [
                b[0] - a[0] for a, b in pairwise(times)
            ]
        assert min(gaps) == exact(hole_s)
        picture, sound = later_picture, later_sound


def test_succeed_on_the_same_clock() -> None:
    """A section that goes on on the same clock needs no start: its times fall in place, and what
    has no time follows the packet before."""
    first = audio()
    fill(first, [(9_000, 9_000)])
    first.start(origin=Fraction(9_000, HZ), lead=Fraction(0), reserve=0)
    assert first.place((9_000, 9_000)) == (0, 0)
    second = audio(modulus=WRAP)
    second.succeed(first, hole_s=0.0)
    assert fill(second, [(None, None), (12_840, 12_840)]) == [(10_920, 10_920), (12_840, 12_840)]
    assert [second.place(one) for one in ((10_920, 10_920), (12_840, 12_840))] == [
        (1_920, 1_920),
        (3_840, 3_840),
    ]


def test_succeed_behind_a_hole() -> None:
    """Behind a hole on the same clock, the next packet is where it says, however far; one that
    does not say it is not known."""
    first = video()
    fill(first, [(9_000, 9_000)])
    first.start(origin=Fraction(9_000, HZ), lead=Fraction(0), reserve=600)
    first.place((9_000, 9_000))
    second = video()
    second.succeed(first, hole_s=20.0)
    assert not second.anchored
    later = 9_000 + 25 * HZ
    assert second.fill(later, later) == (later, later)
    assert second.place((later, later)) == (25 * HZ, 25 * HZ - 600)


def test_succeed_of_a_track_that_never_began() -> None:
    """A track of which nothing came before begins anew, in the same output."""
    first = audio()
    second = audio()
    second.succeed(first, hole_s=0.0)
    assert second.fill(777, 777) == (777, 777)


def test_place_in_another_timescale() -> None:
    """The source's ticks become the output's, and the shift is in the output's."""
    timeline = audio(Fraction(1_024), source_timescale=48_000)
    timeline.start(origin=Fraction(1), lead=Fraction(1, 10), reserve=480)
    assert timeline.place((48_000 + 1_024, 48_000 + 1_024)) == (9_000 + 1_920, 9_000 + 1_020)
    assert timeline.end_s == Fraction(1_920 + 1_920, HZ)
