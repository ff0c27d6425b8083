"""The classifier against a table of addresses, and the policy built on it."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Forbidden
from proxy.guard.addresses import AddressPolicy, Kind, classify, host_matches

TABLE = [
    # public: everybody may be asked
    ("1.1.1.1", Kind.PUBLIC),
    ("8.8.8.8", Kind.PUBLIC),
    ("9.255.255.255", Kind.PUBLIC),
    ("11.0.0.0", Kind.PUBLIC),
    ("100.63.255.255", Kind.PUBLIC),
    ("100.128.0.0", Kind.PUBLIC),
    ("126.255.255.255", Kind.PUBLIC),
    ("128.0.0.1", Kind.PUBLIC),
    ("169.253.255.255", Kind.PUBLIC),
    ("172.15.255.255", Kind.PUBLIC),
    ("172.32.0.0", Kind.PUBLIC),
    ("192.0.1.1", Kind.PUBLIC),
    ("192.88.98.1", Kind.PUBLIC),
    ("192.169.0.0", Kind.PUBLIC),
    ("198.17.255.255", Kind.PUBLIC),
    ("198.20.0.0", Kind.PUBLIC),
    ("223.255.255.255", Kind.PUBLIC),
    ("2606:4700:4700::1111", Kind.PUBLIC),
    ("2a00:1450:4001:80b::200e", Kind.PUBLIC),
    ("2001:200::1", Kind.PUBLIC),
    ("2003::1", Kind.PUBLIC),
    ("::ffff:8.8.8.8", Kind.PUBLIC),
    # this machine
    ("127.0.0.1", Kind.LOOPBACK),
    ("127.255.255.255", Kind.LOOPBACK),
    ("::1", Kind.LOOPBACK),
    ("::ffff:127.0.0.1", Kind.LOOPBACK),
    ("::ffff:7f00:1", Kind.LOOPBACK),
    # networks that are not the internet
    ("10.0.0.1", Kind.PRIVATE),
    ("10.255.255.255", Kind.PRIVATE),
    ("172.16.0.1", Kind.PRIVATE),
    ("172.31.255.255", Kind.PRIVATE),
    ("192.168.1.1", Kind.PRIVATE),
    ("100.64.0.1", Kind.PRIVATE),
    ("100.127.255.255", Kind.PRIVATE),
    ("::ffff:192.168.0.1", Kind.PRIVATE),
    ("192.0.0.8", Kind.PRIVATE),
    ("192.0.0.9", Kind.PRIVATE),
    ("192.0.2.1", Kind.PRIVATE),
    ("198.18.0.1", Kind.PRIVATE),
    ("198.19.255.255", Kind.PRIVATE),
    ("198.51.100.7", Kind.PRIVATE),
    ("203.0.113.7", Kind.PRIVATE),
    ("240.0.0.1", Kind.PRIVATE),
    ("fc00::1", Kind.PRIVATE),
    ("fdff:ffff::1", Kind.PRIVATE),
    ("fec0::1", Kind.PRIVATE),
    ("100::1", Kind.PRIVATE),
    ("2001:db8::1", Kind.PRIVATE),
    ("2001:2::1", Kind.PRIVATE),
    ("2001:20::1", Kind.PRIVATE),
    ("3fff::1", Kind.PRIVATE),
    ("5f00::1", Kind.PRIVATE),
    ("4000::1", Kind.PRIVATE),
    ("1000::1", Kind.PRIVATE),
    ("::ffff:0:127.0.0.1", Kind.PRIVATE),
    # the link
    ("169.254.0.1", Kind.LINK_LOCAL),
    ("169.254.255.255", Kind.LINK_LOCAL),
    ("fe80::1", Kind.LINK_LOCAL),
    ("fe80::1%eth0", Kind.LINK_LOCAL),
    ("febf::1", Kind.LINK_LOCAL),
    # where the credentials of the machine are
    ("169.254.169.254", Kind.METADATA),
    ("::ffff:169.254.169.254", Kind.METADATA),
    ("169.254.170.2", Kind.METADATA),
    ("168.63.129.16", Kind.METADATA),
    ("100.100.100.200", Kind.METADATA),
    ("192.0.0.192", Kind.METADATA),
    ("fd00:ec2::254", Kind.METADATA),
    ("fd00:ec2::254%eth0", Kind.METADATA),
    ("fd20:ce::254", Kind.METADATA),
    # forms that carry an IPv4 address, of whatever kind
    ("64:ff9b::7f00:1", Kind.EMBEDDED),
    ("64:ff9b::8.8.8.8", Kind.EMBEDDED),
    ("64:ff9b:1::7f00:1", Kind.EMBEDDED),
    ("64:ff9b:1:ffff::1", Kind.EMBEDDED),
    ("2002:7f00:1::", Kind.EMBEDDED),
    ("2002:0808:0808::1", Kind.EMBEDDED),
    ("2001::7f00:1", Kind.EMBEDDED),
    ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Kind.EMBEDDED),
    ("2600::5efe:7f00:1", Kind.EMBEDDED),
    ("2600::200:5efe:808:808", Kind.EMBEDDED),
    ("::127.0.0.1", Kind.EMBEDDED),
    ("::8.8.8.8", Kind.EMBEDDED),
    ("192.88.99.1", Kind.EMBEDDED),
    # where nobody serves
    ("0.0.0.0", Kind.UNUSABLE),
    ("0.1.2.3", Kind.UNUSABLE),
    ("::ffff:0.0.0.0", Kind.UNUSABLE),
    ("224.0.0.1", Kind.UNUSABLE),
    ("239.255.255.255", Kind.UNUSABLE),
    ("255.255.255.255", Kind.UNUSABLE),
    ("::", Kind.UNUSABLE),
    ("ff02::1", Kind.UNUSABLE),
    ("ff0e::1", Kind.UNUSABLE),
]


@pytest.mark.parametrize(("address", "kind"), TABLE)
def test_classify_table(address: str, kind: Kind) -> None:
    """Each address is of the kind that the registries say."""
    assert classify(ipaddress.ip_address(address)) is kind


@pytest.mark.parametrize(("address", "kind"), TABLE)
def test_check_address_table(address: str, kind: Kind) -> None:
    """Without further settings, public addresses pass and all others are refused."""
    policy = AddressPolicy()
    if kind is Kind.PUBLIC:
        policy.check_address(address, 443)
    else:
        with pytest.raises(Forbidden, match=str(kind)):
            policy.check_address(address, 443)


@given(st.ip_addresses())
def test_classify_stricter_than_is_global(address: ipaddress.IPv4Address) -> None:
    """What the standard library calls not global is never public here."""
    if classify(address) is Kind.PUBLIC:
        inner = getattr(address, "ipv4_mapped", None) or address
        assert inner.is_global
        assert not inner.is_multicast


@given(st.ip_addresses(v=4))
def test_classify_mapped_is_the_same(address: ipaddress.IPv4Address) -> None:
    """An IPv4-mapped address is judged as the IPv4 address in it."""
    assert classify(ipaddress.IPv6Address(f"::ffff:{address}")) is classify(address)


@pytest.mark.parametrize("kind", Kind)
def test_check_address_private_allowed(kind: Kind) -> None:
    """`allow_private_addresses` opens loopback, private and link-local, and nothing else."""
    policy = AddressPolicy(allow_private_addresses=True)
    opened = {Kind.PUBLIC, Kind.LOOPBACK, Kind.PRIVATE, Kind.LINK_LOCAL}
    for address in (text for text, of in TABLE if of is kind):
        if kind in opened:
            policy.check_address(address, 80)
        else:
            with pytest.raises(Forbidden):
                policy.check_address(address, 80)


def test_check_address_allowed_network() -> None:
    """A network that is named is open, whatever kind it is; its neighbours stay closed."""
    policy = AddressPolicy(allowed_networks=("10.1.0.0/16", "64:ff9b::/96", "169.254.169.254/32"))
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::808:808", "169.254.169.254"):
        policy.check_address(address, 80)
    for address in ("10.2.0.1", "64:ff9b:1::1", "169.254.169.253"):
        with pytest.raises(Forbidden):
            policy.check_address(address, 80)


@pytest.mark.parametrize("host", ["", "example.org", "127.1", "0x7f.0.0.1", "1.2.3.4.", "[::1]"])
def test_check_address_not_numeric(host: str) -> None:
    """What is not a canonical numeric address at the connect is refused."""
    with pytest.raises(Forbidden):
        AddressPolicy(allow_private_addresses=True).check_address(host, 80)


@pytest.mark.parametrize(
    ("host", "pattern", "matches"),
    [
        ("example.org", "example.org", True),
        ("www.example.org", "example.org", False),
        ("www.example.org", "*.example.org", True),
        ("a.b.example.org", "*.example.org", True),
        ("example.org", "*.example.org", False),
        (".example.org", "*.example.org", False),
        ("badexample.org", "*.example.org", False),
        ("example.org.evil.net", "*.example.org", False),
        ("example.org.evil.net", "example.org", False),
        ("anything", "*", True),
        ("10.0.0.1", "10.0.0.1", True),
    ],
)
def test_host_matches_table(host: str, pattern: str, matches: bool) -> None:
    """Exact names are exact, and a wildcard stands for at least one label."""
    assert host_matches(host, pattern) is matches


def check(policy: AddressPolicy, address: str) -> None:
    scheme, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    policy.check_target(scheme=scheme, host=host, port=int(port))


@pytest.mark.parametrize(
    "address",
    ["https://cdn.example.org:443", "http://CDN.Example.ORG.:80", "https://one.other.net:443"],
)
def test_check_target_allowed(address: str) -> None:
    """Names are compared without case and final dot."""
    check(AddressPolicy(allowed_hosts=("cdn.example.org", "*.other.net")), address)


@pytest.mark.parametrize(
    "address",
    [
        "ftp://cdn.example.org:80",
        "file://cdn.example.org:80",
        "https://example.org:443",
        "https://cdn.example.org.evil.net:443",
        "https://cdn.example.org:8443",
        "https://10.0.0.1:443",
    ],
)
def test_check_target_refused(address: str) -> None:
    """Scheme, host and port are all checked before anything is resolved."""
    policy = AddressPolicy(allowed_hosts=("cdn.example.org", "10.0.0.1"))
    with pytest.raises(Forbidden):
        check(policy, address)


def test_check_target_userinfo() -> None:
    """Credentials in an address are refused."""
    with pytest.raises(Forbidden, match="userinfo"):
        AddressPolicy().check_target(scheme="https", host="a.org", port=443, userinfo=True)


@pytest.mark.parametrize(("host", "port"), [(None, 80), ("", 80), ("a.org", None)])
def test_check_target_incomplete(host: str | None, port: int | None) -> None:
    """An address without host or port is refused."""
    with pytest.raises(Forbidden):
        AddressPolicy().check_target(scheme="http", host=host, port=port)


def test_check_target_host_longer_than_a_name() -> None:
    """What no name can be as long as is refused, and nothing of it is remembered."""
    policy = AddressPolicy()
    longest = "a." * 126 + "b"
    policy.check_target(scheme="http", host=longest, port=80)
    with pytest.raises(Forbidden, match="longer"):
        policy.check_target(scheme="http", host=longest + "b", port=80)


def test_classify_is_remembered_by_family() -> None:
    """An IPv4 and an IPv6 address of the same number are two, and a scope makes no difference."""
    for _ in range(2):
        assert classify(ipaddress.IPv4Address(1)) is Kind.UNUSABLE
        assert classify(ipaddress.IPv6Address(1)) is Kind.LOOPBACK
        assert classify(ipaddress.IPv6Address("fe80::1")) is Kind.LINK_LOCAL
        assert classify(ipaddress.IPv6Address("fe80::1%eth0")) is Kind.LINK_LOCAL


def test_check_target_any_port() -> None:
    """An empty list of ports means any."""
    check(AddressPolicy(allowed_ports=()), "http://example.org:8080")


def test_check_target_no_hosts() -> None:
    """An empty list of hosts means none."""
    with pytest.raises(Forbidden):
        check(AddressPolicy(allowed_hosts=()), "https://example.org:443")


def test_refusals_look_alike() -> None:
    """From outside nobody can tell why an address was refused."""
    policy = AddressPolicy(allowed_hosts=("a.org", "127.0.0.1"))
    seen = set()
    for address in ("https://b.org:443", "https://127.0.0.1:443", "https://a.org:22"):
        with pytest.raises(Forbidden) as refused:
            check(policy, address)
        seen.add((refused.value.status, refused.value.code, refused.value.detail))
    assert len(seen) == 1


@pytest.mark.parametrize("pattern", ["", "*.*.org", "a*.org", "http://a.org", "a.org:80", "ü.org"])
def test_policy_bad_pattern(pattern: str) -> None:
    """A pattern that means nothing is refused when the policy is made, with the key to change."""
    with pytest.raises(ValueError, match="allowed_hosts"):
        AddressPolicy(allowed_hosts=(pattern,))


@pytest.mark.parametrize("network", ["", "10.0.0.1/8", "10.0.0.0/33", "example.org"])
def test_policy_bad_network(network: str) -> None:
    """A malformed CIDR is refused when the policy is made, with the key to change."""
    with pytest.raises(ValueError, match="allowed_networks"):
        AddressPolicy(allowed_networks=(network,))
