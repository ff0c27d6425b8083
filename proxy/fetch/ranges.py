"""Parts of resources: what is asked for, and whether the answer is exactly that.

RFC 9110 sections 13.1.5 (If-Range), 14 (Range, Content-Range) and 15.3.7, 15.5.17 (206, 416).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime

import aiohttp

from proxy.fetch.faults import Unavailable, What, bad_status
from proxy.guard.redaction import redact
from proxy.hls.model import ByteRange

__all__ = ["Part", "part_of", "range_header", "validator_of"]

ETAG = re.compile(r'"[!#-~]*"')  # strong; ASCII, or it would not go out again as it came in
CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/(?:([0-9]{1,19})|\*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Where the bytes of an answer lie in what was asked for."""

    length: int | None  # bytes to give; None: not announced
    total: int | None  # of the whole that was asked for
    offset: int = 0
    skip: int = 0  # bytes to drop first
    cut: bool = False  # there is more behind


def part_of(
    response: aiohttp.ClientResponse,
    url: str,
    *,
    what: What,
    byte_range: ByteRange | None,
    offset: int,
) -> Part:
    """Check an answer against the range asked for (RFC 9110, 14.4 and 15.3.7)."""
    announced = response.content_length
    whole = byte_range.length if byte_range is not None else None
    if response.status == 200:
        if byte_range is None:
            return Part(length=announced, total=announced)
        if announced is not None and announced < byte_range.end:
            raise Unavailable(f"{what} {redact(url)}: it ends before the range does")
        return Part(length=whole, total=whole, skip=byte_range.offset, cut=True)

    begin = offset + (byte_range.offset if byte_range is not None else 0)
    if response.status == 416:  # nothing is missing, if it ends just where we stopped
        if byte_range is None and response.headers.get("Content-Range") == f"bytes */{offset}":
            return Part(length=0, total=offset, offset=offset, cut=True)
        raise bad_status(416, url, what=what, retry_after=None)
    match = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if match is None or (byte_range is None and not offset):
        raise Unavailable(f"{what} {redact(url)}: a part came that was not asked for")
    first, last = int(match[1]), int(match[2])
    size = int(match[3]) if match[3] else None
    if byte_range is not None:
        expected = byte_range.end - 1
    elif size is not None:
        expected, whole = size - 1, size
    else:
        expected = -1  # the rest of something of unknown size cannot be told from a piece of it
    length = last - first + 1
    if (first, last) != (begin, expected) or announced not in (None, length):
        raise Unavailable(f"{what} {redact(url)}: another range came than was asked for")
    return Part(length=length, total=whole, offset=offset)


def range_header(
    byte_range: ByteRange | None, *, offset: int, validator: str | None
) -> dict[str, str]:
    """The headers that ask for `byte_range` (or all) from `offset` on, if it is still the same."""
    headers = {}
    if byte_range is not None:
        headers["Range"] = f"bytes={byte_range.offset + offset}-{byte_range.end - 1}"
    elif offset:
        headers["Range"] = f"bytes={offset}-"
    if offset and validator is not None:
        headers["If-Range"] = validator
    return headers


def validator_of(response: aiohttp.ClientResponse) -> str | None:
    """What If-Range may be given: only a strong validator (RFC 9110, 13.1.5 and 8.8.2.2)."""
    etag = response.headers.get("ETag", "").strip()
    if ETAG.fullmatch(etag):
        return etag
    modified, date = response.headers.get("Last-Modified"), response.headers.get("Date")
    if etag or modified is None or date is None:
        return None
    try:
        settled = parsedate_to_datetime(date) - parsedate_to_datetime(modified)
    except (ValueError, TypeError):
        return None
    return modified if settled >= timedelta(seconds=1) else None
