"""ASGI 3 ⇄ app, without a framework: `uvicorn --factory proxy.faces.asgi:create_app`.

What ASGI servers leave to an application, and is done here:
1. The client is watched in two ways, since servers differ: `receive()` for http.disconnect while
   anything is being done, and OSError out of `send()` (uvicorn's may also return silently).
2. A cut is an exception out of the application: the server then closes without the final chunk, or
   resets the HTTP/2 stream.  To HTTP/1.0 no server can show that, so a stream is refused to it.
3. A client that takes nothing for `idle_client_s` is cut.  What it takes shows only when a third of
   the kernel's queue is free again, so that is kept short where the client's connection can be
   found (`queue`).  Behind a proxy that names another client it is up to 4 MiB: below some 20 kB/s
   even a steady client may look idle at 60 s then.
4. What the app needs is made when the lifespan starts, or, where a server has none, at the first
   request.  Mounted in another application, `AsgiApp.lifespan` is what that one runs.

Several processes are the server's own affair (`uvicorn --workers N`).  They know nothing of each
other, so each is told how many there are by `server.workers = N`, and keeps to its N-th part of
`limits.streams` and `memory.budget_bytes`; `limits.streams_per_client` holds for each by itself.
`remuxd serve` counts for all of them.

Runs on the server's event loop; two short tasks per request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from proxy import memory, wiring
from proxy.app import CLIENT_IDLE, LOCAL, App, Delivery, Feed, Request, Response
from proxy.errors import Stopped, StreamAborted
from proxy.faces.patience import Patience
from proxy.faces.queue import shorten

__all__ = ["AsgiApp", "create_app"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Servers copy what they are given and keep it until it is taken.  Some (uvicorn) wait for that only
# before they take more: behind a piece for a client that takes its time something empty is sent,
# which comes back when next to all has been taken, and nothing more is asked for before that.
PIECE_BYTES = 256 * 1024  # what a client must take within idle_client_s: 4.3 kB/s at 60 s
SLOW_S = 0.02  # for one part

# `send` may wait for nothing, to a fast client and above all to one that left: behind so many parts
# the event loop has a turn, for other streams and for the task that watches the client, which needs
# three to end this one.  A turn behind each part made one stream at full speed 7 % slower: with
# each, loop and worker take the interpreter's lock from each other (934 futex calls in a clip of
# 120 s, and 297 without).
TURN_PARTS = 32


def create_app() -> AsgiApp:
    """Make the application from the file that REMUXD_CONFIG names and the environment.

    Ends the process with code 78 and a message naming the key when the configuration is bad.
    """
    config = wiring.load_or_exit()
    memory.tune()
    return AsgiApp(lambda: wiring.running_app(config))


class AsgiApp:
    """An ASGI application around an `App`, which `connect` makes on the server's event loop."""

    def __init__(self, connect: Callable[[], AbstractAsyncContextManager[App]]) -> None:
        self._connect = connect
        self._app: App | None = None
        self._connecting = asyncio.Lock()
        self._kept = contextlib.AsyncExitStack()  # where there is no lifespan, until the end

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            raise NotImplementedError(f"ASGI scope {scope['type']!r}")

    @contextlib.asynccontextmanager
    async def lifespan(self, _host: object = None) -> AsyncIterator[None]:
        """Live as long as the application that this one is mounted in, as its `lifespan`: most
        frameworks hand none on to what they mount.  Streams that still run at the end are cut."""
        async with self._connect() as app:
            self._app = app
            try:
                yield
            finally:
                app.drain()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()  # lifespan.startup
        try:
            await self._kept.enter_async_context(self.lifespan())
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()  # lifespan.shutdown
        await self._kept.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _ready(self) -> App:
        async with self._connecting:
            if self._app is None:
                self._app = await self._kept.enter_async_context(self._connect())
            return self._app

    async def _http(self, scope: Message, receive: Receive, send: Send) -> None:
        app = self._app or await self._ready()
        work = asyncio.ensure_future(_respond(app, scope, send))
        watch = asyncio.ensure_future(_client_gone(receive))
        try:
            await asyncio.wait((work, watch), return_when=asyncio.FIRST_COMPLETED)
            if work.cancelled():  # by the operator: nobody else does, up to here
                raise StreamAborted(Stopped())
        finally:
            work.cancel()
            watch.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)
        if not work.cancelled():
            work.result()  # raises StreamAborted: this is the cut


async def _client_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass  # the body of a request: refused, not read


async def _respond(app: App, scope: Message, send: Send) -> None:
    response = await app.handle(_translate(app, scope))
    if not isinstance(response.body, bytes):
        client = scope.get("client")
        if client is not None:
            shorten((client[0], client[1]))
        await _deliver(response, response.body, send, app.settings.idle_client_s)
        return
    with contextlib.suppress(OSError):  # the client left
        await send(_start(response))
        await send({"type": "http.response.body", "body": response.body})


async def _deliver(response: Response, body: Delivery | Feed, send: Send, idle_s: float) -> None:
    try:
        await send(_start(response))
        async with Patience(idle_s) as patience:
            took_s, parts = SLOW_S, 0
            async for part in body:
                pieces = deque(_pieces(part))
                del part  # what has been taken is not held any more
                slow, took_s = took_s >= SLOW_S, 0.0
                while pieces:
                    patience.wait()
                    await send(_more(pieces.popleft()))
                    if slow:
                        await send(_more(b""))
                    took_s += patience.rest()
                parts += 1
                if parts % TURN_PARTS == 0:
                    await asyncio.sleep(0)
            patience.wait()
            await send({"type": "http.response.body", "body": b""})
    except TimeoutError:
        body.give_up(CLIENT_IDLE)
        raise
    except OSError:
        pass  # the client left
    finally:
        await body.aclose()


def _pieces(part: bytes) -> Iterator[bytes]:
    """Cut a part into pieces of the same size; one that is no longer than a piece is not copied."""
    count = -(-len(part) // PIECE_BYTES) or 1
    size = -(-len(part) // count) or 1
    for start in range(0, len(part), size):
        yield part[start : start + size]


def _more(piece: bytes) -> Message:
    return {"type": "http.response.body", "body": piece, "more_body": True}


def _start(response: Response) -> Message:
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in response.headers]
    return {"type": "http.response.start", "status": response.status, "headers": headers}


def _translate(app: App, scope: Message) -> Request:
    path: str = scope["path"]
    base: str = scope.get("root_path") or app.settings.base_path
    if scope.get("root_path") and not path.startswith(base):
        base = ""  # an older server, which has taken it off already
    client, server = scope.get("client"), scope.get("server")
    return Request(
        method=scope["method"],
        path=path,
        query_string=scope["query_string"].decode("utf-8", "surrogateescape"),
        headers=tuple((k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"]),
        peer=(client and client[0]) or LOCAL,
        base=base,
        port=server[1] if server else None,
        abortable=scope["http_version"] not in {"1.0", "1"},  # granian says "1"
    )
