"""The paths of the codecs: what becomes of their packets, and what the sample entry says."""

import io
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path as FilePath
from typing import Any

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import SpliceIncompatible, UnsupportedCodec
from proxy.media.bitstream import COPYABLE, path_for
from proxy.media.boxes import avcc, hvcc
from proxy.media.nal import BitstreamError
from proxy.media.parameters import PictureFormat, parse_h264_sps, parse_hevc_sps
from proxy.media.path import Path, Sample
from tests.conftest import missing
from tests.media.helpers import (
    ac3_frame,
    adts_frame,
    eac3_frame,
    encode,
    h264_sps,
    h264_vui,
    hevc_sps,
    movie_init,
    mp3_frame,
)
from tests.support import elementary
from tests.support.box_tree import Box, parse
from tests.support.clips import Audio, make_clip

# -- small pictures by hand ------------------------------------------------------------------------

SPS, PPS = h264_sps(), b"\x68\xeb\xec\xb2\x2c"
MORE_PPS = b"\x68\x5b\x20"  # of id 1
AUD, SEI, IDR, SLICE = b"\x09\xf0", b"\x06\x05\x01\x80", b"\x65\x88\x84", b"\x41\x9a\x02"
VPS_5, SPS_5, PPS_5 = b"\x40\x01\x0c\x01", hevc_sps(), b"\x44\x01\xc1\x72"


def hevc_slice(kind: int) -> bytes:
    """A slice of an HEVC picture of a NAL unit type."""
    return bytes([kind << 1, 1]) + b"\xaf\x12"


TRAIL, RADL, RASL, IDR_5, CRA = (hevc_slice(kind) for kind in (1, 7, 9, 19, 21))
HEAD_5 = (VPS_5, SPS_5, PPS_5)


def annexb(*units: bytes, short: bool = False) -> bytes:
    code = b"\0\0\1" if short else b"\0\0\0\1"
    return b"".join(code + unit for unit in units)


def prefixed(*units: bytes, size: int = 4) -> bytes:
    return b"".join(len(unit).to_bytes(size, "big") + unit for unit in units)


def feed(path: Path, data: bytes, *, keyframe: bool = False) -> bytes | None:
    """Feed a packet; return the sample as bytes, its size checked."""
    return join(path.feed(memoryview(data), keyframe=keyframe))


def join(sample: Sample | None) -> bytes | None:
    if sample is None:
        return None
    parts, size = sample
    data = b"".join(parts)
    assert len(data) == size
    return data


def entry_of(path: Path) -> tuple[Box, dict[str, bytes]]:
    """The sample entry, and the boxes in it."""
    (entry,) = parse(path.sample_entry())
    head = 78 if path.picture is not None else 28
    return entry, {child.kind: child.body for child in parse(entry.body[head:])}


def test_path_for_every_codec() -> None:
    """There is a path for each codec that is said to be copyable."""
    configs = {"av1": b"\x81\0\0\0", "opus": b"OpusHead" + bytes(11)}
    configs["flac"] = bytes(10) + b"\x0a\xc4\x42\xf0" + bytes(20)
    for codec in COPYABLE:
        path = path_for(codec, configs.get(codec, b""))
        assert path.codec == codec
        assert path.left_out == 0
        assert not path.pending


# -- H.264 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("short", [False, True])
def test_h264_becomes_length_prefixed(short: bool) -> None:
    """Every unit stays, parameter sets and delimiters too, behind its length."""
    path = path_for("h264")
    units = (AUD, SPS, PPS, SEI, IDR)
    assert feed(path, annexb(*units, short=short), keyframe=True) == prefixed(*units)
    assert feed(path, annexb(AUD, SLICE)) == prefixed(AUD, SLICE)
    assert path.flush() is None
    assert path.left_out == 0
    path.begin_here()
    assert feed(path, annexb(SLICE)) == prefixed(SLICE)


