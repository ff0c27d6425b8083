"""Signed addresses that expire while a stream is under way, over real HTTP.

The origin honours one token at a time.  The playlist that is loaded again names the same segments,
keys and maps with the newest one, and what comes out is what would have come out without.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from proxy.errors import KeyUnavailable, ProxyError, SourceUnavailable
from proxy.pipeline import StreamRequest
from tests.support.clips import make_clip, pieces
from tests.support.clock import FastClock
from tests.support.fidelity import assert_faithful
from tests.support.fmp4 import make_fmp4
from tests.support.origin import Hangup, Origin, Request, Status
from tests.support.playlists import Entry, media_text, multivariant_text, variant_lines
from tests.support.streams import attempt, pipeline, play, publish_playlist


class Tokens:
    """Which token the origin honours: the last one it gave out, and none after `stop`.

    A text that it signs has `TOKEN` where the number goes.
    """

    def __init__(self, origin: Origin, *, status: int = 403) -> None:
        self._origin = origin
        self._status = status
        self._expiring: set[str] = set()
        self.number = 1
        self.dead = False

    def publish(self, path: str, text: str) -> str:
        """Serve a playlist that signs its addresses anew each time."""
        return self._origin.add(path, lambda _: text.replace("TOKEN", str(self.number)))

    def guard(self, *patterns: str) -> None:
        """Refuse requests of these paths that come with another token."""
        for pattern in patterns:
            self._origin.fault(pattern, Status(self._status), when=self._refuses)

    def expire_at(self, *paths: str) -> None:
        """Let the tokens expire at the first request of each of these paths."""
        self._expiring.update(paths)

    def _refuses(self, request: Request) -> bool:
        if request.path in self._expiring:
            self._expiring.discard(request.path)
            self.number += 1
        return self.dead or request.query != f"token={self.number}"


def signed(count: int, *, tags: Sequence[str] = (), suffix: str = "ts") -> list[Entry]:
    return [
        Entry(uri=f"{number}.{suffix}?token=TOKEN", duration_s=1, tags=tuple(tags))
        for number in range(count)
    ]


def answers(origin: Origin, path: str) -> list[int]:
    return [request.status for request in origin.asked(path)]


CLIP = make_clip()
PARTS = [piece.data for piece in pieces(CLIP, 1.0)]


def serve_parts(origin: Origin) -> None:
    for number, part in enumerate(PARTS):
        origin.add(f"/{number}.ts", part)


@pytest.mark.parametrize("status", [401, 403, 410])
async def test_play_expired_segment(status: int) -> None:
    """A segment whose address has expired comes from the one that the playlist has by now; those
    behind it go there at once, and the playlist is loaded once more only."""
    async with Origin() as origin, pipeline() as one:
        tokens = Tokens(origin, status=status)
        url = tokens.publish("/media.m3u8", media_text(signed(len(PARTS)), playlist_type="VOD"))
        serve_parts(origin)
        tokens.guard("/*.ts")
        tokens.expire_at("/2.ts")
        data = await play(one, url)
        assert_faithful(CLIP.data, data)
        assert len(origin.asked("/media.m3u8")) == 2
        assert answers(origin, "/2.ts") == [status, 200]
        assert [r.query for r in origin.asked("/2.ts")] == ["token=1", "token=2"]


@pytest.mark.parametrize("multivariant", [False, True])
async def test_play_expired_playlist_of_a_page(*, multivariant: bool) -> None:
    """Where the address that a page gave has expired, too, the page is asked for the one of now."""
    async with Origin() as origin, pipeline() as one:
        tokens = Tokens(origin)
        name = "main" if multivariant else "media"
        url = tokens.publish("/watch.html", f"<video src='/{name}.m3u8?token=TOKEN'></video>")
        origin.fault("/robots.txt", Status(404))
        main = multivariant_text(variant_lines("media.m3u8?token=TOKEN", BANDWIDTH=1))
        tokens.publish("/main.m3u8", main)
        tokens.publish("/media.m3u8", media_text(signed(len(PARTS)), playlist_type="VOD"))
        serve_parts(origin)
        tokens.guard("/*.ts", "/*.m3u8")
        tokens.expire_at("/2.ts")
        assert_faithful(CLIP.data, await play(one, url))
        assert len(origin.asked("/watch.html")) == 2
        assert answers(origin, "/media.m3u8") == [200, 403, 200]
        assert answers(origin, "/2.ts") == [403, 200]


async def test_play_expired_again() -> None:
    """Tokens may expire as often as they like."""
    async with Origin() as origin, pipeline(parallel_segments=1) as one:
        tokens = Tokens(origin)
        url = tokens.publish("/media.m3u8", media_text(signed(len(PARTS)), playlist_type="VOD"))
        serve_parts(origin)
        tokens.guard("/*.ts")
        tokens.expire_at("/1.ts", "/3.ts")
        assert_faithful(CLIP.data, await play(one, url))
        assert len(origin.asked("/media.m3u8")) == 3
        assert answers(origin, "/3.ts") == [403, 200]


async def test_play_expired_within_segment() -> None:
    """A segment that broke off goes on behind the same byte, at its new address."""
    async with Origin() as origin, pipeline() as one:
        tokens = Tokens(origin)
        url = tokens.publish("/media.m3u8", media_text(signed(len(PARTS)), playlist_type="VOD"))
        serve_parts(origin)
        origin.fault("/2.ts", Hangup(after_bytes=2000), times=1)
        tokens.expire_at("/2.ts")
        tokens.guard("/*.ts")
        data = await play(one, url)
        assert_faithful(CLIP.data, data)
        first, refused, rest = origin.asked("/2.ts")
        assert (first.sent_bytes, refused.status, rest.status) == (2000, 403, 206)
        assert rest.headers["range"] == "bytes=2000-"


async def test_play_expired_without_help() -> None:
    """Where the playlist has no other address the stream is cut; it is loaded once for that."""
    async with Origin() as origin, pipeline() as one:
        url = publish_playlist(origin, signed(len(PARTS)))
        serve_parts(origin)
        origin.fault("/[12].ts", Status(403))
        played = await attempt(one, url)
        assert isinstance(played.error, SourceUnavailable)
        assert len(origin.asked("/media.m3u8")) == 2
        assert played.parts


async def test_play_expired_for_good() -> None:
    """An origin that honours none of its tokens any more is asked for new ones once a segment."""
    async with Origin() as origin, pipeline() as one:
        tokens = Tokens(origin)
        url = tokens.publish("/media.m3u8", media_text(signed(len(PARTS)), playlist_type="VOD"))
        serve_parts(origin)
        origin.fault("/1.ts", Status(403))
        played = await attempt(one, StreamRequest(url=url))
        assert isinstance(played.error, SourceUnavailable)
        assert len(origin.asked("/media.m3u8")) == 2


async def test_play_refused_at_the_start() -> None:
    """Before the first segment the playlist is fresh: a refusal is answered at once."""
    async with Origin() as origin, pipeline() as one:
        url = publish_playlist(origin, signed(len(PARTS)))
        serve_parts(origin)
        origin.fault("/0.ts", Status(403))
        with pytest.raises(SourceUnavailable):
            await play(one, url)
        assert (answers(origin, "/media.m3u8"), answers(origin, "/0.ts")) == ([200], [403])


async def test_play_expired_while_skipping() -> None:
    """A stream that skips what it cannot have does not load the playlist for each segment."""
    async with Origin() as origin, pipeline(segment_attempts=1) as one:
        url = publish_playlist(origin, signed(len(PARTS)))
        serve_parts(origin)
        origin.fault("/[12].ts", Status(403))
        played = await attempt(one, StreamRequest(url=url, on_gap="skip"))
        assert played.error is None
        assert len(origin.asked("/media.m3u8")) == 2


async def test_play_expired_playlist() -> None:
    """Where the media playlist's address has expired, the multivariant playlist has a new one."""
    async with Origin() as origin, pipeline() as one:
        tokens = Tokens(origin)
        text = multivariant_text(variant_lines("media.m3u8?token=TOKEN", BANDWIDTH=1))
        url = tokens.publish("/master.m3u8", text)
        tokens.publish("/media.m3u8", media_text(signed(len(PARTS)), playlist_type="VOD"))
        serve_parts(origin)
        tokens.guard("/*.ts", "/media.m3u8")
        tokens.expire_at("/2.ts")
        assert_faithful(CLIP.data, await play(one, url))
        assert answers(origin, "/master.m3u8") == [200, 200]
        assert answers(origin, "/media.m3u8") == [200, 403, 200]


