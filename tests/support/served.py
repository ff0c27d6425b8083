"""The app behind each of its faces, on a free loopback port and on the loop of the test; and
servers in processes of their own."""

import asyncio
import contextlib
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from signal import SIGTERM
from typing import Any

import uvicorn

from proxy.app import App, Settings
from proxy.faces.asgi import AsgiApp
from proxy.faces.server import listen
from proxy.fetch.client import Fetcher
from proxy.fetch.settings import Settings as FetchSettings
from proxy.follow import Clock
from proxy.guard.addresses import AddressPolicy
from proxy.pipeline import Pipeline
from proxy.pipeline import Settings as PipelineSettings
from tests.conftest import missing
from tests.support.client import TIMEOUT_S, ask

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


ONLY_LOOPBACK = AddressPolicy(
    allowed_hosts=("127.0.0.1",), allowed_ports=(), allow_private_addresses=True
)


@contextlib.asynccontextmanager
async def real_app(
    settings: Settings | None = None,
    *,
    clock: Clock | None = None,
    policy: AddressPolicy = ONLY_LOOPBACK,
    pipeline: PipelineSettings | None = None,
    **fetching: Any,
) -> AsyncIterator[App]:
    """The real thing, which may fetch from 127.0.0.1 alone and tries again without waiting;
    `fetching` changes what the fetcher is told."""
    fetch = FetchSettings(**{"policy": policy, "backoff_s": (0.001, 0.002), **fetching})
    async with Fetcher(fetch) as fetcher, Pipeline(fetcher, pipeline, clock=clock) as one:
        yield App(one, settings, on_port=fetcher.own.add)


LOOPBACK = {
    "REMUXD_UPSTREAM__ALLOWED_HOSTS": "127.0.0.1",
    "REMUXD_UPSTREAM__ALLOWED_PORTS": "[]",
    "REMUXD_UPSTREAM__ALLOW_PRIVATE_ADDRESSES": "true",
}


@dataclass
class Running:
    """A command that runs; what it says on stderr is kept."""

    process: asyncio.subprocess.Process
    said: list[str] = field(default_factory=list)  # lines of stderr
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def listen(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.said.append(line.decode().rstrip())
            self._arrived.set()
        self._arrived.set()

    async def until_said(self, words: str) -> str:
        """Wait for a line with `words` in it, and return it."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                for line in self.said:
                    if words in line:
                        return line
                self._arrived.clear()
                await self._arrived.wait()

    async def ended(self) -> int:
        """Wait for the end, and return the exit code."""
        return await asyncio.wait_for(self.process.wait(), TIMEOUT_S)

    async def finished(self) -> tuple[int, bytes]:
        """Wait for the end, and return the exit code and what was said on stdout."""
        assert self.process.stdout is not None
        out = await asyncio.wait_for(self.process.stdout.read(), TIMEOUT_S)
        return await self.ended(), out


def running(
    *command: str, environment: Mapping[str, str] = LOOPBACK
) -> AbstractAsyncContextManager[Running]:
    """Run `python -m <command>` in a process of its own, and end it."""
    return running_program(sys.executable, "-m", *command, environment=environment)


@contextlib.asynccontextmanager
async def running_program(
    *command: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Running]:
    """Run a program in a process of its own, and end it by SIGTERM."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("REMUXD_")}
    process = await asyncio.create_subprocess_exec(
        *command, env={**clean, **(environment or {})},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    run = Running(process)
    listening = asyncio.create_task(run.listen())
    try:
        yield run
    finally:
        if process.returncode is None:
            process.send_signal(SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), TIMEOUT_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        assert process.stdout is not None
        await process.stdout.read()
        await listening


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until_healthy(address: str) -> None:
    """Wait until a server answers."""
    await _until(address, lambda streams: streams is not None)


async def until_idle(address: str) -> None:
    """Wait until a server has no stream any more."""
    await _until(address, lambda streams: streams == 0)


async def _until(address: str, condition: Callable[[int | None], bool]) -> None:
    """Ask for the number of streams (None: no answer) again and again: it is another process."""
    async with asyncio.timeout(TIMEOUT_S):
        while not condition(await _streams(address)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def _streams(address: str) -> int | None:
    try:
        reply = await ask(address, "/healthz")
    except (OSError, asyncio.IncompleteReadError):
        return None
    streams: int = reply.json()["streams"]
    return streams


async def curl(*arguments: str) -> tuple[int, bytes]:
    """Return the exit code of curl and what it got."""
    if shutil.which("curl") is None:
        missing("curl")
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    return process.returncode or 0, out
