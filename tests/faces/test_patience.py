"""How long a client may take nothing: what ends a response, and what does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from proxy.faces.patience import Patience

BOUND_S = 30.0


class Clock:
    """The clock of the running loop, which only moves when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now_s = 1000.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self._now_s)

    async def passes(self, seconds: float) -> None:
        """Let so many seconds pass, and all happen that is due then."""
        self._now_s += seconds
        for _ in range(5):  # a timer, the timeout that it brings forward, the cancellation
            await asyncio.sleep(0)


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def test_wait_shorter_than_the_bound(clock: Clock) -> None:
    """Waits that end in time pass, however many there are, and however long all of them take."""
    async with Patience(BOUND_S) as patience:
        for _ in range(10):
            patience.wait()
            await clock.passes(BOUND_S - 1)
            patience.rest()


@pytest.mark.parametrize("before_s", [0.0, BOUND_S / 3, BOUND_S - 1, BOUND_S, 5 * BOUND_S + 1])
async def test_wait_longer_than_the_bound(clock: Clock, before_s: float) -> None:
    """A wait that takes as long as the bound is broken off, and a TimeoutError comes out of the
    context, whenever it has begun."""
    reached: list[str] = []

    async def respond() -> None:
        async with Patience(BOUND_S) as patience:
            await clock.passes(before_s)
            patience.wait()
            await clock.passes(BOUND_S - 1)
            reached.append("before")
            await clock.passes(1)
            reached.append("behind")

    with pytest.raises(TimeoutError):
        await respond()
    assert reached == ["before"]


async def test_wait_broken_off_is_no_cancellation(clock: Clock) -> None:
    """Who catches the TimeoutError goes on with a task that nobody has cancelled."""

    async def respond() -> None:
        async with Patience(BOUND_S) as patience:
            patience.wait()
            await clock.passes(BOUND_S)

    with pytest.raises(TimeoutError):
        await respond()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_wait_by_the_real_clock() -> None:
    """Nobody has to wake it: a wait for what never comes ends by itself."""

    async def respond() -> None:
        async with Patience(0.05) as patience:
            patience.wait()
            await asyncio.get_running_loop().create_future()

    with pytest.raises(TimeoutError):
        await respond()


async def test_rest_longer_than_the_bound(clock: Clock) -> None:
    """Time in which nothing is offered to the client does not count."""
    async with Patience(BOUND_S) as patience:
        await clock.passes(3 * BOUND_S)
        patience.wait()
        patience.rest()
        await clock.passes(3 * BOUND_S)
        patience.wait()
        await clock.passes(BOUND_S - 1)


async def test_rest_between_two_waits(clock: Clock) -> None:
    """A rest ends a wait: the next one has the whole bound again, and no more."""
    reached: list[str] = []

    async def respond() -> None:
        async with Patience(BOUND_S) as patience:
            patience.wait()
            await clock.passes(BOUND_S - 1)
            patience.rest()
            patience.wait()
            await clock.passes(BOUND_S - 1)
            reached.append("before")
            await clock.passes(1)
            reached.append("behind")

    with pytest.raises(TimeoutError):
        await respond()
    assert reached == ["before"]


@pytest.mark.parametrize("passes_s", [0.0, BOUND_S / 2, 3 * BOUND_S])
async def test_leaving_cancels_its_timers(
    clock: Clock, passes_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is left on the loop when the response is over."""
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []
    call_at: Callable[..., asyncio.TimerHandle] = loop.call_at

    def noted(*args: Any, **wishes: Any) -> asyncio.TimerHandle:
        timers.append(call_at(*args, **wishes))
        return timers[-1]

    monkeypatch.setattr(loop, "call_at", noted)
    async with Patience(BOUND_S) as patience:
        await clock.passes(passes_s)
        patience.wait()
    assert timers
    assert all(timer.cancelled() or timer.when() <= loop.time() for timer in timers)


async def test_leaving_in_a_wait(clock: Clock) -> None:
    """A response that ends while the client is waited for is over: nothing ends it later."""
    async with Patience(BOUND_S) as patience:
        patience.wait()
    await clock.passes(2 * BOUND_S)


async def test_error_comes_out(clock: Clock) -> None:
    """What is raised inside comes out as it is."""

    async def respond() -> None:
        async with Patience(BOUND_S) as patience:
            patience.wait()
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await respond()


async def test_cancelled_from_outside(clock: Clock) -> None:
    """A cancellation by somebody else stays one."""
    waits = asyncio.Event()

    async def respond() -> None:
        async with Patience(BOUND_S) as patience:
            patience.wait()
            waits.set()
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(respond())
    await waits.wait()
    await clock.passes(BOUND_S - 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
