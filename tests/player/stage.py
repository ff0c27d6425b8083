"""What the tests of the page stand on: the app, the origin that it fetches from, and the page."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from proxy.app import App, Settings
from tests.support.client import TIMEOUT_S, stream_target
from tests.support.clips import Clip, make_clip
from tests.support.origin import Origin
from tests.support.page import Page, opened
from tests.support.served import Serve, over_aiohttp, real_app

if TYPE_CHECKING:
    from playwright.async_api import Browser

__all__ = ["Stage", "long_clip", "stage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The app and the origin that it fetches from."""

    browser: Browser
    app: App
    origin: Origin
    address: str  # of the page, with a slash at its end

    def serve(self, files: Mapping[str, bytes | str]) -> None:
        for path, body in files.items():
            self.origin.add(f"/{path}", body)

    def link(self, path: str = "/media.m3u8", **wishes: str) -> str:
        """The address of the page that plays a playlist of the origin."""
        pairs = {"url": self.origin.at(path), **wishes}
        words = [f"{name}={quote(value, safe='')}" for name, value in pairs.items()]
        return f"{self.address}#{'&'.join(words)}"

    def target(self, path: str = "/media.m3u8") -> str:
        """The address of the stream of a playlist, behind that of the page."""
        return stream_target(self.origin.at(path)).removeprefix("/")

    @contextlib.asynccontextmanager
    async def page(
        self, address: str | None = None, *, states: Any = (), **options: Any
    ) -> AsyncIterator[Page]:
        async with opened(self.browser, address or self.address, states=states, **options) as page:
            yield page


@contextlib.asynccontextmanager
async def stage(
    browser: Browser, settings: Settings | None = None, serve: Serve = over_aiohttp
) -> AsyncIterator[Stage]:
    async with Origin() as origin, real_app(settings) as app:
        async with serve(app) as address:
            base = f"{address}{app.settings.base_path}/"
            yield Stage(browser=browser, app=app, origin=origin, address=base)
            await asyncio.wait_for(app.idle(), TIMEOUT_S)  # the tabs are closed
        assert origin.unknown == []


def long_clip() -> Clip:
    """Return a minute that is cheap to make, and longer than what a page reads ahead."""
    return make_clip(seconds=60, fps=5, gop_s=2, b_frames=0, bitrate=50_000)
