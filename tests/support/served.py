"""The app behind each of its faces, on a free loopback port and on the loop of the test."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager

import uvicorn

from proxy.app import App
from proxy.faces.asgi import AsgiApp
from proxy.faces.server import listen

Serve = Callable[[App], AbstractAsyncContextManager[str]]  # yields the address


@contextlib.asynccontextmanager
async def over_aiohttp(app: App) -> AsyncIterator[str]:
    """Serve as `remuxd serve` does."""
    async with listen(app) as server:
        yield server.addresses[0]


class _Uvicorn(uvicorn.Server):
    """uvicorn's server in the hands of a test: no signal handlers, and no polling for the end."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.running = asyncio.Event()
        self.stop = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        self.running.set()
        await self.stop.wait()


@contextlib.asynccontextmanager
async def over_asgi(app: App) -> AsyncIterator[str]:
    """Serve through uvicorn."""
    config = uvicorn.Config(
        AsgiApp(lambda: contextlib.nullcontext(app)),
        lifespan="on",
        log_level="critical",
        ws="none",
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    server = _Uvicorn(config)
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await server.running.wait()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for _ in range(100):  # a client that has just left is noticed in time
            if not server.server_state.connections:
                break
            await asyncio.sleep(0)
        server.stop.set()
        await serving
        listener.close()
