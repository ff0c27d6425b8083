"""A stream on its way to one client, and the one log line that tells how it ended.

`Delivery` is what a face iterates and closes; `Record` is its account from the request on until it
is closed (kept also for requests that never came to a first byte).  Both belong to one request's
handler on the event loop.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from proxy.admission import Slot
from proxy.diagnosis import RootCause, diagnose
from proxy.errors import Forbidden, ProxyError, Stopped, StreamAborted, StreamTooLong
from proxy.events import ClientStalled, Ended, Opened, OriginStalled, Trail
from proxy.tracing import Trace
from proxy.verdicts import CALM, CLIENT_GONE, COMPLETE

__all__ = ["Delivery", "Outcome", "Record", "Stream"]

logger = logging.getLogger(__name__)

_SENTENCES = frozenset({"reason", "root_cause"})
_QUIET = CALM | {Stopped.code}  # what nobody has to be woken for

# A pause that is worth a record.  A player whose buffer is full takes nothing for a while, and a
# live source has nothing new for as long as a segment is.
CLIENT_STALL_S = 5.0
ORIGIN_STALL_S = 10.0


class Stream(Protocol):
    """What is needed of a `pipeline.MediaStream`."""

    @property
    def codecs(self) -> str: ...
    @property
    def duration_s(self) -> float | None: ...
    @property
    def start_s(self) -> float: ...
    @property
    def media_s(self) -> float: ...
    @property
    def held_bytes(self) -> int: ...
    @property
    def ring_bytes(self) -> int: ...
    @property
    def ring_capacity_bytes(self) -> int: ...
    @property
    def share_bytes(self) -> int: ...
    @property
    def timings(self) -> tuple[tuple[str, float], ...]: ...
    @property
    def tally(self) -> Mapping[str, int]: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a request for a stream ended."""

    stream: str  # its id
    outcome: str  # one of CALM, or an error's code
    status: int  # what the client was answered; 0: it left before that
    bytes: int  # handed to the face
    ttfb_s: float | None  # from the request to the first fragment in hand
    elapsed_s: float
    client: str
    route: str  # the path that was asked for, where it is one of `[[routes]]`
    url: str  # redacted
    reason: str  # of a failure, for the log alone
    left_out: Mapping[str, int]  # packets and segments that are not in the output, by reason
    root_cause: RootCause
    trace_id: str = ""  # of the trace that the request belongs to
    span_id: str = ""

    def __str__(self) -> str:
        told: dict[str, object] = asdict(self) | {"root_cause": ""}
        if self.outcome not in CALM:
            told["root_cause"] = f"{self.root_cause.layer}: {self.root_cause.summary}"
        return "stream " + " ".join(
            f"{name}={json.dumps(value) if name in _SENTENCES else value}"
            for name, value in told.items()
            if value not in ("", None, {})
        )


