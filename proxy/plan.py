"""From an address to what will be fetched: playlist → variant and rendition → media playlists.

Joins fetch and hls, behind `pages`; knows no media and no server.  Two requests, one after the
other (the second twice, side by side, where audio is apart), and nothing of a variant that was not
chosen.  Runs on the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from proxy.errors import (
    InvalidRequest,
    NestedPlaylist,
    NoPlayableVariant,
    NotAPlaylist,
    PlaylistError,
    ProxyError,
)
from proxy.fetch.client import Fetcher, Resource
from proxy.fetch.keys import check_supported
from proxy.fetch.renewal import is_expired
from proxy.hls.lines import Limits
from proxy.hls.model import MediaPlaylist, MultivariantPlaylist, Start
from proxy.hls.parse import looks_like_playlist, parse_playlist
from proxy.hls.select import Choice, choose
from proxy.pages import Found, Pages, Seen
from proxy.request import StreamRequest

_INSIDE_S = 0.001  # of an end: where the segment before it still is


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaylistLimits:
    """How large a playlist may be."""

    size_bytes: int = 8 * 1024 * 1024  # 4 h of 2 s segments with signed addresses are 4.3 MB
    text: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One media playlist, and how to load it again."""

    playlist: MediaPlaylist
    address: str = field(repr=False)  # as it was first asked for: redirects may lead elsewhere
    imports: dict[str, str] = field(repr=False, default_factory=dict)  # for EXT-X-DEFINE
    start: Start | None = None  # EXT-X-START of the multivariant playlist
    # Finds it anew in its multivariant playlist; None: there is none.
    find: Callable[[], Awaitable[Source]] | None = field(repr=False, default=None)

    def position_of(self, group: int) -> float | None:
        """Return where the segments of a Discontinuity Sequence Number begin, in seconds."""
        position_s = 0.0
        for segment in self.playlist.segments:
            if segment.discontinuity_sequence == group:
                return position_s
            position_s += segment.duration_s
        return None

    @property
    def first_group(self) -> int:
        """The Discontinuity Sequence Number of the first segment."""
        segments = self.playlist.segments
        return segments[0].discontinuity_sequence if segments else 0

    def nearest_in(self, nth: int, position_s: float) -> float:
        """Return the position nearest to one in another playlist that is on the same clock: behind
        the nth discontinuity, counted from the first segment; anywhere, where there is none."""
        numbers = [segment.discontinuity_sequence for segment in self.playlist.segments]
        group = self.first_group + nth
        begin_s, end_s = 0.0, self.playlist.duration_s
        if group in numbers:
            begin_s = self.position_of(group) or 0.0
            own = (s for s in self.playlist.segments if s.discontinuity_sequence == group)
            end_s = begin_s + sum(segment.duration_s for segment in own)
        return max(min(position_s, end_s - _INSIDE_S), begin_s)

    async def reload(self, fetcher: Fetcher, limits: PlaylistLimits) -> Source:
        """Fetch it again; where its address has expired, from the multivariant playlist on."""
        try:
            found = await fetcher.read(self.address, max_bytes=limits.size_bytes, what="playlist")
        except ProxyError as error:
            if self.find is None or not is_expired(error):
                raise
            return await self.find()
        return replace(self, playlist=_media_playlist(found, self.imports, limits))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was found behind an address, and what of it was chosen."""

    sources: tuple[Source, ...]  # one; or two, of which the second has the audio
    multivariant: MultivariantPlaylist | None = None
    choice: Choice | None = None
    audio_only: bool = False
    page: Seen | None = None  # where the address was one of a page
    seconds: tuple[tuple[str, float], ...] = ()  # what each step took

    @property
    def media(self) -> MediaPlaylist:
        """The playlist that leads."""
        return self.sources[0].playlist


async def make_plan(
    fetcher: Fetcher, request: StreamRequest, limits: PlaylistLimits, pages: Pages | None = None
) -> Plan:
    """Fetch the playlists that lead to the media the client wants; `pages` follows pages to them.

    Raises:
        NoVideoFound, PageRefused: the address is a page that leads to none.
        NotAPlaylist: an address in the playlist leads to something else.
        PlaylistError, NoPlayableVariant, SourceNotFound, ...: as the rooms below raise them.
    """
    began_s = time.monotonic()
    beginning = _Beginning(pages=pages or Pages(fetcher), request=request, limits=limits)
    found = await beginning.find()
    name = "multivariant" if found.seen is None else "page"
    playlist = parse_playlist(found.resource.body, found.resource.url, limits=limits.text)
    read_s = time.monotonic()
    if isinstance(playlist, MediaPlaylist):
        find = None if found.seen is None else beginning.source
        return Plan(
            sources=(Source(playlist=playlist, address=found.address, find=find),),
            audio_only=request.quality.kind == "audio",
            page=found.seen,
            seconds=(("playlist" if found.seen is None else name, read_s - began_s),),
        )
    choice = choose(playlist, request.quality, request.audio)
    ways = [
        _Way(fetcher=fetcher, beginning=beginning, choice=choice, role=role)
        for role in range(len(_addresses(choice)))
    ]
    sources = await _go_all(ways, playlist)
    return Plan(
        sources=tuple(sources),
        multivariant=playlist,
        choice=choice,
        audio_only=choice.audio_only,
        page=found.seen,
        seconds=(
            (name, read_s - began_s),
            ("playlist", time.monotonic() - read_s),
        ),
    )


async def _go_all(ways: list[_Way], parent: MultivariantPlaylist) -> list[Source]:
    """Fetch media playlists side by side; the first failure ends the others."""
    if len(ways) == 1:
        return [await ways[0].go(parent)]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(way.go(parent)) for way in ways]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beginning:
    """The client's address, and how to come from it to its first playlist, once more if need be."""

    pages: Pages
    request: StreamRequest
    limits: PlaylistLimits

    async def find(self) -> Found:
        return await self.pages.find(self.request.url, max_bytes=self.limits.size_bytes)

    async def source(self) -> Source:
        """Find a media playlist anew whose address, in a page, has expired."""
        found = await self.find()
        playlist = _media_playlist(found.resource, {}, self.limits)
        return Source(playlist=playlist, address=found.address, find=self.source)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """From the client's address to one media playlist: the one that has a role in a choice."""

    fetcher: Fetcher
    beginning: _Beginning
    choice: Choice
    role: int

    async def go(self, parent: MultivariantPlaylist) -> Source:
        """Fetch the media playlist that `parent` names."""
        address, imports = _addresses(self.choice)[self.role], dict(parent.defines)
        limits = self.beginning.limits
        found = await self.fetcher.read(address, max_bytes=limits.size_bytes, what="playlist")
        return Source(
            playlist=_media_playlist(found, imports, limits),
            address=address,
            imports=imports,
            start=parent.start,
            find=self.again,
        )

    async def again(self) -> Source:
        """Fetch the multivariant playlist, too; its choice must be the same but for addresses."""
        request, limits = self.beginning.request, self.beginning.limits
        found = (await self.beginning.find()).resource
        parent = parse_playlist(found.body, found.url, limits=limits.text)
        if isinstance(parent, MediaPlaylist):
            raise PlaylistError("it is no multivariant playlist any more")
        choice = choose(parent, request.quality, request.audio)
        if _without_addresses(choice) != _without_addresses(self.choice):
            raise PlaylistError("the multivariant playlist offers something else by now")
        return await replace(self, choice=choice).go(parent)


