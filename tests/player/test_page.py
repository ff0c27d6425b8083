"""The page in a real browser: it plays, and shows what it plays; for everybody."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proxy.app import Settings
from tests.conftest import missing
from tests.player.stage import stage
from tests.support.clips import codecs, hls, make_clip, multivariant
from tests.support.origin import Truncate
from tests.support.page import state
from tests.support.playlists import multivariant_text, rendition_tag, variant_lines
from tests.support.served import Serve, over_aiohttp, over_asgi

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all

STATES = (state(phase="opening", ttfb_s=None), state(phase="ended", outcome="complete"))


@pytest.mark.parametrize("serve", [over_aiohttp, over_asgi], ids=["aiohttp", "asgi"])
@pytest.mark.parametrize("base_path", ["", "/some/media"])
async def test_link_plays(browser: Browser, serve: Serve, base_path: str) -> None:
    """A link to the page plays: pictures are decoded, sound is there, the whole length is shown."""
    async with stage(browser, Settings(base_path=base_path), serve) as on:
        on.serve(hls(make_clip(seconds=2)))
        async with on.page(on.link()) as page:
            await page.until("video.currentTime > 0.5")
            seen = await page.video()
            assert seen.duration_s == pytest.approx(2, abs=0.3)
            assert (seen.width, seen.height) == (160, 90)
            assert seen.frames > 10
            assert seen.audio_bytes > 0
            assert float(await page.bar.get_attribute("max") or 0) == pytest.approx(2, abs=0.3)
            assert await page.ask("text('whole')") == "0:02"
            await page.until("shown('source') && text('facts').includes('H.264, AAC')")
            await page.until("video.ended")
            assert await page.ask("text('status')") == "It has ended."
        assert page.problems == []


async def test_keyboard_alone_plays(browser: Browser) -> None:
    """Enter plays what was typed; from there the player is reached by Tab and ruled by keys."""
    async with stage(browser) as on:
        on.serve(hls(make_clip(seconds=20)))
        async with on.page() as page:
            keyboard = page.tab.keyboard
            assert await page.ask("document.activeElement.id") == "address"
            await keyboard.type(on.origin.at("/media.m3u8"))
            await keyboard.press("Enter")
            await page.until("video.currentTime > 0.2")
            for _ in range(3):
                await keyboard.press("Tab")
            assert await page.ask("document.activeElement.id") == "video"
            await keyboard.press("Space")
            await page.until("video.paused && text('status') === 'Paused.'")
            await keyboard.press("ArrowRight")
            await page.until("video.currentTime > 5 && video.currentTime < 9")
            await keyboard.press("m")
            assert await page.ask("video.muted")
            for _ in range(20):  # over the video's own controls to the time bar
                await keyboard.press("Tab")
                if await page.ask("document.activeElement.id") == "position":
                    break
            await keyboard.press("ArrowLeft")
            await page.until("video.currentTime < 4")
            words = await page.bar.get_attribute("aria-valuetext")
            assert words is not None
            assert words.endswith(" of 0:20")
            await keyboard.press("End")
            await page.until("video.ended || video.currentTime > 19")
            await keyboard.press("Home")
            await page.until("video.currentTime < 1")
        assert page.problems == []


async def test_malformed_address_is_told_beside_the_field(browser: Browser) -> None:
    """What is no address is not asked for; the field says so, also to a screen reader."""
    async with stage(browser) as on:
        async with on.page() as page:
            await page.tab.keyboard.type("ftp://origin.invalid/a")
            await page.tab.keyboard.press("Enter")
            field = page.tab.get_by_label("Address of an HLS playlist")
            assert await field.get_attribute("aria-invalid") == "true"
            assert "no address" in await page.ask("text('amiss')")
            assert page.streams() == []


async def test_inspect_plays_nothing(browser: Browser) -> None:
    """Inspect says what is there, before anything is played."""
    async with stage(browser) as on:
        on.serve(multivariant(sizes=((160, 90), (320, 180)), seconds=4))
        async with on.page() as page:
            await page.tab.get_by_label("Address").fill(on.origin.at("/main.m3u8"))
            await page.tab.get_by_role("button", name="Inspect").click()
            await page.until("shown('source')")
            options = await page.tab.get_by_label("Quality").locator("option").all_inner_texts()
            assert [option.split(" ")[0] for option in options] == [
                "Best", "320\u00d7180", "160\u00d790", "Audio",
            ]  # fmt: skip
            assert "2 variants" in await page.ask("text('facts')")
            assert page.streams() == []
        assert page.problems == []


async def test_html_page_is_played(browser: Browser) -> None:
    """The address of an HTML page plays what is embedded in it, and says where that was found."""
    embedding = """<!doctype html><title>My film</title>
      <script type="application/ld+json">
        {"@context": "https://schema.org", "@type": "VideoObject", "contentUrl": "/media.m3u8"}
      </script>"""
    async with stage(browser) as on:
        on.serve({**hls(make_clip(seconds=2)), "film.html": embedding, "robots.txt": ""})
        async with on.page(on.link("/film.html")) as page:
            await page.until("video.currentTime > 0.2 && text('facts').includes('My film')")
        assert page.problems == []


async def test_quality_changes_the_picture(browser: Browser) -> None:
    """Each quality that can be chosen is played in its size, from where the one before was."""
    async with stage(browser) as on:
        on.serve(multivariant(sizes=((160, 90), (320, 180)), seconds=12))
        async with on.page(on.link("/main.m3u8")) as page:
            await page.until("video.videoHeight === 180 && video.currentTime > 0.2")
            await page.until("shown('source')")
            quality = page.tab.get_by_label("Quality")
            await page.drag_to(0.6)
            await page.until("video.currentTime > 7")
            await quality.select_option("90p")
            await page.until("video.videoHeight === 90 && video.currentTime > 7")
            assert "quality=90p" in await page.ask("location.hash")
            await quality.select_option("audio")
            await page.until("video.videoHeight === 0 && video.currentTime > 7")
            await quality.select_option("180p")
            await page.until("video.videoHeight === 180 && video.currentTime > 7")
        assert [one.get("quality", [""])[0] for one in page.streams()] == [
            "", "90p", "audio", "180p",
        ]  # fmt: skip
        assert page.problems == []


async def test_audio_can_be_chosen(browser: Browser) -> None:
    """Renditions are chosen by their language, and by their name where that says more."""
    clip = make_clip(seconds=4)
    main = multivariant_text(
        rendition_tag(NAME="English", LANGUAGE="en", DEFAULT=True),
        rendition_tag(NAME="Deutsch", LANGUAGE="de", URI="de/media.m3u8"),
        rendition_tag(NAME="Hörfassung", LANGUAGE="de-DE", URI="de/media.m3u8"),
        variant_lines("media.m3u8", BANDWIDTH=300_000, CODECS=codecs(clip), AUDIO="a"),
    )
    sound = hls(make_clip(seconds=4, video=None), prefix="de/")
    async with stage(browser) as on:
        on.serve({**hls(clip), **sound, "main.m3u8": main})
        async with on.page(on.link("/main.m3u8")) as page:
            await page.until("video.currentTime > 0.1 && shown('source')")
            audio = page.tab.locator("#audio")
            values = await audio.locator("option").evaluate_all(
                "all => all.map((one) => one.value)"
            )
            assert values == ["", "en", "Deutsch", "de-DE"]
            await audio.select_option("Deutsch")
            await page.until("location.hash.includes('audio=Deutsch') && video.currentTime > 0.1")
            assert page.streams()[-1]["audio"] == ["Deutsch"]
            assert on.origin.asked("/de/segment0.ts")
        assert page.problems == []


async def test_figures_come_from_the_server(browser: Browser) -> None:
    """The page follows the stream that it plays, until it has ended."""
    async with stage(browser) as on:
        on.serve(hls(make_clip(seconds=4)))
        async with on.page(on.link()) as page:
            await page.until("/Phase ?complete/i.test(text('live-figures'))")
            assert re.search(r"Segments ?2", await page.ask("text('live-figures')"))
        assert page.problems == []


async def test_figures_of_the_stream_are_shown(browser: Browser) -> None:
    """What the API tells of the running stream stands on the page."""
    async with stage(browser) as on:
        on.serve(hls(make_clip(seconds=2)))
        async with on.page(on.link(), states=STATES) as page:
            await page.until("text('live-figures').includes('complete') && video.currentTime > 1")
            told = await page.ask("text('live-figures')")
        for figure in ("123 ms", "3.0 MB", "2.0 MB", "7", "3", "500 kB of 4.0 MB", "First picture"):
            assert figure in told
        assert page.problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
async def test_page_is_accessible(browser: Browser, scheme: str, width: int) -> None:
    """axe finds nothing, light and dark, while it plays and when it is broken; nothing is wider
    than the screen."""
    try:
        from axe_playwright_python.base import AXE_FILE_PATH
    except ImportError:
        missing("the Python package axe-playwright-python")
    async with stage(browser) as on:
        on.serve(multivariant(sizes=((160, 90), (320, 180)), seconds=6))
        on.origin.fault("/180p/segment2.ts", Truncate(5000))
        gate = on.origin.hold("/180p/segment2.ts", after_bytes=None)
        size = {"width": width, "height": 740}
        async with on.page(on.link("/main.m3u8"), color_scheme=scheme, viewport=size) as page:
            await page.until("shown('source') && video.currentTime > 0.2")
            gate.open()
            await page.until("shown('problem')")
            await page.tab.evaluate(await asyncio.to_thread(Path(AXE_FILE_PATH).read_text))
            found = await page.ask("axe.run()")
            told = [
                f"{one['id']}: {node['html']}"
                for one in found["violations"]
                for node in one["nodes"]
            ]
            assert told == []
            assert await page.ask("document.documentElement.scrollWidth") <= width
