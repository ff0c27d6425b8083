"""Configured headers, TLS, and the HTTP proxy in between."""

import asyncio
from pathlib import Path

import pytest

from proxy.errors import Forbidden, SourceTimeout, SourceUnavailable
from proxy.fetch import Fetcher, Settings
from tests.fetch.helpers import quick
from tests.support.origin import Origin, Redirect, Request
from tests.support.tls import Authority, Identity

SECRETS = {
    "Authorization": "Bearer s3cret",
    "Cookie": "id=s3cret",
    "X-Api-Key": "s3cret",
    "Referer": "https://s3cret.example/",
    "User-Agent": "Player/1.0",
}


async def read(fetcher: Fetcher, url: str) -> bytes:
    return (await fetcher.read(url, max_bytes=1000, what="playlist")).body


def secrets_of(request: Request) -> set[str]:
    return {name for name, value in SECRETS.items() if request.headers.get(name.lower()) == value}


async def test_headers_sent_to_their_origin_only() -> None:
    """Headers go to the origin they were configured for, and to no other that it leads to."""
    async with Origin() as one, Origin() as two:
        settings = quick(headers={f"127.0.0.1:{one.port}": SECRETS})
        async with Fetcher(settings) as fetcher:
            one.fault("/a", Redirect(two.at("/a")))
            two.add("/a", "two")
            one.add("/b", "one")
            assert await read(fetcher, one.at("/a")) == b"two"
            assert await read(fetcher, two.at("/a")) == b"two"
            assert await read(fetcher, one.at("/b")) == b"one"
        assert [secrets_of(request) for request in one.requests] == [set(SECRETS)] * 2
        assert [secrets_of(request) for request in two.requests] == [set()] * 2
        assert two.requests[0].headers["user-agent"].startswith("remuxd/")


async def test_headers_cannot_break_the_request() -> None:
    """Headers of ours that the room rests on are not replaced by configured ones."""
    async with Origin() as origin:
        own = {"accept-encoding": "gzip", "VIA": "me", "range": "bytes=0-1"}
        settings = quick(headers={"127.0.0.1": own}, instance="abc")
        async with Fetcher(settings) as fetcher:
            assert await read(fetcher, origin.add("/", "whole")) == b"whole"
        headers = origin.requests[0].headers
        assert headers["accept-encoding"] == "identity"
        assert headers["via"] == "1.1 remuxd-abc"
        assert "range" not in headers


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"headers": {"a.org/x": {}}}, "headers"),
        ({"headers": {"a.org": {"X": "a\r\nY: b"}}}, "headers"),
        ({"proxy": "socks5://h:1"}, "proxy"),
        ({"proxy": "h:3128"}, "proxy"),
        ({"ca_file": Path("/nowhere/ca.pem")}, "ca_file"),
        ({"ca_file": Path(__file__)}, "ca_file"),
        ({"segment_attempts": 0}, "segment_attempts"),
        ({"parallel_segments": 0}, "parallel_segments"),
    ],
)
def test_settings_refused(changes: dict[str, object], name: str) -> None:
    """A setting that cannot work is refused at the start, by its name."""
    with pytest.raises(ValueError, match=name):
        Fetcher(quick(**changes))


def test_settings_repr_without_secrets() -> None:
    """Settings can be logged."""
    settings = Settings(headers={"h": SECRETS}, proxy="http://u:s3cret@h:1")
    assert "s3cret" not in repr(settings)


# -- TLS -------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Another authority in each test."""
    return Authority(tmp_path)


async def test_tls_ca_file(authority: Authority) -> None:
    """With `ca_file` a certificate of that authority is trusted; without it is not."""
    async with Origin(tls=authority.server()) as origin:
        url = origin.add("/", "safe")
        async with Fetcher(quick(ca_file=authority.ca_file)) as fetcher:
            assert await read(fetcher, url) == b"safe"
        async with Fetcher(quick()) as fetcher:
            with pytest.raises(SourceUnavailable, match="Certificate"):
                await read(fetcher, url)


