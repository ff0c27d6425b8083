"""aiohttp.web ⇄ app: our own server, as `remuxd serve` runs it.

What aiohttp does not do by itself, and is done here:
1. Handlers are cancelled when their client leaves (`handler_cancellation`, off by default).
2. A connection that does not finish its request head within `HEADER_TIMEOUT_S` is closed.
3. A cut is a cut: over HTTP/1.1 the connection closes without the final chunk; over HTTP/1.0, where
   the end of the body *is* the close, it is reset (SO_LINGER 0), which nginx passes on and a plain
   close is not; so it is by the kernel, too, when this process dies.  A reset throws away what has
   not been taken yet, so it waits until all of it has; over 1.1, where a proxy may hold some too,
   none is used.
   A unix socket has no reset: there a stream is refused to HTTP/1.0 (`Request.abortable`).
4. A client that takes nothing for `idle_client_s` is cut.  So that taking a little is seen as such,
   and so that the kernel does not hold megabytes for each slow client, its queue of what was not
   sent yet is kept short.

Runs on the event loop; one task per connection, made by aiohttp.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import socket
import struct
import sys
import termios
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import HttpVersion10, http_writer, web
from aiohttp.http import HttpProcessingError

from proxy.app import (
    CLIENT_IDLE,
    LOCAL,
    SHUTDOWN,
    App,
    Delivery,
    Feed,
    Request,
    Response,
    malformed,
)
from proxy.errors import StreamAborted
from proxy.faces.acceptor import Acceptor
from proxy.faces.address import BACKLOG, bind, shown
from proxy.faces.patience import Patience
from proxy.faces.queue import UNSENT_BYTES

__all__ = ["Server", "listen", "serve"]

logger = logging.getLogger(__name__)

HEADER_TIMEOUT_S = 10.0  # imgproxy has 10 s for a whole request
KEEPALIVE_S = 75.0  # as nginx; aiohttp's default is an hour
PIECE_BYTES = 256 * 1024  # what a client must take within idle_client_s: 4.3 kB/s at 60 s
CLOSE_TIMEOUT_S = 1.0  # for short answers under way when the server closes; streams are cut before
UNTAKEN_POLL_S = 0.01
_RESET = struct.pack("ii", 1, 0)  # struct linger: on, 0 s
_CLOSE = struct.pack("ii", 0, 0)


class Server:
    """A listening server; `listen` and `serve` make and close it."""

    def __init__(
        self, app: App, addresses: tuple[str, ...], listeners: Sequence[asyncio.Server | Acceptor]
    ) -> None:
        self.addresses = addresses  # "http://127.0.0.1:8080", or "unix:" and a path
        self._app = app
        self._listeners = listeners

    def stop_listening(self) -> None:
        """Take no new connections, so that another server may have the address; keep the others."""
        for listener in self._listeners:
            listener.close()

    async def drain(self, timeout_s: float, *, now: asyncio.Event) -> None:
        """Refuse new streams; return when the running ones have ended, when `timeout_s` is over, or
        when `now` is set.  What still runs then is cut when the server closes."""
        self._app.drain()
        waits = [asyncio.ensure_future(self._app.idle()), asyncio.ensure_future(now.wait())]
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


@contextlib.asynccontextmanager
async def listen(
    app: App, *, host: str = "127.0.0.1", port: int = 0, unix_socket: str = ""
) -> AsyncIterator[Server]:
    """Serve `app` while the context is open; leaving it cuts what still runs.

    `host` "" means every interface, `port` 0 any free one; with `unix_socket`, a path, neither is
    used.

    Raises:
        OSError: the address cannot be had.
    """
    sockets = bind(host=host, port=port, unix_socket=unix_socket)
    try:
        async with serve(app, sockets) as server:
            yield server
    finally:
        if unix_socket:
            await asyncio.to_thread(Path(unix_socket).unlink, missing_ok=True)


@contextlib.asynccontextmanager
async def serve(
    app: App, sockets: Sequence[socket.socket], *, yields: Callable[[], bool] | None = None
) -> AsyncIterator[Server]:
    """As `listen`, on sockets that listen already; they are closed at the end.

    `yields` is given where other processes accept from them, too: see `Acceptor`.
    """
    loop = asyncio.get_running_loop()
    _write_without_copies(loop)
    addresses = tuple(map(shown, sockets))
    handler = _Handler(app)
    runner = web.ServerRunner(_HttpServer(handler), shutdown_timeout=CLOSE_TIMEOUT_S)
    await runner.setup()
    listeners: list[asyncio.Server | Acceptor] = []
    try:
        assert runner.server is not None
        for sock in sockets:
            if yields is not None:
                listeners.append(Acceptor(sock, runner.server, yields))
            else:  # unix sockets, too: this is the call that leaves their file alone
                listeners.append(
                    await loop.create_server(runner.server, sock=sock, backlog=BACKLOG)
                )
        yield Server(app, addresses, listeners)
    finally:
        for listener in listeners:
            listener.close()
        app.drain()
        await handler.cut_all()
        await runner.cleanup()


def _write_without_copies(loop: asyncio.AbstractEventLoop) -> None:
    """Let aiohttp hand over the pieces of a chunk as they are.

    It joins them under a Python whose own transports forget about flow control when they are given
    several (CVE-2024-12254); those of uvloop do not.
    """
    if type(loop).__module__ == "uvloop":
        http_writer.SKIP_WRITELINES = False


class _Handler:
    """Called by aiohttp for every request."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._running: dict[asyncio.Task[Any], Delivery | Feed] = {}
        self._cutting = False

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, _Connection)
        connection.head_arrived()
        try:
            response = await self._app.handle(self._translate(request))
            if isinstance(response.body, bytes):
                return _finish(web.Response(body=response.body), response, close=self._app.draining)
            return await self._deliver(request, response, response.body)
        finally:
            connection.answered()

    async def cut_all(self) -> None:
        """Cut every stream that runs, and return when their handlers have ended."""
        self._cutting = True
        for task, body in self._running.items():
            _end(task, body)
        if self._running:
            await asyncio.wait(list(self._running))

    def _translate(self, request: web.BaseRequest) -> Request:
        peer = request.remote or LOCAL
        return Request(
            method=request.method,
            path=request.path,
            query_string=request.raw_path.partition("#")[0].partition("?")[2],
            headers=tuple((name.lower(), value) for name, value in request.headers.items()),
            peer=peer,
            base=self._app.settings.base_path,
            port=_port(request),
            abortable=request.version > HttpVersion10 or peer != LOCAL,
        )

    async def _deliver(
        self, request: web.BaseRequest, response: Response, body: Delivery | Feed
    ) -> web.StreamResponse:
        out = _finish(web.StreamResponse(), response, close=self._app.draining)
        task = asyncio.current_task()
        assert task is not None
        self._running[task] = body
        if self._cutting:  # it was being opened until now
            _end(task, body)
        idle_s = self._app.settings.idle_client_s
        try:
            _on_close(request, _RESET)  # also should this process die
            await out.prepare(request)
            async with Patience(idle_s) as patience:
                async for part in body:
                    for start in range(0, len(part), PIECE_BYTES):
                        piece = memoryview(part)[start : start + PIECE_BYTES]
                        patience.wait()
                        await out.write(piece)
                        patience.rest()
                patience.wait()
                await out.write_eof()
            _on_close(request, _CLOSE)
        except StreamAborted:
            await body.aclose()  # nothing is held while the client takes what was written
            await _taken(request, patience_s=idle_s)
            _cut(request, patience_s=idle_s)
        except TimeoutError:
            body.give_up(CLIENT_IDLE)
            _cut(request, patience_s=0)
        except ConnectionError:
            pass  # the client left while we were writing
        except asyncio.CancelledError:
            _cut(request, patience_s=idle_s)  # the server closes; or the client left: then nothing
            raise
        finally:
            del self._running[task]
            await body.aclose()
        return out  # what aiohttp still writes to a connection that was cut goes nowhere


