"""Who may start a stream now: the doors of overload and fairness, in front of everything else.

`Admission.enter` is called before anything is fetched, and answers at once: there is no queue,
since a viewer who waits is a viewer lost.  What it gives is a `Slot`, to be released once; again is
harmless.  Counting is a `state.Census`: of this process, or of all workers of one server.  Runs on
the event loop.

The client is the peer address, or, when the peer is one of `trusted_proxies`, the last address of
X-Forwarded-For that is not.  An IPv6 client is its /64, because one host owns all of it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from dataclasses import dataclass

from proxy.errors import Overloaded, RateLimited
from proxy.state.census import Census, Entry, LocalCensus

__all__ = ["Admission", "Settings", "Slot", "client_address"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOCAL = "local"  # the peer behind a unix socket: it has no address


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    streams: int = 200  # running at once, opening ones included
    streams_per_client: int = 8  # of one client
    trusted_proxies: tuple[str, ...] = ()  # addresses or CIDR blocks whose X-Forwarded-For counts

    def __post_init__(self) -> None:
        for block in self.trusted_proxies:
            ipaddress.ip_network(block, strict=False)  # raises ValueError naming it


class Slot:
    """The right to run one stream; give it back with `release`."""

    __slots__ = ("_admission", "_entry", "client")

    def __init__(self, admission: Admission, client: str, entry: Entry) -> None:
        self._admission: Admission | None = admission
        self._entry = entry
        self.client = client

    def release(self) -> None:
        if self._admission is not None:
            self._admission._leave(self._entry)  # noqa: SLF001 (the two are one thing)
            self._admission = None


class Admission:
    """Counts streams, as a whole and by client, and refuses new ones while draining.

    Args:
        settings: limits, of everybody in the census together.
        census: who is running streams; default: of this process alone.
    """

    def __init__(self, settings: Settings, census: Census | None = None) -> None:
        self._settings = settings
        self._trusted = tuple(
            ipaddress.ip_network(block, strict=False) for block in settings.trusted_proxies
        )
        self._census = census if census is not None else LocalCensus()
        self._idle = asyncio.Event()
        self._idle.set()
        self.active = 0  # slots that are taken in this process
        self.draining = False

    @property
    def total(self) -> int:
        """How many slots are taken in all processes that are counted together."""
        return self._census.total

    def enter(self, peer: str, forwarded_for: str) -> Slot:
        """Take a slot for the client behind `peer` (`local` for a unix socket).

        Raises:
            Overloaded: draining, or all slots are taken.
            RateLimited: this client has as many streams as it may have.
        """
        if self.draining:
            raise Overloaded("draining", detail="The proxy is shutting down.", retry_after_s=5)
        client = self.client_of(peer, forwarded_for)
        with self._census.locked():
            self._check(client)
            entry = self._census.enter(client)
        self.active += 1
        self._idle.clear()
        return Slot(self, client, entry)

    def _check(self, client: str) -> None:
        if self._census.total >= self._settings.streams:
            raise Overloaded("limits.streams is reached", retry_after_s=_jittered_s())
        # Everyone behind a unix socket that names no client looks alike: only the whole is bounded.
        if client != LOCAL and self._census.of(client) >= self._settings.streams_per_client:
            raise RateLimited("limits.streams_per_client is reached", retry_after_s=_jittered_s())

    def client_of(self, peer: str, forwarded_for: str) -> str:
        """Return the client behind `peer`, as `client_address` does."""
        return client_address(peer, forwarded_for, self._trusted)

    async def idle(self) -> None:
        """Return as soon as no slot is taken in this process."""
        await self._idle.wait()

    def _leave(self, entry: Entry) -> None:
        self._census.leave(entry)
        self.active -= 1
        if not self.active:
            self._idle.set()


def client_address(peer: str, forwarded_for: str, trusted: tuple[Network, ...]) -> str:
    """Return the address that stands for the client; `forwarded_for` is X-Forwarded-For, joined.

    A peer on a unix socket is trusted: the file's permissions decided who may connect.
    """
    client = LOCAL
    if peer != LOCAL:
        address = _address(peer)
        if address is None:
            return peer
        client = _group(address)
        if not _within(address, trusted):
            return client
    for hop in reversed(forwarded_for.split(",")):  # the nearest hop wrote the last entry
        address = _address(hop.strip())
        if address is None:
            break  # what a trusted proxy cannot spell is nobody: its own address stands
        client = _group(address)
        if not _within(address, trusted):
            break
    return client


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if isinstance(mapped, ipaddress.IPv4Address) else address


def _within(address: Address, blocks: tuple[Network, ...]) -> bool:
    return any(address in block for block in blocks)


def _group(address: Address) -> str:
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((int(address), 64), strict=False))


def _jittered_s() -> int:
    """2 to 5 seconds, so that the refused do not all come back together."""
    return 2 + secrets.randbelow(4)
