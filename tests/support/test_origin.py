"""The fault origin itself: what each fault is on the wire, how often, and at which requests."""

import asyncio

import pytest

from tests.support.client import Reply, ask
from tests.support.origin import (
    CloseDelimited,
    Fault,
    Garbage,
    Gzip,
    Hangup,
    NoFinalChunk,
    Origin,
    Redirect,
    Refuse,
    Reset,
    Status,
    Truncate,
    WrongLength,
)

BODY = bytes(range(256)) * 40
PLACES = ("/media.m3u8", "/1.ts", "/key", "/init.mp4")


async def get(origin: Origin, target: str) -> Reply:
    return await ask(origin.url, target)


@pytest.mark.parametrize("path", PLACES)
@pytest.mark.parametrize("code", [403, 404, 410, 429, 500, 503])
async def test_fault_status(code: int, path: str) -> None:
    """Any status is answered at any path, as often as told, and with Retry-After where told."""
    async with Origin() as origin:
        for place in PLACES:
            origin.add(place, BODY)
        origin.fault(path, Status(code, retry_after=7), times=2)
        replies = [await get(origin, path) for _ in range(3)]
        assert [reply.status for reply in replies] == [code, code, 200]
        assert [reply.header("retry-after") for reply in replies] == ["7", "7", None]
        others = [(await get(origin, place)).status for place in PLACES if place != path]
        assert others == [200, 200, 200]


@pytest.mark.parametrize(
    ("fault", "status", "size_bytes", "ended"),
    [
        (Reset(after_bytes=100), 200, 100, "reset"),
        (Hangup(after_bytes=100), 200, 100, "cut"),
        (Truncate(100), 200, 100, "cut"),
        (WrongLength(10), 200, len(BODY), "cut"),
        (WrongLength(-10), 200, len(BODY), "complete"),
        (Garbage(77), 200, 77, "complete"),
        (Gzip(cut_bytes=9), 200, None, "complete"),
        (CloseDelimited(cut_bytes=9), 200, len(BODY) - 9, "closed"),
        (NoFinalChunk(), 200, None, "cut"),
        (Redirect("/1.ts"), 302, 0, "complete"),
    ],
)
async def test_fault_body(fault: Fault, status: int, size_bytes: int | None, ended: str) -> None:
    """Each fault is on the wire what its name says, and heals when it has struck."""
    async with Origin() as origin:
        origin.add("/1.ts", BODY)
        origin.fault("/1.ts", fault, times=1)
        reply = await get(origin, "/1.ts")
        assert (reply.status, reply.ended) == (status, ended)
        assert size_bytes is None or origin.requests[0].sent_bytes == size_bytes
        assert (await get(origin, "/1.ts")).body == BODY


async def test_fault_refuse() -> None:
    """An origin that goes away resets, refuses every connect, and comes back on the same port."""
    async with Origin() as origin:
        origin.add("/1.ts", BODY)
        origin.fault("/1.ts", Refuse(for_s=0.05), times=1)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await get(origin, "/1.ts")
        with pytest.raises(ConnectionRefusedError):
            await get(origin, "/1.ts")
        await origin.until(lambda: origin.listening)
        assert (await get(origin, "/1.ts")).body == BODY


async def test_fault_when() -> None:
    """A fault with a condition strikes only the requests that it is meant for."""
    async with Origin() as origin:
        origin.add("/1.ts", BODY)
        origin.fault("/*.ts", Status(403), when=lambda request: request.query != "token=2")
        statuses = [(await get(origin, f"/1.ts?token={n}")).status for n in (1, 2, 3, 2)]
        assert statuses == [403, 200, 403, 200]
