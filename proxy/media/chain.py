"""The chain of top-level boxes of an MP4: whether a segment or an init section is whole.

libavformat takes what stands behind a cut box for the rest of it, and may then find nothing more
until the end, without a word.  `BoxChain` walks from head to head while the bytes pass.  Pure.
Specification: ISO/IEC 14496-12 section 4.2.
"""

from __future__ import annotations

from proxy.errors import CorruptMedia

_HEAD_BYTES = 8
_LARGE_HEAD_BYTES = 16  # with the size in 64 bits


class BoxChain:
    """Walks along the boxes of one segment."""

    def __init__(self) -> None:
        self._left = 0  # bytes of the box that are to come
        self._head = b""  # of the next one, as far as it has come
        self.has_movie = False  # whether one of them is a moov

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            CorruptMedia: what stands there is no box.
        """
        place = self._left
        while place < len(chunk):
            needed = _LARGE_HEAD_BYTES if self._head[:4] == b"\0\0\0\1" else _HEAD_BYTES
            taken = chunk[place : place + needed - len(self._head)]
            self._head += taken
            place += len(taken)
            if len(self._head) < needed:
                break
            size = int.from_bytes(self._head[:4])
            if size == 1 and needed == _HEAD_BYTES:
                continue
            if size == 1:
                size = int.from_bytes(self._head[_HEAD_BYTES:])
            if size < needed:  # 0: up to the end of the file, where another segment follows
                raise CorruptMedia(f"a box of {size} bytes: " + repr(self._head))
            place += size - needed
            self.has_movie = self.has_movie or self._head[4:8] == b"moov"
            self._head = b""
        self._left = max(place - len(chunk), 0)

    @property
    def is_whole(self) -> bool:
        """Whether a box has just ended."""
        return not self._left and not self._head


def is_init_section(data: bytes) -> bool:
    """Whether these are whole boxes, a moov among them (RFC 8216 section 3.3)."""
    chain = BoxChain()
    try:
        chain.feed(data)
    except CorruptMedia:
        return False
    return chain.is_whole and chain.has_movie
