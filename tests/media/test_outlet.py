"""The outlet: parts from a thread to the event loop, in order, bounded, and errors behind them."""

import asyncio
import random
import threading
from collections.abc import Callable
from functools import partial

import pytest

from proxy.errors import CorruptMedia
from proxy.media.fragment import Fragment, InitSegment, Part
from proxy.media.outlet import Outlet
from proxy.media.ring import BridgeClosed
from proxy.media.turn import TurnGate
from tests.media.helpers import GUARD_S, Worker, passed


def part(size: int = 10, sequence: int = 1) -> Fragment:
    return Fragment(
        data=sequence.to_bytes(4, "big").ljust(size, b"."),
        sequence=sequence,
        duration_s=0.5,
        starts_with_keyframe=True,
    )


async def take(outlet: Outlet, count: int) -> list[Part]:
    return [await asyncio.wait_for(anext(outlet), GUARD_S) for _ in range(count)]


async def rest(outlet: Outlet) -> list[Part]:
    return [one async for one in outlet]


# -- passing on ------------------------------------------------------------------------------------


async def test_put_and_iterate() -> None:
    """Parts come out as they went in, and iteration ends where nothing follows."""
    gate = TurnGate()
    outlet = Outlet(1_000, gate)
    parts: list[Part] = [InitSegment(data=b"init", codecs="avc1"), part(), part(sequence=2)]

    def work() -> None:
        for one in parts:
            outlet.put(one)
        outlet.finish()

    worker = Worker(gate, work)
    assert await asyncio.wait_for(rest(outlet), GUARD_S) == parts
    assert await rest(outlet) == []
    await worker.result()


async def test_iterate_waits() -> None:
    """A reader waits while there is nothing, and is woken by the next part, each time."""
    gate = TurnGate()
    outlet = Outlet(1_000, gate)
    for number in range(3):
        taking = asyncio.ensure_future(anext(outlet))
        await asyncio.sleep(0)
        assert not taking.done()
        await Worker(gate, partial(outlet.put, part(sequence=number))).result()
        assert await asyncio.wait_for(taking, GUARD_S) == part(sequence=number)


@pytest.mark.parametrize("end", ["finish", "close"])
async def test_iterate_is_woken_by_the_end(end: str) -> None:
    """A reader that waits ends with the outlet."""
    gate = TurnGate()
    outlet = Outlet(1_000, gate)
    taking = asyncio.ensure_future(rest(outlet))
    await asyncio.sleep(0)
    await Worker(gate, getattr(outlet, end)).result()
    assert await asyncio.wait_for(taking, GUARD_S) == []


async def test_iterate_that_is_cancelled() -> None:
    """A reader that is cancelled while it waits loses no part."""
    gate = TurnGate()
    outlet = Outlet(1_000, gate)
    taking = asyncio.ensure_future(anext(outlet))
    await asyncio.sleep(0)
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    await Worker(gate, lambda: outlet.put(part())).result()
    assert await take(outlet, 1) == [part()]


# -- room ------------------------------------------------------------------------------------------


async def test_put_waits_while_it_is_full() -> None:
    """A worker waits while there is no room for more, letting others run, and goes on when there
    is."""
    gate = TurnGate()
    outlet = Outlet(100, gate)
    put: list[int] = []

    def work() -> None:
        for number in range(5):
            outlet.put(part(40, number))
            put.append(number)

    worker = Worker(gate, work)
    await worker.waits()
    assert put == [0, 1]
    assert outlet.size == 120
    assert [one.data[3] for one in await take(outlet, 1)] == [0]
    await _until(lambda: outlet.size == 120)
    await passed(gate)
    assert put == [0, 1, 2]
    assert [one.data[3] for one in await take(outlet, 4)] == [1, 2, 3, 4]
    await worker.result()


async def test_put_of_a_part_larger_than_the_outlet() -> None:
    """It holds any part, and that one alone: it could never leave otherwise."""
    gate = TurnGate()
    outlet = Outlet(100, gate)
    worker = Worker(gate, lambda: outlet.put(part(5_000)))
    await worker.waits()
    assert not worker.is_done
    assert [len(one.data) for one in await take(outlet, 1)] == [5_000]
    await worker.result()


async def test_put_waits_until_there_is_room_enough() -> None:
    """Behind a large part, as many small ones have to go as it takes."""
    gate = TurnGate()
    outlet = Outlet(100, gate)
    for _ in range(10):
        await Worker(gate, lambda: outlet.put(part(10))).result()
    worker = Worker(gate, lambda: outlet.put(part(80)))
    await worker.waits()
    await take(outlet, 7)
    await passed(gate)
    assert not worker.is_done
    await take(outlet, 1)
    await worker.result()


async def test_put_waits_until_the_next_part_is_asked_for() -> None:
    """An outlet without capacity makes nothing ahead: not even while its part is being sent."""
    gate = TurnGate()
    outlet = Outlet(0, gate)
    made: list[int] = []

    def work() -> None:
        for number in range(3):
            made.append(number)
            outlet.put(part(40, number))

    worker = Worker(gate, work)
    for number in range(3):
        assert [one.data[3] for one in await take(outlet, 1)] == [number]
        await worker.waits()
        await passed(gate)
        assert made == list(range(number + 1))
    taking = asyncio.ensure_future(anext(outlet))
    await worker.result()
    taking.cancel()


