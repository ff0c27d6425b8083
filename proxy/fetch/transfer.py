"""One segment over however many attempts: every byte once, in order, or an error.

An attempt that fails with bytes in hand is continued where it stopped (Range and If-Range, RFC 9110
section 13.1.5) if the origin gave a validator.  Without one the segment is fetched again, and what
is known of it is not taken twice but compared by its hashes.  Where it cannot be proved that the
second answer is the first one's resource, the segment has failed; only if nothing of it has left us
yet may it begin afresh.  An announced length that was too large is no loss: a 416 to the request
for the rest that names what has come as the size (RFC 9110 section 15.5.17) proves that it is all.

A body without a length that ends within a packet may have been cut by a cache in between, which
ended it politely (nginx does, towards HTTP/1.0 origins).  It is asked for once more, and believed
when it ends there again: some packagers cut across packets.

A refusal may mean that the address has expired: then the playlist is asked for another one, once,
and again only after something has come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from xxhash import xxh3_64_intdigest

from proxy.errors import ProxyError
from proxy.events import (
    FetchEvent,
    SegmentDone,
    SegmentFailed,
    SegmentRetried,
    SegmentStarted,
)
from proxy.fetch.body import Body
from proxy.fetch.client import Fetcher
from proxy.fetch.faults import Attempted, Unavailable
from proxy.fetch.renewal import Renewal, is_expired
from proxy.fetch.retry import is_retryable, retrying
from proxy.fetch.whole import Ending
from proxy.hls.model import Segment

__all__ = ["Habits", "Transfer"]

# An attempt that brought this much was no failure of the origin's to be counted: a connection that
# stood still for a slow client is closed by most servers after a minute.
PROGRESS_BYTES = 256 * 1024

# Answers that may change while a stream is under way: an edge that lags behind the playlist.
LATE_STATUSES = frozenset({401, 403, 404, 410})

RANGE_NOT_SATISFIABLE = 416  # RFC 9110 section 15.5.17


@dataclass(slots=True, kw_only=True)
class Habits:
    """What the transfers of one stream have learnt of its origin."""

    cuts_packets: bool = False  # its segments end within packets, and are whole


class Transfer:
    """Fetches one segment, by one `run`.

    `take` gets each new chunk; awaiting it is backpressure, and its errors end the run as they are
    (they must not be errors of an attempt).  `forget` takes back what was taken, or says that some
    of it has left already (`False`).  `patient` says whether an origin that refuses is asked again.
    `read_bytes` says by how much is read, as for `Body.read`.
    `renewal` knows the newest address; `None`: there is only the one.  `habits` is what the stream
    has learnt of its origin.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        segment: Segment,
        *,
        take: Callable[[bytes], Awaitable[None]],
        forget: Callable[[], bool],
        patient: Callable[[], bool],
        read_bytes: Callable[[], int],
        on_length: Callable[[int], None],
        tell: Callable[[FetchEvent], None],
        renewal: Renewal | None = None,
        habits: Habits | None = None,
    ) -> None:
        self._fetcher = fetcher
        self._segment = segment
        self._take = take
        self._forget = forget
        self._patient = patient
        self._read_bytes = read_bytes
        self._on_length = on_length
        self._tell = tell
        self._renewal = renewal
        self._renewed_at_bytes: int | None = None  # where the playlist was asked for an address
        self.received_bytes = 0  # taken
        self.total_bytes: int | None = None  # as announced
        self._validator: str | None = None  # with which the next attempt may go on
        self._no_rest = False  # the origin says there is none, but not that all has come
        # Size and hash of each chunk that was taken, if there is no validator.  Who would forge the
        # hash is the origin, whose bytes these are; what it costs is a few hundredths of a ms/MB
        # (a digest took 1.9, Python's own hash 0.25).
        self._marks: list[tuple[int, int]] | None = None
        self._ending = self._new_ending()  # of what was taken
        self._attempts = 0
        self._failures = 0  # in a row without progress
        self._ttfb_s = 0.0
        self._closed_early = False
        self._habits = habits or Habits()
        self._doubted_bytes: int | None = None  # what came when it seemed to be cut
        self._moved = False  # to another place, since the validator was given

    async def run(self) -> None:
        """Try until the segment is there; raises the error of the last attempt."""
        settings = self._fetcher.settings
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        self._tell(SegmentStarted(sequence=self._segment.sequence))
        try:
            async for attempt in retrying(
                settings,
                attempts=settings.segment_attempts,
                retryable=self._is_retryable,
                failures=lambda: self._failures,
                before_pause=self._tell_retry,
            ):
                with attempt:
                    await self._attempt()
        except ProxyError as error:
            self._tell(
                SegmentFailed(
                    sequence=self._segment.sequence,
                    attempts=self._attempts,
                    code=error.code,
                    upstream_status=_upstream_status(error),
                    elapsed_s=loop.time() - began_s,
                )
            )
            raise
        self._tell(
            SegmentDone(
                sequence=self._segment.sequence,
                size_bytes=self.received_bytes,
                attempts=self._attempts,
                ttfb_s=self._ttfb_s,
                elapsed_s=loop.time() - began_s,
                closed_early=self._closed_early,
            )
        )

    # -- one attempt -------------------------------------------------------------------------------

    async def _attempt(self) -> None:
        """All of the segment, or what is missing of it."""
        if self.received_bytes and self.received_bytes == self.total_bytes:
            return  # the last attempt broke off behind the last byte
        before_bytes = self.received_bytes
        try:
            await self._get_renewed()
        except ProxyError:
            progress_bytes = self.received_bytes - before_bytes
            self._failures = 1 if progress_bytes >= PROGRESS_BYTES else self._failures + 1
            raise

    async def _get_renewed(self) -> None:
        """One GET; a second one at once where the first one's address turns out to have expired."""
        renewal = self._renewal
        if renewal is None:
            return await self._get()
        self._move(renewal.current(self._segment))
        edition = renewal.edition
        try:
            return await self._get()
        except ProxyError as error:
            if not is_expired(error):
                raise
            if self._renewed_at_bytes == self.received_bytes:
                raise  # the last address from the playlist was no better
            self._renewed_at_bytes = self.received_bytes
            fresh = await renewal.renew(self._segment, edition)
            if fresh is None or fresh.uri == self._segment.uri:
                raise
            self._tell_retry(error, 0.0)
            self._move(fresh)
        return await self._get()

    async def _get(self) -> None:
        """One GET, of the rest where it can be told that it is one."""
        goes_on = self._validator is not None and not self._no_rest and self.received_bytes > 0
        try:
            await self._get_from(self.received_bytes if goes_on else 0)
        except Unavailable as error:
            if not goes_on or error.upstream_status != RANGE_NOT_SATISFIABLE:
                raise
            self._no_rest = True
            message = "segment: it has no rest, and nothing says that all of it came"
            raise Unavailable(message, upstream_status=error.upstream_status) from None

    async def _get_from(self, offset: int) -> None:
        least_s, most_s = self._fetcher.settings.segment_deadline_s
        self._attempts += 1
        async with self._fetcher.open(
            self._segment.uri,
            byte_range=self._segment.byte_range,
            offset=offset,
            validator=self._validator,
            deadline_s=min(most_s, max(least_s, 4 * self._segment.duration_s)),
        ) as body:
            self._ttfb_s = body.ttfb_s
            chunk = await self._take_up(body)
            while chunk:
                self.received_bytes += len(chunk)
                self._ending.feed(chunk)
                if self._marks is not None:
                    self._marks.append((len(chunk), xxh3_64_intdigest(chunk)))
                await self._take(chunk)
                chunk = await body.read(read_bytes=self._read_bytes())
            self._check_end(body)

    def _move(self, fresh: Segment) -> None:
        """Go on at another address.  An ETag may prove that the same is there, a date does not."""
        if _place(fresh.uri) != _place(self._segment.uri):
            self._moved = True
            if self._validator is not None and not self._validator.startswith('"'):
                self._validator = None
        self._segment = fresh

    async def _take_up(self, body: Body) -> bytes:
        """Find where the body goes on from what we have; return the first chunk that is new."""
        if body.offset:
            return await self._continue(body)
        if self.received_bytes and not self._forget():
            return await self._skip_known(body)
        self.received_bytes = 0
        self._moved = False
        self._validator, self.total_bytes = body.validator, body.total
        self._marks = [] if body.validator is None else None
        if body.total is not None:
            self._on_length(body.total)
        self._ending = self._new_ending()
        return await body.read()

    async def _continue(self, body: Body) -> bytes:
        """The rest came: it is ours if the validator says so, where it is told at all."""
        same = body.validator == self._validator or (body.validator is None and not self._moved)
        if self.total_bytes is None or (same and body.length == 0):  # 416: what came is all
            self.total_bytes = body.total
        if not same or body.total not in (None, self.total_bytes):
            self._start_again()
            raise Unavailable("segment: it changed between two attempts")
        return await body.read()

    async def _skip_known(self, body: Body) -> bytes:
        """The whole came again: read over what is known, and make sure that it is the same."""
        if self._marks is None and (self._validator is None or body.validator != self._validator):
            raise _changed()
        # A length that was wrong is no loss where all of the true one has come; any other change of
        # it is, since one of the two answers is short.
        if self.total_bytes is not None and body.total not in {
            None, self.total_bytes, self.received_bytes,
        }:  # fmt: skip
            raise Unavailable("segment: its length changed between two attempts")
        chunk = b""
        known: Sequence[tuple[int, int | None]] = self._marks or [(self.received_bytes, None)]
        for size, mark in known:
            chunk = await self._read_over(body, chunk, size, mark)
        chunk = chunk or await body.read()
        self._moved = False
        self._validator = body.validator
        if body.total is not None or self.total_bytes is None:
            self.total_bytes = body.total
        elif not chunk and body.framing != "close":
            self.total_bytes = self.received_bytes  # the length was wrong: twice, this was all
        return chunk

    async def _read_over(self, body: Body, chunk: bytes, size: int, mark: int | None) -> bytes:
        """Read the next `size` bytes, of which `chunk` is the beginning, and return what came
        behind them; `mark` is the hash that they must have."""
        known = bytearray()
        while len(chunk) < size:
            if mark is not None:
                known += chunk
            size -= len(chunk)
            chunk = await body.read()
            if not chunk:
                raise _changed()
        if mark is not None and xxh3_64_intdigest(bytes(known + chunk[:size])) != mark:
            raise _changed()
        return chunk[size:]

    def _start_again(self) -> None:
        """Forget all of it; what has left us cannot be taken back."""
        if not self._forget():
            raise _changed()
        self.received_bytes = 0
        self._validator = self.total_bytes = self._marks = None

    def _new_ending(self) -> Ending:
        return Ending(encrypted=self._segment.key is not None)

    def _check_end(self, body: Body) -> None:
        if self.total_bytes is not None and self.received_bytes != self.total_bytes:
            raise Unavailable(f"segment: {self.received_bytes} of {self.total_bytes} bytes came")
        self._closed_early = body.framing == "close" and self.total_bytes is None
        if not self._ending.is_cut:
            return
        if self._closed_early:
            raise Unavailable("segment: the connection ended within a packet, a box or a block")
        if self._doubted_bytes == self.received_bytes:
            self._habits.cuts_packets = True
        elif self.total_bytes is None and not self._habits.cuts_packets:
            self._doubted_bytes = self.received_bytes
            raise Unavailable("segment: it ends within a packet, a box or a block")

    # -- retries -----------------------------------------------------------------------------------

    def _is_retryable(self, error: BaseException) -> bool:
        if _upstream_status(error) in LATE_STATUSES:
            return self._patient()
        return is_retryable(error, self._fetcher.settings)

    def _tell_retry(self, error: BaseException, pause_s: float) -> None:
        assert isinstance(error, ProxyError)  # nothing else is retried
        self._tell(
            SegmentRetried(
                sequence=self._segment.sequence,
                attempt=self._attempts,
                code=error.code,
                upstream_status=_upstream_status(error),
                received_bytes=self.received_bytes,
                pause_s=pause_s,
            )
        )


def _changed() -> Unavailable:
    return Unavailable(
        "segment: it is not the one that was begun, or cannot be proved to be", retryable=False
    )


def _place(uri: str) -> str:
    """An address without its query, where tokens mostly are."""
    return uri.partition("?")[0]


def _upstream_status(error: BaseException) -> int | None:
    return error.upstream_status if isinstance(error, Attempted) else None
