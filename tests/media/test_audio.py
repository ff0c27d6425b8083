"""Audio frame headers and configurations: crafted ones bit by bit, real ones against libavcodec."""

from collections.abc import Callable
from typing import Any

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import UnsupportedCodec
from proxy.media.aac import aac_format_of
from proxy.media.audio import (
    eac3_blocks,
    flac_format,
    opus_format,
    opus_samples,
    parse_frame,
)
from proxy.media.audio_format import AudioFormat
from proxy.media.nal import BitstreamError
from tests.media.helpers import (
    Bits,
    Write,
    ac3_frame,
    eac3_frame,
    first_packet,
    mp3_frame,
)
from tests.support.clips import Audio

# -- AC-3 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "lfe", "channels"),
    [
        (0, 0, 2),
        (1, 0, 1),
        (2, 0, 2),
        (2, 1, 3),
        (3, 0, 3),
        (4, 1, 4),
        (5, 0, 4),
        (6, 1, 5),
        (7, 1, 6),
    ],
)
def test_ac3_format(mode: int, lfe: int, channels: int) -> None:
    """`dac3` repeats rate, version, modes, LFE and bit rate, wherever mix levels stand before."""
    frame = ac3_frame(mode=mode, lfe=lfe, rate=1, size_code=0x1D, service=2)
    found = parse_frame("ac3", frame)
    dac3 = Bits().u(2, 1).u(5, 8).u(3, 2).u(3, mode).u(1, lfe).u(5, 0x1D >> 1).u(5, 0).pack()
    assert found == AudioFormat(
        codec="ac3",
        sample_rate=44_100,
        channels=channels,
        frame_samples=1536,
        config=dac3,
        rfc6381="ac-3",
    )


@pytest.mark.parametrize(("version", "rate"), [(6, 48_000), (8, 48_000), (9, 24_000), (10, 12_000)])
def test_ac3_format_of_versions(version: int, rate: int) -> None:
    """Versions 9 and 10 run at half and a quarter of the rate."""
    assert parse_frame("ac3", ac3_frame(version=version)).sample_rate == rate


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x0b\x77\0\0",
        b"\x0b\x78" + ac3_frame()[2:],
        ac3_frame(rate=3),
        ac3_frame(version=16),
    ],
)
def test_ac3_format_that_is_none(frame: bytes) -> None:
    """No sync word, a reserved rate, E-AC-3's version, or too short."""
    with pytest.raises(BitstreamError):
        parse_frame("ac3", frame)


# -- E-AC-3 ----------------------------------------------------------------------------------------


def _dec3(
    data_rate: int,
    *substreams: tuple[int, int, int, int, int | None],
    version: int = 16,
) -> bytes:
    """Substreams: fscod, bsmod, acmod, lfeon, chan_loc (None: no dependent substream)."""
    bits = Bits().u(13, data_rate).u(3, len(substreams) - 1)
    for rate, service, mode, lfe, locations in substreams:
        bits.u(2, rate).u(5, version).u(1, 0).u(1, 0).u(3, service).u(3, mode).u(1, lfe).u(3, 0)
        if locations is None:
            bits.u(4, 0).u(1, 0)
        else:
            bits.u(4, 1).u(9, locations)
    return bits.pack()


def test_eac3_format() -> None:
    """`dec3` of one independent substream."""
    found = parse_frame("eac3", eac3_frame(mode=7, lfe=1, size=768))
    assert found == AudioFormat(
        codec="eac3",
        sample_rate=48_000,
        channels=6,
        frame_samples=1536,
        config=_dec3(192, (0, 0, 7, 1, None)),
        rfc6381="ec-3",
    )


@pytest.mark.parametrize(("code", "blocks"), [(0, 1), (1, 2), (2, 3), (3, 6)])
def test_eac3_format_of_short_frames(code: int, blocks: int) -> None:
    """Frames of fewer than six blocks are shorter, at a data rate that is as high."""
    frame = eac3_frame(blocks=code, size=128 * blocks)
    assert eac3_blocks(frame) == blocks
    found = parse_frame("eac3", frame)
    assert found.frame_samples == 256 * blocks
    assert found.config == _dec3(192, (0, 0, 2, 0, None))


