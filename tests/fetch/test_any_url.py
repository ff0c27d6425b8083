"""Any address, however it is spelt: refused by name, checked, never a crash and never let in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import InvalidRequest, PlaylistError, ProxyError
from proxy.fetch.client import Fetcher
from proxy.guard.addresses import AddressPolicy
from proxy.hls.model import MediaPlaylist
from proxy.hls.parse import parse_playlist
from proxy.request import check_url
from tests.fetch.helpers import quick
from tests.fetch.test_guard import FakeResolver
from tests.support.playlists import BASE_URL

SCHEMES = st.sampled_from(
    ["http:", "https:", "HTTP:", "http", "ftp:", "file:", "data:", "javascript:", "gopher:", "ws:",
     "unix:", "http+unix:", "blob:", "", "//", "http:http:"]
)  # fmt: skip
SLASHES = st.sampled_from(["//", "///", "/", "", "\\\\", "//@", "//[", "/\\"])
HOSTS = st.one_of(
    st.sampled_from(
        ["a.invalid", "localhost", "127.0.0.1", "127.1", "0x7f.1", "017700000001", "2130706433",
         "[::1]", "[::ffff:127.0.0.1]", "[fe80::1%25eth0]", "[::1", "::1]", "[v1.x]", "[]",
         "①②⑦.⓪.⓪.①", "127。0。0。1", "xn--", "xn--a-ecp.ru", "a..b", ".", "-", "a" * 300, "%31",
         "a%00b", "*.a", "ß.example", "\u202ea", "0", "255.255.255.255", "169.254.169.254"]
    ),
    st.text(max_size=12),
    st.ip_addresses(network="10.0.0.0/8").map(str),
)  # fmt: skip
USERS = st.sampled_from(["", "", "", "u@", "u:p@", ":@", "@", "a.invalid#@", "a.invalid\\@"])
PORTS = st.sampled_from(["", "", ":80", ":", ":0", ":65536", ":-1", ":99999999999", ":8x", ":٨٠"])
TAILS = st.one_of(
    st.just(""),
    st.sampled_from(
        ["/", "/a.m3u8", "/../..", "/%", "/%zz", "/\x00", "/a b", "?", "?#", "#", "/%ff"]
    ),
    st.text(max_size=20),
)
ADDRESSES = st.one_of(
    st.builds("".join, st.tuples(SCHEMES, SLASHES, USERS, HOSTS, PORTS, TAILS)),
    st.builds("http://{}{}{}".format, HOSTS, PORTS, TAILS),
    st.text(max_size=40),
)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


async def read(url: str) -> None:
    """Fetch from where nothing is allowed, and where every name leads to a private address."""
    policy = AddressPolicy(allowed_ports=())
    resolver = FakeResolver(["10.0.0.1", "::1"])
    async with Fetcher(quick(policy=policy), resolver=resolver) as fetcher:
        with contextlib.suppress(ProxyError):
            await fetcher.read(url, max_bytes=1000, what="playlist")
            raise AssertionError(f"{url!r} was let in")


@settings(max_examples=200, deadline=None)
@given(ADDRESSES)
def test_read_any_address(runner: asyncio.Runner, url: str) -> None:
    """What `check_url` lets through ends in an error of the family, with nothing reached."""
    with contextlib.suppress(InvalidRequest):
        checked = check_url(url)
        assert checked.lower().startswith(("http://", "https://"))
        runner.run(read(checked))


@settings(max_examples=100, deadline=None)
@given(st.lists(ADDRESSES, min_size=1, max_size=4))
def test_read_any_segment_address(runner: asyncio.Runner, uris: list[str]) -> None:
    """So does whatever address stands in a playlist: nobody has checked that one before."""
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n" + "".join(f"#EXTINF:2,\n{uri}\n" for uri in uris)
    with contextlib.suppress(PlaylistError):
        playlist = parse_playlist(text.encode("utf-8", "replace"), BASE_URL)
        assert isinstance(playlist, MediaPlaylist)
        for segment in playlist.segments:
            runner.run(read(segment.uri))
