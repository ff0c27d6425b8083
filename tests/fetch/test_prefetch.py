"""The prefetcher: order, budget, continuation, and nothing left behind."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from proxy.errors import PlaylistError, ProxyError, SourceTooLarge, SourceUnavailable
from proxy.fetch import (
    Fetcher,
    FetchEvent,
    Prefetcher,
    SegmentDone,
    SegmentFailed,
    SegmentRetried,
    SegmentStarted,
)
from proxy.fetch.body import Body
from proxy.fetch.connection import LONG_READ_BYTES, READ_BYTES
from proxy.fetch.prefetch import DEEP_BYTES, EAGER_BYTES
from proxy.hls.model import ByteRange, Key, Segment
from tests.fetch.helpers import Collector, quick, segment, settled, source, until
from tests.support.answers import Validator
from tests.support.origin import (
    CloseDelimited,
    Fault,
    Gzip,
    Hangup,
    IgnoreRange,
    NoFinalChunk,
    Origin,
    Raw,
    Redirect,
    Replace,
    Request,
    Reset,
    Stall,
    Status,
    Trickle,
    Truncate,
    WrongLength,
    WrongRange,
)

MIB = 1024 * 1024
BODIES = [os.urandom(100_000 + 1000 * number) for number in range(8)]


def serve(origin: Origin, **how: str) -> list[str]:
    """Serve BODIES as /0.ts, /1.ts, ..."""
    return [
        origin.add(f"/{number}.ts", body, **how)  # type: ignore[arg-type]
        for number, body in enumerate(BODIES)
    ]


def prefetcher(
    fetcher: Fetcher, *, allowance: int = 4 * MIB, wide: bool = True, skip_lost: bool = False
) -> Prefetcher:
    subject = Prefetcher(fetcher, allowance=lambda: allowance, skip_lost=skip_lost)
    if wide:
        subject.widen()
    return subject


def good(requests: list[Request]) -> list[str]:
    """Paths that were answered with all that was asked for."""
    return [
        request.path
        for request in requests
        if request.status in {200, 206}
        and request.complete
        and (request.fault is None or isinstance(request.fault, Trickle))
    ]


# -- order -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_deliver_all(framing: str, wide: bool) -> None:
    """Every segment arrives whole, once, in order, between its begin and its end."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        sink = Collector()
        urls = serve(origin, framing=framing)
        await prefetcher(fetcher, wide=wide).deliver(source(*urls), sink)
        assert [bytes(part) for part in sink.parts.values()] == BODIES
        assert sink.calls == [
            f"{call} {number}" for number in range(len(BODIES)) for call in ("begin", "end")
        ]
        assert sorted(good(origin.requests)) == [f"/{number}.ts" for number in range(len(BODIES))]


async def test_deliver_tiny_segments() -> None:
    """However small the segments are, only so many wait in the line."""
    async with Origin() as origin, Fetcher(quick(guessed_segment_bytes=0)) as fetcher:
        urls = [origin.add(f"/{number}.ts", b"%03d" % number) for number in range(100)]
        gate = origin.hold("/0.ts")
        sink = Collector()
        task = asyncio.create_task(prefetcher(fetcher).deliver(source(*urls), sink))
        await origin.until(lambda: len(good(origin.requests)) == 31)
        await settled()
        assert len(origin.requests) == 32
        gate.open()
        await task
        assert sink.body == b"".join(b"%03d" % number for number in range(100))