def _end(task: asyncio.Task[Any], body: Delivery | Feed) -> None:
    body.give_up(SHUTDOWN)
    task.cancel()


class _HttpServer(web.Server):
    """aiohttp's server, with connections of our own class."""

    def __init__(self, handler: _Handler) -> None:
        super().__init__(
            handler,
            handler_cancellation=True,
            keepalive_timeout=KEEPALIVE_S,
            access_log=None,  # `delivery` logs one line per stream
            auto_decompress=False,
            lingering_time=0.0,  # bodies are refused, never read
        )

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    """A connection that must say what it wants within `HEADER_TIMEOUT_S`."""

    __slots__ = ("_busy", "_head_timer")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._busy = False
        self._head_timer: asyncio.TimerHandle | None = None

    def head_arrived(self) -> None:
        """A request was read whole and is being answered."""
        self._busy = True
        self._stop_timer()

    def answered(self) -> None:
        """Between requests: from here the keep-alive timer rules, until bytes arrive."""
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        self._start_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._busy and self._head_timer is None:
            self._start_timer()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer malformed HTTP as a problem, and without a traceback in the log."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        response = malformed()
        assert isinstance(response.body, bytes)
        return _finish(web.Response(body=response.body), response, close=True)

    def _start_timer(self) -> None:
        self._head_timer = self._loop.call_later(HEADER_TIMEOUT_S, self.force_close)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


