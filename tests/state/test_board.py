"""The board over processes: real ones, forked as the workers are."""

import multiprocessing
import secrets
from collections.abc import Iterator

import pytest

from proxy.state.board import DOCUMENT_BYTES, SharedBoard

FORK = multiprocessing.get_context("fork")
CAPACITY = 4


@pytest.fixture
def board() -> Iterator[SharedBoard]:
    one = SharedBoard(CAPACITY)
    yield one
    one.close()


def new(board: SharedBoard, document: bytes = b"{}", *, ended: bool = False) -> str:
    stream = secrets.token_hex(16)
    row = board.enter(stream)
    assert row is not None
    board.show(row, document, ended=ended)
    return stream


def in_child(work: object, *arguments: object) -> int:
    """Run `work` in a forked process, and return its id when it has ended."""
    process = FORK.Process(target=work, args=arguments)  # type: ignore[arg-type]
    process.start()
    process.join()
    assert process.exitcode == 0
    assert process.pid is not None
    return process.pid


def show_running(board: SharedBoard, stream: str, document: bytes) -> None:
    row = board.enter(stream)
    assert row is not None
    board.show(row, document)


def test_find_shows_what_another_process_wrote(board: SharedBoard) -> None:
    """A document of whatever size is there for every process."""
    for size in (1, 1000, DOCUMENT_BYTES):
        stream = secrets.token_hex(16)
        in_child(show_running, board, stream, b"x" * size)
        note = board.find(stream)
        assert note is not None
        assert (note.document, note.ended_s, note.lost) == (b"x" * size, 0, False)
    assert board.find(secrets.token_hex(16)) is None


def test_show_replaces_the_document(board: SharedBoard) -> None:
    """The last one counts, also where it is shorter."""
    stream = secrets.token_hex(16)
    row = board.enter(stream)
    assert row is not None
    board.show(row, b"a long one")
    board.show(row, b"short", ended=True)
    note = board.find(stream)
    assert note is not None
    assert (note.document, note.lost) == (b"short", False)
    assert note.ended_s > 0


def test_find_shows_nothing_half_written(board: SharedBoard) -> None:
    """A document whose checksum does not hold is none."""
    stream = new(board, b"whole")
    place = board._arena.memory.find(b"whole")
    board._arena.memory[place : place + 1] = b"W"
    assert board.find(stream) is None


def test_enter_takes_the_row_that_ended_first(board: SharedBoard) -> None:
    """Running streams keep theirs; where all run, there is none."""
    running = [new(board) for _ in range(CAPACITY - 2)]
    ended = [new(board, ended=True) for _ in range(2)]
    late = new(board)
    assert board.find(ended[0]) is None
    assert {stream for stream, _ in board.all()} == {*running, ended[1], late}
    new(board)
    assert board.enter(secrets.token_hex(16)) is None


def test_marked_are_for_their_owner(board: SharedBoard) -> None:
    """Who wants a stream stopped is heard by the process that runs it, and by no other."""
    mine, over, others = new(board), new(board, ended=True), secrets.token_hex(16)
    in_child(show_running, board, others, b"{}")
    for stream in (mine, over, others, secrets.token_hex(16)):
        board.mark(stream)
    assert board.marked() == [mine]


def test_forget_ends_what_the_dead_left(board: SharedBoard) -> None:
    """The streams of a dead process have ended with it, and make room; others go on."""
    lost, mine = secrets.token_hex(16), new(board)
    board.forget(in_child(show_running, board, lost, b"{}"))
    note, other = board.find(lost), board.find(mine)
    assert note is not None
    assert note.lost
    assert note.ended_s
    assert other is not None
    assert (other.lost, other.ended_s) == (False, 0)
    for _ in range(CAPACITY - 1):
        new(board)
    assert board.find(lost) is None
