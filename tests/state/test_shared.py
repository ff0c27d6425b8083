"""The census over processes: real ones, forked as the workers are."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.synchronize import Event, Lock

import pytest

from proxy.state.census import Census, LocalCensus
from proxy.state.shared import SharedCensus

CAPACITY = 5
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def shared() -> Iterator[SharedCensus]:
    census = SharedCensus(CAPACITY)
    yield census
    census.close()


@pytest.fixture(params=["local", "shared"])
def census(request: pytest.FixtureRequest) -> Census:
    if request.param == "local":
        return LocalCensus()
    one: SharedCensus = request.getfixturevalue("shared")
    return one


def enter(census: Census, client: str) -> object:
    with census.locked():
        return census.enter(client)


def test_census_counts_the_whole_and_each_client(census: Census) -> None:
    """Entries count until they are left."""
    entries = [census.enter(client) for client in ("a", "b", "a")]
    assert (census.total, census.of("a"), census.of("b"), census.of("c")) == (3, 2, 1, 0)
    census.leave(entries[0])
    assert (census.total, census.of("a"), census.of("b")) == (2, 1, 1)


def test_census_is_as_large_as_told(shared: SharedCensus) -> None:
    """Places are used again."""
    for _ in range(3):
        entries = [shared.enter("a") for _ in range(CAPACITY)]
        assert shared.total == CAPACITY
        for entry in entries:
            shared.leave(entry)
    assert shared.total == 0


def _try_often(census: SharedCensus, begin: Event, inside: Lock, excess: Event) -> None:
    begin.wait()
    for _ in range(500):
        with census.locked():
            free = census.total == 0
            os.sched_yield()
            entry = census.enter("a") if free else None
        if entry is not None:
            if inside.acquire(block=False):
                os.sched_yield()
                inside.release()
            else:
                excess.set()
            census.leave(entry)


def test_census_is_never_over_its_limit(shared: SharedCensus) -> None:
    """Looking and entering is one step, however many processes do it at a time."""
    begin, inside, excess = FORK.Event(), FORK.Lock(), FORK.Event()
    several = [
        FORK.Process(target=_try_often, args=(shared, begin, inside, excess)) for _ in range(4)
    ]
    for process in several:
        process.start()
    begin.set()
    for process in several:
        process.join()
    assert [process.exitcode for process in several] == [0] * len(several)
    assert not excess.is_set()
    assert shared.total == 0


def _die_inside(census: SharedCensus) -> None:
    census.enter("b")
    with census.locked():
        census.enter("b")
        os.kill(os.getpid(), signal.SIGKILL)


def test_forget_frees_what_a_dead_process_had(shared: SharedCensus) -> None:
    """The dead keep neither the lock nor their places, and the living lose nothing."""
    mine = enter(shared, "b")
    process = FORK.Process(target=_die_inside, args=(shared,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert shared.of("b") == 3
    assert process.pid is not None
    assert shared.forget(process.pid) == 2
    assert (shared.total, shared.of("b")) == (1, 1)
    assert isinstance(mine, int)
    shared.leave(mine)
    assert shared.total == 0
