"""What happens to a stream, as frozen records, and the trail that keeps them with their times.

One record for each segment or rarer, never one for a chunk or a packet.  They carry numbers, codes
and words of ours, no addresses and no texts of the source: safe for logs, metrics and whoever may
read the state of a stream.

A `Trail` belongs to one request from its arrival on, and its id is the stream's.  It counts, keeps
the first and the last records (a stream may run for weeks), and tells a hook about each.  All of it
happens on the event loop.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "ClientStalled",
    "Ended",
    "Entry",
    "Event",
    "FetchEvent",
    "Hook",
    "Opened",
    "OriginStalled",
    "Planned",
    "SegmentDone",
    "SegmentFailed",
    "SegmentRetried",
    "SegmentSkipped",
    "SegmentStarted",
    "Trail",
]

# How many records a trail keeps: enough to tell how it began and what led to its end.  With the
# texts that come of them a few KiB for each stream.
FIRST = 8
LAST = 16
LAST_ROUTINE = 4  # of those that say that all is well


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of the family: `name` is for programs, `detail` for people."""

    name: ClassVar[str] = ""
    routine: ClassVar[bool] = False

    @property
    def detail(self) -> str:
        """What happened, in words."""
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned(Event):
    """The playlists were read, and it is chosen what to fetch."""

    name: ClassVar[str] = "planned"
    live: bool
    elapsed_s: float  # from the first request for a playlist

    @property
    def detail(self) -> str:
        kind = "live" if self.live else "on demand"
        return f"the playlists were read in {self.elapsed_s:.3g} s; it is {kind}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened(Event):
    """The first fragment is in hand."""

    name: ClassVar[str] = "opened"
    ttfb_s: float  # from the request

    @property
    def detail(self) -> str:
        return f"the first fragment was there after {self.ttfb_s:.3g} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentStarted(Event):
    """A segment is about to be requested for the first time."""

    name: ClassVar[str] = "segment_started"
    routine: ClassVar[bool] = True
    sequence: int  # its Media Sequence Number

    @property
    def detail(self) -> str:
        return f"segment {self.sequence} is requested"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRetried(Event):
    """An attempt failed, and there will be another."""

    name: ClassVar[str] = "segment_retried"
    sequence: int
    attempt: int  # the one that failed, from 1
    code: str  # of the error, as in `ProxyError.code`
    upstream_status: int | None
    received_bytes: int  # that are kept: the next attempt goes on behind them
    pause_s: float  # until the next attempt

    @property
    def detail(self) -> str:
        return (
            f"segment {self.sequence}: attempt {self.attempt} failed "
            f"({_trouble(self.code, self.upstream_status)}) with {self.received_bytes} bytes in "
            f"hand; another one in {self.pause_s:.3g} s"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentDone(Event):
    """All of a segment has come (it may still wait for its turn to be delivered)."""

    name: ClassVar[str] = "segment_fetched"
    routine: ClassVar[bool] = True
    sequence: int
    size_bytes: int
    attempts: int
    ttfb_s: float  # request to headers, of the last attempt
    elapsed_s: float  # from the first attempt, pauses and backpressure included
    closed_early: bool  # nothing but the end of the connection ended it: it may be incomplete

    @property
    def detail(self) -> str:
        doubt = ", ended by nothing but the end of the connection" if self.closed_early else ""
        return (
            f"segment {self.sequence}: {self.size_bytes} bytes in {self.elapsed_s:.3g} s, "
            f"{_attempts(self.attempts)}{doubt}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFailed(Event):
    """A segment is given up."""

    name: ClassVar[str] = "segment_failed"
    sequence: int
    attempts: int
    code: str
    upstream_status: int | None
    elapsed_s: float = 0.0  # from the first attempt

    @property
    def detail(self) -> str:
        return (
            f"segment {self.sequence}: given up after {_attempts(self.attempts)} and "
            f"{self.elapsed_s:.3g} s ({_trouble(self.code, self.upstream_status)})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSkipped(Event):
    """Segments are left out of the output, since the client wants to go on without them."""

    name: ClassVar[str] = "segment_skipped"
    sequence: int | None  # of the one; None: several that a live playlist no longer has
    count: int
    duration_s: float

    @property
    def detail(self) -> str:
        if self.sequence is None:
            return f"{self.count} segments had left the playlist unseen; {self.duration_s:.3g} s"
        return f"segment {self.sequence}: left out, {self.duration_s:.3g} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStalled(Event):
    """The client took nothing for a while, though there was something to take."""

    name: ClassVar[str] = "client_stalled"
    seconds: float

    @property
    def detail(self) -> str:
        return f"the client took nothing for {self.seconds:.3g} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginStalled(Event):
    """There was nothing to hand to the client for a while."""

    name: ClassVar[str] = "origin_stalled"
    seconds: float

    @property
    def detail(self) -> str:
        return f"nothing came from the source for {self.seconds:.3g} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Event):
    """It is over."""

    name: ClassVar[str] = "ended"
    outcome: str  # as in the log
    status: int  # what the client was answered; 0: it left before that
    elapsed_s: float  # from the request
    told: str = ""  # what the client may be told of an error beyond what its code says
    upstream_status: int | None = None  # what the origin answered, where that was the trouble
    rule: str = ""  # of a guard that has refused it: for the operator alone

    @property
    def detail(self) -> str:
        words = f"after {self.elapsed_s:.3g} s: {_trouble(self.outcome, self.upstream_status)}"
        return f"{words}. {self.told}" if self.told else words


FetchEvent = SegmentStarted | SegmentRetried | SegmentDone | SegmentFailed


def _trouble(code: str, upstream_status: int | None) -> str:
    return code if upstream_status is None else f"{code}, HTTP status {upstream_status}"


def _attempts(count: int) -> str:
    return "1 attempt" if count == 1 else f"{count} attempts"


@dataclass(frozen=True, slots=True)
class Entry:
    """A record and when it was made: seconds since 1970."""

    time_s: float
    event: Event


class Trail:
    """What has happened to one stream so far.

    Args:
        hook: is told each record, after it is counted; must not raise.
        now: the time, in seconds since 1970.
    """

    __slots__ = (
        "_first",
        "_hook",
        "_last",
        "_now",
        "_routine",
        "bytes_in",
        "client_stalls",
        "fetched",
        "id",
        "live",
        "retried",
        "skipped",
    )

    def __init__(
        self,
        stream: str = "",
        *,
        hook: Hook | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.id = stream or secrets.token_hex(16)  # 128 random bits: who holds it may ask about it
        self.fetched = 0  # segments of which all has come
        self.retried = 0  # attempts that failed and were followed by another one
        self.skipped = 0  # segments that are left out
        self.client_stalls = 0
        self.bytes_in = 0  # of the segments that were fetched
        self.live: bool | None = None  # None: not known yet
        self._hook = hook
        self._now = now
        self._first: list[Entry] = []
        self._last: deque[Entry] = deque(maxlen=LAST)
        self._routine: deque[Entry] = deque(maxlen=LAST_ROUTINE)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What was kept, in the order in which it happened."""
        kept = [*self._first, *self._last, *self._routine]
        return tuple(sorted(kept, key=lambda entry: entry.time_s))

    def note(self, event: Event) -> None:
        """Take up what has happened."""
        self._count(event)
        if not isinstance(event, SegmentStarted):  # what comes of it is told soon
            self._keep(Entry(self._now(), event))
        if self._hook is not None:
            self._hook(event)

    def _count(self, event: Event) -> None:
        if isinstance(event, SegmentDone):
            self.fetched += 1
            self.bytes_in += event.size_bytes
        elif isinstance(event, SegmentRetried):
            self.retried += 1
        elif isinstance(event, SegmentSkipped):
            self.skipped += event.count
        elif isinstance(event, ClientStalled):
            self.client_stalls += 1
        elif isinstance(event, Planned):
            self.live = event.live

    def _keep(self, entry: Entry) -> None:
        if entry.event.routine:
            self._routine.append(entry)
        elif len(self._first) < FIRST:
            self._first.append(entry)
        else:
            self._last.append(entry)


Hook = Callable[[Event], None]