def test_h264_sample_entry() -> None:
    """The entry, its MIME type and its rate follow from the first sets."""
    vui = h264_vui(timing=(1001, 48_000), reorder=3, aspect=(14,), colour=(1, 1, 1))
    sps = h264_sps(constraints=0x10, level=40, vui=vui)
    path = path_for("h264")
    assert not path.ready
    feed(path, annexb(AUD, sps, PPS, IDR), keyframe=True)
    assert path.ready
    assert path.picture == parse_h264_sps(sps)
    assert path.rfc6381 == "avc1.641028"
    assert path.frame_duration_s() == Fraction(1001, 24_000)
    assert path.reorder_frames() == 3
    assert path.sample_rate is None
    entry, boxes = entry_of(path)
    assert entry.kind == "avc1"
    assert boxes["avcC"] == avcc([sps], [PPS], parse_h264_sps(sps))
    assert set(boxes) == {"avcC", "colr", "pasp"}


def test_h264_waits_for_a_random_access_point() -> None:
    """Pictures in front of the first keyframe with its sets are left out and counted; their sets
    are kept."""
    path = path_for("h264")
    assert feed(path, annexb(SLICE)) is None
    assert feed(path, annexb(IDR), keyframe=True) is None  # no sets yet
    assert feed(path, annexb(SPS, PPS, SLICE)) is None
    assert not path.ready
    assert feed(path, annexb(IDR), keyframe=True) == prefixed(IDR)
    assert path.left_out == 3
    assert elementary.read_avcc(entry_of(path)[1]["avcC"])[1] == [SPS, PPS]


def test_h264_takes_the_latest_sets() -> None:
    """Of sets that came again before the first keyframe, the latest count, each once."""
    older, newer = h264_sps(level=30), h264_sps(level=31)
    path = path_for("h264")
    feed(path, annexb(older, PPS, SLICE))
    feed(path, annexb(newer, newer, PPS, MORE_PPS, IDR), keyframe=True)
    assert elementary.read_avcc(entry_of(path)[1]["avcC"])[1] == [newer, PPS, MORE_PPS]
    assert path.parameter_sets == [newer, PPS, MORE_PPS]
    # the entry was written, and later sets are in the samples only
    later = h264_sps(level=52)
    assert feed(path, annexb(later, PPS, IDR), keyframe=True) == prefixed(later, PPS, IDR)
    assert path.rfc6381 == "avc1.64001f"


def test_h264_packet_without_units() -> None:
    """A packet that holds no unit is left out."""
    path = path_for("h264")
    feed(path, annexb(SPS, PPS, IDR), keyframe=True)
    assert feed(path, b"\0\0\0") is None
    assert path.left_out == 1


@pytest.mark.parametrize("sps", [SPS[:3], h264_sps(reference_frames=65), SPS + b"\x01" * 70_000])
def test_h264_with_damaged_sets(sps: bytes) -> None:
    """A parameter set that is cut, impossible or too large is an error of the source."""
    with pytest.raises(BitstreamError):
        feed(path_for("h264"), annexb(sps, PPS, IDR), keyframe=True)


@pytest.mark.parametrize("timing", [(1, 2_000_000), (11, 1), (0, 1), None])
def test_h264_without_a_usable_rate(timing: tuple[int, int] | None) -> None:
    """A rate of less than a picture in ten seconds or more than a thousand a second is a lie that
    encoders tell; and without reordering said, the usual one is assumed."""
    path = path_for("h264")
    assert path.frame_duration_s() == Fraction(1, 25)
    feed(path, annexb(h264_sps(vui=h264_vui(timing=timing)), PPS, IDR), keyframe=True)
    assert path.frame_duration_s() == Fraction(1, 25)
    assert path.reorder_frames() == 4


def test_h264_format_stays() -> None:
    """Other sets are no other format: they are in the samples."""
    one, two = path_for("h264"), path_for("h264")
    feed(one, annexb(SPS, PPS, IDR), keyframe=True)
    feed(two, annexb(h264_sps(level=52, macroblocks=(20, 10)), PPS, IDR), keyframe=True)
    assert one.format == two.format != path_for("hevc").format


