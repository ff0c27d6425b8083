"""How long a client may take nothing: one timer for a whole response, not one for every write.

    async with Patience(seconds) as patience:
        patience.wait()
        await write(part)
        patience.rest()

Runs on the event loop.  (A timeout around each write took 4 % of the CPU of a stream.)
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

__all__ = ["Patience"]


class Patience:
    """A context that ends in a `TimeoutError` when a wait within it, from `wait` to `rest`, takes
    `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._since_s: float | None = None
        self._timeout = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None

    def wait(self) -> None:
        """The client is to take something from now on."""
        self._since_s = self._loop.time()

    def rest(self) -> float:
        """It has; returns the seconds that it took."""
        assert self._since_s is not None
        took_s = self._loop.time() - self._since_s
        self._since_s = None
        return took_s

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._look()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._timer is not None
        self._timer.cancel()
        await self._timeout.__aexit__(kind, error, traceback)

    def _look(self) -> None:
        """End a wait that is too long; else look again when it would be, or might be."""
        now_s, since_s = self._loop.time(), self._since_s
        if since_s is not None and now_s - since_s >= self._seconds:
            self._timeout.reschedule(now_s)
        else:
            when_s = self._seconds + (now_s if since_s is None else since_s)
            self._timer = self._loop.call_at(when_s, self._look)
