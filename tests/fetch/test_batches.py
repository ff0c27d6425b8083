"""Reading without hurry: bytes gather in the socket, and none waits there for good."""

import asyncio
import sys

import pytest

from proxy.fetch import Fetcher
from proxy.fetch.body import BATCH_BYTES, Body
from proxy.fetch.connection import LONG_READ_BYTES, READ_BYTES
from tests.fetch.helpers import quick
from tests.fetch.test_connection import server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only done on Linux")

GUARD_S = 10.0
PIECE = bytes(1000)
SIZE = 3 * BATCH_BYTES


def head(size: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size


async def rest_of(body: Body) -> list[bytes]:
    chunks = []
    async with asyncio.timeout(GUARD_S):
        while chunk := await body.read(read_bytes=READ_BYTES):
            chunks.append(chunk)
    return chunks


async def test_read_unhurried() -> None:
    """What comes in small pieces is read in few large ones, the end included."""

    async def answer(writer: asyncio.StreamWriter, _number: int) -> None:
        writer.write(head(SIZE))
        for _ in range(SIZE // len(PIECE)):
            writer.write(PIECE)
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(bytes(SIZE % len(PIECE)))

    async with server(answer) as url, Fetcher(quick()) as fetcher, fetcher.open(url) as body:
        first = await body.read()
        chunks = await rest_of(body)
    assert len(first) + sum(map(len, chunks)) == SIZE
    assert len(chunks) <= 4
    assert min(map(len, chunks[:-1])) >= BATCH_BYTES


async def test_read_unhurried_slow_origin() -> None:
    """What has come is taken after a while, however little it is."""
    go_on = asyncio.Event()

    async def answer(writer: asyncio.StreamWriter, _number: int) -> None:
        writer.write(head(SIZE) + PIECE)
        await go_on.wait()
        writer.write(PIECE)

    async with server(answer) as url, Fetcher(quick()) as fetcher, fetcher.open(url) as body:
        assert await body.read() == PIECE
        waiting = asyncio.create_task(body.read(read_bytes=READ_BYTES))
        await asyncio.sleep(0)
        go_on.set()
        async with asyncio.timeout(GUARD_S):
            assert await waiting == PIECE


async def test_read_at_once_behind_a_batch() -> None:
    """What is read as it comes does not wait for what was to gather before."""
    more = asyncio.Event()

    async def answer(writer: asyncio.StreamWriter, _number: int) -> None:
        writer.write(head(SIZE) + PIECE)
        await more.wait()
        writer.write(PIECE)

    async with server(answer) as url, Fetcher(quick(read_timeout_s=GUARD_S)) as fetcher:
        async with fetcher.open(url) as body:
            assert await body.read() == PIECE
            assert body._connection is not None
            body._connection.gather(BATCH_BYTES)
            more.set()
            assert await body.read() == PIECE


async def test_read_behind_the_end_leaves_the_connection_alone() -> None:
    """Who has all that came knows no connection any more: it may be another's, who waits for a
    batch."""
    end, rest = asyncio.Event(), asyncio.Event()

    async def answer(writer: asyncio.StreamWriter, number: int) -> None:
        if number == 0:
            writer.write(head(2 * len(PIECE)) + PIECE)
            await end.wait()
            writer.write(PIECE)
            return
        writer.write(head(SIZE) + PIECE)
        await rest.wait()
        writer.write(bytes(SIZE - len(PIECE)))

    async with server(answer) as url, Fetcher(quick(read_timeout_s=GUARD_S)) as fetcher:
        async with fetcher.open(url) as done:
            connection = done._connection
            assert connection is not None
            assert await done.read() == PIECE
            end.set()
            assert await done.read() == PIECE
            async with fetcher.open(url) as body:
                assert body._connection is connection
                assert await body.read() == PIECE
                waiting = asyncio.create_task(body.read(read_bytes=READ_BYTES))
                await asyncio.sleep(0)
                before = (connection._low_water, connection.read_bytes)
                assert before == (BATCH_BYTES, READ_BYTES)
                assert await done.read(read_bytes=LONG_READ_BYTES) == b""
                assert (connection._low_water, connection.read_bytes) == before
                rest.set()
                assert len(await waiting) > len(PIECE)


async def test_read_unhurried_then_another_answer() -> None:
    """A small answer on the same connection is seen at once: nothing gathers for it."""
    numbers: list[int] = []

    async def answer(writer: asyncio.StreamWriter, number: int) -> None:
        numbers.append(number)
        size = 188 if number else SIZE
        writer.write(head(size) + bytes(size))
        if number:
            writer.close()

    async with server(answer) as url, Fetcher(quick(read_timeout_s=GUARD_S)) as fetcher:
        async with fetcher.open(url) as body:
            assert sum(map(len, await rest_of(body))) == SIZE
        async with asyncio.timeout(GUARD_S), fetcher.open(url) as body:
            assert await body.read() == bytes(188)
    assert numbers == [0, 1]
