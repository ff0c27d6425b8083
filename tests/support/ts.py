"""A small MPEG-TS toolkit, written from ISO/IEC 13818-1: read streams and build them by hand.

Tests use it to look at sources without FFmpeg and to build what no muxer writes; `ts_edit` changes
whole streams with it.  Pure: `bytes` in, frozen values out, and back.  Times are ticks of 90 kHz,
clock references ticks of 27 MHz; both wrap as the standard says.  What is damaged raises `TsError`;
only bytes in front of the first packet are skipped, since real segments have some.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

PACKET_BYTES = 188
SYNC = 0x47
TICKS_PER_S = 90_000
WRAP = 1 << 33  # PTS and DTS, in ticks of 90 kHz
PCR_WRAP = WRAP * 300  # in ticks of 27 MHz
PAT_PID = 0x0000
NULL_PID = 0x1FFF

# stream_id, table 2-22
AUDIO_ID, VIDEO_ID, PRIVATE_1_ID = 0xC0, 0xE0, 0xBD


class TsError(ValueError):
    """The bytes are not the transport stream they should be."""


# -- packets ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Packet:
    """One transport packet, 2.4.3.2; the times in it are those of a PES packet that starts here."""

    raw: bytes  # PACKET_BYTES of them

    @property
    def pid(self) -> int:
        return int.from_bytes(self.raw[1:3], "big") & 0x1FFF

    @property
    def starts(self) -> bool:
        """payload_unit_start_indicator: a PES packet or a section begins here."""
        return bool(self.raw[1] & 0x40)

    @property
    def counter(self) -> int:
        return self.raw[3] & 0x0F

    @property
    def adaptation(self) -> bytes:
        """The adaptation field behind its length byte: flags, fields, stuffing; empty if absent."""
        return self.raw[5 : 5 + self.raw[4]] if self.raw[3] & 0x20 else b""

    @property
    def payload(self) -> bytes:
        if not self.raw[3] & 0x10:
            return b""
        return self.raw[5 + self.raw[4] if self.raw[3] & 0x20 else 4 :]

    @property
    def random_access(self) -> bool:
        """random_access_indicator, 2.4.3.5."""
        return bool(self.adaptation[:1] and self.adaptation[0] & 0x40)

    @property
    def pcr(self) -> int | None:
        """The program clock reference in ticks of 27 MHz."""
        field = self.adaptation
        if not field or not field[0] & 0x10:
            return None
        bits = int.from_bytes(field[1:7], "big")
        return (bits >> 15) * 300 + (bits & 0x1FF)

    @property
    def pts(self) -> int | None:
        head = self.payload if self.starts else b""
        timed = head[:3] == b"\0\0\1" and len(head) >= 14 and head[7] & 0x80
        return _read_time(head[9:14]) if timed else None

    @property
    def decode_time(self) -> int | None:
        """The DTS, or the PTS where both are the same."""
        head = self.payload
        if self.pts is not None and head[7] & 0x40:
            return _read_time(head[14:19])
        return self.pts

    def with_pid(self, pid: int) -> "Packet":
        head = int.from_bytes(self.raw[1:3], "big") & ~0x1FFF | pid
        return Packet(self.raw[:1] + head.to_bytes(2, "big") + self.raw[3:])

    def with_counter(self, counter: int) -> "Packet":
        return Packet(self.raw[:3] + bytes([self.raw[3] & 0xF0 | counter & 0x0F]) + self.raw[4:])

    def with_pcr(self, pcr: int) -> "Packet":
        """Replace the clock reference, which must be there already."""
        if self.pcr is None:
            raise TsError("this packet has no PCR to replace")
        return Packet(self.raw[:6] + _pcr_bytes(pcr) + self.raw[12:])


def packets(data: bytes) -> Iterator[Packet]:
    """Iterate over the packets, from the first place where the sync byte comes back.

    Raises:
        TsError: there is no such place, sync is lost later, or the last packet is cut.
    """
    position = find_sync(data)
    while position < len(data):
        raw = data[position : position + PACKET_BYTES]
        if raw[0] != SYNC:
            raise TsError(f"sync lost at byte {position}")
        if len(raw) < PACKET_BYTES:
            raise TsError(f"the last packet is cut to {len(raw)} bytes")
        yield Packet(raw)
        position += PACKET_BYTES


def find_sync(data: bytes) -> int:
    """Return where the first packet begins. Raises TsError if none does in the first 64 KiB."""
    for start in range(min(len(data), 64 * 1024)):
        places = range(start, min(start + 4 * PACKET_BYTES, len(data)), PACKET_BYTES)
        if all(data[place] == SYNC for place in places):
            return start
    raise TsError("no sync byte that comes back every 188 bytes")


def pack(parts: Iterable[Packet]) -> bytes:
    """Put packets one behind the other."""
    return b"".join(part.raw for part in parts)


def renumber(data: bytes) -> bytes:
    """Give every PID continuity counters without a break, 2.4.3.3."""
    last: dict[int, int] = {}
    out: list[Packet] = []
    for packet in packets(data):
        # the counter moves only with packets that carry payload
        step = 1 if packet.raw[3] & 0x10 else 0
        last[packet.pid] = (last.get(packet.pid, -step) + step) & 0x0F
        out.append(packet.with_counter(last[packet.pid]))
    return pack(out)


# -- PES packets -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Pes:
    """One PES packet, 2.4.3.6; `dts` is None where only a PTS is written (both are the same)."""

    pid: int
    stream_id: int
    pts: int | None
    dts: int | None = None
    payload: bytes
    random_access: bool = False  # of its first transport packet
    pcr: int | None = None  # of its first transport packet, 27 MHz
    aligned: bool = True  # data_alignment_indicator

    @property
    def decode_time(self) -> int | None:
        return self.pts if self.dts is None else self.dts


def read_pes(data: bytes, pid: int) -> list[Pes]:
    """Read every PES packet of one PID.

    Raises:
        TsError: a header is broken, or a packet is longer or shorter than it says.
    """
    return [parse_pes(group) for group in pes_groups(packets(data), pid)]


def pes_groups(parts: Iterable[Packet], pid: int) -> list[list[Packet]]:
    """Return the transport packets of each PES packet; what comes before a start is left out."""
    groups: list[list[Packet]] = []
    for packet in parts:
        if packet.pid == pid and packet.starts:
            groups.append([packet])
        elif packet.pid == pid and groups:
            groups[-1].append(packet)
    return groups


def parse_pes(group: Sequence[Packet]) -> Pes:
    """Read one PES packet from its transport packets. Raises TsError as `read_pes` does."""
    first = group[0]
    whole = b"".join(packet.payload for packet in group)
    if whole[:3] != b"\0\0\1" or len(whole) < 9 or whole[6] & 0xC0 != 0x80:
        raise TsError(f"PID {first.pid:#x} has no PES header where one should start")
    length = int.from_bytes(whole[4:6], "big")
    if length and len(whole) != 6 + length:
        raise TsError(f"a PES packet on PID {first.pid:#x}: {len(whole) - 6} bytes, not {length}")
    flags = whole[7] >> 6
    return Pes(
        pid=first.pid,
        stream_id=whole[3],
        pts=_read_time(whole[9:14]) if flags & 2 else None,
        dts=_read_time(whole[14:19]) if flags == 3 else None,
        payload=whole[9 + whole[8] :],
        random_access=first.random_access,
        pcr=first.pcr,
        aligned=bool(whole[6] & 0x04),
    )


def _read_time(field: bytes) -> int:
    bits = int.from_bytes(field, "big")
    if bits & 0x01_0001_0001 != 0x01_0001_0001:
        raise TsError("a marker bit of a PTS or DTS is missing")
    return (bits >> 33 & 7) << 30 | (bits >> 17 & 0x7FFF) << 15 | bits >> 1 & 0x7FFF


def _time_bytes(prefix: int, ticks: int) -> bytes:
    ticks %= WRAP
    bits = prefix << 36 | (ticks >> 30) << 33 | 1 << 32
    bits |= (ticks >> 15 & 0x7FFF) << 17 | 1 << 16 | (ticks & 0x7FFF) << 1 | 1
    return bits.to_bytes(5, "big")


def _pcr_bytes(pcr: int) -> bytes:
    base, extension = divmod(pcr % PCR_WRAP, 300)
    return (base << 15 | 0x3F << 9 | extension).to_bytes(6, "big")


def pes_bytes(pes: Pes) -> bytes:
    """Build the PES packet: header and payload; too long a video one leaves its length open."""
    times, flags = b"", 0
    if pes.pts is not None and pes.dts is not None and pes.dts != pes.pts:
        times, flags = _time_bytes(3, pes.pts) + _time_bytes(1, pes.dts), 0xC0
    elif pes.pts is not None:
        times, flags = _time_bytes(2, pes.pts), 0x80
    length = 3 + len(times) + len(pes.payload)
    if length > 0xFFFF:
        if pes.stream_id & 0xF0 != VIDEO_ID:
            raise TsError("only a video PES packet may be longer than 65,535 bytes")
        length = 0
    head = b"\0\0\1" + bytes([pes.stream_id]) + length.to_bytes(2, "big")
    head += bytes([0x84 if pes.aligned else 0x80, flags, len(times)])
    return head + times + pes.payload


def packetize(
    pid: int, unit: bytes, *, fields: Sequence[tuple[bool, int | None]] = (), counter: int = 0
) -> list[Packet]:
    """Cut a PES packet, or a section behind its pointer_field, into transport packets.

    `fields` are the random access flag and the PCR (27 MHz) of the first packets.
    """
    out: list[Packet] = []
    while unit or not out:
        random_access, pcr = fields[len(out)] if len(out) < len(fields) else (False, None)
        adaptation = b""
        if random_access or pcr is not None:
            flags = (0x40 if random_access else 0) | (0x10 if pcr is not None else 0)
            adaptation = bytes([flags]) + (_pcr_bytes(pcr) if pcr is not None else b"")
        room = PACKET_BYTES - 4 - (1 + len(adaptation) if adaptation else 0)
        if len(unit) < room:
            # stuffing: one byte is a bare length of 0, more need the flags byte too
            missing = PACKET_BYTES - 4 - 1 - len(unit)
            if not adaptation and missing:
                adaptation = b"\0"
            adaptation = adaptation.ljust(missing, b"\xff")
            room = len(unit)
            stuffed = bytes([len(adaptation)]) + adaptation
        else:
            stuffed = bytes([len(adaptation)]) + adaptation if adaptation else b""
        head = (0x4000 if not out else 0) | pid
        control = (0x30 if stuffed else 0x10) | counter + len(out) & 0x0F
        raw = bytes([SYNC]) + head.to_bytes(2, "big") + bytes([control]) + stuffed + unit[:room]
        out.append(Packet(raw))
        unit = unit[room:]
    return out


def pes_packets(pes: Pes) -> list[Packet]:
    """Build the transport packets of one PES packet."""
    return packetize(pes.pid, pes_bytes(pes), fields=[(pes.random_access, pes.pcr)])
