"""A stream on its way to one client, and the one log line that tells how it ended.

`Delivery` is what a face iterates and closes; `Record` is its account from before the stream is
opened until it is closed (kept also for requests that never came to a first byte).  Both belong to
one request's handler on the event loop.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

from proxy.admission import Slot
from proxy.errors import ProxyError, StreamAborted, StreamTooLong

__all__ = ["Delivery", "Outcome", "Record", "Stream"]

logger = logging.getLogger(__name__)

# Ends that are nobody's failure; the rest are codes of errors.
COMPLETE, CLIENT_GONE, CLIENT_IDLE = "complete", "client_gone", "client_idle"
HEAD, INSPECTED, SHUTDOWN = "head", "inspected", "shutdown"
_CALM = frozenset({COMPLETE, CLIENT_GONE, CLIENT_IDLE, HEAD, INSPECTED, SHUTDOWN})


class Stream(Protocol):
    """What is needed of a `pipeline.MediaStream`."""

    @property
    def id(self) -> str: ...
    @property
    def codecs(self) -> str: ...
    @property
    def duration_s(self) -> float | None: ...
    @property
    def start_s(self) -> float: ...
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
    outcome: (
        str  # complete, client_gone, client_idle, head, inspected, shutdown, or an error's code
    )
    status: int  # what the client was answered; 0: it left before that
    bytes: int  # handed to the face
    ttfb_s: float | None  # from the request to the first fragment in hand
    elapsed_s: float
    client: str
    route: str  # the path that was asked for, where it is one of `[[routes]]`
    url: str  # redacted
    reason: str  # of a failure, for the log alone
    left_out: Mapping[str, int]  # packets and segments that are not in the output, by reason

    def __str__(self) -> str:
        shown = {name: value for name, value in asdict(self).items() if value not in ("", None, {})}
        return "stream " + " ".join(
            f"{name}={json.dumps(value) if name == 'reason' else value}"
            for name, value in shown.items()
        )


class Record:
    """The account of one stream while it lives.  The first reason given for its end stands."""

    def __init__(self, *, stream: str, url: str, slot: Slot, route: str = "") -> None:
        self.stream = stream
        self.left_out: Mapping[str, int] = {}
        self.bytes = 0
        self.ttfb_s: float | None = None
        self._url = url
        self._route = route
        self._slot = slot
        self._status = 0
        self._started_s = time.monotonic()
        self._outcome = ""
        self._reason = ""

    def opened(self, stream: Stream) -> float:
        """Note that the first fragment is in hand; returns the seconds that took."""
        self.stream = stream.id
        self._status = 200
        self.ttfb_s = self._elapsed_s()
        return self.ttfb_s

    def end(self, outcome: str, *, reason: str = "", status: int | None = None) -> None:
        if not self._outcome:
            self._outcome, self._reason = outcome, reason
            self._status = self._status if status is None else status

    def fail(self, error: ProxyError) -> None:
        """It ends in `error`: as a status when nothing was promised yet, as a cut otherwise."""
        self.end(error.code, reason=str(error), status=self._status or error.status)

    def close(self) -> None:
        """Free the slot and log the outcome; without a reason given, the client left."""
        self._slot.release()
        outcome = Outcome(
            stream=self.stream,
            outcome=self._outcome or CLIENT_GONE,
            status=self._status,
            bytes=self.bytes,
            ttfb_s=self.ttfb_s,
            elapsed_s=self._elapsed_s(),
            client=self._slot.client,
            route=self._route,
            url=self._url,
            reason=self._reason,
            left_out=self.left_out,
        )
        calm = outcome.outcome in _CALM or outcome.status in range(400, 500)
        level = logging.INFO if calm else logging.WARNING
        logger.log(level, "%s", outcome, extra={"fields": asdict(outcome)})

    def _elapsed_s(self) -> float:
        return round(time.monotonic() - self._started_s, 4)


class Delivery:
    """Async iterator of the whole parts of a stream; counts them, and tells the outcome once.

    A face iterates it, cuts the connection when that raises `StreamAborted`, and awaits `aclose`
    in a `finally`, whatever happened.  `limit_s`: seconds after which it breaks; 0: never.
    """

    def __init__(self, stream: Stream, record: Record, *, limit_s: float = 0.0) -> None:
        self.id = stream.id
        self._limit_s = limit_s
        self._ends_s = time.monotonic() + limit_s if limit_s else math.inf
        self._stream = stream
        self._parts = aiter(stream)
        self._record = record
        self._closing: asyncio.Task[None] | None = None

    def __aiter__(self) -> Delivery:
        return self

    async def __anext__(self) -> bytes:
        """Return the next part.

        Raises:
            StreamAborted: the stream broke; the connection must be cut.
        """
        if time.monotonic() >= self._ends_s:  # parts that do not come have limits of their own
            too_long = StreamTooLong(f"more than {self._limit_s:g} s")
            self._record.fail(too_long)
            raise StreamAborted(too_long)
        try:
            part = await anext(self._parts)
        except StopAsyncIteration:
            self._record.end(COMPLETE)
            raise
        except StreamAborted as aborted:
            self._record.fail(aborted.cause)
            raise
        except Exception as error:
            logger.exception("a stream failed in a way nobody foresaw")
            failure = ProxyError(repr(error))
            self._record.fail(failure)
            raise StreamAborted(failure) from error
        self._record.bytes += len(part)
        return part

    def give_up(self, outcome: str) -> None:
        """Name why the face is about to end it (`client_idle`, `shutdown`)."""
        self._record.end(outcome)

    async def aclose(self) -> None:
        """Stop the stream and free its slot; idempotent, and goes on if the caller is cancelled."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        try:
            await self._stream.aclose()
            self._record.left_out = self._stream.tally
            if isinstance(self._parts, AsyncGenerator):
                await self._parts.aclose()  # or the loop does it some time, in a task of its own
        except Exception:
            logger.exception("closing a stream failed")
        finally:
            self._record.close()
