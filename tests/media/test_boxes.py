"""Boxes: what is written is read back by an independent reader, and by libavformat."""

import io
import struct
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import pytest

from proxy.media.audio import parse_frame
from proxy.media.audio_format import AudioFormat
from proxy.media.boxes import (
    TrackBox,
    TrackRun,
    audio_entry,
    avcc,
    box,
    full_box,
    hvcc,
    init_segment,
    movie_fragment,
    video_entry,
)
from proxy.media.nal import BitstreamError
from proxy.media.parameters import Colour, PictureFormat, parse_h264_sps, parse_hevc_sps
from tests.media.helpers import ac3_frame, adts_frame, eac3_frame, h264_sps, hevc_sps, mp3_frame
from tests.support import boxes, elementary
from tests.support.box_tree import Box, parse

PICTURE = PictureFormat(width=1280, height=720)
SPS = h264_sps(profile=100, constraints=0x10, level=31)
PPS = b"\x68\xeb\xec\xb2\x2c"
AAC = parse_frame("aac", adts_frame(b"\x21"))

VIDEO = TrackBox(
    track_id=1,
    timescale=90_000,
    sample_entry=video_entry(b"avc1", box(b"avcC", avcc([SPS], [PPS], PICTURE)), PICTURE),
    media_start=0,
    picture=PICTURE,
)
AUDIO = TrackBox(
    track_id=2, timescale=48_000, sample_entry=audio_entry(AAC), media_start=0, language="deu"
)


def movie(*tracks: TrackBox) -> boxes.Movie:
    return boxes.read(init_segment(tracks or [VIDEO, AUDIO]))


def one(data: bytes) -> Box:
    (found,) = parse(data)
    return found


# -- plain boxes -----------------------------------------------------------------------------------


def test_box() -> None:
    """A box has its size, its kind, and its parts one behind the other."""
    assert box(b"free") == b"\0\0\0\x08free"
    assert box(b"test", b"ab", b"", b"c") == b"\0\0\0\x0btestabc"
    assert full_box(b"test", 1, 0x020304, b"x") == b"\0\0\0\x0dtest\x01\x02\x03\x04x"


# -- H.264 and HEVC --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "tail"),
    [(66, b""), (77, b""), (88, b""), (100, b"\xfd\xf8\xf8\0"), (122, b"\xfe\xfa\xfc\0")],
)
def test_avcc(profile: int, tail: bytes) -> None:
    """Profile and level come from the first set; High profiles say format and depths, too."""
    sps = h264_sps(profile=profile, constraints=0x40, level=40, chroma=2, depths=(10, 12))
    if profile == 100:
        sps = h264_sps(constraints=0x40, level=40)
    record = avcc([sps], [PPS], parse_h264_sps(sps))
    head = bytes([1, profile, 0x40, 40, 0xFF, 0xE1]) + struct.pack(">H", len(sps)) + sps
    assert record == head + b"\x01\0\x05" + PPS + tail


def test_avcc_of_many_sets() -> None:
    """All sets are there, as many as the counts can say; an independent reader finds them."""
    sets = [h264_sps(level=level) for level in range(10, 50)]
    more = [b"\x68" + bytes([number]) for number in range(1, 256)] + [b"\x68\x01\x01"] * 5
    size, found = elementary.read_avcc(avcc(sets, more, PICTURE))
    assert size == 4
    assert found == [*sets[:31], *more[:255]]


def test_hvcc() -> None:
    """Every field of the record, from the set it belongs to."""
    head = bytes.fromhex("210123456789abcdef0a0b99")
    sps = hevc_sps(head=head, sub_layers=3, nested=True, chroma=2, depths=(10, 11))
    sequence = replace(parse_hevc_sps(sps), min_spatial_segmentation=0xABC)
    vps, pps = b"\x40\x01\x0c", b"\x44\x01\xc1"
    record = hvcc([vps], [sps, sps], [pps], sequence)
    fields = b"\x01" + head + bytes.fromhex("fabc fc fe fa fb 0000 1f 03")
    arrays = b"\x20\0\x01" + struct.pack(">H", 3) + vps
    arrays += b"\x21\0\x02" + (struct.pack(">H", len(sps)) + sps) * 2
    arrays += b"\x22\0\x01" + struct.pack(">H", 3) + pps
    assert record == fields + arrays
    assert elementary.read_hvcc(record) == (4, [vps, sps, sps, pps])