# -- H.264 and HEVC from an MP4 --------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 4])
def test_h264_of_mp4(size: int) -> None:
    """Samples of an MP4 get lengths of four bytes; the sets come from its avcC."""
    record = bytearray(avcc([SPS], [PPS], parse_h264_sps(SPS)))
    record[4] = 0xFC | (size - 1)
    path = path_for("h264", bytes(record))
    assert feed(path, prefixed(SLICE, size=size)) is None
    assert feed(path, prefixed(SEI, IDR, size=size), keyframe=True) == prefixed(SEI, IDR)
    assert path.left_out == 1
    assert elementary.read_avcc(entry_of(path)[1]["avcC"]) == (4, [SPS, PPS])
    with pytest.raises(BitstreamError):
        feed(path, prefixed(SLICE, size=size)[:-1])


@pytest.mark.parametrize("size", [1, 2, 4])
def test_hevc_of_mp4(size: int) -> None:
    """The same for HEVC, whose record holds arrays; those of other units are not taken."""
    record = bytearray(hvcc([VPS_5], [SPS_5], [PPS_5], parse_hevc_sps(SPS_5)))
    record[21] = record[21] & 0xFC | (size - 1)
    record[22] = 4
    record += b"\x27\0\x01\0\x03\x4e\x01\x05"  # an SEI message
    path = path_for("hevc", bytes(record))
    assert feed(path, prefixed(CRA, size=size), keyframe=True) == prefixed(CRA)
    assert path.parameter_sets == [VPS_5, SPS_5, PPS_5]
    assert elementary.read_hvcc(entry_of(path)[1]["hvcC"]) == (4, [VPS_5, SPS_5, PPS_5])


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@given(data=st.data())
def test_configuration_record_cut(codec: str, data: st.DataObject) -> None:
    """A record that ends too early is an error of the source, wherever it ends."""
    whole = avcc([SPS], [PPS], PictureFormat(width=16, height=16))[:-4]
    if codec == "hevc":
        whole = hvcc([VPS_5], [SPS_5], [PPS_5], parse_hevc_sps(SPS_5))
    end = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(BitstreamError):
        path_for(codec, whole[:end])


def test_sets_repeated_in_band() -> None:
    """Where the sample entry has other sets, those of this section come before each keyframe."""
    path = path_for("h264", avcc([SPS], [PPS], parse_h264_sps(SPS)))
    path.in_band = path.parameter_sets
    assert feed(path, prefixed(IDR), keyframe=True) == prefixed(SPS, PPS, IDR)
    assert feed(path, prefixed(SLICE)) == prefixed(SLICE)
    assert feed(path, prefixed(IDR), keyframe=True) == prefixed(SPS, PPS, IDR)


# -- HEVC ------------------------------------------------------------------------------------------


def test_hevc_sample_entry() -> None:
    """The entry is `hvc1`, and the sets stay in the sample as well."""
    path = path_for("hevc")
    units = (*HEAD_5, IDR_5)
    assert feed(path, annexb(*units), keyframe=True) == prefixed(*units)
    entry, boxes = entry_of(path)
    assert entry.kind == "hvc1"
    assert boxes["hvcC"] == hvcc([VPS_5], [SPS_5], [PPS_5], parse_hevc_sps(SPS_5))
    assert path.reorder_frames() == 2


@pytest.mark.parametrize(
    ("head", "mime"),
    [
        ("016000000090000000000078", "hvc1.1.6.L120.90"),
        ("0220000000b00000000000b7", "hvc1.2.4.L183.B0"),
        ("216000000090000000000099", "hvc1.1.6.H153.90"),
        ("416000000000000000000099", "hvc1.A1.6.L153"),
        ("e4080000009da80000000abc", "hvc1.C4.10.H188.9D.A8.0.0.0.A"),
    ],
)
def test_hevc_mime_type(head: str, mime: str) -> None:
    """Profile space and profile, reversed compatibility flags, tier and level, constraints
    (14496-15 annex E.3)."""
    path = path_for("hevc")
    sps = hevc_sps(head=bytes.fromhex(head))
    feed(path, annexb(VPS_5, sps, PPS_5, IDR_5), keyframe=True)
    assert path.rfc6381 == mime


def _kept(*packets: tuple[Sequence[bytes], bool]) -> tuple[list[bool], Path]:
    path = path_for("hevc")
    kept = [feed(path, annexb(*units), keyframe=key) is not None for units, key in packets]
    assert path.left_out == kept.count(False)
    return kept, path


