"""Fragments: where the output is cut, judged by an independent and strict reader."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.media.audio import parse_frame
from proxy.media.boxes import TrackBox, audio_entry, box, init_segment, video_entry
from proxy.media.fragment import Fragment, Fragmenter
from proxy.media.parameters import PictureFormat
from tests.media.helpers import adts_frame
from tests.support import boxes
from tests.support.box_tree import parse

HZ = 90_000
PICTURE = PictureFormat(width=16, height=16)
INIT = init_segment(
    [
        TrackBox(
            track_id=1,
            timescale=HZ,
            sample_entry=video_entry(b"avc1", box(b"avcC", b"\x01"), PICTURE),
            media_start=0,
            picture=PICTURE,
        ),
        TrackBox(
            track_id=2,
            timescale=48_000,
            sample_entry=audio_entry(parse_frame("aac", adts_frame(b"\x21"))),
            media_start=0,
        ),
    ]
)
VIDEO, AUDIO = (1, HZ, True), (2, 48_000, False)


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample as it goes in; `track` is 0 for video and 1 for audio."""

    track: int
    dts: int
    data: bytes = field(repr=False)
    sync: bool = True
    offset: int = 0


def picture(number: int, *, gop: int = 25, frame: int = 3_600, size: int = 10) -> Sample:
    data = number.to_bytes(4, "big") * -(-size // 4)
    return Sample(0, number * frame, data[:size], sync=number % gop == 0, offset=7_200)


def sound(number: int, *, begin: int = 0) -> Sample:
    return Sample(1, begin + number * 1_024, b"a%d" % number)


def interleaved(*samples: Sample) -> list[Sample]:
    """The samples in the order of their decode times, as a muxer interleaves them."""
    return sorted(samples, key=lambda sample: sample.dts / (48_000 if sample.track else HZ))


class Output:
    """A fragmenter and what it has emitted."""

    def __init__(self, *tracks: tuple[int, int, bool]) -> None:
        self.fragments: list[Fragment] = []
        self._tracks = tracks or (VIDEO, AUDIO)
        self._fragmenter = Fragmenter(self._tracks, self.fragments.append)

    def add(self, *samples: Sample, frame_ticks: int = 3_000) -> "Output":
        for sample in samples:
            half = len(sample.data) // 2
            self._fragmenter.add(
                sample.track if len(self._tracks) > 1 else 0,
                sample.dts + sample.offset,
                sample.dts,
                sync=sample.sync,
                parts=(memoryview(sample.data)[:half], sample.data[half:]),
                size=len(sample.data),
                frame_ticks=frame_ticks,
            )
        return self

    def finish(self) -> "Output":
        self._fragmenter.finish()
        return self

    def read(self) -> boxes.Movie:
        return boxes.read(INIT + b"".join(fragment.data for fragment in self.fragments))

    def samples(self, track: int) -> list[boxes.Sample]:
        movie = self.read()
        return movie.samples(movie.tracks[track])


def assert_whole(output: Output, samples: Sequence[Sample], last_ticks: int = 3_000) -> None:
    """Check every rule of the file on a finished output."""
    movie = output.read()
    assert [f.sequence for f in movie.fragments] == list(range(1, len(movie.fragments) + 1))
    assert [f.sequence for f in output.fragments] == [f.sequence for f in movie.fragments]
    for number, track in enumerate(movie.tracks):
        given_ = [sample for sample in samples if sample.track == number]
        found = movie.samples(track)
        assert [s.data for s in found] == [s.data for s in given_]
        assert [s.decode_time for s in found] == [s.dts for s in given_]
        follow = [s.dts for s in given_[1:]] + [s.dts + last_ticks for s in given_[-1:]]
        assert [s.decode_time + s.duration for s in found] == follow
        if number == 0:
            assert [s.sync for s in found] == [s.sync for s in given_]
            assert [s.composition_offset for s in found] == [s.offset for s in given_]
            assert all(s.first for s in found if s.sync)
        else:
            assert all(s.sync and s.composition_offset == 0 for s in found)
    for fragment, told in zip(movie.fragments, output.fragments, strict=True):
        leading = [s for s in fragment.samples if s.track_id == 1]
        assert told.starts_with_keyframe == bool(leading and leading[0].sync)
        assert told.duration_s == pytest.approx(sum(s.duration for s in leading) / HZ)


# -- any schedule ----------------------------------------------------------------------------------


@st.composite
def schedules(draw: st.DrawFn, sizes: Sequence[int] = (0, 1, 2, 30, 100)) -> list[Sample]:
    """Samples of both tracks, interleaved in any way, with pauses, keyframes and sizes of any
    kind; each track's decode times grow."""
    clocks = [draw(st.integers(0, HZ)), draw(st.integers(0, HZ))]
    samples: list[Sample] = []
    steps = st.sampled_from([1, 500, 1_024, 3_600, 20_000, 200_000])
    for number in range(draw(st.integers(1, 60))):
        track = draw(st.integers(0, 1))
        clocks[track] += draw(steps)
        data = bytes([number]) * draw(st.sampled_from(sizes))
        sync = track == 1 or not samples or draw(st.booleans())
        offset = 0 if track else draw(st.integers(-1_000, 10_000))
        samples.append(Sample(track, clocks[track], data, sync=sync, offset=offset))
    return samples


@given(schedules())
def test_fragmenter_of_anything(samples: list[Sample]) -> None:
    """Nothing is lost, times and durations are exact, and every GOP starts a fragment."""
    assert_whole(Output().add(*samples).finish(), samples)


@given(schedules(sizes=(1_000, 100_000, 300_000)))
def test_fragmenter_holds_little(samples: list[Sample]) -> None:
    """Once both tracks are there, what is held back is bounded, whatever comes."""
    output = Output().add(Sample(0, 0, b"v"), Sample(1, 0, b"a"))
    held = 2
    for sample in samples:
        done = len(output.fragments)
        output.add(sample)
        held += len(sample.data)
        held -= sum(_payload(fragment) for fragment in output.fragments[done:])
        assert held < (1_024 + 2 * 300) * 1_024


def _payload(fragment: Fragment) -> int:
    _, mdat = parse(fragment.data)
    return len(mdat.body)


# -- the first fragment ----------------------------------------------------------------------------


def test_first_fragment_leaves_at_once() -> None:
    """The first fragment leaves with the second picture, when the first one's duration is known."""
    output = Output(VIDEO).add(picture(0))
    assert output.fragments == []
    output.add(picture(1))
    assert [f.duration_s for f in output.fragments] == [pytest.approx(0.04)]
    assert output.fragments[0].starts_with_keyframe


def test_first_fragment_waits_for_every_track() -> None:
    """A track that has not shown a sample is waited for, as long as the GOP goes on."""
    output = Output().add(*(picture(number) for number in range(20)))
    assert output.fragments == []
    output.add(sound(0), picture(20))
    assert len(output.fragments) == 1
    assert len(output.samples(0)) == 20


def test_first_fragment_does_not_wait_beyond_its_gop() -> None:
    """A GOP is never in the middle of a fragment, also where the audio begins later."""
    samples = interleaved(
        *(picture(number) for number in range(60)), *(sound(n, begin=72_000) for n in range(40))
    )
    output = Output().add(*samples)
    assert [s.decode_time for s in output.samples(0) if s.first][:2] == [0, 25 * 3_600]
    assert_whole(output.finish(), samples)


def test_first_fragment_of_audio_alone() -> None:
    """Without video, the audio leads."""
    output = Output(AUDIO).add(sound(0), sound(1))
    assert [f.duration_s for f in output.fragments] == [pytest.approx(1_024 / 48_000)]
    assert output.fragments[0].starts_with_keyframe


# -- growing ---------------------------------------------------------------------------------------


def test_fragments_grow() -> None:
    """The fragments grow from one picture to 0.4 s, and stay there."""
    output = Output(VIDEO).add(*(picture(n, gop=1_000) for n in range(100)))
    lengths = [round(f.duration_s * 25) for f in output.fragments]
    assert lengths[:4] == [1, 3, 5, 8]
    assert set(lengths[4:]) == {10}
    assert [f.starts_with_keyframe for f in output.fragments][:2] == [True, False]


def test_every_gop_starts_a_fragment() -> None:
    """Short GOPs are fragments of their own, however short."""
    samples = [picture(n, gop=7) for n in range(30)]
    output = Output(VIDEO).add(*samples).finish()
    starts = [s.decode_time // 3_600 for s in output.samples(0) if s.first]
    assert set(range(0, 30, 7)) <= set(starts)
    assert_whole(output, samples)


def test_gop_of_single_pictures() -> None:
    """A stream of keyframes alone has a fragment for each."""
    samples = [picture(n, gop=1) for n in range(10)]
    output = Output(VIDEO).add(*samples).finish()
    assert len(output.fragments) == 10
    assert all(f.starts_with_keyframe for f in output.fragments)


def test_large_pictures_end_a_fragment() -> None:
    """At a high bitrate the fragments end by bytes, before their time."""
    output = Output(VIDEO).add(*(picture(n, gop=1_000, size=200_000) for n in range(40)))
    sizes = [len(f.data) for f in output.fragments]
    assert max(sizes) < 512 * 1024 + 200_000 + 1_000
    assert max(f.duration_s for f in output.fragments) < 0.13


# -- two tracks ------------------------------------------------------------------------------------


def test_tracks_leave_together() -> None:
    """Each fragment holds what has come of both tracks; only the last sample of the one that does
    not lead waits for its successor."""
    samples = interleaved(*map(picture, range(75)), *map(sound, range(140)))
    output = Output().add(*samples)
    for fragment in output.read().fragments[1:]:
        video = [s for s in fragment.samples if s.track_id == 1]
        audio = [s for s in fragment.samples if s.track_id == 2]
        end = (video[-1].decode_time + video[-1].duration) / HZ
        assert audio
        assert end - 3 * 1_024 / 48_000 <= audio[-1].decode_time / 48_000 < end
    assert_whole(output.finish(), samples)


def test_audio_with_uneven_times_does_not_overlap() -> None:
    """Where frames last no whole number of ticks, no sample reaches into the next one, also where
    a fragment ends between them."""
    frame = HZ * 1_024 / 44_100
    samples = [*map(picture, range(100))]
    samples += [Sample(1, round(n * frame), b"%d" % n) for n in range(190)]
    samples.sort(key=lambda sample: sample.dts)
    output = Output(VIDEO, (2, HZ, False)).add(*samples, frame_ticks=round(frame)).finish()
    for a, b in pairwise(output.samples(1)):
        assert a.decode_time + a.duration == b.decode_time


def test_audio_goes_on_while_the_video_pauses() -> None:
    """When no picture comes, the audio does not wait for one; the last picture does, since it is
    not known yet how long it is shown."""
    output = Output().add(*interleaved(*map(picture, range(30)), *map(sound, range(57))))
    before = len(output.fragments)
    shown = len(output.samples(0))
    output.add(*(sound(number) for number in range(57, 400)))
    assert len(output.fragments) >= before + 4
    paused = output.fragments[before + 1 :]
    assert all(f.duration_s == 0.0 and not f.starts_with_keyframe for f in paused)
    assert len(output.samples(0)) == 29 > shown
    output.add(picture(250)).finish()
    video = output.samples(0)
    assert video[29].duration == 221 * 3_600
    assert len(output.samples(1)) == 400


def test_audio_that_pauses_does_not_hold_the_video() -> None:
    """When no audio comes, the video goes on alone."""
    output = Output().add(*interleaved(*map(picture, range(10)), *map(sound, range(18))))
    output.add(*map(picture, range(10, 200)))
    assert len(output.samples(0)) > 180


def test_held_picture_starts_the_next_gop() -> None:
    """A keyframe that waits for its duration is the first of the fragment it leaves with."""
    samples = [picture(0), sound(0), picture(1)]
    samples += [picture(n) for n in range(2, 25)]
    samples += [sound(n) for n in range(1, 47)]
    samples += [picture(25)]
    samples += [sound(n) for n in range(47, 200)]
    output = Output().add(*samples)
    assert_whole(output.add(picture(120)).finish(), [*samples, picture(120)])


def test_audio_of_high_bitrate_while_the_video_pauses() -> None:
    """While the video pauses, bytes end a fragment as well."""
    output = Output().add(picture(0), sound(0), picture(1))
    output.add(*(Sample(1, 1_024 + n, bytes(100_000)) for n in range(12)))
    assert len(output.fragments) == 2
    assert len(output.fragments[1].data) > 1_024 * 1_024


# -- the end ---------------------------------------------------------------------------------------


def test_finish_sends_what_is_left() -> None:
    """At the end the last sample of each track leaves, and lasts as long as it says itself."""
    output = Output().add(picture(0), sound(0), frame_ticks=1_234).finish()
    assert [s.duration for s in (*output.samples(0), *output.samples(1))] == [1_234, 1_234]
    assert output.fragments[0].duration_s == pytest.approx(1_234 / HZ)


def test_finish_with_one_track_silent() -> None:
    """A track of which nothing has come is not in the fragment."""
    output = Output().add(picture(0), picture(1)).finish()
    assert len(output.fragments) == 1
    assert output.samples(1) == []


@pytest.mark.parametrize("samples", [[], [picture(0)]])
def test_finish_with_little(samples: list[Any]) -> None:
    """Nothing is sent where nothing came."""
    output = Output().add(*samples).finish()
    assert len(output.fragments) == len(samples)
    output.finish()
    assert len(output.fragments) == len(samples)
