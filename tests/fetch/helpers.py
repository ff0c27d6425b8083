"""Builders for the tests of the fetch room."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from proxy.fetch import Settings
from proxy.guard.addresses import AddressPolicy
from proxy.hls.model import ByteRange, Segment

LOOPBACK = AddressPolicy(allow_private_addresses=True, allowed_ports=())


def quick(**changes: Any) -> Settings:
    """Settings that reach a fault origin and lose no time between attempts."""
    wanted: dict[str, Any] = {"policy": LOOPBACK, "backoff_s": (0.001, 0.002)} | changes
    return Settings(**wanted)


def segment(uri: str, sequence: int = 0, *, byte_range: ByteRange | None = None) -> Segment:
    """A segment of 4 s."""
    return Segment(
        uri=uri,
        duration_s=4.0,
        sequence=sequence,
        discontinuity_sequence=0,
        byte_range=byte_range,
    )


async def source(*uris: str) -> AsyncIterator[Segment]:
    """The segments of a playlist that is all there."""
    for sequence, uri in enumerate(uris):
        yield segment(uri, sequence)


@dataclass
class Collector:
    """A sink that keeps what it gets, and stands still while `open` is not set."""

    calls: list[str] = field(default_factory=list)
    parts: dict[int, bytearray] = field(default_factory=dict)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    fails_at: int | None = None  # bytes
    current: int = -1
    written: int = 0
    busy: bool = False

    def __post_init__(self) -> None:
        self.open.set()

    async def begin(self, segment: Segment) -> None:
        self.current = segment.sequence
        self.parts[self.current] = bytearray()
        self.calls.append(f"begin {self.current}")

    async def write(self, chunk: bytes) -> None:
        assert not self.busy, "two writers at a time"
        assert chunk, "an empty chunk"
        self.busy = True
        self.parts[self.current] += chunk
        self.written += len(chunk)
        if self.fails_at is not None and self.written >= self.fails_at:
            raise ArithmeticError("the sink is broken")
        await self.open.wait()
        self.busy = False

    async def end(self, segment: Segment) -> None:
        assert segment.sequence == self.current
        self.calls.append(f"end {self.current}")

    async def lost(self, segment: Segment) -> None:
        self.calls.append(f"lost {segment.sequence}")

    @property
    def body(self) -> bytes:
        """Everything, in the order in which it came."""
        return b"".join(bytes(part) for part in self.parts.values())


async def settled(rounds: int = 50) -> None:
    """Let everything run that can run without waiting for anybody else."""
    for _ in range(rounds):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool], *, timeout_s: float = 10.0) -> None:
    """Let everything run until `condition()` holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - whatever it asks about tells nobody
            await asyncio.sleep(0)
