"""What is kept of streams that have ended, and what a board has room for."""

from __future__ import annotations

import secrets

import pytest

from proxy import register
from proxy.admission import LOCAL, Admission, Settings
from proxy.delivery import Record
from proxy.errors import InvalidRequest
from proxy.events import SegmentSkipped, Trail
from proxy.register import Register
from proxy.state.board import SharedBoard
from proxy.state.commons import Boards


def end(one: Register, *, refused: bool = False, url: str = "") -> str:
    """Let a stream begin and end; return its id."""
    record = Record(Trail(), on_close=one.end)
    record.url = url
    one.begin(record)
    if not refused:
        record.slot = Admission(Settings()).enter(LOCAL, "")
        one.admitted(record)
        for sequence in range(100):
            record.trail.note(SegmentSkipped(sequence=sequence, count=1, duration_s=1.0))
    record.fail(InvalidRequest())
    record.close()
    return record.id


async def test_ended_streams_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first, and refused ones never push out those that have run."""
    monkeypatch.setattr(register, "HISTORY", 2)
    monkeypatch.setattr(register, "REFUSED", 3)
    one = Register()
    ran = [end(one) for _ in range(3)]
    refused = [end(one, refused=True) for _ in range(5)]
    assert {state["id"] for state in one.all()} == {*ran[1:], *refused[2:]}
    assert one.find(ran[0]) is None
    assert one.find(secrets.token_hex(16)) is None


async def test_ended_streams_are_seen_by_others() -> None:
    """On the board they are as in the process that ran them, also where their url is long."""
    boards = Boards(streams=SharedBoard(2), refused=SharedBoard(2))
    here, there = Register(boards=boards), Register(boards=boards)
    for refused in (False, True):
        stream = end(here, refused=refused, url="http://o.invalid/" + "a" * 180)
        state = there.find(stream)
        assert state is not None
        assert state == here.find(stream)
        assert not refused or state["root_cause"]["evidence"]
    assert len(there.all()) == 2
    boards.streams.close()
    boards.refused.close()


async def test_board_shows_what_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a document that is too long the first evidence is left out, and the rest stands."""
    boards = Boards(streams=SharedBoard(2), refused=SharedBoard(2))
    here, there = Register(boards=boards), Register(boards=boards)
    monkeypatch.setattr(register, "DOCUMENT_BYTES", 1000)
    stream = end(here)
    whole, shown = here.find(stream), there.find(stream)
    assert whole is not None
    assert shown is not None
    evidence = shown["root_cause"].pop("evidence")
    assert 0 < len(evidence) < len(whole["root_cause"]["evidence"])
    assert evidence == whole["root_cause"].pop("evidence")[-len(evidence) :]
    assert shown == whole
    boards.streams.close()
    boards.refused.close()
