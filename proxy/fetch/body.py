"""The body of one answer: chunks as they come, counted, paced, and complete or an error.

A `Body` belongs to whoever is inside `Fetcher.open`, on the event loop.  `read` gives the next
chunk and `b""` at the end; a body that is shorter than announced, larger than allowed or too slow
never reaches its end but raises.  Only time spent waiting for a chunk counts against the origin,
never time in which the consumer did not read.  One `await` per chunk and no task: the pace is
judged when a chunk arrives, and one timer per body looks for a wait that is too long.

The client's own read timeout cannot be used here: aiohttp 3.14 restarts it when resuming a
connection leads to its being paused again, or to its end, so that a consumer that stands still for
that long finds an error in place of what has come.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Literal

from proxy.fetch.connection import READ_BYTES, Connection
from proxy.fetch.faults import FOREIGN, TimedOut, Unavailable, What, too_large, translate
from proxy.guard.redaction import redact

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    import aiohttp

    from proxy.fetch.ranges import Part
    from proxy.fetch.settings import Settings

__all__ = ["Body", "Pace"]

# What is let to gather in the socket for a reader in no hurry, and for how long at most.  50
# streams at 4 Mbit/s, which come in pieces of 16 KiB: 13.0 → 9.9 ms of CPU per MB.
BATCH_BYTES = READ_BYTES
_BATCH_S = 0.5

MARKS_PER_WINDOW = 5  # how finely the window of the rate slides


class Pace:
    """The minimum rate, and the deadline, over time spent waiting.

    Any `window_s` of waiting must bring `rate_bytes_per_s`, where the first `grace_s` ask for
    nothing; all of the waiting must end within `deadline_s`.
    """

    def __init__(
        self,
        *,
        rate_bytes_per_s: float,
        window_s: float,
        grace_s: float,
        deadline_s: float | None = None,
    ) -> None:
        self._rate = rate_bytes_per_s
        self._window_s = window_s
        self._grace_s = grace_s
        self._deadline_s = deadline_s
        self._step_s = window_s / MARKS_PER_WINDOW
        self._waited_s = 0.0
        self._bytes = 0
        self._marks: deque[tuple[float, int]] = deque([(0.0, 0)])
        self._next_s = self._step_s

    def add(self, waited_s: float, received_bytes: int) -> str | None:
        """Count a chunk that took `waited_s`; say what is wrong, or `None`."""
        self._waited_s += waited_s
        self._bytes += received_bytes
        if self._waited_s < self._next_s:
            return None
        return self._judge()

    def _judge(self) -> str | None:
        now_s, marks = self._waited_s, self._marks
        self._next_s = now_s + self._step_s
        if self._deadline_s is not None and now_s > self._deadline_s:
            return f"not complete within {self._deadline_s:g} s of waiting"
        while len(marks) > 1 and marks[1][0] <= now_s - self._window_s:
            marks.popleft()
        since_s, since_bytes = marks[0]
        marks.append((now_s, self._bytes))
        if now_s - since_s < self._window_s:
            return None
        asked_bytes = self._rate * (now_s - max(since_s, self._grace_s))
        if self._bytes - since_bytes < asked_bytes:
            return f"slower than {self._rate:g} bytes/s over {now_s - since_s:.1f} s of waiting"
        return None


class Body:
    """What one GET brought: facts from its headers, then chunks.

    `offset` is where the chunks begin in the resource, or in the byte range, that was asked for:
    the wished offset, or 0 where the origin could not or would not continue there.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        *,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        what: What,
        max_bytes: int,
        deadline_s: float | None,
        ttfb_s: float,
        part: Part,
        validator: str | None,
    ) -> None:
        headers = response.headers
        self.url = str(response.url)  # after redirects
        self.content_type = headers.get("Content-Type", "")
        self.content_encoding = headers.get("Content-Encoding", "").strip().lower()
        self.ttfb_s = ttfb_s  # from the request, over redirects, to the headers
        self.length = part.length  # bytes that `read` will give; None: not announced
        self.total = part.total  # bytes of the whole resource (or range asked for), if known
        self.offset = part.offset
        self.validator = validator  # for If-Range: a strong ETag or a date; None: there is none
        self.received = 0  # bytes that `read` has given
        self.framing: Literal["length", "chunked", "close"] = "close"
        if "chunked" in headers.get("Transfer-Encoding", "").lower():
            self.framing = "chunked"
        elif "Content-Length" in headers:
            self.framing = "length"
        self._what = what
        self._content = response.content
        protocol = response.connection and response.connection.protocol  # None: all has come
        self._connection = protocol if isinstance(protocol, Connection) else None
        self._loop = loop
        self._timeout_s = settings.read_timeout_s
        self._waiting_since_s: float | None = None
        self._timer = loop.call_later(self._timeout_s, self._watch)
        self._max_bytes = max_bytes
        self._skip = part.skip  # bytes before a range that the origin sent all the same
        self._cut_at = part.length if part.cut else None  # there is more behind: not read
        self._pace = Pace(
            rate_bytes_per_s=settings.min_rate_bytes_per_s,
            window_s=settings.min_rate_window_s,
            grace_s=settings.min_rate_grace_s,
            deadline_s=deadline_s,
        )

    async def read(self, *, read_bytes: int = 0) -> bytes:
        """Wait for the next chunk; `b""` is the end, and then everything announced has come.

        `read_bytes`: by how much the socket is read from here on, and then some is left to gather
        in it first.  0: nothing gathers, and it is by `READ_BYTES`.  A chunk is what has come: of
        one read, or of several short ones together.

        Raises `SourceUnavailable`, `SourceTimeout`, or what `faults.too_large` gives.
        """
        chunk = await self._next(read_bytes)
        while self._skip and chunk:
            dropped = min(self._skip, len(chunk))
            self._skip -= dropped
            chunk = chunk[dropped:] or await self._next()
        self.received += len(chunk)
        if self._cut_at is not None and self.received > self._cut_at:
            chunk = chunk[: len(chunk) - (self.received - self._cut_at)]
            self.received = self._cut_at
        if self.received > self._max_bytes:
            message = f"{self._what} {redact(self.url)} is larger than {self._max_bytes} bytes"
            raise too_large(self._what, message)
        if not chunk and self.length is not None and self.received != self.length:
            raise Unavailable(
                f"{self._what} {redact(self.url)}: {self.received} of {self.length} bytes came"
            )
        return chunk

    async def _next(self, read_bytes: int = 0) -> bytes:
        if self._cut_at is not None and self.received == self._cut_at:
            return b""
        if self._content.is_eof():
            self._connection = None  # it may be another's by now
        gathering = self._gather() if read_bytes else None
        self._waiting_since_s = began_s = self._loop.time()
        if self._connection is not None:
            if gathering is None:
                self._connection.gather(1)
            self._connection.read_bytes = read_bytes or READ_BYTES
            self._connection.go_on()
        try:
            chunk = await self._content.readany()
        except FOREIGN as error:
            raise translate(error, self.url, what=self._what) from None
        finally:
            self._waiting_since_s = None
            if gathering is not None:
                gathering.cancel()
        slow = self._pace.add(self._loop.time() - began_s, len(chunk))
        if slow is not None:
            raise TimedOut(f"{self._what} {redact(self.url)}: {slow}")
        return chunk

    def _gather(self) -> asyncio.TimerHandle | None:
        """Let bytes gather while we wait, as far as it is certain that they are to come."""
        connection = self._connection
        if connection is None or self.length is None:
            return None
        connection.gather(min(BATCH_BYTES, max(self.length - self.received, 1)))
        return self._loop.call_later(_BATCH_S, connection.gather, 1)

    def _watch(self) -> None:
        """End a wait that is too long; else look again when it would be, or might be."""
        now_s = self._loop.time()
        since_s = self._waiting_since_s
        if since_s is not None and now_s - since_s >= self._timeout_s:
            self._content.set_exception(TimeoutError())
        else:
            when_s = self._timeout_s + (now_s if since_s is None else since_s)
            self._timer = self._loop.call_at(when_s, self._watch)

    def close(self) -> None:
        """Stop watching; `Fetcher.open` calls it."""
        self._timer.cancel()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while chunk := await self.read():
            yield chunk