def test_eac3_format_of_joined_frames() -> None:
    """A sample of an MP4 holds six blocks, in as many frames as it takes."""
    packet = eac3_frame(blocks=1, size=256) * 3
    assert eac3_blocks(memoryview(packet)) == 6
    found = parse_frame("eac3", packet)
    assert found.frame_samples == 1536
    assert found.config == _dec3(192, (0, 0, 2, 0, None))


@pytest.mark.parametrize(("code", "rate"), [(0, 24_000), (1, 22_050), (2, 16_000)])
def test_eac3_format_of_reduced_rates(code: int, rate: int) -> None:
    """fscod 3 means half a rate and six blocks."""
    found = parse_frame("eac3", eac3_frame(rate=3, blocks=code, size=512))
    assert (found.sample_rate, found.frame_samples) == (rate, 1536)
    assert found.config[2] >> 6 == 3


# chanmap's bit, counted from the left, and the bit of chan_loc, counted from the right
@pytest.mark.parametrize(
    ("bit", "location", "more"),
    [
        (5, 0, 2), (6, 1, 2), (7, 2, 1), (8, 3, 1), (9, 4, 2), (10, 5, 2), (11, 6, 2), (12, 7, 1),
        (14, 8, 1), (3, None, 0),
    ],
)  # fmt: skip
def test_eac3_format_with_dependent_substream(bit: int, location: int | None, more: int) -> None:
    """The channels that a dependent substream adds to 5.1 stand in chan_loc."""
    packet = eac3_frame(mode=7, lfe=1, size=768)
    packet += eac3_frame(stream_type=1, mode=2, size=384, channel_map=0x8000 >> bit)
    found = parse_frame("eac3", packet)
    expected = 0 if location is None else 1 << location
    assert found.config == _dec3((768 + 384) * 8 * 48 // 1536, (0, 0, 7, 1, expected))
    assert found.channels == 6 + more
    assert found.frame_samples == 1536


def test_eac3_format_with_dependent_substream_without_map() -> None:
    """A dependent substream without a channel map is counted, and its places are not known."""
    packet = eac3_frame(mode=7, lfe=1) + eac3_frame(stream_type=1, mode=2)
    assert parse_frame("eac3", packet).config[-2:] == b"\x02\0"


def test_eac3_format_with_two_programs() -> None:
    """Each independent substream of a packet has its own part of `dec3`."""
    packet = eac3_frame(mode=7, lfe=1, size=768) + eac3_frame(substream=1, mode=1, size=384)
    found = parse_frame("eac3", packet)
    assert found.config == _dec3(288, (0, 0, 7, 1, None), (0, 0, 1, 0, None))
    assert (found.channels, found.frame_samples) == (6, 1536)


# Metadata of every form: what stands behind it (Atmos) must come out all the same.

_ATMOS = 16


def _tail(bits: Bits) -> Bits:
    """addbsi with the extension of ETSI TS 103 420 section 8.3.1."""
    return bits.flag(True).u(6, 1).u(7, 0).flag(True).u(8, _ATMOS)


@pytest.mark.parametrize("mode", range(8))
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("blocks", range(4))
@pytest.mark.parametrize("stream_type", [0, 2])
def test_eac3_format_with_metadata(mode: int, full: bool, blocks: int, stream_type: int) -> None:
    """The service and the Atmos complexity are found behind all optional metadata."""
    frame = eac3_frame(
        stream_type=stream_type,
        blocks=blocks,
        mode=mode,
        lfe=1,
        size=768,
        rest=_metadata(mode, blocks=blocks, stream_type=stream_type, full=full, mixing=3),
    )
    found = parse_frame("eac3", frame)
    assert found.config[-2:] == bytes([1, _ATMOS])
    assert found.config[3] >> 4 & 7 == 5


@pytest.mark.parametrize("mixing", range(4))
def test_eac3_format_with_mixing(mixing: int) -> None:
    """All four forms of mixing data are passed over."""
    rest = _metadata(7, blocks=3, stream_type=0, full=True, mixing=mixing)
    found = parse_frame("eac3", eac3_frame(mode=7, lfe=1, size=768, rest=rest))
    assert found.config[-2:] == bytes([1, _ATMOS])


def test_eac3_format_with_metadata_of_dependent_substream() -> None:
    """A dependent substream's mixing metadata is shorter, and Atmos may stand there."""
    rest = _metadata(2, blocks=0, stream_type=1, full=True, mixing=0)
    packet = eac3_frame(mode=7, lfe=1, blocks=0, size=256)
    packet += eac3_frame(stream_type=1, mode=2, lfe=1, blocks=0, channel_map=0x200, rest=rest)
    found = parse_frame("eac3", packet)
    assert found.config[-2:] == bytes([1, _ATMOS])
    assert found.channels == 8


@pytest.mark.parametrize("mode", [0, 1, 7])
@pytest.mark.parametrize("blocks", [1, 3])
def test_eac3_format_with_empty_mixing(mode: int, blocks: int) -> None:
    """Mixing metadata of which every optional part is missing."""

    def rest(bits: Bits) -> None:
        bits.flag(True)
        bits.u({0: 0, 1: 0, 7: 14}[mode], 0).flag(False)  # lfemixlevcode
        bits.u(2 if mode == 0 else 1, 0).flag(False).u(2, 0)
        bits.u({0: 2, 1: 1, 7: 0}[mode], 0).flag(False)  # paninfo, frmmixcfginfoe
        bits.flag(False).u(1 if blocks != 3 else 0, 0)
        _tail(bits)

    frame = eac3_frame(mode=mode, lfe=1, blocks=blocks, rest=rest)
    assert parse_frame("eac3", frame).config[-2:] == bytes([1, _ATMOS])


def test_eac3_format_of_reduced_rate_with_metadata() -> None:
    """At a reduced rate there is no sourcefscod."""
    rest = _metadata(7, blocks=3, stream_type=0, full=True, mixing=2, source_rate=False)
    frame = eac3_frame(rate=3, blocks=0, mode=7, lfe=1, size=768, rest=rest)
    assert parse_frame("eac3", frame).config[-2:] == bytes([1, _ATMOS])


def _metadata(
    mode: int, *, blocks: int, stream_type: int, full: bool, mixing: int, source_rate: bool = True
) -> Write:
    """Write everything from mixmdate on, ETSI TS 102 366 table E.1.2; bsmod is 5."""
    twice = 2 if mode == 0 else 1

    def mixing_metadata(bits: Bits) -> None:
        if mode > 2:
            bits.u(2, 1)
        if mode & 1 and mode > 2:
            bits.u(6, 0x15)
        if mode & 4:
            bits.u(6, 0x2A)
        bits.flag(True).u(5, 9)  # lfemixlevcod
        if stream_type != 0:
            return
        for _ in range(twice):
            bits.flag(True).u(6, 1)
        bits.flag(True).u(6, 2).u(2, mixing)
        if mixing == 1:
            bits.u(5, 3)
        elif mixing == 2:
            bits.u(12, 0xABC)
        elif mixing == 3:
            bits.u(5, 4)
            for byte in range(6):
                bits.u(8, 0xF0 | byte)
        if mode < 2:
            for _ in range(twice):
                bits.flag(True).u(14, 0x1555)
        bits.flag(True)  # frmmixcfginfoe
        if blocks == 0:
            bits.u(5, 7)
        else:
            for block in range((1, 2, 3, 6)[blocks]):
                bits.flag(block % 2)
                if block % 2:
                    bits.u(5, 31)

    def write(bits: Bits) -> None:
        bits.flag(full)
        if full:
            mixing_metadata(bits)
        bits.flag(True).u(3, 5).u(2, 1)  # infomdate, bsmod
        if mode == 2:
            bits.u(4, 9)
        if mode >= 6:
            bits.u(2, 2)
        for _ in range(twice):
            bits.flag(full)
            if full:
                bits.u(8, 0x77)
        if source_rate:
            bits.u(1, 0)
        if stream_type == 0 and blocks != 3:
            bits.u(1, 1)  # convsync
        if stream_type == 2:
            if blocks != 3:
                bits.flag(full)
            if blocks == 3 or full:
                bits.u(6, 0x3F)
        _tail(bits)

    return write


def test_eac3_format_without_atmos() -> None:
    """Other additional information is not taken for the Atmos extension."""

    def plain(bits: Bits) -> None:
        bits.flag(False).flag(False).flag(True).u(6, 1).u(7, 0).flag(False).u(8, 99)

    def short(bits: Bits) -> None:
        bits.flag(False).flag(False).flag(True).u(6, 0).u(7, 0).flag(True)

    for rest in (plain, short):
        assert len(parse_frame("eac3", eac3_frame(rest=rest)).config) == 5


@pytest.mark.parametrize("mode", [0, 2])
def test_eac3_format_with_compression(mode: int) -> None:
    """Compression words stand before the rest, two of them for two mono programs."""
    rest = _metadata(mode, blocks=3, stream_type=0, full=False, mixing=0)
    found = parse_frame("eac3", eac3_frame(mode=mode, lfe=1, compress=True, rest=rest))
    assert found.config[-2:] == bytes([1, _ATMOS])


def test_eac3_format_cut_in_metadata() -> None:
    """What is informative may be missing: the entry is good without it."""
    frame = eac3_frame(mode=7, lfe=1, size=12)
    assert parse_frame("eac3", frame[:8]).config[2:5] == _dec3(0, (0, 0, 7, 1, None))[2:]


def test_eac3_format_before_junk() -> None:
    """What is no frame behind the first one is passed over."""
    frame = eac3_frame(size=64)
    assert parse_frame("eac3", frame + b"junk" * 8) == parse_frame("eac3", frame)
    assert eac3_blocks(frame + b"\0") == 6


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x0b\x77\0",
        b"\x0b\x78" + eac3_frame()[2:],
        eac3_frame(rate=3, blocks=3),
        eac3_frame(stream_type=1),
    ],
)
def test_eac3_format_that_is_none(frame: bytes) -> None:
    """No sync word, a reserved rate, too short, or a dependent substream alone."""
    with pytest.raises(BitstreamError):
        parse_frame("eac3", frame)


