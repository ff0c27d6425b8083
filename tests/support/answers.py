"""What an origin answers: the honest answer to a request, and what a fault makes of it.

Values and plain functions, no IO beyond reading a resource's file: `origin.py` sends the result.
"""

import gzip
import hashlib
import random
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from tests.support.faults import (
    CloseDelimited,
    Endless,
    Fault,
    Garbage,
    Gzip,
    GzipBomb,
    Hangup,
    IgnoreRange,
    NoFinalChunk,
    Redirect,
    Refuse,
    Replace,
    Reset,
    SlowHeaders,
    Stall,
    Status,
    Trickle,
    Truncate,
    WrongLength,
    WrongRange,
)

__all__ = ["Answer", "Content", "Framing", "Request", "Resource", "Validator", "spoil"]

LAST_MODIFIED = "Mon, 01 Jan 2024 00:00:00 GMT"

Content = bytes | str | Path | Callable[["Request"], bytes | str]
Framing = Literal["length", "chunked", "close"]
Validator = Literal["etag", "weak", "date", "none"]


@dataclass(slots=True)
class Request:
    """One request as it came, and what became of its answer."""

    method: str
    target: str  # as in the request line
    path: str  # without the query
    query: str
    headers: dict[str, str]  # names in lower case
    connection: int  # number of its Connection
    fault: Fault | None = None  # what was done to it
    status: int = 0  # 0 as long as no headers were sent
    sent_bytes: int = 0  # of the body, taken by the kernel
    complete: bool = False  # the whole answer was sent, faulty or not
    ended: bool = False  # complete, or the client left

    @classmethod
    def parse(cls, head: bytes, *, connection: int) -> "Request":
        """Read a request line and its headers; an absolute target (of a proxy) gives its path."""
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        url = urlsplit(target)
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return cls(method, target, url.path, url.query, headers, connection)

    def range_of(self, size_bytes: int) -> tuple[int, int] | None:
        """First and last byte of `Range: bytes=a-b` or `a-`, or `None`."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        if match is None:
            return None
        return int(match[1]), min(int(match[2] or size_bytes), size_bytes - 1)


@dataclass(slots=True, kw_only=True)
class Answer:
    """What goes out, and how it ends."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    framing: Framing = "length"
    announced: int | None = None  # Content-Length; None: the truth
    stop_at: int | None = None  # body bytes that are sent; None: all
    ending: Literal["finish", "close", "reset", "stall"] = "finish"
    before_headers: bool = False  # the ending comes before them
    header_every_s: float = 0.0
    drip: Trickle | None = None
    endless: bytes = b""

    def head(self, *, keep_alive: bool) -> bytes:
        """The status line and the headers."""
        headers = {"Server": "fault-origin", "Date": formatdate(usegmt=True)} | self.headers
        if self.framing == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        elif self.framing == "length":
            told = len(self.body) if self.announced is None else self.announced
            headers["Content-Length"] = str(told)
        if not keep_alive:
            headers["Connection"] = "close"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {self.status} Told\r\n{lines}\r\n".encode("latin-1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What is served at a path."""

    content: Content
    content_type: str
    framing: Framing
    validator: Validator
    ranges: bool
    headers: dict[str, str]

    def body(self, request: Request) -> bytes:
        """The whole of it, now."""
        content = self.content
        if callable(content):
            content = content(request)
        if isinstance(content, Path):
            content = content.read_bytes()
        return content.encode() if isinstance(content, str) else content

    def answer(self, request: Request) -> Answer:
        """Answer honestly, RFC 9110 sections 13 (If-Range) and 14 (Range) included."""
        body = self.body(request)
        answer = Answer(
            headers={"Content-Type": self.content_type} | self.headers,
            body=body,
            framing=self.framing,
        )
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        validator = ""
        if self.validator == "date":
            validator = answer.headers["Last-Modified"] = LAST_MODIFIED
        elif self.validator == "etag":
            validator = answer.headers["ETag"] = etag
        elif self.validator == "weak":
            answer.headers["ETag"] = "W/" + etag
        if not self.ranges:
            return answer
        answer.headers["Accept-Ranges"] = "bytes"
        asked = request.range_of(len(body))
        if asked and request.headers.get("if-range", validator) == validator:
            first, last = asked
            if first >= len(body):
                answer.status, answer.body = 416, b""
                answer.headers["Content-Range"] = f"bytes */{len(body)}"
            else:
                answer.status, answer.body = 206, body[first : last + 1]
                answer.headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
        return answer


def spoil(answer: Answer, request: Request, resource: Resource | None) -> None:
    """Do to the answer what the request's fault says."""
    match request.fault:
        case Status(code, retry_after):
            answer.status, answer.body = code, f"status {code}\n".encode()
            answer.headers = {"Content-Type": "text/plain"}
            if retry_after is not None:
                answer.headers["Retry-After"] = str(retry_after)
        case Reset(after_bytes) | Hangup(after_bytes) | Stall(after_bytes):
            endings: dict[type, Literal["reset", "close", "stall"]]
            endings = {Reset: "reset", Hangup: "close", Stall: "stall"}
            answer.ending = endings[type(request.fault)]
            answer.stop_at = _within(answer.body, after_bytes or 0)
            answer.before_headers = after_bytes is None
        case Refuse():
            answer.ending, answer.before_headers = "reset", True
        case Truncate(after_bytes):
            answer.stop_at, answer.ending = _within(answer.body, after_bytes), "close"
        case NoFinalChunk():
            answer.framing, answer.ending = "chunked", "close"
        case Trickle():
            answer.drip = request.fault
        case SlowHeaders(every_s):
            answer.header_every_s = every_s
        case WrongLength(by_bytes):
            answer.framing, answer.announced = "length", len(answer.body) + by_bytes
            answer.ending = "close"
        case WrongRange() as wrong if resource is not None:
            _move_range(answer, request, resource.body(request), wrong)
        case IgnoreRange() if resource is not None and answer.status in {206, 416}:
            answer.status, answer.body = 200, resource.body(request)
            del answer.headers["Content-Range"]
        case Gzip(cut_bytes, coding):
            packed = gzip.compress(answer.body, mtime=0)
            answer.body = packed[: len(packed) - cut_bytes]
            answer.headers["Content-Encoding"] = coding
        case GzipBomb(size_bytes):
            answer.body = _zeros(size_bytes)
            answer.headers["Content-Encoding"] = "gzip"
        case Garbage(size_bytes):
            answer.status, answer.body = 200, random.Random(1).randbytes(size_bytes)
        case Replace(body, content_type, headers):
            answer.status, answer.body = 200, body
            answer.headers = {"Content-Type": content_type} | headers
        case Redirect(to, code):
            answer.status, answer.body, answer.headers = code, b"", {"Location": to}
        case CloseDelimited(cut_bytes):
            answer.framing, answer.ending = "close", "close"
            answer.stop_at = len(answer.body) - cut_bytes
        case Endless(piece):
            answer.status, answer.framing, answer.endless = 200, "chunked", piece
        case _:
            pass


def _within(body: bytes, at: int) -> int:
    """A fault strikes before the last byte, also where only the rest of a resource is asked for."""
    return max(0, min(at, len(body) - 1))


def _move_range(answer: Answer, request: Request, body: bytes, wrong: WrongRange) -> None:
    asked = request.range_of(len(body))
    if asked is None:
        return
    first, last = asked[0] + wrong.shift_bytes, asked[1] + wrong.shift_bytes - wrong.short_bytes
    answer.status, answer.body = 206, body[first : last + 1]
    told = asked if wrong.lie else (first, last)
    answer.headers["Content-Range"] = f"bytes {told[0]}-{told[1]}/{len(body)}"


def _zeros(size_bytes: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(1024 * 1024)
    parts = [packer.compress(block) for _ in range(size_bytes // len(block))]
    parts += [packer.compress(bytes(size_bytes % len(block))), packer.flush()]
    return b"".join(parts)
