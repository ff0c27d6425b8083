"""Segments fetched side by side and delivered strictly in order, within a budget of bytes.

The contract, for one stream on the event loop:
1. The segment at the head of the line goes to the sink chunk by chunk while it arrives: one `await`
   on the socket and one on the sink per chunk.  It never needs credit, so nothing can deadlock.
2. Segments behind it are kept in memory, all together within `allowance()` bytes and one chunk for
   each of them; over that their sockets are not read, and TCP holds the origin.  None is requested
   before there is room for what it will probably take, so that few connections stand still.
3. An error comes out where its segment stands in line: all before it is delivered first.
4. One GET that succeeds per segment, and every byte of it once, over all attempts (`transfer.py`).
5. Leaving `deliver`, in whatever way, leaves no task and no connection of its own behind.

Who runs what: `deliver` itself hands over what is buffered of the head of the line; from the moment
nothing is left of that, the task that fetches the segment writes to the sink itself (`direct`).
The feeder pulls the next segment only when it may be requested.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from proxy.errors import (
    SourceNotFound,
    SourceTimeout,
    SourceTooLarge,
    SourceUnavailable,
)
from proxy.events import FetchEvent
from proxy.fetch.client import Fetcher
from proxy.fetch.connection import LONG_READ_BYTES, READ_BYTES
from proxy.fetch.renewal import Renewal
from proxy.fetch.transfer import Habits, Transfer
from proxy.hls.model import Segment

__all__ = ["Prefetcher", "Sink"]

# Brought as it comes; behind it, in batches (`Body.read`): a player that has begun has something to
# go on from by then.
EAGER_BYTES = 512 * 1024

# With an allowance of so much, the long reads of three connections are three eighths of it.
DEEP_BYTES = 8 * LONG_READ_BYTES

MAX_LINE = 32  # segments in the line, however small: bounds the book-keeping


class Sink(Protocol):
    """Who takes the segments; awaiting it is backpressure, and its errors end the delivery.

    For each segment `begin`, then `write` for every chunk, then `end`; `begin` comes when the first
    chunk is there (or when a segment turned out empty).  A segment that is skipped ends in `lost`
    instead, whether it was begun or not.
    """

    async def begin(self, segment: Segment) -> None: ...
    async def write(self, chunk: bytes) -> None: ...
    async def end(self, segment: Segment) -> None: ...
    async def lost(self, segment: Segment) -> None: ...


class _SinkFailed(Exception):
    """Carries an error of the sink past the retries: it may be an error of some other fetch."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


@dataclass(slots=True, eq=False)
class _Place:
    """One segment's place in the line."""

    segment: Segment
    buffer: deque[bytes] = field(default_factory=deque)
    buffered_bytes: int = 0
    length_bytes: int | None = None  # as announced, or as it turned out
    begun: bool = False  # the sink has seen something of it
    direct: bool = False  # the fetching task writes to the sink itself
    fetched: bool = False
    error: Exception | None = None
    lost: bool = False  # the origin does not give it
    task: asyncio.Task[None] | None = None


# What may be skipped: the origin has it not, or not in time.  A refusal of ours never is.
_LOST = (SourceNotFound, SourceUnavailable, SourceTimeout, SourceTooLarge)


