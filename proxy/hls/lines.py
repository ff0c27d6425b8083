"""The bytes of a playlist, cut into numbered lines.

What is settled here, so that nobody above has to ask again: encoding, byte order mark, line ends,
white space around a line, comments, numbers that are no numbers, and how much text is too much.
Pure; the only error is `PlaylistError`, and it names the line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from proxy.errors import LineTooLong, PlaylistError, TooManyLines, TooManySegments

__all__ = [
    "Limits",
    "Line",
    "decimal_number",
    "looks_like_playlist",
    "read_lines",
    "whole_number",
]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_TAGS = (b"#EXTM3U", b"#EXTINF", b"#EXT-X-")
_RAW_LINE = re.compile(rb"[^\r\n]+")
_WHOLE = re.compile(r"[0-9]{1,20}")  # 2**64 - 1, the largest of RFC 8216bis 4.2, has 20 digits
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,20}(?:\.[0-9]*)?|\.[0-9]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of everything a playlist may have; one more is a `PlaylistError` of its own class.

    They are there for texts made to hurt: no real playlist comes near them.
    """

    line_chars: int = 16 * 1024  # signed addresses have 2 KiB, DRM headers in data: URIs a few
    lines: int = 200_000  # 50,000 segments with a KEY, an EXTINF, a BYTERANGE and a URI each
    segments: int = 50_000  # 24 h of 2 s segments are 43,200
    variants: int = 100  # ten rungs in ten kinds of audio; I-frame and image streams count apart
    renditions: int = 100  # a film in forty languages, spoken and written, has 80
    keys: int = 1_000  # distinct ones: a day with a new key every two minutes has 720
    init_sections: int = 10_000  # distinct ones: a day with a splice every ten seconds has 8,640
    attributes: int = 200_000  # in all; the same EXT-X-KEY or EXT-X-MAP again does not count
    expanded_chars: int = 64 * 1024 * 1024  # all addresses made absolute, all variables written out


class Line(NamedTuple):
    """A line that means something: a tag, or a URI."""

    number: int  # counted from 1, as editors do
    tag: str  # without the number sign: `EXT-X-KEY`; empty for a URI line
    value: str  # what stands behind the tag's colon; the URI itself


def looks_like_playlist(body: bytes) -> bool:
    """Return whether `body` begins as playlists do, and pages do not.

    That is: before anything else than blank lines and comments comes a tag of HLS.  `#EXTM3U`
    should be the first line of all (RFC 8216bis 4.4.1.1); but there are playlists in use with
    a comment in front of it, or without it, and nothing else begins like them.
    """
    for match in _RAW_LINE.finditer(body.removeprefix(_BYTE_ORDER_MARK)):
        line = match[0].strip()
        if line.startswith(_TAGS):
            return True
        if line and not line.startswith(b"#"):
            return False
    return False


def read_lines(text: bytes | str, limits: Limits) -> list[Line]:
    """Cut a playlist into its tags and URI lines; blank lines and comments are left out.

    Bytes that are no UTF-8 (titles in Latin-1, mostly) are replaced, not refused: they stand where
    nothing depends on them, or the address they are part of fails by itself.  Lines end at a line
    feed (RFC 8216bis 4.1), with a carriage return before it or not; a text with no line feed at all
    is cut at carriage returns.

    Raises:
        PlaylistError: not the beginning of a playlist.
        TooManyLines, TooManySegments, LineTooLong: of them, before they are cut.
    """
    body = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    if not looks_like_playlist(body):
        raise PlaylistError("neither #EXTM3U nor another tag of HLS stands here", line=1)
    separator = "\n" if b"\n" in body else "\r"
    if body.count(separator.encode()) >= limits.lines:
        raise TooManyLines(f"more than {limits.lines}", line=limits.lines + 1)
    if (
        body.count(b"\n#EXTINF:") > limits.segments
    ):  # a text of numbered lines takes 30 times as much
        raise TooManySegments(f"more than {limits.segments}")
    decoded = body.removeprefix(_BYTE_ORDER_MARK).decode("utf-8", "replace")
    lines: list[Line] = []
    for number, raw in enumerate(decoded.split(separator), 1):
        if len(raw) > limits.line_chars:
            raise LineTooLong(f"more than {limits.line_chars} characters", line=number)
        line = raw.strip()
        if line.startswith("#EXT"):
            tag, _, value = line[1:].partition(":")
            lines.append(Line(number, tag.rstrip(), value.lstrip()))
        elif line and not line.startswith("#"):
            lines.append(Line(number, "", line))
    return lines


def whole_number(text: str, *, highest: int = 2**64 - 1) -> int | None:
    """Return the decimal-integer (RFC 8216bis 4.2) that `text` is, or None when it is none."""
    if not _WHOLE.fullmatch(text):
        return None
    number = int(text)
    return number if number <= highest else None


def decimal_number(text: str, *, lowest: float, highest: float) -> float | None:
    """Return the number that `text` begins with, or None when there is none between the bounds.

    Begins, because players read `9.98;` and `10 s` so.  Neither `nan` nor `inf` is a number here.
    """
    match = _DECIMAL.match(text)
    if not match:
        return None
    number = float(match[0])
    return number if lowest <= number <= highest else None
