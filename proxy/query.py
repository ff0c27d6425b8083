"""The query of /stream and /inspect: text in, a checked wish out.  Pure; fetches nothing.

Rules of this file:
1. A parameter that is not in the table, or stands there twice, is `InvalidRequest` naming it.
2. Every value is checked whole before anything is fetched; what is wrong is named, never guessed.
3. What the table promises and is not built yet is `NotSupportedYet` naming it, never ignored.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlsplit

from proxy.errors import InvalidRequest, NotSupportedYet
from proxy.pipeline import OnTrouble, Quality, StreamRequest

__all__ = ["Wish", "check_url", "content_disposition", "parse"]

PARAMETERS = (
    "url", "quality", "audio", "start", "end", "on_gap", "on_splice", "filename",
    "expires", "key_id", "signature",
)  # fmt: skip
SIGNING = ("signature", "expires", "key_id")
URL_CHARACTERS = 8000  # the request line may have 8190 bytes (aiohttp, and nginx's 8k buffer)
TEXT_CHARACTERS = 255  # `audio` and `filename`; NAME_MAX of Linux file systems
_CONTROL_OR_SPACE = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\\]")
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_RFC8187_SAFE = "!#$&+-.^_`|~"  # attr-char besides letters and digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What one request asks for."""

    stream: StreamRequest
    filename: str | None = None


def parse(query_string: str) -> Wish:
    """Check a raw query (percent-encoded, without the question mark) and return what it asks for.

    Raises:
        InvalidRequest: a parameter is missing, unknown, repeated or malformed; `detail` names it.
        NotSupportedYet: a parameter is well-formed, and what it asks for is not built yet.
    """
    values = _single_values(query_string)
    for name in SIGNING:  # checked before everything else of the query, once they are built
        if name in values:
            raise NotSupportedYet(detail=f"The parameter `{name}` is not supported yet.")
    if "url" not in values:
        raise _bad("url", "is missing")
    start_s, end_s = _clip(values)
    stream = StreamRequest(
        url=check_url(values["url"]),
        quality=Quality.parse(values.get("quality", "best")),
        audio=_text(values, "audio"),
        start_s=start_s,
        end_s=end_s,
        on_gap=_on_trouble(values, "on_gap"),
        on_splice=_on_trouble(values, "on_splice"),
    )
    return Wish(stream=stream, filename=_filename(values))


def check_url(url: str) -> str:
    """Return `url` if it is an absolute http or https address without userinfo.

    Raises:
        InvalidRequest: it is not; `detail` names the parameter `url`.
    """
    if len(url) > URL_CHARACTERS:
        raise _bad("url", f"is longer than {URL_CHARACTERS} characters")
    if _CONTROL_OR_SPACE.search(url):
        raise _bad("url", "holds a space, a backslash or a control character")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # both raise on a malformed authority
    except ValueError as error:
        raise _bad("url", "is not a well-formed address") from error
    if parts.scheme not in {"http", "https"} or not host:
        raise _bad("url", "must be an absolute http or https address")
    if "@" in parts.netloc:
        raise _bad("url", "must not hold a user name or a password")
    return url


def content_disposition(filename: str) -> str:
    """Return the Content-Disposition that saves a download as `filename` (RFC 6266, RFC 8187)."""
    plain = "".join(c if c.isascii() and c not in '"\\%' else "_" for c in filename)
    header = f'attachment; filename="{plain}"'
    if plain == filename:
        return header
    return f"{header}; filename*=UTF-8''{quote(filename, safe=_RFC8187_SAFE)}"


def _single_values(query_string: str) -> Mapping[str, str]:
    try:
        query_string.encode()  # raw bytes that are not UTF-8 have come as lone surrogates
        pairs = parse_qsl(query_string, keep_blank_values=True, errors="strict")
    except ValueError as error:  # UnicodeError is one
        raise InvalidRequest(detail="The query is not percent-encoded UTF-8.") from error
    values: dict[str, str] = {}
    for name, value in pairs:
        if name not in PARAMETERS:
            raise InvalidRequest(
                detail=f"There is no parameter {_shown(name)}. "
                "An address in `url` must be percent-encoded whole, its own & and ? included."
            )
        if name in values:
            raise InvalidRequest(detail=f"The parameter `{name}` stands there more than once.")
        values[name] = value
    return values


def _shown(name: str) -> str:
    return f"`{''.join(c if c.isprintable() else '?' for c in name[:40])}`"


def _bad(name: str, why: str) -> InvalidRequest:
    return InvalidRequest(detail=f"The parameter `{name}` {why}.")


def _text(values: Mapping[str, str], name: str) -> str | None:
    text = values.get(name)
    if text is None:
        return None
    if not text.strip() or len(text) > TEXT_CHARACTERS:
        raise _bad(name, f"must have 1 to {TEXT_CHARACTERS} characters")
    if any(unicodedata.category(c) in {"Cc", "Zl", "Zp", "Cs"} for c in text):
        raise _bad(name, "holds a control character")
    return text


def _filename(values: Mapping[str, str]) -> str | None:
    filename = _text(values, "filename")
    if filename is None:
        return None
    if len(filename.encode()) > TEXT_CHARACTERS:
        raise _bad("filename", f"is longer than {TEXT_CHARACTERS} bytes")
    if set(filename) & {"/", "\\"} or filename.strip() in {".", ".."}:
        raise _bad("filename", "must be a bare name, not a path")
    if set(filename) & _BIDI_CONTROLS:  # they make "gpj.exe" read as "exe.jpg"
        raise _bad("filename", "holds a text-direction control")
    return filename


def _clip(values: Mapping[str, str]) -> tuple[float | None, float | None]:
    """`start` and `end`: seconds; a negative `start` counts back from the end or the live edge."""
    start_s, end_s = _seconds(values, "start"), _seconds(values, "end")
    if end_s is not None and end_s <= max(start_s or 0.0, 0.0):
        raise _bad("end", "must lie behind the start")
    return start_s, end_s


def _seconds(values: Mapping[str, str], name: str) -> float | None:
    if name not in values:
        return None
    text = values[name]
    if not re.fullmatch(r"-?[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise _bad(name, "must be a number of seconds, such as 12.5")
    return float(text)


def _on_trouble(values: Mapping[str, str], name: str) -> OnTrouble:
    wish = values.get(name, "abort")
    if wish not in {"abort", "skip"}:
        raise _bad(name, "must be abort or skip")
    return "skip" if wish == "skip" else "abort"
