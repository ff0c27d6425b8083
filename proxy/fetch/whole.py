"""Whether a segment ends where it may end: for answers that only the close of the connection ends.

Such a body has no length, and no final chunk, so that a cut one looks like a whole one (RFC 9112
section 6.3).  What it holds tells: a transport stream is made of packets, fragmented MP4 of boxes.
"""

from __future__ import annotations

__all__ = ["Ending"]

TS_SYNC = 0x47
TS_PACKET_BYTES = 188
_HEAD_BYTES = 16  # of a box with a 64-bit size: the longest (ISO/IEC 14496-12 section 4.2)
# What a segment of fragmented MP4 may begin with.
_FIRST_BOXES = frozenset({b"styp", b"sidx", b"moof", b"emsg", b"prft", b"ftyp", b"free", b"mdat"})


class Ending:
    """Fed with all of a segment, tells whether it ends within something.

    Of what is neither transport stream nor MP4 it says nothing.
    """

    def __init__(self) -> None:
        self._size = 0
        self._first = -1  # byte
        self._boxes: bool | None = None  # whether it is made of boxes; None: not known yet
        self._head = b""  # of a box that is not complete
        self._left = 0  # of the box that is open; its head included

    @property
    def is_cut(self) -> bool:
        """Whether what came so far ends within a packet or a box."""
        if self._boxes:
            return bool(self._head or self._left)
        return self._first == TS_SYNC and self._size % TS_PACKET_BYTES != 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        if self._first < 0 and chunk:
            self._first = chunk[0]
        self._size += len(chunk)
        if self._boxes is False:
            return
        at = 0
        while at < len(chunk):
            step = min(self._left, len(chunk) - at)
            at, self._left = at + step, self._left - step
            if at == len(chunk):
                return
            known = len(self._head)
            self._head = (self._head + chunk[at : at + _HEAD_BYTES - known])[:_HEAD_BYTES]
            size = self._box_size()
            if size is None:  # the rest of its head comes with the next chunk
                return
            if size < 0:
                self._boxes = False
                return
            self._head, self._left = b"", size - known

    def _box_size(self) -> int | None:
        """Return the size of the box of which the head is here; -1: it is none, None: not known."""
        head = self._head
        if len(head) < 8:
            return None
        if self._boxes is None:
            self._boxes = head[4:8] in _FIRST_BOXES
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            if len(head) < _HEAD_BYTES:
                return None
            size = int.from_bytes(head[8:16], "big")
        return size if self._boxes and size >= 8 else -1  # 0, up to the end, cannot be cut
