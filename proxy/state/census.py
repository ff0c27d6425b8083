"""Who is running streams: the count behind `limits.streams` and `limits.streams_per_client`.

`Census` is what `admission` needs; `LocalCensus` counts in this process, its sibling
`shared.SharedCensus` over all workers of one server.  Looking and entering belong together:

    with census.locked():
        if census.total < limit and census.of(client) < its_limit:
            entry = census.enter(client)
    ...
    census.leave(entry)

An entry is left once, by the process that entered it.  Runs on the event loop, and never waits for
longer than a few microseconds.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from contextlib import AbstractContextManager
from typing import Protocol

__all__ = ["Census", "Entry", "LocalCensus"]

Entry = int | str  # what `enter` gives for `leave`


class Census(Protocol):
    @property
    def total(self) -> int:
        """How many entries there are."""

    def of(self, client: str) -> int:
        """Return how many of them are of one client."""

    def locked(self) -> AbstractContextManager[None]:
        """Let nobody else enter or leave meanwhile."""

    def enter(self, client: str) -> Entry:
        """Add an entry; call it `locked`."""

    def leave(self, entry: Entry) -> None:
        """Take an entry away; call it not `locked`."""


class LocalCensus:
    """The census of one process."""

    def __init__(self) -> None:
        self._by_client: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return self._by_client.total()

    def of(self, client: str) -> int:
        return self._by_client[client]

    def locked(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def enter(self, client: str) -> Entry:
        self._by_client[client] += 1
        return client

    def leave(self, entry: Entry) -> None:
        assert isinstance(entry, str)
        self._by_client[entry] -= 1
        if not self._by_client[entry]:
            del self._by_client[entry]  # or it grows by one entry for every address seen
