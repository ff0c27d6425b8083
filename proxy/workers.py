"""Several processes on one port: a worker that dies takes only its own streams with it.

A crash in libav is the end of its process and of every stream in it.  With `server.workers = N`
there are N of them, under gunicorn's arbiter: it forks them, sees at once when one dies, logs what
of and forks another, kills one whose event loop has stood still, and ends them.  Process managers
that come with an ASGI server run ASGI alone, or notice a death at their next poll; aiohttp's own
worker for gunicorn runs an `aiohttp.web.Application` with a runner that has none of what our face
adds.  So the arbiter is gunicorn's, and a worker runs what one process alone would run.

Rules of the file:
1. The master has no event loop, no thread and no stream: a fork copies only the thread that forks.
   What the workers need is imported and bound before, and shared until it is written to.
2. All workers accept from one listening socket, so that one that is busy is passed over.
3. SIGTERM and SIGINT mean what they mean to one process.  Workers hear SIGTERM again and again
   (from the arbiter, and from a service manager that tells the whole group), so to them the second
   is nothing; SIGQUIT and SIGINT end them now.
4. A worker whose master is gone gives the address free, and ends with its streams.
5. Limits hold for the whole: streams are counted in a `SharedCensus`, and the memory budget is
   divided, since buffers cannot be moved between processes.  Each answers for the streams of all
   of them: what they share is a `Commons`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NoReturn

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from proxy import serving
from proxy.config import Config
from proxy.metrics import CELLS, HELD, Metrics
from proxy.register import HISTORY, REFUSED
from proxy.state.commons import Commons
from proxy.state.sums import SharedSums

__all__ = ["serve"]

logger = logging.getLogger(__name__)

BEAT_S = 1.0  # between signs of life, and looks at who the parent is
HANG_S = 30  # without a sign of life: the event loop stands still, and so do all its streams
KILL_AFTER_S = 3.0  # after server.drain_s: cutting takes well under one
RESPAWN_PAUSE_S = 0.5  # as many forks as there are workers in this time: no storm of them
MEMORY_FOLDER = "/dev/shm"  # noqa: S108 - gunicorn's unlinked files, kept off the disk


def serve(config: Config, sockets: Sequence[socket.socket]) -> NoReturn:
    """Run `server.workers` processes on `sockets`, which are taken over, until told to stop.

    Ends the process: with code 0 after SIGTERM or SIGINT, 3 when no worker can serve.
    """
    # A row for each worker, for each that is dead and not forgotten yet, and for the master.
    sums = SharedSums(CELLS, 2 * config.server.workers + 1, held=HELD)
    streams = config.limits.streams
    commons = Commons.make(streams, history=HISTORY, refused=REFUSED, sums=sums)
    arbiter = _Arbiter(_Application(config, sockets, commons))
    gc.collect()
    gc.freeze()  # the collector writes to what it looks at, and what is written to is not shared
    try:
        arbiter.run()  # exits by itself
    except HaltServer as halt:  # a second worker that cannot serve interrupts the end for the first
        sys.exit(halt.exit_status)
    raise AssertionError


class _Application(BaseApplication):  # type: ignore[misc] # gunicorn has no types
    """What gunicorn is told; what it calls an application is here the configuration."""

    def __init__(self, config: Config, sockets: Sequence[socket.socket], commons: Commons) -> None:
        self.config = config
        self.commons = commons
        self._metrics = Metrics(commons.sums)
        self._files = [sock.detach() for sock in sockets]
        super().__init__()

    def load_config(self) -> None:
        settings = {
            "bind": [f"fd://{file}" for file in self._files],
            "workers": self.config.server.workers,
            "worker_class": _Worker,
            "timeout": HANG_S,
            "logger_class": _Log,
            "child_exit": self._lost,
            "proc_name": "remuxd",
            "worker_tmp_dir": MEMORY_FOLDER if os.access(MEMORY_FOLDER, os.W_OK) else None,
            "control_socket_disable": True,
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> None:
        """There is no WSGI application."""

    def _lost(self, _arbiter: Arbiter, worker: Worker) -> None:
        """Called when a worker has ended: free the places of its streams."""
        streams = self.commons.forget(worker.pid)
        if streams:
            self._metrics.lost(streams)
            logger.error("worker %d took %d streams with it", worker.pid, streams)


class _Log(Logger):  # type: ignore[misc]
    """gunicorn's log as part of ours; its everyday remarks are for debugging."""

    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        self.error_log = self.access_log = logger

    def info(self, msg: str, *args: object, **kwargs: Any) -> None:
        logger.debug(msg, *args, **kwargs)


class _Arbiter(Arbiter):  # type: ignore[misc]
    """The master: drains as one process does, and takes its time with workers that die at once."""

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)  # the others are as in one process

    def __init__(self, application: _Application) -> None:
        super().__init__(application)
        self._drain_s = application.config.server.drain_s
        self._kill_at_s: float | None = None  # set when told to stop
        self._forks_s: deque[float] = deque([float("-inf")] * self.num_workers, self.num_workers)

    def handle_term(self) -> None:
        if self._kill_at_s is not None:
            self.handle_int()
        else:
            self._stop(self._drain_s)

    def handle_int(self) -> None:
        self._stop(0)
        self.kill_workers(signal.SIGQUIT)

    handle_quit = handle_int

    def _stop(self, drain_s: float) -> None:
        logger.info("stopping: all workers have %g s to end", drain_s)
        self._kill_at_s = time.monotonic() + drain_s + KILL_AFTER_S
        self.num_workers = 0

    def manage_workers(self) -> None:
        """Called after every signal, and every second."""
        if self._kill_at_s is not None:
            if not self.WORKERS:
                logger.info("stopped")
                raise StopIteration  # the arbiter's own way to say that it has ended
            if time.monotonic() > self._kill_at_s:
                logger.error("workers do not end, and are killed: %s", [*self.WORKERS])
                self.kill_workers(signal.SIGKILL)
        super().manage_workers()  # forks those that are missing, sends SIGTERM to those too many

    def spawn_worker(self) -> int:
        wait_s = self._forks_s[0] + RESPAWN_PAUSE_S - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        self._forks_s.append(time.monotonic())
        pid: int = super().spawn_worker()  # does not return in the child
        return pid


class _Worker(Worker):  # type: ignore[misc]
    """One process that serves; everything below runs in it, after the fork."""

    def init_signals(self) -> None:
        for signum in self.SIGNALS:
            signal.signal(signum, signal.SIG_DFL)  # until it serves, there is nothing to drain

    def run(self) -> None:
        # Where not even the first ones can serve, the arbiter gives up, with exit code 3; later,
        # when others have streams, it tries again.
        self.booted = self.age > self.cfg.workers
        serving.run(self._serve())

    async def _serve(self) -> None:
        stop = serving.Stop()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.soon)
        loop.add_signal_handler(signal.SIGINT, stop.at_once)
        loop.add_signal_handler(signal.SIGQUIT, stop.at_once)
        beating = asyncio.create_task(self._beat(stop))
        sockets = [listener.sock for listener in self.sockets]
        try:
            await serving.serve_until(
                stop, self.app.config, sockets, commons=self.app.commons, ready=self._ready
            )
        finally:
            beating.cancel()

    def _ready(self) -> None:
        self.booted = True

    async def _beat(self, stop: serving.Stop) -> None:
        while os.getppid() == self.ppid:
            self.notify()
            await asyncio.sleep(BEAT_S)
        logger.error("the master is gone: worker %d ends with its streams", os.getpid())
        stop.soon(listening=False)
