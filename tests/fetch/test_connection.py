"""The client's connections against servers that speak bytes: resets, too much, and 1xx."""

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvloop

from proxy.errors import SourceUnavailable
from proxy.fetch import Fetcher
from proxy.fetch.connection import LONG_READ_BYTES, READ_BYTES, Connection
from tests.fetch.helpers import quick, until

Answer = Callable[[asyncio.StreamWriter, int], Awaitable[None]]
CAP = 1_000_000
HANG_S = 60.0  # whatever takes this long never ends


@contextlib.asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[str]:
    """Call `answer` for each request, with its number on its connection; closes nothing itself
    before the end."""
    serving: list[asyncio.Task[None] | None] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        number = 0
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await answer(writer, number)
                await writer.drain()
                number += 1
        writer.close()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/a.ts"
    if serving:
        await asyncio.wait([task for task in serving if task is not None], timeout=HANG_S)


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def segment(fetcher: Fetcher, url: str) -> bytes:
    async with fetcher.open(url, max_bytes=CAP) as body:
        return b"".join([chunk async for chunk in body])


async def test_read_close_delimited_reset() -> None:
    """A body that only the close ends is not whole when that close is a reset."""
    began = asyncio.Event()

    async def answer(writer: asyncio.StreamWriter, _number: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(188))
        await began.wait()
        reset(writer)

    async with server(answer) as url, Fetcher(quick()) as fetcher:
        async with fetcher.open(url, max_bytes=CAP) as body:
            assert await body.read() == bytes(188)
            began.set()
            with pytest.raises(SourceUnavailable):
                await body.read()


async def test_read_close_delimited_closed() -> None:
    """The same body, closed as it should be, is whole."""

    async def answer(writer: asyncio.StreamWriter, _number: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(188))
        writer.close()

    async with server(answer) as url, Fetcher(quick()) as fetcher:
        assert await segment(fetcher, url) == bytes(188)


@pytest.mark.parametrize("late", [False, True])
async def test_read_after_unasked_answer(late: bool) -> None:
    """What a server says without being asked is never taken for the answer to the next request."""
    closed = asyncio.Event()

    async def answer(writer: asyncio.StreamWriter, number: int) -> None:
        right = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
        wrong = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        if not late:
            writer.write(right + wrong)
            return
        writer.write(right)
        await writer.drain()
        await asyncio.sleep(0.05)  # so that it arrives by itself
        writer.write(wrong)
        asyncio.get_running_loop().call_later(0.05, closed.set)

    async with server(answer) as url, Fetcher(quick()) as fetcher:
        for _ in range(3):
            closed.clear()
            assert await segment(fetcher, url) == b"good"
            if late:
                await closed.wait()


async def test_read_reuses_connection() -> None:
    """Answers that are in order leave the connection to the next request."""

    async def answer(writer: asyncio.StreamWriter, number: int) -> None:
        body = str(number).encode()
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + body)

    async with server(answer) as url, Fetcher(quick()) as fetcher:
        assert [await segment(fetcher, url) for _ in range(3)] == [b"0", b"1", b"2"]


async def test_read_interim_answers_without_end() -> None:
    """Interim answers without end are a failed answer, and the event loop goes on meanwhile."""

    async def answer(writer: asyncio.StreamWriter, _number: int) -> None:
        while True:
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000)
            await writer.drain()

    async with server(answer) as url, Fetcher(quick()) as fetcher:
        async with asyncio.timeout(HANG_S):
            with pytest.raises(SourceUnavailable):
                await segment(fetcher, url)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_read_takes_little_at_a_time(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """However much there is, and however fast: each chunk is one read of a size of our choice."""
    whole = os.urandom(8_000_000)

    async def answer(writer: asyncio.StreamWriter, _number: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(whole) + whole)

    async def fetch() -> list[bytes]:
        async with server(answer) as url, Fetcher(quick()) as fetcher:
            async with fetcher.open(url, max_bytes=len(whole)) as body:
                return [chunk async for chunk in body]

    with asyncio.Runner(loop_factory=loop) as runner:
        chunks = runner.run(fetch())
    assert b"".join(chunks) == whole
    assert max(map(len, chunks)) <= READ_BYTES


@pytest.mark.parametrize("read_bytes", [READ_BYTES, LONG_READ_BYTES])
async def test_read_takes_as_much_as_it_may(read_bytes: int) -> None:
    """Of what is there at once, a stream that may hold much takes more at a time."""
    whole = bytes(16_000_000)

    async def answer(writer: asyncio.StreamWriter, _number: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(whole) + whole)

    async with server(answer) as url, Fetcher(quick()) as fetcher:
        async with fetcher.open(url, max_bytes=len(whole)) as body:
            while body.received < len(whole) // 2:  # the system's buffer grows with what is read
                await body.read()
            await until(lambda: unread(body._connection) >= read_bytes)
            chunks = [await body.read(read_bytes=read_bytes) for _ in range(3)]
    assert read_bytes - READ_BYTES // 2 < max(map(len, chunks)) <= read_bytes


def unread(connection: Connection | None) -> int:
    """Bytes that have come on a connection and were not read."""
    assert connection is not None
    assert connection.transport is not None
    descriptor = connection.transport.get_extra_info("socket").fileno()
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)


async def test_read_holds_nothing_that_nobody_waits_for() -> None:
    """Behind what was taken nothing more is read from the socket, until somebody waits for it."""
    whole = bytes(4_000_000)

    async def answer(writer: asyncio.StreamWriter, _number: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(whole) + whole)

    async with server(answer) as url, Fetcher(quick()) as fetcher:
        async with fetcher.open(url, max_bytes=len(whole)) as body:
            got, stopped = 0, False
            for _ in range(10):
                chunk = await body.read()
                got += len(chunk)
                for _ in range(10):  # time for the loop to read what the socket has
                    await asyncio.sleep(0)
                if len(chunk) > 2 * fetcher.settings.read_buffer_bytes:  # the client has stopped
                    stopped = True
                    assert body._content.total_bytes == got
            assert stopped
            while chunk := await body.read():
                got += len(chunk)
    assert got == len(whole)
