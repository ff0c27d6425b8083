"""One running stream: its playlists on the event loop, its remux on a thread, and how both end.

The remux runs on a thread of its own for each stream: the default executor also resolves names, and
slow streams would starve it; a pool would keep threads and their memory after the streams are gone.
A stream owns one task for each playlist and one worker; `MediaStream.aclose` ends them, however far
they are.

How much a stream holds follows its client.  One that waits for us, a download or a player that
fills its buffer, is given depth, up to the stream's share of the budget: two bytes for each byte
that it had to wait for.  One that we wait for has all it wants in buffers of its own, and the same
is taken back, down to what keeps the bridges moving.  What has been fetched is not thrown away.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Self

from proxy.errors import CorruptMedia, ProxyError, StreamAborted
from proxy.events import Trail
from proxy.fetch.keys import KeyRing
from proxy.media.fragment import Fragment
from proxy.media.outlet import Outlet
from proxy.media.remux import remux
from proxy.media.ring import BridgeClosed
from proxy.media.turn import TurnGate
from proxy.media.wish import Counts, Wish
from proxy.plan import Plan
from proxy.supply import Supply

__all__ = ["SMALLEST_SHARE_BYTES", "MediaStream"]

logger = logging.getLogger(__name__)

# Less than this, and ring and outlet could not hold one read and one short fragment each.
SMALLEST_SHARE_BYTES = 256 * 1024

# What a stream may hold at the start, before it is known who sets the pace.
START_BYTES = 1024 * 1024

# A client that waits for us for less than this part of the time that we wait for it has no use for
# depth: it loses so much of its time at most.
_PATIENT = 8

# A client that takes this long for one part has enough for as long.
_LONG_S = 1.0

# How much of what was learned from one part still counts at the next one.
_REMEMBERED = 0.75


class MediaStream:
    """One running stream: an async iterator of whole parts, and a context manager.

    Iterating yields the init segment and then fragments, as bytes, and raises `StreamAborted` where
    the stream breaks.  Whoever was given it must `aclose` it.
    """

    def __init__(
        self,
        supplies: list[Supply],
        *,
        keys: KeyRing,
        gate: TurnGate,
        on_close: Callable[[MediaStream], None],
        on_release: Callable[[], None],
        trail: Trail,
    ) -> None:
        self.id = trail.id
        self.trail = trail
        self.media_s = 0.0  # handed out, of the leading track
        self.share_bytes = SMALLEST_SHARE_BYTES  # what it may hold
        self.codecs = ""  # RFC 6381, of the tracks in the output
        self.duration_s: float | None = None  # None: live
        self.start_s = 0.0  # where in the presentation it begins
        self.timings: tuple[tuple[str, float], ...] = ()  # what came before, for Server-Timing
        self.counts = Counts()
        self._outlet = Outlet(SMALLEST_SHARE_BYTES, gate)
        self._depth_bytes = START_BYTES  # of its share, what the client has use for
        self._divided_bytes = 0
        self._is_deep = True  # whether it holds, or has held since it was told, more than the least
        self._waited_s = self._took_s = 0.0  # the client for us, and we for the client
        self._gate = gate
        self._supplies = supplies
        for position, source in enumerate(supplies):
            source.missing_s = partial(self._missing_s, position)
        self._keys = keys
        self._first: list[bytes] = []
        self._fetching: list[asyncio.Task[None]] = []
        self._working: asyncio.Future[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._on_close = on_close
        self._on_release = on_release

    def __repr__(self) -> str:
        rings = " ".join(repr(source.ring) for source in self._supplies)
        return f"<MediaStream {self.id} {rings} {self._outlet!r}>"

    @property
    def tally(self) -> dict[str, int]:
        """What was left out so far: packets by reason, skipped sections, missing segments."""
        told = {**self.counts.left_out, "sections_skipped": self.counts.sections_skipped}
        told["segments_missing"] = sum(source.holes.count for source in self._supplies)
        return {reason: count for reason, count in told.items() if count}

    @property
    def held_bytes(self) -> int:
        """Bytes of media in all its buffers now."""
        return self._outlet.size + sum(source.held_bytes for source in self._supplies)

    @property
    def ring_bytes(self) -> int:
        """Bytes in its rings alone."""
        return sum(source.ring.size for source in self._supplies)

    @property
    def ring_capacity_bytes(self) -> int:
        return sum(source.ring.capacity_bytes for source in self._supplies)

    # -- opening -----------------------------------------------------------------------------------

    async def open(self, plan: Plan, wish: Wish) -> None:
        """Start fetching and remuxing; returns when the first fragment is in hand."""
        began_s = time.monotonic()
        self._working = _in_thread(f"remuxd-{self.id[:8]}", lambda: self._work(wish))
        self._fetching = [asyncio.create_task(source.run()) for source in self._supplies]
        async for part in self._outlet:
            if isinstance(part, Fragment):
                self._first.append(part.take())
                self.media_s = part.duration_s
                break
            self._first.append(part.data)
            self.codecs, self.duration_s = part.codecs, part.duration_s
            self.start_s = self._supplies[0].skipped_s + part.start_s
        if len(self._first) < 2:
            raise CorruptMedia("the source ended before its first fragment")
        for source in self._supplies:
            source.widen()
        self.timings = (*plan.seconds, ("fragment", time.monotonic() - began_s))

    def _missing_s(self, position: int) -> float:
        return self.counts.missing_s(position)

    def _work(self, wish: Wish) -> None:
        """Remux from the rings into the outlet: the worker thread."""
        with self._gate:
            try:
                rings = [source.ring for source in self._supplies]
                remux(rings, self._outlet.put, wish, self.counts)
            except BridgeClosed:
                pass
            except Exception as error:  # noqa: BLE001 - travels through the outlet
                self._outlet.fail(error)
            else:
                self._outlet.finish()
            finally:
                for source in self._supplies:
                    source.ring.close()

    def share(self, share_bytes: int) -> None:
        """Hold at most so many bytes, and less as long as the client has no use for more."""
        self.share_bytes = share_bytes
        self._divide()

    def _learn(self, size: int, *, waited_s: float, took_s: float) -> None:
        """Learn from a part: how long the client waited for it, and how long it took to take it.

        The latest parts count together: a system that buffers much for a slow client takes several
        at once, after a long pause.
        """
        self._waited_s = _REMEMBERED * self._waited_s + waited_s
        self._took_s = _REMEMBERED * self._took_s + took_s
        if _PATIENT * self._waited_s > self._took_s:
            self._depth_bytes = min(self._depth_bytes + 2 * size, self.share_bytes)
        else:
            less = self.share_bytes if took_s > _LONG_S else 2 * size
            self._depth_bytes = max(self._depth_bytes - less, SMALLEST_SHARE_BYTES)
        was, now = self._divided_bytes, self._depth_bytes
        if not 0.75 * was <= now <= 1.25 * was or now == SMALLEST_SHARE_BYTES != was:
            self._divide()
        if now > SMALLEST_SHARE_BYTES:
            self._is_deep = True
        elif self._is_deep and self.held_bytes <= 2 * SMALLEST_SHARE_BYTES:
            self._is_deep = False
            self._on_release()

    def _divide(self) -> None:
        """A quarter for the rings, a quarter for the outlet, the rest for segments that are fetched
        ahead; for a client that we wait for, nothing is fetched or made ahead."""
        self._divided_bytes = min(self._depth_bytes, self.share_bytes)
        quarter = self._divided_bytes // 4
        ahead = quarter if self._depth_bytes > SMALLEST_SHARE_BYTES else 0
        self._outlet.capacity_bytes = ahead
        for source in self._supplies:
            source.share(quarter // len(self._supplies), 2 * ahead // len(self._supplies))

    # -- streaming ---------------------------------------------------------------------------------

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._first:
            yield self._first.pop(0)
        asked_s = time.monotonic()
        try:
            async for part in self._outlet:
                got_s = time.monotonic()
                assert isinstance(part, Fragment)
                self.media_s += part.duration_s
                # Whoever takes it may let go of it piece by piece: nothing here holds it.
                size, given = len(part.data), [part.take()]
                yield given.pop()
                taken_s = time.monotonic()
                self._learn(size, waited_s=got_s - asked_s, took_s=taken_s - got_s)
                asked_s = taken_s
        except ProxyError as error:
            raise StreamAborted(error) from error
        if self._closing is not None:
            raise StreamAborted(ProxyError("the stream was closed while it was being read"))

    # -- closing -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop fetching, end the worker, free everything.

        Idempotent; a caller that is cancelled meanwhile does not stop it.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        for task in self._fetching:
            task.cancel()
        for source in self._supplies:
            source.ring.close()
        self._outlet.close()
        self._first.clear()
        waiting: list[asyncio.Future[Any]] = [*self._fetching]
        if self._working is not None:
            waiting.append(self._working)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        await self._keys.aclose()
        for result in results:
            if isinstance(result, Exception):
                logger.error("a stream ended badly", exc_info=result)
        self._on_close(self)


def _in_thread(name: str, work: Callable[[], None]) -> asyncio.Future[None]:
    """Run `work`, which raises nothing, on a thread of its own; the future is its end."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def end() -> None:
        if not ended.done():
            ended.set_result(None)

    def run() -> None:
        try:
            work()
        finally:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(end)

    # A daemon, so that a program that forgot to close its streams still ends.
    threading.Thread(target=run, name=name, daemon=True).start()
    return ended
