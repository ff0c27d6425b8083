"""The clients of the measurements that are in a hurry; blocking, to be run in a thread.

`begin` stops at the first whole fragment (or, where the bytes of the source come, at the first
picture and the first audio frame); `whole` takes a stream to its end as fast as it comes.  Where a
contender answers with a playlist they do what a player does: one segment after the other.  `Bare`
is nobody's customer: it asks the origin itself, and takes the least time that there is.

All of them raise `Cut` for a stream that is refused or breaks, `OSError` or `HTTPException` for a
connection that does, and give up (`TimeoutError`) after `LONGEST_S`.
"""

from __future__ import annotations

import http.client
import socket
import time
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from bench.passthrough import entries
from bench.processes import Serving

__all__ = ["Bare", "Began", "Cut", "Whole", "begin", "whole"]

TIMEOUT_S = 60  # without a byte
LONGEST_S = 180
READ_BYTES = 64 * 1024
START_BYTES = 64  # of a body, with what frames it: MP4 says there what it is


class Cut(RuntimeError):
    """The stream was refused, or did not come to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    first_byte_s: float
    first_fragment_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A stream that came to its end."""

    seconds: float
    size: int
    mp4: bool  # whether it begins as MP4 does


def first_fragment_size(data: bytes | bytearray) -> int | None:
    """Return how many bytes lead to the end of the first whole `moof` and `mdat`."""
    place, seen = 0, False
    while place + 8 <= len(data):
        size, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        place += size
        seen = seen or kind == b"moof"
        if kind == b"mdat" and seen:
            return place if place <= len(data) else None
    return None


def begin(server: Serving, source: str, *, source_bytes: int) -> Began:
    """Return the seconds to the first byte of the body and to the first whole fragment.

    `source_bytes` of a segment hold the first picture and the first audio frame; that many are
    waited for where no fragments come.  Each call makes a connection of its own, as a player would.
    """
    began_s = time.perf_counter()
    first_byte_s = 0.0
    data = bytearray()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S)
    try:
        target = server.target(source)
        if server.contender.playlist:
            target = _played(connection, target)[0]
        response = _asked(connection, target)
        while chunk := response.read1(READ_BYTES):
            first_byte_s = first_byte_s or time.perf_counter() - began_s
            data += chunk
            if server.contender.fragments:
                there = first_fragment_size(data) is not None
            else:
                there = len(data) >= source_bytes
            if there:
                return Began(
                    first_byte_s=first_byte_s, first_fragment_s=time.perf_counter() - began_s
                )
            _not_longer(began_s)
    finally:
        connection.close()
    raise Cut(f"the stream ended after {len(data)} bytes, before its first fragment")


def whole(server: Serving, source: str) -> Whole:
    """Take a whole stream.

    Not through an HTTP library: it would cost more than some contenders do.
    """
    if server.contender.playlist:
        return _whole_by_segments(server, source)
    began_s = time.perf_counter()
    request = (
        f"GET {server.target(source)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    buffer = memoryview(bytearray(1 << 20))
    with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(request.encode())
        head, start = _head(connection)
        total, tail = len(start), start[-5:]
        while size := connection.recv_into(buffer):
            total += size
            if len(start) < START_BYTES:
                start += bytes(buffer[: min(size, START_BYTES)])
            tail = (tail + bytes(buffer[max(size - 5, 0) : size]))[-5:]
            _not_longer(began_s)
    if b"transfer-encoding: chunked" in head.lower() and tail != b"0\r\n\r\n":
        raise Cut(f"the stream was cut after {total} bytes")
    if total < START_BYTES:
        raise Cut("answered 200, and then nothing")
    mp4 = b"ftyp" in start[:START_BYTES]
    return Whole(seconds=time.perf_counter() - began_s, size=total, mp4=mp4)


def _whole_by_segments(server: Serving, source: str) -> Whole:
    began_s = time.perf_counter()
    total = 0
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S)
    try:
        for target in _played(connection, server.target(source)):
            total += len(_asked(connection, target).read())
            _not_longer(began_s)
    finally:
        connection.close()
    return Whole(seconds=time.perf_counter() - began_s, size=total, mp4=False)


def _played(connection: http.client.HTTPConnection, target: str) -> list[str]:
    """Return the targets of the segments that a player of HLS would take, by the first variant."""
    while True:
        text = _asked(connection, target).read().decode()
        below = [urljoin(target, entry) for entry in entries(text)]
        if not below:
            raise Cut("answered with an empty playlist")
        below = [urlsplit(one)._replace(scheme="", netloc="").geturl() for one in below]
        if "#EXT-X-STREAM-INF" not in text:
            return below
        target = below[0]


def _asked(connection: http.client.HTTPConnection, target: str) -> http.client.HTTPResponse:
    connection.request("GET", target)
    response = connection.getresponse()
    if response.status != 200:
        raise Cut(f"answered {response.status}")
    return response


def _not_longer(began_s: float) -> None:
    if time.perf_counter() - began_s > LONGEST_S:
        raise TimeoutError(f"not there after {LONGEST_S} s")


def _head(connection: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(READ_BYTES)
        if not part:
            raise Cut("gave no answer")
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1] != b"200":
        raise Cut(f"answered {head.split(b' ', 2)[1].decode()}")
    return head, body


class Bare:
    """Does the serial requests that there is no way around: playlists, then media.

    Of the first segment it takes what holds the first picture and the first audio frame.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)

    def begin(self, address: str, *, source_bytes: int, warm: bool) -> float:
        """Return the seconds; `warm`: on a connection that has been used before."""
        if warm:
            self._get(address)
        began_s = time.perf_counter()
        while True:
            text = self._get(address).decode()
            below = entries(text)
            if "#EXT-X-STREAM-INF" not in text:
                break
            address = urljoin(address, below[0])
        self._get(urljoin(address, below[0]), source_bytes)
        return time.perf_counter() - began_s

    def _get(self, address: str, size: int | None = None) -> bytes:
        self._connection.request("GET", urlsplit(address).path)
        response = self._connection.getresponse()
        if response.status != 200:
            raise Cut(f"the origin answered {response.status}")
        data = response.read(size)
        if size is not None:
            self._connection.close()  # the rest of it is in the way
        return data
