"""Ask the server of a configuration how it is: for whoever can only start a command to find out,
such as a container engine.  Blocking; imports nothing of the server.
"""

from __future__ import annotations

import http.client
import socket

__all__ = ["TIMEOUT_S", "ask"]

TIMEOUT_S = 3.0  # a loop that does not answer /healthz for so long is stuck
_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what is bound there


def ask(*, host: str, port: int, unix_socket: str, path: str, timeout_s: float = TIMEOUT_S) -> int:
    """Return the status that `path` is answered with by the server that listens there.

    `host`, `port` and `unix_socket` are those of the section `server`.

    Raises:
        OSError: nobody answers, or not in time.
    """
    connection = (
        _UnixConnection(unix_socket, timeout_s=timeout_s)
        if unix_socket
        else http.client.HTTPConnection(_ANY.get(host, host), port, timeout=timeout_s)
    )
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except http.client.HTTPException as error:
        raise OSError(f"no answer of HTTP: {error!r}") from error
    finally:
        connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, *, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
