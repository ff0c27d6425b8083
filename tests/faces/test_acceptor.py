"""Processes that accept from one socket: here two acceptors on two descriptors of it."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator

import pytest

from proxy.faces import acceptor as module
from proxy.faces.acceptor import Acceptor
from proxy.faces.address import bind
from tests.support.client import TIMEOUT_S


class Greeter(asyncio.Protocol):
    """Says its name and closes."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._name)
        transport.close()


class Listener:
    """An address, and whoever accepts there."""

    def __init__(self) -> None:
        (self._sock,) = bind()
        self.address = self._sock.getsockname()
        self.acceptors: list[Acceptor] = []

    def accept(self, name: bytes, *, yields: bool, sock: socket.socket | None = None) -> Acceptor:
        one = Acceptor(sock or self._sock.dup(), lambda: Greeter(name), lambda: yields)
        self.acceptors.append(one)
        return one

    async def greeted(self) -> bytes:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(*self.address)
            greeting = await reader.read()
            writer.close()
            return greeting

    def close(self) -> None:
        for one in self.acceptors:
            one.close()
        self._sock.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    with contextlib.closing(Listener()) as one:
        yield one


async def test_acceptor_takes_every_connection(listener: Listener) -> None:
    """They come one at a time, and all of them."""
    listener.accept(b"a", yields=False)
    assert await asyncio.gather(*[listener.greeted() for _ in range(20)]) == [b"a"] * 20


async def test_acceptor_lets_others_go_first(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has more than its part gets what nobody else wants."""
    monkeypatch.setattr(module, "HESITATION_S", 0.1)
    listener.accept(b"full", yields=True)
    free = listener.accept(b"free", yields=False)
    assert [await listener.greeted() for _ in range(5)] == [b"free"] * 5
    free.close()
    assert await listener.greeted() == b"full"


async def test_acceptor_without_files_tries_again(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no file can be opened, connections wait until one can."""
    monkeypatch.setattr(module, "OUT_OF_FILES_S", 0.01)
    failures = [OSError(errno.EMFILE, "Too many open files"), ConnectionAbortedError()]

    class Scarce(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            if failures:
                raise failures.pop(0)
            return super().accept()

    scarce = Scarce(fileno=listener._sock.dup().detach())
    listener.accept(b"a", yields=False, sock=scarce)
    assert await listener.greeted() == b"a"
    assert not failures
    assert "Too many open files" in caplog.text


async def test_acceptor_that_is_closed_takes_nothing(listener: Listener) -> None:
    """Closing twice is closing once, and what comes then is left to others."""
    closed = listener.accept(b"closed", yields=False)
    closed.close()
    closed.close()
    listener.accept(b"open", yields=False)
    assert await listener.greeted() == b"open"
