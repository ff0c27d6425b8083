"""Playlist text + base URL → model.  The only importer of m3u8.

Callers rely on this: a `MultivariantPlaylist` or `MediaPlaylist` comes back, every address in it
absolute, every number in range; or `PlaylistError` naming the line, and nothing else, whatever the
bytes are.  Work and memory are bounded by `Limits`.

What m3u8 does here: it splits attribute lists (quotes, commas in quotes, spaces, the names).  What
it gets wrong or leaves out as a parser is done here instead (m3u8 6.0.0, measured):

- one bad number anywhere (`EXT-X-VERSION:nan`) raises a bare ValueError or KeyError and loses the
  playlist: 9 of 255 texts in use.  Here a number that is none counts as missing, unless media
  would be wrong without it (BYTERANGE, IV, SKIPPED-SEGMENTS): then the line is refused
- no line numbers; lines also end at U+2028, U+0085 and the like, in the middle of a title
- EXT-X-PART at the end makes a segment that does not exist
- the last EXT-X-KEY wins whatever its KEYFORMAT; METHOD=NONE is a key
- no EXT-X-DEFINE, no offsets for EXT-X-BYTERANGE, no Discontinuity Sequence Numbers
- its time grows with the square of the number of keys (0.8 s for 4,000)

How strict: what players play is read; what would put wrong media into the output is refused, and so
is a text that was cut off.  Section numbers are those of RFC 8216bis.
"""

from __future__ import annotations

from collections.abc import Mapping

from m3u8.parser import ATTRIBUTELISTPATTERN, normalize_attribute, remove_quotes

from proxy.errors import PlaylistError
from proxy.hls.lines import Limits, looks_like_playlist, read_lines
from proxy.hls.model import MediaPlaylist, MultivariantPlaylist
from proxy.hls.multivariant import MultivariantReader
from proxy.hls.segments import MediaReader
from proxy.hls.tags import Context

__all__ = ["Limits", "looks_like_playlist", "parse_playlist"]

DEFAULT_LIMITS = Limits()
_MULTIVARIANT_TAGS = {
    "EXT-X-STREAM-INF",
    "EXT-X-I-FRAME-STREAM-INF",
    "EXT-X-IMAGE-STREAM-INF",
    "EXT-X-MEDIA",
}
_MEDIA_TAGS = {"EXTINF", "EXT-X-TARGETDURATION", "EXT-X-BYTERANGE"}


def parse_playlist(
    text: bytes | str,
    base_url: str,
    *,
    imports: Mapping[str, str] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> MultivariantPlaylist | MediaPlaylist:
    """Parse a playlist of either kind.

    `base_url` is where it was fetched from, redirects followed: relative addresses and QUERYPARAM
    go by it.  `imports` are the variables of the Multivariant Playlist that led here
    (`dict(multivariant.defines)`), for EXT-X-DEFINE:IMPORT.

    Raises:
        PlaylistError: malformed, empty, cut off, or more than `limits` allow; names the line.
    """
    lines = read_lines(text, limits)
    first_lines = {line.tag: line.number for line in reversed(lines)}
    tags = first_lines.keys()
    if "EXT-X-STREAM-INF" in tags and "EXTINF" in tags:
        raise PlaylistError(  # 4.1: one or the other, and the client must not guess
            "segments and variants in one playlist",
            line=max(first_lines["EXTINF"], first_lines["EXT-X-STREAM-INF"]),
        )
    context = Context(
        base_url=base_url,
        imports=imports or {},
        limits=limits,
        split_attributes=_split_attributes,
    )
    if "EXT-X-STREAM-INF" in tags or (tags & _MULTIVARIANT_TAGS and not tags & _MEDIA_TAGS):
        return MultivariantReader(context).read(lines)
    if tags & _MEDIA_TAGS:
        return MediaReader(context).read(lines)
    raise PlaylistError("neither segments nor variants up to here", line=lines[-1].number)


def _split_attributes(text: str) -> list[tuple[str, str]]:
    """Split an attribute list (4.2): names in the form `group_id`, values without their quotes.

    An item without a value (what an unclosed quote leaves) comes with an empty one.
    """
    attributes = []
    for item in ATTRIBUTELISTPATTERN.split(text)[1::2]:
        name, _, value = item.partition("=")
        attributes.append((normalize_attribute(name), remove_quotes(value.strip())))
    return attributes