def test_hevc_leading_pictures() -> None:
    """RASL pictures of the first random access point cannot be decoded; RADL and trailing ones can,
    and so can every RASL picture behind them."""
    kept, _ = _kept(
        ([TRAIL], False),
        ([*HEAD_5, CRA], True),
        ([RASL], False),
        ([RADL], False),
        ([RASL], False),
        ([TRAIL], False),
        ([RASL], False),
        ([CRA], True),
        ([RASL], False),
    )
    assert kept == [False, True, False, True, False, True, True, True, True]


@pytest.mark.parametrize(
    ("kind", "kept"), [(0, True), (5, True), (6, True), (7, True), (8, False), (9, False)]
)
def test_hevc_leading_picture_types(kind: int, kept: bool) -> None:
    """RASL_N and RASL_R go, RADL_N and RADL_R stay, and only what is no leading picture ends the
    leading pictures."""
    leading = kind in {6, 7, 8, 9}
    found, _ = _kept(([*HEAD_5, CRA], True), ([hevc_slice(kind)], False), ([RASL], False))
    assert found == [True, kept, not leading]


def test_hevc_leading_pictures_of_the_second_random_access_point() -> None:
    """RASL pictures of the second one refer to the first, which is there."""
    kept, _ = _kept(([*HEAD_5, CRA], True), ([CRA], True), ([RASL], False))
    assert kept == [True, True, True]


def test_hevc_begins_anew() -> None:
    """Where the output is told to begin at a later random access point, its RASL pictures go."""
    _, path = _kept(([*HEAD_5, CRA], True), ([TRAIL], False), ([CRA], True))
    path.begin_here()
    assert feed(path, annexb(RASL)) is None
    assert feed(path, annexb(TRAIL)) is not None
    assert feed(path, annexb(RASL)) is not None


def test_hevc_packet_without_a_picture() -> None:
    """A packet of sets alone is kept, and decides nothing."""
    kept, _ = _kept(([*HEAD_5, CRA], True), ([SPS_5], False), ([RASL], False))
    assert kept == [True, True, False]


# -- AV1 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "mime"),
    [
        (b"\x81\x08\x0c\0", "av01.0.08M.08"),
        (b"\x81\x2d\xcc\0more", "av01.1.13H.10"),
        (b"\x81\x5f\x60\0", "av01.2.31M.12"),
    ],
)
def test_av1(config: bytes, mime: str) -> None:
    """AV1 passes as it is, from the first keyframe on; profile, tier, level and depth come from
    its av1C."""
    path = path_for("av1", config, (640, 360))
    assert feed(path, b"inter") is None
    assert not path.ready
    assert feed(path, b"key", keyframe=True) == b"key"
    assert feed(path, b"inter") == b"inter"
    path.begin_here()
    assert (path.left_out, path.ready, path.flush()) == (1, True, None)
    assert path.rfc6381 == mime
    assert path.picture is not None
    assert (path.picture.width, path.picture.height) == (640, 360)
    entry, boxes = entry_of(path)
    assert (entry.kind, boxes) == ("av01", {"av1C": config})
    assert (path.frame_duration_s(), path.reorder_frames()) == (Fraction(1, 25), 0)
    assert path.sample_rate is None


def test_av1_format() -> None:
    """Another profile or depth is another format."""
    one, two = (path_for("av1", b"\x81\x08" + flags + b"\0") for flags in (b"\x0c", b"\x4c"))
    assert one.format != two.format
    for bad in (b"", b"\x81\x08", b"\x01\x08\x0c\0"):
        with pytest.raises(BitstreamError):
            path_for("av1", bad)


# -- audio that passes as it is --------------------------------------------------------------------

FRAMES: dict[str, Callable[..., bytes]] = {
    "aac": lambda **wishes: adts_frame(b"\x21\x42" * 20, **wishes),
    "ac3": ac3_frame,
    "eac3": eac3_frame,
    "mp3": mp3_frame,
}


