"""What lies inside packets: NAL units, parameter sets, ADTS headers, decoder configurations.

Written from ITU-T H.264 and H.265, ISO/IEC 14496-3 and 14496-15.  It brings the packets of MPEG-TS
and the samples of MP4 to one form, in which they can be compared.  Pure; what is damaged raises
`ValueError`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

# Units that a muxer may add, move or drop without a decoder being the worse for it.  H.264 table
# 7-1: parameter sets, delimiter, end of sequence and stream, filler, extensions of sets.
IGNORED = {"h264": frozenset({7, 8, 9, 10, 11, 12, 13, 15}), "hevc": frozenset(range(32, 39))}
PARAMETER_SETS = {"h264": frozenset({7, 8, 13, 15}), "hevc": frozenset({32, 33, 34})}
RASL = frozenset({8, 9})  # H.265 table 7-1
CRA_OR_BLA = frozenset({16, 17, 18, 21})
IRAP = frozenset(range(16, 24))

_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)


# -- NAL units -------------------------------------------------------------------------------------


def unit_type(codec: str, unit: bytes) -> int:
    """Return nal_unit_type."""
    return unit[0] & 31 if codec == "h264" else unit[0] >> 1 & 63


def split_start_codes(data: bytes) -> Iterator[bytes]:
    """Iterate over the NAL units of Annex B, without the zero bytes that may trail them."""
    at = data.find(b"\0\0\1")
    while at >= 0:
        end = data.find(b"\0\0\1", at + 3)
        unit = data[at + 3 : end if end >= 0 else len(data)].rstrip(b"\0")
        if unit:
            yield unit
        at = end


def split_lengths(data: bytes, length_bytes: int) -> Iterator[bytes]:
    """Iterate over the NAL units of an MP4 sample, 14496-15 section 4.3.2."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + length_bytes], "big")
        at += length_bytes
        if size == 0 or at + size > len(data):
            raise ValueError(f"a NAL unit of {size} bytes at {at} in a sample of {len(data)}")
        yield data[at : at + size].rstrip(b"\0")
        at += size


def set_key(codec: str, unit: bytes) -> tuple[int, int]:
    """Return the type and the id of a parameter set: what a later one with the same replaces."""
    kind = unit_type(codec, unit)
    if codec == "h264":
        # SPS (and its extensions' base): profile, constraints and level stand before the id
        bits = _Bits(unit[4:] if kind in (7, 15) else unit[1:])
        return kind, bits.exp_golomb()
    bits = _Bits(unit[2:])
    if kind == 32:
        return kind, bits.take(4)
    if kind == 33:
        bits.take(4)
        layers = bits.take(3)
        bits.take(1)
        _skip_profile_tier_level(bits, layers)
    return kind, bits.exp_golomb()


def _skip_profile_tier_level(bits: "_Bits", layers: int) -> None:
    """H.265 7.3.3, with `layers` = sps_max_sub_layers_minus1."""
    bits.take(96)
    present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    if layers:
        bits.take(2 * (8 - layers))
    for profile, level in present:
        bits.take(88 * profile + 8 * level)


class _Bits:
    """Reads a RBSP: the emulation prevention bytes are out."""

    def __init__(self, data: bytes) -> None:
        data = data.replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(data, "big")
        self._left = len(data) * 8

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("a parameter set is too short")
        return self._value >> self._left & (1 << count) - 1

    def exp_golomb(self) -> int:
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def read_avcc(config: bytes) -> tuple[int, list[bytes]]:
    """Return the size of the lengths and the parameter sets of an avcC, 14496-15 section 5.3.3."""
    if len(config) < 7 or config[0] != 1:
        raise ValueError("no avcC")
    sets: list[bytes] = []
    at = 5
    for mask in (31, 255):
        count = config[at] & mask
        at += 1
        for _ in range(count):
            size = int.from_bytes(config[at : at + 2], "big")
            sets.append(_slice(config, at + 2, size).rstrip(b"\0"))
            at += 2 + size
    return (config[4] & 3) + 1, sets


