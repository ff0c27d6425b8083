"""AAC: headers and configurations, crafted bit by bit, and real ones against libavcodec."""

from itertools import product
from typing import Any

import av
import pytest

from proxy.media.aac import aac_format, aac_format_of, parse_adts
from proxy.media.audio_format import AudioFormat
from proxy.media.nal import BitstreamError
from tests.media.helpers import Bits, adts_frame, first_packet
from tests.support.clips import Audio


@pytest.mark.parametrize("crc", [False, True])
def test_parse_adts(crc: bool) -> None:
    """All fields of the header are found; a CRC makes it two bytes longer."""
    header = parse_adts(adts_frame(b"\x21" * 5_000, rate=4, channels=7, crc=crc, blocks=3))
    assert (header.profile, header.rate_index, header.channel_configuration) == (1, 4, 7)
    assert header.header_size == (9 if crc else 7)
    assert header.frame_size == header.header_size + 5_000
    assert header.raw_data_blocks == 3
    assert header.signature == (1, 4, 7)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        adts_frame(b"\x21")[:6],
        b"\xfe" + adts_frame(b"\x21")[1:],
        b"\xff\xe1" + adts_frame(b"\x21")[2:],
        b"\xff\xf3" + adts_frame(b"\x21")[2:],  # layer III: MP3
        adts_frame(b"\x21", rate=13),
        adts_frame(b"\x21", rate=15),
        adts_frame(b"", size=6),
        adts_frame(b"", size=8, crc=True),
    ],
)
def test_parse_adts_that_is_none(frame: bytes) -> None:
    """No sync word, a layer, a reserved rate, or a frame shorter than its header."""
    with pytest.raises(BitstreamError):
        parse_adts(frame)


_KHZ = (96, 88.2, 64, 48, 44.1, 32, 24, 22.05, 16, 12, 11.025, 8, 7.35)


@pytest.mark.parametrize(
    ("rate", "channels"), [*product(range(13), [2]), *product([3], range(1, 8))]
)
def test_aac_format(rate: int, channels: int) -> None:
    """The AudioSpecificConfig says object type, rate and channels; seven means eight channels."""
    found = aac_format(adts_frame(b"\x21\x00", rate=rate, channels=channels))
    expected = Bits().u(5, 2).u(4, rate).u(4, channels).u(3, 0).pack()
    assert found == AudioFormat(
        codec="aac",
        sample_rate=round(_KHZ[rate] * 1000),
        channels=8 if channels == 7 else channels,
        frame_samples=1024,
        config=expected,
        rfc6381="mp4a.40.2",
    )
    again = aac_format_of(found.config)
    assert again == found


@pytest.mark.parametrize("profile", range(4))
def test_aac_format_of_profiles(profile: int) -> None:
    """The object type is one more than the profile, in the configuration and in the MIME type."""
    found = aac_format(adts_frame(b"\x21", profile=profile))
    assert found.config[0] >> 3 == profile + 1
    assert found.rfc6381 == f"mp4a.40.{profile + 1}"


def _pce(bits: Bits, *, mixdowns: bool, comment: bytes, start: int, couplings: int = 0) -> Bits:
    """A program_config_element of 5.1: centre, front pair, side pair, LFE (14496-3 table 4.2)."""
    bits.u(4, 0).u(2, 1).u(4, 3).u(4, 2).u(4, 1).u(4, 0).u(2, 1).u(3, 1).u(4, couplings)
    for width, value in ((4, 9), (4, 10), (3, 5)):
        bits.flag(mixdowns)
        if mixdowns:
            bits.u(width, value)
    bits.flag(False).u(4, 0).flag(True).u(4, 1).flag(True).u(4, 2)  # front, front, side
    bits.u(4, 3).u(4, 4)  # LFE, associated data
    for number in range(couplings):
        bits.flag(number % 2).u(4, number)
    width = len(bits.raw("").bits) - start
    bits.u(-width % 8, 0)
    bits.u(8, len(comment))
    for byte in comment:
        bits.u(8, byte)
    return bits


