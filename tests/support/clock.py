"""A clock for live playlists in which a day passes in no time."""

from __future__ import annotations

import asyncio

from proxy.follow import Clock


class FastClock:
    """Waiting for it moves it on at once; it stands still otherwise.  `clock` is what to inject."""

    def __init__(self, begin_s: float = 1000.0) -> None:
        self.now_s = begin_s
        self.slept_s: list[float] = []
        self.clock = Clock(now=lambda: self.now_s, sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)
