"""Who is measured: each contender is a server in a process of its own that answers
`/stream?url=…` with the media of an HLS address."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

__all__ = [
    "ASGI", "BUFFERED", "CONTENDERS", "PIPES", "RAW", "REMUXD", "REMUXD_2", "STREAMLINK",
    "Contender", "Origin", "Serving", "by_name", "origin", "serving",
]  # fmt: skip

START_S = 30  # more than any of them needs to answer its first request
MODULE = (sys.executable, "-m")
SETTINGS = {
    "REMUXD_SERVER__PORT": "{port}",
    "REMUXD_SERVER__DRAIN_S": "0",
    "REMUXD_UPSTREAM__ALLOWED_HOSTS": '["*"]',
    "REMUXD_UPSTREAM__ALLOWED_PORTS": "[]",
    "REMUXD_UPSTREAM__ALLOW_PRIVATE_ADDRESSES": "true",
    "REMUXD_SECURITY__OPEN_RELAY": "true",
    # All the clients here have one address.  What is about memory and speed has its default.
    "REMUXD_LIMITS__STREAMS": "2000",
    "REMUXD_LIMITS__STREAMS_PER_CLIENT": "2000",
    "REMUXD_LOG__LEVEL": "warning",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A command that serves; `{port}` is replaced in it, unless it says its port itself."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    says_port: bool = False  # on its first line, as JSON
    fragments: bool = True  # answers with fragmented MP4; otherwise with the bytes of the source
    waits: bool = False  # answers when it has got everything: not for live, and not paced


REMUXD = Contender(
    name="remuxd", command=(*MODULE, "proxy", "serve"), environment=SETTINGS
)  # fmt: skip
REMUXD_2 = Contender(
    name="remuxd, 2 workers",
    command=REMUXD.command,
    environment={**SETTINGS, "REMUXD_SERVER__WORKERS": "2"},
)
ASGI = Contender(
    name="remuxd, ASGI",
    command=(
        *MODULE, "uvicorn", "--factory", "proxy.faces.asgi:create_app",
        "--port", "{port}", "--log-level", "warning", "--no-access-log",
        "--timeout-graceful-shutdown", "1",
    ),
    environment=SETTINGS,
)  # fmt: skip
PIPES = tuple(
    Contender(
        name=f"ffmpeg pipe, {movflags}",
        command=(*MODULE, "bench.ffmpeg_pipe", "--movflags", movflags),
        says_port=True,
    )
    for movflags in ("empty_moov", "delay_moov")
)
BUFFERED = Contender(
    name="buffered",
    command=(*MODULE, "bench.buffered"),
    says_port=True,
    fragments=False,
    waits=True,
)
RAW = Contender(
    name="raw pass-through",
    command=(*MODULE, "bench.passthrough"),
    says_port=True,
    fragments=False,
)
STREAMLINK = Contender(
    name="streamlink pipe (TS out)",
    command=(*MODULE, "bench.streamlink_pipe"),
    says_port=True,
    fragments=False,
)
CONTENDERS = (
    REMUXD, ASGI, *PIPES, BUFFERED, RAW, *((STREAMLINK,) if find_spec("streamlink") else ()),
)  # fmt: skip


def by_name(names: Sequence[str]) -> tuple[Contender, ...]:
    """Return the contenders of these names, all of them for none.

    Raises:
        KeyError: there is none of that name.
    """
    known = {contender.name: contender for contender in (*CONTENDERS, REMUXD_2)}
    return tuple(known[name] for name in names) or CONTENDERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A contender that runs."""

    contender: Contender
    pid: int
    port: int

    def target(self, source: str) -> str:
        """Return the request target of the stream of `source`."""
        return f"/stream?url={quote(source, safe='')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The origin that runs; see `bench.origin` for its paths."""

    port: int

    def url(self, path: str, *, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/{path}"


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
    assert running.stdin is not None
    try:
        yield running
    finally:
        running.stdin.close()
        if running.returncode is None:
            running.terminate()
        try:
            await asyncio.wait_for(running.wait(), START_S)
        except TimeoutError:
            os.killpg(running.pid, signal.SIGKILL)
            await running.wait()


async def said_port(running: Process) -> int:
    assert running.stdout is not None
    line = await asyncio.wait_for(running.stdout.readline(), START_S)
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
        yield Origin(port=await said_port(running))


@asynccontextmanager
async def serving(contender: Contender) -> AsyncIterator[Serving]:
    """Run a contender; it accepts connections."""
    port = free_port()
    command = tuple(part.replace("{port}", str(port)) for part in contender.command)
    environment = {k: v.replace("{port}", str(port)) for k, v in contender.environment.items()}
    async with process(command, environment) as running:
        if contender.says_port:
            port = await said_port(running)
        await _accepts(contender, running, port)
        yield Serving(contender=contender, pid=running.pid, port=port)


async def _accepts(contender: Contender, running: Process, port: int) -> None:
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
                return


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