@pytest.mark.parametrize("crc", [False, True])
@pytest.mark.parametrize(("mixdowns", "couplings"), [(False, 0), (True, 0), (True, 3)])
@pytest.mark.parametrize("comment", [b"", b"made by hand"])
def test_aac_format_with_program_config_element(
    crc: bool, mixdowns: bool, couplings: int, comment: bytes
) -> None:
    """Without a channel configuration, the frame's program config element moves into the
    AudioSpecificConfig, where it is aligned anew, with its comment."""
    wishes: dict[str, Any] = {"mixdowns": mixdowns, "couplings": couplings, "comment": comment}
    block = _pce(Bits().u(3, 5), start=0, **wishes)  # ID_PCE in front: aligned to the block
    frame = adts_frame(block.pack() + b"\x21\x42", channels=0, crc=crc)
    found = aac_format(frame)
    expected = Bits().u(5, 2).u(4, 3).u(4, 0).u(3, 0)
    assert found.config == _pce(expected, start=0, **wishes).pack()
    assert found.channels == 6
    assert aac_format_of(found.config).config == found.config


def test_aac_format_without_channels() -> None:
    """A frame that has neither a channel configuration nor a program config element is refused."""
    with pytest.raises(BitstreamError):
        aac_format(adts_frame(b"\x21\x42", channels=0))
    with pytest.raises(BitstreamError):
        aac_format(adts_frame(b"\xa0", channels=0))  # ends within the element


