"""The guard at work: what is refused costs no request, and all refusals look alike."""

import asyncio
import itertools
import socket
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from proxy.errors import Forbidden, SourceUnavailable
from proxy.fetch import Fetcher
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


async def test_read_rebinding() -> None:
    """A resolver that changes its answer gains nothing: every connect is checked."""
    # 127.0.0.2 plays the public address: it is allowed, and nobody listens there.
    policy = AddressPolicy(allowed_networks=("127.0.0.2/32",), allowed_ports=())
    resolver = FakeResolver(["127.0.0.2"], ["127.0.0.1"])
    settings = quick(policy=policy, dns_ttl_s=0, playlist_attempts=1)
    async with Origin() as origin, Fetcher(settings, resolver=resolver) as fetcher:
        url = f"http://public.example:{origin.port}/"
        for _ in range(50):
            with pytest.raises((Forbidden, SourceUnavailable)):
                await fetcher.read(url, max_bytes=1000, what="playlist")
        assert resolver.asked >= 50
        assert origin.connections == []


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
