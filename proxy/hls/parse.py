"""Playlist text + base URL → model.  The only importer of m3u8.

Callers rely on this: a `MultivariantPlaylist` or `MediaPlaylist` comes back, every address in it
absolute, every number in range; or `PlaylistError` naming the line, and nothing else, whatever the
bytes are.  Work and memory are bounded by `Limits`.

What m3u8 does here: it splits attribute lists (quotes, commas in quotes, spaces, the names).  What
it gets wrong or leaves out as a parser is done here instead (m3u8 6.0.0, measured):

- one bad number anywhere (`EXT-X-VERSION:nan`) raises a bare ValueError or KeyError and loses the
  playlist: 7 of 255 texts in use.  Here a number that is none counts as missing, unless media
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

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal
from urllib.parse import unquote, urljoin, urlsplit

from m3u8.parser import ATTRIBUTELISTPATTERN, normalize_attribute, remove_quotes

from proxy.errors import PlaylistError
from proxy.hls.lines import (
    Limits,
    Line,
    decimal_number,
    looks_like_playlist,
    read_lines,
    whole_number,
)
from proxy.hls.model import (
    ByteRange,
    InitSection,
    Key,
    MediaPlaylist,
    MultivariantPlaylist,
    Rendition,
    Segment,
    Start,
    Variant,
)

__all__ = ["Limits", "looks_like_playlist", "parse_playlist"]

DEFAULT_LIMITS = Limits()
MAX_DURATION_S = 86_400.0  # whole films in one segment exist; a longer EXTINF is a wrong one
DEFAULT_TARGET_DURATION_S = 10.0  # where a playlist tells no duration at all; players assume it too
MAX_START_OFFSET_S = 1e8  # three years of EVENT
MAX_BANDWIDTH = 1e12  # bit/s
MAX_BYTE = 2**63 - 1  # off_t, and what HTTP servers can count to
_MULTIVARIANT_TAGS = {
    "EXT-X-STREAM-INF",
    "EXT-X-I-FRAME-STREAM-INF",
    "EXT-X-IMAGE-STREAM-INF",
    "EXT-X-MEDIA",
}
_MEDIA_TAGS = {"EXTINF", "EXT-X-TARGETDURATION", "EXT-X-BYTERANGE"}
_REFERENCE = re.compile(r"\{\$([A-Za-z0-9_-]+)\}")  # 4.3
_VARIABLE_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_BYTE_RANGE = re.compile(r"([0-9]{1,19})\s*(?:@\s*([0-9]{1,19})?)?")
_HEXADECIMAL_128 = re.compile(r"0[xX]([0-9A-Fa-f]{1,32})")
_RESOLUTION = re.compile(r"([0-9]{1,6})[xX]([0-9]{1,6})")
_PLAIN = re.compile(  # neither dot segments nor anything else that resolving would change
    r"(https?://[\w.-]+(?::[0-9]{1,5})?/)?"
    r"(?:[\w~%-][\w.~%!$&'()*+,=@-]*/)*[\w~%-][\w.~%!$&'()*+,=@-]*(?:\?[!$-~]+)?",
    re.ASCII,
)


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
    if tags & _MULTIVARIANT_TAGS and not tags & _MEDIA_TAGS:
        return _MultivariantReader(base_url, imports or {}, limits).read(lines)
    if tags & _MEDIA_TAGS:
        return _MediaReader(base_url, imports or {}, limits).read(lines)
    raise PlaylistError("neither segments nor variants up to here", line=lines[-1].number)


class _Reader:
    """What both kinds of playlist share: attribute lists, variables, addresses, keys (4.4.1, 2)."""

    def __init__(self, base_url: str, imports: Mapping[str, str], limits: Limits) -> None:
        self._base_url = base_url
        self._folder = urljoin(base_url, ".")
        self._imports = imports
        self._limits = limits
        self._variables: dict[str, str] = {}
        self._attributes_left = limits.attributes
        self._expanded_chars_left = limits.expanded_chars
        self._keys: dict[str, Key | None] = {}  # by the attribute list they were read from
        self._version = 1
        self._independent_segments = False
        self._start: Start | None = None
        self._handlers: dict[str, Callable[[Line], None]] = {
            "EXT-X-DEFINE": self._on_define,
            "EXT-X-INDEPENDENT-SEGMENTS": self._on_independent_segments,
            "EXT-X-START": self._on_start,
            "EXT-X-VERSION": self._on_version,
        }

    def _walk(self, lines: list[Line]) -> None:
        """Hand each line to the method for its tag; unknown tags are ignored (6.3.1)."""
        for line in lines:
            handler = self._handlers.get(line.tag)
            if handler is not None:
                handler(line)

    def _on_version(self, line: Line) -> None:
        self._version = whole_number(line.value) or 1

    def _on_independent_segments(self, _line: Line) -> None:
        self._independent_segments = True

    def _on_start(self, line: Line) -> None:
        attributes = self._attributes(line)
        offset_s = decimal_number(
            attributes.get("time_offset", ""),
            lowest=-MAX_START_OFFSET_S,
            highest=MAX_START_OFFSET_S,
        )
        if offset_s is not None:
            precise = _is_yes(attributes, "precise")
            self._start = Start(time_offset_s=offset_s, precise=precise)

    def _on_define(self, line: Line) -> None:
        """Read EXT-X-DEFINE (4.4.2.3); what it cannot define must fail the whole playlist."""
        attributes = self._attributes(line)
        sources = [source for source in ("name", "import", "queryparam") if source in attributes]
        if len(sources) != 1:
            raise _error(line, "needs one of NAME, IMPORT and QUERYPARAM")
        name = attributes[sources[0]]
        if not _VARIABLE_NAME.fullmatch(name):
            raise _error(line, "has a malformed variable name")
        if name in self._variables:
            raise _error(line, f"defines {name[:40]} a second time")
        value: str | None
        if sources[0] == "name":
            value = attributes.get("value")
        elif sources[0] == "import":
            value = self._imports.get(name)
        else:
            value = _query_parameter(self._base_url, name) or None
        if value is None:
            raise _error(line, f"has no value for {name[:40]}")
        self._variables[name] = value

    def _attributes(self, line: Line) -> dict[str, str]:
        """Read an attribute list (4.2): names as m3u8 writes them (`group_id`), values unquoted."""
        items = ATTRIBUTELISTPATTERN.split(line.value)[1::2]
        self._attributes_left -= len(items)
        if self._attributes_left < 0:
            raise PlaylistError(f"more than {self._limits.attributes} attributes", line=line.number)
        attributes: dict[str, str] = {}
        for item in items:
            name, _, value = item.partition("=")
            attributes[normalize_attribute(name)] = self._substitute(
                remove_quotes(value.strip()), line
            )
        return attributes

    def _substitute(self, text: str, line: Line) -> str:
        """Replace the variable references in `text` (4.3)."""
        if "{$" not in text:
            return text

        def value(match: re.Match[str]) -> str:
            found = self._variables.get(match[1])
            if found is None:
                raise _error(line, f"uses {match[1][:40]}, which is not defined before it")
            self._spend(len(found), line)
            return found

        return _REFERENCE.sub(value, text)

    def _address(self, uri: str, line: Line) -> str:
        """Resolve a URI against the playlist's own address (4.1)."""
        plain = _PLAIN.fullmatch(uri)
        if plain:  # most are, and urljoin would take half of the whole time
            address = uri if plain[1] else self._folder + uri
        else:
            try:
                address = urljoin(self._base_url, uri)
            except ValueError:
                raise _error(line, "has an address that is none") from None
        self._spend(len(address), line)
        return address

    def _spend(self, chars: int, line: Line) -> None:
        self._expanded_chars_left -= chars
        if self._expanded_chars_left < 0:
            raise PlaylistError("addresses and variables grow too long", line=line.number)

    def _key(self, line: Line) -> Key | None:
        """Read EXT-X-KEY (4.4.4.4) or EXT-X-SESSION-KEY; None for METHOD=NONE.

        An IV that cannot be read is refused: with another one the first block of every segment
        would decrypt to noise, and nothing would notice.
        """
        if line.value in self._keys:
            return self._keys[line.value]
        if len(self._keys) >= self._limits.keys:
            raise _error(line, f"is one of more than {self._limits.keys} keys")
        attributes = self._attributes(line)
        method = attributes.get("method", "").upper()
        if not method:
            raise _error(line, "has no METHOD")
        key = None
        if method != "NONE":
            uri = attributes.get("uri")
            if method == "AES-128" and not uri:
                raise _error(line, "has no URI")
            iv = _HEXADECIMAL_128.fullmatch(attributes.get("iv", "0x0"))
            if not iv:
                raise _error(line, "has an IV that is no hexadecimal number of 128 bits")
            key = Key(
                method=method,
                uri=self._address(uri, line) if uri else None,
                iv=int(iv[1], 16).to_bytes(16, "big") if "iv" in attributes else None,
                key_format=attributes.get("keyformat") or "identity",
            )
        self._keys[line.value] = key
        return key


