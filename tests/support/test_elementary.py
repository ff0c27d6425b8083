"""The readers of what lies inside packets agree with known values and with PyAV's encoders."""

import pytest

from tests.support import elementary
from tests.support.clip_recipes import changed_sets, leading_pictures, open_gop
from tests.support.clips import make_clip
from tests.support.elementary import AacConfig, Esds
from tests.support.ts import read_pes


def test_split_start_codes() -> None:
    """Start codes of three and four bytes; zeros that trail a unit do not belong to it."""
    data = b"\0\0\0\1\x67\1\0\0\0\1\x68\2\0\0\1\x65\3\0\0"
    assert list(elementary.split_start_codes(data)) == [b"\x67\1", b"\x68\2", b"\x65\3"]
    assert list(elementary.split_start_codes(b"\x65\3")) == []


def test_split_lengths() -> None:
    """Units behind their lengths; a length that goes beyond the sample is an error."""
    assert list(elementary.split_lengths(b"\0\2ab\0\1c", 2)) == [b"ab", b"c"]
    with pytest.raises(ValueError, match="a NAL unit of 3 bytes"):
        list(elementary.split_lengths(b"\0\3ab", 2))
    with pytest.raises(ValueError, match="a NAL unit of 0 bytes"):
        list(elementary.split_lengths(b"\0\0", 2))


@pytest.mark.parametrize(
    ("codec", "unit", "key"),
    [
        ("h264", "6764000cacd942", (7, 0)),
        ("h264", "6764000c58d942", (7, 1)),
        ("h264", "68efbcb0", (8, 0)),
        ("h264", "6858e0", (8, 1)),
        ("hevc", "40010c01ffff", (32, 0)),
        ("hevc", "40011c01ffff", (32, 1)),
        # profile, tier and level with emulation prevention in it, then sps_seq_parameter_set_id
        ("hevc", "42010101600000030090000003000003001ea0", (33, 0)),
        ("hevc", "42010101600000030090000003000003001e50", (33, 1)),
        ("hevc", "4401c172b0", (34, 0)),
        ("hevc", "44015172b0", (34, 1)),
    ],
)
def test_set_key(codec: str, unit: str, key: tuple[int, int]) -> None:
    """The id of a parameter set is found behind what stands in front of it."""
    assert elementary.set_key(codec, bytes.fromhex(unit)) == key


def test_set_key_sub_layers() -> None:
    """An HEVC SPS with sub-layers has their profiles and levels in front of its id."""
    # sps_max_sub_layers_minus1 = 1, both flags present: 2 + 14 alignment bits, 88 + 8 bits
    head = bytes([0x42, 0x01, 0x03]) + b"\x11" * 12 + b"\xc0\x00" + b"\x22" * 12
    assert elementary.set_key("hevc", head + b"\x60") == (33, 2)


def test_set_key_too_short() -> None:
    """A parameter set that ends in front of its id is an error."""
    with pytest.raises(ValueError, match="too short"):
        elementary.set_key("hevc", b"\x42\x01\x01\x60")


def test_units_of_clips() -> None:
    """The clips hold the units that their recipes promise."""

    def kinds(codec: str, data: bytes) -> list[int]:
        return [elementary.unit_type(codec, one) for one in elementary.split_start_codes(data)]

    first, *others = [kinds("hevc", pes.payload) for pes in leading_pictures("hevc").pictures()]
    assert 21 in first
    assert [set(one) - {35, 39} <= elementary.RASL for one in others[:4]] == [True] * 3 + [False]
    h264 = [kinds("h264", pes.payload) for pes in open_gop("h264").pictures()]
    assert [n for n, one in enumerate(h264) if 5 in one] == [0]
    assert len([one for one in h264 if 7 in one]) == 4
    sets = {
        unit
        for pes in changed_sets("hevc").pictures()
        for unit in elementary.split_start_codes(pes.payload)
        if elementary.unit_type("hevc", unit) == 33
    }
    assert len(sets) == 2


