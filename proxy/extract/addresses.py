"""Addresses in pages: made absolute, and what they are by their names and types."""

from __future__ import annotations

import re
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from proxy.extract.model import Kind

__all__ = ["absolute", "kind_of", "kind_of_type", "tokens"]

URL_CHARACTERS = 8000  # as many as a request for a stream may have
_UNFIT = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\\\ud800-\udfff]")
_TOKEN_CHARACTERS = 5

_SUFFIXES: dict[str, Kind] = {
    "m3u8": "hls", "m3u": "hls",
    "mp4": "mp4", "m4v": "mp4", "mov": "mp4", "webm": "mp4",
    "mpd": "dash",
}  # fmt: skip


def absolute(base: str, url: object) -> str | None:
    """Return `url` against its base, or None where nobody could fetch it: another scheme than http
    and https, credentials in it, malformed, too long."""
    if not isinstance(url, str) or len(url) > URL_CHARACTERS:
        return None
    url = url.strip(" \t\r\n\f")  # HTML, 2.4.3
    try:
        joined = urldefrag(urljoin(base, url)).url
        parts = urlsplit(joined)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    if not url or parts.scheme not in {"http", "https"} or not host or "@" in parts.netloc:
        return None
    return None if len(joined) > URL_CHARACTERS or _UNFIT.search(joined) else joined


def kind_of(url: str) -> Kind | None:
    """Return what an address leads to, by the suffix of its path; None: it has no such suffix."""
    path = url.partition("#")[0].partition("?")[0]
    _, dot, suffix = path.rpartition("/")[2].rpartition(".")
    return _SUFFIXES.get(suffix.lower()) if dot else None


def kind_of_type(told: object) -> Kind | None:
    """Return what a media type, or a word such as `HLS`, means."""
    if not isinstance(told, str) or len(told) > 200:
        return None
    told = told.strip().lower()
    if "mpegurl" in told or re.search(r"\b(hls|m3u8)\b", told):
        return "hls"
    if "dash" in told:
        return "dash"
    if told.startswith("text/html"):
        return "page"
    return "mp4" if re.match(r"video/(mp4|webm|quicktime|x-m4v)\b|mp4$", told) else None


def tokens(url: str) -> frozenset[str]:
    """Return the parts of an address that may name one thing: segments of its path (without their
    suffix), what follows their last hyphen, and values of the query; with a digit or quite long."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return frozenset()
    found = set()
    for segment in unquote(parts.path[:1000]).split("/"):
        stem = segment.rpartition(".")[0] or segment
        found |= {segment, stem, stem.rpartition("-")[2]}
    found |= {pair.partition("=")[2] for pair in parts.query[:1000].split("&")}
    return frozenset(token for token in found if _names_something(token))


def _names_something(token: str) -> bool:
    digit = any(character.isdigit() for character in token)
    return len(token) >= (_TOKEN_CHARACTERS if digit else 16)