def test_configuration_with_too_large_a_set() -> None:
    """A set that its length field cannot tell is damage, not our fault."""
    large = SPS + bytes(65_536)
    with pytest.raises(BitstreamError):
        avcc([large], [PPS], PICTURE)
    with pytest.raises(BitstreamError):
        avcc([SPS], [PPS + bytes(65_536)], PICTURE)
    sps = hevc_sps()
    with pytest.raises(BitstreamError):
        hvcc([b"\x40\x01" + bytes(65_535)], [sps], [b"\x44\x01"], parse_hevc_sps(sps))


def test_video_entry() -> None:
    """Size, configuration, colour and pixel aspect ratio stand in the entry."""
    colour = Colour(primaries=9, transfer=16, matrix=9, full_range=True)
    picture = replace(PICTURE, colour=colour, sample_aspect_ratio=(64, 45))
    entry = one(video_entry(b"avc1", box(b"avcC", b"config"), picture))
    assert entry.kind == "avc1"
    assert entry.body[:24] == bytes(6) + b"\0\x01" + bytes(16)
    assert struct.unpack_from(">HHII", entry.body, 24) == (1280, 720, 0x480000, 0x480000)
    # frame_count, compressorname, depth, pre_defined
    assert entry.body[36:78] == bytes(4) + b"\0\x01" + bytes(32) + b"\0\x18\xff\xff"
    found = {child.kind: child.body for child in parse(entry.body[78:])}
    assert found == {
        "avcC": b"config",
        "colr": b"nclx" + bytes.fromhex("0009 0010 0009 80"),
        "pasp": struct.pack(">II", 64, 45),
    }


def test_video_entry_of_plain_pictures() -> None:
    """Without colour and aspect ratio there is the configuration alone."""
    entry = one(video_entry(b"hvc1", box(b"hvcC"), PICTURE))
    assert [child.kind for child in parse(entry.body[78:])] == ["hvcC"]


# -- audio -----------------------------------------------------------------------------------------


def _entry(audio: AudioFormat) -> boxes.SampleEntry:
    track = replace(AUDIO, sample_entry=audio_entry(audio))
    return movie(track).tracks[0].entry


@pytest.mark.parametrize(
    ("codec", "frame", "kind", "config_kind"),
    [
        ("ac3", ac3_frame(mode=7, lfe=1), "ac-3", "dac3"),
        ("eac3", eac3_frame(mode=7, lfe=1), "ec-3", "dec3"),
    ],
)
def test_audio_entry_of_dolby(codec: str, frame: bytes, kind: str, config_kind: str) -> None:
    """AC-3 and E-AC-3 have entries of their own, with their configuration as it is."""
    audio = parse_frame(codec, frame)
    entry = _entry(audio)
    assert (entry.kind, entry.config_kind, entry.config) == (kind, config_kind, audio.config)
    assert (entry.channels, entry.sample_rate) == (6, 48_000)


def test_audio_entry_of_aac() -> None:
    """AAC's configuration stands in an ES descriptor of object type 40."""
    entry = _entry(AAC)
    assert (entry.kind, entry.config_kind) == ("mp4a", "esds")
    esds = elementary.read_esds(entry.config)
    assert (esds.object_type, esds.specific) == (0x40, AAC.config)
    assert entry.config[-6:] == b"\x06\x80\x80\x80\x01\x02"  # SLConfigDescriptor: MP4


