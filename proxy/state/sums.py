"""Figures of one process, or of all processes of one server: what metrics are made of.

`LocalSums` is for one process, its sibling `SharedSums` for several, in anonymous memory: each
writes a row of its own, without a lock, and whoever is asked adds up all rows.  The row of a dead
process keeps what it has counted, so that no sum ever falls, and goes on with the next process;
what the dead one *held* is taken off.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import MutableSequence
from typing import Protocol

from proxy.state.arena import Arena

__all__ = ["LocalSums", "SharedSums", "Sums"]


class Sums(Protocol):
    def own(self) -> MutableSequence[float] | memoryview[float]:
        """Return the cells of this process, to be written by it alone."""

    def totals(self) -> list[float]:
        """Return the cells of all processes, added up."""


class LocalSums:
    """The figures of one process."""

    def __init__(self, cells: int) -> None:
        self._cells = array("d", bytes(8 * cells))

    def own(self) -> MutableSequence[float]:
        return self._cells

    def totals(self) -> list[float]:
        return list(self._cells)


class SharedSums:
    """The figures of the processes that are forked after it was made.

    Args:
        cells: figures of each; the first `held` of them say what it holds now.
        rows: processes at a time, those that are dead and not forgotten yet included.
    """

    def __init__(self, cells: int, rows: int, *, held: int) -> None:
        self._arena = Arena("sums", 8 * rows * (cells + 1))
        self._owners = self._arena.integers(0, rows)
        self._rows = [self._arena.floats(8 * (rows + n * cells), cells) for n in range(rows)]
        self._held = held

    def own(self) -> memoryview[float]:
        """Take a row; a process does so once."""
        with self._arena.locked():
            row = self._owners.tolist().index(0)
            self._owners[row] = os.getpid()
        return self._rows[row]

    def totals(self) -> list[float]:
        return [sum(cells) for cells in zip(*(row.tolist() for row in self._rows), strict=True)]

    def forget(self, process: int) -> None:
        """A process is no more, and holds nothing."""
        with self._arena.locked():
            for row, owner in enumerate(self._owners.tolist()):
                if owner == process:
                    for cell in range(self._held):
                        self._rows[row][cell] = 0.0
                    self._owners[row] = 0

    def close(self) -> None:
        """Let go of the memory; other processes keep it."""
        self._arena.close()
