"""Builders of playlist texts: what a test says, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from proxy.hls.model import MediaPlaylist, MultivariantPlaylist
from proxy.hls.parse import parse_playlist

__all__ = [
    "BASE_URL",
    "Entry",
    "media_text",
    "multivariant_text",
    "parse_media",
    "parse_multivariant",
    "rendition_tag",
    "variant_lines",
]

BASE_URL = "https://origin.example/live/channel/index.m3u8?token=abc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A segment of a playlist text: its URI, its EXTINF and the lines before it."""

    uri: str
    duration_s: float = 6.0
    tags: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        return [*self.tags, f"#EXTINF:{self.duration_s:g},", self.uri]


def media_text(
    entries: Iterable[Entry | str],
    *,
    target_duration_s: float | None = 6,
    media_sequence: int | None = 0,
    playlist_type: str | None = None,
    ended: bool = True,
    head: Sequence[str] = (),
    tail: Sequence[str] = (),
) -> str:
    """Return a Media Playlist; a bare string is a segment of six seconds."""
    lines = ["#EXTM3U"]
    if target_duration_s is not None:
        lines.append(f"#EXT-X-TARGETDURATION:{target_duration_s:g}")
    if media_sequence is not None:
        lines.append(f"#EXT-X-MEDIA-SEQUENCE:{media_sequence}")
    if playlist_type is not None:
        lines.append(f"#EXT-X-PLAYLIST-TYPE:{playlist_type}")
    lines += head
    for entry in entries:
        lines += (Entry(uri=entry) if isinstance(entry, str) else entry).lines()
    lines += tail
    if ended:
        lines.append("#EXT-X-ENDLIST")
    return "\n".join(lines) + "\n"


def variant_lines(uri: str, **attributes: object) -> list[str]:
    """Return EXT-X-STREAM-INF and its URI: `variant_lines("a.m3u8", BANDWIDTH=1, CODECS="avc1")`.

    Strings are quoted, and an underscore in a name is a hyphen; RESOLUTION is never quoted.
    """
    return [f"#EXT-X-STREAM-INF:{_attribute_list(attributes)}", uri]


def rendition_tag(**attributes: object) -> str:
    """Return EXT-X-MEDIA; of type AUDIO in the group `a` unless told otherwise."""
    kind = attributes.pop("TYPE", "AUDIO")
    return f"#EXT-X-MEDIA:TYPE={kind},{_attribute_list({'GROUP_ID': 'a', **attributes})}"


def multivariant_text(*parts: str | Sequence[str]) -> str:
    """Return a Multivariant Playlist of tags and groups of lines."""
    lines = ["#EXTM3U"]
    for part in parts:
        lines += [part] if isinstance(part, str) else part
    return "\n".join(lines) + "\n"


def parse_media(text: bytes | str, base_url: str = BASE_URL) -> MediaPlaylist:
    """Parse what must be a Media Playlist."""
    playlist = parse_playlist(text, base_url)
    assert isinstance(playlist, MediaPlaylist)
    return playlist


def parse_multivariant(*parts: str | Sequence[str]) -> MultivariantPlaylist:
    """Build and parse a Multivariant Playlist."""
    playlist = parse_playlist(multivariant_text(*parts), BASE_URL)
    assert isinstance(playlist, MultivariantPlaylist)
    return playlist


def _attribute_list(attributes: dict[str, object]) -> str:
    return ",".join(
        f"{name.replace('_', '-')}={_value(name, value)}" for name, value in attributes.items()
    )


def _value(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "YES" if value else "NO"
    if isinstance(value, str) and name != "RESOLUTION":
        return f'"{value}"'
    return str(value)