@pytest.mark.parametrize(("version", "object_type"), [(3, 0x6B), (2, 0x69), (0, 0x69)])
def test_audio_entry_of_mp3(version: int, object_type: int) -> None:
    """MP3 has an object type of its own for each half of the rates, and no configuration."""
    entry = _entry(parse_frame("mp3", mp3_frame(version=version)))
    esds = elementary.read_esds(entry.config)
    assert (entry.kind, esds.object_type, esds.specific) == ("mp4a", object_type, b"")


@pytest.mark.parametrize(
    ("codec", "kind", "inner"), [("opus", "Opus", "dOps"), ("flac", "fLaC", "dfLa")]
)
def test_audio_entry_of_others(codec: str, kind: str, inner: str) -> None:
    """Opus and FLAC are told by their own entries and boxes."""
    entry = _entry(replace(AAC, codec=codec, config=b"config"))
    assert (entry.kind, entry.config_kind, entry.config) == (kind, inner, b"config")


def test_audio_entry_of_high_rate() -> None:
    """A rate that 16 bits cannot tell is left to the configuration."""
    assert _entry(replace(AAC, sample_rate=96_000)).sample_rate == 0
    assert _entry(replace(AAC, sample_rate=64_000)).sample_rate == 64_000


def test_audio_entry_with_long_configuration() -> None:
    """The sizes of descriptors have seven bits to the byte."""
    esds = elementary.read_esds(_entry(replace(AAC, config=bytes(300))).config)
    assert esds.specific == bytes(300)


# -- init segment ----------------------------------------------------------------------------------


def test_init_segment() -> None:
    """Both tracks, their clocks and entries; no sample, no edit, no length."""
    found = movie()
    assert found.brands[0] == "iso6"
    video, audio = found.tracks
    assert (video.handler, video.timescale, video.entry.kind) == ("vide", 90_000, "avc1")
    assert (video.entry.width, video.entry.height) == (1280, 720)
    assert (audio.handler, audio.timescale, audio.language) == ("soun", 48_000, "deu")
    assert video.language == "und"
    assert [track.duration for track in found.tracks] == [0, 0]
    assert [track.edits for track in found.tracks] == [(), ()]
    assert [track.defaults for track in found.tracks] == [(0, 0, 0), (0, 0, 0)]
    moov = found.boxes[1]
    assert struct.unpack(">I", moov.one("mvhd").body[-4:]) == (3,)  # next_track_ID
    assert not moov.one("mvex").all("mehd")


_MATRIX = bytes.fromhex("00010000" + "00" * 12 + "00010000" + "00" * 12 + "40000000")


def test_init_segment_fields() -> None:
    """Every box byte by byte, where the standard leaves no choice (14496-12 section 8)."""
    moov = movie().boxes[1]
    mvhd = bytes(12) + bytes.fromhex("000003e8 00000000 00010000 0100") + bytes(10)
    assert moov.one("mvhd").body == mvhd + _MATRIX + bytes(24) + b"\0\0\0\x03"
    video, audio = moov.all("trak")
    for trak, number, tail in (
        (video, 1, "0000 0000 0000 0000"),
        (audio, 2, "0000 0001 0100 0000"),  # layer, alternate group, volume
    ):
        tkhd = b"\0\0\0\x03" + bytes(8) + struct.pack(">I", number) + bytes(16)
        assert trak.one("tkhd").body[:40] == tkhd + bytes.fromhex(tail)
        assert trak.one("tkhd").body[40:76] == _MATRIX
        stbl = trak.one("mdia", "minf", "stbl")
        tables = [(child.kind, child.body) for child in stbl.children if child.kind != "stsd"]
        assert tables == [
            ("stts", bytes(8)),
            ("stsc", bytes(8)),
            ("stsz", bytes(12)),
            ("stco", bytes(8)),
        ]
        dref = trak.one("mdia", "minf", "dinf", "dref").body
        assert dref == b"\0\0\0\0\0\0\0\x01" + b"\0\0\0\x0curl \0\0\0\x01"
    assert video.one("mdia", "minf", "vmhd").body == b"\0\0\0\x01" + bytes(8)
    assert audio.one("mdia", "minf", "smhd").body == bytes(8)
    assert video.one("mdia", "hdlr").body == bytes(8) + b"vide" + bytes(12) + b"VideoHandler\0"
    assert audio.one("mdia", "hdlr").body == bytes(8) + b"soun" + bytes(12) + b"SoundHandler\0"
    assert [trex.body for trex in moov.one("mvex").children] == [
        struct.pack(">6I", 0, number, 1, 0, 0, 0) for number in (1, 2)
    ]


