"""The clients of the measurements that are in a hurry; blocking, to be run in a thread.

`begin` stops at the first whole fragment (or, where the bytes of the source come, at the first
picture and the first audio frame); `whole` takes a stream to its end as fast as it comes; `Bare`
is nobody's customer: it asks the origin itself, and takes the least time that there is.
"""

from __future__ import annotations

import http.client
import socket
import time
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from bench.contenders import Serving

__all__ = ["Bare", "Began", "begin", "whole"]

TIMEOUT_S = 120
READ_BYTES = 64 * 1024


class Cut(RuntimeError):
    """The stream was refused, or did not come to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    first_byte_s: float
    first_fragment_s: float


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
        connection.request("GET", server.target(source))
        response = connection.getresponse()
        if response.status != 200:
            raise Cut(f"{server.contender.name} answered {response.status}")
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
    finally:
        connection.close()
    raise Cut(f"{server.contender.name}: the stream ended before its first fragment")


def whole(server: Serving, source: str) -> tuple[float, int]:
    """Take a whole stream; return the seconds, and the bytes that came.

    Not through an HTTP library: it would cost more than some contenders do.
    """
    began_s = time.perf_counter()
    request = (
        f"GET {server.target(source)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    buffer = memoryview(bytearray(1 << 20))
    total, tail = 0, b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(request.encode())
        head, body = _head(connection, server.contender.name)
        total, tail = len(body), body[-5:]
        while size := connection.recv_into(buffer):
            total += size
            tail = (tail + bytes(buffer[max(size - 5, 0) : size]))[-5:]
    if b"transfer-encoding: chunked" in head.lower() and tail != b"0\r\n\r\n":
        raise Cut(f"{server.contender.name}: the stream was cut after {total} bytes")
    return time.perf_counter() - began_s, total


def _head(connection: socket.socket, name: str) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(READ_BYTES)
        if not part:
            raise Cut(f"{name} gave no answer")
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1] != b"200":
        raise Cut(f"{name} answered {head.splitlines()[0].decode()}")
    return head, body


class Bare:
    """Does the serial requests that there is no way around: playlists, then media.

    Of the first segment it takes what holds the first picture and the first audio frame.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)

    def begin(self, address: str, *, source_bytes: int, segment: int, warm: bool) -> float:
        """Return the seconds; `segment` is the place in the media playlist of the first one.

        `warm`: on a connection that has been used before.
        """
        if warm:
            self._get(address)
        began_s = time.perf_counter()
        while True:
            text = self._get(address).decode()
            below = [line for line in text.splitlines() if line and not line.startswith("#")]
            if "#EXT-X-STREAM-INF" not in text:
                break
            address = urljoin(address, below[0])
        self._get(urljoin(address, below[segment]), source_bytes)
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