class _MultivariantReader(_Reader):
    """The tags of a Multivariant Playlist (4.4.6)."""

    def __init__(self, base_url: str, imports: Mapping[str, str], limits: Limits) -> None:
        super().__init__(base_url, imports, limits)
        self._variants: list[Variant] = []
        self._i_frame_variants: list[Variant] = []
        self._renditions: list[Rendition] = []
        self._session_keys: list[Key] = []
        self._stream: dict[str, str] | None = None  # EXT-X-STREAM-INF that waits for its URI
        self._handlers |= {
            "": self._on_uri,
            "EXT-X-I-FRAME-STREAM-INF": self._on_i_frame_stream_inf,
            "EXT-X-IMAGE-STREAM-INF": self._on_i_frame_stream_inf,
            "EXT-X-MEDIA": self._on_media,
            "EXT-X-SESSION-KEY": self._on_session_key,
            "EXT-X-STREAM-INF": self._on_stream_inf,
        }

    def read(self, lines: list[Line]) -> MultivariantPlaylist:
        self._walk(lines)
        if not self._variants and not self._i_frame_variants and not self._renditions:
            raise PlaylistError("no variant with an address up to here", line=lines[-1].number)
        return MultivariantPlaylist(
            uri=self._base_url,
            variants=tuple(self._variants),
            i_frame_variants=tuple(self._i_frame_variants),
            renditions=tuple(self._renditions),
            session_keys=tuple(self._session_keys),
            independent_segments=self._independent_segments,
            version=self._version,
            start=self._start,
            defines=tuple(self._variables.items()),
        )

    def _on_stream_inf(self, line: Line) -> None:
        self._stream = self._attributes(line)

    def _on_uri(self, line: Line) -> None:
        """Take the URI for the EXT-X-STREAM-INF before it; a second one in a row has no use."""
        if self._stream is None:
            return
        if len(self._variants) >= self._limits.variants:
            raise PlaylistError(f"more than {self._limits.variants} variants", line=line.number)
        address = self._address(self._substitute(line.value, line), line)
        self._variants.append(_variant(self._stream, address))
        self._stream = None

    def _on_i_frame_stream_inf(self, line: Line) -> None:
        """Take an I-frame stream (4.4.6.3), or a stream of thumbnails, which comes in its shape."""
        if len(self._i_frame_variants) >= self._limits.variants:
            raise _error(line, f"is one of more than {self._limits.variants}")
        attributes = self._attributes(line)
        uri = attributes.get("uri")
        if uri:
            self._i_frame_variants.append(_variant(attributes, self._address(uri, line)))

    def _on_media(self, line: Line) -> None:
        if len(self._renditions) >= self._limits.renditions:
            raise _error(line, f"is one of more than {self._limits.renditions}")
        attributes = self._attributes(line)
        uri = attributes.get("uri")
        self._renditions.append(
            Rendition(
                type=attributes.get("type", "").upper(),
                group_id=attributes.get("group_id", ""),
                name=attributes.get("name", ""),
                uri=self._address(uri, line) if uri else None,
                language=attributes.get("language") or None,
                assoc_language=attributes.get("assoc_language") or None,
                default=_is_yes(attributes, "default"),
                autoselect=_is_yes(attributes, "autoselect"),
                forced=_is_yes(attributes, "forced"),
                characteristics=_comma_separated(attributes, "characteristics"),
                channels=attributes.get("channels") or None,
            )
        )

    def _on_session_key(self, line: Line) -> None:
        key = self._key(line)
        if key is not None:
            self._session_keys.append(key)


