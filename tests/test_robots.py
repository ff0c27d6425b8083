"""What is remembered of the robots.txt of origins, and for how long."""

from __future__ import annotations

import pytest

from proxy import robots
from proxy.fetch.client import Fetcher
from proxy.fetch.settings import Settings
from proxy.guard.addresses import AddressPolicy
from proxy.robots import RobotsCache
from tests.support.origin import Origin, Status

OPEN = Settings(
    policy=AddressPolicy(allow_private_addresses=True, allowed_ports=()), backoff_s=(0.0, 0.0)
)
NO = "User-agent: *\nDisallow: /no\n"


async def test_allow_asks_once_for_an_origin() -> None:
    """Several pages, one question; its rules are those of the page's own path."""
    async with Origin() as origin, Fetcher(OPEN) as fetcher:
        origin.add("/robots.txt", NO)
        cache = RobotsCache(fetcher)
        assert await cache.allow(origin.at("/yes?a=1"))
        assert not await cache.allow(origin.at("/no/1"))
        assert len(origin.requests) == 1


@pytest.mark.parametrize(("status", "name"), [(200, "BELIEF_S"), (500, "UNREACHABLE_BELIEF_S")])
async def test_allow_asks_again_in_time(
    monkeypatch: pytest.MonkeyPatch, status: int, name: str
) -> None:
    """What is known goes out of date, that nothing could be known too."""
    monkeypatch.setattr(robots, name, -1.0)
    async with Origin() as origin, Fetcher(OPEN) as fetcher:
        origin.add("/robots.txt", NO)
        if status != 200:
            origin.fault("/robots.txt", Status(status), times=3)
        cache = RobotsCache(fetcher)
        assert await cache.allow(origin.at("/yes")) is (status == 200)
        origin.heal()
        assert await cache.allow(origin.at("/yes"))
        assert len(origin.requests) == (2 if status == 200 else 4)


async def test_allow_remembers_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Origins beyond the limit push out those that were asked for longest ago."""
    monkeypatch.setattr(robots, "ORIGINS", 1)
    async with Origin() as one, Origin() as two, Fetcher(OPEN) as fetcher:
        cache = RobotsCache(fetcher)
        for origin in (one, two, one):
            origin.add("/robots.txt", "")
            assert await cache.allow(origin.at("/"))
        assert (len(one.requests), len(two.requests)) == (2, 1)


async def test_allow_reads_the_beginning_of_a_large_file() -> None:
    """What is behind 500 KiB is not waited for."""
    async with Origin() as origin, Fetcher(OPEN) as fetcher:
        origin.add("/robots.txt", NO + "#" * 600_000)
        origin.hold("/robots.txt", after_bytes=550_000)
        assert not await RobotsCache(fetcher).allow(origin.at("/no"))
