"""Audio frame headers: what an MP4 sample entry needs to know of AC-3, E-AC-3, MP3, Opus and FLAC.

One parser per codec, all with one result type, `AudioFormat`, as `aac` has it.  Pure functions of a
frame's first bytes, or of a container's description.

Specifications: ETSI TS 102 366 (AC-3, E-AC-3; annex F for `dac3` and `dec3`), ISO/IEC 11172-3 and
13818-3 (MPEG audio).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from proxy.errors import UnsupportedCodec
from proxy.media.aac import aac_format
from proxy.media.audio_format import AudioFormat
from proxy.media.nal import BitReader, BitstreamError

_AC3_RATES = (48000, 44100, 32000)
_AC3_CHANNELS = (2, 1, 2, 3, 3, 4, 4, 5)  # by acmod, without the LFE channel
AC3_FRAME_SAMPLES = 1536
_EAC3_BLOCKS = (1, 2, 3, 6)
_BLOCK_SAMPLES = 256

_MP3_RATES = (44100, 48000, 32000)


# -- AC-3 and E-AC-3 -------------------------------------------------------------------------------


def _ac3_format(frame: bytes) -> AudioFormat:
    r = BitReader(frame[:10])
    if r.u(16) != 0x0B77:
        raise BitstreamError("no AC-3 sync word")
    r.skip(16)  # crc1
    rate, frame_size_code = r.u(2), r.u(6)
    stream_id, mode, channel_mode = r.u(5), r.u(3), r.u(3)
    if rate >= len(_AC3_RATES) or stream_id > 10:
        raise BitstreamError("a reserved sample rate or version of AC-3")
    if channel_mode & 1 and channel_mode != 1:
        r.skip(2)  # cmixlev
    if channel_mode & 4:
        r.skip(2)  # surmixlev
    if channel_mode == 2:
        r.skip(2)  # dsurmod
    lfe = r.u(1)
    dac3 = rate << 22 | stream_id << 17 | mode << 14 | channel_mode << 11 | lfe << 10
    dac3 |= (frame_size_code >> 1) << 5
    return AudioFormat(
        codec="ac3",
        sample_rate=_AC3_RATES[rate] >> max(stream_id - 8, 0),  # versions 9, 10: half, quarter
        channels=_AC3_CHANNELS[channel_mode] + lfe,
        frame_samples=AC3_FRAME_SAMPLES,
        config=dac3.to_bytes(3, "big"),
        rfc6381="ac-3",
        fixed=(stream_id, channel_mode, lfe),
    )


@dataclass(slots=True)
class _Substream:
    """The fields of an E-AC-3 syncframe (ETSI TS 102 366 section E.1.2) that `dec3` repeats."""

    stream_type: int  # 0: independent, 1: dependent, 2: independent, once AC-3
    substream_id: int
    size: int  # bytes
    rate: int
    rate_code: int
    blocks: int
    channel_mode: int
    lfe: int
    stream_id: int
    channel_map: int = 0
    mode: int = 0
    complexity: int | None = None  # of joint object coding (Atmos): annex H's extension type A

    @property
    def dependent(self) -> bool:
        return self.stream_type == 1

    @property
    def layout(self) -> tuple[int, ...]:
        """What a decoder is set up for."""
        return self.dependent, self.stream_id, self.channel_mode, self.lfe, self.channel_map


def _eac3_substream(frame: bytes | memoryview) -> _Substream:
    r = BitReader(frame[:96])
    if r.u(16) != 0x0B77:
        raise BitstreamError("no E-AC-3 sync word")
    stream_type, substream_id, size = r.u(2), r.u(3), (r.u(11) + 1) * 2
    rate_code = r.u(2)
    if rate_code == 3:
        half, blocks = r.u(2), 6
        if half == 3:
            raise BitstreamError("a reserved sample rate of E-AC-3")
        rate = _AC3_RATES[half] // 2
    else:
        rate, blocks = _AC3_RATES[rate_code], _EAC3_BLOCKS[r.u(2)]
    channel_mode, lfe = r.u(3), r.u(1)
    found = _Substream(
        stream_type=stream_type,
        substream_id=substream_id,
        size=size,
        rate=rate,
        rate_code=rate_code,
        blocks=blocks,
        channel_mode=channel_mode,
        lfe=lfe,
        stream_id=r.u(5),
    )
    with suppress(BitstreamError):  # informative fields: what was read so far stands
        _eac3_optional(r, found)
    return found


def _eac3_optional(r: BitReader, s: _Substream) -> None:
    for _ in range(2 if s.channel_mode == 0 else 1):
        r.skip(5)  # dialnorm
        if r.flag():
            r.skip(8)  # compr
    if s.dependent and r.flag():
        s.channel_map = r.u(16)
    if r.flag():  # mixmdate
        _skip_mixing_metadata(r, s)
    if r.flag():  # infomdate
        s.mode = r.u(3)
        r.skip(2)
        if s.channel_mode == 2:
            r.skip(4)
        if s.channel_mode >= 6:
            r.skip(2)
        for _ in range(2 if s.channel_mode == 0 else 1):
            if r.flag():
                r.skip(8)
        if s.rate_code < 3:
            r.skip(1)  # sourcefscod
    if s.stream_type == 0 and s.blocks != 6:
        r.skip(1)  # convsync
    if s.stream_type == 2 and (s.blocks == 6 or r.flag()):  # blkid
        r.skip(6)  # frmsizecod
    if r.flag():  # addbsie
        length = r.u(6) + 1
        r.skip(7)
        if r.flag() and length >= 2:  # flag_ec3_extension_type_a
            s.complexity = r.u(8)


def _skip_mixing_metadata(r: BitReader, s: _Substream) -> None:
    """mixing metadata, ETSI TS 102 366 table E.1.2."""
    mode = s.channel_mode
    if mode > 2:
        r.skip(2)
    if mode & 1 and mode > 2:
        r.skip(6)
    if mode & 4:
        r.skip(6)
    if s.lfe and r.flag():
        r.skip(5)
    if s.stream_type != 0:
        return
    for _ in range(2 if mode == 0 else 1):
        if r.flag():  # pgmscle
            r.skip(6)
    if r.flag():  # extpgmscle
        r.skip(6)
    mixdef = r.u(2)
    if mixdef == 1:
        r.skip(5)
    elif mixdef == 2:
        r.skip(12)
    elif mixdef == 3:
        r.skip(8 * (r.u(5) + 2))
    if mode < 2:
        for _ in range(2 if mode == 0 else 1):
            if r.flag():
                r.skip(14)
    if r.flag():  # frmmixcfginfoe
        if s.blocks == 1:
            r.skip(5)
        else:
            for _ in range(s.blocks):
                if r.flag():
                    r.skip(5)


def eac3_blocks(packet: bytes | memoryview) -> int:
    """Count the audio blocks of a packet: a sample of an MP4 holds six."""
    return _count_blocks(_eac3_substreams(packet))


def _count_blocks(substreams: list[_Substream]) -> int:
    programs = [(s.substream_id, s.blocks) for s in substreams if not s.dependent]
    return sum(blocks for program, blocks in programs if program == programs[0][0])


def _eac3_substreams(packet: bytes | memoryview) -> list[_Substream]:
    """Read the syncframes of a packet, up to what is none behind the first one."""
    found = [_eac3_substream(packet)]
    with suppress(BitstreamError):
        while packet := packet[found[-1].size :]:
            found.append(_eac3_substream(packet))
    return found


# chanmap bits (table E.1.4) to the bits of chan_loc in dec3 (annex F.6.2).
_CHANNEL_LOCATIONS = ((5, 0), (6, 1), (7, 2), (8, 3), (9, 4), (10, 5), (11, 6), (12, 7), (14, 8))
_LOCATION_CHANNELS = (2, 2, 1, 1, 2, 2, 2, 1, 1)


def _eac3_format(frame: bytes) -> AudioFormat:
    everything = _eac3_substreams(frame)
    substreams: list[_Substream] = []
    for substream in everything:
        if any(
            (s.dependent, s.substream_id) == (substream.dependent, substream.substream_id)
            for s in substreams
        ):
            break  # the next access unit
        substreams.append(substream)
    independent = [s for s in substreams if not s.dependent]
    if not independent:
        raise BitstreamError("E-AC-3 without an independent substream")
    first = independent[0]
    dependents = [s for s in substreams if s.dependent]
    data_rate = sum(s.size for s in substreams) * 8 * first.rate
    data_rate //= first.blocks * _BLOCK_SAMPLES * 1000
    value, width = min(data_rate, 8191) << 3 | (len(independent) - 1), 16
    channels = _AC3_CHANNELS[first.channel_mode] + first.lfe
    for s in independent:
        value = value << 2 | min(s.rate_code, 3)
        value = value << 5 | s.stream_id
        value = value << 2  # reserved, asvc
        value = value << 3 | s.mode
        value = value << 3 | s.channel_mode
        value = value << 1 | s.lfe
        value = value << 3  # reserved
        mine = dependents if s is first else []
        value = value << 4 | len(mine)
        width += 23
        if mine:
            locations = 0
            for dependent in mine:
                for bit, place in _CHANNEL_LOCATIONS:
                    if dependent.channel_map >> (15 - bit) & 1:
                        locations |= 1 << place
            channels += sum(_LOCATION_CHANNELS[p] for p in range(9) if locations >> p & 1)
            value, width = value << 9 | locations, width + 9
        else:
            value, width = value << 1, width + 1
    config = value.to_bytes((width + 7) // 8, "big")
    complexity = next((s.complexity for s in substreams if s.complexity is not None), None)
    if complexity is not None:
        config += bytes([1, complexity])
    return AudioFormat(
        codec="eac3",
        sample_rate=first.rate,
        channels=channels,
        frame_samples=_count_blocks(everything) * _BLOCK_SAMPLES,
        config=config,
        rfc6381="ec-3",
        fixed=(complexity is not None, *(s.layout for s in substreams)),
    )


# -- MPEG audio ------------------------------------------------------------------------------------


def _mp3_format(frame: bytes) -> AudioFormat:
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:
        raise BitstreamError("no sync word of MPEG audio")
    version, layer = (frame[1] >> 3) & 3, (frame[1] >> 1) & 3
    if layer != 1:
        name = {3: "mp1", 2: "mp2"}.get(layer, "mpeg audio")
        raise UnsupportedCodec(f"layer {layer}", detail=f"Players of MP4 do not take {name} audio.")
    index = (frame[2] >> 2) & 3
    if version == 1 or index == 3:
        raise BitstreamError("a reserved version or sample rate of MPEG audio")
    rate = _MP3_RATES[index] >> {3: 0, 2: 1, 0: 2}[version]
    # The object type indications are registered by sampling frequencies: 6B for MPEG-1, 69 for
    # the half rates of MPEG-2 (ISO/IEC 14496-1 table 5).
    return AudioFormat(
        codec="mp3",
        sample_rate=rate,
        channels=1 if frame[3] >> 6 == 3 else 2,
        frame_samples=1152 if version == 3 else 576,
        config=b"",
        rfc6381="mp4a.6B" if version == 3 else "mp4a.69",
    )


# -- Opus and FLAC ---------------------------------------------------------------------------------

_OPUS_USUAL_SAMPLES = 960  # 20 ms
_OPUS_LONGEST_SAMPLES = 5760  # 120 ms


def opus_format(head: bytes) -> AudioFormat:
    """Read an identification header (RFC 7845 section 5.1), as libavformat gives it.

    `dOps` repeats it in big-endian order (Opus in ISO BMFF, section 4.3.2).
    """
    if len(head) < 19 or head[:8] != b"OpusHead":
        raise BitstreamError("no OpusHead")
    channels = head[9]
    pre_skip, rate = int.from_bytes(head[10:12], "little"), int.from_bytes(head[12:16], "little")
    gain = int.from_bytes(head[16:18], "little")
    config = b"\0" + bytes([channels]) + pre_skip.to_bytes(2, "big") + rate.to_bytes(4, "big")
    config += gain.to_bytes(2, "big") + head[18:]
    return AudioFormat(
        codec="opus",
        sample_rate=48000,
        channels=channels,
        frame_samples=_OPUS_USUAL_SAMPLES,  # every packet says its own: see `opus_samples`
        config=config,
        rfc6381="opus",
        fixed=(gain, head[18:]),
    )


def opus_samples(packet: bytes | memoryview) -> int:
    """Return how many samples an Opus packet lasts, at 48 kHz (RFC 6716 sections 3.1 and 3.2).

    Where it does not tell, 20 ms.
    """
    if not packet:
        return _OPUS_USUAL_SAMPLES
    configuration, code = packet[0] >> 3, packet[0] & 3
    if configuration < 12:
        samples = (480, 960, 1920, 2880)[configuration & 3]  # SILK
    elif configuration < 16:
        samples = (480, 960)[configuration & 1]  # hybrid
    else:
        samples = 120 << (configuration & 3)  # CELT
    frames = (1, 2, 2, packet[1] & 63 if len(packet) > 1 else 0)[code]
    lasts = samples * frames
    return lasts if 0 < lasts <= _OPUS_LONGEST_SAMPLES else _OPUS_USUAL_SAMPLES


def flac_format(stream_info: bytes) -> AudioFormat:
    """Read a STREAMINFO block (RFC 9639 section 8.2), as libavformat gives it."""
    if len(stream_info) < 34:
        raise BitstreamError("no STREAMINFO")
    fields = int.from_bytes(stream_info[10:18], "big")
    if not fields >> 44:
        raise BitstreamError("a sample rate of 0")
    return AudioFormat(
        codec="flac",
        sample_rate=fields >> 44,
        channels=(fields >> 41 & 7) + 1,
        frame_samples=int.from_bytes(stream_info[2:4], "big") or 4096,  # maximum block size
        config=bytes(4) + b"\x80\0\0\x22" + stream_info[:34],  # dfLa: the last metadata block
        rfc6381="flac",
        fixed=(stream_info[:4], fields >> 36 & 31),  # block sizes, bits per sample
    )


_PARSERS = {"aac": aac_format, "ac3": _ac3_format, "eac3": _eac3_format, "mp3": _mp3_format}
COPYABLE = frozenset(_PARSERS)


def parse_frame(codec: str, frame: bytes) -> AudioFormat:
    """Return the format of one frame of `codec` (FFmpeg's name, one of `COPYABLE`).

    Raises:
        BitstreamError: it is no frame of that codec.
        UnsupportedCodec: it is MPEG audio of another layer.
    """
    return _PARSERS[codec](frame)
