"""Requests in, responses out, in a few small types of our own: what both faces translate to.

`App.handle` is the whole of it.  It raises nothing for what a request does wrong: every
`ProxyError` becomes an RFC 9457 problem with the error's status.  Nothing is promised before the
first fragment is in hand (`pipeline.open_stream`): after a 200 there is only the stream, or a cut.

What a face must do with a `Response` whose body is not bytes (a `Delivery`, or a `Feed`):
1. iterate it, writing each part and waiting until the client takes it;
2. cut the connection when iterating raises `StreamAborted`, and never end it politely;
3. await `aclose()` in a `finally`, whatever happened; a client that left is no error.

Runs on the event loop.  Knows neither aiohttp nor ASGI nor the configuration.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from proxy import admission, openapi, player, query, register, tracing
from proxy.admission import LOCAL, Admission
from proxy.delivery import Delivery, Record, Stream
from proxy.errors import (
    Forbidden,
    HttpVersionUnsupported,
    InvalidRequest,
    LoopDetected,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    ProxyError,
    Stopped,
    Unauthorized,
)
from proxy.events import Trail
from proxy.feed import Feed
from proxy.guard import bearer, signing
from proxy.guard.redaction import redact
from proxy.metrics import Metrics
from proxy.pipeline import StreamRequest
from proxy.register import Register
from proxy.routes import Match, Route, Routes
from proxy.state.census import Census
from proxy.state.commons import Boards
from proxy.verdicts import CLIENT_IDLE, HEAD, INSPECTED, SHUTDOWN

__all__ = [
    "CLIENT_IDLE",
    "LOCAL",
    "SHUTDOWN",
    "App",
    "Delivery",
    "Feed",
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

METHODS = ("GET", "HEAD")
READ_AND_DELETE = (*METHODS, "DELETE")
EXPOSED = (
    "X-Stream-Id, X-Start-Time, X-Content-Duration, Server-Timing, Retry-After, Content-Disposition"
)
PREFLIGHT_MAX_AGE_S = 7200  # Chromium keeps no preflight for longer
NO_RELAY = "This server opens its own paths only, and no address of yours."
RETRY_DRAINING_S = 5  # time for a load balancer to have noticed
FEEDS = 200  # clients that watch a stream, at a time and for each process: a socket and a task each

_ONE_STREAM = re.compile(r"/streams/([0-9a-f]{32})(/events)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    admission: admission.Settings = field(default_factory=admission.Settings)
    signing: signing.Settings = field(default_factory=signing.Settings)
    register: register.Settings = field(default_factory=register.Settings)
    operator_token: str = field(repr=False, default="")  # empty: nobody is the operator
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
    body: bytes | Delivery | Feed = b""


class Opener(Protocol):
    """What is needed of a `pipeline.Pipeline`."""

    async def open_stream(self, request: StreamRequest, trail: Trail, /) -> Stream: ...
    async def inspect(self, request: StreamRequest, trail: Trail, /) -> Mapping[str, Any]: ...


Handler = Callable[[Request, str], Awaitable[Response]]


class App:
    """Answers requests out of a pipeline, which belongs to whoever made it.

    Args:
        pipeline: what opens streams.
        settings: limits and how to answer.
        on_port: is told the port of each request: where we listen is no place to fetch from.
        census: who is running streams, where several processes are counted together.
        boards: where they show each other their streams.
        metrics: the figures of this server; default: of this process, from now on.
    """

    def __init__(
        self,
        pipeline: Opener,
        settings: Settings | None = None,
        *,
        on_port: Callable[[int], None] | None = None,
        census: Census | None = None,
        boards: Boards | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self._pipeline = pipeline
        self._on_port = on_port
        self._admission = Admission(self.settings.admission, census)
        self._signatures = signing.Signatures(self.settings.signing)
        self.register = Register(self.settings.register, boards)
        self._metrics = metrics if metrics is not None else Metrics()
        self._feeds = 0
        self._configured = Routes(self.settings.routes)
        self._own: dict[str, Handler] = {
            "/stream": self._stream,
            "/inspect": self._inspect,
            "/streams": self._all_streams,
            "/healthz": self._health,
            "/readyz": self._ready,
            openapi.PATH: self._describe,
            "/metrics": self._figures,
            "": self._beside_the_page,
            **dict.fromkeys(player.FILES, self._page),
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

    def look(self) -> None:
        """Take up in the metrics what streams hold; from time to time, where others ask for it."""
        self._metrics.look(self.register.running)

    async def idle(self) -> None:
        """Return as soon as no stream is running in this process."""
        await self._admission.idle()

    async def handle(self, request: Request) -> Response:
        """Answer one request; raises nothing but `CancelledError` (the client left meanwhile)."""
        stream_id = self._asked_for(request) or _new_id()
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
        response = _with_missing(response, *_common(stream_id))
        response = _with(response, *_cors(request, self.settings.cors_origins))
        return await _without_body(response) if request.method == "HEAD" else response

    async def _answer(self, request: Request, stream_id: str) -> Response:
        handler, methods = self._route(request)
        if request.method == "OPTIONS" and self.settings.cors_origins:
            return _preflight(methods)
        if request.method not in methods:
            raise MethodNotAllowed(
                detail=f"Only {', '.join(methods)} are answered here.", allow=methods
            )
        if request.header("transfer-encoding") or request.header("content-length").strip("0"):
            raise InvalidRequest(detail="A request must not have a body here.")
        return await handler(request, stream_id)

    def _route(self, request: Request) -> tuple[Handler, tuple[str, ...]]:
        """Return who answers, and which methods are answered."""
        path = _local_path(request)
        if path in self._own:
            return self._own[path], METHODS
        match = _ONE_STREAM.fullmatch(path)
        if match is not None:
            return (self._events, METHODS) if match[2] else (self._one_stream, READ_AND_DELETE)
        routed = self._configured.find(path)
        if routed is None:
            raise NotFound
        return partial(self._stream, routed=routed), METHODS

    # -- streams -----------------------------------------------------------------------------------

    async def _stream(
        self, request: Request, stream_id: str, routed: Match | None = None
    ) -> Response:
        record = self._begin(request, stream_id)
        opened = await _attempt(record, self._open(request, record, routed))
        if isinstance(opened, Response):
            return opened
        wish, stream = opened
        ttfb_s = record.opened(stream)
        self.register.opened(record)
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

    async def _open(
        self, request: Request, record: Record, routed: Match | None
    ) -> tuple[query.Wish, Stream]:
        if routed is not None:
            record.route = routed.shown
        if not request.abortable:
            raise HttpVersionUnsupported
        wish = self._admit(request, record, routed)
        return wish, await self._pipeline.open_stream(wish.stream, record.trail)

    async def _inspect(self, request: Request, stream_id: str) -> Response:
        record = self._begin(request, stream_id)

        async def look() -> Mapping[str, Any]:
            wish = self._admit(request, record)
            return await self._pipeline.inspect(wish.stream, record.trail)

        report = await _attempt(record, look())
        if isinstance(report, Response):
            return report
        record.end(INSPECTED, status=HTTPStatus.OK)
        record.close()
        return _json(report)

    def _begin(self, request: Request, stream_id: str) -> Record:
        """Open the account of a request for a stream, whatever will come of it."""
        record = Record(
            Trail(stream_id, hook=self._metrics.note),
            client=self._admission.client_of(request.peer, request.header("x-forwarded-for")),
            trace=tracing.parse(request.header("traceparent")),
            on_close=self._closed,
        )
        self.register.begin(record)
        return record

    def _closed(self, record: Record) -> None:
        self.register.end(record)
        self._metrics.sent(record.bytes)

    def _admit(self, request: Request, record: Record, routed: Match | None = None) -> query.Wish:
        """Check what is asked for, and take a slot for it."""
        if self.settings.via and self.settings.via in request.header("via"):
            raise LoopDetected
        wish = self._wish(request) if routed is None else self._wish_of(routed, request)
        record.url = redact(wish.stream.url)
        record.slot = self._admission.enter(request.peer, request.header("x-forwarded-for"))
        self.register.admitted(record)
        return wish

    def _wish(self, request: Request) -> query.Wish:
        if not self.settings.relay:
            raise Forbidden("no address may be named here", detail=NO_RELAY, rule="host")
        self._signatures.check(request.query_string, now_s=time.time())
        return query.parse(request.query_string)

    def _wish_of(self, routed: Match, request: Request) -> query.Wish:
        self._signatures.check(
            request.query_string,
            now_s=time.time(),
            path=routed.path,
            required=routed.route.require_signature,
        )
        return routed.wish(request.query_string)

    # -- the state of streams ----------------------------------------------------------------------

    async def _all_streams(self, request: Request, _stream_id: str) -> Response:
        self._check_operator(request)
        return _json({"streams": self.register.all()})

    async def _one_stream(self, request: Request, stream_id: str) -> Response:
        if request.method == "DELETE":
            self._check_operator(request)
            if not await self.register.stop(stream_id):
                raise NotFound
            return Response(status=HTTPStatus.NO_CONTENT, headers=())
        return _json(self._state(stream_id))

    async def _events(self, _request: Request, stream_id: str) -> Response:
        state = self._state(stream_id)
        if self._feeds >= FEEDS:
            raise Overloaded(f"{FEEDS} clients watch streams")
        self._feeds += 1
        headers = (
            ("Content-Type", "text/event-stream"),
            ("X-Accel-Buffering", "no"),  # nginx would wait for more
        )
        feed = Feed(stream_id, state, self.register, on_close=self._feed_closed)
        return Response(status=HTTPStatus.OK, headers=headers, body=feed)

    def _feed_closed(self) -> None:
        self._feeds -= 1

    def _state(self, stream_id: str) -> dict[str, Any]:
        state = self.register.find(stream_id)
        if state is None:
            raise NotFound
        return state

    def _asked_for(self, request: Request) -> str | None:
        """Return the id of the stream that a request asks about."""
        match = _ONE_STREAM.fullmatch(_local_path(request))
        return match[1] if match else None

    def _check_operator(self, request: Request) -> None:
        if not self.settings.operator_token:
            raise NotFound
        try:
            bearer.check(self.settings.operator_token, request.header("authorization"))
        except Unauthorized:
            self._metrics.refused("operator_token")
            raise

    # -- the server --------------------------------------------------------------------------------

    async def _health(self, _request: Request, _stream_id: str) -> Response:
        return _json({"status": "ok", "streams": self._admission.total})

    async def _figures(self, _request: Request, _stream_id: str) -> Response:
        self.look()
        kind, body = self._metrics.text()
        headers = (("Content-Type", kind), ("Content-Length", str(len(body))))
        return Response(status=HTTPStatus.OK, headers=headers, body=body)

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

    async def _page(self, request: Request, _stream_id: str) -> Response:
        file = player.FILES[_local_path(request)]
        headers = (*player.HEADERS, ("ETag", file.etag))
        if file.etag in request.header("if-none-match"):  # quotes and all, so it is one of them
            return Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        length = ("Content-Length", str(len(file.body)))
        kind = ("Content-Type", file.content_type)
        return Response(status=HTTPStatus.OK, headers=(kind, length, *headers), body=file.body)

    async def _beside_the_page(self, request: Request, _stream_id: str) -> Response:
        """Answer what lacks the slash behind the base path: addresses in the page need it."""
        folder = quote(request.base.rpartition("/")[2])  # relative, whatever is in front of us
        headers = (("Location", f"{folder}/"), ("Content-Length", "0"))
        return Response(status=HTTPStatus.PERMANENT_REDIRECT, headers=headers)


def malformed() -> Response:
    """Return the answer to what never became a request."""
    stream_id = _new_id()
    error = InvalidRequest(detail="This is no well-formed HTTP request.")
    return _with(_problem(error, stream_id), *_common(stream_id))


def _new_id() -> str:
    """Return 128 random bits as hex: whoever holds the id of a stream may ask about it."""
    return secrets.token_hex(16)


def _local_path(request: Request) -> str:
    """Return what of the path is ours to know; "*", which is no path, for what is beside `base`."""
    return request.path.removeprefix(request.base) if request.path.startswith(request.base) else "*"


def _common(stream_id: str) -> Headers:
    return (
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Stream-Id", stream_id),
    )


def _with(response: Response, *headers: tuple[str, str]) -> Response:
    return replace(response, headers=(*response.headers, *headers))


def _with_missing(response: Response, *headers: tuple[str, str]) -> Response:
    told = {name for name, _ in response.headers}
    return _with(response, *(header for header in headers if header[0] not in told))


async def _attempt(record: Record, work: Awaitable[_T]) -> _T | Response:
    """Await `work`; where it fails, close the record and return the answer that says so."""
    try:
        return await work
    except ProxyError as error:
        failure = error
    except Exception as error:
        logger.exception("a request failed in a way nobody foresaw")
        failure = ProxyError(repr(error))
    except BaseException:
        record.close()
        if record.stopped and (task := asyncio.current_task()) is not None:
            task.uncancel()  # it was the operator, and the client is to be told
            return _problem(Stopped(), record.id)
        raise  # cancelled: the client left
    record.fail(failure)
    record.close()
    return _problem(failure, record.id)


async def _without_body(response: Response) -> Response:
    """Turn the answer to a GET into that to a HEAD; leaves nothing running."""
    if not isinstance(response.body, bytes):
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
        response = _with(response, ("Allow", ", ".join(error.allow)))  # RFC 9110, section 15.5.6
    if isinstance(error, Unauthorized):
        response = _with(response, ("WWW-Authenticate", bearer.CHALLENGE))
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


def _preflight(methods: tuple[str, ...]) -> Response:
    # No credentials are involved, so that `*` is any header but Authorization, which must be named
    # (Fetch, section 4.9): the operator's token is sent in it.
    headers = (
        ("Access-Control-Allow-Methods", ", ".join(methods)),
        ("Access-Control-Allow-Headers", "*, Authorization"),
        ("Access-Control-Max-Age", str(PREFLIGHT_MAX_AGE_S)),
    )
    return Response(status=HTTPStatus.NO_CONTENT, headers=headers)
