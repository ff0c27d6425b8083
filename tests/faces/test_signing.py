"""Signed URLs over both faces: checked before anything else, and before anything is fetched."""

import time

import pytest

from proxy.app import App, Settings
from proxy.guard import signing
from tests.support.client import ask, stream_target
from tests.support.pipelines import PARTS, ScriptedPipeline
from tests.support.served import Serve

SECRET = "0123456789abcdef" * 2
SIGNED = Settings(signing=signing.Settings(keys={"k": SECRET}, required=True))
WISH = {"url": "http://origin.invalid/a.m3u8?token=1", "quality": "720p"}


def signed(ahead_s: int = 600) -> str:
    return signing.sign(WISH, key_id="k", secret=SECRET, expires=int(time.time()) + ahead_s)


async def test_signed_link_is_answered(serve: Serve) -> None:
    """One link holds for GET and HEAD of the stream, and for what is told of it."""
    pipeline = ScriptedPipeline()
    async with serve(App(pipeline, SIGNED)) as address:
        reply = await ask(address, f"/stream?{signed()}")
        assert (reply.status, reply.body) == (200, b"".join(PARTS))
        assert (await ask(address, f"/stream?{signed()}", method="HEAD")).status == 200
        assert (await ask(address, f"/inspect?{signed()}")).status == 200
        assert (await ask(address, "/healthz")).status == 200
    assert {request.url for request in pipeline.requests} == {WISH["url"]}


@pytest.mark.parametrize("route", ["/stream", "/inspect"])
async def test_refusals_read_alike_and_come_first(serve: Serve, route: str) -> None:
    """Without a signature that holds nothing of the query is judged, and nothing is fetched."""
    pipeline = ScriptedPipeline()
    query = signed()
    bad = [
        "",
        "colour=red",  # no such parameter: a 400 where it may be judged
        "url=http%3A%2F%2Fo%2F%FF",
        query.partition("&signature")[0],
        f"{query}&colour=red",
        f"{query}&url=http%3A%2F%2Fo%2F",
        f"{query}&%73ignature=",
        query.replace("720p", "480p"),
        query.replace("key_id=k", "key_id=nobody"),
        query + "%00",
        stream_target().partition("?")[2],
    ]
    async with serve(App(pipeline, SIGNED)) as address:
        replies = [await ask(address, f"{route}?{text}") for text in bad]
    problems = [reply.json() for reply in replies]
    assert {(p["status"], p["code"], p["detail"]) for p in problems} == {
        (403, "forbidden", signing.REFUSED)
    }
    assert {frozenset(p) for p in problems} == {frozenset(problems[0])}
    assert pipeline.requests == []


async def test_flipped_bits_are_refused_whatever_the_server(serve: Serve) -> None:
    """What the two servers make of odd bytes in a request line lets none through."""
    pipeline = ScriptedPipeline()
    query = signed().encode()
    async with serve(App(pipeline, SIGNED)) as address:
        for at in range(len(query)):
            raw = bytearray(query)
            raw[at] ^= 1 << at % 8
            text = raw.decode("utf-8", "surrogateescape")
            reply = await ask(address, f"/stream?{text}")
            # 400: it is no request line any more, and the server under us says so
            assert reply.status in {400, 403}, (raw, reply.status)
    assert pipeline.requests == []


async def test_expired_link_is_told_so(serve: Serve) -> None:
    """Who had a right link learns why it does not hold any more."""
    async with serve(App(ScriptedPipeline(), SIGNED)) as address:
        reply = await ask(address, f"/stream?{signed(-100)}")
        late = await ask(address, f"/stream?{signed(25 * 3600)}")
    assert (reply.status, reply.json()["detail"]) == (403, signing.EXPIRED)
    assert (late.status, late.json()["detail"]) == (403, signing.REFUSED)


async def test_signature_that_is_not_required_is_checked(serve: Serve) -> None:
    """Without keys, or without need of them, a link that says it is signed must hold."""
    async with serve(App(ScriptedPipeline())) as address:
        assert (await ask(address, stream_target())).status == 200
        assert (await ask(address, f"/stream?{signed()}")).status == 403
        assert (await ask(address, stream_target(key_id="k"))).status == 403
