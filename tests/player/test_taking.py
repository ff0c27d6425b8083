"""Taking it along: what is kept is whole, and the lines to copy do what they say."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.player.stage import stage
from tests.support.client import ask, stream_target
from tests.support.clips import hls, make_clip
from tests.support.origin import Truncate
from tests.support.page import state

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all

# A file of the origin's own storage instead of the dialogue, which no test can answer.
CHOSEN_FILE = """
  globalThis.showSaveFilePicker = async ({suggestedName}) => {
    const folder = await navigator.storage.getDirectory();
    return folder.getFileHandle(suggestedName, {create: true});
  };
"""
NO_CHOICE = "delete globalThis.showSaveFilePicker;"


async def test_download_is_the_stream(browser: Browser) -> None:
    """The file has the bytes of the stream, and a name that says something."""
    async with stage(browser) as on:
        on.serve(hls(make_clip(seconds=4), prefix="a%20show/"))
        async with on.page(on.link("/a%20show/media.m3u8"), before=NO_CHOICE) as page:
            await page.until("shown('take')")
            async with page.tab.expect_download() as coming:
                await page.tab.get_by_role("button", name="Download MP4").click()
            file = await coming.value
            assert file.suggested_filename == "a show.mp4"
            await page.until("text('downloaded').includes('is whole')")
            data = await asyncio.to_thread((await file.path()).read_bytes)
            target = stream_target(on.origin.at("/a%20show/media.m3u8"))
            assert data == (await ask(on.address.rstrip("/"), target)).body
            async with page.tab.expect_download() as coming:
                await page.tab.get_by_role("link", name="plain link").click()
            assert (await coming.value).suggested_filename == "a show.mp4"
            path = await (await coming.value).path()
            assert await asyncio.to_thread(path.read_bytes) == data
        assert page.problems == []


async def test_download_into_a_chosen_file(browser: Browser) -> None:
    """Where a file can be chosen it is written as it comes, with the share of the media time."""
    async with stage(browser) as on:
        on.serve(hls(make_clip(seconds=4), prefix="show/"))
        gate = on.origin.hold("/show/segment1.ts")
        half = [state(media_s=2.0)] * 2
        async with on.page(before=CHOSEN_FILE, states=half) as page:
            await page.tab.get_by_label("Address").fill(on.origin.at("/show/media.m3u8"))
            await page.tab.get_by_role("button", name="Inspect").click()
            await page.until("shown('take')")
            await page.tab.get_by_role("button", name="Download MP4").click()
            await gate.reached()
            assert await page.ask("document.activeElement.id") == "cancel"
            gate.open()
            await page.until("text('downloaded').includes('is whole')")
            size = await page.ask(f"({FILE_SIZE})('show.mp4')")
            target = stream_target(on.origin.at("/show/media.m3u8"))
            assert size == len((await ask(on.address.rstrip("/"), target)).body)
        assert page.problems == []


OLD_FILE = """async (name) => {
  const folder = await navigator.storage.getDirectory();
  const file = await (await folder.getFileHandle(name, {create: true})).createWritable();
  await file.write("old");
  await file.close();
}"""
FILE_SIZE = """async (name) => {
  const folder = await navigator.storage.getDirectory();
  try {
    return (await (await folder.getFileHandle(name)).getFile()).size;
  } catch {
    return -1;
  }
}"""


@pytest.mark.parametrize("how", ["broken", "cancelled", "over another"])
async def test_download_that_is_not_whole_is_not_kept(browser: Browser, how: str) -> None:
    """What broke off, or was cancelled, is told, and no file is left; one that was to be replaced
    stays as it was."""
    async with stage(browser) as on:
        on.serve(hls(make_clip(seconds=6), prefix="show/"))
        gate = on.origin.hold("/show/segment2.ts")
        async with on.page(before=CHOSEN_FILE) as page:
            await page.tab.get_by_label("Address").fill(on.origin.at("/show/media.m3u8"))
            await page.tab.get_by_role("button", name="Inspect").click()
            await page.until("shown('take')")
            if how == "over another":
                await page.ask(f"({OLD_FILE})('show.mp4')")
            on.origin.fault("/show/segment2.ts", Truncate(5000))
            await page.tab.get_by_role("button", name="Download MP4").click()
            await gate.reached()
            await page.until("/\\d [kM]B/.test(text('downloaded'))")
            if how == "cancelled":
                await page.tab.get_by_role("button", name="Cancel").click()
            gate.open()
            await page.until("text('downloaded').includes('Nothing was saved')")
            assert await page.ask("shown('problem')") == (how != "cancelled")
            await page.until("shown('download')")
            left = await page.ask(f"({FILE_SIZE})('show.mp4')")
            assert left == (3 if how == "over another" else -1)


async def test_lines_to_copy(browser: Browser) -> None:
    """The lines do what they say, whatever characters are in the address."""
    async with stage(browser) as on:
        on.serve(hls(make_clip(seconds=2)))
        path = '/it\'s%20"here"/$HOME/index.m3u8?a=1&b=<2>'
        on.origin.add('/it\'s%20"here"/$HOME/index.m3u8', "#EXTM3U")
        async with on.page(permissions=["clipboard-read", "clipboard-write"]) as page:
            await page.tab.get_by_label("Address").fill(on.origin.at(path))
            told = await page.ask(
                "import('./player/address.js').then(({lines}) => "
                "lines('http://a/s?x=it\\'s&y=%22<', \"it's.mp4\"))"
            )
            assert told == [
                ["curl", "curl --fail -o 'it'\\''s.mp4' 'http://a/s?x=it'\\''s&y=%22<'"],
                ["ffplay", "ffplay 'http://a/s?x=it'\\''s&y=%22<'"],
                ["HTML", '<video controls src="http://a/s?x=it\'s&amp;y=%22&lt;"></video>'],
            ]  # fmt: skip
            await page.tab.get_by_label("Address").fill(on.origin.at("/media.m3u8"))
            await page.tab.get_by_label("Address").press("Enter")
            await page.until("shown('take')")
            await page.tab.get_by_role("button", name="Copy the curl line").click()
            await page.until("document.activeElement.textContent === 'Copied'")
            copied = await page.ask("navigator.clipboard.readText()")
            assert copied == f"curl --fail -o '127.0.0.1.mp4' '{on.address}{on.target()}'"
        assert page.problems == []