class Record:
    """The account of one stream while it lives.  The first reason given for its end stands.

    Made by the task that answers the request, which is the one that `stop` interrupts.

    Args:
        trail: what happens to it; its id is the stream's.
        client: who asked, as `admission` names them.
        trace: what the request belongs to.
        on_close: is told when it is over.
    """

    def __init__(
        self,
        trail: Trail,
        *,
        client: str = "",
        trace: Trace | None = None,
        on_close: Callable[[Record], None] | None = None,
    ) -> None:
        self.id = trail.id
        self.trail = trail
        self.url = ""  # redacted; empty while it is not known to be an address
        self.route = ""  # the path that was asked for, where it is one of `[[routes]]`
        self.slot: Slot | None = None
        self.bytes = 0
        self.ttfb_s: float | None = None
        self.ended = asyncio.Event()
        self._client = client
        self._trace = trace
        self._on_close = on_close
        self._status = 0
        self._began_s = time.time()
        self._started_s = time.monotonic()
        self._outcome = ""
        self._reason = ""
        self._error: ProxyError | None = None
        self._stream: Stream | None = None
        self._codecs: str | None = None
        self._duration_s: float | None = None
        self._media_s = 0.0
        self._left_out: Mapping[str, int] = {}
        self._elapsed_s: float | None = None  # None: it goes on
        self._cause: RootCause | None = None
        self._task = asyncio.current_task()

    @property
    def stopped(self) -> bool:
        """Whether the operator has ended it."""
        return self._outcome == Stopped.code

    def opened(self, stream: Stream) -> float:
        """Note that the first fragment is in hand; returns the seconds that took."""
        self._stream = stream
        self._codecs, self._duration_s = stream.codecs, stream.duration_s
        self._status = 200
        self.ttfb_s = self.elapsed_s
        self.trail.note(Opened(ttfb_s=self.ttfb_s))
        return self.ttfb_s

    def end(self, outcome: str, *, reason: str = "", status: int | None = None) -> None:
        if not self._outcome:
            self._outcome, self._reason = outcome, reason
            self._status = self._status if status is None else status

    def fail(self, error: ProxyError) -> None:
        """It ends in `error`: as a status when nothing was promised yet, as a cut otherwise."""
        if not self._outcome:
            self._error = error
        self.end(error.code, reason=str(error), status=self._status or error.status)

    def stop(self) -> None:
        """End it for the operator: its client sees an error, or a cut."""
        if not self._outcome and self._task is not None:
            self.fail(Stopped())
            self._task.cancel()

    def close(self) -> None:
        """Free the slot and log the outcome; without a reason given, the client left."""
        if self.slot is not None:
            self.slot.release()
        self.end(CLIENT_GONE)
        self._elapsed_s = self.elapsed_s
        if self._stream is not None:
            self._media_s, self._left_out = self._stream.media_s, self._stream.tally
            self._stream = None  # and all that it holds
        self._task = None
        error = self._error
        self.trail.note(
            Ended(
                outcome=self._outcome,
                status=self._status,
                elapsed_s=self._elapsed_s,
                told=_beyond_its_code(error) if error is not None else "",
                upstream_status=error.upstream_status if error is not None else None,
                rule=error.rule if isinstance(error, Forbidden) else "",
            )
        )
        trail = self.trail
        self._cause = diagnose(self._outcome, trail.entries, skipped=trail.skipped)
        self._log(self._cause)
        if self._on_close is not None:
            self._on_close(self)
        self.ended.set()

    def _log(self, cause: RootCause) -> None:
        outcome = Outcome(
            stream=self.id,
            outcome=self._outcome,
            status=self._status,
            bytes=self.bytes,
            ttfb_s=self.ttfb_s,
            elapsed_s=self.elapsed_s,
            client=self._client,
            route=self.route,
            url=self.url,
            reason=self._reason,
            left_out=self._left_out,
            root_cause=cause,
            trace_id=self._trace.trace_id if self._trace else "",
            span_id=self._trace.span_id if self._trace else "",
        )
        calm = (
            self._outcome in _QUIET
            or self._status in range(400, 500)
            or self.slot is None  # refused, as it is meant to be when there is no room
        )
        level = logging.INFO if calm else logging.WARNING
        fields = asdict(outcome)
        if self._trace is None:
            del fields["trace_id"], fields["span_id"]
        logger.log(level, "%s", outcome, extra={"fields": fields})

    @property
    def opening(self) -> bool:
        """Whether its first fragment is still awaited."""
        return self.ttfb_s is None

    @property
    def held_bytes(self) -> int:
        """Bytes of media in all its buffers."""
        return self._stream.held_bytes if self._stream is not None else 0

    @property
    def ring_bytes(self) -> int:
        return self._stream.ring_bytes if self._stream is not None else 0

    @property
    def ring_capacity_bytes(self) -> int:
        return self._stream.ring_capacity_bytes if self._stream is not None else 0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the request, or until the end."""
        if self._elapsed_s is not None:
            return self._elapsed_s
        return round(time.monotonic() - self._started_s, 4)

    def state(self) -> dict[str, Any]:
        """Return what may be told of it to whoever has its id."""
        stream, trail = self._stream, self.trail
        over = self._elapsed_s is not None
        left_out = stream.tally if stream is not None else self._left_out
        return {
            "id": self.id,
            "phase": "ended" if over else "opening" if self.opening else "streaming",
            "outcome": self._outcome if over else None,
            "status": self._status,
            # Where a route leads is for the log: whoever plays it has this id, and is not to know.
            "url": self.route or self.url,
            "started_at": _rfc3339(self._began_s),
            "elapsed_s": self.elapsed_s,
            "ttfb_s": self.ttfb_s,
            "live": trail.live,
            "duration_s": self._duration_s,
            "codecs": self._codecs,
            "bytes_in": trail.bytes_in,
            "bytes_out": self.bytes,
            "media_s": round(stream.media_s if stream is not None else self._media_s, 3),
            "segments": {
                "fetched": trail.fetched,
                "retried": trail.retried,
                "skipped": trail.skipped,
            },
            "buffer": {
                "bytes": self.held_bytes,
                "capacity_bytes": stream.share_bytes if stream is not None else 0,
            },
            "client_stalls": trail.client_stalls,
            "left_out": dict(left_out),
            "root_cause": asdict(self._cause) if self._cause is not None else None,
        }


def _beyond_its_code(error: ProxyError) -> str:
    """What an error tells the client that its code does not: a sentence, or nothing."""
    more = error.detail.removeprefix(error.public.removesuffix(".")).lstrip(".: ")
    return more[:1].upper() + more[1:]


def _rfc3339(time_s: float) -> str:
    moment = datetime.fromtimestamp(time_s, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Delivery:
    """Async iterator of the whole parts of a stream; counts them, and tells the outcome once.

    A face iterates it, cuts the connection when that raises `StreamAborted`, and awaits `aclose`
    in a `finally`, whatever happened.  `limit_s`: seconds after which it breaks; 0: never.
    """

    def __init__(self, stream: Stream, record: Record, *, limit_s: float = 0.0) -> None:
        self._limit_s = limit_s
        self._ends_s = time.monotonic() + limit_s if limit_s else math.inf
        self._stream = stream
        self._parts = aiter(stream)
        self._record = record
        self._closing: asyncio.Task[None] | None = None
        self._given_s: float | None = (
            None  # when the client was given a part that it may still take
        )
        self._asked_s: float | None = None  # when it asked for the part that is awaited

    def __aiter__(self) -> Delivery:
        return self

    async def __anext__(self) -> bytes:
        """Return the next part.

        Raises:
            StreamAborted: the stream broke; the connection must be cut.
        """
        now_s = time.monotonic()
        self._note_stalls(now_s)
        self._asked_s = now_s
        if now_s >= self._ends_s:  # parts that do not come have limits of their own
            too_long = StreamTooLong(f"more than {self._limit_s:g} s")
            self._record.fail(too_long)
            raise StreamAborted(too_long)
        try:
            part = await anext(self._parts)
        except StopAsyncIteration:
            self._note_stalls(time.monotonic())
            self._record.end(COMPLETE)
            raise
        except StreamAborted as aborted:
            self._note_stalls(time.monotonic())
            self._record.fail(aborted.cause)
            raise
        except Exception as error:
            logger.exception("a stream failed in a way nobody foresaw")
            failure = ProxyError(repr(error))
            self._record.fail(failure)
            raise StreamAborted(failure) from error
        self._record.bytes += len(part)
        now_s = time.monotonic()
        self._note_stalls(now_s)
        self._given_s = now_s
        return part

    def _note_stalls(self, now_s: float) -> None:
        """Note that the pause which ends now was a long one."""
        if self._given_s is not None and now_s - self._given_s >= CLIENT_STALL_S:
            self._record.trail.note(ClientStalled(seconds=round(now_s - self._given_s, 3)))
        if self._asked_s is not None and now_s - self._asked_s >= ORIGIN_STALL_S:
            self._record.trail.note(OriginStalled(seconds=round(now_s - self._asked_s, 3)))
        self._given_s = self._asked_s = None

    def give_up(self, outcome: str) -> None:
        """Name why the face is about to end it (`client_idle`, `shutdown`)."""
        self._record.end(outcome)

    async def aclose(self) -> None:
        """Stop the stream and free its slot; idempotent, and goes on if the caller is cancelled."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._note_stalls(time.monotonic())
        try:
            await self._stream.aclose()
            if isinstance(self._parts, AsyncGenerator):
                await self._parts.aclose()  # or the loop does it some time, in a task of its own
        except Exception:
            logger.exception("closing a stream failed")
        finally:
            self._record.close()
