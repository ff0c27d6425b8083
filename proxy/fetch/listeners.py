"""Where this very server listens: no place to fetch from, whatever else is allowed.

A server learns its ports from the requests that come in (it may be bound to every address, and
behind an ASGI server nobody else tells).  Own is any address of this machine with such a port; one
that a reverse proxy or a port mapping leads back to us is beyond this, and `Via` is for that.
"""

from __future__ import annotations

import ipaddress
import socket

__all__ = ["OwnListeners"]

MOST_PORTS = 16  # who listens on more has been told nonsense


class OwnListeners:
    """The ports this server listens on."""

    def __init__(self) -> None:
        self._ports: set[int] = set()

    def add(self, port: int) -> None:
        """A request came in at this port."""
        if len(self._ports) < MOST_PORTS:
            self._ports.add(port)

    def covers(self, host: str, port: int) -> bool:
        """Whether a connection there would come back to us; names are not looked up."""
        return port in self._ports and _is_this_machine(host)


def _is_this_machine(host: str) -> bool:
    """Whether the kernel would deliver to `host`, if numeric, without sending anything.

    It gives a datagram socket the destination's own address as its source if, and only if, that is
    one of ours.  (Binding to it would tell as well, but not under `ip_nonlocal_bind`.)
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))  # any port will do: nothing is sent
        except OSError:
            return False
        return ipaddress.ip_address(probe.getsockname()[0]) == address
