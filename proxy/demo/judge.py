"""Judges a remuxed stream against its source: the same packets, the same payload, the same times.

Both are read back by PyAV's demuxers.  What a remux must change is taken off before comparing:
H.264 start codes and lengths, access unit delimiters, parameter sets and fill bytes; ADTS headers.
Blocking.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import av

__all__ = ["Track", "Verdict", "judge"]

# ISO/IEC 14496-10, table 7-1: parameter sets, delimiter, filler, which are the container's matter.
_NOT_PAYLOAD = frozenset({7, 8, 9, 12})
TOLERANCE_S = Fraction(1, 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """What is compared of one track."""

    codec: str
    payload: str  # hash over all packets
    times: tuple[Fraction, ...] = field(repr=False)  # of presentation, from the first packet on, s

    @property
    def packets(self) -> int:
        return len(self.times)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    source: Track
    output: Track

    @property
    def drift_s(self) -> float:
        """By how much the time of any packet is off."""
        pairs = zip(self.source.times, self.output.times, strict=False)
        return float(max((abs(a - b) for a, b in pairs), default=0))

    @property
    def equal(self) -> bool:
        return (
            self.source.packets == self.output.packets > 0
            and self.source.payload == self.output.payload
            and self.drift_s <= TOLERANCE_S
        )


def judge(source: bytes, output: bytes) -> tuple[Verdict, ...]:
    """Compare an MPEG-TS with the MP4 made of it, track by track.

    Raises:
        ValueError: they have not the same tracks.
    """
    before, after = _tracks(source, "mpegts"), _tracks(output, "mp4")
    if before.keys() != after.keys():
        raise ValueError(f"tracks of {', '.join(before)} became {', '.join(after) or 'nothing'}")
    return tuple(Verdict(source=before[codec], output=after[codec]) for codec in before)


def _tracks(data: bytes, format_name: str) -> dict[str, Track]:
    with av.open(io.BytesIO(data), "r", format=format_name) as container:
        hashes = {stream.index: hashlib.blake2b(digest_size=16) for stream in container.streams}
        times: dict[int, list[Fraction]] = {index: [] for index in hashes}
        codecs = {stream.index: stream.codec_context.name for stream in container.streams}
        for packet in container.demux():
            if packet.size == 0 or packet.pts is None:  # the last one of each stream is empty
                continue
            index = packet.stream_index
            for piece in _payload(bytes(packet), codecs[index], annexb=format_name == "mpegts"):
                hashes[index].update(piece)
            assert packet.time_base is not None
            times[index].append(packet.pts * packet.time_base)
    return {
        codec: Track(
            codec=codec,
            payload=hashes[index].hexdigest(),
            times=tuple(time - times[index][0] for time in times[index]),
        )
        for index, codec in codecs.items()
    }


def _payload(packet: bytes, codec: str, *, annexb: bool) -> Iterable[bytes]:
    if codec == "h264":
        units = _start_code_units(packet) if annexb else _length_units(packet)
        return (unit for unit in units if unit and unit[0] & 0x1F not in _NOT_PAYLOAD)
    if codec == "aac" and annexb:
        header_bytes = 7 if packet[1] & 1 else 9  # protection_absent: no CRC
        return (packet[header_bytes:],)
    return (packet,)


def _start_code_units(packet: bytes) -> Iterator[bytes]:
    for unit in packet.split(b"\0\0\1"):
        yield unit.rstrip(b"\0")  # zero bytes in front of a start code belong to nobody


def _length_units(packet: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(packet):
        size = int.from_bytes(packet[at : at + 4], "big")
        yield packet[at + 4 : at + 4 + size].rstrip(b"\0")
        at += 4 + size
