"""AAC: ADTS headers, and the AudioSpecificConfig that a sample entry has instead of them.

Pure functions of a frame's first bytes or of a configuration.  Specification: ISO/IEC 14496-3.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from proxy.media.audio_format import AudioFormat
from proxy.media.nal import BitReader, BitstreamError

_RATES = (
    96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350,
)  # fmt: skip
AAC_FRAME_SAMPLES = 1024

# Audio object types, section 1.5.1.1.
_PLAIN = frozenset({1, 2, 3, 4})  # Main, LC, SSR, LTP: what ADTS can carry
_SHORT = _PLAIN | {6, 7, 17, 19, 20, 21, 22, 23}  # those with a GASpecificConfig
_SBR, _PS = 5, 29
_CHANNELS = {7: 8}  # by channelConfiguration, where that is not the number itself


@dataclass(frozen=True, slots=True, kw_only=True)
class AdtsHeader:
    """ISO/IEC 14496-3 section 1.A.2.2."""

    profile: int  # audio object type - 1
    rate_index: int
    channel_configuration: int  # 0: a program config element in the frame says it
    header_size: int  # bytes, 7 or 9
    frame_size: int  # bytes, header included
    raw_data_blocks: int

    @property
    def signature(self) -> tuple[int, int, int]:
        """What must stay the same throughout a track."""
        return self.profile, self.rate_index, self.channel_configuration


def parse_adts(frame: bytes) -> AdtsHeader:
    """Parse the header of an ADTS frame.

    Raises:
        BitstreamError: there is no ADTS header at its start.
    """
    if len(frame) < 7 or frame[0] != 0xFF or frame[1] & 0xF6 != 0xF0:
        raise BitstreamError("no ADTS sync word")
    header = AdtsHeader(
        profile=frame[2] >> 6,
        rate_index=(frame[2] >> 2) & 15,
        channel_configuration=(frame[2] & 1) << 2 | frame[3] >> 6,
        header_size=7 if frame[1] & 1 else 9,
        frame_size=(frame[3] & 3) << 11 | frame[4] << 3 | frame[5] >> 5,
        raw_data_blocks=(frame[6] & 3) + 1,
    )
    if header.rate_index >= len(_RATES) or header.frame_size < header.header_size:
        raise BitstreamError("an impossible ADTS header")
    return header


def _program_config_element(r: BitReader) -> tuple[bytes, bytes, int]:
    """Copy a program_config_element (section 4.4.1.1), up to its byte_alignment().

    Returns its bits as bytes, its comment, and the channels it declares.
    """
    bits: list[tuple[int, int]] = []

    def copy(width: int) -> int:
        value = r.u(width)
        bits.append((value, width))
        return value

    for width in (4, 2, 4):
        copy(width)
    front, side, back, lfe, assoc, coupling = (copy(width) for width in (4, 4, 4, 2, 3, 4))
    for width in (4, 4, 3):  # mono, stereo and matrix mix-down
        if copy(1):
            copy(width)
    channels = lfe
    for _ in range(front + side + back):
        channels += 1 + copy(1)
        copy(4)
    for _ in range(lfe + assoc):
        copy(4)
    for _ in range(coupling):
        copy(5)
    width = sum(width for _, width in bits)
    value = 0
    for number, size in bits:
        value = value << size | number
    padding = -width % 8
    packed = (value << padding).to_bytes((width + padding) // 8, "big")
    r.skip(r.left % 8)
    comment = bytes(r.u(8) for _ in range(r.u(8)))
    return packed, comment, channels


def aac_format(frame: bytes) -> AudioFormat:
    """Build the AudioSpecificConfig of an ADTS frame (section 1.6.2.1).

    SBR and PS are signalled implicitly, as in ADTS itself: a decoder finds them in the frames.
    """
    header = parse_adts(frame)
    object_type = header.profile + 1
    head = object_type << 11 | header.rate_index << 7 | header.channel_configuration << 3
    config = head.to_bytes(2, "big")
    channels = _CHANNELS.get(header.channel_configuration, header.channel_configuration)
    element = b""
    if not channels:
        r = BitReader(frame[header.header_size :])
        if r.u(3) != 5:  # ID_PCE
            raise BitstreamError("AAC without a channel configuration and without a PCE")
        # In the AudioSpecificConfig the element starts at bit 16; byte_alignment() is relative to
        # its start, so both paddings are made anew.
        element, comment, channels = _program_config_element(r)
        config += element + bytes([len(comment)]) + comment
    return AudioFormat(
        codec="aac",
        sample_rate=_RATES[header.rate_index],
        channels=channels,
        frame_samples=AAC_FRAME_SAMPLES,
        config=config,
        rfc6381=f"mp4a.40.{object_type}",
        fixed=(object_type, AAC_FRAME_SAMPLES, element),
        told=(None, None, None),
    )


def _object_type(r: BitReader) -> int:
    kind = r.u(5)
    return 32 + r.u(6) if kind == 31 else kind


def _rate(r: BitReader) -> int:
    index = r.u(4)
    if index == 15:
        return r.u(24)
    if index >= len(_RATES):
        raise BitstreamError("a reserved sample rate of AAC")
    return _RATES[index]


def aac_format_of(config: bytes) -> AudioFormat:
    """Read an AudioSpecificConfig (section 1.6.2.1), as an MP4 source has it.

    Raises:
        BitstreamError: it is none.
    """
    r = BitReader(config)
    kind = _object_type(r)
    sample_rate, channels = _rate(r), r.u(4)
    if not sample_rate:
        raise BitstreamError("a sample rate of 0")
    coded, told = kind, _Extension()
    if kind in {_SBR, _PS}:  # signalled explicitly, in front of what they extend
        told = _Extension(sbr=True, sbr_rate=_rate(r), ps=True if kind == _PS else None)
        coded = _object_type(r)
    short = coded in _SHORT and r.left > 0 and r.flag()
    element, declared = b"", 0
    if coded in _PLAIN:
        with suppress(BitstreamError):  # what is left of it only says more
            if r.flag():  # dependsOnCoreCoder
                r.skip(14)
            r.skip(1)  # extensionFlag
            if not channels:
                element, _, declared = _program_config_element(r)
            if not told.sbr:
                told = _extension_behind(r)
    frame_samples = 960 if short else AAC_FRAME_SAMPLES
    return AudioFormat(
        codec="aac",
        sample_rate=sample_rate,
        channels=_CHANNELS.get(channels, channels) or declared or 2,  # players read what it says
        frame_samples=frame_samples,
        config=config,
        rfc6381=f"mp4a.40.{kind}",
        fixed=(coded, frame_samples, element) if coded in _PLAIN else (config,),
        told=(told.sbr, told.sbr_rate, told.ps),
    )


@dataclass(frozen=True, slots=True)
class _Extension:
    """What is told of SBR and PS; None: nothing, a decoder looks for them in the frames."""

    sbr: bool | None = None
    sbr_rate: int | None = None  # Hz, with SBR
    ps: bool | None = None


def _extension_behind(r: BitReader) -> _Extension:
    """Read the backward compatible signalling, which older decoders do not see."""
    if r.left < 16 or r.u(11) != 0x2B7 or _object_type(r) != _SBR:  # syncExtensionType
        return _Extension()
    if not r.flag():
        return _Extension(sbr=False, ps=False)
    rate = _rate(r)
    ps = r.flag() if r.left >= 12 and r.u(11) == 0x548 else None
    return _Extension(sbr=True, sbr_rate=rate, ps=ps)