_R = TypeVar("_R", bound=web.StreamResponse)


def _finish(out: _R, response: Response, *, close: bool) -> _R:
    """Put status and headers of `response` on aiohttp's own."""
    out.set_status(response.status)
    out.headers.extend(response.headers)
    out.headers["Server"] = "remuxd"
    if close:
        out.force_close()
    return out


def _port(request: web.BaseRequest) -> int | None:
    """The port of ours to which a client is connected; `None`: it has left, or a unix socket."""
    name = request.transport and request.transport.get_extra_info("sockname")
    return name[1] if isinstance(name, tuple) else None


async def _taken(request: web.BaseRequest, *, patience_s: float) -> None:
    """Return when an HTTP/1.0 client has all that was written, or after `patience_s`."""
    if request.version > HttpVersion10:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            while _untaken_bytes(request.transport):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(UNTAKEN_POLL_S)


def _untaken_bytes(transport: asyncio.Transport | None) -> int:
    """Count what the other side has not acknowledged: tcp(7), SIOCOUTQ, and our own buffer."""
    if transport is None or transport.is_closing():
        return 0
    if waiting_bytes := transport.get_write_buffer_size():
        return waiting_bytes
    sock = transport.get_extra_info("socket")
    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:  # a system whose sockets do not tell
        return 0
    return int.from_bytes(answer, sys.byteorder)


def _on_close(request: web.BaseRequest, how: bytes) -> None:
    """Say what closing the connection of an HTTP/1.0 client does, whoever closes it.

    To such a client the end of the connection is the end of the body.  The kernel closes what a
    process that died has left, and does it politely where it was not told otherwise.
    """
    if request.version <= HttpVersion10 and request.transport is not None:
        sock = request.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)


def _cut(request: web.BaseRequest, *, patience_s: float) -> None:
    """Close the connection so that the client sees that the body is not whole.

    What was written before is whole fragments, and is still sent over HTTP/1.1, to a client that
    takes it within `patience_s`.  Over HTTP/1.0 it is gone: see `_taken`.
    """
    transport = request.transport
    if transport is None:
        return
    if request.version <= HttpVersion10:  # it is a reset: see `_on_close`
        transport.abort()
    elif patience_s:
        asyncio.get_running_loop().call_later(patience_s, transport.abort)
    else:
        transport.abort()
    request.protocol.force_close()
