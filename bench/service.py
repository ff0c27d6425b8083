"""What every server of the measurements shares: one handler on loopback, ended with its stdin.

On uvloop where there is one, as `remuxd serve` is: nobody shall be slower for the loop he runs on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from aiohttp import web

__all__ = ["run", "serve_stream", "serve_until_told"]


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where there is one."""
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        runner.run(work)


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # noqa: PLC0415 - not on every system
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def serve_stream(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    *contexts: Callable[[web.Application], AsyncIterator[None]],
) -> None:
    """Serve `/stream?url=…`; the handler is cancelled when the client leaves."""

    async def serve() -> None:
        app = web.Application()
        app.cleanup_ctx.extend(contexts)
        app.router.add_get("/stream", handler)
        await serve_until_told(web.AppRunner(app, handler_cancellation=True, access_log=None))

    run(serve())


async def serve_until_told(
    runner: web.AppRunner | web.ServerRunner, host: str = "127.0.0.1"
) -> None:
    """Print the port as a line of JSON, and serve until the standard input ends."""
    # Clients leave in the middle all the time here.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    await runner.setup()
    await web.TCPSite(runner, host, 0, shutdown_timeout=0.1, backlog=1024).start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    told = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, told.set)
    await told.wait()
    await runner.cleanup()
