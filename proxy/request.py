"""What a client asks for, checked whole: the same for the query of a URL, the command line and the
library.  Pure; fetches nothing, and what does not fit the source is found out later.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from proxy.errors import InvalidRequest
from proxy.hls.select import Quality

__all__ = ["OnTrouble", "StreamRequest", "bad_parameter", "check_text", "check_url"]

OnTrouble = Literal["abort", "skip"]

URL_CHARACTERS = 8000  # the request line may have 8190 bytes (aiohttp, and nginx's 8k buffer)
TEXT_CHARACTERS = 255  # `audio` and `filename`; NAME_MAX of Linux file systems
LONGEST_S = 1e9  # 31 years
_CONTROL_OR_SPACE = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequest:
    """What a client asks for.

    Raises:
        InvalidRequest: a value is malformed; `detail` names the parameter.
    """

    url: str = field(repr=False)  # absolute, http or https, without userinfo
    quality: Quality = field(default_factory=Quality)
    audio: str | None = None  # language tag or name of a rendition
    start_s: float | None = None  # seconds into a VOD; negative: before the live edge
    end_s: float | None = None  # seconds into a VOD
    on_gap: OnTrouble = "abort"  # what to do without a segment that cannot be had
    on_splice: OnTrouble = "abort"  # what to do with sections that do not fit
    upstream: str = ""  # by which of the pipeline's fetchers it is fetched; "": everybody's

    def __post_init__(self) -> None:
        check_url(self.url)
        if self.audio is not None:
            check_text("audio", self.audio)
        _check_seconds("start", self.start_s)
        _check_seconds("end", self.end_s)
        if self.end_s is not None and self.end_s <= max(self.start_s or 0.0, 0.0):
            raise bad_parameter("end", "must lie behind the start")
        for name, wish in (("on_gap", self.on_gap), ("on_splice", self.on_splice)):
            if wish not in ("abort", "skip"):
                raise bad_parameter(name, "must be abort or skip")


def bad_parameter(name: str, why: str) -> InvalidRequest:
    """Return the error that names a parameter."""
    return InvalidRequest(detail=f"The parameter `{name}` {why}.")


def check_url(url: object) -> str:
    """Return `url` if it is an absolute http or https address without userinfo.

    Raises:
        InvalidRequest: it is not; `detail` names the parameter `url`.
    """
    if not isinstance(url, str):
        raise bad_parameter("url", "must be text")
    if len(url) > URL_CHARACTERS:
        raise bad_parameter("url", f"is longer than {URL_CHARACTERS} characters")
    if _CONTROL_OR_SPACE.search(url):
        raise bad_parameter("url", "holds a space, a backslash or a control character")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # both raise on a malformed authority
    except ValueError as error:
        raise bad_parameter("url", "is not a well-formed address") from error
    if parts.scheme not in {"http", "https"} or not host:
        raise bad_parameter("url", "must be an absolute http or https address")
    if "@" in parts.netloc:
        raise bad_parameter("url", "must not hold a user name or a password")
    return url


def check_text(name: str, text: object) -> str:
    """Return `text` if it is a short line of something.

    Raises:
        InvalidRequest: it is not; `detail` names the parameter.
    """
    if not isinstance(text, str) or not text.strip() or len(text) > TEXT_CHARACTERS:
        raise bad_parameter(name, f"must have 1 to {TEXT_CHARACTERS} characters")
    if any(unicodedata.category(c) in {"Cc", "Zl", "Zp", "Cs"} for c in text):
        raise bad_parameter(name, "holds a control character")
    return text


def _check_seconds(name: str, seconds: object) -> None:
    if seconds is None:
        return
    # A bool is a number for Python, and for nobody who means seconds.  NaN compares false.
    if not (
        isinstance(seconds, int | float)
        and not isinstance(seconds, bool)
        and abs(seconds) < LONGEST_S
    ):
        raise bad_parameter(name, "must be a number of seconds, such as 12.5")
