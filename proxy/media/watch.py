"""Watches a transport stream on its way into the ring, and divides it where it announces others.

libavformat takes a changed PMT as it comes, but PyAV cannot deliver the packets of streams that
appear in mid-stream.  `Divider` sees every byte: where a PMT announces other streams, it begins a
new section, with the tables in front that its demuxer needs.  What is in flight at that place is
divided by a `Crossing`.  Pure; runs on the event loop.

Cost for a chunk of 240 KiB: 15 microseconds compiled, else 30: the bytes that hold the PIDs are
drawn out with a stride of a packet, and searched for those of the tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from proxy.media.crossing import Crossing, pid_of
from proxy.media.psi import LOOK_AT_MOST, PACKET_SIZE, Program, Tables
from proxy.media.sniff import Recognition, find_sync

if TYPE_CHECKING:
    from proxy.media.transport import marked
else:
    try:
        from proxy.media.transport import marked
    except ImportError:  # nobody has compiled it

        def marked(*places):
            return _marked_by_stride(*places)


_SYNC = 0x47

_MARKED = re.compile(rb"[^\0]")


class Divider:
    """Divides the bytes of one section; made anew for each section that others begin.

    The bytes it is fed come out of it in the same order, but for those of a PMT that changed (which
    stands in front of the new section) and for what is in flight there.
    """

    def __init__(self) -> None:
        self._tables = Tables(strict=True)
        self._announced: tuple[Program, ...] = ()  # to the demuxer of the section
        self._seen = 0  # bytes of this section
        self._marked = self._tables.pids()  # what is searched for, and how
        self._marks = _marks(self._marked)
        self._known: dict[int, bytes] = {}  # PID → the packet of its table that came last
        self._begun = b""  # a packet of which the rest is to come, where it may be one of a table
        self._missing: int | None = 0  # bytes of a packet whose beginning has passed; None: no sync
        self._crossing: Crossing | None = None

    @property
    def missing(self) -> int:
        """Bytes that complete the packet in which the last chunk ended."""
        return PACKET_SIZE - len(self._begun) if self._begun else self._missing or 0

    def segment(self, found: Recognition, *, completes: bool = False) -> Sequence[bytes]:
        """Say that a segment follows, and what it was recognised as.

        `completes`: whether it begins with the rest of the packet that the one before ended in;
        otherwise it begins with a packet.  Returns what is to be written before it.
        """
        padding = b""
        if not completes:
            # A packet that was cut off would swallow the beginning of the next one.
            padding = b"\xff" * (self._missing or 0)
            self._begun, self._missing = b"", 0
        if self._announced and _pids(found.programs) and found.programs != self._announced:
            for place in range(0, len(found.tables), PACKET_SIZE):
                self._tables.packet(found.tables[place : place + PACKET_SIZE])
            self._cross()
        return (padding,) if padding else ()

    def feed(self, chunk: bytes) -> Iterator[bytes | None]:
        """Take the next bytes; yield what is to be written, and None where a section begins."""
        while chunk:
            if self._crossing is not None:
                if self._missing:
                    yield chunk[: self._missing]
                chunk, again = self._divide(chunk[self._missing or 0 :], self._crossing)
                yield from self._crossing.passed()
                if self._crossing.ended:
                    yield from self.finish()
                if again:
                    self._cross()
                continue
            chunk, end, changed = self._find(chunk)
            if end:
                yield chunk if end == len(chunk) else chunk[:end]
            if not changed:
                return
            self._cross()
            chunk = chunk[end + PACKET_SIZE :]

    def finish(self) -> Iterator[bytes | None]:
        """End what is in flight: a segment has ended."""
        crossing, self._crossing = self._crossing, None
        if crossing is not None:
            yield None
            held = crossing.held()
            self._seen = len(held)
            yield held

    # -- the way of nearly all bytes ---------------------------------------------------------------

    def _find(self, chunk: bytes) -> tuple[bytes, int, bool]:
        """Look for a PMT that announces others.

        Returns the chunk (with what was held back of the one before), how much of it may pass, and
        whether such a PMT stands there.
        """
        chunk, self._begun = self._begun + chunk, b""
        self._seen += len(chunk)
        first = self._missing
        if first is None:
            first = find_sync(chunk)
            if first is None:
                return chunk, len(chunk), False
        if first >= len(chunk):
            self._missing = first - len(chunk)
            return chunk, len(chunk), False
        count = (len(chunk) - first) // PACKET_SIZE
        end = first + count * PACKET_SIZE
        changed = self._search(chunk, first, end)
        if changed is not None:
            self._missing = 0
            return chunk, changed, True
        rest = chunk[end:]
        self._missing = (PACKET_SIZE - len(rest)) % PACKET_SIZE
        syncs = chunk[first], chunk[max(end - PACKET_SIZE, first)], *rest[:1]
        if set(syncs) != {_SYNC}:
            self._missing = None
        elif rest and (len(rest) < 3 or self._tables.concerns(pid_of(rest))):
            self._begun, self._missing = rest, 0
            return chunk, end, False
        return chunk, len(chunk), False

    def _search(self, chunk: bytes, begin: int, end: int) -> int | None:
        """Return where between two borders of packets a PMT announces others; None: nowhere."""
        while begin < end:
            marks = self._marks
            for place in marked(chunk, begin, end, *marks):
                begin = place + PACKET_SIZE
                if self._changes(chunk[place:begin]):
                    return place
                if self._marks is not marks:
                    break  # a PAT named other PIDs: look for those
            else:
                return None
        return None

    def _changes(self, packet: bytes) -> bool:
        """Take a packet of a table; tells whether it announces others than the section's."""
        pid = pid_of(packet)
        if self._known.get(pid) == packet[4:]:
            return False  # the same once more, in a single packet: the usual case
        mapped = self._tables.packet(packet)
        if self._tables.pids() != self._marked:
            self._marked = self._tables.pids()
            self._marks = _marks(self._marked)
        self._known.pop(pid, None)
        if packet[1] & 0x40 and not self._tables.unfinished(pid):
            self._known[pid] = packet[4:]
        programs = self._tables.programs
        if not mapped or programs == self._announced or not _pids(programs):
            return False  # a PMT without streams announces none to go on with
        late = self._announced and self._seen > LOOK_AT_MOST
        if set(self._announced) <= set(programs) and not late:
            # The others of the PAT: the demuxer looks as far for their PMTs.
            self._announced = programs
            return False
        return True

    # -- where a section begins --------------------------------------------------------------------

    def _cross(self) -> None:
        programs = self._tables.programs
        self._crossing = Crossing(_pids(self._announced), _pids(programs), self._tables.packets())
        self._announced = programs

    def _divide(self, chunk: bytes, crossing: Crossing) -> tuple[bytes, bool]:
        """Take packets one by one until all that was in flight has come.

        Returns the rest, and whether the next change has ended it.
        """
        chunk, self._begun, self._missing = self._begun + chunk, b"", 0
        place = 0
        again = False
        while len(chunk) - place >= PACKET_SIZE and not crossing.ended:
            packet = chunk[place : place + PACKET_SIZE]
            if packet[0] != _SYNC:
                crossing.ended, self._missing = True, None
                break
            place += PACKET_SIZE
            if not self._tables.concerns(pid_of(packet)):
                crossing.take(packet)
            elif self._changes(packet):
                again = crossing.ended = not crossing.is_empty
                if not again:
                    self._announced = self._tables.programs
                    crossing.announce(_pids(self._announced), self._tables.packets())
            elif self._tables.programs == self._announced:
                crossing.tables = self._tables.packets()
        if crossing.ended:
            return chunk[place:], again
        self._begun = chunk[place:]
        return b"", False


