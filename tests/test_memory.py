"""Memory that streams have had goes back to the system."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import subprocess
import sys
import weakref

import pytest

from proxy.memory import Tidier
from tests.support.client import TIMEOUT_S

# Blocks as large as a stream's, from threads as many as streams would have, with small things
# between them that live on.  Says how many MiB of RSS they leave.
CHURN = """
import sys, threading
from pathlib import Path
from proxy.memory import give_back, tune

if sys.argv[1] == "tuned":
    tune()
kept = []

def rss_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1024 / 1024

def work(together=lambda: None):
    blocks = []
    for _ in range(60):
        blocks.append(b"x" * 300_000)
        kept.append(b"y" * 600)
    together()

work()  # the first block that is freed is what glibc learns its thresholds from
before = rss_mib()
gate = threading.Barrier(8)

def stream():
    work(gate.wait)

threads = [threading.Thread(target=stream) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
if sys.argv[1] == "tuned":
    give_back()
print(round(rss_mib() - before))
"""


# Twice: blocks between small things that live on, which are freed.  Says what became of their pages
# when a tidier has looked some times.
HOLES = """
import asyncio, sys
from pathlib import Path
from proxy.memory import Tidier, tune

tune()
running, looks, kept = int(sys.argv[1].split()[0]), 0, []

def rss_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1024 / 1024

async def main():
    looked = asyncio.Event()

    def count():
        global looks
        looks += 1
        if looks % 5 == 0:
            looked.set()
        return running

    for _ in range(2):
        blocks = []
        for _ in range(400):
            blocks.append(b"x" * 100_000)
            kept.append(b"y" * 20_000)
        full = rss_mib()
        blocks.clear()
        tidier = Tidier(count, busy_s=0.01)
        looked.clear()
        await looked.wait()
        print("gave back" if rss_mib() < full - 20 else "kept")
        tidier.close()

asyncio.run(main())
"""


class Cycle:
    """Something that only a collection frees."""

    def __init__(self) -> None:
        self.me = self


def has_trim() -> bool:
    """Whether the C library is glibc."""
    return hasattr(ctypes.CDLL(None), "malloc_trim") if os.name == "posix" else False


def told(script: str, how: str) -> str:
    """What a fresh process says."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    return subprocess.run(
        [sys.executable, "-c", script, how],
        env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=TIMEOUT_S,
    ).stdout  # fmt: skip


def left_mib(how: str) -> int:
    return int(told(CHURN, how))


def holes(how: str) -> list[str]:
    return told(HOLES, how).splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="the knobs are glibc's")
def test_tune_lets_threads_leave_nothing() -> None:
    """Of what threads have had, a process that was tuned and gives back keeps next to nothing;
    others keep it."""
    assert left_mib("tuned") <= 4
    assert left_mib("as it is") > 8  # otherwise this has nothing to tell


async def test_ended_tidies_once_for_a_burst() -> None:
    """Many ends are followed by one collection, and the next burst waits for the pause."""
    collections: list[int] = []

    def count(phase: str, told: dict[str, int]) -> None:
        if phase == "start" and told["generation"] == 2:
            collections.append(1)

    tidier = Tidier(lambda: 0, settle_s=0.01, pause_s=3600)
    died = asyncio.Event()
    weakref.finalize(Cycle(), died.set)
    gc.callbacks.append(count)
    try:
        for _ in range(50):
            tidier.note()
        assert not collections  # nothing of it is done where a stream ends
        async with asyncio.timeout(TIMEOUT_S):
            await died.wait()
        assert len(collections) == 1
        tidier.note()
        later = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, later.set)
        await later.wait()
        assert len(collections) == 1
    finally:
        gc.callbacks.remove(count)
        tidier.close()


@pytest.mark.skipif(not has_trim(), reason="the knobs are glibc's")
def test_holes_go_back_while_streams_run() -> None:
    """What came and went between things that stay goes back, without any stream's end, each time;
    where no stream runs, nobody looks."""
    assert holes("2 streams") == ["gave back"] * 2
    assert holes("0 streams") == ["kept"] * 2  # otherwise this has nothing to tell


async def test_closed_tidier_rests() -> None:
    """It looks whether streams run until it is closed, and not after that."""
    asked: list[int] = []
    looked = asyncio.Event()

    def running() -> int:
        asked.append(1)
        if len(asked) == 3:
            looked.set()
        return 0

    tidier = Tidier(running, busy_s=0.01)
    async with asyncio.timeout(TIMEOUT_S):
        await looked.wait()
        tidier.close()
        later = asyncio.Event()
        asyncio.get_running_loop().call_later(0.1, later.set)
        await later.wait()
    assert len(asked) == 3