async def test_deliver_nothing() -> None:
    """Without segments there is nothing to do; an empty segment is begun and ended."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        sink = Collector()
        await prefetcher(fetcher).deliver(source(), sink)
        assert sink.calls == []
        await prefetcher(fetcher).deliver(source(origin.add("/e.ts", b"")), sink)
        assert sink.calls == ["begin 0", "end 0"]


async def test_deliver_streams_the_head() -> None:
    """The head of the line reaches the sink while it arrives."""
    async with Origin() as origin, Fetcher(quick()) as fetcher, asyncio.timeout(10):
        gate = origin.hold("/0.ts", after_bytes=1000)
        sink = Collector()
        task = asyncio.create_task(prefetcher(fetcher).deliver(source(*serve(origin)), sink))
        await gate.reached()
        await until(lambda: sink.written >= 1000)
        assert sink.calls == ["begin 0"]
        gate.open()
        await task
        assert sink.body == b"".join(BODIES)


async def test_deliver_one_at_a_time_first() -> None:
    """Until it is widened, one segment is in flight; then as many as the settings say."""
    async with Origin() as origin, Fetcher(quick(parallel_segments=3)) as fetcher:
        gate = origin.hold("/*.ts", after_bytes=1000)
        subject, sink = prefetcher(fetcher, wide=False), Collector()
        task = asyncio.create_task(subject.deliver(source(*serve(origin)), sink))
        await gate.reached()
        await settled()
        assert [request.path for request in origin.requests] == ["/0.ts"]
        subject.widen()
        await origin.until(lambda: len(origin.requests) == 3)
        await settled()
        assert [request.path for request in origin.requests] == ["/0.ts", "/1.ts", "/2.ts"]
        gate.open()
        await task
        assert sink.body == b"".join(BODIES)


async def test_deliver_later_ones_arrive_first() -> None:
    """Segments that arrive before their turn wait for it."""
    async with Origin() as origin, Fetcher(quick(parallel_segments=3)) as fetcher:
        gate = origin.hold("/0.ts", after_bytes=1000)
        subject, sink = prefetcher(fetcher), Collector()
        task = asyncio.create_task(subject.deliver(source(*serve(origin)), sink))
        others = len(BODIES) - 1
        await origin.until(lambda: len(good(origin.requests)) == others)
        assert sink.calls in ([], ["begin 0"])
        gate.open()
        await task
        assert sink.body == b"".join(BODIES)


async def test_deliver_head_that_was_buffered() -> None:
    """What is buffered of a segment is delivered when its turn comes, not with its next chunk."""
    async with Origin() as origin, Fetcher(quick()) as fetcher, asyncio.timeout(10):
        first = origin.hold("/0.ts", after_bytes=1000)
        second = origin.hold("/1.ts", after_bytes=50_000)
        subject, sink = prefetcher(fetcher), Collector()
        task = asyncio.create_task(subject.deliver(source(*serve(origin)), sink))
        await first.reached()
        await second.reached()
        first.open()
        await until(lambda: sink.written >= len(BODIES[0]) + 50_000)
        assert sink.calls == ["begin 0", "end 0", "begin 1"]
        second.open()
        await task
        assert sink.body == b"".join(BODIES)


async def test_deliver_pulls_no_further_than_needed() -> None:
    """A segment is pulled when it may be requested, and the source is closed in the end."""
    pulled: list[int] = []
    closed = False

    async def counting(urls: list[str]) -> AsyncIterator[Segment]:
        nonlocal closed
        try:
            for number, url in enumerate(urls):
                pulled.append(number)
                yield segment(url, number)
        finally:
            closed = True

    async with Origin() as origin, Fetcher(quick(parallel_segments=2)) as fetcher:
        gate = origin.hold("/*.ts", after_bytes=1000)
        subject, sink = prefetcher(fetcher), Collector()
        task = asyncio.create_task(subject.deliver(counting(serve(origin)), sink))
        await origin.until(lambda: len(origin.requests) == 2)
        await settled()
        assert pulled == [0, 1]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert closed
        gate.open()


async def test_deliver_live_source() -> None:
    """A source that makes its segments wait holds up nothing that is there."""
    released = asyncio.Event()

    async def live(urls: list[str]) -> AsyncIterator[Segment]:
        yield segment(urls[0], 0)
        await released.wait()
        yield segment(urls[1], 1)

    async with Origin() as origin, Fetcher(quick()) as fetcher, asyncio.timeout(10):
        subject, sink = prefetcher(fetcher), Collector()
        task = asyncio.create_task(subject.deliver(live(serve(origin)), sink))
        await until(lambda: sink.calls == ["begin 0", "end 0"])
        released.set()
        await task
        assert sink.body == BODIES[0] + BODIES[1]


# -- budget ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_deliver_within_allowance(framing: str) -> None:
    """While the sink stands still, no more waits than is allowed, and a chunk per connection."""
    allowance = 300_000
    settings = quick(read_buffer_bytes=16384, guessed_segment_bytes=50_000, parallel_segments=4)
    async with Origin(send_buffer_bytes=16384) as origin, Fetcher(settings) as fetcher:
        subject, sink = prefetcher(fetcher, allowance=allowance), Collector()
        sink.open.clear()
        task = asyncio.create_task(subject.deliver(source(*serve(origin, framing=framing)), sink))
        await origin.standstill()
        assert 0 < subject.buffered_bytes <= allowance + 4 * 65_536
        assert sink.written <= 65_536
        sink.open.set()
        await task
        assert sink.body == b"".join(BODIES)
        assert subject.buffered_bytes == 0


@pytest.mark.parametrize("allowance", [0, 1, 50_000, 150_000])
async def test_deliver_small_allowance(allowance: int) -> None:
    """The head of the line needs no credit: any allowance will do."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        sink = Collector()
        await prefetcher(fetcher, allowance=allowance).deliver(source(*serve(origin)), sink)
        assert sink.body == b"".join(BODIES)


