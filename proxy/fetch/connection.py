"""The client's protocol, with four things that aiohttp 3.14 passes over, and two of our own.

1. A body that only the close of the connection ends has failed where that close was a reset.  The
   client takes any close for its end, and a short body for a whole one.
2. What arrives on a connection that nothing was asked of is no answer: the connection is closed.
   The client would read it as the answer to the next request that is made there, so that a server
   which says too much once gives segments in each other's place from then on.
3. Interim answers (1xx) are few.  The client reads any number of them without ever letting the
   event loop go on, so that no deadline comes true and all other streams stand still.
4. A socket that was not read, because nobody took what had come, is read again when somebody waits
   for more (`go_on`).  The client reads it as soon as what had come is taken, and so holds 256 kB
   for each stream whose client is slow.
5. Bytes may be let to gather in the socket (`Connection.gather`), so that a stream at the pace at
   which it is watched costs one turn of the event loop for each batch instead of each packet.
6. A socket is read by at most `Connection.read_bytes` at a time, whatever the event loop would: a
   stream whose client is slow holds several such chunks at several places.

Installed by `use`, which sets an attribute that aiohttp does not promise: tests/fetch/
test_connection.py sees it when that goes.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import sys
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

__all__ = ["LONG_READ_BYTES", "READ_BYTES", "Connection", "use"]

# Other systems know the option too; whether their event loops heed it was not tried.
_CAN_GATHER = sys.platform == "linux"
_TLS_SLACK_BYTES = 17 * 1024  # of a record that is in the socket's layer above only in part

MOST_INTERIM = 32  # 100 and 103 come once or twice; Go's client takes 5

# Half a second of 4 Mbit/s.  Each read costs a turn of the event loop and of a worker, and each
# byte of it memory in several places: 50 paced streams took 8.3 ms of CPU per MB with 120 KiB, and
# 5.7 with this (`memory` keeps such blocks in the heap).
READ_BYTES = 240 * 1024

# For a stream that may hold much, where much is there at once.  A clip at full speed took 6 % less
# time than with reads of 240 KiB, and with reads of 960 KiB 1 % more than with these.  Over TLS it
# changes little: event loops decrypt 256 KiB at a time.
LONG_READ_BYTES = 480 * 1024


def use(connector: aiohttp.BaseConnector) -> None:
    """Let the connections that `connector` makes from now on be of this kind."""
    loop, place = asyncio.get_running_loop(), memoryview(bytearray(LONG_READ_BYTES))
    factory = functools.partial(Connection, loop=loop, place=place)
    connector._factory = factory  # type: ignore[assignment] # noqa: SLF001 - no other way


class _Reader(asyncio.BufferedProtocol):
    """What the transport knows in the place of a connection, so that it reads where it is told.

    Args:
        connection: is told the rest.
        place: where all connections of an event loop read to, one at a time.
    """

    def __init__(self, connection: Connection, place: memoryview) -> None:
        self._connection = connection
        self._place = place
        self.pause_writing = connection.pause_writing  # type: ignore[method-assign]
        self.resume_writing = connection.resume_writing  # type: ignore[method-assign]
        self.eof_received = connection.eof_received  # type: ignore[method-assign]
        self.connection_lost = connection.connection_lost  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._place[: self._connection.read_bytes]

    def buffer_updated(self, nbytes: int) -> None:
        self._connection.data_received(bytes(self._place[:nbytes]))


class Connection(ResponseHandler):
    """One connection to an origin.

    Args:
        loop: as ever.
        place: where it reads to.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, place: memoryview) -> None:
        super().__init__(loop)
        # At a time, no more than there is place; at the head of an answer as it was left.
        self.read_bytes = READ_BYTES
        self._place = place
        self._asked = False  # and the head of the answer has not come
        self._interim = 0  # answers since then
        self._held = False  # whether `go_on` is waited for
        self._low_water = 1  # of the socket, in bytes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        transport.set_protocol(_Reader(self, self._place))

    def gather(self, size: int) -> None:
        """Take notice of what arrives only when `size` bytes have, or the other side is done.

        There must be as many to come: a promise of the caller's.  It holds until it is changed, or
        until the next request is made here.  (SO_RCVLOWAT: socket(7), which epoll heeds.)
        """
        transport = self.transport
        if transport is None or not _CAN_GATHER:
            return
        if size > 1 and transport.get_extra_info("ssl_object") is not None:
            size = max(size - _TLS_SLACK_BYTES, 1)
        if size != self._low_water and not transport.is_closing():
            self._low_water = size
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    def set_response_params(self, **params: Any) -> None:
        """Called before each request is sent."""
        self.gather(1)
        self._asked, self._interim = True, 0
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        if data and not self._asked and (self._payload is None or self._payload.is_eof()):
            self._drop()
        else:
            super().data_received(data)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Called for the head of each answer."""
        if not self._asked:  # it came together with the end of the one before
            self._drop()
            return
        code = data[0].code
        if 100 <= code < 200 and code != 101:
            self._interim += 1
            if self._interim > MOST_INTERIM:
                self._asked = False
                self.set_exception(HttpProcessingError(message="too many interim answers"))
                self._drop()
                return
        else:
            self._asked = False
        super().feed_data(data, size)

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's
        """Called when what had come has been taken; without `resume_parser`, at the end."""
        if resume_parser and self._reading_paused:
            self._held = True
        else:
            super().resume_reading(resume_parser)

    def go_on(self) -> None:
        """Somebody is about to wait for more."""
        if self._held:
            self._held = False
            super().resume_reading()

    def connection_lost(self, exc: BaseException | None) -> None:
        payload = self._payload
        if exc is not None and payload is not None and not payload.is_eof():
            payload.set_exception(aiohttp.ClientPayloadError("the connection was reset"), exc)
        super().connection_lost(exc)

    def _drop(self) -> None:
        """Close the connection; what came before of an answer can still be read."""
        self.force_close()
        if self.transport is not None:
            self.transport.abort()
