"""What a viewer gets: Chromium plays what the app serves, through `<video>` and through Media
Source Extensions.

The browser judges what no reader of boxes can: whether decoders follow, whether the length is shown
at once, and whether a stream that was cut can be told from one that has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from proxy.app import App, Settings
from tests.conftest import missing
from tests.support.browser import Player, chromium, lacking, player
from tests.support.client import TIMEOUT_S, stream_target
from tests.support.clips import Clip, codecs, hls, make_clip
from tests.support.origin import Origin, Stall, Status, Truncate
from tests.support.playlists import (
    Entry,
    media_text,
    multivariant_text,
    rendition_tag,
    variant_lines,
)
from tests.support.served import over_aiohttp, real_app

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all

FRAME_S = 1 / 25
DISCONTINUITY = "#EXT-X-DISCONTINUITY"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    if what := lacking():
        missing(what)
    async with chromium() as found:
        yield found


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A page, the app it plays from, and the origin that both the page and the media come from."""

    page: Player
    app: App
    origin: Origin
    address: str  # of the app

    def serve(self, files: Mapping[str, bytes | str]) -> None:
        for path, body in files.items():
            self.origin.add(f"/{path}", body)

    def stream(self, path: str = "/media.m3u8", **parameters: str) -> str:
        """The address of the stream of a playlist of the origin."""
        return self.address + stream_target(self.origin.at(path), **parameters)


@contextlib.asynccontextmanager
async def stage(browser: Browser) -> AsyncIterator[Stage]:
    async with Origin() as origin, real_app(Settings(cors_origins=(origin.url,))) as app:
        async with over_aiohttp(app) as address:
            async with player(browser, origin) as page:
                yield Stage(page=page, app=app, origin=origin, address=address)
            await asyncio.wait_for(app.idle(), TIMEOUT_S)  # the tab is closed
        assert origin.unknown == []


@functools.cache
def fmp4(clip: Clip, tracks: str = "va", prefix: str = "") -> dict[str, bytes]:
    """Return a VOD of `clip` in fMP4 as `hls` does, made by the ffmpeg command; `tracks` names the
    ones that are in it."""
    if shutil.which("ffmpeg") is None:
        missing("the ffmpeg command")
    left_out = [f"-{track}n" for track in "va" if track not in tracks]
    filters = ["-bsf:a", "aac_adtstoasc"] if "a" in tracks else []
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(
            ["ffmpeg", "-v", "error", "-f", "mpegts", "-i", "pipe:0", "-c", "copy", *left_out,
             *filters, "-f", "hls", "-hls_segment_type", "fmp4", "-hls_playlist_type", "vod",
             "-hls_time", "1", "-hls_fmp4_init_filename", "init.mp4", "media.m3u8"],
            input=clip.data, cwd=name, check=True, timeout=TIMEOUT_S,
        )  # fmt: skip
        return {f"{prefix}{file.name}": file.read_bytes() for file in Path(name).iterdir()}