async def test_deliver_asks_for_nothing_without_room() -> None:
    """A segment for which there is probably no room is not even requested."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        gate = origin.hold("/0.ts", after_bytes=1000)
        subject, sink = prefetcher(fetcher, allowance=99_000), Collector()
        task = asyncio.create_task(subject.deliver(source(*serve(origin)), sink))
        await gate.reached()
        await settled()
        assert [request.path for request in origin.requests] == ["/0.ts"]
        gate.open()
        await task


async def test_deliver_allowance_that_shrinks() -> None:
    """An allowance that is taken away while segments are on their way blocks nothing."""
    allowed = [4 * MIB]
    async with Origin() as origin, Fetcher(quick()) as fetcher, asyncio.timeout(10):
        gates = [origin.hold(f"/{number}.ts", after_bytes=50_000) for number in range(3)]
        subject, sink = Prefetcher(fetcher, allowance=lambda: allowed[0]), Collector()
        subject.widen()
        task = asyncio.create_task(subject.deliver(source(*serve(origin)), sink))
        for gate in gates:
            await gate.reached()
        await until(lambda: subject.buffered_bytes >= 100_000)
        allowed[0] = 0
        for gate in reversed(gates):
            gate.open()
        await task
        assert sink.body == b"".join(BODIES)


async def test_deliver_allowance_that_grows() -> None:
    """An allowance that grows while the head of the line stands still is made use of."""
    allowed = [0]
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        gate = origin.hold("/0.ts", after_bytes=1000)
        subject, sink = Prefetcher(fetcher, allowance=lambda: allowed[0]), Collector()
        subject.widen()
        task = asyncio.create_task(subject.deliver(source(*serve(origin)), sink))
        await gate.reached()
        await settled()
        assert len(origin.requests) == 1
        allowed[0] = 4 * MIB
        subject.look_again()
        await origin.until(lambda: len(origin.requests) == len(BODIES))
        gate.open()
        await task
        assert sink.body == b"".join(BODIES)


async def test_deliver_paused_sockets_are_not_read() -> None:
    """Over the allowance the origin is held by TCP, not by memory."""
    big = os.urandom(8 * MIB)
    settings = quick(read_buffer_bytes=16384, guessed_segment_bytes=10_000)
    async with Origin(send_buffer_bytes=16384) as origin, Fetcher(settings) as fetcher:
        urls = [origin.add(f"/{number}.ts", big, framing="chunked") for number in range(3)]
        subject, sink = prefetcher(fetcher, allowance=100_000), Collector()
        gate = origin.hold("/0.ts", after_bytes=1000)
        task = asyncio.create_task(subject.deliver(source(*urls), sink))
        await gate.reached()
        await origin.standstill()
        assert subject.buffered_bytes <= 100_000 + 2 * 65_536
        assert all(request.sent_bytes < len(big) for request in origin.requests)
        gate.open()
        await task
        assert sink.body == big * 3


@pytest.mark.parametrize(
    ("allowance", "read_bytes"), [(DEEP_BYTES - 1, READ_BYTES), (DEEP_BYTES, LONG_READ_BYTES)]
)
async def test_deliver_reads_much_where_much_may_be_held(
    allowance: int, read_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At first what comes, as it comes; then batches, and long ones for a deep stream alone."""
    asked: list[int] = []
    read = Body.read

    async def noting(body: Body, *, read_bytes: int = 0) -> bytes:
        asked.append(read_bytes)
        return await read(body, read_bytes=read_bytes)

    monkeypatch.setattr(Body, "read", noting)
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url, sink = origin.add("/0.ts", bytes(4 * EAGER_BYTES)), Collector()
        await prefetcher(fetcher, allowance=allowance).deliver(source(url), sink)
    assert asked[0] == 0
    assert set(asked) == {0, read_bytes}
    assert asked == sorted(asked)


# -- continuation ----------------------------------------------------------------------------------

HEALING = [
    Status(500),
    Status(503, retry_after=0),
    Status(429),
    Reset(),
    Reset(0),
    Reset(70_000),
    Hangup(),
    Hangup(70_000),
    Truncate(70_000),
    Truncate(1),
    Gzip(),
    Redirect("?again"),
]
SLOW = [Stall(70_000), Stall(), Trickle(after_bytes=70_000, every_s=0.02)]


@pytest.mark.parametrize(
    ("fault", "validator"),
    [(fault, validator) for fault in HEALING for validator in ("etag", "date", "weak", "none")]
    + [(fault, validator) for fault in SLOW for validator in ("etag", "none")],
)
async def test_deliver_heals(fault: Fault, validator: str) -> None:
    """A fault that heals within the attempts leaves the bytes as they are at the origin."""
    slow = {"read_timeout_s": 0.2, "min_rate_window_s": 0.2, "min_rate_grace_s": 0.0}
    settings = quick(segment_attempts=4, **(slow if fault in SLOW else {}))
    async with Origin() as origin, Fetcher(settings) as fetcher:
        urls = serve(origin, validator=validator)
        for number in (0, 1, 3):
            origin.fault(f"/{number}.ts", fault, times=2)
        sink = Collector()
        await prefetcher(fetcher).deliver(source(*urls), sink)
        assert sink.body == b"".join(BODIES)
        assert sorted(good(origin.requests)) == [f"/{number}.ts" for number in range(len(BODIES))]


