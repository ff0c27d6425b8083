"""Secrets go to whom they are for, and nowhere else: neither into logs nor into answers.

Each has a canary in it.  Streams run through success and through every failure, with every logger
at its most talkative, and then nobody may have said a canary.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from proxy.app import App, Settings
from proxy.fetch.client import Fetcher
from proxy.fetch.settings import Settings as FetchSettings
from proxy.guard import signing
from proxy.guard.addresses import AddressPolicy
from proxy.logs import HumanFormatter, JsonFormatter
from proxy.pipeline import Pipeline
from tests.support.client import Reply, ask
from tests.support.clips import make_clip, pieces
from tests.support.origin import (
    Endless,
    Fault,
    Garbage,
    GzipBomb,
    Hangup,
    Origin,
    Raw,
    Redirect,
    Replace,
    Reset,
    Stall,
    Status,
    Truncate,
)
from tests.support.playlists import Entry, media_text, multivariant_text, variant_lines
from tests.support.served import over_aiohttp

CANARY = "c4n4ry"
KEY = b"c4n4ryc4n4ryc4n4"
QUERY = f"token={CANARY}&b=c"
HEADERS = {
    "Authorization": f"Bearer {CANARY}",
    "Cookie": f"session={CANARY}",
    "Referer": f"https://{CANARY}.example/",
    "X-Api-Key": CANARY,
}
SECRET = CANARY * 6


@asynccontextmanager
async def served(origin: Origin) -> AsyncIterator[str]:
    """The real thing, signatures required, with credentials for this origin; not patient."""
    policy = AddressPolicy(
        allowed_hosts=("127.0.0.1",), allowed_ports=(), allow_private_addresses=True
    )
    fetching = FetchSettings(
        policy=policy,
        headers={f"127.0.0.1:{origin.port}": HEADERS},
        backoff_s=(0.0, 0.0),
        segment_bytes=1_000_000,
        read_timeout_s=0.2,
    )
    settings = Settings(
        signing=signing.Settings(keys={"k": SECRET}, required=True), operator_token=SECRET
    )
    async with Fetcher(fetching) as fetcher, Pipeline(fetcher) as pipeline:
        async with over_aiohttp(App(pipeline, settings)) as address:
            yield address


def publish(origin: Origin, media_host: Origin) -> str:
    """Three encrypted segments below a multivariant playlist; every address has a secret query.

    The same as a media playlist and in the clear: `/clear.m3u8`.
    """
    entries, clear = [], []
    for number, piece in enumerate(pieces(make_clip(seconds=3), 1.0)):
        cipher = Cipher(AES128(KEY), CBC(number.to_bytes(16, "big"))).encryptor()
        padder = PKCS7(128).padder()
        padded = padder.update(piece.data) + padder.finalize()
        address = media_host.add(f"/{number}.ts", cipher.update(padded) + cipher.finalize())
        entries.append(Entry(uri=f"{address}?{QUERY}", duration_s=1))
        address = media_host.add(f"/clear/{number}.ts", piece.data)
        clear.append(Entry(uri=f"{address}?{QUERY}", duration_s=1))
    origin.add("/clear.m3u8", media_text(clear))
    key = media_host.add("/key", KEY)
    tag = f'#EXT-X-KEY:METHOD=AES-128,URI="{key}?{QUERY}"'
    for host, path in ((origin, "/media.m3u8"), (media_host, "/moved.m3u8")):
        host.add(path, media_text(entries, head=[tag]))
    linked = f'{{"@type": "VideoObject", "contentUrl": "/main.m3u8?{QUERY}"}}'
    page = f'<!doctype html><script type="application/ld+json">{linked}</script>'
    origin.add("/watch.html", page)
    origin.add("/robots.txt", f"User-agent: {CANARY}\nDisallow: /{CANARY}\n{CANARY}")
    text = multivariant_text(variant_lines(f"media.m3u8?{QUERY}", BANDWIDTH=1))
    return origin.add("/main.m3u8", text) + f"?{QUERY}#{CANARY}"


async def signed(address: str, url: str, route: str = "/stream") -> Reply:
    query = signing.sign({"url": url}, key_id="k", secret=SECRET, expires=int(time.time()) + 60)
    return await ask(address, f"{route}?{query}")


async def shown(address: str) -> str:
    """What the server tells of its streams, to those who have an id and to the operator."""
    operator = (("Authorization", f"Bearer {SECRET}"),)
    listed = await ask(address, "/streams", headers=operator)
    assert listed.json()["streams"]
    targets = [f"/streams/{state['id']}" for state in listed.json()["streams"]]
    targets += [f"{target}/events" for target in targets]
    targets.append("/metrics")
    replies = [listed, *[await ask(address, target) for target in targets]]
    assert {reply.status for reply in replies} == {200}
    return " ".join(f"{reply.headers} {reply.body.decode()}" for reply in replies)


@pytest.fixture
def said() -> Iterator[list[str]]:
    """Everything that anybody logs, as both formats show it, and what it was made of."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(HumanFormatter().format(record))
            lines.append(JsonFormatter().format(record))
            lines.append(repr(record.args))

    root, handler = logging.getLogger(), Keep(logging.DEBUG)
    levels = {"": root.level, "proxy": logging.getLogger("proxy").level}
    root.addHandler(handler)
    for name in levels:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield lines
    root.removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def told(reply: Reply) -> str:
    """What an answer tells besides media."""
    body = "" if reply.status == 200 else reply.body.decode()
    return f"{reply.headers} {body}"


