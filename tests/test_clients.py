"""What programs make of a stream: each plays or reads it whole, and is asked whether it noticed
when one was cut.  Chromium is in `test_browser.py`.

`docs/clients.md` tells their users what is found here.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.support import boxes
from tests.support.client import ask, stream_target
from tests.support.clips import Clip, make_clip
from tests.support.expected import expect
from tests.support.fidelity import assert_faithful
from tests.support.origin import Origin, Truncate
from tests.support.players import PLAYERS, READERS, SAMPLE_RATE, run
from tests.support.served import Serve, over_aiohttp, over_asgi, real_app
from tests.support.streams import publish

CLIENTS = {**PLAYERS, **READERS}
# A chunked body without its last chunk is an end like any other to these: exit code 0, no word.
SILENT = frozenset(PLAYERS)
AAC_FRAME_S = 1024 / SAMPLE_RATE
CURL_PARTIAL_FILE = 18
CURL_CANNOT_RESUME = 33


def clip() -> Clip:
    """Three segments; ffplay takes as long as this."""
    return make_clip(seconds=3)


@contextlib.asynccontextmanager
async def stage(face: Serve = over_aiohttp) -> AsyncIterator[tuple[Origin, str]]:
    """An origin with the clip, and the address of its stream."""
    async with Origin() as origin, real_app() as app, face(app) as address:
        yield origin, address + stream_target(publish(origin, clip()))


@pytest.mark.parametrize("face", [over_aiohttp, over_asgi])
@pytest.mark.parametrize("name", CLIENTS)
async def test_whole_stream_is_played(face: Serve, name: str, tmp_path: Path) -> None:
    """Every picture of the source is shown, its sound goes on to its end, and nobody complains."""
    video, audio = expect(clip().data)
    async with stage(face) as (_, address):
        got = await CLIENTS[name](address, tmp_path)
        # On a machine that is busy, ffplay leaves before its last picture is through the filter.
        again = 2 if name == "ffplay" else 0
        while got.pictures < len(video.packets) and again:
            got, again = await CLIENTS[name](address, tmp_path), again - 1
    assert (got.pictures, got.told) == (len(video.packets), False)
    assert got.sound_end_s == pytest.approx(len(audio.packets) * AAC_FRAME_S, abs=0.001)
    if got.data:
        assert_faithful(clip().data, got.data)


@pytest.mark.parametrize("name", CLIENTS)
async def test_cut_stream_is_an_end_to_some(name: str, tmp_path: Path) -> None:
    """All that came is shown, in whole fragments; those that are not known as silent say that the
    stream was cut."""
    async with stage() as (origin, address):
        origin.fault("/2.ts", Truncate(5000))
        got = await CLIENTS[name](address, tmp_path)
    assert got.pictures == 50
    assert got.told or name in SILENT


async def test_cut_shows_behind_curl(tmp_path: Path) -> None:
    """What ffmpeg does not see, the shell does when curl fetches for it."""
    line = 'set -o pipefail; curl -fsS "$0" | ffmpeg -v error -i - -c copy -y "$1"'
    async with stage() as (origin, address):
        whole = await run("bash", "-c", line, address, f"{tmp_path}/whole.mp4")
        origin.fault("/2.ts", Truncate(5000))
        part = await run("bash", "-c", line, address, f"{tmp_path}/part.mp4")
    assert (whole.code, part.code) == (0, CURL_PARTIAL_FILE)


@pytest.mark.parametrize("wanted", ["bytes=0-", "bytes=100-", "bytes=-100", "bytes=0-1,5-9"])
@pytest.mark.parametrize("face", [over_aiohttp, over_asgi])
async def test_range_is_answered_with_the_whole(face: Serve, wanted: str) -> None:
    """A part is never made of it: 200, no Content-Range, and the bytes from the first one on."""
    async with stage(face) as (_, address):
        base, target = re.fullmatch(r"(http://[^/]+)(/.*)", address).groups()  # type: ignore[union-attr]
        whole = await ask(base, target)
        reply = await ask(base, target, headers=(("Range", wanted),))
    assert (reply.status, reply.ended, reply.body) == (200, "complete", whole.body)
    assert reply.header("content-range") is None
    assert reply.header("accept-ranges") == "none"


async def test_resumed_download_is_refused_by_curl(tmp_path: Path) -> None:
    """`curl -C -` sees that it would get the whole again, and leaves the file as it was."""
    async with stage() as (_, address):
        (tmp_path / "part").write_bytes(b"a beginning")
        ran = await run("curl", "-sS", "-C", "-", "-o", f"{tmp_path}/part", address)
    assert ran.code == CURL_CANNOT_RESUME
    assert (tmp_path / "part").read_bytes() == b"a beginning"


async def test_ranged_download_by_curl_is_the_whole(tmp_path: Path) -> None:
    """`curl -r 100-` takes what it gets for what it asked for: a sound file, from its beginning."""
    async with stage() as (_, address):
        ran = await run("curl", "-sS", "-r", "100-", "-o", f"{tmp_path}/part", address)
    assert ran.code == 0
    movie = boxes.read((tmp_path / "part").read_bytes())
    assert len(movie.samples(movie.track("vide"))) == 75


def test_docs_name_every_client() -> None:
    """The table in the documentation has a row for each, and says of the silent ones that they
    are."""
    text = (REPOSITORY / "docs" / "clients.md").read_text()
    for name in CLIENTS:
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {name} ")]
        assert ("nothing" in row) == (name in SILENT), row
