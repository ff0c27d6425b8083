"""The door where errors of the HTTP client become ours, and what a retry may know about them.

`translate` is the only place in the project that names aiohttp's exceptions.  What it gives are
`SourceNotFound`, `SourceUnavailable` and `SourceTimeout` with two facts more (`Attempted`): whether
trying again makes sense, and the status that the origin answered.  Their messages are for the log
and hold redacted addresses only; nothing foreign stays attached as their cause, since the texts and
attributes of the client's exceptions contain whole URLs.
"""

from __future__ import annotations

import math
import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal
from urllib.parse import urlsplit

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from proxy.errors import (
    Forbidden,
    HeadersTimeout,
    InitSectionTooLarge,
    KeyTooLarge,
    PlaylistTooLarge,
    ProxyError,
    SegmentTooLarge,
    SourceNotFound,
    SourceTimeout,
    SourceTooLarge,
    SourceUnavailable,
)
from proxy.guard.redaction import redact

__all__ = [
    "FOREIGN",
    "Attempted",
    "HeadersLate",
    "Missing",
    "TimedOut",
    "Unavailable",
    "bad_status",
    "too_large",
    "translate",
]

What = Literal["playlist", "page", "key", "map", "segment"]

_TOO_LARGE: dict[What, type[ProxyError]] = {
    "playlist": PlaylistTooLarge,
    "page": SourceTooLarge,
    "key": KeyTooLarge,
    "map": InitSectionTooLarge,
    "segment": SegmentTooLarge,
}

# What the client raises, on its own account or from below; uvloop has RuntimeErrors of its own for
# connects, and names that cannot be encoded are UnicodeErrors.  Anything else is a bug of ours.
FOREIGN = (aiohttp.ClientError, HttpProcessingError, OSError, RuntimeError, UnicodeError)

# RFC 9110: 408 and 429 say so themselves, RFC 8470: 425; a 5xx is the origin's trouble, not ours.
_PASSING = frozenset({408, 425, 429})

# What guards answer before a page; with an HTML body, and at an address that is no playlist's.
_REFUSING = frozenset({401, 403, 429, 451})


class Attempted:
    """What an attempt that failed tells a retry policy; mixed into the public errors below."""

    retryable: bool = False
    upstream_status: int | None = None  # what the origin answered, if that was the trouble
    retry_after_s: int | None  # what it asked for with that (of `ProxyError`)


class Missing(Attempted, SourceNotFound):
    """A playlist or page that answered 404 or 410."""


class Unavailable(Attempted, SourceUnavailable):
    """One attempt failed.  `retry_after_s` is what the origin asked for."""

    page_refused = False  # whether what answered guards a page: a login, a challenge, a block

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = True,
        upstream_status: int | None = None,
        retry_after_s: int | None = None,
        detail: str | None = None,
    ) -> None:
        super().__init__(message, detail=detail, retry_after_s=retry_after_s)
        self.retryable = retryable
        self.upstream_status = upstream_status


class TimedOut(Attempted, SourceTimeout):
    """One attempt took too long."""

    retryable = True


class HeadersLate(Attempted, HeadersTimeout):
    """The headers of one answer took too long."""

    retryable = True


def too_large(what: What, message: str) -> ProxyError:
    """Return the error for a body that has more bytes than its kind may have."""
    return _TOO_LARGE[what](message)


def bad_status(
    status: int,
    url: str,
    *,
    what: What,
    retry_after: str | None,
    headers: Mapping[str, str] | None = None,
) -> Missing | Unavailable:
    """Turn a status that is not the one asked for into an error; by all `headers` of the answer,
    where they are given, it tells whether a page is being guarded."""
    message = f"{what} {redact(url)} answered {status}"
    if status in {404, 410} and what in {"playlist", "page"}:
        missing = Missing(message)
        missing.upstream_status = status
        return missing
    headers = headers or {}
    challenged = "cf-mitigated" in headers  # by Cloudflare: there the next attempt is, too
    unavailable = Unavailable(
        message,
        retryable=(status in _PASSING or status >= 500) and not challenged,
        upstream_status=status,
        retry_after_s=_retry_after_s(retry_after),
    )
    unavailable.page_refused = challenged or (
        status in _REFUSING
        and "html" in headers.get("Content-Type", "").lower()
        and not urlsplit(url).path.lower().endswith((".m3u8", ".m3u"))
    )
    return unavailable


def translate(
    error: Exception, url: str, *, what: What, before_headers: bool = False
) -> ProxyError:
    """Turn what one attempt raised, one of `FOREIGN` or one of ours already, into one of ours."""
    if isinstance(error, ProxyError):
        return error
    where = f"{what} {redact(url)}"
    if isinstance(error, TimeoutError):  # all of aiohttp's are
        connected = not isinstance(error, aiohttp.ConnectionTimeoutError)
        kind = HeadersLate if before_headers and connected else TimedOut
        return kind(f"{where}: too slow ({type(error).__name__})")
    if isinstance(error, aiohttp.InvalidURL | UnicodeError):
        return Forbidden(f"{where}: malformed address")
    return Unavailable(f"{where}: {_said(error)}", retryable=_may_pass(error), detail=_told(error))


def _may_pass(error: Exception) -> bool:
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientHttpProxyError):
        return False
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        # A certificate or a protocol that was refused stays so; a handshake cut short may pass.
        return isinstance(error.os_error, ssl.SSLEOFError | ssl.SSLZeroReturnError)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return error.os_error.errno != socket.EAI_NONAME
    return True


def _said(error: Exception) -> str:
    """What an exception says, without the address that most of them repeat."""
    name = type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"{name} ({error.certificate_error})"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"{name} ({error.os_error})"
    if isinstance(error, aiohttp.ClientOSError):
        return f"{name} ({error.strerror})"
    if isinstance(error, aiohttp.ClientResponseError):  # malformed HTTP arrives as one
        return f"{name} (malformed answer)"
    if isinstance(error, aiohttp.ClientPayloadError):
        return f"{name} (the body is shorter than announced, or malformed)"
    return name


def _told(error: Exception) -> str | None:
    """What the client may be told: which step failed, without a word of the other side's."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "The name of the source's host could not be found."
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "The certificate of the source is not valid."
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return "TLS with the source failed."
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError):
        return "No connection to the source could be made."
    if isinstance(error, aiohttp.ClientPayloadError):
        return "The answer of the source is shorter than announced, or malformed."
    if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError):
        return "The source does not answer as HTTP has it."
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionError):
        return "The source closed the connection."
    return None


def _retry_after_s(value: str | None) -> int | None:
    """Seconds to wait by RFC 9110 section 10.2.3: a number or a date; `None` if it is neither."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return int(value[:9])
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0, math.ceil((when - datetime.now(UTC)).total_seconds()))