def test_read_avcc() -> None:
    """An avcC gives the size of the lengths and the sets; one that is cut is an error."""
    config = bytes.fromhex("0164000cffe1000467640000 01000268ef".replace(" ", ""))
    assert elementary.read_avcc(config) == (4, [b"\x67\x64", b"\x68\xef"])
    with pytest.raises(ValueError, match="cut"):
        elementary.read_avcc(config[:-1])
    with pytest.raises(ValueError, match="no avcC"):
        elementary.read_avcc(b"\0\0\0\1")


def test_read_hvcc() -> None:
    """An hvcC gives the size of the lengths and the sets, without the SEI that may be in it."""
    head = b"\1" + bytes(20) + b"\x03" + b"\3"
    arrays = bytes.fromhex("a0 0001 0003 400101 a1 0001 0003 420101 a7 0001 0002 4e01")
    assert elementary.read_hvcc(head + arrays) == (4, [b"\x40\1\1", b"\x42\1\1"])
    for wrong in (head + arrays[:-1], head + arrays + b"\0", b"\1" * 10):
        with pytest.raises(ValueError, match=r"cut|too many|no hvcC"):
            elementary.read_hvcc(wrong)


def test_split_adts_of_encoder() -> None:
    """ADTS frames of a PES packet are split, and say what was encoded."""
    clip = make_clip(video=None)
    data = b"".join(pes.payload for pes in read_pes(clip.data, clip.audio_pids[0]))
    frames = elementary.split_adts(data)
    assert len(frames) == 189
    assert {config for config, _ in frames} == {AacConfig(2, 48_000, 2)}
    assert sum(len(block) + 7 for _, block in frames) == len(data)


def test_split_adts_with_crc() -> None:
    """The header is longer by its CRC, where protection_absent is 0."""
    head = bytes([0xFF, 0xF0, 0x50, 0x80, 0x01, 0x7F, 0xFC])
    assert elementary.split_adts(head + b"crAB") == [(AacConfig(2, 44_100, 2), b"AB")]


@pytest.mark.parametrize("data", [b"\xff\xf1\x50", b"ID3\4\0\0\0\0", b"\xff\xf1\x50\x80\0\x1f\xfc"])
def test_split_adts_broken(data: bytes) -> None:
    """What is no ADTS frame is an error."""
    with pytest.raises(ValueError, match="ADTS"):
        elementary.split_adts(data)


@pytest.mark.parametrize(
    ("config", "means"),
    [
        ("1190", AacConfig(2, 48_000, 2)),
        ("1210", AacConfig(2, 44_100, 2)),
        ("1390", AacConfig(2, 22_050, 2)),
        ("17807d0008", AacConfig(2, 64_000, 1)),  # an explicit rate
        ("2b928800", AacConfig(2, 22_050, 2)),  # SBR: the core's rate and type
        ("eb8a0800", AacConfig(2, 22_050, 1)),  # PS
    ],
)
def test_read_audio_specific_config(config: str, means: AacConfig) -> None:
    """The configuration is that of the core, however it is told."""
    assert elementary.read_audio_specific_config(bytes.fromhex(config)) == means


def test_read_audio_specific_config_reserved() -> None:
    """A reserved rate, and a configuration that is cut, are errors."""
    with pytest.raises(ValueError, match="reserved"):
        elementary.read_audio_specific_config(bytes.fromhex("1690"))
    with pytest.raises(ValueError, match="too short"):
        elementary.read_audio_specific_config(b"\x11")


def test_read_esds() -> None:
    """An esds gives the object type and the specific info, with lengths of one or more bytes."""
    specific = bytes.fromhex("05 80808002 1190")
    decoder = bytes.fromhex("04 80808014 40 15 000000 00010000 00010000") + specific
    whole = bytes(4) + bytes.fromhex("03 8080801c 0001 00") + decoder + bytes.fromhex("060102")
    assert elementary.read_esds(whole) == Esds(0x40, b"\x11\x90")
    bare = bytes(4) + bytes.fromhex("03 12 0001 00 04 0d 6b 15 000000 00010000 00010000")
    assert elementary.read_esds(bare) == Esds(0x6B, b"")
    for wrong in (whole[:-6], bytes(4) + b"\4\0", bytes(4) + b"\3\3\0\1\0"):
        with pytest.raises(ValueError, match=r"cut|ES_Descriptor|DecoderConfig"):
            elementary.read_esds(wrong)