class _MediaReader(_Reader):
    """The tags of a Media Playlist and of its segments (4.4.3, 4.4.4, 4.4.5.2)."""

    def __init__(self, base_url: str, imports: Mapping[str, str], limits: Limits) -> None:
        super().__init__(base_url, imports, limits)
        self._target_duration_s: float | None = None
        self._media_sequence = 0
        self._first_discontinuity_sequence = 0
        self._playlist_type: Literal["VOD", "EVENT"] | None = None
        self._ended = False
        self._i_frames_only = False
        self._skipped_segments = 0
        self._segments: list[Segment] = []
        self._without_duration: list[int] = []  # indices of segments whose EXTINF tells none
        # what holds from a tag on
        self._discontinuity_sequence = 0
        self._init_section: InitSection | None = None
        self._init_sections: dict[tuple[str, Key | None], InitSection] = {}
        self._keys_in_force: dict[str, Key] = {}  # by KEYFORMAT
        self._key_in_force: Key | None = None
        self._range_ends: dict[str, int] = {}  # by address: where the last range of it ended
        self._clear_segment()
        self._handlers |= {
            "": self._on_uri,
            "EXTINF": self._on_extinf,
            "EXT-X-BYTERANGE": self._on_byterange,
            "EXT-X-DISCONTINUITY": self._on_discontinuity,
            "EXT-X-DISCONTINUITY-SEQUENCE": self._on_discontinuity_sequence,
            "EXT-X-ENDLIST": self._on_endlist,
            "EXT-X-GAP": self._on_gap,
            "EXT-X-I-FRAMES-ONLY": self._on_i_frames_only,
            "EXT-X-KEY": self._on_key,
            "EXT-X-MAP": self._on_map,
            "EXT-X-MEDIA-SEQUENCE": self._on_media_sequence,
            "EXT-X-PLAYLIST-TYPE": self._on_playlist_type,
            "EXT-X-SKIP": self._on_skip,
            "EXT-X-TARGETDURATION": self._on_target_duration,
        }

    def _clear_segment(self) -> None:
        """Forget the tags that apply to one segment only."""
        self._extinf_line: int | None = None
        self._duration_s: float | None = None
        self._title = ""
        self._byte_range: tuple[int, int | None] | None = None  # length, offset
        self._gap = False
        self._discontinuity = False

    def read(self, lines: list[Line]) -> MediaPlaylist:
        self._walk(lines)
        if self._extinf_line is not None:  # a body cut off, or one being written: reload, not play
            raise PlaylistError("EXTINF without its segment: the text ends", line=self._extinf_line)
        if not self._segments and (
            self._ended or self._playlist_type == "VOD" or self._target_duration_s is None
        ):
            raise PlaylistError("no segment up to here, and none to come", line=lines[-1].number)
        longest_s = max((segment.duration_s for segment in self._segments), default=0.0)
        target_duration_s = self._target_duration_s or longest_s or DEFAULT_TARGET_DURATION_S
        for index in self._without_duration:
            segment = self._segments[index]
            self._segments[index] = replace(segment, duration_s=target_duration_s)
        return MediaPlaylist(
            uri=self._base_url,
            segments=tuple(self._segments),
            target_duration_s=target_duration_s,
            media_sequence=self._media_sequence,
            discontinuity_sequence=self._first_discontinuity_sequence,
            playlist_type=self._playlist_type,
            ended=self._ended,
            i_frames_only=self._i_frames_only,
            independent_segments=self._independent_segments,
            version=self._version,
            start=self._start,
            skipped_segments=self._skipped_segments,
        )

    # -- the playlist ------------------------------------------------------------------------------

    def _on_target_duration(self, line: Line) -> None:
        self._target_duration_s = decimal_number(line.value, lowest=0.001, highest=MAX_DURATION_S)

    def _on_media_sequence(self, line: Line) -> None:
        """Number the segments from here; 0 where it is no number, or negative (both occur)."""
        if not self._segments:  # 4.4.3.2: it must come before them
            self._media_sequence = whole_number(line.value) or 0

    def _on_discontinuity_sequence(self, line: Line) -> None:
        if not self._segments and self._discontinuity_sequence == 0:  # 4.4.3.3: likewise
            self._first_discontinuity_sequence = whole_number(line.value) or 0

    def _on_playlist_type(self, line: Line) -> None:
        kind = line.value.upper()
        if kind == "VOD":
            self._playlist_type = "VOD"
        elif kind == "EVENT":
            self._playlist_type = "EVENT"

    def _on_endlist(self, _line: Line) -> None:
        self._ended = True  # may stand anywhere (4.4.3.4): segments behind it count

    def _on_i_frames_only(self, _line: Line) -> None:
        self._i_frames_only = True

    def _on_skip(self, line: Line) -> None:
        """Count what a delta update leaves out (4.4.5.2); the segments behind it are numbered on.

        Between other segments it could not be told which numbers are meant.
        """
        if self._segments or self._skipped_segments or self._extinf_line is not None:
            raise _error(line, "stands behind a segment")
        skipped = whole_number(self._attributes(line).get("skipped_segments", ""))
        if skipped is None:
            raise _error(line, "does not tell how many")
        self._skipped_segments = skipped

    # -- its segments ------------------------------------------------------------------------------

    def _on_extinf(self, line: Line) -> None:
        """Take a duration; a missing, negative (IPTV: unknown) or absurd one is told as none."""
        duration, _, title = line.value.partition(",")
        self._extinf_line = line.number
        self._duration_s = decimal_number(duration, lowest=0, highest=MAX_DURATION_S)
        self._title = title.strip()

    def _on_byterange(self, line: Line) -> None:
        self._byte_range = _byte_range(line, line.value)

    def _on_gap(self, _line: Line) -> None:
        self._gap = True

    def _on_discontinuity(self, _line: Line) -> None:
        self._discontinuity = True
        self._discontinuity_sequence += 1  # 6.2.1: one for each tag before the URI line

    def _on_key(self, line: Line) -> None:
        """Take a key; it holds until the next of the same KEYFORMAT, or METHOD=NONE (4.4.4.4).

        Keys of several formats hold at once when they are ways to the same key; then `identity`,
        the one we can use, counts.  One with another METHOD cannot be the same key: it is left from
        before, and the newer tag replaces it.
        """
        key = self._key(line)
        if key is None:
            self._keys_in_force = {}
            self._key_in_force = None
            return
        same_method = {f: k for f, k in self._keys_in_force.items() if k.method == key.method}
        self._keys_in_force = {**same_method, key.key_format: key}
        self._key_in_force = self._keys_in_force.get("identity", key)

    def _on_map(self, line: Line) -> None:
        known = self._init_sections.get((line.value, self._key_in_force))
        if known is None:
            attributes = self._attributes(line)
            uri = attributes.get("uri")
            if not uri:
                raise _error(line, "has no URI")
            byte_range = None
            if "byterange" in attributes:
                length, offset = _byte_range(line, attributes["byterange"])
                byte_range = ByteRange(length=length, offset=offset or 0)
            known = InitSection(
                uri=self._address(uri, line), byte_range=byte_range, key=self._key_in_force
            )
            self._init_sections[line.value, self._key_in_force] = known
        self._init_section = known

    def _on_uri(self, line: Line) -> None:
        """Make a segment of the URI and the tags before it.

        EXTINF is what makes a segment (4.4.4.1); EXT-X-BYTERANGE alone counts too, since nothing
        else has one.  A line with neither is none: leftovers of templates look like that.
        """
        if self._extinf_line is None and self._byte_range is None:
            return
        index = len(self._segments)
        if index >= self._limits.segments:
            raise PlaylistError(f"more than {self._limits.segments} segments", line=line.number)
        address = self._address(self._substitute(line.value, line), line)
        if self._duration_s is None:
            self._without_duration.append(index)
        self._segments.append(
            Segment(
                uri=address,
                duration_s=self._duration_s or 0.0,
                sequence=self._media_sequence + self._skipped_segments + index,
                discontinuity_sequence=(
                    self._first_discontinuity_sequence + self._discontinuity_sequence
                ),
                discontinuity=self._discontinuity,
                byte_range=self._resolved_byte_range(address, line),
                init_section=self._init_section,
                key=self._key_in_force,
                gap=self._gap,
                title=self._title,
            )
        )
        self._clear_segment()

    def _resolved_byte_range(self, address: str, line: Line) -> ByteRange | None:
        """Find out the offset where the tag leaves it out.

        It is the end of the resource's previous range (4.4.4.2).  A resource named for the first
        time starts at its first byte, as players have it, though the section wants failure; except
        at the head of a window that has moved: there the range before it is gone, and 0 is wrong.
        """
        if self._byte_range is None:
            return None
        length, offset = self._byte_range
        if offset is None:
            offset = self._range_ends.get(address)
        if offset is None:
            if not self._segments and self._media_sequence + self._skipped_segments > 0:
                raise PlaylistError("EXT-X-BYTERANGE with no offset to go by", line=line.number)
            offset = 0
        resolved = ByteRange(length=length, offset=offset)
        if resolved.end > MAX_BYTE:
            raise PlaylistError("EXT-X-BYTERANGE ends beyond any resource", line=line.number)
        self._range_ends[address] = resolved.end
        return resolved


