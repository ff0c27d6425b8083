"""The kernel's queue to a client is kept short where its connection can be found."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.faces.queue import UNSENT_BYTES, shorten

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, tuple[str, int]]]:
    """A connection as a server has it, and the address of its client."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            accepted, address = server.accept()
            with accepted:
                assert client.getsockname() == address
                yield accepted, address


def unsent_bytes(sock: socket.socket) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)


def test_shorten_bounds_the_connection(
    connection: tuple[socket.socket, tuple[str, int]],
) -> None:
    """What the client has not been sent is bounded, on its connection."""
    accepted, address = connection
    assert unsent_bytes(accepted) != UNSENT_BYTES
    assert shorten(address)
    assert unsent_bytes(accepted) == UNSENT_BYTES


def test_shorten_leaves_others_alone(connection: tuple[socket.socket, tuple[str, int]]) -> None:
    """A client that is not here, as a proxy in front may name it, changes nothing."""
    accepted, address = connection
    before = unsent_bytes(accepted)
    assert not shorten(("192.0.2.1", address[1]))
    assert unsent_bytes(accepted) == before


def test_shorten_among_other_descriptors(
    connection: tuple[socket.socket, tuple[str, int]],
) -> None:
    """Pipes, files, listeners and other sockets are passed over, and nothing stays open."""
    accepted, address = connection
    reading, writing = os.pipe()
    pair = socket.socketpair()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        before = set(Path("/proc/self/fd").iterdir())
        assert shorten(address)
        assert not shorten(("192.0.2.1", 1))
        assert set(Path("/proc/self/fd").iterdir()) == before
        assert unsent_bytes(accepted) == UNSENT_BYTES
    finally:
        os.close(reading)
        os.close(writing)
        datagrams.close()
        for one in pair:
            one.close()
