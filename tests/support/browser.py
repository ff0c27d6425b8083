"""Chromium in the hands of a test: a page with a `<video>`, and an account of what that did.

    async with chromium() as browser, player(browser, origin) as page:
        seen = await page.play(f"{address}/stream?url=...")
        assert seen.last.name == "ended"

The page is served by the test's origin, so that the app is another origin to it, as it is in real
life.  Nothing is polled: the video's own events settle a promise of the page, and each is kept with
what could be read off the video at that moment.  The browser is the system's (Playwright's own
builds come without H.264 and AAC); Playwright only speaks to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.origin import Origin

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

__all__ = ["Account", "Appended", "Moment", "Player", "chromium", "lacking", "player"]

TIMEOUT_S = 30.0  # for a clip of a few seconds, on a machine that is busy

_BROWSER = "chromium"
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # root, in a container
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
)

_PAGE = """<!doctype html>
<meta charset="utf-8"><title>player</title><link rel="icon" href="data:,">
<video muted playsinline preload="auto"></video>
<script>
"use strict";
const video = document.querySelector("video");
const moments = [], pictures = [];

function ranges() {
  return [...Array(video.buffered.length).keys()].map(
    (at) => [video.buffered.start(at), video.buffered.end(at)]);
}

function account() {
  const error = video.error ? `${video.error.code} ${video.error.message}` : "";
  return {moments, pictures, error};
}

for (const name of ["loadedmetadata", "playing", "timeupdate", "resize", "waiting", "stalled",
                    "error", "ended"]) {
  video.addEventListener(name, () => moments.push({
    name,
    current_s: video.currentTime,
    duration_s: video.duration,
    width: video.videoWidth,
    height: video.videoHeight,
    ready_state: video.readyState,
    frames: video.getVideoPlaybackQuality().totalVideoFrames,
    audio_bytes: video.webkitAudioDecodedByteCount,
    buffered_s: ranges(),
  }));
}

const firstPicture = new Promise((resolve) => {
  function shown(now, picture) {
    pictures.push(picture.mediaTime);
    video.requestVideoFrameCallback(shown);
    resolve();
  }
  video.requestVideoFrameCallback(shown);
});

function happens(target, names) {
  return new Promise((resolve) => {
    for (const name of names) target.addEventListener(name, resolve, {once: true});
  });
}

async function play({address, rate, until}) {
  const end = happens(video, until);
  video.defaultPlaybackRate = video.playbackRate = rate;
  if (address) video.src = address;
  await Promise.race([firstPicture, end]);  // paused, so that no load makes it miss the first
  video.play().catch(() => {});  // what hinders it is an event too
  await end;
  return account();
}

async function append({address}) {
  const source = new MediaSource();
  video.src = URL.createObjectURL(source);
  await happens(source, ["sourceopen"]);
  const answer = await fetch(address);
  const mime = answer.headers.get("Content-Type");
  const buffer = source.addSourceBuffer(mime);  // throws where it does not support that type
  const reader = answer.body.getReader();
  let firstDuration = NaN;
  for (;;) {
    const {done, value} = await reader.read();
    if (done) break;
    buffer.appendBuffer(value);
    await happens(buffer, ["updateend"]);
    if (isNaN(firstDuration)) firstDuration = source.duration;
  }
  source.endOfStream();
  return {
    mime,
    told_s: parseFloat(answer.headers.get("X-Content-Duration")),
    first_duration_s: firstDuration,
    buffered_s: ranges(),
  };
}
</script>
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """An event of the video, and what could be read off it then."""

    name: str
    current_s: float
    duration_s: float  # NaN: not known
    width: int
    height: int
    ready_state: int  # HTMLMediaElement: 0 HAVE_NOTHING to 4 HAVE_ENOUGH_DATA
    frames: int  # decoded so far, those that came too late to be shown included
    audio_bytes: int  # decoded so far
    buffered_s: list[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What the video did, in order."""

    moments: tuple[Moment, ...]
    pictures: tuple[float, ...]  # media times of those that were painted; a busy machine skips some
    error: str  # code and message of its MediaError; empty: none

    @property
    def last(self) -> Moment:
        return self.moments[-1]

    def all(self, name: str) -> list[Moment]:
        return [moment for moment in self.moments if moment.name == name]

    def one(self, name: str) -> Moment:
        (moment,) = self.all(name)
        return moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """What became of a stream that was appended to a SourceBuffer."""

    mime: str  # the Content-Type, which the SourceBuffer was made with
    told_s: float  # the X-Content-Duration
    first_duration_s: float  # of the MediaSource, behind the first bytes
    buffered_s: list[tuple[float, float]]


class Player:
    """The page."""

    def __init__(self, page: Page) -> None:
        self.problems: list[str] = []  # what the console complained about
        self._page = page
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.problems.append(str(error)))

    def _listen(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.problems.append(message.text)

    async def play(
        self,
        address: str | None,
        *,
        rate: float = 1.0,
        until: Sequence[str] = ("ended", "error"),
    ) -> Account:
        """Play a stream (None: what was appended), and return when one of the events has come.

        Raises:
            TimeoutError: none came; it tells what did.
        """
        try:
            told = await self._run("play", address=address, rate=rate, until=list(until))
        except TimeoutError:
            raise TimeoutError(f"none of {until} came: {await self._run('account')}") from None
        moments = tuple(Moment(**moment) for moment in told["moments"])
        return Account(moments=moments, pictures=tuple(told["pictures"]), error=told["error"])

    async def append(self, address: str) -> Appended:
        """Fetch a stream and append it to a SourceBuffer as it comes.

        Raises:
            playwright.async_api.Error: the browser does not support its type, or it was cut.
        """
        return Appended(**await self._run("append", address=address))

    async def _run(self, function: str, **arguments: Any) -> Any:
        async with asyncio.timeout(TIMEOUT_S):
            return await self._page.evaluate(f"wishes => {function}(wishes)", arguments)


def lacking() -> str:
    """Return what is missing here for these tests; empty: nothing."""
    if importlib.util.find_spec("playwright") is None:
        return "the Python package playwright"
    return "" if shutil.which(_BROWSER) else f"the browser {_BROWSER}"


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run Chromium with a fresh profile."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which(_BROWSER),
            headless=False,  # Playwright's own way of it mutes more than the sound
            args=_FLAGS,
        )
        try:
            yield browser
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def player(browser: Browser, origin: Origin) -> AsyncIterator[Player]:
    """Open the page, served by `origin`; leaving closes its tab."""
    address = origin.add("/player.html", _PAGE)
    page = await browser.new_page()
    try:
        found = Player(page)
        await page.goto(address)
        yield found
    finally:
        await page.close()
