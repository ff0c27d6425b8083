"""The picture is fed: seeking, live sources, long pauses, and browsers of other makes."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from tests.player.stage import long_clip, stage
from tests.support.client import TIMEOUT_S, stream_target
from tests.support.clips import hls, make_clip, pieces
from tests.support.origin import Request
from tests.support.playlists import Entry, media_text

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all

# What ManagedMediaSource adds to MediaSource: the browser says when it wants to be fed.
MANAGED = """
  class Managed extends MediaSource {
    streaming = false;
    constructor() {
      super();
      const tell = (wanted) => {
        if (wanted === this.streaming) return;
        this.streaming = wanted;
        this.dispatchEvent(new Event(wanted ? "startstreaming" : "endstreaming"));
      };
      this.addEventListener("sourceopen", () => {
        const video = document.querySelector("video");
        if (!video.disableRemotePlayback) throw new Error("Safari would not have opened it");
        setTimeout(() => tell(true), 50);
        const wanted = () => video.currentTime < 1 || video.currentTime > 1.5;
        video.addEventListener("timeupdate", () => tell(wanted()));
      }, {once: true});
    }
  }
  globalThis.ManagedMediaSource = Managed;
  delete globalThis.MediaSource;
"""
NO_MSE = "delete globalThis.MediaSource; delete globalThis.ManagedMediaSource;"


# -- seeking ---------------------------------------------------------------------------------------

# A thumbnail of the picture, as numbers.
THUMBNAIL = """
  function thumbnail(video) {
    const canvas = new OffscreenCanvas(32, 18);
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0, 32, 18);
    return [...context.getImageData(0, 0, 32, 18).data];
  }
