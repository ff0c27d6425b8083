"""Requests in, responses out (`message`): what both faces translate to.

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
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from proxy import admission, answers, openapi, player, query, register, tracing
from proxy.admission import LOCAL, Admission
from proxy.answers import malformed
from proxy.delivery import Delivery, Record, Stream
from proxy.enquiries import Enquiries
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
)
from proxy.events import Trail
from proxy.feed import Feed
from proxy.guard import signing
from proxy.guard.redaction import redact
from proxy.message import Headers, Request, Response
from proxy.metrics import Metrics
from proxy.pipeline import StreamRequest
from proxy.register import Register
from proxy.routes import Match, Route, Routes
from proxy.state.census import Census
from proxy.state.commons import Boards
from proxy.verdicts import CLIENT_IDLE, INSPECTED, SHUTDOWN

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

METHODS = ("GET", "HEAD")
DELETABLE = (*METHODS, "DELETE")
NO_RELAY = "This server opens its own paths only, and no address of yours."
RETRY_DRAINING_S = 5  # time for a load balancer to have noticed


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
        self._enquiries = Enquiries(
            self.register, self._metrics, operator_token=self.settings.operator_token
        )
        self._configured = Routes(self.settings.routes)
        self._own: dict[str, Handler] = {
            "/stream": self._stream,
            "/inspect": self._inspect,
            "/streams": self._enquiries.everything,
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
    def watchers(self) -> int:
        """How many clients are being told what becomes of a stream."""
        return self._enquiries.watchers

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
        asked = self._enquiries.about(_local_path(request))
        stream_id = asked[0] if asked else answers.new_id()
        if self._on_port is not None and request.port is not None:
            self._on_port(request.port)
        try:
            response = await self._answer(request, stream_id)
        except ProxyError as error:
            logger.info("refused %s %s: %d %s", stream_id, request.path, error.status, error)
            response = answers.problem(error, stream_id)
        except Exception:
            logger.exception("a request failed in a way nobody foresaw")
            response = answers.problem(ProxyError(), stream_id)
        response = answers.with_missing(response, *answers.common(stream_id))
        response = answers.with_headers(
            response, *answers.cors(request, self.settings.cors_origins)
        )
        return await answers.without_body(response) if request.method == "HEAD" else response

    async def _answer(self, request: Request, stream_id: str) -> Response:
        handler, methods = self._route(request)
        if request.method == "OPTIONS" and self.settings.cors_origins:
            return answers.preflight(methods)
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
        asked = self._enquiries.about(path)
        if asked is not None:
            return (
                (self._enquiries.events, METHODS) if asked[1] else (self._enquiries.one, DELETABLE)
            )
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
            ("Server-Timing", answers.server_timing(*stream.timings, ("total", ttfb_s))),
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
        return answers.as_json(report)

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

    # -- the server --------------------------------------------------------------------------------

    async def _health(self, _request: Request, _stream_id: str) -> Response:
        return answers.as_json({"status": "ok", "streams": self._admission.total})

    async def _figures(self, _request: Request, _stream_id: str) -> Response:
        self.look()
        kind, body = self._metrics.text()
        headers = (("Content-Type", kind), ("Content-Length", str(len(body))))
        return Response(status=HTTPStatus.OK, headers=headers, body=body)

    async def _ready(self, _request: Request, _stream_id: str) -> Response:
        if self.draining:
            raise Overloaded("draining", retry_after_s=RETRY_DRAINING_S)
        return answers.as_json({"status": "ready", "streams": self._admission.total})

    async def _describe(self, request: Request, _stream_id: str) -> Response:
        settings = self.settings
        return answers.as_json(
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


def _local_path(request: Request) -> str:
    """Return what of the path is ours to know; "*", which is no path, for what is beside `base`."""
    return request.path.removeprefix(request.base) if request.path.startswith(request.base) else "*"


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
            return answers.problem(Stopped(), record.id)
        raise  # cancelled: the client left
    record.fail(failure)
    record.close()
    return answers.problem(failure, record.id)
