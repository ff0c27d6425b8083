"""`remuxd serve`: from a configuration to a server that runs until it is told to stop.

One process by itself, or `server.workers` of them (`workers`); in both, `serve_until` is what a
process that serves does, and a `Stop` is how it is told to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from proxy import memory, wiring
from proxy.config import Config, ConfigError
from proxy.faces.address import bind, shown
from proxy.faces.server import serve as serve_sockets
from proxy.media import libav
from proxy.state.commons import Commons

__all__ = ["Stop", "run", "serve", "serve_until"]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")


class Stop:
    """How a process that serves is told to end; each of these may be told again."""

    def __init__(self) -> None:
        self.told = asyncio.Event()
        self.now = asyncio.Event()
        self.listening = True  # whether it still listens, so as to refuse what comes

    def soon(self, *, listening: bool = True) -> None:
        """Refuse new streams, and end with the running ones, or after `server.drain_s`."""
        self.listening = listening
        self.told.set()

    def at_once(self) -> None:
        """Cut what runs."""
        self.now.set()
        self.told.set()

    def soon_or_at_once(self) -> None:
        """The second time is one time too many."""
        if self.told.is_set():
            self.now.set()
        self.told.set()


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run `work` on uvloop where there is one."""
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 - not on every system
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)


def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigError: naming the key; nothing was served.
        OSError: the address is taken.
    """
    wiring.check(config)
    sockets = _bound(config)
    for sock in sockets:
        logger.info("listening on %s%s", shown(sock), config.server.base_path)
    libav.introduce()
    memory.tune()
    if config.server.workers > 1:
        from proxy import workers  # noqa: PLC0415 - one process needs no manager

        workers.serve(config, sockets)
        return
    try:
        run(_serve_alone(config, sockets))
    finally:
        if config.server.unix_socket:
            Path(config.server.unix_socket).unlink(missing_ok=True)
    logger.info("stopped")


async def serve_until(
    stop: Stop,
    config: Config,
    sockets: Sequence[socket.socket],
    *,
    commons: Commons | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve on `sockets` until `stop` is told and the streams have ended or are cut.

    `commons`: of all the processes that serve on them; `ready` is called when this one does.
    """
    drain_s = config.server.drain_s
    async with contextlib.AsyncExitStack() as stack:
        app = await stack.enter_async_context(wiring.running_app(config, commons))

        def has_more_than_its_part() -> bool:
            assert commons is not None
            return app.active * config.server.workers > commons.census.total

        yields = has_more_than_its_part if commons is not None else None
        server = await stack.enter_async_context(serve_sockets(app, sockets, yields=yields))
        logger.info("process %d serves", os.getpid())
        ready()
        await stop.told.wait()
        if not stop.listening:
            server.stop_listening()
        logger.info("stopping: %d streams have %g s to end", app.active, drain_s)
        await server.drain(drain_s, now=stop.now)


async def _serve_alone(config: Config, sockets: Sequence[socket.socket]) -> None:
    stop = Stop()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.soon_or_at_once)
    loop.add_signal_handler(signal.SIGINT, stop.at_once)
    await serve_until(stop, config, sockets)


def _bound(config: Config) -> tuple[socket.socket, ...]:
    where = config.server
    try:
        return bind(host=where.host, port=where.port, unix_socket=where.unix_socket)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:  # passes: worth another start
            remedy = "" if where.unix_socket else "; end what listens there, or choose with --port"
            raise OSError(error.errno, f"{error.strerror}{remedy}") from error
        keys = "server.unix_socket" if where.unix_socket else "server.host, server.port"
        raise ConfigError(f"{keys}: {error}") from error
