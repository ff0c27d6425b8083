"""Program Specific Information: which elementary streams an MPEG-TS announces.

libavformat tells the streams, but not which program they belong to, nor a name for a codec that it
has no decoder for; both stand in the PAT and the PMTs.  `Tables` puts these together, packet by
packet; `ProgramReader` looks at bytes until it has read all of them.  Pure.  Specification: ISO/IEC
13818-1 section 2.4.4; registered identifiers: SMPTE-RA, ETSI EN 300 468 (DVB).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

PACKET_SIZE = 188
_SYNC = 0x47
_PAT_PID = 0
_STUFFING = 0xFF  # behind the last section of a packet
_SMALLEST_SECTION = 12  # bytes: the head and the CRC of the long form
LOOK_AT_MOST = 1 << 20  # bytes; RFC 8216bis wants PAT and PMT at the start of every segment

# Names (FFmpeg's where it has one) of codecs that libavformat may not name.
_STREAM_TYPES = {
    0x01: "mpeg1video", 0x02: "mpeg2video", 0x0F: "aac", 0x10: "mpeg4", 0x11: "aac_latm",
    0x1B: "h264", 0x1C: "aac", 0x21: "jpeg2000", 0x24: "hevc", 0x2D: "mpegh_3d_audio",
    0x2E: "mpegh_3d_audio", 0x32: "jpegxs", 0x33: "vvc", 0x34: "evc", 0x42: "cavs", 0x81: "ac3",
    0x82: "dts", 0x83: "truehd", 0x84: "eac3", 0x85: "dts", 0x87: "eac3", 0x8A: "dts", 0xEA: "vc1",
}  # fmt: skip
_REGISTRATIONS = {
    b"AC-3": "ac3", b"EAC3": "eac3", b"AC-4": "ac4", b"DTS1": "dts", b"DTS2": "dts",
    b"DTS3": "dts", b"DTSU": "dts_uhd", b"Opus": "opus", b"HEVC": "hevc", b"VC-1": "vc1",
    b"AV01": "av1",
}  # fmt: skip
_DVB_DESCRIPTORS = {0x6A: "ac3", 0x7A: "eac3", 0x7B: "dts"}
_DVB_EXTENSIONS = {0x0E: "dts", 0x15: "ac4", 0x21: "dts_uhd"}
# Those that libavformat believes; into all others (also AC-3 and DTS by ATSC's numbers) it looks.
# AAC, H.264, HEVC, ID3 and SCTE 35 splice information.
_EXPLICIT = frozenset({0x0F, 0x1B, 0x24, 0x15, 0x86})
_LANGUAGE_DESCRIPTOR, _REGISTRATION_DESCRIPTOR, _EXTENSION_DESCRIPTOR = 0x0A, 0x05, 0x7F


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementaryStream:
    """One entry of a PMT."""

    pid: int
    stream_type: int
    codec: str | None  # FFmpeg's name; None: not known from the PMT alone
    language: str | None = None  # ISO 639-2


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    number: int
    streams: tuple[ElementaryStream, ...]

    @property
    def is_explicit(self) -> bool:
        """Whether it tells what all of its streams are, so that nobody has to look into them."""
        return all(s.stream_type in _EXPLICIT for s in self.streams)


def _descriptors(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while len(data) >= 2 and len(data) >= 2 + data[1]:
        found.append((data[0], data[2 : 2 + data[1]]))
        data = data[2 + data[1] :]
    return found


def _stream(pid: int, stream_type: int, descriptors: bytes) -> ElementaryStream:
    codec = _STREAM_TYPES.get(stream_type)
    language = None
    for tag, body in _descriptors(descriptors):
        if tag == _LANGUAGE_DESCRIPTOR and len(body) >= 3:
            language = body[:3].decode("latin-1").lower()
        elif tag == _REGISTRATION_DESCRIPTOR:
            codec = codec or _REGISTRATIONS.get(body[:4])
        elif tag == _EXTENSION_DESCRIPTOR and body:
            codec = codec or _DVB_EXTENSIONS.get(body[0])
        else:
            codec = codec or _DVB_DESCRIPTORS.get(tag)
    return ElementaryStream(pid=pid, stream_type=stream_type, codec=codec, language=language)


def parse_pat(section: bytes) -> dict[int, int]:
    """Return program number → PID of its PMT."""
    end = 3 + ((section[1] & 15) << 8 | section[2]) - 4
    programs = {}
    for i in range(8, min(end, len(section)) - 3, 4):
        number = section[i] << 8 | section[i + 1]
        if number:  # 0 is the network information table
            programs[number] = (section[i + 2] & 31) << 8 | section[i + 3]
    return programs


def parse_pmt(section: bytes) -> Program:
    """Return what a program map section announces; a cut section gives what it has."""
    end = min(3 + ((section[1] & 15) << 8 | section[2]) - 4, len(section))
    streams = []
    i = 12 + ((section[10] & 15) << 8 | section[11])
    while i + 5 <= end:
        pid = (section[i + 1] & 31) << 8 | section[i + 2]
        length = (section[i + 3] & 15) << 8 | section[i + 4]
        streams.append(_stream(pid, section[i], section[i + 5 : min(i + 5 + length, end)]))
        i += 5 + length
    return Program(number=section[3] << 8 | section[4], streams=tuple(streams))


class Tables:
    """The PAT and the PMTs that it names, put together from the packets of a transport stream.

    Args:
        strict: whether a section with a wrong CRC is passed over, as libavformat does.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._unfinished: dict[int, bytes] = {}  # PID → what has come of its section so far
        self._pat: bytes | None = None
        self._pmt_pids: dict[int, int] = {}  # program number → PID
        self._pmts: dict[int, tuple[bytes, Program]] = {}  # by program number

    @property
    def programs(self) -> tuple[Program, ...]:
        """The programs read so far, in the order of the PAT."""
        return tuple(self._pmts[number][1] for number in self._pmt_pids if number in self._pmts)

    @property
    def complete(self) -> bool:
        """Whether all PMTs are there that the PAT names."""
        return self._pat is not None and set(self._pmt_pids) <= set(self._pmts)

    def concerns(self, pid: int) -> bool:
        """Whether a PID carries one of the tables."""
        return pid == _PAT_PID or pid in self._pmt_pids.values()

    def pids(self) -> set[int]:
        """Return the PIDs that carry the tables, as far as they are known."""
        return {_PAT_PID, *self._pmt_pids.values()}

    def unfinished(self, pid: int) -> bool:
        """Whether the last section of a PID goes on in a packet that has not come."""
        return pid in self._unfinished

    def packet(self, packet: bytes) -> bool:
        """Take a transport packet; tells whether it completed a PMT."""
        pid = (packet[1] & 31) << 8 | packet[2]
        if not self.concerns(pid):
            return False
        start = 5 + packet[4] if packet[3] & 0x20 else 4
        payload = packet[start:] if packet[3] & 0x10 else b""
        if not packet[1] & 0x40 or not payload:  # payload_unit_start_indicator: a pointer_field
            return self._continue(pid, payload)
        before = self._continue(pid, payload[1 : 1 + payload[0]])
        self._unfinished[pid] = payload[1 + payload[0] :]
        return self._continue(pid, b"") or before

    def packets(self) -> bytes:
        """Return the tables as transport packets, to be put in front of a section."""
        out = [] if self._pat is None else [_packets(_PAT_PID, self._pat)]
        for number, pid in self._pmt_pids.items():
            if number in self._pmts:
                out.append(_packets(pid, self._pmts[number][0]))
        return b"".join(out)

    def _continue(self, pid: int, payload: bytes) -> bool:
        """Append to the section of a PID, and read what is whole: several may follow each other."""
        if pid not in self._unfinished:
            return False
        mapped = False
        rest = self._unfinished[pid] + payload
        while len(rest) >= 3 and rest[0] != _STUFFING:
            size = 3 + ((rest[1] & 15) << 8 | rest[2])
            if len(rest) < size:
                break
            if size >= _SMALLEST_SECTION and (not self._strict or _is_sound(rest[:size])):
                mapped |= self._section(pid, rest[:size])
            rest = rest[size:]
        if rest and rest[0] != _STUFFING:
            self._unfinished[pid] = rest
        else:
            del self._unfinished[pid]
        return mapped

    def _section(self, pid: int, section: bytes) -> bool:
        if not section[5] & 1:  # current_next_indicator: not in force yet
            return False
        if pid == _PAT_PID and section[0] == 0:
            pmt_pids = parse_pat(section)
            for number in [n for n in self._pmts if pmt_pids.get(n) != self._pmt_pids[n]]:
                del self._pmts[number]
            self._pat, self._pmt_pids = section, pmt_pids
        elif section[0] == 2:
            program = parse_pmt(section)
            if self._pmt_pids.get(program.number) == pid:
                self._pmts[program.number] = section, program
                return True
        return False