def _error(line: Line, what: str) -> PlaylistError:
    return PlaylistError(f"{line.tag or 'the address'} {what}", line=line.number)


def _variant(attributes: Mapping[str, str], address: str) -> Variant:
    resolution = _RESOLUTION.fullmatch(attributes.get("resolution", ""))
    average = decimal_number(
        attributes.get("average_bandwidth", ""), lowest=0, highest=MAX_BANDWIDTH
    )
    bandwidth = decimal_number(attributes.get("bandwidth", ""), lowest=0, highest=MAX_BANDWIDTH)
    return Variant(
        uri=address,
        bandwidth=int(bandwidth or 0),
        average_bandwidth=None if average is None else int(average),
        codecs=_comma_separated(attributes, "codecs"),
        width=int(resolution[1]) if resolution else None,
        height=int(resolution[2]) if resolution else None,
        frame_rate=decimal_number(attributes.get("frame_rate", ""), lowest=0, highest=100_000),
        video_range=attributes.get("video_range") or None,
        audio_group=attributes.get("audio") or None,
        video_group=attributes.get("video") or None,
        subtitles_group=attributes.get("subtitles") or None,
        name=attributes.get("name") or None,
    )


def _byte_range(line: Line, text: str) -> tuple[int, int | None]:
    """Read `<n>[@<o>]`; a whole resource in the place of a part of it would be wrong media."""
    match = _BYTE_RANGE.fullmatch(text.strip())
    if not match or int(match[1]) == 0:
        raise _error(line, "has a byte range that is none")
    return int(match[1]), None if match[2] is None else int(match[2])


def _is_yes(attributes: Mapping[str, str], name: str) -> bool:
    return attributes.get(name, "").upper() == "YES"


def _comma_separated(attributes: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(part for item in attributes.get(name, "").split(",") if (part := item.strip()))


def _query_parameter(url: str, name: str) -> str | None:
    for item in urlsplit(url).query.split("&"):
        key, _, value = item.partition("=")
        if unquote(key) == name:
            return unquote(value)
    return None