async def test_put_goes_on_when_the_outlet_grows() -> None:
    """A worker that waits for room sees that there is more of it when the next part is taken."""
    gate = TurnGate()
    outlet = Outlet(10, gate)

    def work() -> None:
        for number in range(3):
            outlet.put(part(100, number))

    worker = Worker(gate, work)
    await worker.waits()
    outlet.capacity_bytes = 1_000
    await take(outlet, 1)
    await worker.result()
    assert len(await take(outlet, 2)) == 2


async def test_put_keeps_the_gate_where_there_is_room() -> None:
    """With room, nobody else gets his turn."""
    gate = TurnGate()
    outlet = Outlet(1_000, gate)
    going, go = threading.Event(), threading.Event()

    def work() -> None:
        outlet.put(part())
        going.set()
        assert go.wait(GUARD_S)

    worker = Worker(gate, work)
    await asyncio.to_thread(going.wait, GUARD_S)
    other = Worker(gate, lambda: None)
    assert not other.is_done
    go.set()
    await worker.result()
    await other.result()


# -- the end ---------------------------------------------------------------------------------------


async def test_fail_behind_the_parts() -> None:
    """An error comes behind the last part before it, once; then it is the end."""
    gate = TurnGate()
    outlet = Outlet(1_000, gate)
    error = CorruptMedia("bad")

    def work() -> None:
        outlet.put(part())
        outlet.fail(error)

    await Worker(gate, work).result()
    assert await take(outlet, 1) == [part()]
    with pytest.raises(CorruptMedia) as caught:
        await anext(outlet)
    assert caught.value is error
    assert await rest(outlet) == []


async def test_fail_wakes_the_reader() -> None:
    """A reader that waits is told at once."""
    gate = TurnGate()
    outlet = Outlet(1_000, gate)
    taking = asyncio.ensure_future(anext(outlet))
    await asyncio.sleep(0)
    await Worker(gate, lambda: outlet.fail(CorruptMedia())).result()
    with pytest.raises(CorruptMedia):
        await asyncio.wait_for(taking, GUARD_S)


async def test_close_ends_the_worker() -> None:
    """A worker that waits for room is told, and every later part is refused."""
    gate = TurnGate()
    outlet = Outlet(10, gate)

    def work() -> None:
        outlet.put(part())
        outlet.put(part())

    worker = Worker(gate, work)
    await worker.waits()
    outlet.close()
    with pytest.raises(BridgeClosed):
        await worker.result()
    with pytest.raises(BridgeClosed):
        await Worker(gate, lambda: outlet.put(part())).result()
    outlet.close()


async def test_close_drops_everything() -> None:
    """What was put in is gone."""
    gate = TurnGate()
    outlet = Outlet(1_000, gate)
    await Worker(gate, lambda: outlet.put(part())).result()
    outlet.close()
    assert await rest(outlet) == []


def test_put_behind_the_event_loop() -> None:
    """A worker may outlive the loop: putting, finishing and closing do not fail then."""
    outlets: list[Outlet] = []

    async def wait() -> None:
        for _ in range(3):
            outlet = Outlet(1_000, TurnGate())
            outlets.append(outlet)
            taking = asyncio.ensure_future(anext(outlet))
            await asyncio.sleep(0)
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)

    asyncio.run(wait())
    outlets[0].put(part())
    outlets[1].finish()
    outlets[2].close()


async def test_repr() -> None:
    """The state and the fill level are seen at a glance."""
    outlet = Outlet(100, TurnGate())
    outlet.put(part())
    assert repr(outlet) == "<Outlet open 10/100>"
    outlet.finish()
    assert repr(outlet) == "<Outlet finished 10/100>"
    outlet.close()
    assert repr(outlet) == "<Outlet closed 0/100>"


# -- all of it at once -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
async def test_hammer(seed: int) -> None:
    """Three streams with parts of random sizes share a gate: all parts come through, in order."""
    gate = TurnGate()

    async def stream(number: int) -> None:
        dice = random.Random(100 * seed + number)
        outlet = Outlet(dice.choice([1, 500, 5_000]), gate)
        parts = [part(dice.choice([4, 300, 2_000]), n) for n in range(200)]

        def work() -> None:
            for one in parts:
                outlet.put(one)
            outlet.finish()

        worker = Worker(gate, work)
        found = []
        reads = random.Random(seed)
        async for one in outlet:
            found.append(one)
            if reads.random() < 0.1:
                await asyncio.sleep(0)
        assert found == parts
        await worker.result()

    await asyncio.wait_for(asyncio.gather(*map(stream, range(3))), GUARD_S)


async def test_hammer_closing() -> None:
    """Closed at any moment, the worker ends at its next part."""
    gate = TurnGate()
    dice = random.Random(7)
    for _ in range(40):
        outlet = Outlet(dice.choice([1, 100, 10_000]), gate)

        def work(outlet: Outlet = outlet) -> None:
            while True:
                outlet.put(part(50))
                with gate.released():
                    pass

        worker = Worker(gate, work)
        await take(outlet, dice.randrange(5))
        outlet.close()
        with pytest.raises(BridgeClosed):
            await worker.result()
    await passed(gate)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(GUARD_S):
        while not condition():  # noqa: ASYNC110 - a state of a thread
            await asyncio.sleep(0)
