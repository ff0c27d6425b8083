"""The ring: bytes from the event loop to a thread, in order, bounded, and with no wait too many.

Threads are stepped by events and by what they let go of; nothing sleeps for a while and hopes.
"""

import asyncio
import itertools
import random
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import SourceTimeout
from proxy.media.ring import WAKE_BYTES, BridgeClosed, RingBuffer
from proxy.media.section import Section
from proxy.media.turn import TurnGate
from tests.media.helpers import GUARD_S, Worker, passed

KIB = 1024
SECTION = Section()


def drain(ring: RingBuffer, n: int = 4096) -> bytes:
    """Read a section to its end."""
    return b"".join(iter(lambda: ring.read(n), b""))


async def until_it_waits(ring: RingBuffer) -> None:
    """Return when the reader is inside of its wait: what is written then is written to a waiter."""
    async with asyncio.timeout(GUARD_S):
        while not ring._reader_waits:  # noqa: ASYNC110 - a flag of a thread
            await asyncio.sleep(0)


async def start(writing: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Run a writer until it waits or ends."""
    task = asyncio.create_task(writing)
    await asyncio.sleep(0)
    return task


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader would wait for a batch longer than any test lasts."""
    monkeypatch.setattr("proxy.media.ring._PATIENCE_S", 10 * GUARD_S)


# -- reading ---------------------------------------------------------------------------------------


@given(
    st.lists(st.binary(max_size=50), max_size=20),
    st.lists(st.integers(1, 30), min_size=1, max_size=10),
)
def test_read_of_anything(chunks: list[bytes], sizes: list[int]) -> None:
    """Whatever is written is read in order, at most n bytes at a time, and never an empty piece."""

    async def run() -> None:
        ring = RingBuffer(10_000, TurnGate())
        for chunk in chunks:
            await ring.write(chunk)
        ring.finish()
        found = b""
        for n in itertools.cycle(sizes):
            assert ring.size == sum(map(len, chunks)) - len(found)
            piece = ring.read(n)
            assert len(piece) <= n
            if not piece:
                break
            found += piece
        assert found == b"".join(chunks)
        assert ring.read(1) == b""

    asyncio.run(run())


async def test_read_takes_a_chunk_in_pieces() -> None:
    """A chunk larger than n comes in pieces; one that fits comes as it is, not copied."""
    ring = RingBuffer(1_000, TurnGate())
    chunk = bytes(range(10))
    await ring.write(chunk)
    await ring.write(chunk)
    assert ring.read(10) is chunk
    assert [ring.read(4), ring.read(4), ring.read(4)] == [chunk[:4], chunk[4:8], chunk[8:]]
    assert ring.size == 0


async def test_read_waits_and_wakes() -> None:
    """A reader waits while there is nothing, and is woken by the first byte."""
    gate = TurnGate()
    ring = RingBuffer(1_000, gate)
    worker = Worker(gate, lambda: ring.read(100))
    await until_it_waits(ring)
    assert not worker.is_done
    await ring.write(b"")
    assert not worker.is_done
    await ring.write(b"a")
    assert await worker.result() == b"a"


async def test_read_at_the_end() -> None:
    """A reader that waits is told of the end, and every later read is the end, too."""
    gate = TurnGate()
    ring = RingBuffer(1_000, gate)
    worker = Worker(gate, lambda: ring.read(100))
    await until_it_waits(ring)
    ring.finish()
    assert await worker.result() == b""
    assert ring.read(100) == b""
    assert ring.next_section() is None


# -- sections --------------------------------------------------------------------------------------


async def test_read_ends_with_the_section() -> None:
    """Each section ends for itself, and the next one begins when it is asked for."""
    ring = RingBuffer(1_000, TurnGate())
    other = Section(format="mp4", discontinuity=False)
    ring.begin(SECTION)
    await ring.write(b"one")
    ring.begin(other)
    await ring.write(b"two")
    ring.finish()
    assert ring.next_section() is SECTION
    assert drain(ring) == b"one"
    assert ring.read(10) == b""
    assert ring.next_section() is other
    assert drain(ring) == b"two"
    assert ring.next_section() is None


async def test_next_section_drops_the_rest() -> None:
    """What is left of a section is dropped, also from the middle of a chunk, and makes room."""
    ring = RingBuffer(10, TurnGate())
    ring.begin(SECTION)
    assert ring.next_section() is SECTION
    await ring.write(b"abcd")
    assert ring.read(3) == b"abc"
    writing = await start(ring.write(b"0123456789"))
    assert not writing.done()
    ring.begin(SECTION)
    assert ring.next_section() is SECTION
    await asyncio.wait_for(writing, GUARD_S)
    assert ring.size == 0
    await ring.write(b"new")
    assert ring.read(10) == b"new"


async def test_next_section_waits() -> None:
    """The next section is waited for, over all that is dropped."""
    gate = TurnGate()
    ring = RingBuffer(1_000, gate)
    worker = Worker(gate, ring.next_section)
    await until_it_waits(ring)
    await ring.write(b"rest")
    await until_it_waits(ring)
    assert not worker.is_done
    ring.begin(SECTION)
    assert await worker.result() is SECTION


async def test_next_section_after_a_failure() -> None:
    """An error comes where the next section would."""
    ring = RingBuffer(1_000, TurnGate())
    await ring.write(b"rest")
    ring.fail(SourceTimeout("late"))
    with pytest.raises(SourceTimeout):
        ring.next_section()
    assert ring.next_section() is None


# -- waking ----------------------------------------------------------------------------------------


async def _relaxed(capacity: int = 1_000_000) -> tuple[RingBuffer, Worker]:
    """A reader that waits for a batch."""
    gate = TurnGate()
    ring = RingBuffer(capacity, gate)
    ring.relax()
    worker = Worker(gate, lambda: (ring.read(1 << 20), ring.size))
    await until_it_waits(ring)
    return ring, worker


async def test_starved_when_everything_is_read() -> None:
    """Whoever asks waits until the reader has taken all there is, batch or not, and wants more."""
    gate = TurnGate()
    ring = RingBuffer(100 * KIB, gate)
    ring.relax()
    await ring.write(b"x" * 10)
    asking = await start(ring.starved())
    assert not asking.done()
    worker = Worker(gate, lambda: drain(ring))
    await asyncio.wait_for(asking, GUARD_S)
    assert ring.size == 0
    await asyncio.wait_for(ring.starved(), GUARD_S)  # and it still is
    await ring.write(b"y" * 10)  # too little to wake it for
    await asyncio.wait_for(ring.starved(), GUARD_S)
    assert ring.size == 0
    ring.finish()
    assert await worker.result() == b"x" * 10 + b"y" * 10


async def test_starved_when_nobody_reads_any_more() -> None:
    """Closing ends the wait, and there is none afterwards."""
    ring = RingBuffer(100 * KIB, TurnGate())
    await ring.write(b"x")
    asking = await start(ring.starved())
    ring.close()
    with pytest.raises(BridgeClosed):
        await asyncio.wait_for(asking, GUARD_S)
    with pytest.raises(BridgeClosed):
        await ring.starved()


async def test_relax_wakes_for_batches() -> None:
    """After the first fragment, a reader is woken when enough is there, not for each chunk."""
    ring, worker = await _relaxed()
    await ring.write(bytes(WAKE_BYTES - 1))
    assert ring._reader_waits
    await ring.write(b"x")
    assert await worker.result() == (bytes(WAKE_BYTES - 1), 1)


async def test_relax_is_not_patient_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """However little has come, a reader gets it after a while: live streams may be slow."""
    monkeypatch.setattr("proxy.media.ring._PATIENCE_S", 0.01)
    ring, worker = await _relaxed()
    await ring.write(b"little")
    await ring.write(b"more")
    assert await worker.result() == (b"little", 4)


async def test_relax_patience_begins_with_the_first_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for a batch is timed anew for each batch, and an old timer hurries nobody."""
    monkeypatch.setattr("proxy.media.ring._PATIENCE_S", 0.01)
    gate = TurnGate()
    ring = RingBuffer(1_000_000, gate)
    ring.relax()
    loop = asyncio.get_running_loop()
    for number in range(3):
        worker = Worker(gate, lambda: ring.read(100))
        await until_it_waits(ring)
        began = loop.time()
        await ring.write(bytes([number]))
        assert await worker.result() == bytes([number])
        assert loop.time() - began >= 0.009
    # one that is woken by a batch leaves a timer behind, which finds a reader with nothing to read
    worker = Worker(gate, lambda: (ring.read(100), ring.read(1 << 20), ring.read(1 << 20)))
    await until_it_waits(ring)
    await ring.write(b"a")
    await ring.write(bytes(WAKE_BYTES))
    await until_it_waits(ring)
    fired = asyncio.Event()
    loop.call_later(0.02, fired.set)
    await fired.wait()
    assert ring._reader_waits
    ring.finish()
    assert await worker.result() == (b"a", bytes(WAKE_BYTES), b"")


async def test_relax_of_a_small_ring() -> None:
    """A ring smaller than a batch wakes its reader when it is full: both would wait otherwise."""
    ring, worker = await _relaxed(capacity=100)
    await ring.write(bytes(99))
    assert ring._reader_waits
    writing = await start(ring.write(b"x"))
    assert await worker.result() == (bytes(99), 1)
    await asyncio.wait_for(writing, GUARD_S)


@pytest.mark.parametrize("end", ["finish", "fail", "begin"])
async def test_relax_does_not_hold_the_end_back(end: str) -> None:
    """The end of the source, or of the section, wakes for whatever is there."""
    ring, worker = await _relaxed()
    await ring.write(b"last")
    assert ring._reader_waits
    if end == "finish":
        ring.finish()
    elif end == "fail":
        ring.fail(SourceTimeout())
    else:
        ring.begin(SECTION)
    assert await worker.result() == (b"last", 0)


async def test_relax_passes_a_section_on_at_once() -> None:
    """A section that begins ends the one that is read, however little follows."""
    gate = TurnGate()
    ring = RingBuffer(1_000_000, gate)
    ring.relax()
    worker = Worker(gate, lambda: (ring.read(10), ring.next_section(), ring.read(10)))
    await until_it_waits(ring)
    ring.begin(SECTION)
    await ring.write(b"new")
    assert await worker.result() == (b"", SECTION, b"new")


class _SteppedGate(TurnGate):
    """A gate at which the worker stops after it has let go."""

    def __init__(self) -> None:
        super().__init__()
        self.here = threading.Event()
        self.go = threading.Event()
        self.waits = 0

    @contextmanager
    def released(self) -> Iterator[None]:
        self.waits += 1
        with super().released():
            self.here.set()
            assert self.go.wait(GUARD_S)
            yield


@pytest.mark.parametrize("what", ["write", "begin", "finish", "close"])
async def test_read_misses_nothing_on_its_way_to_wait(what: str) -> None:
    """What comes between the look and the wait is seen, though nobody was waiting yet."""
    gate = _SteppedGate()
    ring = RingBuffer(1_000_000, gate)
    ring.relax()
    worker = Worker(gate, lambda: ring.read(10))
    await asyncio.to_thread(gate.here.wait, GUARD_S)
    if what == "write":
        await ring.write(b"little")
    elif what == "begin":
        ring.begin(SECTION)
    else:
        getattr(ring, what)()
    gate.go.set()
    assert await worker.result() == (b"little" if what == "write" else b"")


# -- the gate --------------------------------------------------------------------------------------


async def test_read_lets_go_of_the_gate_while_it_waits() -> None:
    """While one worker waits for bytes, another one may run; it takes the gate again before it
    goes on."""
    gate = TurnGate()
    ring = RingBuffer(1_000, gate)
    running = threading.Event()
    leave = threading.Event()

    def work() -> None:
        running.set()
        leave.wait(GUARD_S)

    reader = Worker(gate, lambda: ring.read(10))
    await until_it_waits(ring)
    other = Worker(gate, work)
    await asyncio.to_thread(running.wait, GUARD_S)
    await ring.write(b"bytes")
    assert not reader.is_done  # it is the other one's turn
    leave.set()
    await other.result()
    assert await reader.result() == b"bytes"


async def test_read_keeps_the_gate_where_it_need_not_wait() -> None:
    """With bytes at hand, or at the end, the gate is not let go."""
    gate = _SteppedGate()
    ring = RingBuffer(1_000, gate)
    await ring.write(b"bytes")
    ring.finish()
    worker = Worker(gate, lambda: drain(ring, 2))
    assert await worker.result() == b"bytes"
    assert gate.waits == 0


# -- backpressure ----------------------------------------------------------------------------------


async def test_write_waits_while_it_is_full() -> None:
    """A full ring holds its writer, until half of it has been read."""
    ring = RingBuffer(100, TurnGate())
    await ring.write(bytes(99))
    writing = await start(ring.write(bytes(21)))
    assert ring.size == 120
    assert not writing.done()
    ring.read(50)  # 70 are left
    ring.read(19)  # 51
    await asyncio.sleep(0)
    assert not writing.done()
    ring.read(1)
    await asyncio.wait_for(writing, GUARD_S)
    assert ring.size == 50


async def test_write_of_a_chunk_larger_than_the_ring() -> None:
    """A chunk is taken whole, however large: the ring is exceeded by one."""
    ring = RingBuffer(10, TurnGate())
    writing = await start(ring.write(bytes(1_000)))
    assert ring.size == 1_000
    assert not writing.done()
    ring.read(995)
    await asyncio.wait_for(writing, GUARD_S)


async def test_write_that_is_cancelled() -> None:
    """A writer that is cancelled while it waits leaves its chunk, and harms nobody."""
    ring = RingBuffer(10, TurnGate())
    writing = await start(ring.write(bytes(10)))
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert ring.read(10) == bytes(10)
    await ring.write(b"more")
    assert ring.read(10) == b"more"


# -- the end ---------------------------------------------------------------------------------------


async def test_fail_behind_the_bytes() -> None:
    """An error comes behind the last byte before it, once; then it is the end."""
    ring = RingBuffer(1_000, TurnGate())
    await ring.write(b"abc")
    error = SourceTimeout("too slow")
    ring.fail(error)
    assert ring.read(2) == b"ab"
    assert ring.read(2) == b"c"
    with pytest.raises(SourceTimeout) as caught:
        ring.read(2)
    assert caught.value is error
    assert ring.read(2) == b""
    assert ring.read(2) == b""


async def test_fail_wakes_the_reader() -> None:
    """A reader that waits is told at once."""
    gate = TurnGate()
    ring = RingBuffer(1_000, gate)
    worker = Worker(gate, lambda: ring.read(10))
    await until_it_waits(ring)
    ring.fail(SourceTimeout())
    with pytest.raises(SourceTimeout):
        await worker.result()


async def test_close_ends_the_reader() -> None:
    """From the event loop: a reader that waits ends, and finds nothing of what was there."""
    gate = TurnGate()
    ring = RingBuffer(1_000, gate)
    worker = Worker(gate, lambda: ring.read(10))
    await until_it_waits(ring)
    ring.close()
    assert await worker.result() == b""
    assert ring.next_section() is None


async def test_close_drops_everything() -> None:
    """What was written is gone, and so is an error that was not delivered."""
    ring = RingBuffer(1_000, TurnGate())
    await ring.write(b"bytes")
    assert ring.read(2) == b"by"
    ring.fail(SourceTimeout())
    ring.close()
    assert ring.size == 0
    assert ring.read(10) == b""
    assert ring.next_section() is None
    ring.close()


async def test_close_ends_the_writer() -> None:
    """From the worker: a writer that waits is told, and every later one is refused."""
    gate = TurnGate()
    ring = RingBuffer(10, gate)
    writing = await start(ring.write(bytes(10)))
    assert not writing.done()
    await Worker(gate, ring.close).result()
    with pytest.raises(BridgeClosed):
        await asyncio.wait_for(writing, GUARD_S)
    with pytest.raises(BridgeClosed):
        await ring.write(b"more")


def test_close_behind_the_event_loop() -> None:
    """A worker may outlive the loop: reading and closing do not fail then."""
    rings: list[RingBuffer] = []

    async def fill() -> None:
        for _ in range(2):
            ring = RingBuffer(10, TurnGate())
            rings.append(ring)
            writing = await start(ring.write(bytes(20)))
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    asyncio.run(fill())
    assert rings[0].read(100) == bytes(20)
    rings[1].close()
    assert rings[1].read(100) == b""


async def test_repr() -> None:
    """The state and the fill level are seen at a glance."""
    ring = RingBuffer(100, TurnGate())
    await ring.write(b"abc")
    assert repr(ring) == "<RingBuffer open 3/100>"
    ring.finish()
    assert repr(ring) == "<RingBuffer finished 3/100>"
    ring.close()
    assert repr(ring) == "<RingBuffer closed 0/100>"


async def test_looks_like_no_named_file() -> None:
    """libavformat must find no name, by which it would choose a demuxer, and no way to seek."""
    ring = RingBuffer(100, TurnGate())
    assert not any(hasattr(ring, name) for name in ("name", "seek", "tell", "fileno", "seekable"))


# -- all of it at once -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
async def test_hammer(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three streams with random pieces share a gate: every byte comes through, section by section,
    and no ring is ever fuller than it may be."""
    monkeypatch.setattr("proxy.media.ring._PATIENCE_S", 0.001)
    gate = TurnGate()

    async def stream(number: int) -> None:
        dice = random.Random(100 * seed + number)
        capacity = dice.choice([100, 5_000, 100_000])
        ring = RingBuffer(capacity, gate)
        sections = [dice.randbytes(dice.randrange(200_000)) for _ in range(dice.randrange(1, 4))]
        largest = 0

        def work() -> list[bytes]:
            found = []
            while ring.next_section() is not None:
                found.append(b"".join(iter(lambda: ring.read(dice.randrange(1, 40_000)), b"")))
            return found

        worker = Worker(gate, work)
        writes = random.Random(seed)
        for data in sections:
            ring.begin(SECTION)
            place = 0
            while place < len(data):
                size = writes.choice([1, 300, 20_000])
                await ring.write(data[place : place + size])
                place += size
                largest = max(largest, ring.size)
                if writes.random() < 0.2:
                    ring.relax()
                if writes.random() < 0.2:
                    await asyncio.sleep(0)
        ring.finish()
        assert await worker.result() == sections
        assert largest <= capacity + 20_000

    await asyncio.wait_for(asyncio.gather(*map(stream, range(3))), GUARD_S)


@pytest.mark.parametrize("side", ["loop", "worker"])
async def test_hammer_closing(side: str) -> None:
    """Closed at any moment, from either side: both sides end, and the worker's thread with them."""
    gate = TurnGate()
    dice = random.Random(side)
    for _ in range(40):
        ring = RingBuffer(dice.choice([1, 100, 10_000]), gate)
        reads = dice.randrange(20)

        def work(ring: RingBuffer = ring, reads: int = reads) -> None:
            if side == "worker":
                for _ in range(reads):
                    ring.read(50)
                ring.close()
            else:
                drain(ring, 50)

        async def write(ring: RingBuffer = ring) -> None:
            while True:
                await ring.write(bytes(60))
                await asyncio.sleep(0)

        worker = Worker(gate, work)
        writing = asyncio.ensure_future(write())
        if side == "loop":
            for _ in range(dice.randrange(20)):
                await asyncio.sleep(0)
            ring.close()
        await worker.result()
        with pytest.raises(BridgeClosed):
            await asyncio.wait_for(writing, GUARD_S)
    await passed(gate)