def _is_sound(section: bytes) -> bool:
    """Check the CRC of annex A; zlib has the same one with the bits of every byte mirrored."""
    return zlib.crc32(section.translate(_MIRRORED)) == 0xFFFFFFFF


_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _packets(pid: int, section: bytes) -> bytes:
    """Cut a section into transport packets."""
    rest = b"\0" + section  # behind its pointer_field
    out: list[bytes] = []
    while rest:
        head = bytes([_SYNC, pid >> 8 | (0 if out else 0x40), pid & 255, 0x10 | len(out) & 15])
        room = PACKET_SIZE - len(head)
        out.append(head + rest[:room].ljust(room, bytes([_STUFFING])))
        rest = rest[room:]
    return b"".join(out)


class ProgramReader:
    """Finds the PAT and every PMT it names in a transport stream that is fed to it in pieces.

    Args:
        strict: whether a section with a wrong CRC is passed over.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.tables = Tables(strict=strict)
        self._rest = b""
        self._seen = 0
        self.complete = False

    @property
    def programs(self) -> tuple[Program, ...]:
        """The programs read so far, in the order of the PAT."""
        return self.tables.programs

    def feed(self, data: bytes) -> None:
        """Look at the next bytes; cheap and without effect once `complete`."""
        if self.complete:
            return
        self._seen += len(data)
        data = self._rest + data
        i = 0
        while i + PACKET_SIZE <= len(data):
            following = i + PACKET_SIZE
            if data[i] != _SYNC or (following < len(data) and data[following] != _SYNC):
                i += 1  # not aligned yet, or lost
                continue
            self.tables.packet(data[i:following])
            i = following
            if self.tables.complete:
                self.complete = True
                return
        self._rest = data[i:]
        self.complete = self._seen >= LOOK_AT_MOST