@pytest.mark.parametrize(
    ("language", "packed"),
    [("deu", "deu"), ("DEU", "deu"), (None, "und"), ("de", "und"), ("de1", "und"), ("äöü", "und")],
)
def test_init_segment_language(language: str | None, packed: str) -> None:
    """Three letters are packed; what is none is undetermined."""
    assert movie(replace(AUDIO, language=language)).tracks[0].language == packed


@pytest.mark.parametrize(
    ("ratio", "size", "width"),
    [
        (None, (1280, 720), 1280.0),
        ((64, 45), (720, 576), 1024.0),
        ((12, 11), (720, 576), 720 * 12 / 11),
        ((65_535, 1), (1280, 720), 65_536.0),
    ],
)
def test_init_segment_track_size(
    ratio: tuple[int, int] | None, size: tuple[int, int], width: float
) -> None:
    """The track is as wide as it is shown: 16.16 fixed point."""
    picture = replace(PICTURE, width=size[0], height=size[1], sample_aspect_ratio=ratio)
    tkhd = movie(replace(VIDEO, picture=picture)).boxes[1].one("trak", "tkhd")
    across, down = struct.unpack(">II", tkhd.body[-8:])
    assert abs(across / 65_536 - width) <= 1 / 65_536
    assert down == size[1] << 16


def test_init_segment_with_lead() -> None:
    """The decode time that is presented first stands in an edit that goes on to the end, whether
    the length is known or not: fragments follow."""
    for duration in (0, 90_000 * 3600):
        track = movie(replace(VIDEO, media_start=7_200, duration=duration)).tracks[0]
        assert track.edits == (boxes.Edit(duration=0, media_time=7_200),)
        assert track.seconds(7_200) == 0


