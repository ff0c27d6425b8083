"""What a process that serves does so that memory which streams have had goes back to the system.

The C library keeps what was freed, in the hope that it is wanted again, and Python keeps what sits
in reference cycles until a collection.  For a server of streams, which come and go in crowds, both
are wrong: fifty of them left three quarters of what they had taken.  So a server calls `tune` when
it begins, and tells a `Tidier` of every stream that has ended.  Neither is for a library: the
allocator and the collector belong to the program, and that is somebody else's.

glibc alone has these knobs; elsewhere nothing is turned, and only the collection is left.
Runs on the event loop.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import gc
import logging
import os
from collections.abc import Callable

__all__ = ["Tidier", "give_back", "tune"]

logger = logging.getLogger(__name__)

# mallopt(3).  One arena: glibc makes up to eight for each core, one for each thread of a stream,
# and what is free in one is of no use to the others.  The thresholds stand still, which glibc would
# raise up to 32 MiB by itself.  What is larger than the first one is mapped, and goes back when it
# is freed; but each of its pages is a fault and a clearing, so chunks from a socket
# (`fetch.connection.LONG_READ_BYTES`) and fragments stay below it: with glibc's own 128 KiB, one
# stream at full speed took 5.4 ms of CPU per MB, and 3.5 with this.  What they leave in the heap,
# between small things that live on, `Tidier` gives back.
MMAP_THRESHOLD_BYTES = 1024 * 1024
TRIM_THRESHOLD_BYTES = 4 * 1024 * 1024
_OPTIONS = {
    -8: 1,  # M_ARENA_MAX
    -3: MMAP_THRESHOLD_BYTES,  # M_MMAP_THRESHOLD
    -1: TRIM_THRESHOLD_BYTES,  # M_TRIM_THRESHOLD
}
# Containers that are made before Python looks for cycles among the youngest, and how often it looks
# further.  A stream makes hundreds for every batch and next to no cycles: with Python's 700 the
# collector took 4 % of the CPU.
_GENERATIONS = (10_000, 20, 20)
_OVERRIDES = ("MALLOC_", "GLIBC_TUNABLES")  # of the operator, who knows better

# A burst of ends is one affair: it is tidied up behind so long after its first one, and the next
# one not before so long after that.
SETTLE_S = 1.0
PAUSE_S = 1.0
# While streams run, fragments of many sizes come and go, and leave holes: with fifty streams at the
# pace of their clients a quarter of the heap, and two fifths under uvicorn, which copies them.
BUSY_S = 2.0


def tune() -> None:
    """Tell allocator and collector that this process is a server; call it before any thread is
    started, and when everything is imported."""
    if not any(name.startswith(_OVERRIDES) for name in os.environ):
        mallopt = getattr(_libc(), "mallopt", None)
        for option, value in _OPTIONS.items():
            if mallopt is not None and not mallopt(option, value):
                logger.debug("mallopt(%d, %d) was refused", option, value)
    gc.set_threshold(*_GENERATIONS)
    gc.collect()
    gc.freeze()  # what is there now stays: no collection looks at it again


def give_back() -> int:
    """Collect cycles, and give what is free back to the system; returns how many objects were in
    cycles."""
    found = gc.collect()
    trim()
    return found


def trim() -> None:
    """Give what is free back to the system: whole pages of it, wherever they are in the heap."""
    malloc_trim = getattr(_libc(), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


class Tidier:
    """Collects cycles and gives free memory back, once for each burst of streams that let go of it;
    and gives back what is free from time to time while streams run.

    Made on the event loop; works until it is closed.

    Args:
        running: tells how many streams there are.
        settle_s: from the first end of a burst until then.
        pause_s: least time between one and the next.
        busy_s: from one time to the next while streams run.
    """

    def __init__(
        self,
        running: Callable[[], int],
        *,
        settle_s: float = SETTLE_S,
        pause_s: float = PAUSE_S,
        busy_s: float = BUSY_S,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._running = running
        self._settle_s = settle_s
        self._pause_s = pause_s
        self._busy_s = busy_s
        self._burst: asyncio.TimerHandle | None = None
        self._done_s = float("-inf")
        self._holes = self._loop.call_later(busy_s, self._trim)

    def note(self) -> None:
        """Note that a stream has ended, or holds less than before."""
        if self._burst is None:
            when_s = max(self._loop.time() + self._settle_s, self._done_s + self._pause_s)
            self._burst = self._loop.call_at(when_s, self._tidy)

    def close(self) -> None:
        """Do nothing any more."""
        self._holes.cancel()
        if self._burst is not None:
            self._burst.cancel()

    def _tidy(self) -> None:
        began_s = self._loop.time()
        found = give_back()
        self._burst = None
        self._done_s = self._loop.time()
        logger.debug("tidied up: %d objects, %.1f ms", found, (self._done_s - began_s) * 1000)

    def _trim(self) -> None:
        if self._running():
            began_s = self._loop.time()
            trim()
            logger.debug("gave holes back: %.1f ms", (self._loop.time() - began_s) * 1000)
        self._holes = self._loop.call_later(self._busy_s, self._trim)


@functools.cache
def _libc() -> ctypes.CDLL | None:
    """The C library, where it is one that has been loaded already."""
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
