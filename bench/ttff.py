"""How long until the first byte, and until the first whole fragment?

    python -m bench.ttff [--runs 7] [--full]

From a multivariant playlist with three variants, from a media playlist, and live; on connections to
the origin that are new (a host of its own for each run) and on used ones.  Beside it the limit: a
bare client that makes the same requests, one after the other, until the first picture and the first
audio frame have arrived.  The contenders take turns, so that what else the machine does hits them
alike.  The buffered way is asked only a few times; it takes a whole download.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from bench import clip as clips
from bench.attempts import Attempts
from bench.client import Bare, Began, begin, whole
from bench.live import LIVE_EDGE, WINDOW
from bench.options import Options, alone
from bench.processes import Origin, Serving, origin
from bench.results import Case, Result

SHOWN = ("first_byte_ms", "first_fragment_ms")
LIMIT = "limit"
CURL = "limit, by curl"
SOURCES = ("master", "media", "live")
SLOWEST_MBIT = 8
NETWORKS = tuple(itertools.product((0, 20, 80), (SLOWEST_MBIT, 50, 0)))  # ms, Mbit/s (0: unlimited)
USUAL = ((20, 50),)  # for which figures are promised
OTHER_RUNS = 3  # in each other network
WAITING_RUNS = 3  # of those who take a whole download


@dataclass(slots=True)
class Hosts:
    """Gives out addresses of loopback that nobody has connected to yet."""

    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(256))

    def new(self) -> str:
        number = next(self._numbers)
        return f"127.0.{number // 256}.{number % 256}"


async def run(options: Options) -> Result:
    result = Result(question="ttff")
    hosts = Hosts()
    for delay_ms, rate_mbit in NETWORKS if options.full else USUAL:
        async with AsyncExitStack() as stack:
            source = await stack.enter_async_context(
                origin(options.folder, delay_ms=delay_ms, rate_mbit=rate_mbit)
            )
            attempts = Attempts(result)
            servers = await attempts.started(stack, options.contenders)
            for kind, connections in itertools.product(SOURCES, ("cold", "warm")):
                if kind == "live" and connections == "warm" and not options.full:
                    continue
                case: dict[str, str | float | int] = {
                    "source": kind,
                    "connections": connections,
                    "delay_ms": delay_ms,
                    "rate_mbit": rate_mbit,
                }
                rounds = _Rounds(
                    clip=clips.load(options.folder), origin=source, hosts=hosts, case=case
                )
                # The first turn warms everybody up, but not those who take a whole download.
                quick = [server for server in servers if not server.contender.waits]
                await rounds.turn(quick, Attempts(Result(question="none")))
                usual = (delay_ms, rate_mbit) in USUAL
                for turn in range(options.runs if usual else min(OTHER_RUNS, options.runs)):
                    asked = [s for s in servers if _asked(s, case, turn, full=options.full)]
                    await rounds.turn(asked, attempts)
    return result


def _asked(server: Serving, case: Case, turn: int, *, full: bool) -> bool:
    """Tell who is asked: who answers at last is not asked often, nor for what never ends, nor where
    it is the clip's own length that would be measured."""
    if not server.contender.waits:
        return True
    if case["connections"] == "warm" or case["rate_mbit"] == SLOWEST_MBIT:
        return False
    sources = ("master", "media") if full else ("master",)
    return case["source"] in sources and turn < WAITING_RUNS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rounds:
    """The turns of one case."""

    clip: clips.Clip
    origin: Origin
    hosts: Hosts
    case: Case

    async def turn(self, servers: list[Serving], attempts: Attempts) -> None:
        """Ask everybody once, and take the limit."""
        result = attempts.result
        for server in servers:
            if not attempts.able(server.contender):
                continue
            with attempts.of(server.contender, self.case):
                began = await asyncio.to_thread(self._begin, server)
                result.add(
                    server.contender.name,
                    self.case,
                    first_byte_ms=began.first_byte_s * 1000,
                    first_fragment_ms=began.first_fragment_s * 1000,
                )
        limit_s = await asyncio.to_thread(self._limit)
        result.add(LIMIT, self.case, first_fragment_ms=limit_s * 1000)
        if self.case["source"] == "master" and not self._warm:
            curl_s = await asyncio.to_thread(_curl, self.origin, self.hosts.new())
            if curl_s is not None:
                result.add(CURL, self.case, first_fragment_ms=curl_s * 1000)

    @property
    def _warm(self) -> bool:
        return self.case["connections"] == "warm"

    @property
    def _needed(self) -> int:
        live = self.case["source"] == "live"
        first = self.clip.segments()[:WINDOW][LIVE_EDGE if live else 0]
        return clips.first_bytes(self.clip.files[first])

    def _begin(self, server: Serving) -> Began:
        host = self.hosts.new()
        if self._warm:
            whole(server, self.origin.url(f"one/{clips.MEDIA}", host=host))
        # What has been waited for to the end is all there at its first byte.
        needed = 1 if server.contender.waits else self._needed
        return begin(server, _address(self.origin, self.case, host), source_bytes=needed)

    def _limit(self) -> float:
        address = _address(self.origin, self.case, self.hosts.new())
        return Bare(address).begin(address, source_bytes=self._needed, warm=self._warm)


def _address(source: Origin, case: Case, host: str) -> str:
    path = {
        "master": clips.MASTER,
        "media": clips.MEDIA,
        # A name of its own, so that each begins at the same place of the live playlist.
        "live": f"live/{host}/{clips.MEDIA}",
    }[str(case["source"])]
    return source.url(path, host=host)


def _curl(source: Origin, host: str) -> float | None:
    """Return what curl takes for the limit's requests from a master; None without curl."""
    command = ["curl", "-s", "-w", "%{time_total}\n"]
    for path in (clips.MASTER, clips.MEDIA, f"head/{clips.BEST}/000.ts"):
        command += ["-o", "/dev/null", source.url(path, host=host)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return sum(map(float, done.stdout.split()))


if __name__ == "__main__":
    alone(run, __doc__, SHOWN)