@pytest.mark.parametrize("codec", FRAMES)
def test_audio(codec: str) -> None:
    """Each frame is a sample; the first one tells the format."""
    path = path_for(codec)
    frame = FRAMES[codec]()
    assert not path.ready
    sample = frame[7:] if codec == "aac" else frame
    assert [feed(path, frame) for _ in range(3)] == [sample] * 3
    assert path.ready
    assert path.picture is None
    assert (path.flush(), path.reorder_frames(), path.left_out) == (None, 0, 0)
    path.begin_here()
    rate = 44_100 if codec == "mp3" else 48_000
    samples = {"aac": 1024, "mp3": 1152}.get(codec, 1536)
    assert path.sample_rate == rate
    assert path.frame_duration_s() == Fraction(samples, rate)


@pytest.mark.parametrize("codec", FRAMES)
@pytest.mark.parametrize(
    "junk", [b"", b"short", b"no frame begins here", b"\xff\0" * 10, b"\x0b\0" * 10, b"\0\xf1" * 10]
)
def test_audio_that_is_no_frame(codec: str, junk: bytes) -> None:
    """What is no frame is left out and counted, before the first one and behind it."""
    path = path_for(codec)
    frame = FRAMES[codec]()
    assert feed(path, junk) is None
    assert not path.ready
    assert feed(path, frame) is not None
    assert feed(path, junk) is None
    assert feed(path, frame) is not None
    assert path.left_out == 2


@pytest.mark.parametrize(
    ("codec", "wishes"),
    [
        ("aac", {"rate": 13}),
        ("ac3", {"rate": 3}),
        ("ac3", {"version": 16}),
        ("eac3", {"rate": 3, "blocks": 3}),
        ("eac3", {"stream_type": 1}),
        ("mp3", {"version": 1}),
    ],
)
def test_audio_that_cannot_be(codec: str, wishes: dict[str, Any]) -> None:
    """A header with reserved values is no frame."""
    path = path_for(codec)
    assert feed(path, FRAMES[codec](**wishes)) is None
    assert (path.ready, path.left_out) == (False, 1)


@pytest.mark.parametrize(
    ("codec", "wishes"),
    [
        ("aac", {"rate": 4}),
        ("aac", {"channels": 1}),
        ("aac", {"channels": 6}),
        ("aac", {"profile": 0}),
        ("ac3", {"rate": 1}),
        ("ac3", {"mode": 7}),
        ("ac3", {"lfe": 1}),
        ("ac3", {"version": 6}),
        ("eac3", {"rate": 1}),
        ("eac3", {"rate": 3, "blocks": 0}),
        ("eac3", {"mode": 7}),
        ("eac3", {"lfe": 1}),
        ("eac3", {"version": 15}),
        ("mp3", {"rate": 1}),
        ("mp3", {"version": 2}),
        ("mp3", {"layer": 2}),
        ("mp3", {"mode": 3}),
    ],
)
def test_audio_that_changes(codec: str, wishes: dict[str, Any]) -> None:
    """Another rate, layout or version cannot be told to the reader of one sample entry."""
    path = path_for(codec)
    feed(path, FRAMES[codec]())
    with pytest.raises(SpliceIncompatible, match=codec):
        feed(path, FRAMES[codec](**wishes))


@pytest.mark.parametrize("mode", range(8))
def test_ac3_changes_its_lfe(mode: int) -> None:
    """The LFE channel is told from the mix levels in front of it, in every mode."""
    path = path_for("ac3")
    feed(path, ac3_frame(mode=mode))
    feed(path, ac3_frame(mode=mode))
    with pytest.raises(SpliceIncompatible):
        feed(path, ac3_frame(mode=mode, lfe=1))


@pytest.mark.parametrize(
    ("codec", "wishes"),
    [
        ("aac", {"crc": True}),
        ("ac3", {"size_code": 28}),
        ("eac3", {"size": 512}),
        ("mp3", {"bitrate": 5}),
        ("mp3", {"mode": 1}),
    ],
)
def test_audio_that_may_change(codec: str, wishes: dict[str, Any]) -> None:
    """Bit rate, CRC and joint stereo may change from frame to frame."""
    path = path_for(codec)
    feed(path, FRAMES[codec]())
    frame = FRAMES[codec](**wishes)
    assert feed(path, frame) == (frame[9:] if codec == "aac" else frame)


def test_aac_with_several_raw_data_blocks() -> None:
    """Frames of several blocks are refused by name: no sample could be cut from them."""
    with pytest.raises(UnsupportedCodec) as caught:
        feed(path_for("aac"), adts_frame(b"\x21" * 20, blocks=2))
    assert "raw data blocks" in caught.value.detail


