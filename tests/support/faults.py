"""What an origin may do wrong, as values: one frozen dataclass per kind of fault.

`Origin.fault(path, fault, times=n)` takes them.  Positions are counted in bytes of the body;
`None` where a position may be given means: before the headers.
"""

from dataclasses import dataclass, field

__all__ = [
    "CloseDelimited",
    "Delay",
    "Endless",
    "Fault",
    "Garbage",
    "Gzip",
    "GzipBomb",
    "Hangup",
    "IgnoreRange",
    "NoFinalChunk",
    "Raw",
    "Redirect",
    "Refuse",
    "Replace",
    "Reset",
    "SlowHeaders",
    "Stall",
    "Status",
    "Trickle",
    "Truncate",
    "WrongLength",
    "WrongRange",
]


@dataclass(frozen=True, slots=True)
class Status:
    """Answer `code` with a small body, and Retry-After where one is given."""

    code: int
    retry_after: str | int | None = None


@dataclass(frozen=True, slots=True)
class Reset:
    """Send a TCP RST after `after_bytes` of the body."""

    after_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Reset the connection and stop listening, so that every connect is refused; for `for_s`
    seconds, or (`None`) for good.  A request shows its path too late to be refused itself."""

    for_s: float | None = None


@dataclass(frozen=True, slots=True)
class Hangup:
    """Close the connection politely (FIN) after `after_bytes` of the body."""

    after_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Truncate:
    """Announce the whole body, send `after_bytes` of it and close; chunked: no final chunk."""

    after_bytes: int


@dataclass(frozen=True, slots=True)
class Stall:
    """Send `after_bytes` of the body, then nothing until the client leaves."""

    after_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Trickle:
    """Send the body in drips of `drip_bytes` every `every_s`, from `after_bytes` on."""

    drip_bytes: int = 1
    every_s: float = 0.3
    after_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SlowHeaders:
    """Send the headers byte by byte, one every `every_s`."""

    every_s: float = 0.3


@dataclass(frozen=True, slots=True)
class Delay:
    """Answer as ever, `seconds` later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class WrongLength:
    """Announce `by_bytes` more than is sent (then close), or less where it is negative."""

    by_bytes: int


@dataclass(frozen=True, slots=True)
class WrongRange:
    """Answer 206 with a range moved by `shift_bytes` and shorter by `short_bytes`, told honestly;
    `lie`: the Content-Range says what was asked for all the same."""

    shift_bytes: int = 0
    short_bytes: int = 0
    lie: bool = False


@dataclass(frozen=True, slots=True)
class IgnoreRange:
    """Answer a Range request with 200 and the whole."""


@dataclass(frozen=True, slots=True)
class Gzip:
    """Encode the body with gzip, asked or not; `cut_bytes` are missing at its end, and the
    Content-Length agrees with that.  `coding` is what Content-Encoding says."""

    cut_bytes: int = 0
    coding: str = "gzip"


@dataclass(frozen=True, slots=True)
class GzipBomb:
    """A gzip body that unpacks to `size_bytes` of zeros."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class Garbage:
    """200 with `size_bytes` of random bytes (the same ones each time)."""

    size_bytes: int = 10_000


@dataclass(frozen=True, slots=True)
class Replace:
    """200 with another body: a page, nothing at all, a newer version."""

    body: bytes = b""
    content_type: str = "text/html"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Redirect:
    """Send the client to `to`; its own address makes a loop."""

    to: str
    code: int = 302


@dataclass(frozen=True, slots=True)
class CloseDelimited:
    """No Content-Length, no chunks: closing ends the body, `cut_bytes` too early."""

    cut_bytes: int = 0


@dataclass(frozen=True, slots=True)
class NoFinalChunk:
    """Send all of a chunked body, and close where its final chunk should be."""


@dataclass(frozen=True, slots=True)
class Endless:
    """A chunked body that repeats `piece` until the client leaves."""

    piece: bytes = field(default=b"#EXT-X-COMMENT:again and again\n" * 100, repr=False)


@dataclass(frozen=True, slots=True)
class Raw:
    """These bytes instead of an HTTP response, then close."""

    data: bytes


Fault = (
    CloseDelimited
    | Delay
    | Endless
    | Garbage
    | Gzip
    | GzipBomb
    | Hangup
    | IgnoreRange
    | NoFinalChunk
    | Raw
    | Redirect
    | Refuse
    | Replace
    | Reset
    | SlowHeaders
    | Stall
    | Status
    | Trickle
    | Truncate
    | WrongLength
    | WrongRange
)
