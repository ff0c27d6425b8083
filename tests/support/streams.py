"""A real pipeline in front of a fault origin, and what a test does with its streams.

async with Origin() as origin, pipeline() as one:
    address = publish(origin, make_clip())
    data = await play(one, address)
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from proxy.errors import ProxyError, StreamAborted
from proxy.fetch.client import Fetcher
from proxy.fetch.settings import Settings as FetchSettings
from proxy.guard.addresses import AddressPolicy
from proxy.pipeline import MediaStream, Pipeline, Settings, StreamRequest
from tests.support.clips import Clip, pieces
from tests.support.clock import FastClock
from tests.support.origin import Origin
from tests.support.playlists import Entry, media_text

GUARD_S = 20.0


@asynccontextmanager
async def pipeline(
    settings: Settings | None = None,
    *,
    clock: FastClock | None = None,
    crowd: Callable[[], int] | None = None,
    **fetching: Any,
) -> AsyncIterator[Pipeline]:
    """A pipeline that may fetch from loopback, and is not patient with it."""
    told = {"backoff_s": (0.0, 0.0), "read_timeout_s": 5.0, **fetching}
    policy = AddressPolicy(allow_private_addresses=True, allowed_ports=())
    async with (
        Fetcher(FetchSettings(policy=policy, **told)) as fetcher,
        Pipeline(fetcher, settings, clock=clock.clock if clock else None, crowd=crowd) as one,
    ):
        yield one


@dataclass(slots=True)
class Played:
    """What a stream gave."""

    parts: list[bytes] = field(default_factory=list)
    error: ProxyError | None = None  # what cut it

    @property
    def data(self) -> bytes:
        return b"".join(self.parts)


async def play(one: Pipeline, request: StreamRequest | str) -> bytes:
    """Play a stream to its end; raises where it breaks."""
    played = await attempt(one, request)
    if played.error is not None:
        raise StreamAborted(played.error)
    return played.data


async def attempt(one: Pipeline, request: StreamRequest | str) -> Played:
    """Play a stream to its end, or to where it is cut."""
    wanted = StreamRequest(url=request) if isinstance(request, str) else request
    played = Played()
    async with asyncio.timeout(GUARD_S), await one.open_stream(wanted) as stream:
        await read(stream, played)
    return played


async def read(stream: MediaStream, played: Played) -> None:
    """Read a stream to its end, or to where it is cut."""
    try:
        async for part in stream:
            played.parts.append(part)
    except StreamAborted as aborted:
        played.error = aborted.cause


def publish(
    origin: Origin,
    clip: Clip,
    *,
    target_s: float = 1.0,
    prefix: str = "/",
    ended: bool = True,
    times: int = 1,
) -> str:
    """Serve a clip as a VOD: `media.m3u8` and `0.ts`, `1.ts`, ... behind `prefix`; the playlist
    names all of it so many `times`, a discontinuity in between."""
    entries = []
    for number, piece in enumerate(pieces(clip, target_s)):
        origin.add(f"{prefix}{number}.ts", piece.data)
        entries.append(Entry(uri=f"{number}.ts", duration_s=round(piece.duration_s, 3)))
    again = [replace(entries[0], tags=("#EXT-X-DISCONTINUITY",)), *entries[1:]]
    return publish_playlist(origin, entries + again * (times - 1), prefix=prefix, ended=ended)


def publish_playlist(
    origin: Origin,
    entries: Sequence[Entry | str],
    *,
    prefix: str = "/",
    ended: bool = True,
    head: Sequence[str] = (),
) -> str:
    """Serve a playlist of what is there already."""
    text = media_text(entries, ended=ended, playlist_type="VOD" if ended else None, head=head)
    return origin.add(f"{prefix}media.m3u8", text)


# -- what is left ----------------------------------------------------------------------------------


def workers() -> list[str]:
    """The worker threads that are left; one that has just told its end gets the time to return."""
    threads = [one for one in threading.enumerate() if one.name.startswith("remuxd")]
    for thread in threads:
        thread.join(1.0)
    return [thread.name for thread in threads if thread.is_alive()]


def own_tasks() -> set[str]:
    """The tasks of the proxy that have not ended, by where they are."""
    return {
        str(task.get_coro())
        for task in asyncio.all_tasks()
        if "/proxy/" in getattr(getattr(task.get_coro(), "cr_code", None), "co_filename", "")
    }


def resident_bytes() -> int:
    """How much memory the process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Resources:
    """What the process holds now."""

    threads: int
    files: int
    tasks: int
    resident_bytes: int

    @classmethod
    def now(cls) -> Resources:
        workers()
        gc.collect()
        return cls(
            threads=threading.active_count(),
            files=len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - names only
            tasks=len(asyncio.all_tasks()),
            resident_bytes=resident_bytes(),
        )