# -- MPEG audio ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "index", "rate"),
    [
        (3, 0, 44_100), (3, 1, 48_000), (3, 2, 32_000),
        (2, 0, 22_050), (2, 1, 24_000), (2, 2, 16_000),
        (0, 0, 11_025), (0, 1, 12_000), (0, 2, 8_000),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", range(4))
def test_mp3_format(version: int, index: int, rate: int, mode: int) -> None:
    """Rate, channels, frame length and object type follow from version, index and mode."""
    assert parse_frame("mp3", mp3_frame(version=version, rate=index, mode=mode)) == AudioFormat(
        codec="mp3",
        sample_rate=rate,
        channels=1 if mode == 3 else 2,
        frame_samples=1152 if version == 3 else 576,
        config=b"",
        rfc6381="mp4a.6B" if version == 3 else "mp4a.69",
    )


@pytest.mark.parametrize(("layer", "name"), [(3, "mp1"), (2, "mp2"), (0, "mpeg audio")])
def test_mp3_format_of_other_layers(layer: int, name: str) -> None:
    """Layers I and II are refused by name: stream types do not tell them from layer III."""
    with pytest.raises(UnsupportedCodec, match=f"layer {layer}") as caught:
        parse_frame("mp3", mp3_frame(layer=layer))
    assert name in caught.value.detail


@pytest.mark.parametrize(
    "frame", [b"", b"\xff\xfb\x90", b"\xfe\xfb\x90\0", mp3_frame(version=1), mp3_frame(rate=3)]
)
def test_mp3_format_that_is_none(frame: bytes) -> None:
    """No sync word, a reserved version or rate, or too short."""
    with pytest.raises(BitstreamError):
        parse_frame("mp3", frame)


# -- Opus and FLAC ---------------------------------------------------------------------------------


def _extradata(encoder: str, **wishes: Any) -> bytes:
    context = av.CodecContext.create(encoder, "w")
    assert isinstance(context, av.AudioCodecContext)
    context.sample_rate = wishes.get("rate", 48_000)
    context.layout = wishes.get("layout", "stereo")
    context.format = wishes.get("format", "s16")
    context.open()
    return bytes(context.extradata or b"")


def test_opus_format() -> None:
    """`dOps` has the fields of OpusHead in big-endian order and version 0."""
    head = _extradata("libopus")
    found = opus_format(head)
    skip, rate = int.from_bytes(head[10:12], "little"), int.from_bytes(head[12:16], "little")
    assert found.config == Bits().u(8, 0).u(8, 2).u(16, skip).u(32, rate).u(16, 0).u(8, 0).pack()
    assert (found.codec, found.sample_rate, found.channels) == ("opus", 48_000, 2)
    assert found.rfc6381 == "opus"


def test_opus_format_of_surround() -> None:
    """With a mapping family, the channel mapping follows."""
    head = _extradata("libopus", layout="5.1")
    found = opus_format(head)
    assert found.channels == 6
    assert head[18] == 1
    assert found.config[10:] == head[18:]
    assert len(head[18:]) == 1 + 2 + 6


@pytest.mark.parametrize(
    ("packet", "samples"),
    [
        (bytes([0 << 3]), 480),  # SILK, 10 ms
        (bytes([7 << 3]), 2880),  # SILK, 60 ms
        (bytes([7 << 3 | 1]), 5760),  # two of those
        (bytes([12 << 3]), 480),  # hybrid, 10 ms
        (bytes([15 << 3 | 2]), 1920),  # hybrid, two of 20 ms
        (bytes([16 << 3]), 120),  # CELT, 2.5 ms
        (bytes([31 << 3]), 960),  # CELT, 20 ms
        (bytes([28 << 3 | 3, 0x80 | 5]), 600),  # five of 2.5 ms, of different sizes
        (bytes([31 << 3 | 3, 7]), 960),  # 140 ms are too many
        (bytes([31 << 3 | 3, 0]), 960),  # no frame
        (bytes([31 << 3 | 3]), 960),  # cut
        (b"", 960),
    ],
)
def test_opus_samples(packet: bytes, samples: int) -> None:
    """RFC 6716 tables 2 and 3: the first byte says how long a packet lasts; 20 ms if it cannot."""
    assert opus_samples(packet) == samples


@pytest.mark.parametrize("head", [b"", b"OpusHead" + bytes(10), b"OpusTags" + bytes(20)])
def test_opus_format_that_is_none(head: bytes) -> None:
    """What is no identification header is refused."""
    with pytest.raises(BitstreamError):
        opus_format(head)


@pytest.mark.parametrize(
    ("rate", "layout", "channels"), [(44_100, "stereo", 2), (96_000, "mono", 1)]
)
def test_flac_format(rate: int, layout: str, channels: int) -> None:
    """`dfLa` holds the STREAMINFO as its last metadata block."""
    info = _extradata("flac", rate=rate, layout=layout)
    found = flac_format(info)
    assert (found.sample_rate, found.channels, found.rfc6381) == (rate, channels, "flac")
    assert found.config == bytes(4) + b"\x80\0\0\x22" + info
    assert found.frame_samples == int.from_bytes(info[2:4], "big")


def test_flac_format_without_block_size() -> None:
    """An unknown block size is taken for the usual one; what is cut is refused."""
    info = bytearray(_extradata("flac"))
    info[2:4] = b"\0\0"
    assert flac_format(bytes(info)).frame_samples == 4096
    info[10:13] = b"\0\0\0"
    for damaged in (info[:33], info):
        with pytest.raises(BitstreamError):
            flac_format(bytes(damaged))


# -- against libavcodec ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "audio",
    [
        Audio(codec="ac3", channels=1),
        Audio(codec="ac3", channels=6, bitrate=192_000),
        Audio(codec="ac3", sample_rate=32_000),
        Audio(codec="eac3"),
        Audio(codec="eac3", channels=6, sample_rate=44_100, bitrate=192_000),
        Audio(codec="mp3", sample_rate=32_000, channels=1),
        Audio(codec="mp3", sample_rate=16_000),
        Audio(codec="mp3"),
    ],
)
def test_format_of_real_frames(audio: Audio) -> None:
    """Rate, channels and frame length are those that were encoded."""
    found = parse_frame(audio.codec, first_packet(audio.codec, audio))
    assert (found.sample_rate, found.channels) == (audio.sample_rate, audio.channels)
    samples = 576 if audio.sample_rate == 16_000 else 1152
    assert found.frame_samples == (samples if audio.codec == "mp3" else 1536)


