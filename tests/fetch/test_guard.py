"""The guard at work: what is refused costs no request, and all refusals look alike."""

import asyncio
import errno
import itertools
import socket
import unicodedata
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import Forbidden, SourceUnavailable
from proxy.fetch import Fetcher, client
from proxy.fetch.client import _parsed, _refusals
from proxy.guard.addresses import AddressPolicy
from tests.fetch.helpers import quick
from tests.support.origin import Origin

ANY_PORT = AddressPolicy(allowed_ports=())


class FakeResolver(AbstractResolver):
    """Answers with one list of addresses after the other."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = itertools.cycle(answers)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: Any = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked += 1
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in next(self._answers)
        ]

    async def close(self) -> None:
        pass


async def refused(fetcher: Fetcher, url: str) -> Forbidden:
    with pytest.raises(Forbidden) as raised:
        await fetcher.read(url, max_bytes=1000, what="playlist")
    return raised.value


SPELLINGS = [
    "http://127.0.0.1:{port}/",
    "http://localhost:{port}/",
    "http://127.1:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://0:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://127\u30020\u30020\u30021:{port}/",
    "http://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://user@127.0.0.1:{port}/",
    "http://example.org@127.0.0.1:{port}/",
    "http://127.0.0.1\t:{port}/",
    "http://127.0.0.1:{port}\\@example.org/",
    "HTTP://LOCALHOST:{port}/",
    "//127.0.0.1:{port}/",
    "http:127.0.0.1:{port}/",
    "ftp://127.0.0.1:{port}/",
    "file:///etc/passwd",
    "",
    "x",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_read_spellings(spelling: str) -> None:
    """However loopback is spelled, nothing is asked, and the answer is the same."""
    async with Origin() as origin, Fetcher(quick(policy=ANY_PORT)) as fetcher:
        error = await refused(fetcher, spelling.format(port=origin.port))
        assert (error.status, error.code, error.detail) == (403, "forbidden", Forbidden.public)
        assert error.retry_after_s is None
        assert origin.connections == []


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["127.0.0.1", "10.0.0.1", "169.254.169.254"],
        ["::1", "127.0.0.1"],
        ["fe80::1", "::ffff:127.0.0.1", "127.0.0.1", "::1"],
    ],
)
async def test_read_name_of_private_addresses(addresses: list[str]) -> None:
    """A name that leads to addresses that are not public is refused at the connect."""
    async with (
        Origin() as origin,
        Fetcher(quick(policy=ANY_PORT), resolver=FakeResolver(addresses)) as fetcher,
    ):
        await refused(fetcher, f"http://public.example:{origin.port}/")
        assert origin.connections == []


async def test_read_name_of_mixed_addresses() -> None:
    """Of several addresses only those that are allowed are tried."""
    policy = AddressPolicy(allowed_networks=("127.0.0.1/32",), allowed_ports=())
    resolver = FakeResolver(["127.0.0.2", "10.0.0.1", "127.0.0.1", "::1"])
    async with (
        Origin() as origin,
        Fetcher(quick(policy=policy), resolver=resolver) as fetcher,
    ):
        origin.add("/", "#EXTM3U")
        url = f"http://public.example:{origin.port}/"
        assert (await fetcher.read(url, max_bytes=1000, what="playlist")).body == b"#EXTM3U"
        await origin.refuse()
        await fetcher.aclose()
    async with Fetcher(quick(policy=policy), resolver=resolver) as fetcher:
        await refused(fetcher, url)  # one refused by its host, three by us: no port scanner


async def test_read_rebinding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that changes its answer gains nothing: every connect is decided on its own.

    Each decision is noted where sockets are made; the public address gets one that goes nowhere.
    """
    decisions: list[tuple[str, bool]] = []
    decide = Fetcher._socket

    def note(fetcher: Fetcher, info: Any) -> socket.socket:
        address = str(info[4][0])
        try:
            made = decide(fetcher, info)
        except PermissionError:
            decisions.append((address, False))
            raise
        decisions.append((address, True))
        made.close()
        raise OSError(errno.ENETUNREACH, "no network in a test")

    monkeypatch.setattr(Fetcher, "_socket", note)
    resolver = FakeResolver(["93.184.215.14"], ["127.0.0.1"], ["::ffff:7f00:1", "93.184.215.14"])
    once = quick(policy=ANY_PORT, dns_ttl_s=0, playlist_attempts=1)
    async with Origin() as origin, Fetcher(once, resolver=resolver) as fetcher:
        url = f"http://public.example:{origin.port}/"
        for _ in range(1000):
            with pytest.raises((Forbidden, SourceUnavailable)):
                await fetcher.read(url, max_bytes=1000, what="playlist")
        assert len(decisions) >= 1000
        assert dict(decisions) == {
            "93.184.215.14": True,
            "127.0.0.1": False,
            "::ffff:7f00:1": False,
        }
        assert len(set(decisions)) == 3, "an address was decided upon in two ways"
        assert origin.connections == []