def test_mp2_in_the_clothes_of_mp3() -> None:
    """A stream type does not tell layers apart; the first frame does."""
    with pytest.raises(UnsupportedCodec, match="layer 2"):
        feed(path_for("mp3"), mp3_frame(layer=2))


# -- E-AC-3 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "frames"), [(0, 6), (1, 3), (2, 2), (3, 1)])
def test_eac3_joins_six_blocks(code: int, frames: int) -> None:
    """A sample holds six blocks, however many frames that takes."""
    path = path_for("eac3")
    data = [bytes([*eac3_frame(blocks=code)[:-1], number]) for number in range(2 * frames)]
    out = [feed(path, one) for one in data]
    assert path.packets_per_sample == frames
    expected: list[bytes | None] = [None] * (frames - 1)
    assert out == [
        *expected,
        b"".join(data[:frames]),
        *expected,
        b"".join(data[frames:]),
    ]
    assert not path.pending


def test_eac3_with_dependent_substreams() -> None:
    """A dependent substream belongs to its frame's sample."""
    path = path_for("eac3")
    packet = eac3_frame(mode=7, lfe=1) + eac3_frame(stream_type=1, channel_map=0x200)
    assert feed(path, packet) == packet
    assert path.packets_per_sample == 1
    assert path.rfc6381 == "ec-3"


def test_eac3_of_mp4() -> None:
    """A sample of an MP4 that has six blocks already is one, also in short frames."""
    path = path_for("eac3")
    packet = eac3_frame(blocks=0) * 6
    assert [feed(path, packet), feed(path, packet)] == [packet, packet]
    assert path.frame_duration_s() == Fraction(1536, 48_000)


def test_eac3_ends_within_a_sample() -> None:
    """What was begun at the end of the source is a sample all the same."""
    path = path_for("eac3")
    frame = eac3_frame(blocks=1)
    feed(path, frame)
    feed(path, frame)
    assert path.pending
    assert join(path.flush()) == frame * 2
    assert not path.pending
    assert path.flush() is None


def test_eac3_with_several_programs() -> None:
    """A second independent substream is refused by name: it would be taken for the first."""
    path = path_for("eac3")
    feed(path, eac3_frame())
    with pytest.raises(UnsupportedCodec, match="independent substreams"):
        feed(path, eac3_frame(substream=1))


# -- audio from an MP4 -----------------------------------------------------------------------------


def test_aac_of_mp4() -> None:
    """Raw data blocks pass as they are, whatever they look like."""
    path = path_for("aac", b"\x11\x90")
    assert path.ready
    assert path.rfc6381 == "mp4a.40.2"
    for block in (b"\x21", adts_frame(b"\x21" * 20), b""):
        assert feed(path, block) == block
    with pytest.raises(BitstreamError):
        path_for("aac", b"\x11")


def test_opus_and_flac() -> None:
    """Opus and FLAC pass as they are, with the configuration of their container."""
    head = b"OpusHead\x01\x02" + (312).to_bytes(2, "little") + (48_000).to_bytes(4, "little")
    opus = path_for("opus", head + bytes(3))
    info = bytearray(34)
    info[10:14] = b"\x0a\xc4\x42\xf0"
    flac = path_for("flac", bytes(info))
    for path, kind, inner in ((opus, "Opus", "dOps"), (flac, "fLaC", "dfLa")):
        assert path.ready
        assert feed(path, b"x") == b"x"
        entry, boxes = entry_of(path)
        assert (entry.kind, set(boxes)) == (kind, {inner})
    for codec in ("opus", "flac"):
        with pytest.raises(BitstreamError):
            path_for(codec)


# -- against what others write ---------------------------------------------------------------------


def _entries(data: bytes) -> list[tuple[str, bytes, dict[str, bytes]]]:
    """Kind, fixed fields and inner boxes of each sample entry of an MP4."""
    (moov,) = (found for found in parse(data) if found.kind == "moov")
    out = []
    for trak in moov.all("trak"):
        (entry,) = parse(trak.one("mdia", "minf", "stbl", "stsd").body, offset=8)
        size = 78 if trak.one("mdia", "hdlr").body[8:12] == b"vide" else 28
        inner = {child.kind: child.body for child in parse(entry.body[size:])}
        out.append((entry.kind, entry.body[:size], inner))
    return out


