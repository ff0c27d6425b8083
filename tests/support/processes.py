"""Other processes, seen from outside."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from tests.support.client import TIMEOUT_S


def children(process: int) -> set[int]:
    """The processes that `process` has started and that run."""
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return {child for child in map(int, text.split()) if state(child) not in "XZ"}


def state(process: int) -> str:
    """One letter, as ps shows it: R S D T; Z and X for one that has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


async def until_state(processes: Iterable[int], states: str) -> None:
    """Wait until each of these, none of them a child of ours, is in one of these states."""
    async with asyncio.timeout(TIMEOUT_S):
        for process in processes:
            while state(process) not in states:  # noqa: ASYNC110 - nobody else tells us
                await asyncio.sleep(0.01)


async def until_gone(processes: Iterable[int]) -> None:
    await until_state(processes, "XZ")


@contextlib.asynccontextmanager
async def stopped(processes: Iterable[int]) -> AsyncIterator[None]:
    """Let these do nothing meanwhile."""
    held = list(processes)
    for process in held:
        os.kill(process, signal.SIGSTOP)
    await until_state(held, "T")
    try:
        yield
    finally:
        for process in held:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)
