"""Saving a stream: the file it goes to, and how far it has come.

The file appears under its name only when it is whole; until then, and for good if the stream
breaks, it is `<name>.part`.  How far the media has come is read from the fragments themselves, as a
player would.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

__all__ = ["Position", "Target"]


class Target:
    """Where the bytes go: a path, or `-` for standard output.  A context manager.

    Leaving it without an exception gives the file its name; otherwise the `.part` stays.  What is
    there and no file (/dev/null, a pipe) is written to as it is.

    Raises:
        ValueError: no file can be made there; found out before anything is fetched for it.
    """

    def __init__(self, output: str) -> None:
        self._path = None if output == "-" else Path(output)
        self.part: Path | None = None
        self._file: BinaryIO
        if self._path is None:
            return
        if self._path.is_dir() or output.endswith("/"):
            raise ValueError(f"{output} is a directory")
        if self._path.exists() and not self._path.is_file():
            return
        folder = self._path.parent
        if not folder.is_dir():
            raise ValueError(f"there is no directory {folder}")
        self.part = self._path.with_name(self._path.name + ".part")
        if self.part.is_dir():
            raise ValueError(f"{self.part} is a directory")
        place = self.part if self.part.exists() else folder
        if not os.access(place, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise ValueError(f"{self.part} cannot be written")

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def __enter__(self) -> Self:
        place = self.part or self._path
        self._file = sys.stdout.buffer if place is None else place.open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: object, traceback: TracebackType | None
    ) -> None:
        if self._path is None:
            if kind is None:
                self._file.flush()
            return
        self._file.close()
        if kind is None and self.part is not None:
            self.part.replace(self._path)


class Position:
    """How many seconds of media have come: `mdhd` and `tfdt` (ISO/IEC 14496-12, 8.4.2 and 8.8.12).

    `feed` takes the parts of a stream: the init segment first, whole fragments after it.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._timescales: dict[int, int] = {}  # by track ID

    def feed(self, part: bytes) -> None:
        view = memoryview(part)
        for kind, body in _boxes(view):
            if kind == b"moov":
                self._read_tracks(body)
            elif kind == b"moof":
                self._read_times(body)

    def _read_tracks(self, moov: memoryview) -> None:
        for trak in _inside(moov, b"trak"):
            (tkhd,), (mdia,) = _inside(trak, b"tkhd"), _inside(trak, b"mdia")
            (mdhd,) = _inside(mdia, b"mdhd")
            track_id = _number(tkhd, 20 if tkhd[0] else 12, 4)
            self._timescales[track_id] = _number(mdhd, 20 if mdhd[0] else 12, 4)

    def _read_times(self, moof: memoryview) -> None:
        for traf in _inside(moof, b"traf"):
            (tfhd,), (tfdt,) = _inside(traf, b"tfhd"), _inside(traf, b"tfdt")
            ticks = _number(tfdt, 4, 8 if tfdt[0] else 4)
            timescale = self._timescales.get(_number(tfhd, 4, 4))
            if timescale:
                self.seconds = max(self.seconds, ticks / timescale)


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    at = 0
    while at + 8 <= len(data):
        size, head = _number(data, at, 4), 8
        if size == 1:
            size, head = _number(data, at + 8, 8), 16
        if size < head:  # 0: to the end of the file
            return
        yield bytes(data[at + 4 : at + 8]), data[at + head : at + size]
        at += size


def _inside(data: memoryview, kind: bytes) -> list[memoryview]:
    return [body for name, body in _boxes(data) if name == kind]


def _number(data: memoryview, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")
