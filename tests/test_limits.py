"""What is made to hurt, from a real origin to a real client: a code of its own for each limit, and
neither memory nor seconds.

The limits are the defaults, as an operator has them who did nothing.  Each is tested to the last
byte where it stands (`hls/test_parse.py`, `fetch/test_client.py`); here is what comes of it.
"""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from proxy.app import App
from tests.support.client import Reply, ask, stream_target
from tests.support.clips import make_clip
from tests.support.origin import Endless, Fault, GzipBomb, Origin, Raw, Redirect, Stall
from tests.support.playlists import media_text
from tests.support.served import over_aiohttp
from tests.support.streams import pipeline, publish

MIB = 1024 * 1024
MOST_BYTES = 16 * MIB  # of memory, at the origin and in the proxy together
PROMISED_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n"
SEGMENT = ["#EXTINF:1,", "/0.ts"]


def media(lines: Iterable[str]) -> bytes:
    return "\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:6", *lines, "#EXT-X-ENDLIST"]).encode()


def multivariant(lines: Iterable[str]) -> bytes:
    return "\n".join(["#EXTM3U", *lines]).encode()


# Playlists, by what is too much in them, and the code that they must come to.
TEXTS = {
    "a million segments": (b"#EXTM3U\n" + b"#EXTINF:1,\n0\n" * 1_000_000, "playlist_too_large"),
    "lines": (media(SEGMENT * 200_000), "too_many_lines"),
    "comments": (media(["#"] * 200_000), "too_many_lines"),
    "segments": (media(SEGMENT * 50_001), "too_many_segments"),
    "a line": (media(["#EXTINF:1," + "a" * 16_384, "/0.ts"]), "line_too_long"),
    "keys": (
        media(f'#EXT-X-KEY:METHOD=AES-128,URI="{n}"' for n in range(1_001)),
        "too_many_keys",
    ),
    "variants": (
        multivariant(f"#EXT-X-STREAM-INF:BANDWIDTH={n}\n{n}" for n in range(101)),
        "too_many_variants",
    ),
    "variants for trick play": (
        multivariant(f'#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI="{n}"' for n in range(101)),
        "too_many_variants",
    ),
    "renditions": (
        multivariant(f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="{n}"' for n in range(101)),
        "too_many_renditions",
    ),
    "a range": (media([SEGMENT[0], f"#EXT-X-BYTERANGE:{2**63 - 1}@0", "0"]), "segment_too_large"),
    "an offset": (media([SEGMENT[0], f"#EXT-X-BYTERANGE:1@{2**63}", "0"]), "playlist_error"),
}
# Texts that are wrong only behind much that is right: they are taken apart first.
LONG_TEXTS = {
    "init sections": (
        media(f'#EXT-X-MAP:URI="{n}"\n#EXTINF:1,\n{n}.m4s' for n in range(10_001)),
        "too_many_init_sections",
    ),
    "attributes": (
        media(f"#EXT-X-MAP:URI=a{',A=1' * 4_000},N={n}" for n in range(60)),
        "too_many_attributes",
    ),
    "segments": (media([" #EXTINF:1,", "/0.ts"] * 50_001), "too_many_segments"),
    "keys": (
        media(f'#EXT-X-KEY:METHOD=AES-128,URI="{n}"\n#EXTINF:1,\n{n}.ts' for n in range(40_000)),
        "too_many_keys",
    ),
    "a line": (b"#EXTM3U\n" + b" " * 8_000_000, "line_too_long"),
    "variables": (
        media([f'#EXT-X-DEFINE:NAME="v",VALUE="{"x" * 16_000}"', *["#EXTINF:1,", "{$v}"] * 5_000]),
        "playlist_expands_too_far",
    ),
}


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """What happens here needs less than `MOST_BYTES` more at any time."""
    tracemalloc.start()  # exact, where the resident size depends on what was freed before
    try:
        yield
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < MOST_BYTES


async def answer(origin: Origin, url: str, **fetching: Any) -> Reply:
    """Ask for a stream that cannot be; nothing is left of it."""
    async with pipeline(**fetching) as one, over_aiohttp(App(one)) as address:
        reply = await ask(address, stream_target(url))
        assert one.active == 0
    await origin.until(lambda: origin.open_connections == 0)
    return reply


async def refusal(origin: Origin, url: str, **told: Any) -> tuple[int, str]:
    """Status and code of the answer."""
    reply = await answer(origin, url, **told)
    return reply.status, reply.json()["code"]


# -- playlists -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEXTS)
async def test_playlist_with_too_much(name: str) -> None:
    """Too much of anything in a playlist is a 502 that says of what."""
    text, code = TEXTS[name]
    async with Origin() as origin:
        with little_memory():
            assert await refusal(origin, origin.add("/a.m3u8", text)) == (502, code)
        assert len(origin.requests) == 1


@pytest.mark.parametrize("name", LONG_TEXTS)
async def test_playlist_with_too_much_at_its_end(name: str) -> None:
    """What is wrong at the end of a text of the largest size is found, too."""
    text, code = LONG_TEXTS[name]
    async with Origin() as origin:
        assert await refusal(origin, origin.add("/a.m3u8", text)) == (502, code)


@pytest.mark.parametrize(
    "fault",
    [
        GzipBomb(128 * MIB),
        Endless(),
        Endless(b"#EXTINF:1,\n0.ts\n" * 1000),
        Endless(b"#" * 65536),
        Raw(PROMISED_LENGTH + b"#EXTM3U\n"),
    ],
    ids=["gzip bomb", "comments", "segments", "one line", "length"],
)
async def test_playlist_of_too_many_bytes(fault: Fault) -> None:
    """Unpacked, counted or announced: more than 8 MiB are never read, nor asked for again."""
    async with Origin() as origin:
        url = origin.add("/a.m3u8", "#EXTM3U")
        origin.fault("/a.m3u8", fault)
        with little_memory():
            assert await refusal(origin, url) == (502, "playlist_too_large")
        assert len(origin.requests) == 1


async def test_playlist_of_playlists_of_playlists() -> None:
    """One level is what HLS has; a playlist that leads to itself ends there, too."""
    async with Origin() as origin:
        url = origin.add("/a.m3u8", multivariant(["#EXT-X-STREAM-INF:BANDWIDTH=1", "a.m3u8"]))
        assert await refusal(origin, url) == (502, "nested_playlist")
        assert len(origin.requests) == 2


async def test_redirects_without_end() -> None:
    """Five are followed; a sixth is an error that says so."""
    async with Origin() as origin:
        origin.fault("/a.m3u8", Redirect("/a.m3u8"))
        assert await refusal(origin, origin.at("/a.m3u8")) == (502, "too_many_redirects")
        assert len(origin.requests) == 6


async def test_headers_that_do_not_come() -> None:
    """An origin that accepts and says nothing is given up."""
    async with Origin() as origin:
        origin.fault("/a.m3u8", Stall())
        told = {"read_timeout_s": 0.1, "playlist_attempts": 1}
        assert await refusal(origin, origin.at("/a.m3u8"), **told) == (504, "headers_timeout")


# -- segments, keys, init sections -----------------------------------------------------------------


async def test_segment_that_announces_too_many_bytes() -> None:
    """A segment of 2^63 bytes is not begun."""
    async with Origin() as origin:
        url = publish(origin, make_clip(seconds=2))
        origin.fault("/0.ts", Raw(PROMISED_LENGTH + bytes(188)))
        with little_memory():
            assert await refusal(origin, url) == (502, "segment_too_large")
        assert len(origin.asked("/0.ts")) == 1


async def test_segment_without_end(caplog: pytest.LogCaptureFixture) -> None:
    """A segment that does not end is cut behind the limit, for this reason."""
    caplog.set_level("INFO", "proxy")
    clip = make_clip(seconds=2)
    async with Origin() as origin:
        url = publish(origin, clip)
        origin.fault("/0.ts", Endless(clip.data))
        with little_memory():
            reply = await answer(origin, url, segment_bytes=10 * len(clip.data))
        assert (reply.status, reply.ended) == (200, "cut")
        assert "outcome=segment_too_large" in caplog.text
        assert len(origin.asked("/0.ts")) == 1


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ('#EXT-X-KEY:METHOD=AES-128,URI="/endless"', "key_too_large"),
        ('#EXT-X-MAP:URI="/endless"', "init_section_too_large"),
        (f'#EXT-X-MAP:URI="/endless",BYTERANGE="{2**63 - 1}@0"', "init_section_too_large"),
    ],
)
async def test_key_and_init_section_of_too_many_bytes(tag: str, code: str) -> None:
    """A key of more than 1 KiB and an init section of more than 1 MiB are not read."""
    async with Origin() as origin:
        origin.add("/0.ts", make_clip(seconds=2).data)
        origin.fault("/endless", Endless())
        url = origin.add("/a.m3u8", media_text(["0.ts"], head=[tag]))
        with little_memory():
            assert await refusal(origin, url) == (502, code)
        assert len(origin.asked("/endless")) <= 2  # a key may be asked for ahead of its segment