class Prefetcher:
    """Fetches the segments of one stream; use it for one `deliver`.

    `allowance` gives the bytes that may wait in memory now: it is asked again all the time, since a
    stream's share changes while others come and go (one that grows is noticed when a segment is
    done, or by `look_again`).  Besides, each connection holds up to twice
    `Settings.read_buffer_bytes` and one read.  With `skip_lost` a segment that the origin does not
    give is left out and the sink told; otherwise it ends the delivery.  `renewal` is asked where an
    address has expired; the sink sees the segments as the iterator gave them.  `on_event` is called
    on the event loop and must not raise.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        *,
        allowance: Callable[[], int],
        skip_lost: bool = False,
        renewal: Renewal | None = None,
        on_event: Callable[[FetchEvent], None] | None = None,
    ) -> None:
        self._fetcher = fetcher
        self._settings = fetcher.settings
        self._allowance = allowance
        self._skip_lost = skip_lost
        self._renewal = renewal
        self._on_event = on_event
        self._habits = Habits()
        self._taken_bytes = 0  # over all segments
        self._line: deque[_Place] = deque()
        self._buffered_bytes = 0
        self._guess_bytes = self._settings.guessed_segment_bytes  # of a length that is unknown
        self._wide = False
        self._arrived = False  # a whole segment has come: the addresses of this stream are good
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

        Until then one segment is in flight at a time.  An origin that says no is believed until
        then too, as long as it has not given a single segment.
        """
        self._wide = True
        _pulse(self._room)

    def look_again(self) -> None:
        """Make use of an allowance that has grown."""
        _pulse(self._room)
        _pulse(self._credit)

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
                    for place in self._line:
                        if place.task is not None:
                            place.task.cancel()
        finally:
            self._line.clear()
            self._buffered_bytes = 0
            if isinstance(segments, AsyncGenerator):
                await segments.aclose()
        if failure is not None:
            raise failure

    # -- who may be requested ----------------------------------------------------------------------

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
                place = _Place(segment)
                place.task = group.create_task(self._fetch(place, sink))
                self._line.append(place)
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
        flying = sum(not place.fetched for place in self._line)
        if not self._wide or flying >= self._settings.parallel_segments:
            return False
        if len(self._line) >= MAX_LINE:
            return False
        head, *others = self._line
        claimed = head.buffered_bytes + self._guess_bytes  # for the next one
        for place in others:
            expected = 0 if place.fetched else place.length_bytes or self._guess_bytes
            claimed += max(place.buffered_bytes, expected)
        return claimed <= self._allowance()

    # -- the head of the line ----------------------------------------------------------------------

    async def _hand_over(self, sink: Sink) -> None:
        """Serve the head of the line until there is no line any more."""
        while True:
            while not self._line:
                if self._fed:
                    if self._feed_error is not None:
                        raise self._feed_error
                    return
                await self._queued.wait()
            place = self._line[0]
            if place.error is None:
                await self._serve(place, sink)
            if place.lost and self._skip_lost:
                self._free(place, place.buffered_bytes)
                await sink.lost(place.segment)
            elif place.error is not None:
                raise place.error
            else:
                if not place.begun:
                    await sink.begin(place.segment)
                await sink.end(place.segment)
            self._line.popleft()
            _pulse(self._room)

    async def _serve(self, place: _Place, sink: Sink) -> None:
        """Hand over what there is of a segment, and let its task hand over the rest."""
        while place.buffer:
            chunk = place.buffer.popleft()
            self._free(place, len(chunk))
            await self._write(place, chunk, sink)
        place.direct = True
        _pulse(self._credit)
        assert place.task is not None
        await asyncio.wait([place.task])

    async def _write(self, place: _Place, chunk: bytes, sink: Sink) -> None:
        if not place.begun:
            place.begun = True
            await sink.begin(place.segment)
        await sink.write(chunk)

    def _free(self, place: _Place, size_bytes: int) -> None:
        place.buffered_bytes -= size_bytes
        self._buffered_bytes -= size_bytes
        if self._buffered_bytes <= self._allowance() // 2:  # not for every chunk
            _pulse(self._credit)

    # -- one segment -------------------------------------------------------------------------------

    async def _fetch(self, place: _Place, sink: Sink) -> None:
        """Fetch one segment; its error is kept for its turn."""
        transfer = Transfer(
            self._fetcher,
            place.segment,
            take=partial(self._take, place, sink),
            forget=partial(self._forget, place),
            patient=lambda: self._wide or self._arrived,
            read_bytes=self._read_bytes,
            on_length=partial(self._learn_length, place),
            tell=self._tell,
            renewal=self._renewal,
            habits=self._habits,
        )
        try:
            await transfer.run()
            self._arrived = True
            if self._renewal is not None:
                self._renewal.arrived()
            self._learn_length(place, transfer.received_bytes)
        except _SinkFailed as failed:
            place.error = failed.error
        except Exception as error:  # noqa: BLE001 - raised by `deliver`, in its turn
            place.error = error.with_traceback(None)  # frames and what they hold wait in no cycle
            place.lost = isinstance(error, _LOST)
        finally:
            place.fetched = True
            _pulse(self._room)

    async def _take(self, place: _Place, sink: Sink, chunk: bytes) -> None:
        self._taken_bytes += len(chunk)
        if place.direct:
            try:
                await self._write(place, chunk, sink)
            except Exception as error:
                raise _SinkFailed(error) from error
            return
        place.buffer.append(chunk)
        place.buffered_bytes += len(chunk)
        self._buffered_bytes += len(chunk)
        while self._over_allowance(place):
            await self._credit.wait()

    def _read_bytes(self) -> int:
        """By how much is read: see `Body.read`."""
        if self._taken_bytes < EAGER_BYTES:
            return 0
        return LONG_READ_BYTES if self._allowance() >= DEEP_BYTES else READ_BYTES

    def _over_allowance(self, place: _Place) -> bool:
        return not place.direct and self._buffered_bytes >= self._allowance()

    def _forget(self, place: _Place) -> bool:
        """Drop what is buffered, unless the sink has seen some of it."""
        if place.begun:
            return False
        place.buffer.clear()
        self._free(place, place.buffered_bytes)
        return True

    def _learn_length(self, place: _Place, length_bytes: int) -> None:
        place.length_bytes = self._guess_bytes = length_bytes
        _pulse(self._room)

    def _tell(self, event: FetchEvent) -> None:
        if self._on_event is not None:
            self._on_event(event)


def _pulse(event: asyncio.Event) -> None:
    event.set()
    event.clear()