@pytest.mark.parametrize("codec", ["aac", "ac3", "eac3", "mp3"])
@given(frame=st.binary(max_size=60))
def test_format_of_anything(codec: str, frame: bytes) -> None:
    """Whatever comes is read or refused; nothing else is raised."""
    starts: dict[str, bytes] = {"aac": b"\xff\xf1", "ac3": b"\x0b\x77", "eac3": b"\x0b\x77"}
    for data in (frame, starts.get(codec, b"\xff\xfb") + frame):
        try:
            found = parse_frame(codec, data)
        except (BitstreamError, UnsupportedCodec):
            continue
        assert found.sample_rate > 0
        assert found.frame_samples > 0


@pytest.mark.parametrize("read", [aac_format_of, opus_format, flac_format])
@given(config=st.binary(max_size=60))
def test_config_of_anything(read: Callable[[bytes], AudioFormat], config: bytes) -> None:
    """Whatever an MP4 claims is read or refused; nothing else is raised."""
    try:
        found = read(config)
    except BitstreamError:
        return
    assert found.sample_rate > 0
    assert found.frame_samples > 0


# -- what can share a sample entry -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "frame"),
    [
        ("ac3", ac3_frame(size_code=36)),  # another bit rate
        ("ac3", ac3_frame(service=5)),
        ("eac3", eac3_frame(size=128)),
        ("eac3", eac3_frame(blocks=0)),  # one block
        ("mp3", mp3_frame(bitrate=3)),
        ("mp3", mp3_frame(mode=1)),  # joint stereo
    ],
)
def test_fits_what_every_frame_tells(codec: str, frame: bytes) -> None:
    """Another bit rate, service or number of blocks needs no other sample entry."""
    usual = {"ac3": ac3_frame(), "eac3": eac3_frame(), "mp3": mp3_frame()}[codec]
    assert parse_frame(codec, frame).fits(parse_frame(codec, usual))


