"""The address guard over real HTTP: a forbidden place is neither reached nor told about.

`OPEN` lets the proxy fetch from 127.0.0.1 and from nowhere else; the origin that must not be
reached listens on 127.0.0.2, or is 127.0.0.1 where nothing but public addresses is open.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from proxy.guard.addresses import AddressPolicy
from tests.support.client import Reply, ask, stream_target
from tests.support.clips import make_clip, pieces
from tests.support.fmp4 import make_fmp4
from tests.support.origin import Origin, Redirect
from tests.support.playlists import (
    Entry,
    media_text,
    multivariant_text,
    rendition_tag,
    variant_lines,
)
from tests.support.served import ONLY_LOOPBACK, Serve, real_app

PUBLIC = AddressPolicy(allowed_ports=())
OPEN = AddressPolicy(allowed_networks=("127.0.0.1/32",), allowed_ports=())
GUARD_S = 0.5  # ten times the 50 ms in which a refusal is promised

PARTS = [piece.data for piece in pieces(make_clip(), 1.0)]

# Hosts that some parser, libc or resolver reads as loopback, or that carry it somewhere.
SPELLINGS = [
    "127.0.0.1",
    "localhost",
    "LOCALHOST",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "0",
    "0.0.0.0",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::127.0.0.1]",
    "[2002:7f00:1::]",
    "127\u30020\u30020\u30021",  # ideographic full stops
    "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460",  # circled digits
    "\uff11\uff12\uff17.0.0.1",  # fullwidth digits
    "loc\u00adalhost",  # a soft hyphen, which IDNA drops
    "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3",  # circled letters
]


def told(reply: Reply) -> dict[str, Any]:
    """A problem without what is different each time."""
    return {name: value for name, value in reply.json().items() if name != "stream"}


async def refused(address: str, url: str) -> dict[str, Any]:
    began_s = asyncio.get_running_loop().time()
    reply = await ask(address, stream_target(url))
    assert reply.status == 403, url
    assert asyncio.get_running_loop().time() - began_s < GUARD_S
    return told(reply)


async def test_spellings_are_refused_alike(serve: Serve) -> None:
    """However loopback is spelled, nobody is connected to, and the answer is that for any other
    forbidden place: no port can be found out, nor what is there."""
    async with Origin() as origin, real_app(policy=PUBLIC) as app, serve(app) as address:
        answers = [await refused(address, "http://10.0.0.1/")]  # nobody there
        answers += [await refused(address, "http://127.0.0.1:1/")]  # nobody listens
        answers += [
            await refused(address, f"http://{host}:{origin.port}/a.m3u8") for host in SPELLINGS
        ]
        assert all(answer == answers[0] for answer in answers)
        assert origin.connections == []
        assert app.active == 0


async def test_userinfo_is_refused(serve: Serve) -> None:
    """An address with userinfo is refused as a parameter, and behind one that is good."""
    async with Origin() as origin, real_app(policy=OPEN) as app, serve(app) as address:
        there = f"http://me@127.0.0.1:{origin.port}/a.ts"
        assert (await ask(address, stream_target(there))).status == 400
        assert origin.connections == []
        await refused(address, origin.add("/a.m3u8", media_text([there])))
        assert origin.asked("/a.ts") == []


# -- every kind of request -------------------------------------------------------------------------


def _media(origin: Origin, *entries: Entry) -> str:
    return origin.add("/media.m3u8", media_text(entries, playlist_type="VOD"))


def playlist(_: Origin, there: str) -> str:
    return f"{there}/media.m3u8"


def variant(origin: Origin, there: str) -> str:
    text = multivariant_text(variant_lines(f"{there}/media.m3u8", BANDWIDTH=1))
    return origin.add("/master.m3u8", text)


def rendition(origin: Origin, there: str) -> str:
    origin.add("/0.ts", PARTS[0])
    _media(origin, Entry(uri="0.ts"))
    text = multivariant_text(
        rendition_tag(NAME="other", DEFAULT=True, URI=f"{there}/media.m3u8"),
        variant_lines("media.m3u8", BANDWIDTH=1, AUDIO="a"),
    )
    return origin.add("/master.m3u8", text)


def segment(origin: Origin, there: str) -> str:
    return _media(origin, Entry(uri=f"{there}/0.ts"))


def key(origin: Origin, there: str) -> str:
    padder = PKCS7(128).padder()
    cipher = Cipher(AES128(bytes(16)), CBC(bytes(16))).encryptor()
    origin.add("/0.ts", cipher.update(padder.update(PARTS[0]) + padder.finalize()))
    tag = f'#EXT-X-KEY:METHOD=AES-128,URI="{there}/key"'
    return _media(origin, Entry(uri="0.ts", tags=(tag,)))


def init_section(origin: Origin, there: str) -> str:
    origin.add("/0.m4s", make_fmp4().segments[0])
    return _media(origin, Entry(uri="0.m4s", tags=(f'#EXT-X-MAP:URI="{there}/init.mp4"',)))


PLACES = [playlist, variant, rendition, segment, key, init_section]
Place = Callable[[Origin, str], str]


@pytest.mark.parametrize("place", PLACES)
async def test_each_kind_of_address_is_checked(serve: Serve, place: Place) -> None:
    """A forbidden address is refused wherever it stands, before the first byte with a 403."""
    async with (
        Origin() as origin,
        Origin(host="127.0.0.2") as forbidden,
        real_app(policy=OPEN) as app,
        serve(app) as address,
    ):
        assert (await refused(address, place(origin, forbidden.url)))["code"] == "forbidden"
        assert forbidden.connections == []
        assert app.active == 0


@pytest.mark.parametrize("hops", [1, 3])
@pytest.mark.parametrize("place", PLACES)
async def test_each_hop_is_checked(serve: Serve, place: Place, hops: int) -> None:
    """So is what an allowed address redirects to, at the first hop and at a later one."""
    async with (
        Origin() as origin,
        Origin() as middle,
        Origin(host="127.0.0.2") as forbidden,
        real_app(policy=OPEN) as app,
        serve(app) as address,
    ):
        for _ in range(hops - 1):
            middle.fault("*", Redirect(middle.at("/again")), times=1)
        middle.fault("*", Redirect(forbidden.at("/secret")))
        assert (await refused(address, place(origin, middle.url)))["code"] == "forbidden"
        assert len(middle.requests) % hops == 0
        assert middle.requests
        assert forbidden.connections == []


async def test_later_segment_is_checked(serve: Serve) -> None:
    """A forbidden address behind the first bytes cuts the stream, and is not connected to."""
    async with (
        Origin() as origin,
        Origin(host="127.0.0.2") as forbidden,
        real_app(policy=OPEN) as app,
        serve(app) as address,
    ):
        for number, part in enumerate(PARTS):
            origin.add(f"/{number}.ts", part)
        good = [Entry(uri=f"{number}.ts", duration_s=1) for number in range(3)]
        gate = origin.hold("/2.ts")
        asking = asyncio.create_task(
            ask(address, stream_target(_media(origin, *good, Entry(uri=forbidden.at("/3.ts")))))
        )
        await gate.reached()
        gate.open()
        reply = await asking
        assert (reply.status, reply.ended) in {(200, "cut"), (403, "complete")}
        assert forbidden.connections == []


# -- ourselves -------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "0", "[::ffff:127.0.0.1]"])
async def test_own_listener_is_refused(serve: Serve, host: str) -> None:
    """We do not fetch from ourselves, by whatever address, with private addresses open or not."""
    policy = AddressPolicy(allowed_ports=(), allow_private_addresses=True)
    async with Origin() as origin, real_app(policy=policy) as app, serve(app) as address:
        port = address.rpartition(":")[2]
        own = await refused(address, f"http://{host}:{port}/healthz")
        text = media_text([f"http://{host}:{port}/healthz"])
        assert await refused(address, origin.add("/media.m3u8", text)) == own


async def test_own_host_is_no_obstacle(serve: Serve) -> None:
    """Other ports of the same machine are other servers."""
    async with Origin() as origin, real_app(policy=ONLY_LOOPBACK) as app, serve(app) as address:
        origin.add("/0.ts", PARTS[0])
        reply = await ask(address, stream_target(_media(origin, Entry(uri="0.ts"))))
        assert (reply.status, reply.ended) == (200, "complete")
