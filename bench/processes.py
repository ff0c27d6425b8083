"""Runs the contenders and the origin, each in a process group of its own of which nothing is left.

A process is told to end when its context is left, killed when it does not, and whatever it started
is killed with it, also when the measurement fails, is interrupted or told to end (`run`).
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from bench.contenders import MODULE, Contender

__all__ = ["Origin", "Serving", "origin", "process", "run", "serving"]

START_S = 30  # more than any of them needs to answer its first request
END_S = 5
CLIENTS = 64  # blocking clients at a time; asyncio's own number is too few on two cores

_groups: set[int] = set()  # that run now
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A contender that runs."""

    contender: Contender
    pid: int
    port: int

    def target(self, source: str) -> str:
        """Return the request target of the stream of `source`."""
        return self.contender.target.replace("{url}", quote(source, safe=""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The origin that runs; see `bench.origin` for its paths."""

    port: int

    def url(self, path: str, *, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/{path}"


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a measurement; being told to end is the same as Ctrl-C: everything is put away first."""

    async def working() -> _T:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(CLIENTS))
        return await work

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return asyncio.run(working())


@asynccontextmanager
async def process(
    command: tuple[str, ...], environment: Mapping[str, str] | None = None
) -> AsyncIterator[Process]:
    """Run a command in a process group of its own, which is told to end, and killed at last."""
    running = await asyncio.create_subprocess_exec(
        *command,
        stdin=PIPE, stdout=PIPE, stderr=sys.stderr if "BENCH_LOG" in os.environ else DEVNULL,
        env={**os.environ, **(environment or {})}, start_new_session=True,
    )  # fmt: skip
    _groups.add(running.pid)
    assert running.stdin is not None
    try:
        yield running
    finally:
        running.stdin.close()
        if running.returncode is None:
            running.terminate()
        try:
            await asyncio.wait_for(running.wait(), END_S)
        except TimeoutError:
            _kill(running.pid)
            await running.wait()
        finally:
            # What it has started and left behind, if anything, is in its group.
            _kill(running.pid)
            _groups.discard(running.pid)


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


@atexit.register
def _kill_all() -> None:
    """Leave nothing behind when the putting away was interrupted itself."""
    for group in _groups:
        _kill(group)


async def _said_port(running: Process) -> int:
    assert running.stdout is not None
    line = await asyncio.wait_for(running.stdout.readline(), START_S)
    if not line:
        raise RuntimeError("ended before it said its port")
    port: int = json.loads(line)["port"]
    return port


@asynccontextmanager
async def origin(folder: Path, *, delay_ms: float, rate_mbit: float) -> AsyncIterator[Origin]:
    """Run the origin with a clip; `rate_mbit` is per connection, 0 is unlimited."""
    command = (
        *MODULE, "bench.origin", "--clip", str(folder),
        "--delay-ms", str(delay_ms), "--rate-mbit", str(rate_mbit),
    )  # fmt: skip
    async with process(command) as running:
        yield Origin(port=await _said_port(running))


@asynccontextmanager
async def serving(contender: Contender) -> AsyncIterator[Serving]:
    """Run a contender; it accepts connections.

    Raises:
        RuntimeError: it ended at its start.
        TimeoutError: it does not accept any.
    """
    port = _free_port()
    command = tuple(part.replace("{port}", str(port)) for part in contender.command)
    environment = {k: v.replace("{port}", str(port)) for k, v in contender.environment.items()}
    async with process(command, environment) as running:
        if contender.says_port:
            port = await _said_port(running)
        await _accepts(running, port)
        yield Serving(contender=contender, pid=running.pid, port=port)


async def _accepts(running: Process, port: int) -> None:
    async with asyncio.timeout(START_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                if running.returncode is not None:
                    raise RuntimeError(f"ended with {running.returncode} at its start") from None
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
