"""Segments fetched side by side and delivered strictly in order, within a budget of bytes.

The contract, for one stream on the event loop:
1. The segment at the head of the line goes to the sink chunk by chunk while it arrives: one `await`
   on the socket and one on the sink per chunk.  It never needs credit, so nothing can deadlock.
2. Segments behind it are kept in memory, all together within `allowance()` bytes and one chunk for
   each of them; over that their sockets are not read, and TCP holds the origin.  None is requested
   before there is room for what it will probably take, so that few connections stand still.
3. An error comes out where its segment stands in line: all before it is delivered first.
4. One GET that succeeds per segment.  A failed attempt goes on where it stopped (Range, If-Range);
   without a validator it starts again, and what was delivered before is compared by its hash.
   Never a byte twice, never one missing: where that cannot be proved, the segment has failed.
5. Leaving `deliver`, in whatever way, leaves no task and no connection of its own behind.

Who runs what: `deliver` itself hands over what is buffered of the head of the line; from the moment
nothing is left of that, the task that fetches the segment writes to the sink itself (`direct`).
The feeder pulls the next segment only when it may be requested.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Protocol

from proxy.errors import ProxyError
from proxy.fetch.body import Body
from proxy.fetch.client import Fetcher
from proxy.fetch.events import (
    FetchEvent,
    SegmentDone,
    SegmentFailed,
    SegmentRetried,
    SegmentStarted,
)
from proxy.fetch.faults import Attempted, Unavailable
from proxy.fetch.retry import is_retryable, retrying
from proxy.hls.model import Segment

__all__ = ["Prefetcher", "Sink"]

# An attempt that brought this much was no failure of the origin's to be counted: a connection that
# stood still for a slow client is closed by most servers after a minute.
PROGRESS_BYTES = 256 * 1024
MAX_LINE = 32  # segments in the line, however small: bounds the book-keeping
TS_PACKET_BYTES = 188
TS_SYNC = 0x47

# Answers that may change once a stream is under way (an edge that lags behind the playlist), while
# before its first byte a fast answer is worth more.
LATE_STATUSES = frozenset({401, 403, 404, 410})


class Sink(Protocol):
    """Who takes the segments; awaiting it is backpressure, and its errors end the delivery.

    For each segment `begin`, then `write` for every chunk, then `end`; `begin` comes when the first
    chunk is there (or when a segment turned out empty).
    """

    async def begin(self, segment: Segment) -> None: ...
    async def write(self, chunk: bytes) -> None: ...
    async def end(self, segment: Segment) -> None: ...


class _SinkFailed(Exception):
    """Carries an error of the sink past the retries."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


@dataclass(slots=True, eq=False)
class _Job:
    """One segment on its way."""

    segment: Segment
    buffer: deque[bytes] = field(default_factory=deque)
    buffered_bytes: int = 0
    received_bytes: int = 0  # taken over, that is: delivered or buffered
    total_bytes: int | None = None  # as announced
    validator: str | None = None  # with which the next attempt may go on
    digest: hashlib.blake2b | None = None  # of all that was received, where there is no validator
    begun: bool = False  # the sink has seen something of it
    direct: bool = False  # the fetching task writes to the sink itself
    fetched: bool = False
    attempts: int = 0
    failures: int = 0  # in a row without progress
    ttfb_s: float = 0.0
    first_byte: int | None = None
    closed_early: bool = False
    error: Exception | None = None
    task: asyncio.Task[None] | None = None


