"""The register of streams: those that run, and those that have ended, for a while.

Streams that were refused a place are kept apart, so that whoever knocks at the door all the time
does not push out what has run.  Ended ones are kept as JSON, for `history_s`, and not more than
`HISTORY`: what nobody asks for should not take the memory of what runs.

Where several processes serve together, each shows its streams to the others on a board: what has
changed in kind at once, figures once a second.  Stopping the stream of another process is a mark
there, which its owner looks for.  `run` does both; without a board it is not needed.

Runs on the event loop.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from proxy.delivery import Record
from proxy.diagnosis import diagnose
from proxy.events import Ended, Entry
from proxy.state.board import DOCUMENT_BYTES, Note, SharedBoard
from proxy.state.commons import Boards
from proxy.verdicts import WORKER_DIED

__all__ = ["HISTORY", "REFUSED", "Register", "Settings"]

HISTORY = 512  # ended streams that are kept: at some 1.5 KB each under a MB
REFUSED = 128  # of those that never had a place

BEAT_S = 0.25  # between looks at the board for streams of ours that are to be stopped
BEATS_PER_SHOW = 4
STOP_PATIENCE_S = 2.0  # for another process to stop a stream, before it is taken as asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    # Time for a player to ask why, and for a person to be told of it and look.
    history_s: float = 900.0


class _Shelf:
    """What has ended, as JSON: so many, and for so long."""

    def __init__(self, capacity: int, keep_s: float) -> None:
        self._capacity = capacity
        self._keep_s = keep_s
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    def put(self, stream: str, document: bytes) -> None:
        self._kept[stream] = (time.monotonic(), document)
        self._clear()

    def get(self, stream: str) -> bytes | None:
        self._clear()
        return self._kept.get(stream, (0.0, None))[1]

    def all(self) -> list[bytes]:
        self._clear()
        return [document for _, document in self._kept.values()]

    def _clear(self) -> None:
        oldest_s = time.monotonic() - self._keep_s
        while self._kept:
            stream, (ended_s, _) = next(iter(self._kept.items()))
            if len(self._kept) <= self._capacity and ended_s > oldest_s:
                return
            del self._kept[stream]


class Register:
    """The streams of this server.

    Args:
        settings: how long ended ones are kept.
        boards: shared with the other processes that serve; None: there are none.
    """

    def __init__(self, settings: Settings | None = None, boards: Boards | None = None) -> None:
        self._history_s = (settings or Settings()).history_s
        self._boards = boards
        self._running: dict[str, Record] = {}
        self._rows: dict[str, int] = {}  # on the board, of those that run
        self._ended = _Shelf(HISTORY, self._history_s)
        self._refused = _Shelf(REFUSED, self._history_s)

    def begin(self, record: Record) -> None:
        """It has come in; it is to call `end` when it is over."""
        self._running[record.id] = record

    def admitted(self, record: Record) -> None:
        """It has a place."""
        if self._boards is not None:
            row = self._boards.streams.enter(record.id)
            if row is not None:
                self._rows[record.id] = row
                self._show(record)

    def opened(self, record: Record) -> None:
        """Its first fragment is there."""
        self._show(record)

    def end(self, record: Record) -> None:
        """It is over."""
        del self._running[record.id]
        document = _json(record.state())
        shelf = self._ended if record.slot is not None else self._refused
        shelf.put(record.id, document)
        if self._boards is None:
            return
        if record.slot is None:
            row = self._boards.refused.enter(record.id)
            if row is not None:
                self._boards.refused.show(row, _fitting(document), ended=True)
        elif (row := self._rows.pop(record.id, None)) is not None:
            self._boards.streams.show(row, _fitting(document), ended=True)

    @property
    def running(self) -> Iterable[Record]:
        """The streams of this process that have not ended."""
        return self._running.values()

    # -- looking -----------------------------------------------------------------------------------

    def find(self, stream: str) -> dict[str, Any] | None:
        """Return the state of a stream, whoever runs it; `None`: it is not known (any more)."""
        record = self._running.get(stream)
        if record is not None:
            return record.state()
        document = self._ended.get(stream) or self._refused.get(stream)
        if document is not None:
            return _read(document)
        for board in self._shared():
            note = board.find(stream)
            if note is not None and self._is_recent(note):
                return _told(note)
        return None

    def all(self) -> list[dict[str, Any]]:
        """Return the states of all streams, the newest first."""
        found = {stream: record.state() for stream, record in self._running.items()}
        for shelf in (self._ended, self._refused):
            found |= {state["id"]: state for state in map(_read, shelf.all())}
        for board in self._shared():
            for stream, note in board.all():
                if stream not in found and self._is_recent(note):
                    found[stream] = _told(note)
        return sorted(found.values(), key=lambda state: str(state["started_at"]), reverse=True)

    async def change(self, stream: str, timeout_s: float) -> None:
        """Return when a stream of this process has ended, or after `timeout_s`."""
        record = self._running.get(stream)
        if record is None:
            await asyncio.sleep(timeout_s)
            return
        try:
            async with asyncio.timeout(timeout_s):
                await record.ended.wait()
        except TimeoutError:
            pass

    async def stop(self, stream: str) -> bool:
        """End a stream; returns when it has ended, or `False` where it is not known.

        A process that does not answer is not waited for: it finds the wish when it goes on.
        """
        record = self._running.get(stream)
        if record is not None:
            record.stop()
            await self.change(stream, STOP_PATIENCE_S)
            return True
        if self.find(stream) is None:
            return False
        if self._boards is not None:
            self._boards.streams.mark(stream)
            for _ in range(int(STOP_PATIENCE_S / BEAT_S) * 5):
                state = self.find(stream)
                if state is None or state["phase"] == "ended":
                    break
                await asyncio.sleep(BEAT_S / 5)
        return True

    # -- with other processes ----------------------------------------------------------------------

    async def run(self) -> None:
        """Show the figures of our streams, and stop those that others want stopped; for ever."""
        assert self._boards is not None
        beats = 0
        while True:
            await asyncio.sleep(BEAT_S)
            if not self._running:
                continue
            for stream in self._boards.streams.marked():
                record = self._running.get(stream)
                if record is not None:
                    record.stop()
            beats += 1
            if beats % BEATS_PER_SHOW == 0:
                for record in self._running.values():
                    self._show(record)

    def _show(self, record: Record) -> None:
        row = self._rows.get(record.id)
        if row is not None and self._boards is not None:
            self._boards.streams.show(row, _fitting(_json(record.state())))

    def _shared(self) -> Iterator[SharedBoard]:
        if self._boards is not None:
            yield from (self._boards.streams, self._boards.refused)

    def _is_recent(self, note: Note) -> bool:
        return not note.ended_s or time.time() - note.ended_s < self._history_s


def _told(note: Note) -> dict[str, Any]:
    state = _read(note.document)
    if note.lost:
        ended = Ended(outcome=WORKER_DIED, status=state["status"], elapsed_s=state["elapsed_s"])
        cause = diagnose(WORKER_DIED, [Entry(note.ended_s, ended)])
        state |= {"phase": "ended", "outcome": WORKER_DIED, "root_cause": asdict(cause)}
    return state


def _read(document: bytes) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(document)
    return state


def _json(state: dict[str, Any]) -> bytes:
    return json.dumps(state, ensure_ascii=False, separators=(",", ":")).encode()


def _fitting(document: bytes) -> bytes:
    """Return what a row of the board has room for: what was seen first is left out first."""
    while len(document) > DOCUMENT_BYTES:
        state = _read(document)
        cause = state["root_cause"]
        if not cause or not cause["evidence"]:
            return _json(state | {"url": "", "left_out": {}, "root_cause": None})
        del cause["evidence"][0]
        document = _json(state)
    return document
