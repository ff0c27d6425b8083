"""Memory that streams have had goes back to the system."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path

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


class Cycle:
    """Something that only a collection frees."""

    def __init__(self) -> None:
        self.me = self


def left_mib(how: str) -> int:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    ended = subprocess.run(
        [sys.executable, "-c", CHURN, how],
        env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    return int(ended.stdout)


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


def rss_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="the knobs are glibc's")
async def test_holes_go_back_while_streams_run() -> None:
    """What came and went between things that stay is free for others, without any stream's end."""
    tidier = Tidier(lambda: 1, busy_s=0.01)
    try:
        for _ in range(2):  # not only once
            blocks, kept = [], []
            for _ in range(400):
                blocks.append(b"x" * 100_000)
                kept.append(b"y" * 600)
            full_mib = rss_mib()
            blocks.clear()
            async with asyncio.timeout(TIMEOUT_S):
                while rss_mib() > full_mib - 20:  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(0.005)
            assert len(kept) == 400
    finally:
        tidier.close()


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
