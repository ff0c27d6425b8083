"""The packets in flight where a transport stream announces other streams.

They do not change sides all at once.  What belongs to the streams before still goes to the section
before: of a PID that stays, up to the PES packet with which a new unit begins; of one that is
announced no more, as long as `IN_FLIGHT_BYTES` allow.  The rest is held back meanwhile, and begins
the section behind.  Pure.  Specification: ISO/IEC 13818-1 sections 2.4.3.2 and 2.4.3.6.
"""

from __future__ import annotations

from proxy.media.psi import PACKET_SIZE

# What is held back at most while packets of the streams before may come: half a second of 8 Mbit/s.
# A muxer sends audio no later than that behind the pictures that it belongs to, mostly.
IN_FLIGHT_BYTES = 512 * 1024


class Crossing:
    """The packets around a PMT that changed: those of the streams before, and those behind.

    Args:
        before: PIDs of the streams that were announced.
        behind: PIDs of those that are now.
        tables: PAT and PMTs.
    """

    def __init__(self, before: set[int], behind: set[int], tables: bytes) -> None:
        self.ended = False
        self._before = before
        self._passed: list[bytes] = []
        self._held: list[bytes] = []
        self.announce(behind, tables)

    @property
    def is_empty(self) -> bool:
        """Whether nothing has come for the section behind."""
        return not self._held

    def announce(self, behind: set[int], tables: bytes) -> None:
        """Say what the section behind begins with."""
        self.tables = tables
        self._gone = self._before - behind
        self._open = self._before & behind  # no PES packet of these has begun yet
        self.ended = not self._gone and not self._open

    def take(self, packet: bytes) -> None:
        """Take a packet."""
        pid = pid_of(packet)
        if pid in self._open and _begins_unit(packet):
            self._open.discard(pid)
        if pid in self._gone or pid in self._open:
            self._passed.append(packet)
        else:
            self._held.append(packet)
        self.ended = (
            not (self._gone or self._open) or len(self._held) * PACKET_SIZE >= IN_FLIGHT_BYTES
        )

    def passed(self) -> list[bytes]:
        """Return what has come for the section before since the last time."""
        passed, self._passed = self._passed, []
        return [b"".join(passed)] if passed else []

    def held(self) -> bytes:
        """Return what the section behind begins with."""
        return self.tables + b"".join(self._held)


# What an access unit or audio frame begins with, as far as it can be told from what it is not:
# a start code, ADTS and MPEG audio, AC-3 and E-AC-3; Opus (its control header).
_UNITS = (b"\0\0\1", b"\0\0\0\1", b"\xff", b"\x0b\x77", b"\x7f")


def _begins_unit(packet: bytes) -> bool:
    """Whether a PES packet begins here, and with it a unit: frames of audio may go on from one PES
    packet into the next, and a demuxer that sees only half of one cannot join it."""
    if not packet[1] & 0x40:  # payload_unit_start_indicator
        return False
    start = 5 + packet[4] if packet[3] & 0x20 else 4
    head = packet[start:]
    if head[:3] != b"\0\0\1" or len(head) < 9:
        return True  # no PES packet: a section, or too little of one to tell
    stream_id = head[3]
    if stream_id != 0xBD and not 0xC0 <= stream_id < 0xF0:
        return True  # of data
    return bool(head[7] & 0x80) and head[9 + head[8] :].startswith(_UNITS)


def pid_of(packet: bytes) -> int:
    """Return the PID of a transport packet."""
    return (packet[1] & 31) << 8 | packet[2]
