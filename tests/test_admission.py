"""Who may start a stream: counting, and who the client is."""

import asyncio
import ipaddress

import pytest

from proxy.admission import LOCAL, Admission, Settings, client_address
from proxy.errors import Overloaded, RateLimited

TRUSTED = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


def test_enter_beyond_the_streams_is_overloaded() -> None:
    """The whole is bounded, and a released slot is free again, once."""
    admission = Admission(Settings(streams=2))
    slots = [admission.enter("192.0.2.1", ""), admission.enter("192.0.2.2", "")]
    with pytest.raises(Overloaded) as caught:
        admission.enter("192.0.2.3", "")
    assert caught.value.retry_after_s in range(2, 6)
    slots[0].release()
    slots[0].release()
    assert admission.active == 1
    admission.enter("192.0.2.3", "")
    assert admission.active == 2


def test_enter_beyond_the_clients_share_is_rate_limited() -> None:
    """One client is bounded, the others are not its concern."""
    admission = Admission(Settings(streams_per_client=1))
    admission.enter("192.0.2.1", "")
    with pytest.raises(RateLimited) as caught:
        admission.enter("192.0.2.1", "")
    assert caught.value.retry_after_s in range(2, 6)
    admission.enter("192.0.2.2", "")


def test_enter_counts_the_network_of_an_ipv6_client() -> None:
    """Addresses of one /64 are one client."""
    admission = Admission(Settings(streams_per_client=1))
    admission.enter("2001:db8:0:1::1", "")
    with pytest.raises(RateLimited):
        admission.enter("2001:db8:0:1:ffff::2", "")
    admission.enter("2001:db8:0:2::1", "")


def test_enter_over_a_unix_socket_is_bounded_as_a_whole_only() -> None:
    """Everybody behind a socket that names no client looks alike."""
    admission = Admission(Settings(streams=3, streams_per_client=1))
    for _ in range(3):
        admission.enter(LOCAL, "")
    with pytest.raises(Overloaded):
        admission.enter(LOCAL, "")


def test_enter_while_draining_is_overloaded() -> None:
    """Nothing new begins during a shutdown."""
    admission = Admission(Settings())
    admission.draining = True
    with pytest.raises(Overloaded):
        admission.enter("192.0.2.1", "")


async def test_idle_returns_with_the_last_slot() -> None:
    """`idle` waits exactly for the last release."""
    admission = Admission(Settings())
    await asyncio.wait_for(admission.idle(), 1)
    slots = [admission.enter("192.0.2.1", "") for _ in range(2)]
    waiting = asyncio.ensure_future(admission.idle())
    slots[0].release()
    await asyncio.sleep(0)
    assert not waiting.done()
    slots[1].release()
    await asyncio.wait_for(waiting, 1)


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.1", "192.0.2.1"),  # not trusted: not believed
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.1", "198.51.100.1"),  # the first one may be forged
        ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, nonsense", "10.0.0.1"),
        ("10.0.0.1", "local", "10.0.0.1"),
        ("::ffff:10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("fd00::1", "2001:db8::1", "2001:db8::/64"),
        ("fe80::1%eth0", "", "fe80::/64"),
        (LOCAL, "", LOCAL),
        (LOCAL, "198.51.100.1", "198.51.100.1"),
        (LOCAL, "198.51.100.1, local", LOCAL),
    ],
)
def test_client_address(peer: str, forwarded_for: str, client: str) -> None:
    """The client is the nearest address that no trusted hop stands for."""
    assert client_address(peer, forwarded_for, TRUSTED) == client


def test_settings_with_a_bad_proxy() -> None:
    """A block that is none is refused by name."""
    with pytest.raises(ValueError, match="nowhere"):
        Settings(trusted_proxies=("nowhere",))