async def test_deliver_continues_by_range() -> None:
    """With a validator only what is missing is asked for."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        urls = serve(origin)
        origin.fault("/0.ts", Truncate(70_000), times=1)
        sink = Collector()
        await prefetcher(fetcher).deliver(source(urls[0]), sink)
        assert sink.body == BODIES[0]
        first, second = origin.requests
        assert "range" not in first.headers
        assert second.headers["if-range"].startswith('"')
        assert second.status == 206
        assert second.headers["range"].endswith("-")
        assert first.sent_bytes + second.sent_bytes < len(BODIES[0]) + 70_000


async def test_deliver_starts_again_without_validator() -> None:
    """Without a validator the whole is asked for again, and the known part is not delivered."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = serve(origin, validator="none")[0]
        origin.fault("/0.ts", Truncate(70_000), times=1)
        sink = Collector()
        await prefetcher(fetcher).deliver(source(url), sink)
        assert sink.body == BODIES[0]
        assert ["range" in request.headers for request in origin.requests] == [False, False]


def whole(size_bytes: int) -> Raw:
    """An answer that names a length and has as many bytes."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {size_bytes}\r\n\r\n"
    return Raw(head.encode() + BODIES[0][:size_bytes])


@pytest.mark.parametrize("times", [1, None])
async def test_deliver_shorter_when_it_comes_again(times: int | None) -> None:
    """Of two answers with different lengths one is short: neither is taken for the whole."""
    async with Origin() as origin, Fetcher(quick()) as fetcher, asyncio.timeout(10):
        url = origin.add("/0.ts", BODIES[0], validator="none")
        origin.fault("/0.ts", Truncate(70_000), times=1)
        origin.fault("/0.ts", whole(90_000), times=times)
        sink = Collector()
        if times is None:
            with pytest.raises(SourceUnavailable, match="length"):
                await prefetcher(fetcher).deliver(source(url), sink)
        else:
            await prefetcher(fetcher).deliver(source(url), sink)
            assert sink.body == BODIES[0]


def chunked(body: bytes) -> Raw:
    """An answer without a length that ends as it should."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return Raw(head + f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("validator", ["etag", "none"])
async def test_deliver_cut_by_a_cache(validator: str) -> None:
    """A body that somebody in between ended politely within a packet is asked for once more."""
    body = (b"\x47" + bytes(187)) * 500
    async with Origin() as origin, Fetcher(quick()) as fetcher, asyncio.timeout(10):
        url = origin.add("/0.ts", body, framing="chunked", validator=validator)  # type: ignore[arg-type]
        origin.fault("/0.ts", chunked(body[:70_001]), times=1)
        sink = Collector()
        await prefetcher(fetcher).deliver(source(url), sink)
        assert sink.body == body


@pytest.mark.parametrize("validator", ["etag", "none"])
async def test_deliver_cut_by_the_packager(validator: str) -> None:
    """Segments that end within a packet each time are whole; that is learnt once."""
    bodies = [(b"\x47" + bytes(187)) * 500 + b"\x47", (b"\x47" + bytes(187)) * 500 + b"\x47"]
    async with Origin() as origin, Fetcher(quick()) as fetcher, asyncio.timeout(10):
        urls = [
            origin.add(f"/{number}.ts", body, framing="chunked", validator=validator)  # type: ignore[arg-type]
            for number, body in enumerate(bodies)
        ]
        sink = Collector()
        await prefetcher(fetcher, wide=False).deliver(source(*urls), sink)
        assert sink.body == b"".join(bodies)
        asked = [request.path for request in origin.requests]
        assert asked == ["/0.ts", "/0.ts", "/1.ts"]


def rest(etag: str, size_bytes: int) -> Raw:
    """The rest behind 70,000 bytes as an origin sends it that does not look at If-Range."""
    body = BODIES[0][70_000:size_bytes]
    head = (
        f"HTTP/1.1 206 P\r\nContent-Length: {len(body)}\r\nETag: {etag}\r\n"
        f"Content-Range: bytes 70000-{size_bytes - 1}/{size_bytes}\r\n\r\n"
    )
    return Raw(head.encode() + body)


