"""The prefetcher under random segments, faults, budgets and paces: order, budget, bytes."""

import asyncio
import random

import pytest

from proxy.fetch import Fetcher, FetchEvent, Prefetcher, SegmentDone
from proxy.hls.model import Segment
from tests.fetch.helpers import Collector, quick, source
from tests.support.origin import Fault, Gzip, Hangup, Origin, Reset, Stall, Status, Truncate

CHUNK_BYTES = 2 * 16_384 + 65_536  # what one read can bring with the settings below


class PacedSink(Collector):
    """Takes its time at random, and watches the budget."""

    def __init__(self, rng: random.Random, check: object) -> None:
        super().__init__()
        self._rng = rng
        self._check = check

    async def write(self, chunk: bytes) -> None:
        assert callable(self._check)
        self._check()
        for _ in range(self._rng.choice([0, 0, 0, 1, 5])):
            await asyncio.sleep(0)
        await super().write(chunk)


def random_fault(rng: random.Random, size_bytes: int) -> Fault:
    at = rng.randrange(size_bytes)
    faults: list[Fault] = [
        Status(rng.choice([500, 502, 503, 504, 429, 404, 403])),
        Reset(rng.choice([None, at])),
        Hangup(at),
        Truncate(at),
        Stall(at),
        Gzip(),
    ]
    return rng.choice(faults)


@pytest.mark.parametrize("seed", range(14))
async def test_deliver_random(seed: int) -> None:
    """Whatever heals within the attempts: every byte once, in order, within the budget."""
    rng = random.Random(seed)
    bodies = [rng.randbytes(rng.choice([1, 500, 40_000, 400_000])) for _ in range(12)]
    allowance = rng.choice([0, 1000, 200_000, 1_000_000])
    parallel = rng.randint(1, 5)
    settings = quick(
        parallel_segments=parallel,
        read_buffer_bytes=16_384,
        guessed_segment_bytes=rng.choice([0, 20_000, 500_000]),
        segment_attempts=4,
        read_timeout_s=0.3,  # a busy machine is no stall
    )
    async with Origin(send_buffer_bytes=16_384) as origin, Fetcher(settings) as fetcher:
        urls = [
            origin.add(
                f"/{number}.ts",
                body,
                framing=rng.choice(["length", "length", "chunked"]),
                validator=rng.choice(["etag", "etag", "date", "weak", "none"]),
                ranges=rng.random() < 0.8,
            )
            for number, body in enumerate(bodies)
        ]
        for number, body in enumerate(bodies):
            for _ in range(rng.choice([0, 0, 1, 3])):
                origin.fault(f"/{number}.ts", random_fault(rng, len(body)), times=1)

        events: list[FetchEvent] = []
        subject = Prefetcher(fetcher, allowance=lambda: allowance, on_event=events.append)

        def check() -> None:
            assert subject.buffered_bytes <= allowance + parallel * CHUNK_BYTES

        sink = PacedSink(rng, check)
        subject.widen()
        await subject.deliver(source(*urls), sink)

        assert [bytes(part) for part in sink.parts.values()] == bodies
        assert list(sink.parts) == list(range(len(bodies)))
        done = sorted(event.sequence for event in events if isinstance(event, SegmentDone))
        assert done == list(range(len(bodies)))
        assert subject.buffered_bytes == 0
        for number in range(len(bodies)):
            answered = [
                request
                for request in origin.asked(f"/{number}.ts")
                if request.status in {200, 206} and request.complete and request.fault is None
            ]
            assert len(answered) == 1, "exactly one GET that succeeded"


async def test_deliver_many_side_by_side() -> None:
    """Fifty streams over one fetcher, some of them cut off, do not disturb each other."""
    rng = random.Random(7)
    bodies = [rng.randbytes(60_000) for _ in range(6)]
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        urls = [origin.add(f"/{number}.ts", body) for number, body in enumerate(bodies)]

        async def one(number: int) -> bytes:
            subject, sink = Prefetcher(fetcher, allowance=lambda: 100_000), Collector()
            subject.widen()
            if number % 5 == 0:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.001 * number):
                        await subject.deliver(_forever(urls), sink)
            else:
                await subject.deliver(source(*urls), sink)
            return sink.body

        got = await asyncio.gather(*[one(number) for number in range(50)])
        whole = b"".join(bodies)
        assert [body == whole for number, body in enumerate(got) if number % 5] == [True] * 40


async def _forever(urls: list[str]):  # type: ignore[no-untyped-def]
    while True:
        async for segment in source(*urls):
            assert isinstance(segment, Segment)
            yield segment