def _addresses(choice: Choice) -> list[str]:
    """What to fetch for a choice; the second has the audio."""
    rendition = choice.rendition.uri if choice.rendition is not None else None
    if rendition is None:
        return [choice.variant.uri]
    return [rendition] if choice.audio_only else [choice.variant.uri, rendition]


def _without_addresses(choice: Choice) -> Choice:
    rendition = choice.rendition and replace(choice.rendition, uri=None)
    return replace(choice, variant=replace(choice.variant, uri=""), rendition=rendition)


def _media_playlist(
    found: Resource, imports: dict[str, str], limits: PlaylistLimits
) -> MediaPlaylist:
    if not looks_like_playlist(found.body):
        raise NotAPlaylist(f"{len(found.body)} bytes of {found.content_type or 'no type'}")
    media = parse_playlist(found.body, found.url, imports=imports, limits=limits.text)
    if isinstance(media, MultivariantPlaylist):
        raise NestedPlaylist
    return media


def check(plan: Plan, request: StreamRequest) -> None:
    """Refuse what cannot become an MP4 before any media is fetched.

    Raises:
        NoPlayableVariant: it has no ordinary pictures, or nothing at all.
        EncryptedSource: no key that we may have opens it.
        InvalidRequest: the request does not fit the source.
    """
    for source in plan.sources:
        media = source.playlist
        if media.i_frames_only:
            detail = "The playlist holds I-frames only (EXT-X-I-FRAMES-ONLY)."
            raise NoPlayableVariant(detail=detail)
        first = next((segment for segment in media.segments if not segment.gap), None)
        if first is None and media.segments and not media.live:
            detail = "The playlist says of every segment that it is missing (EXT-X-GAP)."
            raise NoPlayableVariant(detail=detail)
        if first is not None and first.key is not None:
            check_supported(first.key)
    start_s, end_s = request.start_s or 0.0, request.end_s
    if start_s < 0 and end_s is not None and plan.media.duration_s + start_s >= end_s:
        raise InvalidRequest(detail="The parameter `end` must lie behind `start`.")
    if plan.media.live and request.end_s is not None:
        raise InvalidRequest(detail="The parameter `end` needs a presentation that has an end.")


def check_keys(plan: Plan) -> None:
    """Look at the keys of all segments: playing begins without, and is cut where one does not open.

    Raises:
        EncryptedSource: some segment cannot be opened.
    """
    for source in plan.sources:
        for key in {s.key for s in source.playlist.segments if s.key is not None}:
            check_supported(key)
