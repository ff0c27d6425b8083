"""From an address to what will be fetched: page or playlist → variant → media playlist.

Joins fetch and hls; knows no media and no server.  One or two requests, one after the other, and
nothing of a variant that was not chosen.  Runs on the event loop.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from proxy.errors import (
    EncryptedSource,
    NoPlayableVariant,
    NotAPlaylist,
    NotSupportedYet,
    NoVideoFound,
    PlaylistError,
    ProxyError,
)
from proxy.fetch.client import Fetcher, Resource
from proxy.hls.model import MediaPlaylist, MultivariantPlaylist, Segment
from proxy.hls.parse import looks_like_playlist, parse_playlist
from proxy.hls.select import Choice, Quality, choose


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequest:
    """What a client asks for."""

    url: str = field(repr=False)
    quality: Quality = field(default_factory=Quality)
    audio: str | None = None  # language tag or name of a rendition


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was found behind an address, and what of it was chosen."""

    media: MediaPlaylist
    multivariant: MultivariantPlaylist | None = None
    choice: Choice | None = None
    audio_only: bool = False
    seconds: tuple[tuple[str, float], ...] = ()  # what each step took


async def make_plan(fetcher: Fetcher, request: StreamRequest, *, playlist_bytes: int) -> Plan:
    """Fetch the playlists that lead to the media the client wants.

    Raises:
        NoVideoFound: the address is a page.
        NotAPlaylist: an address in the playlist leads to something else.
        PlaylistError, NoPlayableVariant, SourceNotFound, ...: as the rooms below raise them.
    """
    began_s = time.monotonic()
    found = await fetcher.read(request.url, max_bytes=playlist_bytes, what="playlist")
    if not looks_like_playlist(found.body):
        raise _no_playlist(found)
    playlist = parse_playlist(found.body, found.url)
    read_s = time.monotonic()
    if isinstance(playlist, MediaPlaylist):
        return Plan(
            media=playlist,
            audio_only=request.quality.kind == "audio",
            seconds=(("playlist", read_s - began_s),),
        )
    choice = choose(playlist, request.quality, request.audio)
    address = choice.variant.uri
    if choice.audio_only and choice.rendition is not None and choice.rendition.uri is not None:
        address = choice.rendition.uri
    media = await _read_media(fetcher, address, playlist, playlist_bytes)
    return Plan(
        media=media,
        multivariant=playlist,
        choice=choice,
        audio_only=choice.audio_only,
        seconds=(
            ("multivariant", read_s - began_s),
            ("playlist", time.monotonic() - read_s),
        ),
    )


async def _read_media(
    fetcher: Fetcher, address: str, parent: MultivariantPlaylist, playlist_bytes: int
) -> MediaPlaylist:
    found = await fetcher.read(address, max_bytes=playlist_bytes, what="playlist")
    if not looks_like_playlist(found.body):
        raise NotAPlaylist(f"{len(found.body)} bytes of {found.content_type or 'no type'}")
    media = parse_playlist(found.body, found.url, imports=dict(parent.defines))
    if isinstance(media, MultivariantPlaylist):
        raise PlaylistError("a multivariant playlist leads to another one")
    return media


def _no_playlist(found: Resource) -> ProxyError:
    """Say what stands at the client's own address instead of a playlist."""
    head = found.body[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html", b"<!--", b"<head", b"<body")) or (
        "html" in found.content_type and head.startswith(b"<")
    ):
        return NoVideoFound()
    if not found.body:
        return PlaylistError("it is empty")
    return PlaylistError("it does not begin with #EXTM3U", line=1)


def check(plan: Plan) -> None:
    """Refuse what cannot become an MP4, or cannot yet, before any media is fetched.

    Raises:
        NoPlayableVariant: it has no ordinary pictures.
        EncryptedSource: no key that we may have opens it.
        NotSupportedYet: naming the tag.
    """
    media, choice = plan.media, plan.choice
    if media.i_frames_only:
        raise NoPlayableVariant(detail="The playlist holds I-frames only (EXT-X-I-FRAMES-ONLY).")
    methods = {segment.key.method for segment in media.segments if segment.key is not None}
    if methods - {"AES-128"}:
        raise EncryptedSource(detail=f"EXT-X-KEY: METHOD={min(methods - {'AES-128'})}.")
    for tag, present in _not_yet(media.segments):
        if present:
            raise NotSupportedYet(detail=f"{tag} is not supported yet.")
    if media.live:
        raise NotSupportedYet(detail="Live (no EXT-X-ENDLIST) is not supported yet.")
    if choice is not None and choice.rendition is not None and not choice.audio_only:
        raise NotSupportedYet(detail="EXT-X-MEDIA with a URI is not supported yet.")


def _not_yet(segments: Iterable[Segment]) -> Iterable[tuple[str, bool]]:
    segments = tuple(segments)
    yield "EXT-X-KEY:METHOD=AES-128", any(s.key is not None for s in segments)
    yield "EXT-X-MAP", any(s.init_section is not None for s in segments)
    yield "EXT-X-BYTERANGE", any(s.byte_range is not None for s in segments)
    yield "EXT-X-GAP", any(s.gap for s in segments)
    yield "EXT-X-DISCONTINUITY", any(s.discontinuity for s in segments[1:])
