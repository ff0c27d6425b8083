"""What goes wrong is told in words, and can be gone on from."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from proxy.app import Settings
from proxy.errors import Forbidden, SourceNotFound
from proxy.guard import signing
from tests.player.stage import Stage, long_clip, stage
from tests.support.clips import hls, make_clip
from tests.support.origin import Status, Truncate
from tests.support.page import state

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all

SECRET = "s" * 32
CUT = "net::ERR_INCOMPLETE_CHUNKED_ENCODING"


async def test_refused_source_is_told_in_words(browser: Browser) -> None:
    """A source that is not there: what happened, what to do, and which stream that was."""
    async with stage(browser) as on:
        on.serve(hls(make_clip(seconds=2)))
        on.origin.fault("/media.m3u8", Status(404))
        async with on.page(on.link()) as page:
            await page.until("shown('problem')")
            alert = page.tab.get_by_role("alert").filter(has_text=SourceNotFound.public)
            said = await alert.inner_text()
            assert said.count(SourceNotFound.public) == 1
            assert "Check the address" in said
            assert "source_not_found" in said
            assert not await page.ask("shown('timeline')")
            on.origin.heal()
            await page.tab.get_by_role("button", name="Try again").click()
            await page.until("video.currentTime > 0.2 && !shown('problem')")


async def test_broken_stream_is_told(browser: Browser) -> None:
    """A stream that breaks off is no end: it is told, with the root cause where that is known; what
    was there is played, and it can be gone on from there."""
    cause = {
        "code": "source_unavailable", "layer": "origin", "retryable": True,
        "summary": "The origin ended segment 2 too early, four times.",
        "evidence": [{"time": "12:00:01", "event": "segment_failed", "detail": "5,000 bytes"}],
        "actions": ["Ask whoever runs the origin."],
    }  # fmt: skip
    broken = state(phase="ended", outcome="source_unavailable", root_cause=cause)
    async with stage(browser) as on:
        on.serve(hls(make_clip(seconds=6)))
        on.origin.fault("/segment2.ts", Truncate(5000))
        gate = on.origin.hold("/segment2.ts", after_bytes=None)
        async with on.page(on.link(), states=[broken]) as page:
            await page.until("video.currentTime > 0.2")
            gate.open()
            await page.until("shown('problem') && text('problem').includes('four times')")
            said = await page.tab.get_by_role("alert").filter(has_text="broke off").inner_text()
            assert "Ask whoever runs the origin." in said
            assert "source_unavailable" in said
            assert "5,000 bytes" in await page.ask("text('problem')")
            assert not await page.ask("video.ended")
            on.origin.heal()
            await page.until("video.currentTime > 1")
            await page.tab.get_by_role("button", name="Go on from here").click()
            await page.until("video.currentTime > 5 && !shown('problem')")
        assert {CUT in problem for problem in page.problems} == {True}


async def test_server_that_is_gone_is_told(browser: Browser) -> None:
    """Where nothing answers any more the page says so."""
    async with stage(browser) as on:
        async with on.page() as page:
            await page.tab.route("**/stream?*", lambda route: route.abort())
            await page.tab.keyboard.type("https://origin.invalid/a.m3u8\n")
            await page.until("shown('problem') && text('problem').includes('does not answer')")


def signed(on: Stage, path: str = "/media.m3u8") -> str:
    parameters = {"url": on.origin.at(path)}
    expires = int(time.time()) + 600
    return "stream?" + signing.sign(parameters, key_id="a", secret=SECRET, expires=expires)


async def test_server_that_wants_signatures(browser: Browser) -> None:
    """It says what is missing; a signed address of its own is played as it is, and seeks."""
    settings = Settings(signing=signing.Settings(keys={"a": SECRET}, required=True))
    async with stage(browser, settings) as on:
        on.serve(hls(long_clip()))
        async with on.page(on.link()) as page:
            await page.until("shown('problem')")
            said = await page.ask("text('problem')")
            assert Forbidden.public in said
            assert "signature does not hold" in said
            assert "Paste a whole one" in said
            target = signed(on)
            await page.tab.get_by_label("Address").fill(on.address + target)
            await page.tab.get_by_label("Address").press("Enter")
            await page.until("video.currentTime > 0.2 && shown('source')")
            assert await page.tab.get_by_label("Quality").is_disabled()
            await page.drag_to(0.9)
            await page.until("video.currentTime > 54.2")
            await page.drag_to(0.1)
            await page.until("video.currentTime > 6.2 && video.currentTime < 12")
        assert {one for one in page.asked if one.startswith("/stream?")} == {
            f"/{target}", "/" + on.target(),
        }  # fmt: skip


async def test_what_cannot_be_had_is_left_out_where_that_is_wished(browser: Browser) -> None:
    """A segment that is missing breaks the stream off; with a tick the page plays on without it, to
    the end, and the lines to copy say so too."""
    async with stage(browser) as on:
        on.serve(hls(make_clip(seconds=6)))
        on.origin.fault("/segment2.ts", Status(404))
        async with on.page(on.link()) as page:
            await page.until("shown('problem') && shown('source')")
            await page.until("text('problem').includes('the tick at')")
            assert "on_gap" not in await page.ask("document.getElementById('lines').textContent")
            await page.tab.get_by_label("Leave out what cannot be had").check()
            await page.until("video.ended && !shown('problem')")
            assert "on_gap=skip&on_splice=skip" in await page.ask(
                "document.getElementById('lines').textContent"
            )


async def test_file_of_a_page_is_linked(browser: Browser) -> None:
    """A page whose video is an MP4 needs no proxy: where the file is can be followed."""
    async with stage(browser) as on:
        on.origin.add("/watch.html", "<!doctype html><video src='/film.mp4?sign=1'></video>")
        on.origin.add("/robots.txt", "")
        async with on.page(on.link("/watch.html")) as page:
            await page.until("shown('problem')")
            link = page.tab.get_by_role("alert").get_by_role("link")
            assert await link.get_attribute("href") == on.origin.at("/film.mp4")