async def test_play_expired_playlist_of_another_choice() -> None:
    """A multivariant playlist that offers something else by now does not change what is played."""
    async with Origin() as origin, pipeline() as one:
        tokens = Tokens(origin)
        texts = [
            multivariant_text(variant_lines("media.m3u8?token=TOKEN", BANDWIDTH=n)) for n in (1, 2)
        ]
        url = origin.add(
            "/master.m3u8", lambda _: texts.pop(0).replace("TOKEN", str(tokens.number))
        )
        tokens.publish("/media.m3u8", media_text(signed(len(PARTS)), playlist_type="VOD"))
        serve_parts(origin)
        tokens.guard("/*.ts", "/media.m3u8")
        tokens.expire_at("/2.ts")
        played = await attempt(one, url)
        assert isinstance(played.error, ProxyError)
        assert answers(origin, "/media.m3u8") == [200, 403]


# -- keys and maps ---------------------------------------------------------------------------------


def encrypted(data: bytes, key: bytes, iv: bytes) -> bytes:
    padder = PKCS7(128).padder()
    cipher = Cipher(AES128(key), CBC(iv)).encryptor()
    return cipher.update(padder.update(data) + padder.finalize()) + cipher.finalize()


def serve_encrypted(origin: Origin, tokens: Tokens) -> str:
    """Serve the clip with a key for each segment, whose addresses are signed."""
    entries = []
    for number, part in enumerate(PARTS):
        key = os.urandom(16)
        origin.add(f"/{number}.key", key)
        origin.add(f"/{number}.ts", encrypted(part, key, number.to_bytes(16, "big")))
        tag = f'#EXT-X-KEY:METHOD=AES-128,URI="{number}.key?token=TOKEN"'
        entries.append(Entry(uri=f"{number}.ts", duration_s=1, tags=(tag,)))
    tokens.guard("/*.key")
    return tokens.publish("/media.m3u8", media_text(entries, playlist_type="VOD"))