@pytest.mark.parametrize(
    "audio", [Audio(), Audio(sample_rate=44_100, channels=1), Audio(channels=6)]
)
def test_aac_format_of_real_frames(audio: Audio) -> None:
    """The configuration is the one that libavcodec's encoder announces itself."""
    encoder = av.CodecContext.create("aac", "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.sample_rate, encoder.format = audio.sample_rate, "fltp"
    encoder.layout = {1: "mono", 2: "stereo", 6: "5.1"}[audio.channels]
    encoder.open()
    found = aac_format(first_packet("aac", audio))
    announced = bytes(encoder.extradata or b"")
    assert found.config == announced[: len(found.config)]
    assert (found.sample_rate, found.channels) == (audio.sample_rate, audio.channels)


def _config(*fields: tuple[int, int]) -> bytes:
    bits = Bits()
    for width, value in fields:
        bits.u(width, value)
    return bits.pack()


@pytest.mark.parametrize(
    ("config", "rate", "channels", "samples", "mime"),
    [
        (_config((5, 2), (4, 3), (4, 2), (3, 4)), 48_000, 2, 960, "mp4a.40.2"),
        (_config((5, 2), (4, 15), (24, 50_000), (4, 1), (3, 0)), 50_000, 1, 1024, "mp4a.40.2"),
        # SBR and PS, signalled in front of AAC-LC: the rate is that of the core
        (
            _config((5, 5), (4, 6), (4, 2), (4, 3), (5, 2), (3, 0)),
            24_000,
            2,
            1024,
            "mp4a.40.5",
        ),
        (
            _config((5, 29), (4, 6), (4, 1), (4, 15), (24, 48_000), (5, 2), (3, 0)),
            24_000,
            1,
            1024,
            "mp4a.40.29",
        ),
        # an escaped object type (xHE-AAC), whose frame length is told otherwise
        (_config((5, 31), (6, 10), (4, 3), (4, 2), (3, 7)), 48_000, 2, 1024, "mp4a.40.42"),
        (_config((5, 2), (4, 4), (4, 0), (3, 0)), 44_100, 2, 1024, "mp4a.40.2"),
    ],
)
def test_aac_format_of_config(
    config: bytes, rate: int, channels: int, samples: int, mime: str
) -> None:
    """An AudioSpecificConfig of an MP4 is read, and kept as it is."""
    found = aac_format_of(config)
    assert (found.sample_rate, found.channels, found.frame_samples) == (rate, channels, samples)
    assert (found.rfc6381, found.config) == (mime, config)


@pytest.mark.parametrize(
    "config",
    [b"", b"\x11", _config((5, 2), (4, 13), (4, 2)), _config((5, 2), (4, 15), (24, 0), (4, 2))],
)
def test_aac_format_of_config_that_is_none(config: bytes) -> None:
    """A configuration that is cut or has a reserved rate is refused."""
    with pytest.raises(BitstreamError):
        aac_format_of(config)


# -- what can share a sample entry -----------------------------------------------------------------

LC, NO_SBR, SBR = (5, 2), ((11, 0x2B7), (5, 5), (1, 0)), ((11, 0x2B7), (5, 5), (1, 1))
NO_PS, PS = ((11, 0x548), (1, 0)), ((11, 0x548), (1, 1))
HALF = ((4, 6), (4, 2), (3, 0))  # 24 kHz, stereo, 1024 samples
FULL = ((4, 3), (4, 2), (3, 0))  # 48 kHz
TO_FULL = ((4, 3),)  # of an extension

ADTS_HALF, ADTS_FULL = (aac_format(adts_frame(b"\x21", rate=rate)) for rate in (6, 3))


@pytest.mark.parametrize(
    "config",
    [
        (LC, *HALF),
        (LC, (4, 15), (24, 24_000), (4, 2), (3, 0)),  # the rate in full
        (LC, *HALF, *NO_SBR),
        (LC, *HALF, *SBR, *TO_FULL),
        (LC, *HALF, *SBR, *TO_FULL, *NO_PS),
        (LC, *HALF, *SBR, *TO_FULL, *PS),
        ((5, 5), (4, 6), (4, 2), *TO_FULL, LC, (3, 0)),
        ((5, 29), (4, 6), (4, 2), *TO_FULL, LC, (3, 0)),
    ],
)
def test_fits_where_adts_does_not_tell(config: tuple[tuple[int, int], ...]) -> None:
    """ADTS leaves it open whether there is SBR or PS: its frames go with any way to tell of them,
    on the same core."""
    found = aac_format_of(_config(*config))
    assert found.fits(ADTS_HALF)
    assert ADTS_HALF.fits(found)
    assert not found.fits(ADTS_FULL)
    assert not ADTS_FULL.fits(found)


def test_fits_of_the_ways_to_tell() -> None:
    """SBR in front of what it extends, or behind, where older decoders do not see it, is the same;
    with and without it are not."""
    front = aac_format_of(_config((5, 5), (4, 6), (4, 2), *TO_FULL, LC, (3, 0)))
    behind = aac_format_of(_config(LC, *HALF, *SBR, *TO_FULL))
    none = aac_format_of(_config(LC, *HALF, *NO_SBR))
    assert front.fits(behind)
    assert behind.fits(front)
    assert not none.fits(front)
    assert not front.fits(none)
    ps = aac_format_of(_config(LC, *HALF, *SBR, *TO_FULL, *PS))
    no_ps = aac_format_of(_config(LC, *HALF, *SBR, *TO_FULL, *NO_PS))
    assert ps.fits(behind)
    assert not ps.fits(no_ps)


@pytest.mark.parametrize(
    "config",
    [
        ((5, 1), *FULL),  # Main
        ((5, 4), *FULL),  # LTP
        (LC, (4, 4), (4, 2), (3, 0)),  # 44.1 kHz
        (LC, (4, 6), (4, 2), (3, 0)),  # 24 kHz
        (LC, (4, 3), (4, 1), (3, 0)),  # mono
        (LC, (4, 3), (4, 6), (3, 0)),  # 5.1
        (LC, (4, 3), (4, 2), (3, 4)),  # 960 samples
        ((5, 5), (4, 6), (4, 2), *TO_FULL, LC, (3, 0)),  # 48 kHz, but of a core of 24
        ((5, 31), (6, 10), *FULL),  # xHE-AAC
        ((5, 23), *FULL),  # LD
    ],
)
def test_fits_not_what_differs(config: tuple[tuple[int, int], ...]) -> None:
    """Another object type, rate, number of channels or frame length is no other way to say it."""
    found = aac_format_of(_config(*config))
    assert not found.fits(ADTS_FULL)
    assert not ADTS_FULL.fits(found)
    assert found.fits(found)


def test_fits_of_program_config_elements() -> None:
    """Where an element tells the channels, it has to be the same, but for its comment."""
    formats = []
    for comment, couplings in ((b"", 0), (b"made by hand", 0), (b"", 2)):
        wishes: dict[str, Any] = {"mixdowns": False, "couplings": couplings, "comment": comment}
        block = _pce(Bits().u(3, 5), start=0, **wishes)
        formats.append(aac_format(adts_frame(block.pack() + b"\x21", channels=0)))
    plain, commented, other = formats
    assert plain.fits(commented)
    assert not plain.fits(other)
    assert aac_format_of(commented.config).fits(plain)
    assert aac_format_of(plain.config).channels == 6


def test_fits_of_what_libavcodec_announces() -> None:
    """The encoder of libavcodec denies SBR behind its configuration; the frames are the same."""
    encoder = av.CodecContext.create("aac", "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.sample_rate, encoder.format, encoder.layout = 48_000, "fltp", "stereo"
    encoder.open()
    announced = bytes(encoder.extradata or b"")
    assert announced.hex() == "119056e500"
    assert aac_format_of(announced).fits(aac_format(first_packet("aac", Audio())))
