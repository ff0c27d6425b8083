"""Keeps the kernel's queue to a client short, under a server whose sockets are not ours.

What a server hands to the kernel counts as sent: up to 4 MiB for each client (tcp(7)), however slow
it is.  A stream for such a client runs at full speed until all that is full, and what the client
takes shows only when a third of it is free again.  ASGI has no way to a socket, but it says who the
client is, and the connection is one of this process.

Linux alone; elsewhere, and where a proxy in front has put another client's address in, nothing is
done.  Runs on the event loop: some microseconds for each socket that is newer than the client's.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from itertools import islice

__all__ = ["UNSENT_BYTES", "shorten"]

UNSENT_BYTES = 128 * 1024  # of what the client has not been sent; tcp(7) lets it grow to 4 MiB
_OPEN = "/proc/self/fd"
_LOOK_AT_MOST = 1024  # descriptors, 4 us each; procfs lists them from the lowest, which are older


def shorten(client: tuple[str, int]) -> bool:
    """Bound what the kernel holds for the connection from this address; tells if it is here."""
    if sys.platform != "linux":
        return False
    with suppress(OSError):
        numbers = reversed(os.listdir(_OPEN))  # noqa: PTH208 - half the time
        return any(_is_from(int(number), client) for number in islice(numbers, _LOOK_AT_MOST))
    return False


def _is_from(number: int, client: tuple[str, int]) -> bool:
    """Bound it for this descriptor, if it is the one."""
    with suppress(OSError):  # no socket, or nobody at the other side
        # A family that is given is not looked up.  The name comes as its own family has it, and
        # this one has room for the names of all.
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=number)
        try:
            name = sock.getpeername()
            if isinstance(name, tuple) and name[:2] == client:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
                return True
        finally:
            sock.detach()  # it is not ours to close
    return False
