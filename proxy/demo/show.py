"""The demo itself: an origin with a clip, the proxy beside it, one stream fetched and judged.

Everything is on loopback and in this process, but over real HTTP: the origin serves the segments,
the proxy is the one that `remuxd serve` runs, and the judged stream is fetched by the standard
library's client.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from aiohttp import web
from rich.console import Console
from rich.table import Table

from proxy import wiring
from proxy.app import App
from proxy.config import Config, SecuritySection, UpstreamSection
from proxy.demo.clip import MASTER, VARIANTS, Clip, make
from proxy.demo.judge import Verdict, judge
from proxy.faces.server import Server, listen
from proxy.media import libav

__all__ = ["demo"]

TYPES = {"m3u8": "application/vnd.apple.mpegurl", "ts": "video/mp2t", "html": "text/html"}
EMBEDDING = """<!doctype html>
<title>A page that embeds the clip</title>
<script type="application/ld+json">
{{"@context": "https://schema.org", "@type": "VideoObject", "contentUrl": "/{master}"}}
</script>
<h1>A page that embeds the clip</h1>
<p>Its address may be given to the proxy in place of the playlist's.</p>
"""
NEXT = (
    "This page plays what is on this machine. For other addresses end it, and start a server that\n"
    'is told their hosts: docs/tutorial.md, "Your own address".'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    data: bytes
    first_s: float  # until the first bytes, which are the init segment and the first fragment
    all_s: float


async def demo(*, seconds: int = 30, port: int | None = None, once: bool = False) -> bool:
    """Run the demo; returns whether the stream came out equal.

    Args:
        seconds: length of the clip.
        port: of the proxy; None: 8080, or any free one where that is taken.
        once: return after the judgement; otherwise stay up until SIGINT or SIGTERM.
    """
    console = Console()
    console.print(libav.versions(), style="dim", highlight=False, soft_wrap=True)
    with console.status(f"encoding {seconds} s of H.264 and AAC in three variants ..."):
        began_s = time.monotonic()
        clip = await asyncio.to_thread(make, seconds)
    console.print(f"clip: {seconds} s, three variants, made in {time.monotonic() - began_s:.1f} s")
    async with _origin(clip) as (origin, pages), _proxy(port) as proxy:
        source = f"{origin}/{MASTER}"
        stream = f"{proxy}/stream?url={quote(source, safe='')}"
        pages["page.html"] = EMBEDDING.format(master=MASTER).encode()
        fetched = await asyncio.to_thread(_fetch, stream)
        best = VARIANTS[0].name
        verdicts = await asyncio.to_thread(judge, clip.segments(best), fetched.data)
        equal = all(verdict.equal for verdict in verdicts)
        console.print(_table(verdicts))
        console.print(
            f"first fragment after {fetched.first_s * 1000:.0f} ms, "
            f"all {len(fetched.data):,} bytes after {fetched.all_s * 1000:.0f} ms"
        )
        console.print("[green]equal[/]" if equal else "[bold red]NOT equal[/]")
        if not once:
            addresses = _addresses(origin, proxy, source, stream)
            console.print(addresses, highlight=False, markup=False, soft_wrap=True)
            await _told_to_end()
    return equal


async def _told_to_end() -> None:
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, told.set)
    await told.wait()


@contextlib.asynccontextmanager
async def _origin(clip: Clip) -> AsyncIterator[tuple[str, dict[str, bytes]]]:
    """Serve the files of `clip`, and whatever else is put into the dict that comes with it."""
    files = dict(clip.files)

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        path = request.path.lstrip("/")
        if path not in files:
            return web.Response(status=404)
        return web.Response(body=files[path], content_type=TYPES[path.rpartition(".")[2]])

    runner = web.ServerRunner(web.Server(serve, access_log=None))
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{site.port}", files
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def _proxy(port: int | None) -> AsyncIterator[str]:
    """Run the proxy, open to this machine only."""
    upstream = UpstreamSection(
        allowed_hosts=("127.0.0.1",), allowed_ports=(), allow_private_addresses=True
    )
    config = Config(upstream=upstream, security=SecuritySection())
    async with wiring.running_app(config) as app, contextlib.AsyncExitStack() as stack:
        server = await _listen(stack, app, port)
        yield server.addresses[0]


async def _listen(stack: contextlib.AsyncExitStack, app: App, port: int | None) -> Server:
    try:
        return await stack.enter_async_context(listen(app, port=8080 if port is None else port))
    except OSError:
        if port is not None:
            raise
        return await stack.enter_async_context(listen(app, port=0))


def _fetch(address: str) -> Fetched:
    began_s = time.monotonic()
    with urllib.request.urlopen(address, timeout=60) as response:  # noqa: S310 - our own address
        first = response.read(1)
        first_s = time.monotonic() - began_s
        data = first + response.read()  # raises IncompleteRead where the stream was cut
    return Fetched(data=data, first_s=first_s, all_s=time.monotonic() - began_s)


def _table(verdicts: tuple[Verdict, ...]) -> Table:
    table = Table(title="source and output, packet by packet")
    for title in ("track", "packets in", "packets out", "payload", "times off by"):
        table.add_column(title, justify="left" if title == "track" else "right")
    for verdict in verdicts:
        same = verdict.source.payload == verdict.output.payload
        table.add_row(
            verdict.source.codec,
            str(verdict.source.packets),
            str(verdict.output.packets),
            "[green]equal[/]" if same else "[red]differs[/]",
            f"{verdict.drift_s * 1000:.2f} ms",
        )
    return table


def _addresses(origin: str, proxy: str, source: str, stream: str) -> str:
    rows: Mapping[str, str] = {
        "watch": f"{proxy}/#url={quote(source, safe='')}",
        "HLS": source,
        "page": f"{origin}/page.html",
        "MP4": stream,
        "curl": f"curl --fail -o demo.mp4 '{stream}'",
        "ffplay": f"ffplay '{stream}'",
        "HTML": f'<video src="{stream}" controls></video>',
    }
    lines = [f"  {name:7} {value}" for name, value in rows.items()]
    return "\n".join(["", *lines, "", NEXT, "", "Ctrl-C ends it."])
