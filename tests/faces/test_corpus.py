"""All presentations of the public corpus over HTTP, through both faces.

What has to come out of each stands in `tests/test_corpus.py`, which looks closer; here it is what a
client sees: status, headers, body, and whether the end was one.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.client import TIMEOUT_S, Reply, ask, stream_target
from tests.support.clock import FastClock
from tests.support.origin import Origin, Request
from tests.support.served import Serve, real_app
from tests.test_corpus import (
    LIVE,
    NEGATIVE,
    POSITIVE,
    ROBUSTNESS,
    Manifest,
    assert_equal_payload,
    manifest,
    payload,
)

__all__ = ["manifest", "payload"]  # fixtures


async def fetched(serve: Serve, corpus: Path, entry: str) -> Reply:
    """Ask a face for a presentation."""
    async with Origin() as origin, real_app() as app, serve(app) as address:
        origin.add_folder(corpus)
        reply = await ask(address, stream_target(origin.at(f"/{entry}")))
        await asyncio.wait_for(app.idle(), TIMEOUT_S)
        return reply


@pytest.mark.parametrize("entry", POSITIVE)
async def test_positive(
    serve: Serve,
    entry: str,
    corpus: Path,
    manifest: Manifest,
    payload: ModuleType,
    tmp_path: Path,
) -> None:
    """It arrives whole, and the response ends as whole ones do."""
    reply = await fetched(serve, corpus, entry)
    assert (reply.status, reply.ended) == (200, "complete")
    path = tmp_path / "one.mp4"
    path.write_bytes(reply.body)
    assert_equal_payload(payload, manifest[entry]["expected"], path)


@pytest.mark.parametrize("entry", NEGATIVE)
async def test_negative(serve: Serve, entry: str, corpus: Path) -> None:
    """It is refused with a status and a problem that names the code."""
    reply = await fetched(serve, corpus, entry)
    assert reply.status in {422, 502}
    assert (reply.header("content-type") or "").startswith("application/problem+json")
    assert reply.json()["code"] == NEGATIVE[entry]


@pytest.mark.parametrize("entry", ROBUSTNESS)
async def test_robustness(serve: Serve, entry: str, corpus: Path) -> None:
    """It arrives whole, or the connection is cut."""
    reply = await fetched(serve, corpus, entry)
    assert reply.status == 200
    assert reply.ended == ("complete" if ROBUSTNESS[entry] is None else "cut")


async def test_live(
    serve: Serve,
    corpus: Path,
    manifest: Manifest,
    payload: ModuleType,
    tmp_path: Path,
) -> None:
    """Snapshots of a live playlist under one address: every segment once, until the end."""
    clock = FastClock()
    began_s = clock.now_s

    def snapshot(request: Request) -> bytes:
        number = min(int((clock.now_s - began_s) / 7), 3)
        return (corpus / "live-bbb360" / f"live-0{number}.m3u8").read_bytes()

    async with Origin() as origin, real_app(clock=clock.clock) as app, serve(app) as address:
        origin.add_folder(corpus)
        url = origin.add("/live-bbb360/live.m3u8", snapshot)
        reply = await ask(address, stream_target(url))
    assert (reply.status, reply.ended) == (200, "complete")
    path = tmp_path / "one.mp4"
    path.write_bytes(reply.body)
    assert_equal_payload(payload, manifest[LIVE[0]]["expected"], path)