async def test_read_rebinding_between_two_connects() -> None:
    """A name that was good for one connect is refused at the next, when it leads elsewhere."""
    policy = AddressPolicy(allowed_networks=("127.0.0.1/32",), allowed_ports=())
    resolver = FakeResolver(["127.0.0.1"], ["127.0.0.2"])
    fresh = quick(policy=policy, dns_ttl_s=0)
    async with Origin(keep_alive=False) as origin, Fetcher(fresh, resolver=resolver) as fetcher:
        origin.add("/", "#EXTM3U")
        url = f"http://public.example:{origin.port}/"
        for _ in range(10):
            await fetcher.read(url, max_bytes=1000, what="playlist")
            await refused(fetcher, url)
        assert len(origin.requests) == 10


# -- whatever libc reads ---------------------------------------------------------------------------


def numbers(value: int, base: str) -> str:
    return {"8": f"0{value:o}", "10": str(value), "16": f"0x{value:x}", "X": f"0X{value:08X}"}[base]


@st.composite
def spellings(draw: st.DrawFn) -> tuple[str, IPv4Address | IPv6Address]:
    """An address that is not public, in one of the ways in which `inet_aton` reads it."""
    network = draw(
        st.sampled_from(["127.0.0.0/8", "10.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16",
                         "172.16.0.0/12", "0.0.0.0/8", "224.0.0.0/4", "100.64.0.0/10"])
    )  # fmt: skip
    address = draw(st.ip_addresses(v=4, network=network))
    value, parts = int(address), draw(st.integers(1, 4))
    split = [(value >> shift) & 0xFF for shift in (24, 16, 8)[: parts - 1]]
    split.append(value & ((1 << 8 * (5 - parts)) - 1))
    bases = st.sampled_from(["8", "10", "16", "X"])
    host = ".".join(numbers(part, draw(bases)) for part in split)
    digits = draw(
        st.sampled_from(
            ["0123456789", "\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19"]
        )
    )
    dot = draw(st.sampled_from([".", "\u3002", "\uff0e"]))
    return host.translate(str.maketrans("0123456789", digits)).replace(".", dot), address


FORBIDDING = Fetcher(quick(policy=ANY_PORT))


def connect(url: str) -> None:
    """Go the way of a request as far as its sockets, names read by libc as numbers."""
    target = _parsed(url, what="playlist")
    FORBIDDING._checked(target, "playlist")
    assert target.raw_host is not None
    token = _refusals.set([])
    try:
        for info in socket.getaddrinfo(
            target.raw_host, target.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        ):
            FORBIDDING._socket(info).close()
    except (socket.gaierror, PermissionError, UnicodeError) as error:
        raise Forbidden(str(error)) from error
    finally:
        _refusals.reset(token)


@settings(max_examples=1000, deadline=None)
@given(spellings())
def test_spellings_of_libc(case: tuple[str, IPv4Address | IPv6Address]) -> None:
    """No spelling of a closed address that libc can read gets a socket."""
    host, address = case
    plain = unicodedata.normalize("NFKC", host).replace("\u3002", ".")
    assert socket.inet_aton(plain) == address.packed  # libc does read it
    with pytest.raises(Forbidden):
        connect(f"http://{host}:8080/")


