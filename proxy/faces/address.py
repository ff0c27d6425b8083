"""Where a server listens: sockets that are bound before any loop or process serves them.

Processes that are forked share one listening socket: whichever of them is idle takes the next
connection.  With a socket for each (SO_REUSEPORT) the kernel would choose by a hash, also the one
that is busy, and connections that wait for a process die with it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path
from typing import Any

__all__ = ["BACKLOG", "bind", "shown"]

BACKLOG = 512  # connections that wait to be accepted; nginx has 511

Address = tuple[Any, ...]  # host, port, and for IPv6 two more

_NOT_HERE = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}


def bind(
    *, host: str = "127.0.0.1", port: int = 0, unix_socket: str = ""
) -> tuple[socket.socket, ...]:
    """Listen on every address that `host` means, or on the path `unix_socket`.

    Args:
        host: name or address; "" is every interface.
        port: 0 is any free one, the same on all addresses.
        unix_socket: what a dead server has left there is replaced.

    Returns sockets that belong to the caller.

    Raises:
        OSError: the address cannot be had.
    """
    with contextlib.ExitStack() as failed:
        if unix_socket:
            bound = [failed.enter_context(_at_path(unix_socket))]
        else:
            bound = []
            left = _resolved(host, port)
            while left:
                family, address = left.pop(0)
                try:
                    sock = _at_address(family, (address[0], port, *address[2:]))
                except OSError as error:
                    if error.errno in _NOT_HERE and (bound or left):
                        continue  # "every interface" on a machine without IPv6
                    raise
                bound.append(failed.enter_context(sock))
                port = sock.getsockname()[1]
        for sock in bound:
            sock.listen(BACKLOG)
        failed.pop_all()
    return tuple(bound)


def shown(sock: socket.socket) -> str:
    """Return what to tell people: `http://127.0.0.1:8080`, or `unix:` and a path."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    host, port = name[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _resolved(host: str, port: int) -> list[tuple[socket.AddressFamily, Address]]:
    infos = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # IPv4 first: where "localhost" is shown as one address, that is the better known.
    found = [(family, address) for family, _, _, _, address in infos]
    return sorted(found, key=lambda one: one[0] != socket.AF_INET)


def _at_address(family: socket.AddressFamily, address: Address) -> socket.socket:
    # With its protocol named, asyncio sets TCP_NODELAY on what it accepts.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # IPv4 has a socket of its own
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"{address[0]} port {address[1]}: {error.strerror}") from error
    return sock


def _at_path(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116
            Path(path).unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"{path}: {error.strerror}") from error
    return sock
