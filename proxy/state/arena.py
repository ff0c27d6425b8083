"""Memory that several processes share; no file on any disk.

Make one before the processes are forked, and let each use it.  What is more than one store is done
`locked`: a record lock (`fcntl`), which the kernel takes away from a process that dies, so that
nobody waits for the dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from collections.abc import Iterator
from typing import Any

__all__ = ["Arena"]


class Arena:
    """So many bytes, all 0 at first; pages that nobody writes to take no memory.

    Args:
        name: shown where the system lists open files.
        size_bytes: all of it.
    """

    def __init__(self, name: str, size_bytes: int) -> None:
        self._file = os.memfd_create(f"remuxd-{name}")
        os.ftruncate(self._file, size_bytes)
        self.memory = mmap.mmap(self._file, size_bytes)
        self._views: list[memoryview[Any]] = []

    def integers(self, offset_bytes: int, count: int) -> memoryview[int]:
        """Return so many of 64 bits, unsigned."""
        with memoryview(self.memory) as memory, memory.cast("Q") as numbers:
            view = numbers[offset_bytes // 8 : offset_bytes // 8 + count]
        self._views.append(view)
        return view

    def floats(self, offset_bytes: int, count: int) -> memoryview[float]:
        """Return so many of 64 bits."""
        with memoryview(self.memory) as memory, memory.cast("d") as numbers:
            view = numbers[offset_bytes // 8 : offset_bytes // 8 + count]
        self._views.append(view)
        return view

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let no other process in meanwhile; threads of one process would all come in."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the memory; other processes keep it."""
        for view in self._views:
            view.release()
        self.memory.close()
        os.close(self._file)
