"""Accepting connections beside other processes, so that each gets its part of them.

All workers wait on one listening socket, and all are woken by a connection.  A loop's own server
then takes every connection there is, so that a burst of them goes to whoever came first (measured,
50 at a time to 4 workers: 30, 19, 1 and 1).  Here a worker takes one, and leaves the next to others
for a moment; a longer one while it has more streams than its part.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

__all__ = ["Acceptor"]

logger = logging.getLogger(__name__)

PAUSE_S = 0.001  # after each connection; an idle process takes less to wake up and accept
HESITATION_S = 0.005  # before a connection that another should rather have
OUT_OF_FILES_S = 1.0  # as in asyncio: with no file left, connections wait in the kernel


class Acceptor:
    """Takes connections from a socket, one at a time, until it is closed.

    Args:
        sock: listens already, and is taken over.
        factory: makes the protocol of a connection.
        yields: whether another process should rather have the next one.
    """

    def __init__(
        self,
        sock: socket.socket,
        factory: Callable[[], asyncio.BaseProtocol],
        yields: Callable[[], bool],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._factory = factory
        self._yields = yields
        self._timer: asyncio.TimerHandle | None = None
        self._connecting: set[asyncio.Task[None]] = set()
        sock.settimeout(0)
        self._listen()

    def close(self) -> None:
        """Take no more; connections that were taken are not touched.  Idempotent."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()
        if self._timer is not None:
            self._timer.cancel()

    def _listen(self) -> None:
        self._timer = None
        self._loop.add_reader(self._sock, self._arrived)

    def _arrived(self) -> None:
        self._loop.remove_reader(self._sock)
        if self._yields():
            self._timer = self._loop.call_later(HESITATION_S, self._accept)
        else:
            self._accept()

    def _accept(self) -> None:
        try:
            connection, _ = self._sock.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            self._listen()  # another process has it, or the client has left
            return
        except OSError as error:
            logger.error("cannot accept connections for a while: %s", error)  # noqa: TRY400
            self._timer = self._loop.call_later(OUT_OF_FILES_S, self._listen)
            return
        self._timer = self._loop.call_later(PAUSE_S, self._listen)
        connection.settimeout(0)
        task = self._loop.create_task(self._connect(connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, connection)
        except OSError:  # the client has left
            connection.close()
