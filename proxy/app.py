"""Requests in, responses out, in a few small types of our own: what both faces translate to.

`App.handle` is the whole of it.  It raises nothing for what a request does wrong: every
`ProxyError` becomes an RFC 9457 problem with the error's status.  Nothing is promised before the
first fragment is in hand (`pipeline.open_stream`): after a 200 there is only the stream, or a cut.

What a face must do with a `Response` whose body is a `Delivery`:
1. iterate it, writing each part and waiting until the client takes it;
2. cut the connection when iterating raises `StreamAborted`, and never end it politely;
3. await `aclose()` in a `finally`, whatever happened; a client that left is no error.

Runs on the event loop.  Knows neither aiohttp nor ASGI nor the configuration.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

from proxy import admission, openapi, query
from proxy.admission import LOCAL, Admission
from proxy.delivery import CLIENT_IDLE, HEAD, INSPECTED, SHUTDOWN, Delivery, Record, Stream
from proxy.errors import (
    Forbidden,
    HttpVersionUnsupported,
    InvalidRequest,
    LoopDetected,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    ProxyError,
)
from proxy.guard import signing
from proxy.guard.redaction import redact
from proxy.pipeline import StreamRequest
from proxy.routes import Match, Route, Routes
from proxy.state.census import Census

__all__ = [
    "CLIENT_IDLE",
    "LOCAL",
    "SHUTDOWN",
    "App",
    "Delivery",
    "Headers",
    "Opener",
    "Request",
    "Response",
    "Settings",
    "malformed",
]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
Headers = tuple[tuple[str, str], ...]
Handler = Callable[["Request", str], Awaitable["Response"]]

METHODS = ("GET", "HEAD")
EXPOSED = (
    "X-Stream-Id, X-Start-Time, X-Content-Duration, Server-Timing, Retry-After, Content-Disposition"
)
PREFLIGHT_MAX_AGE_S = 7200  # Chromium keeps no preflight for longer
NO_RELAY = "This server opens its own paths only, and no address of yours."
RETRY_DRAINING_S = 5  # time for a load balancer to have noticed


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    admission: admission.Settings = field(default_factory=admission.Settings)
    signing: signing.Settings = field(default_factory=signing.Settings)
    cors_origins: tuple[str, ...] = ()  # exact origins; "*" = any; empty = no CORS headers
    base_path: str = ""  # where a reverse proxy has put us, such as "/media"; no slash at its end
    idle_client_s: float = 60.0  # a client that takes nothing for so long is cut, by the face
    stream_s: float = 12 * 60 * 60.0  # the longest that one stream runs; 0: as long as it likes
    routes: tuple[Route, ...] = ()  # paths of the owner's, besides our own
    relay: bool = True  # whether /stream and /inspect open what a client names
    via: str = ""  # what our own requests carry in Via: one that comes with it has come back to us


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, whatever server it came through."""

    method: str
    path: str  # percent-decoded
    query_string: str = field(
        repr=False
    )  # raw, without the question mark; surrogates for non-UTF-8
    headers: Headers = field(repr=False)  # names in lower case
    peer: str  # address of the other end of the connection; `admission.LOCAL` for a unix socket
    base: str = ""  # the start of `path` that is not ours (base path, ASGI root_path)
    port: int | None = None  # of ours, at which it came in; None: a unix socket
    abortable: bool = True  # whether the face can show this client a cut as a cut

    def header(self, name: str) -> str:
        """Return the values of `name` (lower case), joined by commas; empty where there is none."""
        return ", ".join(value for key, value in self.headers if key == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    status: int
    headers: Headers
    body: bytes | Delivery = b""


class Opener(Protocol):
    """What is needed of a `pipeline.Pipeline`."""

    async def open_stream(self, request: StreamRequest, /) -> Stream: ...
    async def inspect(self, request: StreamRequest, /) -> Mapping[str, Any]: ...


class App:
    """Answers requests out of a pipeline, which belongs to whoever made it.

    Args:
        pipeline: what opens streams.
        settings: limits and how to answer.
        on_port: is told the port of each request: where we listen is no place to fetch from.
        census: who is running streams, where several processes are counted together.
    """

    def __init__(
        self,
        pipeline: Opener,
        settings: Settings | None = None,
        *,
        on_port: Callable[[int], None] | None = None,
        census: Census | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self._pipeline = pipeline
        self._on_port = on_port
        self._admission = Admission(self.settings.admission, census)
        self._signatures = signing.Signatures(self.settings.signing)
        self._configured = Routes(self.settings.routes)
        self._own: dict[str, Handler] = {
            "/stream": self._stream,
            "/inspect": self._inspect,
            "/healthz": self._health,
            "/readyz": self._ready,
            openapi.PATH: self._describe,
        }

    @property
    def active(self) -> int:
        """How many streams are running or being opened in this process."""
        return self._admission.active

    @property
    def draining(self) -> bool:
        return self._admission.draining

    def drain(self) -> None:
        """Answer 503 to /readyz and to new streams from now on; running ones are left alone."""
        self._admission.draining = True

    async def idle(self) -> None:
        """Return as soon as no stream is running in this process."""
        await self._admission.idle()

    async def handle(self, request: Request) -> Response:
        """Answer one request; raises nothing but `CancelledError` (the client left meanwhile)."""
        stream_id = _new_id()
        if self._on_port is not None and request.port is not None:
            self._on_port(request.port)
        try:
            response = await self._answer(request, stream_id)
        except ProxyError as error:
            logger.info("refused %s %s: %d %s", stream_id, request.path, error.status, error)
            response = _problem(error, stream_id)
        except Exception:
            logger.exception("a request failed in a way nobody foresaw")
            response = _problem(ProxyError(), stream_id)
        if isinstance(response.body, Delivery):
            stream_id = response.body.id
        response = _with(response, *_common(stream_id), *_cors(request, self.settings.cors_origins))
        return await _without_body(response) if request.method == "HEAD" else response

    async def _answer(self, request: Request, stream_id: str) -> Response:
        path = request.path.removeprefix(request.base)
        handler = self._own.get(path) or self._routed(path)
        if handler is None or not request.path.startswith(request.base):
            raise NotFound
        if request.method == "OPTIONS" and self.settings.cors_origins:
            return _preflight()
        if request.method not in METHODS:
            raise MethodNotAllowed
        if request.header("transfer-encoding") or request.header("content-length").strip("0"):
            raise InvalidRequest(detail="A request must not have a body here.")
        return await handler(request, stream_id)

    def _routed(self, path: str) -> Handler | None:
        match = self._configured.find(path)
        return None if match is None else partial(self._stream, match=match)

    async def _stream(
        self, request: Request, stream_id: str, match: Match | None = None
    ) -> Response:
        if not request.abortable:
            raise HttpVersionUnsupported
        wish, record = self._admit(request, stream_id, match)
        stream = await _attempt(record, self._pipeline.open_stream(wish.stream))
        if isinstance(stream, Response):
            return stream
        ttfb_s = record.opened(stream)
        headers = [
            ("Content-Type", f'video/mp4; codecs="{stream.codecs}"'),
            ("Accept-Ranges", "none"),
            ("X-Accel-Buffering", "no"),  # nginx would buffer to disk
            ("Server-Timing", _server_timing(*stream.timings, ("total", ttfb_s))),
        ]
        if stream.duration_s is not None:
            headers.append(("X-Content-Duration", f"{stream.duration_s:.3f}"))
        if wish.stream.start_s is not None:  # a picture at or before it, so that it can be decoded
            headers.append(("X-Start-Time", f"{stream.start_s:.3f}"))
        if wish.filename is not None:
            headers.append(("Content-Disposition", query.content_disposition(wish.filename)))
        body = Delivery(stream, record, limit_s=self.settings.stream_s)
        return Response(status=HTTPStatus.OK, headers=tuple(headers), body=body)

    async def _inspect(self, request: Request, stream_id: str) -> Response:
        wish, record = self._admit(request, stream_id)
        report = await _attempt(record, self._pipeline.inspect(wish.stream))
        if isinstance(report, Response):
            return report
        record.end(INSPECTED, status=HTTPStatus.OK)
        record.close()
        return _json(report)

    async def _health(self, _request: Request, _stream_id: str) -> Response:
        return _json({"status": "ok", "streams": self._admission.total})

    async def _ready(self, _request: Request, _stream_id: str) -> Response:
        if self.draining:
            raise Overloaded("draining", retry_after_s=RETRY_DRAINING_S)
        return _json({"status": "ready", "streams": self._admission.total})

    async def _describe(self, request: Request, _stream_id: str) -> Response:
        settings = self.settings
        return _json(
            openapi.document(
                base=request.base,
                paths=self._own,
                routes=settings.routes,
                relay=settings.relay,
                signed=settings.signing.required,
            )
        )

    def _admit(
        self, request: Request, stream_id: str, match: Match | None = None
    ) -> tuple[query.Wish, Record]:
        if self.settings.via and self.settings.via in request.header("via"):
            raise LoopDetected
        wish = self._wish(request) if match is None else self._wish_of(match, request)
        slot = self._admission.enter(request.peer, request.header("x-forwarded-for"))
        route = "" if match is None else match.shown
        record = Record(stream=stream_id, url=redact(wish.stream.url), route=route, slot=slot)
        return wish, record

    def _wish(self, request: Request) -> query.Wish:
        if not self.settings.relay:
            raise Forbidden("there is no one whom /stream may fetch from", detail=NO_RELAY)
        self._signatures.check(request.query_string, now_s=time.time())
        return query.parse(request.query_string)

    def _wish_of(self, match: Match, request: Request) -> query.Wish:
        self._signatures.check(
            request.query_string,
            now_s=time.time(),
            path=match.path,
            required=match.route.require_signature,
        )
        return match.wish(request.query_string)


def malformed() -> Response:
    """Return the answer to what never became a request."""
    stream_id = _new_id()
    error = InvalidRequest(detail="This is no well-formed HTTP request.")
    return _with(_problem(error, stream_id), *_common(stream_id))


def _new_id() -> str:
    """Return 128 random bits as hex: whoever holds the id of a stream may ask about it."""
    return secrets.token_hex(16)


def _common(stream_id: str) -> Headers:
    return (
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Stream-Id", stream_id),
    )


def _with(response: Response, *headers: tuple[str, str]) -> Response:
    return replace(response, headers=(*response.headers, *headers))


async def _attempt(record: Record, work: Awaitable[_T]) -> _T | Response:
    """Await `work`; where it fails, close the record and return the answer that says so."""
    try:
        return await work
    except ProxyError as error:
        failure = error
    except Exception as error:
        logger.exception("a request failed in a way nobody foresaw")
        failure = ProxyError(repr(error))
    except BaseException:  # cancelled: the client left
        record.close()
        raise
    record.fail(failure)
    record.close()
    return _problem(failure, record.stream)


async def _without_body(response: Response) -> Response:
    """Turn the answer to a GET into that to a HEAD; leaves nothing running."""
    if isinstance(response.body, Delivery):
        response.body.give_up(HEAD)
        await response.body.aclose()
    return replace(response, body=b"")


def _json(
    document: Mapping[str, Any], *, status: int = HTTPStatus.OK, kind: str = "json"
) -> Response:
    body = json.dumps(document, ensure_ascii=False, indent=2).encode() + b"\n"
    headers = (("Content-Type", f"application/{kind}"), ("Content-Length", str(len(body))))
    return Response(status=status, headers=headers, body=body)


def _problem(error: ProxyError, stream_id: str) -> Response:
    """Return the answer that tells `error`, as of RFC 9457.

    `code` and `stream` are extension members.  The type is about:blank, since `code` tells kinds
    apart, and so `title` is the phrase of the status (section 4.2.1).
    """
    document = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "stream": stream_id,
    }
    response = _json(document, status=error.status, kind="problem+json")
    if error.retry_after_s is not None:
        response = _with(response, ("Retry-After", str(error.retry_after_s)))
    if isinstance(error, MethodNotAllowed):
        response = _with(response, ("Allow", ", ".join(METHODS)))  # RFC 9110, section 15.5.6
    return response


def _server_timing(*timings: tuple[str, float]) -> str:
    return ", ".join(f"{name};dur={seconds * 1000:.1f}" for name, seconds in timings)


def _cors(request: Request, allowed: tuple[str, ...]) -> Headers:
    if not allowed:
        return ()
    origin = request.header("origin")
    vary: Headers = (("Vary", "Origin"),)
    if "*" in allowed:
        origin, vary = "*", ()
    elif origin not in allowed:
        return vary
    return (
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Expose-Headers", EXPOSED),
        ("Timing-Allow-Origin", origin),  # or Server-Timing stays hidden from scripts
        *vary,
    )


def _preflight() -> Response:
    headers = (
        ("Access-Control-Allow-Methods", ", ".join(METHODS)),
        ("Access-Control-Allow-Headers", "*"),  # no credentials are involved
        ("Access-Control-Max-Age", str(PREFLIGHT_MAX_AGE_S)),
    )
    return Response(status=HTTPStatus.NO_CONTENT, headers=headers)
