"""Whom the proxy may fetch from: a pure classifier of addresses, and a policy for hosts and ports.

`classify` says what kind of place an IP address is; only `public` is open to everybody.  It has an
allow-list of its own and does not ask `ipaddress.is_global`, which calls NAT64, 6to4 and
IPv4-compatible forms of 127.0.0.1 global, as well as ISATAP and multicast.

`AddressPolicy` is asked twice about each connection, and both must agree:
1. `check_target` about the parts of the address that was asked for, before anything is resolved;
2. `check_address` about the final socket address, at the moment of the connect.  Only this one
   holds against DNS that changes its answer, and against spellings that the two parsers read
   differently.
Both raise `Forbidden`, and all refusals look alike from outside: the reason is in the message,
which is for the log.  No IO, and no names are resolved here.

The lists: IANA's special-purpose address registries for IPv4 and IPv6 (RFC 6890, 8190), RFC 4291
(IPv4-compatible, site-local), 5214 (ISATAP), 6052 and 8215 (NAT64), and the metadata services of
the large clouds.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import socket
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from proxy.errors import Forbidden

__all__ = ["AddressPolicy", "Kind", "classify", "host_matches"]

DEFAULT_PORTS = (80, 443)
SCHEMES = {"http": 80, "https": 443}

LONGEST_HOST = 253  # RFC 1035 section 2.3.4, without the final dot
CACHED = 1024  # hosts, and addresses: a stream asks about the same one for each segment

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Kind(StrEnum):
    """What kind of place an address is."""

    PUBLIC = "public"
    LOOPBACK = "loopback"
    PRIVATE = "private"  # RFC 1918, 4193, 6598 and what is not routed in the internet at all
    LINK_LOCAL = "link-local"
    METADATA = "metadata"  # credentials of the machine are served there
    EMBEDDED = "embedded"  # an IPv6 form that carries an IPv4 address to a translator or tunnel
    UNUSABLE = "unusable"  # multicast, unspecified, broadcast: nobody serves there


# 169.254.169.254: AWS, Google, Azure, Oracle, DigitalOcean; .170.2 and .170.23: AWS containers.
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "168.63.129.16",  # Azure's wire server, in public address space
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle, classic
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",  # AWS containers
        "fd20:ce::254",  # Google
    )
)

_V4: tuple[tuple[IPv4Network, Kind], ...] = tuple(
    (IPv4Network(text), kind)
    for text, kind in (
        ("0.0.0.0/8", Kind.UNUSABLE),  # "this network"; Linux connects 0.0.0.0 to itself
        ("10.0.0.0/8", Kind.PRIVATE),
        ("100.64.0.0/10", Kind.PRIVATE),  # carrier-grade NAT
        ("127.0.0.0/8", Kind.LOOPBACK),
        ("169.254.0.0/16", Kind.LINK_LOCAL),
        ("172.16.0.0/12", Kind.PRIVATE),
        ("192.0.0.0/24", Kind.PRIVATE),  # IETF protocol assignments, DS-Lite
        ("192.0.2.0/24", Kind.PRIVATE),  # documentation
        ("192.88.99.0/24", Kind.EMBEDDED),  # 6to4 relays
        ("192.168.0.0/16", Kind.PRIVATE),
        ("198.18.0.0/15", Kind.PRIVATE),  # benchmarks
        ("198.51.100.0/24", Kind.PRIVATE),  # documentation
        ("203.0.113.0/24", Kind.PRIVATE),  # documentation
        ("224.0.0.0/4", Kind.UNUSABLE),  # multicast
        ("255.255.255.255/32", Kind.UNUSABLE),
        ("240.0.0.0/4", Kind.PRIVATE),  # reserved
    )
)

_V6: tuple[tuple[IPv6Network, Kind], ...] = tuple(
    (IPv6Network(text), kind)
    for text, kind in (
        ("::1/128", Kind.LOOPBACK),
        ("::/128", Kind.UNUSABLE),
        ("::/96", Kind.EMBEDDED),  # IPv4-compatible
        ("64:ff9b::/96", Kind.EMBEDDED),  # NAT64
        ("64:ff9b:1::/48", Kind.EMBEDDED),  # NAT64, local use
        ("2001::/32", Kind.EMBEDDED),  # Teredo
        ("2001::/23", Kind.PRIVATE),  # IETF protocol assignments, benchmarks, ORCHID
        ("2001:db8::/32", Kind.PRIVATE),  # documentation
        ("2002::/16", Kind.EMBEDDED),  # 6to4
        ("3fff::/20", Kind.PRIVATE),  # documentation
        ("fc00::/7", Kind.PRIVATE),  # unique local
        ("fe80::/10", Kind.LINK_LOCAL),
        ("fec0::/10", Kind.PRIVATE),  # site-local, deprecated
        ("ff00::/8", Kind.UNUSABLE),  # multicast
    )
)
_V6_PUBLIC = IPv6Network("2000::/3")  # all that IANA has given out as global unicast

# RFC 5214, section 6.1: the upper half of the interface id of an ISATAP address, u bit either way.
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})

# Names as they go over the wire (xn-- for others than ASCII), numeric addresses, and the wildcards.
_PATTERN = re.compile(r"\*|(?:\*\.)?[A-Za-z0-9._-]+|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?")

_LIFTED = frozenset({Kind.LOOPBACK, Kind.PRIVATE, Kind.LINK_LOCAL})


def classify(address: Address) -> Kind:
    """Tell what kind of place `address` is; an IPv4-mapped one is what its IPv4 address is."""
    return _kind_of(address)


@functools.lru_cache(maxsize=CACHED)
def _kind_of(address: Address) -> Kind:
    address = _unmapped(address)
    if address in _METADATA:
        return Kind.METADATA
    if isinstance(address, IPv4Address):
        return next((kind for network, kind in _V4 if address in network), Kind.PUBLIC)
    for network, kind in _V6:
        if address in network:
            return kind
    if address not in _V6_PUBLIC:
        return Kind.PRIVATE
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return Kind.EMBEDDED
    return Kind.PUBLIC


def host_matches(host: str, pattern: str) -> bool:
    """Tell whether `host` (lower case, no final dot) is what `pattern` means.

    A pattern is an exact name or address, `*.example.org` (every name below it, not itself), `*`.
    """
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) >= len(pattern)
    return pattern in ("*", host)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressPolicy:
    """Which hosts, ports and addresses are allowed.

    Patterns and networks are given as text, as they stand in a configuration; a malformed one
    raises `ValueError` when the policy is made.
    """

    allowed_hosts: tuple[str, ...] = ("*",)  # exact names, `*.example.org`, `*`
    allowed_ports: tuple[int, ...] = DEFAULT_PORTS  # empty: any
    allow_private_addresses: bool = False  # loopback, private, link-local; never metadata
    allowed_networks: tuple[str, ...] = ()  # CIDRs that are open whatever kind they are
    _hosts: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _networks: tuple[Network, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for pattern in self.allowed_hosts:
            if not _PATTERN.fullmatch(pattern):
                msg = f"allowed_hosts: {pattern!r} is no host (ASCII, no port), *.host or *"
                raise ValueError(msg)
        hosts = tuple(_normal_host(pattern.strip("[]")) for pattern in self.allowed_hosts)
        try:
            networks = tuple(ipaddress.ip_network(text) for text in self.allowed_networks)
        except ValueError as error:
            msg = f"allowed_networks: {error}"
            raise ValueError(msg) from None
        object.__setattr__(self, "_hosts", hosts)
        object.__setattr__(self, "_networks", networks)

    def check_target(
        self, *, scheme: str, host: str | None, port: int | None, userinfo: bool = False
    ) -> None:
        """Check the parts of an address as the HTTP client will read them.

        `host` is ASCII (IDNA applied), without brackets; `port` is the effective one.
        Raises `Forbidden`.
        """
        if scheme not in SCHEMES:
            raise Forbidden(f"the scheme {scheme!r} is not http or https")
        if userinfo:
            raise Forbidden("the address carries userinfo")
        if not host or port is None:
            raise Forbidden("the address names no host or no port")
        name = _normal_host(host)
        if len(name) > LONGEST_HOST:  # an origin writes the addresses of segments as it likes
            raise Forbidden("the host is longer than a name can be")
        if not any(host_matches(name, pattern) for pattern in self._hosts):
            raise Forbidden("the host is not among allowed_hosts", rule="host")
        self._check_port(port)
        address = _numeric(name)
        if address is not None:  # else a name: `check_address` has the last word
            self._check_address(address)

    def check_address(self, host: str, port: int) -> None:
        """Check the final socket address of a connect; `host` is numeric, maybe with a scope.

        Raises `Forbidden`.
        """
        self._check_port(port)
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            raise Forbidden("the socket address is not numeric") from None
        self._check_address(address)

    def _check_port(self, port: int) -> None:
        if self.allowed_ports and port not in self.allowed_ports:
            raise Forbidden(f"the port {port} is not among allowed_ports", rule="port")

    def _check_address(self, address: Address) -> None:
        address = _unmapped(address)
        if any(address in network for network in self._networks):
            return
        kind = classify(address)
        if kind is Kind.PUBLIC or (self.allow_private_addresses and kind in _LIFTED):
            return
        raise Forbidden(f"the address is {kind}", rule="address")


@functools.lru_cache(maxsize=CACHED)
def _numeric(host: str) -> Address | None:
    """Read a host that is an address, also as `inet_aton` does: 127.1, 0x7f000001, 0177.0.0.1.

    Whoever connects in our place, such as an HTTP proxy, may read it so.
    """
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def _unmapped(address: Address) -> Address:
    """An IPv4-mapped address connects to the IPv4 address in it; a scope says nothing here."""
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or IPv6Address(int(address))
    return address


def _normal_host(host: str) -> str:
    return host.lower().rstrip(".")
