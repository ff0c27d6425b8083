"""Many clients at once that take their time, in one thread, at next to no cost.

Every 20 ms each socket is emptied, or, when the clients set the pace, read as far as a player would
be by then.  Their receive buffers are small then: what the kernel holds is not what a player has.
They come one after the other, spread over the length of a GOP: media leaves in fragments, and if
those of all streams left together, a window would hold one of them more or less.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from bench.clip import GOP_S
from bench.processes import Serving

__all__ = ["Load", "Totals"]

TICK_S = 0.02
READ_BYTES = 1 << 18
RECEIVE_BUFFER_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What has come until now; header and framing bytes are counted, being a thousandth of it."""

    at_s: float
    bytes_by_client: tuple[int, ...]
    late_s: tuple[float, ...]  # by client, how far behind its own time; 0 without a pace

    @property
    def bytes(self) -> int:
        return sum(self.bytes_by_client)


@dataclass(slots=True, kw_only=True)
class _Client:
    source: str
    connection: socket.socket | None = None  # from when it is its turn
    began_s: float = 0.0  # when its first byte came
    got: int = 0


class Load:
    """Clients that run while the context is entered.

    Args:
        bytes_per_s: the pace of each client; 0: as fast as it comes.
    """

    def __init__(self, server: Serving, sources: Sequence[str], *, bytes_per_s: float) -> None:
        self._server = server
        self._rate = bytes_per_s
        self._clients = [_Client(source=source) for source in sources]
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._ended = threading.Event()
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        for client in self._clients:
            if client.connection is not None:
                client.connection.close()

    def begun(self, at_least_bytes: int) -> bool:
        """Tell whether every client has that much.

        Raises:
            RuntimeError: a stream was refused, or has ended.
        """
        if self._failure is not None:
            raise RuntimeError(self._failure)
        return all(client.got >= at_least_bytes for client in self._clients)

    def totals(self) -> Totals:
        """Return what has come until now.

        Raises:
            RuntimeError: a stream was refused, or has ended.
        """
        if self._failure is not None:
            raise RuntimeError(self._failure)
        now_s = time.monotonic()
        return Totals(
            at_s=now_s,
            bytes_by_client=tuple(client.got for client in self._clients),
            late_s=tuple(self._late_s(client, now_s) for client in self._clients),
        )

    def _late_s(self, client: _Client, now_s: float) -> float:
        if not self._rate or not client.got:
            return 0.0
        return max(now_s - client.began_s - client.got / self._rate, 0.0)

    def _connect(self, source: str) -> socket.socket:
        connection = socket.socket()
        if self._rate:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        connection.connect(("127.0.0.1", self._server.port))
        target = self._server.target(source)
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        connection.settimeout(0)  # non-blocking
        return connection

    def _run(self) -> None:
        began_s = time.monotonic()
        apart_s = GOP_S / len(self._clients)
        while not self._ended.wait(TICK_S):
            since_s = time.monotonic() - began_s
            for index, client in enumerate(self._clients):
                if since_s < index * apart_s:
                    break
                try:
                    if client.connection is None:
                        client.connection = self._connect(client.source)
                    self._read(client, client.connection)
                except OSError as error:
                    self._failure = str(error)
                    return

    def _read(self, client: _Client, connection: socket.socket) -> None:
        while (wanted := self._wanted(client)) > 0:
            try:
                size = connection.recv_into(self._buffer, wanted)
            except BlockingIOError:
                return
            if not client.got:
                client.began_s = time.monotonic()
                status = bytes(self._buffer[:size]).split(b" ", 2)[1:2]
                if status != [b"200"]:
                    raise ConnectionError(f"answered {bytes(self._buffer[: min(size, 80)])!r}")
            if not size:
                raise ConnectionError("a stream ended")
            client.got += size

    def _wanted(self, client: _Client) -> int:
        if not self._rate or not client.got:
            return READ_BYTES
        due = (time.monotonic() - client.began_s) * self._rate
        return min(int(due) - client.got, READ_BYTES)
