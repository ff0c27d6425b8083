"""Where the processes of one server show each other their streams, in memory that they share.

Make one before the processes are forked, and let each use it.  A row is one stream: its id, who
owns it (the process), when it ended, whether somebody wants it stopped, and a document that tells
of it.

1. A row is taken under a lock, and written by its owner alone, without one: a reader knows by a
   checksum that a document is whole.  So a process that stands still keeps nobody waiting.
2. Rows of streams that have ended stay as they are until one is needed, the oldest first.
3. Whoever sees a process die calls `forget` for it: what it left as running has then ended.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from proxy.state.arena import Arena

__all__ = ["DOCUMENT_BYTES", "Note", "SharedBoard"]

_ROW_BYTES = 4096  # a page, so that rows that were never used take no memory
_HEAD = struct.Struct("<II")  # length and CRC-32 of the document
DOCUMENT_BYTES = _ROW_BYTES - _HEAD.size  # more is not shown
_KEY_BYTES = 16
_READS = 5  # of a document that is being written just now; a write takes microseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What the board says of one stream."""

    document: bytes
    ended_s: float  # seconds since 1970; 0: it is running
    lost: bool  # its process died while it was running


class SharedBoard:
    """The board of the processes that are forked after it was made.

    Args:
        capacity: rows, for streams that run and that have ended.
    """

    def __init__(self, capacity: int) -> None:
        numbers = _KEY_BYTES * capacity
        documents = numbers + 3 * 8 * capacity
        self._documents = -(-documents // _ROW_BYTES) * _ROW_BYTES
        self._arena = arena = Arena("board", self._documents + _ROW_BYTES * capacity)
        self._capacity = capacity
        self._owners = arena.integers(numbers, capacity)  # 0: nobody any more
        self._ends = arena.floats(numbers + 8 * capacity, capacity)
        self._marks = arena.integers(numbers + 16 * capacity, capacity)

    def enter(self, stream: str) -> int | None:
        """Take a row for a stream of this process; `None`: all rows are of streams that run."""
        with self._arena.locked():
            row = self._to_take()
            if row is not None:
                self._put(row, b"")
                self._owners[row] = os.getpid()
                self._ends[row] = self._marks[row] = 0
                self._arena.memory[_KEY_BYTES * row : _KEY_BYTES * (row + 1)] = bytes.fromhex(
                    stream
                )
            return row

    def show(self, row: int, document: bytes, *, ended: bool = False) -> None:
        """Write what is to be known of a stream of this process."""
        self._put(row, document)
        if ended:
            self._ends[row] = time.time()

    def find(self, stream: str) -> Note | None:
        row = self._row(stream)
        return None if row is None else self._note(row)

    def all(self) -> Iterator[tuple[str, Note]]:
        """Yield the ids of all streams, and what is known of them."""
        for row in range(self._capacity):
            note = self._note(row)
            if note is not None:
                yield self._key(row).hex(), note

    def mark(self, stream: str) -> None:
        """Ask the owner of a stream to stop it."""
        row = self._row(stream)
        if row is not None:
            self._marks[row] = 1

    def marked(self) -> list[str]:
        """Return the running streams of this process that are to be stopped."""
        marks, process = self._marks.tolist(), os.getpid()
        if not any(marks):
            return []
        return [
            self._key(row).hex()
            for row, mark in enumerate(marks)
            if mark and self._owners[row] == process and not self._ends[row]
        ]

    def forget(self, process: int) -> None:
        """The streams of a process that is no more have ended with it."""
        with self._arena.locked():
            for row, owner in enumerate(self._owners.tolist()):
                if owner == process and not self._ends[row]:
                    self._owners[row] = 0
                    self._ends[row] = time.time()

    def close(self) -> None:
        """Let go of the memory; other processes keep it."""
        self._arena.close()

    def _to_take(self) -> int | None:
        """A row that was never used, or else the one that ended first."""
        ends, owners = self._ends.tolist(), self._owners.tolist()
        free = [row for row, end in enumerate(ends) if end or not owners[row]]
        return min(free, key=lambda row: ends[row], default=None)

    def _row(self, stream: str) -> int | None:
        key = bytes.fromhex(stream)
        place, end = -1, _KEY_BYTES * self._capacity
        while (place := self._arena.memory.find(key, place + 1, end)) >= 0:
            if place % _KEY_BYTES == 0:
                return place // _KEY_BYTES
        return None

    def _key(self, row: int) -> bytes:
        return self._arena.memory[_KEY_BYTES * row : _KEY_BYTES * (row + 1)]

    def _put(self, row: int, document: bytes) -> None:
        start = self._documents + _ROW_BYTES * row
        data = _HEAD.pack(len(document), zlib.crc32(document)) + document
        self._arena.memory[start : start + len(data)] = data

    def _note(self, row: int) -> Note | None:
        start = self._documents + _ROW_BYTES * row
        for _ in range(_READS):
            ended_s, owner = self._ends[row], self._owners[row]
            length, checksum = _HEAD.unpack_from(self._arena.memory, start)
            if not length or length > DOCUMENT_BYTES:
                continue
            body = start + _HEAD.size
            document = self._arena.memory[body : body + length]
            if zlib.crc32(document) == checksum:
                return Note(document=document, ended_s=ended_s, lost=bool(ended_s) and not owner)
        return None
