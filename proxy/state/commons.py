"""All that the processes of one server share; made before they are forked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from proxy.state.board import SharedBoard
from proxy.state.shared import SharedCensus
from proxy.state.sums import SharedSums

__all__ = ["Boards", "Commons"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Boards:
    """Where they show each other their streams."""

    streams: SharedBoard
    refused: SharedBoard  # that never had a place: many of them must not push out the others


@dataclass(frozen=True, slots=True, kw_only=True)
class Commons:
    census: SharedCensus
    boards: Boards
    sums: SharedSums  # the figures of each

    @classmethod
    def make(cls, streams: int, *, history: int, refused: int, sums: SharedSums) -> Self:
        """Make room for so many streams that run, that have ended, and that were refused."""
        return cls(
            census=SharedCensus(streams),
            boards=Boards(streams=SharedBoard(streams + history), refused=SharedBoard(refused)),
            sums=sums,
        )

    def forget(self, process: int) -> int:
        """A process is no more: free what it held; returns how many streams it had."""
        self.boards.streams.forget(process)
        self.boards.refused.forget(process)
        self.sums.forget(process)
        return self.census.forget(process)

    def close(self) -> None:
        """Let go of the memory; other processes keep it."""
        self.census.close()
        self.boards.streams.close()
        self.boards.refused.close()
        self.sums.close()