@pytest.mark.parametrize(
    ("codec", "frame"),
    [
        ("ac3", ac3_frame(rate=1)),
        ("ac3", ac3_frame(mode=7)),
        ("ac3", ac3_frame(lfe=1)),
        ("ac3", ac3_frame(mode=0)),  # two of mono are not a stereo pair
        ("eac3", eac3_frame(rate=1)),
        ("eac3", eac3_frame(mode=7, lfe=1)),
        ("eac3", eac3_frame() + eac3_frame(stream_type=1, channel_map=0x0200)),
        ("mp3", mp3_frame(rate=1)),
        ("mp3", mp3_frame(mode=3)),
        ("mp3", mp3_frame(version=2)),
    ],
)
def test_fits_not_what_differs(codec: str, frame: bytes) -> None:
    """Other channels or another rate does."""
    usual = {"ac3": ac3_frame(), "eac3": eac3_frame(), "mp3": mp3_frame()}[codec]
    found, entry = parse_frame(codec, frame), parse_frame(codec, usual)
    assert not found.fits(entry)
    assert not entry.fits(found)
    assert found.fits(found)


def test_fits_of_opus_and_flac() -> None:
    """Of Opus the gain and the mapping count, of FLAC the size of blocks and samples; how the
    encoder was primed, and the sum of all samples, do not."""
    head = bytearray(b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0")
    other = bytearray(head)
    other[10] = 0x78  # pre-skip
    assert opus_format(bytes(other)).fits(opus_format(bytes(head)))
    other[16] = 1  # gain
    assert not opus_format(bytes(other)).fits(opus_format(bytes(head)))
    info = bytearray(b"\x10\0\x10\0" + bytes(6) + b"\x0a\xc4\x42\xf0" + bytes(20))
    more = bytearray(info)
    more[17], more[20] = 9, 9  # samples, MD5
    assert flac_format(bytes(more)).fits(flac_format(bytes(info)))
    more[2] = 0x20
    assert not flac_format(bytes(more)).fits(flac_format(bytes(info)))
