"""Who is measured: each contender is a server in a process of its own that answers
`/stream?url=…` with a fragmented MP4."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

START_S = 30  # more than any of them needs to answer its first request


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A command that serves; `{port}` is replaced in it, unless it says its port itself."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    says_port: bool = False  # on its first line, as JSON


def remuxd() -> Contender:
    return Contender(
        name="remuxd",
        command=(sys.executable, "-m", "proxy", "serve"),
        environment={
            "REMUXD_SERVER__PORT": "{port}",
            "REMUXD_UPSTREAM__ALLOWED_HOSTS": '["127.0.0.1"]',
            "REMUXD_UPSTREAM__ALLOWED_PORTS": "[]",
            "REMUXD_UPSTREAM__ALLOW_PRIVATE_ADDRESSES": "true",
            "REMUXD_LIMITS__STREAMS_PER_CLIENT": "1000",
            "REMUXD_LOG__LEVEL": "warning",
        },
    )


def ffmpeg_pipe(movflags: str) -> Contender:
    return Contender(
        name=f"ffmpeg pipe, {movflags}",
        command=(sys.executable, "-m", "bench.ffmpeg_pipe", "--movflags", movflags),
        says_port=True,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def process(
    command: tuple[str, ...], environment: Mapping[str, str] | None = None
) -> AsyncIterator[Process]:
    """Run a command that ends with its standard input; killed if it does not."""
    running = await asyncio.create_subprocess_exec(
        *command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env={**os.environ, **(environment or {})}
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.terminate()
        await running.wait()


async def said_port(running: Process) -> int:
    assert running.stdout is not None
    line = await asyncio.wait_for(running.stdout.readline(), START_S)
    port: int = json.loads(line)["port"]
    return port


@asynccontextmanager
async def serving(contender: Contender) -> AsyncIterator[int]:
    """Run a contender and give its port once it accepts connections."""
    port = free_port()
    command = tuple(part.replace("{port}", str(port)) for part in contender.command)
    environment = {k: v.replace("{port}", str(port)) for k, v in contender.environment.items()}
    async with process(command, environment) as running:
        if contender.says_port:
            port = await said_port(running)
        async with asyncio.timeout(START_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    if running.returncode is not None:
                        message = f"{contender.name} ended with {running.returncode}"
                        raise RuntimeError(message) from None
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        yield port


def address(port: int, source: str) -> str:
    return f"http://127.0.0.1:{port}/stream?url={quote(source, safe='')}"
