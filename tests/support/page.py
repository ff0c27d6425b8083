"""The player page in Chromium, in the hands of a test.

    async with chromium() as browser, opened(browser, f"{address}/#url=...") as page:
        await page.until("video.currentTime > 1")
        assert page.problems == []

`until` asks inside the page, whenever a frame is drawn or a moment has passed; nothing sleeps here.
Whatever the console complains about is kept in `problems`: violations of the policy among it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.support.browser import TIMEOUT_S

if TYPE_CHECKING:
    from playwright.async_api import Browser, Locator
    from playwright.async_api import Page as Tab

__all__ = ["Page", "Video", "opened", "state"]

_NAMES = """
  const video = document.querySelector("video");
  const text = (id) => document.getElementById(id).textContent;
  const shown = (id) => !document.getElementById(id).hidden;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """What could be read off the video."""

    current_s: float
    duration_s: float
    width: int
    height: int
    frames: int  # decoded so far
    audio_bytes: int  # decoded so far
    paused: bool


class Page:
    """The page; `tab` is Playwright's."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.problems: list[str] = []  # what the console complained about
        self.asked: list[str] = []  # paths and queries of all requests
        tab.on("console", self._listen)
        tab.on("pageerror", lambda error: self.problems.append(str(error)))
        tab.on("request", lambda request: self._note(request.url))

    def _listen(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.problems.append(message.text)

    def _note(self, address: str) -> None:
        parts = urlsplit(address)
        if parts.scheme != "blob":
            self.asked.append(f"{parts.path}?{parts.query}")

    async def ask(self, expression: str) -> Any:
        """Return the value of an expression; `video`, `text(id)` and `shown(id)` are known."""
        async with asyncio.timeout(TIMEOUT_S):
            return await self.tab.evaluate(f"async () => {{ {_NAMES} return ({expression}); }}")

    async def until(self, expression: str) -> Any:
        """Wait until an expression is true, and return its value.

        Raises:
            TimeoutError: it tells what the page says instead.
        """
        script = f"""async () => {{ {_NAMES}
          for (;;) {{
            const value = {expression};
            if (value) return value;
            await new Promise((resolve) => setTimeout(resolve, 10));
          }}
        }}"""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self.tab.evaluate(script)
        except TimeoutError:
            said = await self.ask("[document.body.innerText, video.currentTime]")
            raise TimeoutError(f"never: {expression}\n{said}\n{self.problems}") from None

    async def video(self) -> Video:
        return Video(
            **await self.ask("""{
              current_s: video.currentTime, duration_s: video.duration,
              width: video.videoWidth, height: video.videoHeight, paused: video.paused,
              frames: video.getVideoPlaybackQuality().totalVideoFrames,
              audio_bytes: video.webkitAudioDecodedByteCount,
            }""")
        )

    async def drag_to(self, share: float) -> None:
        """Press the time bar at a share of its length."""
        box = await self.bar.bounding_box()
        assert box is not None
        await self.bar.click(position={"x": box["width"] * share, "y": box["height"] / 2})

    @property
    def bar(self) -> Locator:
        return self.tab.get_by_role("slider", name="Position")

    def streams(self) -> list[dict[str, list[str]]]:
        """The queries of the requests for streams, in order."""
        return [parse_qs(one.partition("?")[2]) for one in self.asked if one.startswith("/stream?")]


@contextlib.asynccontextmanager
async def opened(
    browser: Browser,
    address: str,
    *,
    before: str = "",
    states: Sequence[Mapping[str, Any]] = (),
    **context: Any,
) -> AsyncIterator[Page]:
    """Open the page.

    Args:
        before: a script that is run before those of the page.
        states: what /streams/{id} and its events tell, one after the other; empty: as served.
        context: see `Browser.new_context`.
    """
    async with await browser.new_context(**context) as own:
        tab = await own.new_page()
        if before:
            await tab.add_init_script(before)
        if states:
            await _tell(tab, states)
        page = Page(tab)
        await tab.goto(address)
        yield page


async def _tell(tab: Tab, states: Sequence[Mapping[str, Any]]) -> None:
    """Answer for /streams/{id}, as scripted."""

    async def answer(route: Any) -> None:
        if route.request.url.endswith("/events"):
            names = ["state"] * (len(states) - 1) + ["end"]
            events = [
                f"event: {name}\ndata: {json.dumps(one)}\n\n"
                for name, one in zip(names, states, strict=True)
            ]
            await route.fulfill(content_type="text/event-stream", body="".join(events))
        else:
            await route.fulfill(json=dict(states[-1]))

    await tab.route("**/streams/**", answer)


def state(**changes: Any) -> dict[str, Any]:
    """What the API tells of a stream."""
    return {
        "id": "8c1f", "phase": "streaming", "outcome": None, "status": 200,
        "url": "http://origin.invalid/media.m3u8", "started_at": "2026-01-01T00:00:00Z",
        "elapsed_s": 1.0, "ttfb_s": 0.123, "live": False, "duration_s": 4.0,
        "codecs": "avc1.64001f,mp4a.40.2", "bytes_in": 3_000_000, "bytes_out": 2_000_000,
        "media_s": 2.0, "segments": {"fetched": 7, "retried": 3, "skipped": 0},
        "buffer": {"bytes": 500_000, "capacity_bytes": 4_000_000}, "client_stalls": 0,
        "left_out": {}, "root_cause": None, **changes,
    }  # fmt: skip
