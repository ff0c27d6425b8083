"""What stands between an input and libavformat: bounds on what it may be made to do.

Two fences, both file-like, one around the other:

* `Metered` counts the bytes that were read since a packet of a chosen track came out, and ends a
  source that feeds for ever and says nothing: null packets, streams nobody chose, noise.
* `CheckedBoxes` looks at the boxes of a fragmented MP4 before libavformat does, which allocates
  what a table says to have: 24 bytes per sample, however many samples four bytes of a header claim.

Runs on the worker thread; knows no media library.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Protocol

from proxy.errors import CorruptMedia

# Bytes without a packet of a chosen track before a source is called damaged.  One access unit
# at the highest level of any codec that HLS is used for is smaller (a keyframe of 8K: some 10 MB),
# and what other streams take between two pictures is less than the pictures.
BARREN_BYTES = 32 * 1024 * 1024

# The tables of an hour-long fragment are smaller; whoever announces more would have it buffered.
_TABLES_BYTES = 8 * 1024 * 1024

# Samples that may be announced without bytes to show for them, and bytes per sample behind that: a
# frame of silence has six, and eight are in its `trun`.
_FREE_SAMPLES = 64 * 1024
_SAMPLE_BYTES = 8

# Streams of a source: more than any player offers to choose from.
MOST_STREAMS = 64

_BRANDS_BYTES = 4 * 1024  # of a list of four letters each

# Boxes that hold boxes, and the bytes in front of those (ISO/IEC 14496-12 section 8).
_HOLDS = {
    b"moov": 0, b"trak": 0, b"edts": 0, b"mdia": 0, b"minf": 0, b"stbl": 0, b"mvex": 0,
    b"moof": 0, b"traf": 0, b"stsd": 8, b"dinf": 0, b"dref": 8,
}  # fmt: skip

# Tables: where the count stands behind the box header, and the size of an entry.
_TABLES = {
    b"stsd": (4, 16), b"dref": (4, 12), b"stts": (4, 8), b"ctts": (4, 8), b"stsc": (4, 12),
    b"stco": (4, 4), b"co64": (4, 8), b"stss": (4, 4),
}  # fmt: skip

# What the copy needs to know.  Anything else (metadata, encryption, groups of samples, indexes) is
# shown to libavformat as `free`: every table that it does not parse is one that cannot lie.
_NEEDED = frozenset([
    *_HOLDS, *_TABLES, b"ftyp", b"styp", b"mdat", b"mvhd", b"tkhd", b"mdhd", b"hdlr", b"elng",
    b"vmhd", b"smhd", b"elst", b"stsz", b"cslg", b"mehd", b"trex", b"mfhd", b"tfhd", b"tfdt",
    b"trun", b"url ",
])  # fmt: skip

_ATOM = struct.Struct(">I4s")


class _Readable(Protocol):
    def read(self, n: int, /) -> bytes: ...


class Metered:
    """Ends a source of which nothing comes."""

    def __init__(self, source: _Readable) -> None:
        self._source = source
        self._left = BARREN_BYTES
        self._failed = False

    def read(self, n: int, /) -> bytes:
        """Read as the source does; `b""` once it has raised something: libavformat asks again, and
        PyAV writes what a second exception displaces to stderr.

        Raises:
            CorruptMedia: too much has been read since the last `advance`.
        """
        if self._failed:
            return b""
        self._failed = True  # until it is known that it goes well
        data = self._source.read(n)
        self._left -= len(data)
        if self._left < 0:
            raise CorruptMedia(f"{BARREN_BYTES} bytes, and no packet of a chosen track in them")
        self._failed = False
        return data

    def advance(self) -> None:
        """Say that a packet of a chosen track came out."""
        self._left = BARREN_BYTES


class CheckedBoxes:
    """A fragmented MP4 whose tables are no larger than the boxes they stand in.

    Bytes keep their places, since `tfhd` may point at them; only names of boxes are changed.
    """

    def __init__(self, source: _Readable) -> None:
        self._source = source
        self._ready = b""  # to be handed out
        self._pass = 0  # bytes that follow and need no look; -1: up to the end
        self._seen_bytes = 0
        self._samples = 0  # that were announced
        self._tracks = 0

    def read(self, n: int, /) -> bytes:
        """Return 1 to n bytes, `b""` at the end.

        Raises:
            CorruptMedia: a table says more than there is.
        """
        if not self._ready and self._pass == 0:
            self._ready = self._next()
        if self._ready:
            piece, self._ready = self._ready[:n], self._ready[n:]
            return piece
        if self._pass == 0:
            return b""
        data = self._source.read(n if self._pass < 0 else min(n, self._pass))
        self._seen_bytes += len(data)
        if self._pass > 0:
            self._pass = self._pass - len(data) if data else 0
        return data

    def _exactly(self, size: int) -> bytes:
        """Read so many bytes, or fewer at the end."""
        pieces, left = [], size
        while left:
            piece = self._source.read(left)
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        self._seen_bytes += size - left
        return b"".join(pieces)

    def _next(self) -> bytes:
        """Return the next box, or its head where the rest of it may pass."""
        head = self._exactly(8)
        if len(head) < 8:
            return head
        size, kind = _ATOM.unpack(head)
        if size == 1:
            head += self._exactly(8)
            size = int.from_bytes(head[8:], "big")
        if size == 0:  # up to the end (section 4.2)
            self._pass = -1
            if kind in _HOLDS:
                raise CorruptMedia(f"a box {kind!r} without a size")
            return _named(head, kind)
        if size < len(head) or size >= 1 << 63:
            raise CorruptMedia(f"a box {kind!r} of {size} bytes")
        left = size - len(head)
        if kind in {b"ftyp", b"styp"} and left > _BRANDS_BYTES:
            raise CorruptMedia(f"a box {kind!r} of {size} bytes")
        if kind not in _HOLDS:
            self._pass = left
            return _named(head, kind)
        if left > _TABLES_BYTES:
            raise CorruptMedia(f"a box {kind!r} of {size} bytes")
        body = bytearray(self._exactly(left))
        if len(body) < left:
            raise CorruptMedia(f"a box {kind!r} that is cut")
        self._tracks = 0  # of this moov: segments may repeat it
        self._check(memoryview(body), kind)
        if self._samples * _SAMPLE_BYTES > self._seen_bytes + _FREE_SAMPLES * _SAMPLE_BYTES:
            raise CorruptMedia(f"{self._samples} samples in {self._seen_bytes} bytes")
        return head + bytes(body)

    def _check(self, body: memoryview, kind: bytes) -> None:
        """Check what a box holds, and name what is not needed `free`."""
        if kind in _TABLES:
            at, entry = _TABLES[kind]
            if _count(body, at) * entry > len(body) - at - 4:
                raise CorruptMedia(f"a table {kind!r} that is longer than its box")
        if kind in _HOLDS:
            # Sample entries have names of their own, and stay as they are.
            known = kind not in {b"stsd", b"dref"}
            for place, inner, child in _children(body, _HOLDS[kind]):
                if known and child not in _NEEDED:
                    body[place + 4 : place + 8] = b"free"
                else:
                    self._check(inner, child)
            self._tracks += kind == b"trak"
            if self._tracks > MOST_STREAMS:
                raise CorruptMedia(f"more than {MOST_STREAMS} tracks")
        elif kind == b"elst":
            count = _count(body, 4)
            if count * (20 if body[0] == 1 else 12) > len(body) - 8:
                raise CorruptMedia("an edit list that is longer than its box")
        elif kind == b"trex":
            _check_size(_count(body, 16))
        elif kind == b"tfhd":
            flags = int.from_bytes(body[1:4], "big")
            if flags & 0x10:
                before = 8 * (flags & 1) + 4 * (flags >> 1 & 1) + 4 * (flags >> 3 & 1)
                _check_size(_count(body, 8 + before))
        elif kind == b"stsz":
            self._samples += _count(body, 8)
            _check_size(_count(body, 4))
            if _count(body, 4) == 0 and _count(body, 8) * 4 > len(body) - 12:
                raise CorruptMedia("sizes of samples that are not there")
        elif kind == b"trun":
            self._samples += _run_length(body)


def _named(head: bytes, kind: bytes) -> bytes:
    return head if kind in _NEEDED else head[:4] + b"free" + head[8:]


def _count(body: memoryview, at: int) -> int:
    if len(body) < at + 4:
        raise CorruptMedia("a table that is cut")
    return int.from_bytes(body[at : at + 4], "big")


def _run_length(body: memoryview) -> int:
    """Return how many samples a `trun` announces (section 8.8.8)."""
    count = _count(body, 4)
    flags = int.from_bytes(body[1:4], "big")
    head = 8 + 4 * (flags & 0x01 != 0) + 4 * (flags & 0x04 != 0)
    columns = (flags >> 8 & 15).bit_count()
    if count * columns * 4 > len(body) - head:
        raise CorruptMedia("a run that is longer than its box")
    if flags & 0x200:
        table = struct.unpack_from(f">{count * columns}I", body, head)
        _check_size(max(table[flags >> 8 & 1 :: columns], default=0))
    return count


def _check_size(size: int) -> None:
    if size > BARREN_BYTES:
        raise CorruptMedia(f"a sample of {size} bytes")


def _children(body: memoryview, at: int) -> Iterator[tuple[int, memoryview, bytes]]:
    """Yield where each box begins, what it holds, and its name.

    Raises:
        CorruptMedia: sizes do not add up.
    """
    while at + 8 <= len(body):
        size, kind = _ATOM.unpack_from(body, at)
        header = 8
        if size == 1:
            header = 16
            size = int.from_bytes(body[at + 8 : at + 16], "big")
        elif size == 0:
            size = len(body) - at
        if size < header or at + size > len(body):
            raise CorruptMedia(f"a box {kind!r} of {size} bytes inside another")
        yield at, body[at + header : at + size], kind
        at += size