def read_hvcc(config: bytes) -> tuple[int, list[bytes]]:
    """Return the size of the lengths and the parameter sets of an hvcC, 14496-15 section 8.3.3."""
    if len(config) < 23 or config[0] != 1:
        raise ValueError("no hvcC")
    sets: list[bytes] = []
    at = 23
    for _ in range(config[22]):
        count = int.from_bytes(_slice(config, at + 1, 2), "big")
        at += 3
        for _ in range(count):
            size = int.from_bytes(_slice(config, at, 2), "big")
            sets.append(_slice(config, at + 2, size).rstrip(b"\0"))
            at += 2 + size
    if at != len(config):
        raise ValueError("the hvcC has bytes too many")
    kept = [unit for unit in sets if unit_type("hevc", unit) in PARAMETER_SETS["hevc"]]
    return (config[21] & 3) + 1, kept


def _slice(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise ValueError("a configuration is cut")
    return data[at : at + size]


# -- AAC -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AacConfig:
    """What an ADTS header and an AudioSpecificConfig both say, 14496-3 sections 1.A.2 and 1.6.2."""

    object_type: int  # 2: LC
    sample_rate: int  # of the core, without SBR
    channels: int  # channelConfiguration; 0: told in the stream


def is_adts(data: bytes) -> bool:
    """Whether an ADTS frame begins here; a raw data block cannot look so, 14496-3 table 4.3."""
    return len(data) >= 7 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0


def split_adts(data: bytes) -> list[tuple[AacConfig, bytes]]:
    """Split ADTS frames into what their headers say and their raw data blocks."""
    out: list[tuple[AacConfig, bytes]] = []
    at = 0
    while at < len(data):
        head = data[at : at + 7]
        if not is_adts(head):
            raise ValueError("no ADTS header where a frame should begin")
        size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        skip = 7 if head[1] & 1 else 9
        if size < skip:
            raise ValueError("an ADTS frame is shorter than its header")
        config = AacConfig(
            (head[2] >> 6) + 1,
            _rate_at(head[2] >> 2 & 15),
            (head[2] & 1) << 2 | head[3] >> 6,
        )
        out.append((config, _slice(data, at, size)[skip:]))
        at += size
    return out


def read_audio_specific_config(data: bytes) -> AacConfig:
    """Read the beginning of an AudioSpecificConfig; of SBR and PS, what is inside them."""
    bits = _PlainBits(data)
    kind = _object_type(bits)
    rate = _rate(bits)
    channels = bits.take(4)
    if kind in (5, 29):
        _rate(bits)  # of the extension
        kind = _object_type(bits)
    return AacConfig(kind, rate, channels)


def _object_type(bits: "_Bits") -> int:
    kind = bits.take(5)
    return 32 + bits.take(6) if kind == 31 else kind


def _rate(bits: "_Bits") -> int:
    index = bits.take(4)
    return bits.take(24) if index == 15 else _rate_at(index)


def _rate_at(index: int) -> int:
    if index >= len(_RATES):
        raise ValueError(f"a reserved sampling frequency index, {index}")
    return _RATES[index]


class _PlainBits(_Bits):
    """Reads bits among which no emulation prevention is."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = len(data) * 8


@dataclass(frozen=True, slots=True)
class Esds:
    """What counts of an `esds`, 14496-1 section 7.2.6."""

    object_type: int  # objectTypeIndication: 0x40 AAC, 0x69 and 0x6B MP3
    specific: bytes  # DecoderSpecificInfo; empty if there is none


def read_esds(config: bytes) -> Esds:
    """Read the body of an `esds`: the decoder's configuration in an ES_Descriptor."""
    tag, body, _ = _descriptor(config[4:])
    if tag != 3 or len(body) < 3 or body[2] & 0xE0:
        raise ValueError("the esds does not begin with a plain ES_Descriptor")
    tag, body, _ = _descriptor(body[3:])
    if tag != 4 or len(body) < 13:
        raise ValueError("the esds has no DecoderConfigDescriptor")
    rest = body[13:]
    while rest:
        tag, inner, rest = _descriptor(rest)
        if tag == 5:
            return Esds(body[0], inner)
    return Esds(body[0], b"")


def _descriptor(data: bytes) -> tuple[int, bytes, bytes]:
    """Its tag, its body, and what follows it."""
    size, at = 0, 1
    while True:
        byte = _slice(data, at, 1)[0]
        size = size << 7 | byte & 0x7F
        at += 1
        if not byte & 0x80:
            return data[0], _slice(data, at, size), data[at + size :]
