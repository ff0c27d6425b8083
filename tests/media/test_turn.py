"""The turn gate: one worker at a time, and others while it waits."""

import threading

import pytest

from proxy.media.turn import TurnGate
from tests.media.helpers import GUARD_S, Worker, passed


async def test_gate_lets_one_in_at_a_time() -> None:
    """Of many workers, never two are inside."""
    gate = TurnGate()
    inside: list[int] = []
    most = 0

    def work() -> None:
        nonlocal most
        for _ in range(200):
            inside.append(1)
            most = max(most, len(inside))
            inside.pop()
            with gate.released():
                pass

    for worker in [Worker(gate, work) for _ in range(5)]:
        await worker.result()
    assert most == 1


async def test_released_lets_another_one_in() -> None:
    """While one worker waits inside `released`, another one works; then they change again."""
    gate = TurnGate()
    waiting, worked = threading.Event(), threading.Event()

    def wait() -> bool:
        with gate.released():
            waiting.set()
            assert worked.wait(GUARD_S)
        return True

    def work() -> None:
        worked.set()

    first = Worker(gate, wait)
    assert waiting.wait(GUARD_S)
    await Worker(gate, work).result()
    assert await first.result()


async def test_released_takes_it_back_after_an_error() -> None:
    """A wait that fails ends with the gate taken again, so that leaving it is right."""
    gate = TurnGate()

    def fail() -> None:
        with gate.released():
            raise TimeoutError

    with pytest.raises(TimeoutError):
        await Worker(gate, fail).result()
    await passed(gate)


async def test_gate_is_left_after_an_error() -> None:
    """A worker that fails does not take the gate with it."""
    gate = TurnGate()

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Worker(gate, fail).result()
    await passed(gate)