@pytest.mark.parametrize("delivered", [True, False])
@pytest.mark.parametrize("changes", ["etag", "size"])
async def test_deliver_changed_rest(changes: str, delivered: bool) -> None:
    """A rest of something else is not taken, whatever the origin makes of If-Range."""
    async with Origin() as origin, Fetcher(quick()) as fetcher, asyncio.timeout(10):
        url = origin.add("/0.ts", BODIES[0], headers={"ETag": '"one"'}, validator="none")
        etag, size_bytes = ('"two"', 100_000) if changes == "etag" else ('"one"', 99_999)
        origin.fault("/0.ts", Truncate(70_000), times=1)
        origin.fault("/0.ts", rest(etag, size_bytes), times=1)
        urls = [url] if delivered else [origin.add("/first.ts", b"first"), url]
        first = origin.hold("/first.ts")
        sink = Collector()
        task = asyncio.create_task(prefetcher(fetcher).deliver(source(*urls), sink))
        if delivered:
            with pytest.raises(SourceUnavailable, match="not the one"):
                await task
            assert sink.body == BODIES[0][: len(sink.body)]
            assert len(origin.requests) == 2
        else:
            await origin.until(lambda: good(origin.requests) == ["/0.ts"])
            first.open()
            await task
            assert sink.body == b"first" + BODIES[0]


async def test_deliver_shorter_at_second_attempt() -> None:
    """A segment that is shorter now than what was delivered of it is lost."""
    contents = iter([BODIES[0], BODIES[0][:50_000]])
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/0.ts", lambda _: next(contents), validator="none", framing="chunked")
        gate = origin.hold("/0.ts", after_bytes=60_000)
        origin.fault("/0.ts", Truncate(70_000), times=1)
        sink = Collector()
        task = asyncio.create_task(prefetcher(fetcher).deliver(source(url), sink))
        await gate.reached()
        await until(lambda: sink.written >= 60_000)
        gate.open()
        with pytest.raises(SourceUnavailable, match="not the one"):
            await task


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("validator", ["etag", "none"])
async def test_deliver_changed_between_attempts(validator: str, ranges: bool) -> None:
    """A segment whose content changed after a part of it was delivered is lost, not mixed."""
    other = bytearray(BODIES[0])
    other[1000] ^= 1
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        contents = iter([BODIES[0], bytes(other), bytes(other)])
        url = origin.add(
            "/0.ts",
            lambda _: next(contents),
            validator=validator,  # type: ignore[arg-type]
            ranges=ranges,
        )
        gate = origin.hold("/0.ts", after_bytes=60_000)
        origin.fault("/0.ts", Truncate(70_000), times=1)
        sink = Collector()
        task = asyncio.create_task(prefetcher(fetcher).deliver(source(url), sink))
        await gate.reached()
        await until(lambda: sink.written >= 60_000)
        gate.open()
        with pytest.raises(SourceUnavailable, match="not the one"):
            await task
        assert BODIES[0].startswith(sink.body)
        assert len(origin.requests) == 2


async def test_deliver_changed_before_delivery() -> None:
    """A segment that changed before anything of it was delivered is taken as it is now."""
    contents = iter([b"\x00" * 90_000, BODIES[1], BODIES[1]])
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        urls = serve(origin)
        origin.add("/1.ts", lambda _: next(contents))
        origin.fault("/1.ts", Truncate(70_000), times=1)
        gate = origin.hold("/0.ts", after_bytes=1000)
        sink = Collector()
        task = asyncio.create_task(prefetcher(fetcher).deliver(source(*urls[:2]), sink))
        await origin.until(lambda: "/1.ts" in good(origin.requests))
        gate.open()
        await task
        assert sink.body == BODIES[0] + BODIES[1]


@pytest.mark.parametrize("fault", [WrongRange(shift_bytes=-5), WrongRange(short_bytes=5)])
async def test_deliver_wrong_continuation(fault: Fault) -> None:
    """A continuation that is not the one asked for is a failed attempt."""
    async with Origin() as origin, Fetcher(quick(segment_attempts=3)) as fetcher:
        url = serve(origin)[0]
        origin.fault("/0.ts", Truncate(70_000), times=1)
        origin.fault("/0.ts", fault, times=1)
        sink = Collector()
        await prefetcher(fetcher).deliver(source(url), sink)
        assert sink.body == BODIES[0]
        assert len(origin.requests) == 3


