"""Bridge 2: from a worker thread to the event loop; parts of the output, bounded in bytes.

Threads: `put`, `finish` and `fail` are called on one worker thread, iteration happens on the event
loop, `close` comes from either.  A worker waits in `put` while the outlet is full, which is how a
slow client slows everything down to the origin's socket.  Errors arrive behind the parts before
them.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress

from proxy.media.fragment import Part
from proxy.media.ring import BridgeClosed
from proxy.media.turn import TurnGate


class Outlet:
    """A bounded queue of parts from a worker thread to the event loop.

    Args:
        capacity_bytes: what it holds before `put` waits; exceeded by one part at most.  With 0,
            `put` waits until somebody asks for the next part.
        gate: let go of by the worker while it waits.
    """

    def __init__(self, capacity_bytes: int, gate: TurnGate) -> None:
        self.capacity_bytes = capacity_bytes
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._parts: deque[Part] = deque()
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._finished = False
        self._closed = False
        self._error: Exception | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closed else "finished" if self._finished else "open"
        return f"<Outlet {state} {self._size}/{self.capacity_bytes}>"

    @property
    def size(self) -> int:
        """Bytes in it."""
        return self._size

    # -- worker thread -----------------------------------------------------------------------------

    def put(self, part: Part) -> None:
        """Hand over a part, and wait until there is room for another one: what the next one is made
        of may as well stay at the origin until then.

        Raises:
            BridgeClosed: nobody will take it.
        """
        with self._changed:
            if not self._closed:
                self._parts.append(part)
                self._size += len(part.data)
                self._wake()
        if self._is_full():
            with self._gate.released(), self._changed:
                while self._is_full():
                    self._changed.wait()
        if self._closed:
            raise BridgeClosed

    def _is_full(self) -> bool:
        if self._closed:
            return False
        return self._size > self.capacity_bytes or not (self.capacity_bytes or self._waiter)

    def finish(self) -> None:
        """Say that nothing follows."""
        with self._changed:
            self._finished = True
            self._wake()

    def fail(self, error: Exception) -> None:
        """Say that nothing follows because of `error`; iteration raises it behind the last part."""
        with self._changed:
            self._error = error
            self._finished = True
            self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(_set, waiter)

    # -- event loop --------------------------------------------------------------------------------

    def __aiter__(self) -> Outlet:
        return self

    async def __anext__(self) -> Part:
        while True:
            with self._changed:
                if self._parts:
                    part = self._parts.popleft()
                    self._size -= len(part.data)
                    self._changed.notify()
                    return part
                if self._finished or self._closed:
                    error, self._error = self._error, None
                    if error is not None:
                        raise error
                    raise StopAsyncIteration
                waiter = self._waiter = self._loop.create_future()
                self._changed.notify()
            await waiter

    # -- either ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Drop everything: `put` raises, iteration ends.  Idempotent."""
        with self._changed:
            self._closed = True
            self._parts.clear()
            self._size = 0
            self._changed.notify()
            self._wake()


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
