"""The kernel's queue to a client is kept short where its connection can be found."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.faces.queue import UNSENT_BYTES, shorten

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")


@contextlib.contextmanager
def connected(host: str, to: str) -> Iterator[tuple[socket.socket, tuple[str, int]]]:
    """A connection to a listener at `host`, as a server has it, and the address of its client."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::") as server:
        with socket.create_connection((to, server.getsockname()[1])):
            accepted, address = server.accept()
            with accepted:
                yield accepted, address[:2]


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, tuple[str, int]]]:
    """A connection as a server has it, and the address of its client."""
    with connected("127.0.0.1", "127.0.0.1") as made:
        yield made


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


@pytest.mark.parametrize(("host", "to"), [("::1", "::1"), ("::", "127.0.0.1"), ("::", "::1")])
def test_shorten_ipv6(host: str, to: str) -> None:
    """So it is where the listener speaks IPv6, or both."""
    with connected(host, to) as (accepted, address):
        assert ":" in address[0]
        assert shorten(address)
        assert unsent_bytes(accepted) == UNSENT_BYTES


def test_shorten_leaves_others_alone(connection: tuple[socket.socket, tuple[str, int]]) -> None:
    """A client that is not here, as a proxy in front may name it, changes nothing."""
    accepted, address = connection
    before = unsent_bytes(accepted)
    assert not shorten(("192.0.2.1", address[1]))
    assert unsent_bytes(accepted) == before


def test_shorten_among_other_descriptors(
    connection: tuple[socket.socket, tuple[str, int]], tmp_path: Path
) -> None:
    """Pipes, files, listeners and other sockets are passed over, and nothing stays open."""
    accepted, address = connection
    reading, writing = os.pipe()
    pair = socket.socketpair()
    named = socket.socket(socket.AF_UNIX)
    named.bind(str(tmp_path / ("n" * (100 - len(str(tmp_path))))))  # almost the longest there is
    named.listen()
    dialled = socket.socket(socket.AF_UNIX)
    dialled.connect(named.getsockname())
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
        for one in (*pair, named, dialled):
            one.close()