def apart(
    clip: Clip, pictures: Mapping[str, bytes], sound: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Return a presentation whose audio is apart: `video/media.m3u8` and `audio/media.m3u8`."""
    main = multivariant_text(
        rendition_tag(NAME="sound", DEFAULT=True, URI="audio/media.m3u8"),
        variant_lines("video/media.m3u8", BANDWIDTH=300_000, CODECS=codecs(clip), AUDIO="a"),
    )
    return {"media.m3u8": main.encode(), **pictures, **sound}


def spliced(first: Mapping[str, bytes], second: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return one presentation behind the other, with a discontinuity; both have prefixes."""
    lines = [
        line
        for files in (first, second)
        for path, body in files.items()
        if path.endswith(".m3u8")
        for line in [DISCONTINUITY, *_entries(body.decode(), path.removesuffix("media.m3u8"))]
    ]
    text = "\n".join(["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-TARGETDURATION:3", *lines[1:]])
    return {**first, **second, "media.m3u8": f"{text}\n#EXT-X-ENDLIST\n".encode()}


def _entries(text: str, prefix: str) -> list[str]:
    """The lines of a media playlist that tell of segments, their addresses under `prefix`."""
    kept = []
    for line in text.splitlines():
        if line.startswith("#EXT-X-MAP:"):
            kept.append(line.replace('URI="', f'URI="{prefix}'))
        elif line.startswith("#EXTINF:"):
            kept.append(line)
        elif line and not line.startswith("#"):
            kept.append(prefix + line)
    return kept


# -- <video> ---------------------------------------------------------------------------------------


async def test_vod_plays_to_its_end(browser: Browser) -> None:
    """The length is shown at once, every picture is decoded and shown at its time, sound is heard,
    and the end comes."""
    async with stage(browser) as on:
        on.serve(hls(make_clip(seconds=2)))
        seen = await on.page.play(on.stream())
    assert (seen.last.name, seen.error, on.page.problems) == ("ended", "", [])
    begin = seen.one("loadedmetadata")
    assert begin.duration_s == pytest.approx(2, abs=0.5)
    assert (begin.width, begin.height) == (160, 90)
    assert max(moment.ready_state for moment in seen.all("playing")) >= 3
    positions = [moment.current_s for moment in seen.moments]
    assert positions == sorted(positions)
    assert any(0.3 < position < 1.7 for position in positions)
    counts = [moment.frames for moment in seen.moments]
    assert (counts, counts[-1]) == (sorted(counts), 50)
    assert any(10 < count < 45 for count in counts)
    assert seen.last.audio_bytes > 0
    assert seen.last.current_s == pytest.approx(2, abs=0.2)
    # the edit list is honoured: decoding begins 80 ms before the first picture is shown
    assert seen.pictures[0] == 0
    numbers = [picture / FRAME_S for picture in seen.pictures]
    assert numbers == pytest.approx([round(number) for number in numbers], abs=0.01)
    assert max(numbers) <= 49.01


SOURCES: dict[str, Callable[[Clip], Mapping[str, bytes]]] = {
    "fmp4": fmp4,
    "audio apart, fmp4": lambda clip: apart(
        clip, fmp4(clip, "v", "video/"), fmp4(clip, "a", "audio/")
    ),
    "audio apart, ts": lambda clip: apart(
        clip,
        hls(make_clip(seconds=clip.seconds, audio=()), prefix="video/"),
        hls(make_clip(seconds=clip.seconds, video=None), target_s=1, prefix="audio/"),
    ),
}


@pytest.mark.parametrize("source", SOURCES)
async def test_other_sources_play_too(browser: Browser, source: str) -> None:
    """fMP4, and audio in a playlist of its own, play as muxed MPEG-TS does."""
    async with stage(browser) as on:
        on.serve(SOURCES[source](make_clip(seconds=3)))
        seen = await on.page.play(on.stream(), rate=4)
    assert (seen.last.name, seen.error, on.page.problems) == ("ended", "", [])
    assert seen.one("loadedmetadata").duration_s == pytest.approx(3, abs=0.5)
    assert seen.last.frames == 75
    assert seen.last.audio_bytes > 0


@pytest.mark.parametrize("kind", [hls, fmp4], ids=["ts", "fmp4"])
async def test_splice_changes_the_picture_size(
    browser: Browser, kind: Callable[..., Mapping[str, bytes]]
) -> None:
    """Behind a discontinuity come other parameter sets: the decoder follows, nothing is lost."""
    small = make_clip(seconds=2, width=320, height=180)
    large = make_clip(seconds=2, width=640, height=360, start_s=1000)
    async with stage(browser) as on:
        on.serve(spliced(kind(small, prefix="a/"), kind(large, prefix="b/")))
        seen = await on.page.play(on.stream(), rate=4)
    assert (seen.last.name, seen.error, on.page.problems) == ("ended", "", [])
    sizes = [(moment.width, moment.height) for moment in seen.all("resize")]
    assert sizes == [(320, 180), (640, 360)]
    assert seen.all("resize")[1].current_s == pytest.approx(2, abs=1)
    assert seen.one("loadedmetadata").duration_s == pytest.approx(4, abs=0.5)
    assert seen.last.frames == 100


async def test_hole_stays_a_hole(browser: Browser) -> None:
    """Over a segment that EXT-X-GAP says is not there the picture stands, and then goes on."""
    clip = make_clip(seconds=4)
    entries = [
        Entry(uri="segment0.ts", duration_s=1),
        Entry(uri="absent.ts", duration_s=1, tags=("#EXT-X-GAP",)),
        *(Entry(uri=f"segment{number}.ts", duration_s=1) for number in (2, 3)),
    ]
    async with stage(browser) as on:
        on.serve({**hls(clip, target_s=1), "media.m3u8": media_text(entries, target_duration_s=1)})
        seen = await on.page.play(on.stream(), rate=4)
    assert (seen.last.name, seen.error, on.page.problems) == ("ended", "", [])
    assert seen.last.current_s == pytest.approx(4, abs=0.2)
    assert seen.last.frames == 75
    assert not [picture for picture in seen.pictures if 1.01 < picture < 1.99]


async def test_cut_stream_is_not_an_end(browser: Browser) -> None:
    """Where the source breaks in mid-stream the viewer is told, and not that this was all."""
    async with stage(browser) as on:
        on.serve(hls(make_clip(seconds=6)))
        on.origin.fault("/segment2.ts", Truncate(5000))
        seen = await on.page.play(on.stream(), until=("stalled", "error", "ended"))
    assert seen.last.name in {"stalled", "error"}
    assert seen.one("loadedmetadata").duration_s == pytest.approx(6, abs=0.5)
    assert seen.last.current_s < 4.5
    assert seen.last.frames < 120
    assert on.page.problems
    assert all("ERR_INCOMPLETE_CHUNKED_ENCODING" in problem for problem in on.page.problems)


async def test_refused_source_is_an_error(browser: Browser) -> None:
    """Where nothing can be played the video fails at once: MEDIA_ERR_SRC_NOT_SUPPORTED."""
    async with stage(browser) as on:
        on.serve(hls(make_clip(seconds=3)))
        on.origin.fault("/segment0.ts", Status(404))
        seen = await on.page.play(on.stream())
    assert (seen.last.name, seen.error[0]) == ("error", "4")


async def test_closed_tab_ends_the_stream(browser: Browser) -> None:
    """When the viewer leaves, the stream ends and lets go of the origin."""
    async with stage(browser) as on:
        on.serve(hls(make_clip(seconds=6)))
        on.origin.fault("/segment2.ts", Stall(5000))
        await on.page.play(on.stream(), until=("playing",))
        await on.origin.until(lambda: bool(on.origin.asked("/segment2.ts")))
        assert on.app.active == 1
    (stalled,) = on.origin.asked("/segment2.ts")
    assert (on.app.active, stalled.ended) == (0, True)


# -- Media Source Extensions -----------------------------------------------------------------------


async def test_source_buffer_takes_the_stream(browser: Browser) -> None:
    """A SourceBuffer of the Content-Type takes every byte, splice included, and all of it plays."""
    small = make_clip(seconds=1)
    large = make_clip(seconds=1, width=320, height=180, start_s=1000)
    async with stage(browser) as on:
        on.serve(spliced(hls(small, prefix="a/"), hls(large, prefix="b/")))
        appended = await on.page.append(on.stream())
        seen = await on.page.play(None, rate=4)
    assert appended.mime.startswith('video/mp4; codecs="avc1.64')
    assert appended.told_s == pytest.approx(2, abs=0.01)
    assert appended.first_duration_s == pytest.approx(2, abs=0.5)
    ((begin_s, end_s),) = appended.buffered_s
    assert (begin_s, end_s) == pytest.approx((0, 2.05), abs=0.05)
    assert (seen.last.name, seen.error, on.page.problems) == ("ended", "", [])
    assert [moment.width for moment in seen.all("resize")] == [160, 320]
    assert seen.last.frames == 50
    assert seen.last.audio_bytes > 0
    assert seen.pictures[0] == 0


async def test_cut_stream_fails_a_fetch(browser: Browser) -> None:
    """A script that reads the stream learns that it was cut."""
    from playwright.async_api import Error

    async with stage(browser) as on:
        on.serve(hls(make_clip(seconds=6)))
        on.origin.fault("/segment2.ts", Truncate(5000))
        with pytest.raises(Error, match="network error"):
            await on.page.append(on.stream())