@pytest.mark.parametrize("identity", ["expired", "wrong-host", "self-signed"])
async def test_tls_bad_certificate(authority: Authority, identity: Identity) -> None:
    """A certificate that does not hold is unavailable, is asked once, and gets no request."""
    async with Origin(tls=authority.server(identity)) as origin:
        url = origin.add("/", "unsafe")
        async with Fetcher(quick(ca_file=authority.ca_file)) as fetcher:
            with pytest.raises(SourceUnavailable, match="Certificate"):
                await read(fetcher, url)
        assert origin.requests == []


async def test_tls_not_spoken() -> None:
    """A server that does not speak TLS where it was expected is unavailable, and is asked once."""
    asked = 0

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 What\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server, Fetcher(quick()) as f:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(SourceUnavailable, match="SSL"):
            await read(f, f"https://127.0.0.1:{port}/")
        assert asked == 1


async def test_tls_handshake_stalls() -> None:
    """A server that accepts and says nothing is a time-out of the connect."""
    settings = quick(connect_timeout_s=0.1, tls_timeout_s=0.1, playlist_attempts=1)
    async with Origin() as origin, Fetcher(settings) as fetcher:
        with pytest.raises(SourceTimeout):
            await read(fetcher, origin.at("/").replace("http:", "https:"))
        await origin.until(lambda: origin.open_connections == 0)


async def test_tls_downgrade(authority: Authority) -> None:
    """From https to http a redirect is followed, but not with credentials in play."""
    async with Origin(tls=authority.server()) as safe, Origin() as plain:
        plain.add("/", "plain")
        safe.fault("/", Redirect(plain.at("/")))
        async with Fetcher(quick(ca_file=authority.ca_file)) as fetcher:
            assert await read(fetcher, safe.at("/")) == b"plain"
        scopes = {safe.url: SECRETS}
        async with Fetcher(quick(ca_file=authority.ca_file, headers=scopes)) as fetcher:
            with pytest.raises(SourceUnavailable, match="credentials"):
                await read(fetcher, safe.at("/"))
        assert len(plain.requests) == 1
        assert len(safe.requests) == 2


# -- behind an HTTP proxy --------------------------------------------------------------------------


async def test_proxy_used() -> None:
    """With `proxy` everything is asked of it, by whole address; its own address is not guarded."""
    async with Origin() as middle:
        middle.add("/a", "from far away")
        settings = Settings(proxy=f"http://user:pw@127.0.0.1:{middle.port}")
        async with Fetcher(settings) as fetcher:
            assert await read(fetcher, "http://far.example/a?b=%41") == b"from far away"
        (request,) = middle.requests
        assert request.target == "http://far.example/a?b=%41"
        assert request.headers["proxy-authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/",
        "http://10.1/",
        "http://0x7f000001/",
        "http://0177.0.0.1./",
        "http://[::ffff:127.0.0.1]/",
        "http://h.example:8080/",
        "http://u@h.example/",
        "ftp://h.example/",
    ],
)
async def test_proxy_still_guarded(url: str) -> None:
    """What can be seen of an address is checked before the proxy is asked."""
    async with Origin() as middle:
        async with Fetcher(Settings(proxy=middle.url)) as fetcher:
            with pytest.raises(Forbidden):
                await read(fetcher, url)
        assert middle.connections == []


async def test_proxy_refuses_tunnel() -> None:
    """A proxy that does not tunnel is unavailable, with no secret in the message."""
    async with Origin() as middle:
        settings = Settings(proxy=middle.url.replace("//", "//u:s3cret@"))
        async with Fetcher(settings) as fetcher:
            with pytest.raises(SourceUnavailable) as raised:
                await read(fetcher, "https://far.example/a?t=s3cret")
            assert "s3cret" not in str(raised.value)
        assert middle.requests[0].method == "CONNECT"