def _pids(programs: Sequence[Program]) -> set[int]:
    return {stream.pid for program in programs for stream in program.streams}


def _marked_by_stride(chunk: bytes, begin: int, end: int, high: bytes, low: bytes) -> list[int]:
    """As `transport.marked`."""
    marks = int.from_bytes(chunk[begin + 1 : end : PACKET_SIZE].translate(high))
    marks &= int.from_bytes(chunk[begin + 2 : end : PACKET_SIZE].translate(low))
    if not marks:
        return []
    found = _MARKED.finditer(marks.to_bytes((end - begin) // PACKET_SIZE))
    return [begin + match.start() * PACKET_SIZE for match in found]


def _marks(pids: set[int]) -> tuple[bytes, bytes]:
    """Return what the second and the third byte of a packet translate to, so that a bit is left in
    both where it is one of these PIDs; with more than eight of them, perhaps of some others."""
    high, low = bytearray(256), bytearray(256)
    for number, pid in enumerate(sorted(pids)):
        low[pid & 255] |= 1 << number % 8
        # With and without payload_unit_start_indicator and transport_priority; a packet that is
        # marked as damaged (transport_error_indicator) is none.
        for flags in (0x00, 0x20, 0x40, 0x60):
            high[pid >> 8 | flags] |= 1 << number % 8
    return bytes(high), bytes(low)
