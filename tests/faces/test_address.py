"""Listening sockets, before anything serves them."""

import errno
import socket
from pathlib import Path

import pytest

from proxy.faces.address import bind, shown


def close(sockets: tuple[socket.socket, ...]) -> None:
    for sock in sockets:
        sock.close()


def test_bind_listens_and_is_shown() -> None:
    """Port 0 is a free one, and is named."""
    sockets = bind(host="127.0.0.1", port=0)
    (sock,) = sockets
    assert shown(sock) == f"http://127.0.0.1:{sock.getsockname()[1]}"
    socket.create_connection(sock.getsockname()).close()
    close(sockets)


def test_bind_of_every_interface_has_one_port() -> None:
    """IPv4 and IPv6, where there are both, on the same free port."""
    sockets = bind(host="", port=0)
    assert len({sock.getsockname()[1] for sock in sockets}) == 1
    assert sockets[0].family == socket.AF_INET
    close(sockets)


def test_bind_where_another_listens() -> None:
    """A port that is taken is an error that names it, and leaves nothing open."""
    sockets = bind(host="127.0.0.1", port=0)
    port = sockets[0].getsockname()[1]
    with pytest.raises(OSError, match=f"127.0.0.1 port {port}: .*in use") as caught:
        bind(host="127.0.0.1", port=port)
    assert caught.value.errno == errno.EADDRINUSE
    close(sockets)


def test_bind_replaces_the_socket_of_a_dead_server(tmp_path: Path) -> None:
    """What a killed server has left is no hindrance, but no other file is touched."""
    path = tmp_path / "socket"
    close(bind(unix_socket=str(path)))
    assert path.exists()
    sockets = bind(unix_socket=str(path))
    assert shown(sockets[0]) == f"unix:{path}"
    close(sockets)
    path.unlink()
    path.write_text("precious")
    with pytest.raises(OSError, match="socket"):
        bind(unix_socket=str(path))
    assert path.read_text() == "precious"


def test_bind_without_an_address_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every interface of a machine without IPv6 is those that it has."""
    real = socket.socket

    def without_ipv6(family: int, *rest: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *rest)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    sockets = bind(host="", port=0)
    assert [sock.family for sock in sockets] == [socket.AF_INET]
    close(sockets)
    with pytest.raises(OSError, match="not supported"):
        bind(host="::1", port=0)
