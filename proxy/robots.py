"""Whether the robots.txt of a page's origin lets us read the page; fetched once for each origin.

By RFC 9309: 4xx means that there are no rules (2.3.1.3); an origin that cannot be asked must be
taken to refuse (2.3.1.4), and so must an address of it that we may not fetch from.  Asked for pages
only: an address that leads to a playlist costs no request here.  Runs on the event loop.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass

from proxy.errors import ProxyError, SourceNotFound, TooManyRedirects
from proxy.extract.robots import MAX_BYTES, Robots, robots_url
from proxy.fetch.client import Fetcher

__all__ = ["RobotsCache"]

logger = logging.getLogger(__name__)

ORIGINS = 256  # that are remembered; a parsed file takes some 1 to 100 KiB
BELIEF_S = 3600.0  # RFC 9309, 2.4: not more than a day
UNREACHABLE_BELIEF_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    robots: Robots | None  # None: the origin could not be asked
    until_s: float


class RobotsCache:
    """What origins say; belongs to one `Fetcher`."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def allow(self, url: str) -> bool:
        """Whether the page at `url` may be read; asks its origin where that is not known."""
        address = robots_url(url)
        known = self._known.get(address)
        if known is None or known.until_s < time.monotonic():
            robots = await self._ask(address)
            belief_s = UNREACHABLE_BELIEF_S if robots is None else BELIEF_S
            known = _Known(robots=robots, until_s=time.monotonic() + belief_s)
            self._known[address] = known
            if len(self._known) > ORIGINS:
                self._known.popitem(last=False)
        self._known.move_to_end(address)
        return known.robots is not None and known.robots.allow(url)

    async def _ask(self, address: str) -> Robots | None:
        try:
            body = await self._fetcher.read_beginning(address, max_bytes=MAX_BYTES)
        except (
            SourceNotFound,
            TooManyRedirects,
        ):  # five redirects: as if there were none (2.3.1.2)
            return Robots(b"")
        except ProxyError as error:
            status = getattr(error, "upstream_status", None) or 0
            if 400 <= status < 500:
                return Robots(b"")
            logger.info("robots.txt could not be read: %s", error)
            return None
        return Robots(body)
