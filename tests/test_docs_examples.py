"""Every command and every block of code of the README and of the documentation works as it stands.

`tests/support/examples.py` says how a page is run, and names all that is replaced in it.  The
sources, `https://media.example.org` and whatever else is named, are one real origin over TLS with
the clip of the demo.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import shutil
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.demo import clip
from tests.conftest import REPOSITORY, missing
from tests.support.examples import RUN, Block, blocks, script
from tests.support.origin import Origin
from tests.support.served import free_port
from tests.support.tls import Authority

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
HOST = "*.example.org"
WATCH = """<!doctype html><title>One</title><script type="application/ld+json">
{"@context": "https://schema.org", "@type": "VideoObject", "name": "One",
 "contentUrl": "https://media.example.org/main.m3u8"}</script>
"""
TOOLS = ("bash", "curl", "ffmpeg", "ffprobe", "openssl")
PAGE_TIMEOUT_S = 60.0  # ten times what the longest one takes


def blocks_of(page: Path) -> list[Block]:
    return blocks(page.read_text())


@functools.cache
def presentation() -> dict[str, bytes]:
    """The clip of the demo, as `main.m3u8`, as a film, and in a page."""
    files = clip.make(4).files
    main = {"main.m3u8": files[clip.MASTER], "films/one/index.m3u8": files[clip.MASTER]}
    film = {f"films/one/{path}": body for path, body in files.items()}
    page = {"watch.html": WATCH.encode(), "robots.txt": b""}
    return {**files, **film, **main, **page}


@contextlib.asynccontextmanager
async def sources(folder: Path) -> AsyncIterator[dict[str, str]]:
    """The origin, and what tells the proxy how to get there."""
    authority = Authority(folder)
    async with Origin(tls=authority.server(host=HOST)) as origin:
        for path, body in presentation().items():
            origin.add(f"/{path}", body)
        tunnel = functools.partial(_tunnel, port=origin.port)
        async with await asyncio.start_server(tunnel, "127.0.0.1", 0) as middle:
            port = middle.sockets[0].getsockname()[1]
            yield {
                "REMUXD_UPSTREAM__PROXY": f"http://127.0.0.1:{port}",
                "REMUXD_UPSTREAM__CA_FILE": str(authority.ca_file),
            }
        assert origin.unknown == []


async def _tunnel(client: asyncio.StreamReader, back: asyncio.StreamWriter, *, port: int) -> None:
    """Lead a CONNECT to the origin, whatever host it names."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(2**16):
                writer.write(data)
                await writer.drain()
        writer.close()

    head = await client.readuntil(b"\r\n\r\n")
    assert head.startswith(b"CONNECT ")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    back.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await asyncio.gather(copy(client, writer), copy(reader, back))


def clone(folder: Path) -> None:
    """Make `folder` look like a clone, as far as pages count on it."""
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "deploy").symlink_to(REPOSITORY / "deploy")
    (folder / "config.toml").write_bytes((REPOSITORY / "config.toml").read_bytes())
    (folder / ".curlrc").write_text("fail\nsilent\nshow-error\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_are_run_or_say_why_not(page: Path) -> None:
    """Code of a language that nobody here can run is marked; a mark has code behind it."""
    text = page.read_text()
    found = blocks(text)
    unknown = [one for one in found if one.is_code and not one.not_run and one.language not in RUN]
    assert unknown == []
    marks = sum(bool(one.not_run or one.fails or one.run_with) for one in found)
    assert marks == len(re.findall(r"<!-- (?:not run|fails|run with): ", text))


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(b.is_code and not b.not_run for b in blocks_of(page))],
    ids=lambda page: page.name,
)
async def test_page_works_as_written(page: Path, tmp_path: Path) -> None:
    """Whoever follows the page from its first line to its last sees no command fail."""
    for tool in TOOLS:
        if shutil.which(tool) is None:
            missing(f"the command {tool}")
    folder = tmp_path / "clone"
    folder.mkdir()
    clone(folder)
    ports: defaultdict[str, int] = defaultdict(free_port)
    text = script(blocks_of(page), ports.__getitem__)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("REMUXD_")}
    async with sources(tmp_path) as told:
        environment = {
            **clean,
            **told,
            "PATH": f"{Path(sys.executable).parent}:{clean['PATH']}",
            "PYTHONPATH": f"{REPOSITORY}:{folder}",
            "CURL_HOME": str(folder),
            "REMUXD_SERVER__PORT": str(ports["8080"]),
            "UVICORN_PORT": str(ports["8000"]),
        }
        code, said = await _run(text, folder, environment)
    assert code == 0, said


async def _run(text: str, folder: Path, environment: dict[str, str]) -> tuple[int | None, str]:
    """Run a script, and end it where it takes too long (code None)."""
    said = folder.with_name("said")
    with said.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", text, cwd=folder, env=environment, start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file,
        )  # fmt: skip
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), PAGE_TIMEOUT_S)
        code = process.returncode
        if code is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return code, said.read_text(errors="replace")