class Prefetcher:
    """Fetches the segments of one stream; use it for one `deliver`.

    `allowance` gives the bytes that may wait in memory now: it is asked again all the time, since a
    stream's share changes while others come and go (a share that grows is noticed when a segment is
    done).  Besides, each connection holds up to twice `Settings.read_buffer_bytes`.  `on_event` is
    called on the event loop and must not raise.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        *,
        allowance: Callable[[], int],
        on_event: Callable[[FetchEvent], None] | None = None,
    ) -> None:
        self._fetcher = fetcher
        self._settings = fetcher.settings
        self._allowance = allowance
        self._on_event = on_event
        self._line: deque[_Job] = deque()
        self._buffered_bytes = 0
        self._guess_bytes = self._settings.guessed_segment_bytes
        self._wide = False
        self._fed = False  # the feeder is at its end
        self._feed_error: Exception | None = None
        # Pulsed (set and cleared): whoever waits looks again at what it waits for.
        self._room = asyncio.Event()  # for the feeder
        self._credit = asyncio.Event()  # for tasks over the allowance
        self._queued = asyncio.Event()  # for `deliver`

    @property
    def buffered_bytes(self) -> int:
        """Bytes that wait in memory for their turn."""
        return self._buffered_bytes

    def widen(self) -> None:
        """Fetch side by side from now on: the first fragment is out, and latency is paid for.

        Until then one segment is in flight at a time, and an origin that says no is believed.
        """
        self._wide = True
        _pulse(self._room)

    async def deliver(self, segments: AsyncIterator[Segment], sink: Sink) -> None:
        """Fetch all of `segments` into `sink`; returns behind the end of the last one.

        Raises the `ProxyError` of the first segment that is lost, what the iterator raised, or what
        the sink raised.
        """
        failure: Exception | None = None
        try:
            async with asyncio.TaskGroup() as group:
                feeder = group.create_task(self._feed(segments, sink, group))
                try:
                    await self._hand_over(sink)
                except Exception as error:  # noqa: BLE001 - raised below, outside of the group
                    failure = error
                finally:
                    feeder.cancel()
                    for job in self._line:
                        if job.task is not None:
                            job.task.cancel()
        finally:
            self._line.clear()
            self._buffered_bytes = 0
            if isinstance(segments, AsyncGenerator):
                await segments.aclose()
        if failure is not None:
            raise failure

    # -- the line ----------------------------------------------------------------------------------

    async def _feed(
        self, segments: AsyncIterator[Segment], sink: Sink, group: asyncio.TaskGroup
    ) -> None:
        """Pull segments and start their tasks, as far as there is room."""
        try:
            while True:
                await self._for_room()
                try:
                    segment = await anext(segments)
                except StopAsyncIteration:
                    break
                await self._for_room()  # a live source may have taken its time
                job = _Job(segment)
                job.task = group.create_task(self._fetch(job, sink))
                self._line.append(job)
                _pulse(self._queued)
        except Exception as error:  # noqa: BLE001 - raised by `deliver`, in its turn
            self._feed_error = error
        finally:
            self._fed = True
            _pulse(self._queued)

    async def _for_room(self) -> None:
        while not self._may_request():
            await self._room.wait()

    def _may_request(self) -> bool:
        if not self._line:
            return True
        flying = sum(not job.fetched for job in self._line)
        if not self._wide or flying >= self._settings.parallel_segments:
            return False
        if len(self._line) >= MAX_LINE:
            return False
        head, *others = self._line
        claimed = head.buffered_bytes + self._guess_bytes  # for the next one
        for job in others:
            expected = 0 if job.fetched else job.total_bytes or self._guess_bytes
            claimed += max(job.buffered_bytes, expected)
        return claimed <= self._allowance()

    async def _hand_over(self, sink: Sink) -> None:
        """Serve the head of the line until there is no line any more."""
        while True:
            while not self._line:
                if self._fed:
                    if self._feed_error is not None:
                        raise self._feed_error
                    return
                await self._queued.wait()
            job = self._line[0]
            if job.error is not None:
                raise job.error
            while job.buffer:
                chunk = job.buffer.popleft()
                self._free(job, len(chunk))
                await self._write(job, chunk, sink)
            job.direct = True
            _pulse(self._credit)
            assert job.task is not None
            await asyncio.wait([job.task])
            if job.error is not None:
                raise job.error
            if not job.begun:
                await sink.begin(job.segment)
            await sink.end(job.segment)
            self._line.popleft()
            _pulse(self._room)

    def _free(self, job: _Job, size_bytes: int) -> None:
        job.buffered_bytes -= size_bytes
        self._buffered_bytes -= size_bytes
        if self._buffered_bytes <= self._allowance() // 2:  # not for every chunk
            _pulse(self._credit)

    async def _write(self, job: _Job, chunk: bytes, sink: Sink) -> None:
        if not job.begun:
            job.begun = True
            await sink.begin(job.segment)
        await sink.write(chunk)

    # -- one segment -------------------------------------------------------------------------------

    async def _fetch(self, job: _Job, sink: Sink) -> None:
        """Try until the segment is there or lost; never raises but for cancellation."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        sequence = job.segment.sequence
        self._tell(SegmentStarted(sequence=sequence))
        try:
            async for attempt in retrying(
                self._settings,
                attempts=self._settings.segment_attempts,
                retryable=self._is_retryable,
                failures=lambda: job.failures,
                before_pause=lambda error, pause_s: self._tell_retry(job, error, pause_s),
            ):
                with attempt:
                    await self._attempt(job, sink)
        except _SinkFailed as failed:
            job.error = failed.error
        except Exception as error:  # noqa: BLE001 - raised by `deliver`, in its turn
            job.error = error
            code = error.code if isinstance(error, ProxyError) else ProxyError.code
            self._tell(
                SegmentFailed(
                    sequence=sequence,
                    attempts=job.attempts,
                    code=code,
                    upstream_status=_upstream_status(error),
                )
            )
        else:
            self._guess_bytes = job.received_bytes
            self._tell(
                SegmentDone(
                    sequence=sequence,
                    size_bytes=job.received_bytes,
                    attempts=job.attempts,
                    ttfb_s=job.ttfb_s,
                    elapsed_s=loop.time() - began_s,
                    closed_early=job.closed_early,
                )
            )
        finally:
            job.fetched = True
            _pulse(self._room)

    async def _attempt(self, job: _Job, sink: Sink) -> None:
        """One GET: all of the segment, or what is missing of it."""
        before_bytes = job.received_bytes
        least_s, most_s = self._settings.segment_deadline_s
        job.attempts += 1
        try:
            async with self._fetcher.open(
                job.segment.uri,
                byte_range=job.segment.byte_range,
                offset=job.received_bytes if job.validator is not None else 0,
                validator=job.validator,
                deadline_s=min(most_s, max(least_s, 4 * job.segment.duration_s)),
            ) as body:
                job.ttfb_s = body.ttfb_s
                chunk = await self._take_up(job, body)
                while chunk:
                    await self._take(job, chunk, sink)
                    chunk = await body.read()
                self._check_end(job, body)
        except ProxyError:
            progress_bytes = job.received_bytes - before_bytes
            job.failures = 1 if progress_bytes >= PROGRESS_BYTES else job.failures + 1
            raise

    async def _take(self, job: _Job, chunk: bytes, sink: Sink) -> None:
        job.received_bytes += len(chunk)
        if job.digest is not None:
            job.digest.update(chunk)
        if job.direct:
            try:
                await self._write(job, chunk, sink)
            except Exception as error:
                raise _SinkFailed(error) from error
            return
        job.buffer.append(chunk)
        job.buffered_bytes += len(chunk)
        self._buffered_bytes += len(chunk)
        while self._over_allowance(job):
            await self._credit.wait()

    def _over_allowance(self, job: _Job) -> bool:
        return not job.direct and self._buffered_bytes >= self._allowance()

    async def _take_up(self, job: _Job, body: Body) -> bytes:
        """Find where the body goes on; return the first chunk that is new."""
        if body.offset:  # it continues, if the validator is still the same
            if body.validator is not None and body.validator != job.validator:
                self._start_again(job)
                raise Unavailable("segment: it changed between two attempts")
            if job.total_bytes is None:
                job.total_bytes = body.total
            elif body.total not in (None, job.total_bytes):
                self._start_again(job)
                raise Unavailable("segment: its size changed between two attempts")
            return await body.read()
        if not job.begun:  # nothing of it has left us
            self._start_again(job)
            job.validator, job.total_bytes = body.validator, body.total
            job.digest = hashlib.blake2b() if body.validator is None else None
            if body.total is not None:
                self._guess_bytes = body.total
                _pulse(self._room)
            chunk = await body.read()
            job.first_byte = chunk[0] if chunk else None
            return chunk
        return await self._skip_known(job, body)

    async def _skip_known(self, job: _Job, body: Body) -> bytes:
        """Read over what was received before, and make sure that it is the same."""
        if job.digest is None and body.validator != job.validator:
            raise _changed()
        digest = hashlib.blake2b()
        left_bytes = job.received_bytes
        chunk = b""
        while left_bytes:
            chunk = await body.read()
            if not chunk:
                raise _changed()
            known, chunk = chunk[:left_bytes], chunk[left_bytes:]
            left_bytes -= len(known)
            if job.digest is not None:
                digest.update(known)
        if job.digest is not None and digest.digest() != job.digest.digest():
            raise _changed()
        job.validator = body.validator
        return chunk or await body.read()

    def _start_again(self, job: _Job) -> None:
        """Forget what is buffered; what the sink has seen cannot be taken back."""
        if job.begun:
            raise _changed()
        job.buffer.clear()
        self._free(job, job.buffered_bytes)
        job.received_bytes = 0
        job.validator = job.total_bytes = job.digest = None

    def _check_end(self, job: _Job, body: Body) -> None:
        if job.total_bytes is not None and job.received_bytes != job.total_bytes:
            raise Unavailable(f"segment: {job.received_bytes} of {job.total_bytes} bytes came")
        job.closed_early = body.framing == "close" and job.total_bytes is None
        if job.closed_early and job.first_byte == TS_SYNC and job.received_bytes % TS_PACKET_BYTES:
            raise Unavailable("segment: the connection ended within a packet")

    # -- what others are told ----------------------------------------------------------------------

    def _is_retryable(self, error: BaseException) -> bool:
        if self._wide and _upstream_status(error) in LATE_STATUSES:
            return True
        return is_retryable(error, self._settings)

    def _tell_retry(self, job: _Job, error: BaseException, pause_s: float) -> None:
        self._tell(
            SegmentRetried(
                sequence=job.segment.sequence,
                attempt=job.attempts,
                code=error.code if isinstance(error, ProxyError) else ProxyError.code,
                upstream_status=_upstream_status(error),
                received_bytes=job.received_bytes,
                pause_s=pause_s,
            )
        )

    def _tell(self, event: FetchEvent) -> None:
        if self._on_event is not None:
            self._on_event(event)


def _pulse(event: asyncio.Event) -> None:
    event.set()
    event.clear()


def _changed() -> Unavailable:
    return Unavailable(
        "segment: it is not the one that was begun, or cannot be proved to be", retryable=False
    )


def _upstream_status(error: BaseException) -> int | None:
    return error.upstream_status if isinstance(error, Attempted) else None
