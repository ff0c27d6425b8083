"""A raw HTTP/1 client that tells how a response ended; it trusts no library to tell it.

    reply = await ask(address, "/stream?url=...")
    assert (reply.status, reply.ended) == (200, "complete")

`Conversation` is one connection in the hands of the test: to read slowly, or to leave.
"""

import asyncio
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self
from urllib.parse import quote, urlsplit

TIMEOUT_S = 20.0  # ten times what any of this should take

Ended = Literal["complete", "cut", "reset", "closed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    status: int
    headers: tuple[tuple[str, str], ...]  # names in lower case
    body: bytes
    # complete: as long as announced; cut: shorter, and closed; reset: by RST; closed: HTTP/1.0 and
    # no length, where a normal end looks the same
    ended: Ended

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name.lower()]
        assert len(values) <= 1, f"{name} stands there more than once"
        return values[0] if values else None

    def json(self) -> Any:
        return json.loads(self.body)


class Conversation:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._head = b""
        self._on_piece: Callable[[int], None] | None = None

    @classmethod
    async def open(cls, address: str, *, slow: bool = False) -> Self:
        """Connect to `http://host:port` or `unix:/path`; a slow one reads only when asked to."""
        limit = 4096 if slow else 2**16  # twice that is read ahead
        if address.startswith("unix:"):
            return cls(*await asyncio.open_unix_connection(address[5:], limit=limit))
        parts = urlsplit(address)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port, limit=limit))

    @classmethod
    async def narrow(cls, address: str) -> Self:
        """Connect to `http://host:port` with a receive buffer so small that what is not read stays
        with the sender."""
        parts = urlsplit(address)
        connected = socket.socket()
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connected.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connected, (parts.hostname, parts.port))
        return cls(*await asyncio.open_connection(sock=connected, limit=4096))

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    def request(
        self,
        target: str,
        *,
        method: str = "GET",
        version: str = "1.1",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        lines = [f"{method} {target} HTTP/{version}", "Host: test.invalid"]
        lines += [f"{name}: {value}" for name, value in headers]
        self.send("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape"))

    async def begun(self) -> None:
        """Wait for the head of the answer, and leave it to be read."""
        self._head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), TIMEOUT_S)

    async def head(self) -> tuple[int, tuple[tuple[str, str], ...]]:
        """Read the status line and the headers."""
        if not self._head:
            await self.begun()
        block, self._head = self._head, b""
        status, *lines = block.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return int(status.split()[1]), tuple((k.lower(), v.strip()) for k, _, v in pairs)

    async def read(self, count: int) -> bytes:
        """Read raw bytes, chunk framing included."""
        return await asyncio.wait_for(self._reader.readexactly(count), TIMEOUT_S)

    async def reply(
        self, *, method: str = "GET", on_piece: Callable[[int], None] | None = None
    ) -> Reply:
        """Read a whole response; `on_piece` is told the size of each chunk."""
        self._on_piece = on_piece
        status, headers = await self.head()
        body, ended = await asyncio.wait_for(self._body(method, status, dict(headers)), TIMEOUT_S)
        return Reply(status=status, headers=headers, body=body, ended=ended)

    async def _body(self, method: str, status: int, headers: dict[str, str]) -> tuple[bytes, Ended]:
        body = bytearray()
        try:
            if method == "HEAD" or status in {204, 304}:
                return b"", "complete"
            if headers.get("transfer-encoding") == "chunked":
                while size := int(await self._reader.readuntil(b"\r\n"), 16):
                    body += (await self._reader.readexactly(size + 2))[:-2]
                    if self._on_piece is not None:
                        self._on_piece(size)
                await self._reader.readexactly(2)
                return bytes(body), "complete"
            if "content-length" in headers:
                return await self._reader.readexactly(int(headers["content-length"])), "complete"
            while data := await self._reader.read(2**16):
                body += data
        except asyncio.IncompleteReadError:
            return bytes(body), "cut"
        except ConnectionResetError:
            return bytes(body), "reset"
        return bytes(body), "closed"

    async def until_closed(self) -> bytes:
        """Return what still comes until the other side closes the connection."""
        rest = bytearray()
        try:
            while data := await asyncio.wait_for(self._reader.read(2**16), TIMEOUT_S):
                rest += data
        except ConnectionResetError:
            pass
        return bytes(rest)

    def leave(self) -> None:
        """Close at once, whatever is under way."""
        self._writer.transport.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()


async def ask(
    address: str,
    target: str,
    *,
    method: str = "GET",
    version: str = "1.1",
    headers: tuple[tuple[str, str], ...] = (),
) -> Reply:
    """Make one request on a connection of its own and read the whole answer."""
    async with await Conversation.open(address) as conversation:
        conversation.request(target, method=method, version=version, headers=headers)
        return await conversation.reply(method=method)


def stream_target(url: str = "http://origin.invalid/a.m3u8", **parameters: str) -> str:
    """Return the path and query that asks for the stream of `url`."""
    pairs = {"url": url, **parameters}
    return "/stream?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in pairs.items())