async def test_play_expired_key() -> None:
    """A key whose address has expired comes from its new one, and so do those behind it."""
    async with Origin() as origin, pipeline(parallel_segments=1) as one:
        tokens = Tokens(origin)
        url = serve_encrypted(origin, tokens)
        tokens.expire_at("/1.key")
        assert_faithful(CLIP.data, await play(one, url))
        assert answers(origin, "/1.key")[-1] == 200
        assert answers(origin, "/3.key") == [200]
        assert len(origin.asked("/media.m3u8")) == 2


async def test_play_expired_key_without_help() -> None:
    """A key that is refused at its new address, too, cuts the stream."""
    async with Origin() as origin, pipeline() as one:
        url = serve_encrypted(origin, Tokens(origin))
        origin.fault("/2.key", Status(403))
        assert isinstance((await attempt(one, url)).error, KeyUnavailable)
        assert len(origin.asked("/media.m3u8")) == 2


async def test_play_expired_map() -> None:
    """A map whose address has expired comes from its new one."""
    clip = make_fmp4()
    async with Origin() as origin, pipeline() as one:
        tokens = Tokens(origin)
        half = len(clip.segments) // 2
        entries = []
        for number, part in enumerate(clip.segments):
            tags = [f'#EXT-X-MAP:URI="{name}.mp4?token=TOKEN"' for name in ("a", "b")]
            index = {0: 0, half: 1}.get(number)
            origin.add(f"/{number}.m4s", part)
            entries.append(
                Entry(
                    uri=f"{number}.m4s",
                    duration_s=4 / len(clip.segments),
                    tags=() if index is None else (tags[index],),
                )
            )
        origin.add("/a.mp4", clip.init)
        origin.add("/b.mp4", clip.init)
        url = tokens.publish("/media.m3u8", media_text(entries, playlist_type="VOD"))
        control = await play(one, url)
        tokens.guard("/*.mp4")
        tokens.expire_at("/b.mp4")
        assert await play(one, url) == control
        assert answers(origin, "/b.mp4") == [200, 403, 200]


# -- live ------------------------------------------------------------------------------------------


async def test_play_expired_live() -> None:
    """A live playlist is loaded between its reloads, if a token needs it."""
    clock = FastClock()
    async with Origin() as origin, pipeline(clock=clock) as one:
        tokens = Tokens(origin)
        count = len(PARTS)
        loads = 0

        def playlist(_: Request) -> str:
            nonlocal loads
            loads += 1
            text = media_text(
                signed(count), target_duration_s=1, playlist_type="EVENT", ended=loads > 1
            )
            return text.replace("TOKEN", str(tokens.number))

        url = origin.add("/media.m3u8", playlist)
        serve_parts(origin)
        tokens.guard("/*.ts")
        tokens.expire_at("/2.ts")
        assert_faithful(CLIP.data, await play(one, url))
        assert answers(origin, "/2.ts") == [403, 200]
