"""Our own address, in all the forms in which it can be come by."""

from __future__ import annotations

import socket

import pytest

from proxy.fetch.listeners import MOST_PORTS, OwnListeners


def own() -> OwnListeners:
    listeners = OwnListeners()
    listeners.add(8080)
    return listeners


def outer_address() -> str | None:
    """An address of this machine that is not loopback, if it has a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::ffff:0:0"]
)
def test_covers_loopback(host: str) -> None:
    """Whoever connects to loopback or to no address at all comes back to this machine."""
    assert own().covers(host, 8080)
    assert not own().covers(host, 8081)


def test_covers_outer_address() -> None:
    """So does who connects to its address in the network, also in mapped form."""
    address = outer_address()
    if address is None:
        pytest.skip("this machine has no network")
    assert own().covers(address, 8080)
    assert own().covers(f"::ffff:{address}", 8080)
    assert not own().covers(address, 80)


@pytest.mark.parametrize("host", ["198.51.100.1", "2001:db8::1", "localhost", "", "fe80::1%none"])
def test_covers_elsewhere(host: str) -> None:
    """Other machines' addresses are not ours, and names are left to the connect."""
    assert not own().covers(host, 8080)


def test_add_nonsense() -> None:
    """A server that tells more ports than anybody has cannot close them all."""
    listeners = OwnListeners()
    for port in range(1000):
        listeners.add(port)
    assert sum(listeners.covers("127.0.0.1", port) for port in range(1000)) == MOST_PORTS
