"""The lines of a Media Playlist → `MediaPlaylist` (RFC 8216bis 4.4.3, 4.4.4, 4.4.5.2).

A number that is none counts as missing, unless wrong media would come of it: byte ranges, IVs and
SKIPPED-SEGMENTS are refused.  The tags of low latency (parts, hints, reports) are left unread: a
part is no segment, and its segment appears when it is complete.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal

from proxy.errors import PlaylistError, TooManyInitSections, TooManySegments
from proxy.hls.lines import Line, decimal_number, whole_number
from proxy.hls.model import ByteRange, InitSection, Key, MediaPlaylist, Segment
from proxy.hls.tags import Context, TagReader, malformed

__all__ = ["MediaReader"]

MAX_DURATION_S = 86_400.0  # whole films in one segment exist; a longer EXTINF is a wrong one
DEFAULT_TARGET_DURATION_S = 10.0  # where a playlist tells no duration at all; players assume it too
MAX_BYTE = 2**63 - 1  # off_t, and what HTTP servers can count to
_BYTE_RANGE = re.compile(r"([0-9]{1,19})\s*(?:@\s*([0-9]{1,19})?)?")


class MediaReader(TagReader):
    """The tags of a Media Playlist and of its segments (4.4.3, 4.4.4, 4.4.5.2)."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
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
        """Return what `lines` say; raises `PlaylistError`."""
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
            uri=self._context.base_url,
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
            raise malformed(line, "stands behind a segment")
        skipped = whole_number(self._attributes(line).get("skipped_segments", ""))
        if skipped is None:
            raise malformed(line, "does not tell how many")
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
            if len(self._init_sections) >= self._context.limits.init_sections:
                limit = self._context.limits.init_sections
                raise TooManyInitSections(f"more than {limit}", line=line.number)
            attributes = self._attributes(line)
            uri = attributes.get("uri")
            if not uri:
                raise malformed(line, "has no URI")
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
        if index >= self._context.limits.segments:
            raise TooManySegments(f"more than {self._context.limits.segments}", line=line.number)
        address = self._address(self._substitute(line.value, line), line)
        duration_s = self._target_duration_s if self._duration_s is None else self._duration_s
        if duration_s is None:
            self._without_duration.append(index)
        self._segments.append(
            Segment(
                uri=address,
                duration_s=duration_s or 0.0,
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


def _byte_range(line: Line, text: str) -> tuple[int, int | None]:
    """Read `<n>[@<o>]`; a whole resource in the place of a part of it would be wrong media."""
    match = _BYTE_RANGE.fullmatch(text.strip())
    if not match or int(match[1]) == 0:
        raise malformed(line, "has a byte range that is none")
    return int(match[1]), None if match[2] is None else int(match[2])