async def test_deliver_range_ignored_at_continuation() -> None:
    """An origin that sends the whole again, with the same validator, is read over."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = serve(origin)[0]
        origin.fault("/0.ts", Truncate(70_000), times=1)
        origin.fault("/0.ts", IgnoreRange(), times=1)
        sink = Collector()
        await prefetcher(fetcher).deliver(source(url), sink)
        assert sink.body == BODIES[0]
        assert [request.status for request in origin.requests] == [200, 200]


@pytest.mark.parametrize("validator", ["etag", "none"])
@pytest.mark.parametrize("ranges", [True, False])
async def test_deliver_byte_ranges(validator: str, ranges: bool) -> None:
    """Segments that are ranges of one file arrive as such, faults included."""
    data = os.urandom(300_000)
    parts = [ByteRange(offset=at, length=60_000) for at in range(0, 300_000, 60_000)]

    async def ranged(url: str) -> AsyncIterator[Segment]:
        for number, part in enumerate(parts):
            yield segment(url, number, byte_range=part)

    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add(
            "/all.ts",
            data,
            validator=validator,  # type: ignore[arg-type]
            ranges=ranges,
        )
        origin.fault("/all.ts", Truncate(30_000), times=1)
        origin.fault("/all.ts", Status(503), times=1)
        sink = Collector()
        await prefetcher(fetcher).deliver(ranged(url), sink)
        assert sink.body == data


@pytest.mark.parametrize("part", [None, ByteRange(offset=10, length=50_000)])
async def test_deliver_broken_behind_the_last_byte(part: ByteRange | None) -> None:
    """A body that breaks off when all of it is there, but not its end, is not sent twice."""
    expected = BODIES[0] if part is None else BODIES[0][10:50_010]

    async def one(url: str) -> AsyncIterator[Segment]:
        yield segment(url, byte_range=part)

    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = serve(origin, framing="chunked")[0]
        origin.fault("/0.ts", NoFinalChunk(), times=1)
        sink = Collector()
        await prefetcher(fetcher).deliver(one(url), sink)
        assert sink.body == expected
        statuses = [request.status for request in origin.requests]
        assert statuses == ([200, 416] if part is None else [206])


@pytest.mark.parametrize(
    ("validator", "times", "statuses"),
    [
        ("etag", 1, [200, 416]),
        ("etag", None, [200, 416]),
        ("date", 1, [200, 416]),
        ("weak", 1, [200, 200]),
        ("none", 1, [200, 200]),
    ],
)
async def test_deliver_length_too_large(
    validator: Validator, times: int | None, statuses: list[int]
) -> None:
    """A length that was announced too large is no loss: the answer to the request for the rest, or
    a second one that is the same, shows that all of it came."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = serve(origin, validator=validator)[0]
        origin.fault("/0.ts", WrongLength(7), times=times)
        sink = Collector()
        await prefetcher(fetcher).deliver(source(url), sink)
        assert sink.body == BODIES[0]
        assert [request.status for request in origin.requests] == statuses


@pytest.mark.parametrize("content_range", ["", "Content-Range: bytes */99999\r\n"])
async def test_deliver_length_too_large_without_proof(content_range: str) -> None:
    """A rest that is said not to exist is no proof that all came: the whole is asked for again."""
    denied = f"HTTP/1.1 416 R\r\nContent-Length: 0\r\n{content_range}\r\n"
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = serve(origin)[0]
        origin.fault("/0.ts", WrongLength(7), times=1)
        origin.fault("/0.ts", Raw(denied.encode()), times=1)
        sink = Collector()
        await prefetcher(fetcher).deliver(source(url), sink)
        assert sink.body == BODIES[0]
        assert ["range" in request.headers for request in origin.requests] == [False, True, False]


async def test_deliver_length_too_large_and_changed() -> None:
    """What has another validator now proves nothing about what came."""
    denied = (
        f'HTTP/1.1 416 R\r\nContent-Length: 0\r\nETag: "other"\r\n'
        f"Content-Range: bytes */{len(BODIES[0])}\r\n\r\n"
    )
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = serve(origin)[0]
        origin.fault("/0.ts", WrongLength(7), times=1)
        origin.fault("/0.ts", Raw(denied.encode()), times=1)
        with pytest.raises(SourceUnavailable, match="not the one"):
            await prefetcher(fetcher).deliver(source(url), Collector())


