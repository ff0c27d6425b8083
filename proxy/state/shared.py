"""The census of several processes, in memory that they share; no file on any disk.

Make one before the processes are forked, and let each use it.  It is a table with as many rows as
streams may run: who owns the row (the process), and whose stream it is (a keyed hash of the
client; the addresses themselves are in no shared memory).

1. A row is taken and given back under a lock that the kernel takes away from the dead (`arena`).
2. A row counts while its client is set; that is written last and cleared first.  A process that
   dies between two writes leaves a row that is free, or one that `forget` finds by its owner.
3. Whoever sees a process die calls `forget` for it.

What the streams themselves have to show stands on the `board`, and figures in the `sums`.
"""

from __future__ import annotations

import os
import secrets
from contextlib import AbstractContextManager
from hashlib import blake2b

from proxy.state.arena import Arena
from proxy.state.census import Entry

__all__ = ["SharedCensus"]

_FREE = 0
_KEY_BYTES = 8  # that any two of a million clients have the same: 3e-8


class SharedCensus:
    """The census of the processes that are forked after it was made.

    Args:
        capacity: streams at a time, of all processes.
    """

    def __init__(self, capacity: int) -> None:
        self._secret = secrets.token_bytes(16)  # so that nobody can choose whom to be counted as
        self._arena = Arena("census", 2 * _KEY_BYTES * capacity)
        self._clients = self._arena.integers(0, capacity)
        self._owners = self._arena.integers(_KEY_BYTES * capacity, capacity)

    @property
    def total(self) -> int:
        return len(self._clients) - self._clients.tolist().count(_FREE)

    def of(self, client: str) -> int:
        return self._clients.tolist().count(self._key(client))

    def locked(self) -> AbstractContextManager[None]:
        return self._arena.locked()

    def enter(self, client: str) -> Entry:
        row = self._clients.tolist().index(_FREE)
        self._owners[row] = os.getpid()
        self._clients[row] = self._key(client)
        return row

    def leave(self, entry: Entry) -> None:
        assert isinstance(entry, int)
        with self.locked():
            self._clients[entry] = _FREE

    def forget(self, process: int) -> int:
        """Free the rows of a process that is no more; returns how many streams it had."""
        lost = 0
        with self.locked():
            for row, owner in enumerate(self._owners.tolist()):
                if owner == process:
                    lost += self._clients[row] != _FREE
                    self._clients[row] = self._owners[row] = _FREE
        return lost

    def close(self) -> None:
        """Let go of the memory; other processes keep it."""
        self._arena.close()

    def _key(self, client: str) -> int:
        digest = blake2b(client.encode(), digest_size=_KEY_BYTES, key=self._secret).digest()
        return int.from_bytes(digest) or 1
