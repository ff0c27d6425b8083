"""Which parameter sets are in force: several ids side by side, found again by a decoder."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from proxy.media.parameter_sets import ParameterSets
from tests.media.helpers import Bits, h264_sps, hevc_sps
from tests.support import elementary, ts, ts_edit
from tests.support.clips import Clip, make_clip
from tests.support.elementary import PARAMETER_SETS, set_key, split_start_codes, unit_type
from tests.support.expected import expect
from tests.support.sources import Script, assert_decodes, remuxed, stretches

H264, HEVC = (7, 8), (32, 33, 34)


def views(*units: bytes) -> list[memoryview]:
    return [memoryview(unit) for unit in units]


def h264_pps(number: int, sequence: int = 0, *, tail: int = 1) -> bytes:
    return b"\x68" + Bits().ue(number).ue(sequence).u(8, tail).rbsp()


def hevc_pps(number: int, sequence: int = 0) -> bytes:
    return b"\x44\x01" + Bits().ue(number).ue(sequence).u(8, 1).rbsp()


def h264_slice(sets: int) -> bytes:
    return b"\x65" + Bits().ue(0).ue(7).ue(sets).u(8, 1).rbsp()


def hevc_slice(kind: int, sets: int) -> bytes:
    bits = Bits().flag(True)
    if 16 <= kind <= 23:
        bits.flag(False)
    return bytes([kind << 1, 1]) + bits.ue(sets).u(8, 1).rbsp()


def test_add_replaces_the_same_id_only() -> None:
    """Of each type, one set of each id stays: the latest."""
    sets = ParameterSets(H264)
    sps, pps, other = h264_sps(), h264_pps(0), h264_pps(1)
    sets.add(views(sps, pps, other))
    assert sets.all == [sps, pps, other]
    newer = h264_pps(0, tail=2)
    sets.add(views(newer, h264_slice(0)))
    assert sets.all == [sps, newer, other]
    assert sets.complete


def test_add_of_hevc() -> None:
    """The same of HEVC, whose video parameter sets have ids too."""
    sets = ParameterSets(HEVC)
    units = [b"\x40\x01\x0c\x01", b"\x40\x01\x1c\x01", hevc_sps(sub_layers=3), hevc_pps(0)]
    sets.add(views(*units, hevc_pps(63)))
    assert sets.all == [*units, hevc_pps(63)]
    sets.add(views(hevc_sps(), b"\x40\x01\x1c\x02"))
    assert sets.all == [units[0], b"\x40\x01\x1c\x02", hevc_sps(), hevc_pps(0), hevc_pps(63)]


@pytest.mark.parametrize(
    "damaged", [b"\x68", b"\x68\x00\x00", h264_pps(256)], ids=["empty", "no end", "no such id"]
)
def test_add_of_a_damaged_set(damaged: bytes) -> None:
    """A set whose id cannot be told counts only where there is no other."""
    sets = ParameterSets(H264)
    sets.add(views(damaged))
    assert not sets.complete
    sets.add(views(h264_sps()))
    assert (sets.complete, sets.of(8)) == (True, [damaged])
    sets.add(views(h264_pps(0)))
    assert sets.of(8) == [h264_pps(0)]


@pytest.mark.parametrize("picture", [0, 1])
def test_sequence_sets_of_h264(picture: int) -> None:
    """In front stands the sequence parameter set that the picture takes, by way of its slice."""
    sets = ParameterSets(H264)
    large, small = h264_sps(), h264_sps(number=1, macroblocks=(20, 10))
    sets.add(views(large, small, h264_pps(0, 0), h264_pps(7, 1)))
    units = views(b"\x09\xf0", h264_slice(7 * picture))
    assert sets.sequence_sets(units) == ([large, small] if picture == 0 else [small, large])


@pytest.mark.parametrize("kind", [1, 19, 21])
def test_sequence_sets_of_hevc(kind: int) -> None:
    """Slices of random access points have a flag more in front."""
    sets = ParameterSets(HEVC)
    second = hevc_sps(number=1, size=(320, 180))
    sets.add(views(b"\x40\x01\x0c\x01", hevc_sps(), second, hevc_pps(0, 0), hevc_pps(5, 1)))
    assert sets.sequence_sets(views(hevc_slice(kind, 5))) == [second, hevc_sps()]
    assert sets.sequence_sets(views(hevc_slice(kind, 0))) == [hevc_sps(), second]


@pytest.mark.parametrize("unit", [b"\x65", h264_slice(9), b"\x09\xf0"])
def test_sequence_sets_of_a_picture_that_does_not_tell(unit: bytes) -> None:
    """Where the slice is damaged, or names what is not there, the order stays."""
    sets = ParameterSets(H264)
    both = [h264_sps(), h264_sps(number=1, level=52)]
    sets.add(views(*both, h264_pps(0, 1)))
    assert sets.sequence_sets(views(unit)) == both


def test_bits_of_anything() -> None:
    """Random bytes are a set, a damaged set or none, and nothing else is raised."""
    chance = random.Random(11)
    for kinds, heads in ((H264, b"\x67\x68\x65"), (HEVC, b"\x40\x42\x44\x26")):
        sets = ParameterSets(kinds)
        for _ in range(2000):
            unit = bytes([chance.choice(heads)]) + chance.randbytes(chance.randrange(40))
            sets.add(views(unit))
            assert len(sets.sequence_sets(views(unit))) == len(sets.of(kinds[-2]))


# -- real streams ----------------------------------------------------------------------------------


def rebuilt(clip: Clip, change: Callable[[int, list[bytes]], Sequence[bytes]]) -> bytes:
    """Put the NAL units of each picture through `change(number, units)`."""

    def one(number: int, pes: ts.Pes) -> ts.Pes:
        units = change(number, list(split_start_codes(pes.payload)))
        codec = clip.videos[0].codec
        kinds = {unit_type(codec, unit) for unit in units}
        key = bool(kinds & ({5} if codec == "h264" else elementary.IRAP))
        payload = b"".join(b"\0\0\0\1" + unit for unit in units)
        return replace(pes, payload=payload, random_access=key)

    return ts_edit.rewrite(clip.data, clip.video_pid, one)


def sets_of(codec: str, units: Sequence[bytes]) -> list[bytes]:
    return [unit for unit in units if unit_type(codec, unit) in PARAMETER_SETS[codec]]


def test_h264_sets_of_other_ids_come_before() -> None:
    """Two sequence parameter sets by turns, one of which came before the first random access point
    and never again: it is in the sample entry, and every picture decodes."""
    zero = make_clip(audio=(), encoder="sps-id=0", b_frames=0)
    one = make_clip(audio=(), encoder="sps-id=1", b_frames=0)
    pictures = [list(split_start_codes(pes.payload)) for pes in one.pictures()]
    early = sets_of("h264", pictures[0])
    assert {set_key("h264", unit) for unit in early} == {(7, 1), (8, 1)}

    def change(number: int, units: list[bytes]) -> Sequence[bytes]:
        if number == 0:  # cannot be decoded: a picture that refers to others, with the sets of id 1
            return [*early, pictures[1][-1]]
        if 50 <= number < 75:  # the third GOP takes the sets of id 1, and does not repeat them
            return [unit for unit in pictures[number] if unit not in early]
        return units

    data = rebuilt(zero, change)
    output = remuxed(data)
    stretches([expect(data)], output.data)
    assert output.counts.left_out == {"undecodable_video": 25}
    track = output.movie.track("vide")
    in_entry = elementary.read_avcc(track.entry.config)[1]
    assert sorted(set_key("h264", unit) for unit in in_entry) == [(7, 0), (7, 1), (8, 0), (8, 1)]
    assert_decodes(output, 75)


def test_h264_size_of_the_set_in_use() -> None:
    """The sample entry has the size of the first picture, whichever set stands first."""
    clip, other = make_clip(audio=()), make_clip(audio=(), encoder="sps-id=1", width=320)
    more = sets_of("h264", list(split_start_codes(other.pictures()[0].payload)))
    data = rebuilt(clip, lambda n, units: [*more, *units] if n % 25 == 0 else units)
    output = remuxed(data)
    track = output.movie.track("vide")
    assert (track.entry.width, track.entry.height) == (160, 90)
    assert len(elementary.read_avcc(track.entry.config)[1]) == 4
    assert_decodes(output, 100)


def test_hevc_sets_of_other_ids_come_before() -> None:
    """A picture parameter set that came before, and of which only another id comes again."""
    clip = make_clip(video="hevc", audio=(), b_frames=0)
    pictures = [list(split_start_codes(pes.payload)) for pes in clip.pictures()]
    (pps,) = (unit for unit in pictures[0] if unit_type("hevc", unit) == 34)
    bits = "".join(f"{byte:08b}" for byte in pps[2:].replace(b"\0\0\3", b"\0\0"))
    assert bits[0] == "1"
    second = pps[:2] + Bits().ue(1).raw(bits[1:].rstrip("0")[:-1]).rbsp()

    def change(number: int, units: list[bytes]) -> Sequence[bytes]:
        if number == 0:
            return [*sets_of("hevc", units), pictures[1][-1]]
        return [second if unit == pps else unit for unit in units]

    data = rebuilt(clip, change)
    output = remuxed(data)
    stretches([expect(data)], output.data)
    assert_decodes(output, 75)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_sets_before_the_first_picture_of_a_section(codec: str) -> None:
    """Behind a discontinuity too, sets that came with pictures which are left out reach the
    decoder: the sample entry has others."""
    one = make_clip(video=codec, audio=(), b_frames=0)
    two = make_clip(video=codec, audio=(), b_frames=0, width=320, height=180, start_s=60.0)
    pictures = [list(split_start_codes(pes.payload)) for pes in two.pictures()]
    early = sets_of(codec, pictures[0])

    def change(number: int, units: list[bytes]) -> Sequence[bytes]:
        if number == 0:
            return [*early, pictures[1][-1]]
        return [unit for unit in units if unit not in early]

    data = rebuilt(two, change)
    output = remuxed(Script(one.data, data))
    stretches([expect(one.data), expect(data)], output.data)
    assert_decodes(output, 175)
