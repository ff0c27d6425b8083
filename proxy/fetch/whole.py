"""Whether a segment or an init section ends where it may: for answers that only the close ends.

Such a body has no length, and no final chunk, so that a cut one looks like a whole one (RFC 9112
section 6.3).  What it holds tells: a transport stream is made of packets, fragmented MP4 of boxes,
and what AES-128 encrypts (RFC 8216bis section 4.4.4.4) of blocks.
"""

from __future__ import annotations

from proxy.errors import CorruptMedia
from proxy.media.chain import BoxChain, is_init_section

__all__ = ["Ending", "is_cut_map"]

TS_SYNC = 0x47
TS_PACKET_BYTES = 188
AES_BLOCK_BYTES = 16
_HEAD_BYTES = 8  # of the first box: its size and its type
# What a segment of fragmented MP4 may begin with.
_FIRST_BOXES = frozenset({b"styp", b"sidx", b"moof", b"emsg", b"prft", b"ftyp", b"free", b"mdat"})


class Ending:
    """Fed with all of a segment, tells whether it ends within something.

    Of what is neither transport stream nor MP4 it says nothing.  `encrypted`: it is fed ciphertext
    of AES-128, which looks like anything, and is padded, so that there is always some.
    """

    def __init__(self, *, encrypted: bool = False) -> None:
        self._encrypted = encrypted
        self._size = 0
        self._head = b""  # the first bytes, up to a box's head
        self._chain: BoxChain | None = None  # of its boxes, if it is made of them

    @property
    def is_cut(self) -> bool:
        """Whether what came so far ends within a packet, a box or a block."""
        if self._encrypted:
            return not self._size or self._size % AES_BLOCK_BYTES != 0
        if self._chain is not None:
            return not self._chain.is_whole
        return self._head[:1] == bytes([TS_SYNC]) and self._size % TS_PACKET_BYTES != 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._size += len(chunk)
        if self._encrypted:
            return
        known = len(self._head)
        if known < _HEAD_BYTES:
            self._head += chunk[: _HEAD_BYTES - known]
            if self._head[4:] not in _FIRST_BOXES:
                return
            self._chain = BoxChain()
            chunk = self._head + chunk[_HEAD_BYTES - known :]
        if self._chain is not None:
            try:
                self._chain.feed(chunk)
            except CorruptMedia:  # no box; or one up to the end, which cannot be cut
                self._chain = None


def is_cut_map(body: bytes, *, encrypted: bool = False) -> bool:
    """Whether an init section ends too early.

    One of fragmented MP4 is whole with its moov.  One of a transport stream is made of packets.
    """
    if encrypted or body[4:_HEAD_BYTES] not in _FIRST_BOXES | {b"moov"}:
        ending = Ending(encrypted=encrypted)
        ending.feed(body)
        return len(body) < _HEAD_BYTES or ending.is_cut
    return not is_init_section(body)