FAULTS: list[Fault] = [
    Status(401),
    Status(403),
    Status(404),
    Status(500),
    Reset(),
    Reset(100),
    Hangup(),
    Truncate(100),
    Stall(),
    Stall(100),
    Garbage(),
    Endless(),
    GzipBomb(20_000_000),
    Replace(f"{CANARY}: the token in {QUERY} does not hold".encode()),
    Replace(f"<html><title>{CANARY}".encode()),
    Replace(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,{CANARY}\n//[{CANARY}\n".encode()),
    Replace(f'#EXTM3U\n#EXT-X-KEY:METHOD=NO,URI="{CANARY}",IV=0x{CANARY}'.encode()),
    Replace(KEY[:-1]),
    Redirect(f"http://user:{CANARY}@127.0.0.1/?{QUERY}"),
    Redirect(f"http://elsewhere.invalid/?{QUERY}"),
    Redirect(f"http://127.0.0.1:1/?{QUERY}"),
    Redirect(f"http://[{CANARY}/?{QUERY}"),
    Redirect(f"ftp://127.0.0.1/?{QUERY}"),
    Redirect(f"?{QUERY}&again"),
    Raw(f"HTTP/1.1 200 OK\r\n{CANARY} {CANARY}\r\n\r\n".encode()),
    Raw(f"{CANARY}\r\n\r\n".encode()),
    Raw(f"HTTP/1.1 200 {CANARY}\r\nContent-Length: {CANARY}\r\n\r\n".encode()),
    Raw(f"HTTP/1.1 206 P\r\nContent-Range: bytes {CANARY}\r\n\r\n".encode()),
    Raw(f"HTTP/1.1 200 OK\r\nContent-Encoding: {CANARY}\r\n\r\na".encode()),
    Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CANARY.encode()),
]


async def test_stream_that_succeeds_tells_no_secret(said: list[str]) -> None:
    """The one line of a stream that went well has an address without its query."""
    async with Origin() as origin, served(origin) as address:
        url = publish(origin, origin)
        reply = await signed(address, url)
        assert (reply.status, reply.ended) == (200, "complete")
        assert CANARY in origin.asked("/1.ts")[0].query
        seen = await shown(address)
    assert [line for line in said if "outcome=complete" in line and "/main.m3u8" in line]
    assert "/main.m3u8" in seen
    assert CANARY not in "\n".join([*said, told(reply), seen])