# IPv4-mapped and -compatible, NAT64 twice, ISATAP twice.
PREFIXES = ["::ffff:0:0", "::", "64:ff9b::", "64:ff9b:1::", "2606:4700::5efe:0:0"]
PREFIXES += ["2606:4700::200:5efe:0:0"]


@settings(max_examples=300, deadline=None)
@given(st.ip_addresses(v=4, network="127.0.0.0/8"), st.sampled_from(PREFIXES))
def test_spellings_embedded(address: IPv4Address | IPv6Address, prefix: str) -> None:
    """No IPv6 address with a closed IPv4 address at its end gets a socket."""
    whole = IPv6Address(int(IPv6Address(prefix)) | int(address))
    for text in (str(whole), whole.exploded):
        with pytest.raises(Forbidden):
            connect(f"http://[{text}]:8080/")


def test_spellings_of_public_addresses() -> None:
    """The road that the two tests above go is open to who may go it."""
    connect("http://93.184.215.14:8080/")
    connect("http://0x5d.0270.55054:8080/")
    connect("http://[2606:4700::1]:8080/")


async def test_read_side_by_side() -> None:
    """Requests that connect at the same time do not take each other's refusals."""
    policy = AddressPolicy(allowed_networks=("127.0.0.1/32",), allowed_ports=())
    async with Origin(delay_s=0.01) as origin, Fetcher(quick(policy=policy)) as fetcher:
        good = origin.add("/", "#EXTM3U")
        bad = f"http://127.0.0.2:{origin.port}/"
        outcomes = await asyncio.gather(
            *[
                fetcher.read(url, max_bytes=1000, what="playlist")
                for url in (good, bad, good, bad) * 5
            ],
            return_exceptions=True,
        )
        assert [isinstance(outcome, Forbidden) for outcome in outcomes] == [False, True] * 10


async def test_read_host_not_allowed() -> None:
    """A host that is not on the list is refused before it is resolved."""
    policy = AddressPolicy(allowed_hosts=("*.example.org",), allowed_ports=())
    resolver = FakeResolver(["127.0.0.1"])
    async with Fetcher(quick(policy=policy), resolver=resolver) as fetcher:
        await refused(fetcher, "http://example.net/")
        assert resolver.asked == 0


async def test_read_port_not_allowed() -> None:
    """Without further settings only the ports 80 and 443 are open."""
    async with (
        Origin() as origin,
        Fetcher(quick(policy=AddressPolicy(allow_private_addresses=True))) as fetcher,
    ):
        await refused(fetcher, origin.at("/"))
        assert origin.connections == []


async def test_read_ipv6() -> None:
    """An IPv6 literal is connected to when it is allowed."""
    async with Origin(host="::1") as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/", "#EXTM3U")
        assert (await fetcher.read(url, max_bytes=1000, what="playlist")).body == b"#EXTM3U"


async def test_read_dns_cached() -> None:
    """Names are resolved once for as long as they are kept."""
    resolver = FakeResolver(["127.0.0.1"])
    async with (
        Origin(keep_alive=False) as origin,
        Fetcher(quick(), resolver=resolver) as fetcher,
    ):
        origin.add("/", "#EXTM3U")
        for _ in range(5):
            await fetcher.read(f"http://a.example:{origin.port}/", max_bytes=9, what="playlist")
        assert len(origin.connections) == 5
        assert resolver.asked == 1


async def test_read_dns_cache_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many names the oldest is forgotten: whoever invents names costs no memory."""
    monkeypatch.setattr(client, "DNS_CACHE_NAMES", 3)
    resolver = FakeResolver(["127.0.0.1"])
    async with (
        Origin(keep_alive=False) as origin,
        Fetcher(quick(), resolver=resolver) as fetcher,
    ):
        origin.add("/", "#EXTM3U")
        for name in "abcdaa":
            url = f"http://{name}.example:{origin.port}/"
            await fetcher.read(url, max_bytes=9, what="playlist")
        assert resolver.asked == 5