def _of_ffmpeg(data: bytes, folder: FilePath, streams: Sequence[int]) -> list[Any]:
    """The sample entries that the ffmpeg command writes for a transport stream."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        missing("the ffmpeg command")
    assert ffmpeg is not None
    output = folder / "out.mp4"
    command = [ffmpeg, "-v", "error", "-y", "-f", "mpegts", "-i", "pipe:0"]
    for index in streams:
        command += ["-map", f"0:{index}"]
    command += ["-c", "copy", "-tag:v", "hvc1"] if b"hvc1" in _tags(data) else ["-c", "copy"]
    done = subprocess.run(
        [*command, "-f", "mp4", str(output)],
        input=data,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return _entries(output.read_bytes())


def _tags(data: bytes) -> set[bytes]:
    with av.open(io.BytesIO(data), "r", format="mpegts") as container:
        return {b"hvc1" for s in container.streams.video if s.codec_context.name == "hevc"}


def _ours(data: bytes) -> tuple[list[int], list[tuple[str, bytes, dict[str, bytes]]]]:
    """The streams that are copied, and our sample entries for them."""
    indices, out = [], []
    with av.open(io.BytesIO(data), "r", format="mpegts") as container:
        tracks = [*container.streams.video[:1], *container.streams.audio[:1]]
        paths = {s.index: path_for(s.codec_context.codec.canonical_name) for s in tracks}
        for packet in container.demux(tracks):
            path = paths[packet.stream.index]
            if packet.size and not path.ready:
                path.feed(memoryview(bytes(packet)), keyframe=packet.is_keyframe)
    for index, path in paths.items():
        if path.ready:
            (entry,) = parse(path.sample_entry())
            size = 78 if path.picture is not None else 28
            inner = {child.kind: child.body for child in parse(entry.body[size:])}
            indices.append(index)
            out.append((entry.kind, entry.body[:size], inner))
    return indices, out


def _without_rates(esds: bytes) -> bytes:
    """An esds without ES_ID and bit rates: ffmpeg tells them, and we do not know them yet."""
    return esds[:9] + b"\0\0" + esds[11:23] + bytes(8) + esds[31:]


def assert_like_ffmpeg(data: bytes, folder: FilePath) -> None:
    """Compare sample entries with those of ffmpeg, but for what is known to differ."""
    streams, ours = _ours(data)
    theirs = _of_ffmpeg(data, folder, streams)
    assert [kind for kind, _, _ in ours] == [kind for kind, _, _ in theirs]
    for (kind, head, inner), (_, their_head, their_boxes) in zip(ours, theirs, strict=True):
        if kind in {"avc1", "hvc1"}:
            assert head == their_head
        else:  # ffmpeg says two channels whatever they are, and HE-AAC's rate with SBR
            assert head[:16] + head[18:24] == their_head[:16] + their_head[18:24]
        for name, body in their_boxes.items():
            if name == "esds":
                assert _without_rates(inner[name]) == _without_rates(body)
            elif name == "avcC":
                # ffmpeg keeps zero bytes behind sets, and sets that come twice
                size, sets = elementary.read_avcc(body)
                assert elementary.read_avcc(inner[name]) == (size, list(dict.fromkeys(sets)))
                assert inner[name][:5] == body[:5]
                assert inner[name][-4:] == body[-4:] or inner[name][1] in {66, 77}
            elif name == "hvcC":
                # ffmpeg says that no other sets follow in-band, which is not true of ours
                assert inner[name][:23] == body[:23]
                size, sets = elementary.read_hvcc(body)
                assert elementary.read_hvcc(inner[name]) == (size, list(dict.fromkeys(sets)))
            elif name != "btrt":
                assert inner[name] == body
        # a colour that is only partly known is none for ffmpeg
        assert set(inner) - set(their_boxes) <= {"colr"}


@pytest.mark.parametrize(
    ("video", "audio"),
    [
        ("h264", Audio()),
        ("h264", Audio(sample_rate=44_100, channels=1)),
        ("h264", Audio(channels=6, bitrate=128_000)),
        ("hevc", Audio(codec="ac3", channels=6, bitrate=192_000)),
        (None, Audio(codec="eac3")),
        (None, Audio(codec="mp3")),
        (None, Audio(codec="mp3", sample_rate=22_050)),
    ],
)
def test_sample_entries_like_ffmpeg(video: str | None, audio: Audio, tmp_path: FilePath) -> None:
    """Our sample entries are those that ffmpeg writes for the same clip."""
    clip = make_clip(video=video, audio=(audio,), seconds=0.4)
    assert_like_ffmpeg(clip.data, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "ac3-audio-ts/ChID_voices_6ch_640kbps_dd_sub_0000.ts", "bipbop2seg-ts/bipbop0.ts",
        "cea608-ts/sd-hls0000000000.ts", "diffptsdts-ts/videoDiffPtsDts.ts",
        "disc-unrelated-ts/bc0.ts", "hevc-small-ts/sample_h265.ts", "hevc-ts/0.ts",
        "ec3-h264-ts/ChID_voices_1280x720p_25fps_h264_6ch_256kbps_ddp_sub_0000.ts",
        "id3-heaac-ts/id3-metadata.ts", "mp3-audio-ts/media_w239891843_0.ts",
    ],
)  # fmt: skip
def test_sample_entries_of_the_corpus_like_ffmpeg(
    name: str, corpus: FilePath, tmp_path: FilePath
) -> None:
    """Our sample entries are those that ffmpeg writes for real segments."""
    assert_like_ffmpeg((corpus / name).read_bytes()[: 1_500 * 188], tmp_path)


def test_paths_of_libavformat_mp4() -> None:
    """The configurations that libavformat finds in an MP4 make a path each."""
    with av.open(io.BytesIO(movie_init()), "r", format="mp4") as container:
        for stream in container.streams:
            config = bytes(stream.codec_context.extradata or b"")
            assert config
            path_for(stream.codec_context.name, config)


# -- anything --------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["h264", "hevc", "aac", "ac3", "eac3", "mp3"])
@given(packets=st.lists(st.tuples(st.binary(max_size=60), st.booleans()), max_size=5))
def test_paths_of_anything(codec: str, packets: Iterable[tuple[bytes, bool]]) -> None:
    """Whatever comes, only errors that tell of the source are raised."""
    starts = {"aac": b"\xff\xf1", "mp3": b"\xff\xfb", "ac3": b"\x0b\x77", "eac3": b"\x0b\x77"}
    path = path_for(codec)
    try:
        for data, keyframe in packets:
            for packet in (data, starts.get(codec, b"\0\0\1\x67") + data):
                feed(path, packet, keyframe=keyframe)
        path.flush()
    except (BitstreamError, UnsupportedCodec, SpliceIncompatible):
        return
    if path.ready and path.picture is None:
        assert path.frame_duration_s() > 0


@pytest.mark.parametrize(("encoder", "codec"), [("libx264", "h264"), ("libx265", "hevc")])
@given(data=st.data())
def test_paths_of_damaged_sets(encoder: str, codec: str, data: st.DataObject) -> None:
    """Real parameter sets with flipped bits are read or refused, and never crash."""
    packet = bytearray(encode(encoder, "yuv420p", 176, 144, "")[0][:120])
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(packet) - 1))
        packet[place] ^= 1 << data.draw(st.integers(0, 7))
    path = path_for(codec)
    try:
        feed(path, bytes(packet), keyframe=True)
    except BitstreamError:
        return
    if path.ready:
        entry_of(path)
        assert path.frame_duration_s() > 0


@pytest.mark.parametrize("audio", [Audio(), Audio(codec="mp3"), Audio(codec="eac3")])
def test_paths_of_real_audio(audio: Audio) -> None:
    """Of real frames, none is left out."""
    clip = make_clip(video=None, audio=(audio,), seconds=0.5)
    with av.open(io.BytesIO(clip.data), "r", format="mpegts") as container:
        path = path_for(audio.codec)
        packets = [bytes(packet) for packet in container.demux() if packet.size]
    assert all(feed(path, packet) is not None for packet in packets)
    assert path.left_out == 0