def test_init_segment_with_length() -> None:
    """A known length stands in mdhd, tkhd, mvhd and mehd, each in its own clock."""
    video = replace(VIDEO, duration=90_000 * 125 // 2)
    audio = replace(AUDIO, duration=48_000 * 62)
    found = movie(video, audio)
    assert [track.duration for track in found.tracks] == [90_000 * 125 // 2, 48_000 * 62]
    moov = found.boxes[1]
    assert struct.unpack_from(">I", moov.one("mvhd").body, 16) == (62_500,)
    assert [struct.unpack_from(">I", t.one("tkhd").body, 20)[0] for t in moov.all("trak")] == [
        62_500,
        62_000,
    ]
    mvex = moov.one("mvex")
    assert mvex.children[0].kind == "mehd"
    assert struct.unpack_from(">IQ", mvex.one("mehd").body) == (1 << 24, 62_500)


def test_init_segment_of_very_long_presentations() -> None:
    """Beyond 32 bits (13.2 h at 90 kHz) the length needs, and gets, the wide form."""
    assert movie(replace(VIDEO, duration=0xFFFF_FFFF)).tracks[0].duration == 0xFFFF_FFFF
    found = movie(replace(VIDEO, duration=90_000 * 3600 * 2000))
    assert found.tracks[0].duration == 90_000 * 3600 * 2000
    assert struct.unpack_from(">I", found.boxes[1].one("mvhd").body, 16) == (0xFFFF_FFFF,)


def test_init_segment_read_by_libavformat() -> None:
    """libavformat finds the same tracks, with their configurations."""
    colour = Colour(primaries=1, transfer=1, matrix=1, full_range=False)
    picture = replace(PICTURE, colour=colour, sample_aspect_ratio=(4, 3))
    entry = video_entry(b"avc1", box(b"avcC", avcc([SPS], [PPS], picture)), picture)
    data = init_segment([replace(VIDEO, sample_entry=entry, picture=picture), AUDIO])
    with av.open(io.BytesIO(data), "r", format="mp4") as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.width, video.codec_context.height) == (1280, 720)
        assert video.sample_aspect_ratio == Fraction(4, 3)
        assert video.codec_context.extradata == avcc([SPS], [PPS], picture)
        assert (video.codec_context.color_primaries, video.codec_context.color_range) == (1, 1)
        assert (audio.codec_context.sample_rate, audio.language) == (48_000, "deu")
        assert audio.codec_context.extradata == AAC.config


# -- fragments -------------------------------------------------------------------------------------


def _run(**wishes: Any) -> TrackRun:
    defaults: dict[str, Any] = {
        "track_id": 1,
        "decode_time": 3_600,
        "durations": [3_600, 3_600, 1],
        "sizes": [5, 0, 2],
        "sync": [True, False, False],
        "offsets": [7_200, 0, -3_600],
    }
    return TrackRun(**{**defaults, **wishes})


_AUDIO_RUN = TrackRun(
    track_id=2,
    decode_time=1 << 33,
    durations=[1024, 1024],
    sizes=[3, 4],
    sync=None,
    offsets=None,
)


def test_movie_fragment() -> None:
    """Every property of every sample comes back, and each finds its bytes."""
    runs = [_run(), _AUDIO_RUN]
    head = movie_fragment(7, runs)
    found = boxes.read(init_segment([VIDEO, AUDIO]) + head + b"AAAAABBcccDDDD")
    (fragment,) = found.fragments
    assert (fragment.sequence, fragment.size) == (7, len(head) + 14)
    video = found.samples(found.tracks[0])
    assert [s.data for s in video] == [b"AAAAA", b"", b"BB"]
    assert [s.decode_time for s in video] == [3_600, 7_200, 10_800]
    assert [s.duration for s in video] == [3_600, 3_600, 1]
    assert [s.composition_offset for s in video] == [7_200, 0, -3_600]
    assert [s.sync for s in video] == [True, False, False]
    audio = found.samples(found.tracks[1])
    assert [s.data for s in audio] == [b"ccc", b"DDDD"]
    assert [s.decode_time for s in audio] == [1 << 33, (1 << 33) + 1024]
    assert [(s.composition_offset, s.sync) for s in audio] == [(0, True), (0, True)]


def test_movie_fragment_flags() -> None:
    """Sync samples depend on no other, the others do (14496-12 section 8.8.3.1)."""
    (moof, _) = parse(movie_fragment(1, [_run()]) + bytes(7))
    trun = moof.one("traf", "trun").body
    assert struct.unpack_from(">I", trun) == (0x0100_0F01,)
    assert [struct.unpack_from(">I", trun, 12 + 16 * n + 8)[0] for n in range(3)] == [
        0x0200_0000,
        0x0101_0000,
        0x0101_0000,
    ]


@pytest.mark.parametrize("run", [_run(), _AUDIO_RUN, _run(offsets=None), _run(sync=None)])
def test_track_run_box_size(run: TrackRun) -> None:
    """The size is known before the boxes are written: the data's offset depends on it."""
    (moof, _) = parse(movie_fragment(1, [run]) + bytes(7))
    assert moof.one("traf").size == run.box_size()


def test_movie_fragment_sequence_wraps() -> None:
    """A stream that runs for ever outlives 32 bits."""
    (moof, _) = parse(movie_fragment((1 << 32) + 5, [_run()]) + bytes(7))
    assert moof.one("mfhd").body == b"\0\0\0\0\0\0\0\x05"
