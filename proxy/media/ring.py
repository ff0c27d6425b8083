"""Bridge 1: from the event loop to a worker thread; a ring of byte chunks, bounded in bytes, that
reads like a file, section by section.

Threads: `begin`, `write`, `break_off`, `starved`, `finish` and `fail` are called on the event loop,
`next_section`, `read` and `broken_off` on one worker thread, `close` and `relax` from either.

Rules of this file:
1. `read(n)` returns at most n bytes (PyAV copies what it gets without checking) and blocks only
   while there is nothing to return; `b""` is the end of the section.  There is no `seek`, `tell`
   or `name`: with a name, libavformat would choose a demuxer by its extension.
2. An error is delivered where it occurred: after the bytes before it, once; then comes the end.
3. A writer waits while the ring is full, and is let go when half of it has been read.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress

from proxy.media.section import Section
from proxy.media.turn import TurnGate

# A reader that waits is woken for every chunk until the first fragment is out, and then when this
# much is there: waking for each chunk cost 3 to 5 times the CPU (measured: 17 → 8.4 ms/MB).  A
# little less than what the fetching side lets gather, so that one batch is enough.
WAKE_BYTES = 224 * 1024

# However little has come, a reader takes it after this long: a live stream of low bitrate must not
# wait for WAKE_BYTES.
_PATIENCE_S = 0.2


class BridgeClosed(Exception):
    """The other side has gone; whoever sees this stops quietly."""


class _BrokenOff:
    """Stands where a section broke off."""


class RingBuffer:
    """A bounded ring of byte chunks between the event loop and a worker thread.

    Args:
        capacity_bytes: what it holds before `write` waits; exceeded by one chunk at most.
        gate: let go of by the reader while it waits.
    """

    def __init__(self, capacity_bytes: int, gate: TurnGate) -> None:
        self.capacity_bytes = capacity_bytes
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._chunks: deque[bytes | Section | _BrokenOff] = deque()
        self._taken = 0  # bytes of the first chunk that have been read
        self._size = 0
        self._wake_bytes = 1
        self._reader_waits = False
        self._timed = False  # whether `_hurry` will be called
        self._hurried = False
        self._room: asyncio.Future[None] | None = None
        self._starving: asyncio.Future[None] | None = None
        self._finished = False
        self._closed = False
        self._error: Exception | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closed else "finished" if self._finished else "open"
        return f"<RingBuffer {state} {self._size}/{self.capacity_bytes}>"

    @property
    def size(self) -> int:
        """Bytes in it."""
        return self._size

    # -- event loop --------------------------------------------------------------------------------

    def begin(self, section: Section) -> None:
        """Say that what is written from now on is another section."""
        with self._changed:
            self._chunks.append(section)
            self._changed.notify()

    async def write(self, chunk: bytes) -> None:
        """Append a chunk, and wait until there is room for another one.

        Raises:
            BridgeClosed: nobody will read it.
        """
        with self._changed:
            if self._closed:
                raise BridgeClosed
            if chunk:
                self._chunks.append(chunk)
                self._size += len(chunk)
            full = self._size >= self.capacity_bytes
            if self._reader_waits:
                if self._is_enough():
                    self._changed.notify()
                elif self._size and not self._timed:
                    self._timed = True
                    self._loop.call_later(_PATIENCE_S, self._hurry)
            if not full:
                return
            room = self._room = self._loop.create_future()
        await room
        if self._closed:
            raise BridgeClosed

    async def starved(self) -> None:
        """Wait until the reader has taken everything and wants more.

        Raises:
            BridgeClosed: nobody will read any more.
        """
        with self._changed:
            if self._closed:
                raise BridgeClosed
            if self._reader_waits and not self._chunks:
                return
            self._hurried = True
            self._changed.notify()
            starving = self._starving = self._loop.create_future()
        await starving
        if self._closed:
            raise BridgeClosed

    def _hurry(self) -> None:
        """Wake a reader that has waited long enough for a batch."""
        with self._changed:
            self._timed = False
            if self._reader_waits and self._size:
                self._hurried = True
                self._changed.notify()

    def break_off(self) -> None:
        """Say that this section ends here, and is not whole: perhaps in the middle of a packet."""
        with self._changed:
            self._chunks.append(_BrokenOff())
            self._changed.notify()

    def finish(self) -> None:
        """Say that nothing follows."""
        with self._changed:
            self._finished = True
            self._changed.notify()

    def fail(self, error: Exception) -> None:
        """Say that nothing follows because of `error`; `read` raises it behind the last byte."""
        with self._changed:
            self._error = error
            self._finished = True
            self._changed.notify()

    # -- worker thread -----------------------------------------------------------------------------

    def next_section(self) -> Section | None:
        """Go to the next section, dropping what is left of this one; None at the end.

        Raises:
            Exception: what `fail` was given.
        """
        while True:
            self._await_something()
            with self._changed:
                if not self._chunks or self._closed:
                    self._raise_error()
                    return None
                chunk = self._chunks.popleft()
                if isinstance(chunk, Section):
                    return chunk
                if isinstance(chunk, bytes):
                    self._consume(len(chunk) - self._taken)
                    self._taken = 0

    def read(self, n: int) -> bytes:
        """Return the next 1 to n bytes, or `b""` at the end of the section; waits for them.

        Raises:
            Exception: what `fail` was given, behind the last byte before it.
        """
        self._await_something()
        with self._changed:
            if not self._chunks or self._closed:
                self._raise_error()
                return b""
            chunk = self._chunks[0]
            if not isinstance(chunk, bytes):
                return b""
            piece = chunk[self._taken : self._taken + n]
            self._taken += len(piece)
            if self._taken == len(chunk):
                self._chunks.popleft()
                self._taken = 0
            self._consume(len(piece))
            return piece

    @property
    def broken_off(self) -> bool:
        """Whether the section is not whole that `read` has just come to the end of."""
        with self._changed:
            return bool(self._chunks) and isinstance(self._chunks[0], _BrokenOff)

    def _await_something(self) -> None:
        if not self._has_something():
            with self._gate.released(), self._changed:
                self._wait()

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None and not self._closed:
            raise error

    def _consume(self, size: int) -> None:
        self._size -= size
        if self._room is not None and self._size * 2 <= self.capacity_bytes:
            self._make_room()

    def _has_something(self) -> bool:
        return bool(self._chunks) or self._finished or self._closed

    def _is_enough(self) -> bool:
        return (
            self._size >= min(self._wake_bytes, self.capacity_bytes)
            or self._hurried
            or self._finished
            or self._closed
            # The section that is read has ended, whether bytes of it are left or not.
            or any(not isinstance(chunk, bytes) for chunk in self._ends())
        )

    def _ends(self) -> list[bytes | Section | _BrokenOff]:
        return [self._chunks[0], self._chunks[-1]] if self._chunks else []

    def _wait(self) -> None:
        if self._has_something():
            return  # it came before the lock did, and nobody was told to hurry
        self._reader_waits = True
        self._tell_starving()
        try:
            while not self._has_something() or not self._is_enough():
                self._changed.wait()
        finally:
            self._reader_waits = self._hurried = False

    def _make_room(self) -> None:
        room, self._room = self._room, None
        self._tell(room)

    def _tell_starving(self) -> None:
        starving, self._starving = self._starving, None
        self._tell(starving)

    def _tell(self, waiter: asyncio.Future[None] | None) -> None:
        if waiter is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(_set, waiter)

    # -- either ------------------------------------------------------------------------------------

    def relax(self) -> None:
        """From now on, wake the reader for batches: the first fragment is out."""
        self._wake_bytes = WAKE_BYTES

    def close(self) -> None:
        """Drop everything: `read` returns the end at once, `write` raises.  Idempotent."""
        with self._changed:
            self._closed = True
            self._chunks.clear()
            self._taken = self._size = 0
            self._changed.notify()
            self._make_room()
            self._tell_starving()


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
