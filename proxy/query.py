"""The query of /stream and /inspect: text in, a checked wish out.  Pure; fetches nothing.

Rules of this file:
1. A parameter that is not in the table, or stands there twice, is `InvalidRequest` naming it.
2. Every value is checked whole before anything is fetched; what is wrong is named, never guessed.
3. `expires`, `key_id` and `signature` are the guard's, which checks them before this is asked.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import parse_qsl, quote

from proxy.errors import InvalidRequest
from proxy.guard import signing
from proxy.pipeline import OnTrouble, Quality, StreamRequest
from proxy.request import TEXT_CHARACTERS, bad_parameter, check_text

__all__ = ["Wish", "content_disposition", "parse"]

PARAMETERS = (
    "url", "quality", "audio", "start", "end", "on_gap", "on_splice", "filename",
    *signing.PARAMETERS,
)  # fmt: skip
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_RFC8187_SAFE = "!#$&+-.^_`|~"  # attr-char besides letters and digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What one request asks for."""

    stream: StreamRequest
    filename: str | None = None


def parse(
    query_string: str,
    *,
    allowed: Collection[str] = PARAMETERS,
    told: Mapping[str, str] | None = None,
    upstream: str = "",
) -> Wish:
    """Check a raw query (percent-encoded, without the question mark) and return what it asks for.

    Args:
        query_string: lone surrogates for what is no UTF-8.
        allowed: the parameters that may stand in it, besides those of a signature.
        told: values that were given elsewhere, by a route.
        upstream: see `StreamRequest`.

    Raises:
        InvalidRequest: a parameter is missing, unknown, repeated or malformed; `detail` names it.
    """
    values = {**_single_values(query_string, {*allowed, *signing.PARAMETERS}), **(told or {})}
    if "url" not in values:
        raise bad_parameter("url", "is missing")
    stream = StreamRequest(
        url=values["url"],
        quality=Quality.parse(values.get("quality", "best")),
        audio=values.get("audio"),
        start_s=_seconds(values, "start"),
        end_s=_seconds(values, "end"),
        on_gap=cast("OnTrouble", values.get("on_gap", "abort")),  # refuses a wrong word
        on_splice=cast("OnTrouble", values.get("on_splice", "abort")),
        upstream=upstream,
    )
    return Wish(stream=stream, filename=_filename(values))


def content_disposition(filename: str) -> str:
    """Return the Content-Disposition that saves a download as `filename` (RFC 6266, RFC 8187)."""
    plain = "".join(c if c.isascii() and c not in '"\\%' else "_" for c in filename)
    header = f'attachment; filename="{plain}"'
    if plain == filename:
        return header
    return f"{header}; filename*=UTF-8''{quote(filename, safe=_RFC8187_SAFE)}"


def _single_values(query_string: str, allowed: Collection[str]) -> Mapping[str, str]:
    try:
        query_string.encode()  # raw bytes that are not UTF-8 have come as lone surrogates
        pairs = parse_qsl(query_string, keep_blank_values=True, errors="strict")
    except ValueError as error:  # UnicodeError is one
        raise InvalidRequest(detail="The query is not percent-encoded UTF-8.") from error
    values: dict[str, str] = {}
    for name, value in pairs:
        if name not in allowed:
            hint = (
                "An address in `url` must be percent-encoded whole, its own & and ? included."
                if "url" in allowed
                else "It cannot be told of this path."
            )
            raise InvalidRequest(detail=f"There is no parameter {_shown(name)}. {hint}")
        if name in values:
            raise InvalidRequest(detail=f"The parameter `{name}` stands there more than once.")
        values[name] = value
    return values


def _shown(name: str) -> str:
    return f"`{''.join(c if c.isprintable() else '?' for c in name[:40])}`"


def _filename(values: Mapping[str, str]) -> str | None:
    if "filename" not in values:
        return None
    filename = check_text("filename", values["filename"])
    if len(filename.encode()) > TEXT_CHARACTERS:
        raise bad_parameter("filename", f"is longer than {TEXT_CHARACTERS} bytes")
    if set(filename) & {"/", "\\"} or filename.strip() in {".", ".."}:
        raise bad_parameter("filename", "must be a bare name, not a path")
    if set(filename) & _BIDI_CONTROLS:  # they make "gpj.exe" read as "exe.jpg"
        raise bad_parameter("filename", "holds a text-direction control")
    return filename


def _seconds(values: Mapping[str, str], name: str) -> float | None:
    if name not in values:
        return None
    text = values[name]
    if not re.fullmatch(r"-?[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise bad_parameter(name, "must be a number of seconds, such as 12.5")
    return float(text)