"""
# The same second of the whole stream, played from a file.
EXPECTED = """(async () => {
  const whole = document.createElement("video");
  whole.muted = true;
  whole.src = URL.createObjectURL(await (await fetch(%r)).blob());
  await new Promise((resolve) => whole.addEventListener("loadeddata", resolve));
  whole.currentTime = %s;
  await new Promise((resolve) => whole.addEventListener("seeked", resolve));
  return thumbnail(whole);
})()"""


async def test_seeking_lands_where_asked(browser: Browser) -> None:
    """The bar seeks ahead and back, over what is not buffered: a request with `start`, and the
    picture of just that second."""
    async with stage(browser) as on:
        on.serve(hls(long_clip()))
        async with on.page(
            on.link(), before=f"globalThis.thumbnail = {THUMBNAIL.strip()};"
        ) as page:
            await page.until("video.currentTime > 0.1")
            assert await page.ask("video.buffered.end(0)") < 45  # it reads no further than it must
            await page.ask("video.pause()")
            for share, asked_s in ((0.9, 54), (0.2, 12)):
                await page.drag_to(share)
                await page.until(f"!video.seeking && Math.abs(video.currentTime - {asked_s}) < 1")
                at_s = await page.ask("video.currentTime")
                stream = on.address + stream_target(on.origin.at("/media.m3u8"))[1:]
                wanted = await page.ask(EXPECTED % (stream, at_s))
                got = await page.ask("thumbnail(video)")
                # scaled elsewhere it is off by some 4, and the picture before it by more than 15
                off = sum(abs(a - b) for a, b in zip(wanted, got, strict=True)) / len(got)
                assert off < 10, f"another picture at {at_s}"
                assert abs(await page.bar.evaluate("bar => bar.value - 0") - at_s) < 0.5
            starts = [float(one["start"][0]) for one in page.streams() if "start" in one]
            assert starts == pytest.approx([54, 12], abs=1)
            await page.ask("void video.play()")
            await page.until("video.currentTime > 12.5 && video.currentTime < 20")
            assert (await page.video()).duration_s == pytest.approx(60, abs=0.5)
        assert page.problems == []


async def test_seeking_inside_the_buffer_asks_for_nothing(browser: Browser) -> None:
    """What is there is played from there."""
    async with stage(browser) as on:
        on.serve(hls(make_clip(seconds=10)))
        async with on.page(on.link()) as page:
            await page.until("video.buffered.length && video.buffered.end(0) > 9.9")
            await page.drag_to(0.7)
            await page.until("video.currentTime > 7")
            await page.drag_to(0.3)
            await page.until("video.currentTime > 3 && video.currentTime < 5")
            assert len(page.streams()) == 1


async def test_seeking_after_the_end_plays_again(browser: Browser) -> None:
    """Behind the end the bar leads back into it, and it plays."""
    async with stage(browser) as on:
        on.serve(hls(make_clip(seconds=2)))
        async with on.page(on.link()) as page:
            await page.until("video.ended")
            await page.drag_to(0.1)
            await page.until("!video.ended && video.currentTime > 0.4 && video.currentTime < 1.5")
            assert len(page.streams()) == 1
        assert page.problems == []


async def test_paused_page_lets_go_and_goes_on(browser: Browser) -> None:
    """A page that is paused for long hangs up, and goes on later where it was, without a hole."""
    hurry = """
      const now = performance.now.bind(performance);
      performance.now = () => 40 * now();
    """
    async with stage(browser) as on:
        on.serve(hls(long_clip()))
        async with on.page(on.link(), before=hurry) as page:
            await page.until("video.currentTime > 0.1")
            await page.ask("video.pause()")
            await page.until("text('status').includes('let go of')")
            await asyncio.wait_for(on.app.idle(), TIMEOUT_S)
            end_s = await page.ask("video.buffered.end(0)")
            assert end_s < 59
            await page.ask(f"void (video.currentTime = {end_s} - 1, video.play())")
            await page.until(f"video.currentTime > {end_s} + 1")
            assert await page.ask("video.buffered.length") == 1
        assert float(page.streams()[-1]["start"][0]) == pytest.approx(end_s, abs=0.01)
        assert page.problems == []


# -- live ------------------------------------------------------------------------------------------


async def test_live_plays_on(browser: Browser) -> None:
    """A live source has no length, is played as it grows, and its newest is one press away."""
    async with stage(browser) as on:
        cuts = pieces(make_clip(seconds=12), 1.0)
        on.serve({f"{number}.ts": piece.data for number, piece in enumerate(cuts)})
        began_s = time.monotonic()

        def text(_request: Request) -> str:
            made = min(5 + int(time.monotonic() - began_s), len(cuts))
            first = max(0, made - 5)
            entries = [Entry(uri=f"{n}.ts", duration_s=1) for n in range(first, made)]
            return media_text(entries, target_duration_s=1, media_sequence=first, ended=False)

        on.origin.add("/media.m3u8", text)
        async with on.page(on.link()) as page:
            await page.until("video.buffered.length && video.buffered.end(0) > 4")
            assert await page.ask("video.duration === Infinity && shown('edge')")
            await page.until("text('facts').includes('live')")
            await page.drag_to(0)
            await page.until("video.currentTime < 1")
            await page.tab.get_by_role("button", name="Live").click()
            await page.until("video.buffered.end(0) - video.currentTime < 2.5")
            assert "behind live" in (await page.bar.get_attribute("aria-valuetext") or "")
            assert len(page.streams()) == 1
        assert page.problems == []


# -- other browsers --------------------------------------------------------------------------------


async def test_managed_media_source_plays(browser: Browser) -> None:
    """Where the browser manages the source it is fed when it asks, and not to the end at once."""
    async with stage(browser) as on:
        on.serve(hls(make_clip(seconds=3)))
        async with on.page(on.link(), before=MANAGED) as page:
            await page.until("video.ended")
            assert (await page.video()).frames == 75
        assert page.problems == []


async def test_browser_without_media_source_plays(browser: Browser) -> None:
    """Without either the video plays the address itself; the bar still spans and seeks it all."""
    async with stage(browser) as on:
        on.serve(hls(long_clip()))
        async with on.page(on.link(), before=NO_MSE) as page:
            await page.until("video.currentTime > 0.1")
            assert await page.ask("video.src") == on.address + on.target()
            await page.until("text('whole') === '1:00'")
            await page.drag_to(0.9)
            await page.until("video.src.includes('start=5') && video.currentTime > 0.1")
            at_s = await page.bar.evaluate("bar => bar.value - 0")
            assert at_s == pytest.approx(54, abs=3)
        assert page.problems == []


async def test_bare_video_is_opened_anew_where_it_cannot_seek_its_buffer(browser: Browser) -> None:
    """Chromium keeps what came, says it is not seekable, and would go back to the beginning."""
    async with stage(browser) as on:
        on.serve(hls(long_clip()))
        async with on.page(on.link(), before=NO_MSE) as page:
            await page.until("video.currentTime > 0.1 && video.buffered.end(0) > 3.1")
            await page.until("text('whole') === '1:00'")
            await page.drag_to(3 / 60)  # as near as the thumb's width lets it be
            await page.until("video.src.includes('start=') && video.currentTime > 0.1")
        assert float(page.streams()[-1]["start"][0]) == pytest.approx(3, abs=1)
        assert page.problems == []


async def test_bare_video_takes_steps_together(browser: Browser) -> None:
    """Steps that follow each other before the first is answered add up, and the last one counts."""
    async with stage(browser) as on:
        on.serve(hls(long_clip()))
        async with on.page(on.link(), before=NO_MSE) as page:
            await page.until("video.currentTime > 0.1")
            await page.until("text('whole') === '1:00'")
            await page.ask("""[1, 2, 3].map(() => document.getElementById("stage").dispatchEvent(
                new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true })))""")
            await page.until("video.src.includes('start=') && video.currentTime > 0.1")
        assert float(page.streams()[-1]["start"][0]) == pytest.approx(15, abs=2)


async def test_codec_that_the_browser_lacks_is_named(browser: Browser) -> None:
    """What this browser cannot decode is said by name, and offered for download."""
    async with stage(browser) as on:
        on.serve(hls(make_clip(seconds=2, video="hevc")))
        async with on.page(on.link()) as page:
            await page.until("shown('problem') && shown('take')")
            assert "lacks a codec" in await page.ask("text('problem')")
            assert "hvc1" in await page.ask("text('problem')")