async def test_deliver_length_that_stays_too_large() -> None:
    """Without a validator nothing proves that all came, where the wrong length comes each time."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = serve(origin, validator="none")[0]
        origin.fault("/0.ts", WrongLength(7))
        with pytest.raises(SourceUnavailable):
            await prefetcher(fetcher).deliver(source(url), Collector())


async def test_deliver_progress_counts() -> None:
    """An attempt that brought a good part is not held against the origin."""
    body = os.urandom(3 * MIB)
    async with Origin() as origin, Fetcher(quick(segment_attempts=2)) as fetcher:
        url = origin.add("/0.ts", body)
        origin.fault("/0.ts", Truncate(600_000), times=4)
        sink = Collector()
        await prefetcher(fetcher).deliver(source(url), sink)
        assert sink.body == body
        assert len(origin.requests) == 5


async def test_deliver_closed_within_a_packet() -> None:
    """Where only the closing ends a segment, half a TS packet tells that it was cut."""
    packets = (b"\x47" + os.urandom(187)) * 500
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/0.ts", packets, framing="close", validator="none")
        origin.fault("/0.ts", CloseDelimited(cut_bytes=100), times=1)
        events: list[FetchEvent] = []
        subject = Prefetcher(fetcher, allowance=lambda: MIB, on_event=events.append)
        sink = Collector()
        await subject.deliver(source(url), sink)
        assert sink.body == packets
        assert isinstance(events[-1], SegmentDone)
        assert events[-1].closed_early


@pytest.mark.parametrize("validator", ["etag", "none"])
async def test_deliver_closed_within_a_block(validator: Validator) -> None:
    """Where only the closing ends an encrypted segment, half a block tells that it was cut; what
    its ciphertext looks like tells nothing."""
    blocks = b"\x47" + os.urandom(16 * 5000 - 1)

    async def keyed(url: str) -> AsyncIterator[Segment]:
        yield replace(segment(url), key=Key(method="AES-128", uri="key"))

    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/0.ts", blocks, framing="close", validator=validator)
        origin.fault("/0.ts", CloseDelimited(cut_bytes=100), times=1)
        sink = Collector()
        await prefetcher(fetcher).deliver(keyed(url), sink)
        assert sink.body == blocks
        assert len(origin.requests) == 2


# -- loss ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Status(404), SourceUnavailable),
        (Status(500), SourceUnavailable),
        (Status(503, retry_after=3600), SourceUnavailable),
        (Truncate(10), SourceUnavailable),
        (Gzip(), SourceUnavailable),
        (Redirect("/1.ts"), SourceUnavailable),
        (Replace(bytes(200_001)), SourceTooLarge),
    ],
)
@pytest.mark.parametrize("wide", [False, True])
async def test_deliver_lost(fault: Fault, error: type[ProxyError], wide: bool) -> None:
    """The error of a lost segment comes behind everything before it."""
    async with Origin() as origin, Fetcher(quick(segment_bytes=200_000)) as fetcher:
        origin.fault("/1.ts", fault)
        sink = Collector()
        with pytest.raises(error):
            await prefetcher(fetcher, wide=wide).deliver(source(*serve(origin)), sink)
        assert sink.body.startswith(BODIES[0])
        assert sink.calls[:2] == ["begin 0", "end 0"]
        assert "end 1" not in sink.calls


async def test_deliver_lost_waits_for_its_turn() -> None:
    """A segment that is lost long before its turn does not cut those before it short."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        gate = origin.hold("/0.ts", after_bytes=1000)
        origin.fault("/2.ts", Status(400))
        sink = Collector()
        task = asyncio.create_task(prefetcher(fetcher).deliver(source(*serve(origin)), sink))
        await origin.until(lambda: "/2.ts" in [r.path for r in origin.requests if r.complete])
        await settled()
        assert not task.done()
        gate.open()
        with pytest.raises(SourceUnavailable):
            await task
        assert sink.body == BODIES[0] + BODIES[1]


async def test_deliver_source_fails() -> None:
    """An error of the source comes behind everything that it gave before."""

    async def broken(urls: list[str]) -> AsyncIterator[Segment]:
        for number, url in enumerate(urls[:3]):
            yield segment(url, number)
        raise PlaylistError("broken")

    async with Origin() as origin, Fetcher(quick()) as fetcher:
        sink = Collector()
        with pytest.raises(PlaylistError):
            await prefetcher(fetcher).deliver(broken(serve(origin)), sink)
        assert sink.body == b"".join(BODIES[:3])


