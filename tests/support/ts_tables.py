"""The tables of MPEG-TS, ISO/IEC 13818-1 section 2.4.4: programs, their streams, descriptors.

Reads and builds PAT and PMT with their CRC.  Pure, as `ts` is; what is damaged raises `TsError`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from tests.support.ts import (
    PAT_PID,
    Packet,
    Pes,
    TsError,
    pack,
    packetize,
    packets,
    pes_packets,
    renumber,
)

# stream_type, table 2-34; 0x80 and above are private (ATSC A/53, SCTE 35, Blu-ray)
MPEG2_VIDEO, MPEG2_AUDIO, PRIVATE_SECTIONS, PRIVATE_PES = 0x02, 0x04, 0x05, 0x06
AAC_ADTS, MPEG4_VIDEO, AAC_LATM, METADATA_PES = 0x0F, 0x10, 0x11, 0x15
H264, HEVC, VVC = 0x1B, 0x24, 0x33
AC3, DTS_AUDIO, SCTE35, EAC3 = 0x81, 0x82, 0x86, 0x87
_VIDEO_TYPES = {0x01, MPEG2_VIDEO, MPEG4_VIDEO, H264, HEVC, VVC}
_AUDIO_TYPES = {0x03, MPEG2_AUDIO, AAC_ADTS, AAC_LATM, AC3, DTS_AUDIO, EAC3, 0x8A}
_AUDIO_NAMES = {"AC-3", "EAC3", "Opus"}  # by registration, in a private stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One elementary stream as a PMT announces it."""

    pid: int
    stream_type: int
    descriptors: bytes = b""

    @property
    def language(self) -> str | None:
        """The first code of an ISO_639_language_descriptor, 2.6.18."""
        for tag, body in read_descriptors(self.descriptors):
            if tag == 0x0A:
                return body[:3].decode("ascii")
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One program: its number, where its PMT is, and what the PMT says."""

    number: int = 1
    pmt_pid: int = 0x1000
    pcr_pid: int = 0x0100
    descriptors: bytes = b""
    streams: tuple[Stream, ...]

    @property
    def video_pid(self) -> int | None:
        """The PID of the first stream of a video type."""
        for stream in self.streams:
            if stream.stream_type in _VIDEO_TYPES:
                return stream.pid
        return None

    @property
    def audio_pids(self) -> tuple[int, ...]:
        """The PIDs of the audio streams, those that only a registration tells of included."""
        return tuple(
            stream.pid
            for stream in self.streams
            if stream.stream_type in _AUDIO_TYPES
            or (stream.stream_type == PRIVATE_PES and _registration(stream) in _AUDIO_NAMES)
        )


def descriptor(tag: int, body: bytes) -> bytes:
    return bytes([tag, len(body)]) + body


def registration(name: bytes) -> bytes:
    """A registration_descriptor, 2.6.8: `name` is its four letters."""
    return descriptor(0x05, name)


def language(code: str) -> bytes:
    """An ISO_639_language_descriptor, 2.6.18: `code` has three letters."""
    return descriptor(0x0A, code.encode("ascii") + b"\0")


def read_descriptors(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        if len(data) < 2 or len(data) < 2 + data[1]:
            raise TsError("a descriptor is cut")
        yield data[0], data[2 : 2 + data[1]]
        data = data[2 + data[1] :]


def _registration(stream: Stream) -> str | None:
    for tag, body in read_descriptors(stream.descriptors):
        if tag == 0x05:
            return body[:4].decode("latin-1")
    return None


def crc32(data: bytes) -> int:
    """The CRC of annex A: polynomial 0x04C11DB7, most significant bit first, no final inversion."""
    value = 0xFFFF_FFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C1_1DB7 if value & 0x8000_0000 else 0)) & 0xFFFF_FFFF
    return value


def section(table_id: int, extension: int, body: bytes, *, version: int = 0) -> bytes:
    """Build a section of the long form with its CRC, 2.4.4."""
    length = 5 + len(body) + 4
    head = bytes([table_id]) + (0xB000 | length).to_bytes(2, "big") + extension.to_bytes(2, "big")
    whole = head + bytes([0xC1 | version << 1, 0, 0]) + body
    return whole + crc32(whole).to_bytes(4, "big")


def pat(programs: Iterable[Program]) -> bytes:
    """Build the section of a program association table, 2.4.4.3."""
    body = b"".join(
        one.number.to_bytes(2, "big") + (0xE000 | one.pmt_pid).to_bytes(2, "big")
        for one in programs
    )
    return section(0x00, 1, body)


def pmt(program: Program, *, version: int = 0) -> bytes:
    """Build the section of a program map table, 2.4.4.8."""
    body = (0xE000 | program.pcr_pid).to_bytes(2, "big")
    body += (0xF000 | len(program.descriptors)).to_bytes(2, "big") + program.descriptors
    for stream in program.streams:
        body += bytes([stream.stream_type]) + (0xE000 | stream.pid).to_bytes(2, "big")
        body += (0xF000 | len(stream.descriptors)).to_bytes(2, "big") + stream.descriptors
    return section(0x02, program.number, body, version=version)


def read_programs(data: bytes) -> tuple[Program, ...]:
    """Read the first PAT and the first PMT of each of its programs.

    Raises:
        TsError: a table is missing, or its CRC is wrong.
    """
    table = next(read_sections(data, PAT_PID), None)
    if table is None:
        raise TsError("there is no PAT")
    entries = [
        (int.from_bytes(table[at : at + 2], "big"), _pid_at(table, at + 2))
        for at in range(8, len(table) - 4, 4)
    ]
    return tuple(_read_pmt(data, number, pid) for number, pid in entries if number)


def read_program(data: bytes) -> Program:
    """Read the first program. Raises TsError as `read_programs` does."""
    return read_programs(data)[0]


def read_sections(data: bytes, pid: int) -> Iterator[bytes]:
    """Iterate over the sections of the long form on one PID.  Raises TsError on a wrong CRC."""
    for unit in _units(data, pid):
        body = unit[1 + unit[0] :]  # pointer_field
        length = 3 + (int.from_bytes(body[1:3], "big") & 0x0FFF)
        whole = body[:length]
        if len(whole) < length or crc32(whole) != 0:
            raise TsError(f"a section on PID {pid:#x} is cut, or its CRC is wrong")
        yield whole


def _units(data: bytes, pid: int) -> Iterator[bytes]:
    unit: bytearray | None = None
    for packet in packets(data):
        if packet.pid != pid:
            continue
        if packet.starts:
            if unit is not None:
                yield bytes(unit)
            unit = bytearray()
        if unit is not None:
            unit += packet.payload
    if unit:
        yield bytes(unit)


def _pid_at(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big") & 0x1FFF


def _read_pmt(data: bytes, number: int, pid: int) -> Program:
    for table in read_sections(data, pid):
        if table[0] != 0x02 or int.from_bytes(table[3:5], "big") != number:
            continue
        at = 12 + (int.from_bytes(table[10:12], "big") & 0x0FFF)
        common = table[12:at]
        streams = []
        while at < len(table) - 4:
            size = int.from_bytes(table[at + 3 : at + 5], "big") & 0x0FFF
            streams.append(
                Stream(
                    pid=_pid_at(table, at + 1),
                    stream_type=table[at],
                    descriptors=table[at + 5 : at + 5 + size],
                )
            )
            at += 5 + size
        return Program(
            number=number,
            pmt_pid=pid,
            pcr_pid=_pid_at(table, 8),
            descriptors=common,
            streams=tuple(streams),
        )
    raise TsError(f"program {number} has no PMT on PID {pid:#x}")


def section_packets(pid: int, whole: bytes) -> list[Packet]:
    """Cut a section into transport packets; the last is filled with 0xFF, 2.4.4.1."""
    unit = b"\0" + whole
    return packetize(pid, unit.ljust(-(-len(unit) // 184) * 184, b"\xff"))


def mux(program: Program, parts: Iterable[Pes]) -> bytes:
    """Build a stream: PAT, PMT, and the PES packets as they come."""
    out = section_packets(PAT_PID, pat([program]))
    out += section_packets(program.pmt_pid, pmt(program))
    out += chain.from_iterable(pes_packets(pes) for pes in parts)
    return renumber(pack(out))
