"""The boxes of ISO/IEC 14496-12 as a tree: kinds, sizes, bytes; no meaning yet.

`parse` reads boxes that lie one behind the other, and what the known containers hold.  Strict: a
size that does not add up raises `BoxError`, which names the byte.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

_CONTAINERS = frozenset(  # the others are opaque here
    ["moov", "trak", "edts", "mdia", "minf", "dinf", "stbl", "mvex", "moof", "traf", "mfra"]
)


class BoxError(ValueError):
    """The bytes are not the MP4 they should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One box, 4.2; `body` is what follows its header."""

    kind: str  # the four letters
    offset: int  # in the file
    size: int  # header included
    body: bytes = field(repr=False)
    children: tuple["Box", ...] = ()

    def all(self, kind: str) -> tuple["Box", ...]:
        return tuple(child for child in self.children if child.kind == kind)

    def one(self, *path: str) -> "Box":
        """The box at a path of kinds. Raises BoxError unless there is exactly one."""
        box = self
        for kind in path:
            found = box.all(kind)
            if len(found) != 1:
                raise BoxError(f"{len(found)} boxes {kind} in {box.kind} at byte {box.offset}")
            box = found[0]
        return box


class Reader:
    """Reads big-endian fields; going beyond the end is an error that names the box."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self._at = 0

    def take(self, count: int) -> bytes:
        out = self._box.body[self._at : self._at + count]
        if count < 0 or len(out) < count:
            raise BoxError(f"{self._box.kind} at byte {self._box.offset} is too short")
        self._at += count
        return out

    def uint(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def signed(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big", signed=True)

    def version_and_flags(self) -> tuple[int, int]:
        return self.uint(1), self.uint(3)

    def end(self) -> None:
        if self._at != len(self._box.body):
            rest = len(self._box.body) - self._at
            raise BoxError(f"{rest} bytes too many in {self._box.kind} at {self._box.offset}")

    def rest(self) -> bytes:
        return self.take(len(self._box.body) - self._at)


def parse(data: bytes, *, offset: int = 0, end: int | None = None) -> tuple[Box, ...]:
    """Parse boxes that lie one behind the other, and what the known containers hold.

    Raises:
        BoxError: a size is impossible, or the last box is cut.
    """
    return tuple(_parse(data, offset, len(data) if end is None else end))


def _parse(data: bytes, offset: int, end: int) -> Iterator[Box]:
    while offset < end:
        if end - offset < 8:
            raise BoxError(f"{end - offset} stray bytes at {offset}")
        size, header = int.from_bytes(data[offset : offset + 4], "big"), 8
        kind = data[offset + 4 : offset + 8].decode("latin-1")
        if size == 1:
            size, header = int.from_bytes(data[offset + 8 : offset + 16], "big"), 16
        if size < header or offset + size > end:
            raise BoxError(f"{kind!r} at byte {offset} says {size} bytes, {end - offset} are left")
        inner = offset + header
        children = parse(data, offset=inner, end=offset + size) if kind in _CONTAINERS else ()
        body = data[inner : offset + size]
        yield Box(kind=kind, offset=offset, size=size, body=body, children=children)
        offset += size