async def test_page_tells_no_secret(said: list[str]) -> None:
    """A page leads to its stream with the query that it gives, which `inspect` leaves out; a file
    is told without it, too; and robots.txt is nobody's business."""
    async with Origin() as origin, served(origin) as address:
        url = publish(origin, origin).replace("main.m3u8", "watch.html")
        reply = await signed(address, url)
        assert (reply.status, reply.ended) == (200, "complete")
        assert CANARY in origin.asked("/main.m3u8")[0].query
        report = await signed(address, url, "/inspect")
        assert report.json()["page"]["candidates"][0]["url"] == origin.at("/main.m3u8")
        file = f"<!doctype html><video src='/a.mp4?{QUERY}'></video>"
        origin.fault("/watch.html", Replace(file.encode(), content_type="text/html"))
        refused = await signed(address, url)
        assert refused.json()["code"] == "plain_file"
        inspected = await signed(address, url, "/inspect")
    for one in (reply, refused):
        assert CANARY not in told(one)
    assert CANARY.encode() not in report.body + inspected.body
    assert [line for line in said if CANARY in line] == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
async def test_page_that_fails_tells_no_secret(said: list[str], fault: Fault) -> None:
    """Whatever goes wrong with a page or with what it leads to."""
    async with Origin() as origin, served(origin) as address:
        url = publish(origin, origin).replace("main.m3u8", "watch.html")
        for path in ("/watch.html", "/robots.txt", "/main.m3u8"):
            origin.fault(path, fault, times=9)
            assert CANARY not in told(await signed(address, url)), path
            origin.heal()
    assert said
    assert [line for line in said if CANARY in line] == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
async def test_stream_that_fails_tells_no_secret(said: list[str], fault: Fault) -> None:
    """Whatever goes wrong, wherever, is told without secrets: to the log and to the client."""
    async with Origin() as origin, served(origin) as address:
        url = publish(origin, origin)
        clear = url.replace("main", "clear")
        for path in ("/main.m3u8", "/media.m3u8", "/0.ts", "/2.ts", "/key", "/clear/0.ts"):
            origin.fault(path, fault, times=9)
            reply = await signed(address, clear if "clear" in path else url)
            assert (reply.status, reply.ended) != (200, "complete"), path
            assert CANARY not in told(reply), path
            origin.heal()
        assert CANARY not in await shown(address)
    assert said
    assert [line for line in said if CANARY in line] == []


@pytest.mark.parametrize(
    "query",
    [
        f"url=http%3A%2F%2F127.0.0.1%2F%3F{QUERY}",
        f"url={CANARY}",
        f"url=http%3A%2F%2Fuser%3A{CANARY}%40127.0.0.1%2F",
        f"url=http%3A%2F%2F127.0.0.1%2F&expires=1&key_id={CANARY}&signature={CANARY}",
    ],
)
@pytest.mark.parametrize("required", [True, False])
async def test_request_that_is_refused_tells_no_secret(
    said: list[str], query: str, required: bool
) -> None:
    """A query is not echoed, neither to the log nor to whoever sent it."""
    keys = signing.Settings(keys={"k": SECRET}, required=required)
    async with Fetcher() as fetcher, Pipeline(fetcher) as pipeline:
        settings = Settings(signing=keys, operator_token=SECRET)
        async with over_aiohttp(App(pipeline, settings)) as address:
            reply = await ask(address, f"/stream?{query}")
            seen = await shown(address)
    assert reply.status in {400, 403}
    assert [line for line in said if "outcome=invalid_request" in line or "=forbidden" in line]
    assert CANARY not in "\n".join([*said, told(reply), seen])


async def test_credentials_stay_with_their_origin() -> None:
    """Headers for the origin of the playlists go there with each request, and not to the one of
    the segments and keys, to which no redirect leads but the text of a playlist."""
    async with Origin() as origin, Origin() as media_host, served(origin) as address:
        url = publish(origin, media_host)
        origin.fault("/media.m3u8", Redirect(media_host.at("/moved.m3u8")), times=1)
        assert (await signed(address, url)).ended == "complete"
        named = {name.lower(): value for name, value in HEADERS.items()}
        assert [request.path for request in origin.requests] == ["/main.m3u8", "/media.m3u8"]
        assert all(named.items() <= request.headers.items() for request in origin.requests)
        assert {r.path for r in media_host.requests} >= {"/moved.m3u8", "/key", "/0.ts", "/2.ts"}
        for request in media_host.requests:
            assert CANARY not in str(request.headers)
            assert "referer" not in request.headers
