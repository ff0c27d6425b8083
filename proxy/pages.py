"""From a page to a playlist: may it be read, what does it say, which of that leads to HLS.

An address is fetched as a playlist first; only what turns out to be a page comes here, so that
playlists cost nothing more.  The order of things: robots.txt is asked before the page is parsed;
then the candidates of the page are tried in their order (`extract.rank`), a player page among them
by the same rules, so deep and no deeper.  Every address that a page names is as untrusted as any
that a client names, and goes through the same guarded `Fetcher`; what it answers is no secret to
whoever asked, since an address that is refused and one that fails both end the request.

Where the page shows a login or a challenge in its place, that is the end (`PageRefused`).

Runs on the event loop; a page is parsed on a thread, one at a time, within `extract.Limits`.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

from proxy.errors import (
    EncryptedSource,
    NoVideoFound,
    PageRefused,
    PlainMp4,
    PlaylistError,
    ProxyError,
    SourceTimeout,
    SourceTooLarge,
)
from proxy.extract import Candidate, Limits, Page, read_page
from proxy.extract.model import Standing
from proxy.extract.page import is_page
from proxy.fetch.client import Fetcher, Resource
from proxy.guard.redaction import redact
from proxy.hls.parse import looks_like_playlist
from proxy.robots import RobotsCache

__all__ = ["Found", "FoundMp4", "PageSettings", "Pages", "Seen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSettings:
    enabled: bool = True
    respect_robots: bool = True
    depth: int = 1  # player pages that a page may lead to, one behind the other
    fetches: int = 6  # requests for what pages name, for one request of a client
    deadline_s: float = 20.0  # for all of that, robots.txt included; players give up sooner
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The page that a client named, and what it offers; for `inspect`."""

    url: str = field(repr=False)  # after redirects
    title: str
    candidates: tuple[Candidate, ...]  # those of player pages behind them
    chosen: Candidate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A playlist, and the page that led to it, if any."""

    resource: Resource
    address: str = field(repr=False)  # of the playlist, as it was first asked for
    seen: Seen | None = None


class FoundMp4(PlainMp4):
    """A page whose video is a file."""

    def __init__(self, seen: Seen, file: Candidate) -> None:
        where = redact(file.url)
        left_out = " The query of its address is left out." if "?" in file.url else ""
        super().__init__(f"a plain MP4: {where}", detail=self.public + left_out)
        self.file = where
        self.seen = replace(seen, chosen=file)


@dataclass(slots=True)
class _Trip:
    """What one request of a client has cost so far, and met."""

    max_bytes: int  # of a playlist
    fetches: int
    seen: Seen | None = None  # the first page


class Pages:
    """Finds the playlist behind an address; belongs to one `Fetcher`."""

    def __init__(self, fetcher: Fetcher, settings: PageSettings | None = None) -> None:
        self._fetcher = fetcher
        self._settings = settings or PageSettings()
        self._robots = RobotsCache(fetcher)
        self._thread: ThreadPoolExecutor | None = None

    async def find(self, url: str, *, max_bytes: int) -> Found:
        """Fetch what is at `url`, and follow it to a playlist of at most `max_bytes`.

        Raises:
            NoVideoFound: it is a page that leads to no HLS; `PlainMp4` where it leads to a file.
            PageRefused: something else stands in the place of the page.
            PlaylistError: it is neither a playlist nor a page.
            SourceNotFound, SourceUnavailable, SourceTimeout, Forbidden, ...: as of `Fetcher.read`.
        """
        found = await self._read(url, max_bytes)
        if looks_like_playlist(found.body):
            return Found(resource=found, address=url)
        if not is_page(found.body, found.content_type):
            raise _no_playlist(found)
        if not self._settings.enabled:
            raise NoVideoFound(
                detail="This address is a page, and pages are not read here (extract.enabled)."
            )
        trip = _Trip(max_bytes=max_bytes, fetches=self._settings.fetches)
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                found_there = await self._through(found, trip, depth=0)
        except TimeoutError:
            raise SourceTimeout(
                f"page {redact(url)}: not done within {self._settings.deadline_s:g} s"
            ) from None
        return found_there

    def close(self) -> None:
        """Let go of the thread; a page that is being parsed is left to its limits."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None

    # -- one page ----------------------------------------------------------------------------------

    async def _read(self, url: str, max_bytes: int) -> Resource:
        try:
            return await self._fetcher.read(
                url,
                max_bytes=max_bytes,
                what="playlist",
                page_bytes=self._settings.limits.page_bytes,
            )
        except ProxyError as error:
            if getattr(error, "page_refused", False):
                raise PageRefused(str(error)) from None
            raise

    async def _through(self, found: Resource, trip: _Trip, *, depth: int) -> Found:
        """Go on from a page that has been fetched to the first playlist it leads to."""
        limits = self._settings.limits
        if len(found.body) > limits.page_bytes:  # of another type, so that nobody noticed
            raise SourceTooLarge(f"page {redact(found.url)}: {len(found.body)} bytes")
        if self._settings.respect_robots and not await self._robots.allow(found.url):
            raise PageRefused(
                f"page {redact(found.url)}: robots.txt",
                detail="The robots.txt of the site asks programs not to read this page, or could "
                "not be read. Use its official API, or the address of the playlist.",
            )
        page = await self._parsed(found)
        if trip.seen is None:
            trip.seen = Seen(url=found.url, title=page.title, candidates=page.candidates)
        else:
            more = (*trip.seen.candidates, *page.candidates)
            trip.seen = replace(trip.seen, candidates=more)
        if page.refusal:
            raise PageRefused(f"page {redact(found.url)}: {page.refusal}")
        failure: ProxyError | None = None
        for candidate in _eligible(page):
            if candidate.kind == "mp4":
                raise FoundMp4(trip.seen, candidate)
            if candidate.kind == "dash":
                continue
            if trip.fetches <= 0 or (candidate.kind == "page" and depth >= self._settings.depth):
                continue
            trip.fetches -= 1
            try:
                return await self._try(candidate, trip, depth=depth)
            except FoundMp4 as error:  # what the first page names itself is told rather
                failure = error
            except ProxyError as error:
                failure = failure or error
        raise failure or _nothing(page)

    async def _try(self, candidate: Candidate, trip: _Trip, *, depth: int) -> Found:
        found = await self._read(candidate.url, trip.max_bytes)
        if looks_like_playlist(found.body):
            assert trip.seen is not None
            seen = replace(trip.seen, chosen=candidate)
            return Found(resource=found, address=candidate.url, seen=seen)
        if candidate.kind == "page" and is_page(found.body, found.content_type):
            inner = await self._through(found, trip, depth=depth + 1)
            assert inner.seen is not None
            return inner
        raise _no_playlist(found)

    async def _parsed(self, found: Resource) -> Page:
        if self._thread is None:  # never the default one: that resolves names, too
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="page")
        work = partial(
            read_page,
            found.body,
            url=found.url,
            content_type=found.content_type,
            limits=self._settings.limits,
        )
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _eligible(page: Page) -> tuple[Candidate, ...]:
    """The candidates that may be the video of the page: others only where there is nothing else."""
    sure = tuple(one for one in page.candidates if one.standing < Standing.OTHER)
    return sure or page.candidates


def _nothing(page: Page) -> ProxyError:
    if any(one.kind == "dash" for one in _eligible(page)):
        if page.drm:
            return EncryptedSource(
                detail="The page offers its video as DASH with DRM only, which is not opened here."
            )
        return NoVideoFound(
            detail="The page offers its video as MPEG-DASH only; HLS is what is read here."
        )
    return NoVideoFound()


def _no_playlist(found: Resource) -> ProxyError:
    """Say what stands at an address instead of a playlist or a page."""
    if is_page(found.body, found.content_type):
        return NoVideoFound()
    if not found.body:
        return PlaylistError("it is empty")
    return PlaylistError("it does not begin with #EXTM3U", line=1)