@pytest.mark.parametrize("fails_at", [1, 50_000, 150_000, 350_000])
async def test_deliver_sink_fails(fails_at: int) -> None:
    """An error of the sink comes out as it is, and nothing is tried again for it."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        sink = Collector(fails_at=fails_at)
        with pytest.raises(ArithmeticError):
            await prefetcher(fetcher).deliver(source(*serve(origin)), sink)
        paths = [request.path for request in origin.requests]
        assert len(paths) == len(set(paths))
        await origin.until(lambda: all(request.ended for request in origin.requests))


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_deliver_believes_no_before_it_is_wide(status: int) -> None:
    """Before the first fragment a refusal is final; later it may be an edge that lags behind."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = serve(origin)[0]
        origin.fault("/0.ts", Status(status), times=1)
        with pytest.raises(SourceUnavailable):
            await prefetcher(fetcher, wide=False).deliver(source(url), Collector())
        assert len(origin.requests) == 1

        origin.fault("/0.ts", Status(status), times=1)
        sink = Collector()
        await prefetcher(fetcher, wide=True).deliver(source(url), sink)
        assert sink.body == BODIES[0]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_deliver_doubts_no_behind_a_whole_segment(status: int) -> None:
    """An origin that has given a segment is asked again for the next, before the first fragment
    too: whoever makes it may lag behind."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        urls = serve(origin)
        origin.fault("/1.ts", Status(status), times=1)
        sink = Collector()
        await prefetcher(fetcher, wide=False).deliver(source(*urls), sink)
        assert sink.body == b"".join(BODIES)
        assert [request.status for request in origin.asked("/1.ts")] == [status, 200]


# -- nothing is left behind ------------------------------------------------------------------------


@pytest.mark.parametrize("after_bytes", [None, 0, 1000])
@pytest.mark.parametrize("wide", [False, True])
async def test_deliver_cancelled_in_fetch(after_bytes: int | None, wide: bool) -> None:
    """Cancelling while the origin is awaited leaves no task and no connection."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        gate = origin.hold("/*.ts", after_bytes=after_bytes)
        subject = prefetcher(fetcher, wide=wide)
        task = asyncio.create_task(subject.deliver(source(*serve(origin)), Collector()))
        await gate.reached()
        await _cancelled(task)
        await origin.until(lambda: origin.open_connections == 0)
        assert tasks() == []
        assert subject.buffered_bytes == 0


async def test_deliver_cancelled_in_sink() -> None:
    """Cancelling while the sink is awaited leaves no task and no connection."""
    async with Origin() as origin, Fetcher(quick()) as fetcher, asyncio.timeout(10):
        sink = Collector()
        sink.open.clear()
        task = asyncio.create_task(prefetcher(fetcher).deliver(source(*serve(origin)), sink))
        await until(lambda: sink.busy)
        await _cancelled(task)
        await fetcher.aclose()
        await origin.until(lambda: origin.open_connections == 0)
        assert tasks() == []


async def test_deliver_cancelled_in_pause() -> None:
    """Cancelling between two attempts leaves no task."""
    async with Origin() as origin, Fetcher(quick(backoff_s=(60, 60))) as fetcher:
        origin.fault("/0.ts", Status(500))
        task = asyncio.create_task(
            prefetcher(fetcher).deliver(source(*serve(origin)[:1]), Collector())
        )
        await origin.until(lambda: bool(origin.requests) and origin.requests[0].ended)
        await settled()
        await _cancelled(task)
        assert tasks() == []


@pytest.mark.parametrize("step", range(0, 60, 3))
async def test_deliver_cancelled_anywhere(step: int) -> None:
    """Cancelling after any number of rounds of the loop leaves no task and no connection."""
    async with Origin() as origin:
        async with Fetcher(quick()) as fetcher:
            task = asyncio.create_task(
                prefetcher(fetcher).deliver(source(*serve(origin)), Collector())
            )
            await settled(step)
            task.cancel()
            await asyncio.wait([task])  # cancelled, or done before
            assert tasks() == []
        await origin.until(lambda: origin.open_connections == 0)


def tasks() -> list[str]:
    """Tasks that run, besides the test's own and those of the origin."""
    running = asyncio.all_tasks() - {asyncio.current_task()}
    names = [repr(task.get_coro()) for task in running if not task.done()]
    return [name for name in names if "_Protocol._serve" not in name]


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# -- what listeners hear ---------------------------------------------------------------------------


async def test_events() -> None:
    """Listeners hear of each segment's start, of each failed attempt, and of its end."""
    async with Origin() as origin, Fetcher(quick(segment_attempts=2)) as fetcher:
        urls = serve(origin)
        origin.fault("/0.ts", Status(503), times=1)
        origin.fault("/1.ts", Truncate(1000))
        events: list[FetchEvent] = []
        subject = Prefetcher(fetcher, allowance=lambda: 0, on_event=events.append)
        with pytest.raises(SourceUnavailable):
            await subject.deliver(source(*urls), Collector())
        started, retried, done, *_, failed = events
        assert started == SegmentStarted(sequence=0)
        assert isinstance(retried, SegmentRetried)
        assert (retried.attempt, retried.upstream_status, retried.code) == (
            1,
            503,
            "source_unavailable",
        )
        assert retried.pause_s > 0
        assert isinstance(done, SegmentDone)
        assert (done.sequence, done.size_bytes, done.attempts) == (0, len(BODIES[0]), 2)
        assert 0 < done.ttfb_s < done.elapsed_s
        assert isinstance(failed, SegmentFailed)
        assert (failed.sequence, failed.attempts) == (1, 2)
        assert "127.0.0.1" not in repr(events)


# -- skipping --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Status(404), Status(503), Truncate(5000), Reset()])
async def test_deliver_skips_what_is_lost(fault: Fault) -> None:
    """With `skip_lost` a segment that cannot be had is told to the sink, and the rest arrives."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        urls = serve(origin)
        origin.fault("/2.ts", fault)
        sink = Collector()
        subject = prefetcher(fetcher, skip_lost=True)
        await subject.deliver(source(*urls), sink)
        ends = [call for call in sink.calls if not call.startswith("begin")]
        assert ends == ["end 0", "end 1", "lost 2", *(f"end {n}" for n in range(3, 8))]
        assert [bytes(sink.parts[n]) for n in range(3, 8)] == BODIES[3:]
        assert subject.buffered_bytes == 0


async def test_deliver_skips_no_failure_of_the_sink() -> None:
    """What the sink raises ends the delivery, whatever may be skipped."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        urls = serve(origin)
        sink = Collector(fails_at=150_000)
        subject = prefetcher(fetcher, skip_lost=True)
        with pytest.raises(ArithmeticError):
            await subject.deliver(source(*urls), sink)
