"""The fetcher against a real origin: bodies, statuses, deadlines, sizes, ranges, redirects."""

import asyncio
import os
import time
from typing import Literal

import pytest

from proxy.errors import (
    Forbidden,
    ProxyError,
    SegmentTooLarge,
    SourceNotFound,
    SourceTimeout,
    SourceTooLarge,
    SourceUnavailable,
    TooManyRedirects,
)
from proxy.fetch import Body, Fetcher
from proxy.fetch.faults import Attempted
from proxy.guard.addresses import AddressPolicy
from proxy.hls.model import ByteRange
from tests.fetch.helpers import quick
from tests.support.origin import (
    Endless,
    Fault,
    Gzip,
    GzipBomb,
    Hangup,
    IgnoreRange,
    Origin,
    Raw,
    Redirect,
    Replace,
    Reset,
    SlowHeaders,
    Stall,
    Status,
    Trickle,
    Truncate,
    WrongLength,
    WrongRange,
)

TEXT = "#EXTM3U\n" * 2000
CLIP = bytes(range(256)) * 1000
CAP = 1_000_000


async def playlist(fetcher: Fetcher, url: str, *, max_bytes: int = CAP) -> bytes:
    return (await fetcher.read(url, max_bytes=max_bytes, what="playlist")).body


async def clip(
    fetcher: Fetcher, url: str, *, byte_range: ByteRange | None = None, max_bytes: int = CAP
) -> bytes:
    async with fetcher.open(url, byte_range=byte_range, max_bytes=max_bytes) as body:
        return await whole(body)


async def whole(body: Body) -> bytes:
    return b"".join([chunk async for chunk in body])


# -- what is asked and what is given ---------------------------------------------------------------


async def test_read_body() -> None:
    """A playlist comes whole, with its type and the time it took, over one request."""
    async with Origin() as origin, Fetcher(quick(instance="abc")) as fetcher:
        url = origin.add("/a.m3u8", TEXT)
        resource = await fetcher.read(url, max_bytes=CAP, what="playlist")
        assert resource.body == TEXT.encode()
        assert resource.url == url
        assert resource.content_type == "application/vnd.apple.mpegurl"
        assert 0 < resource.elapsed_s < 10
        (request,) = origin.requests
        assert request.headers["accept-encoding"] == "identity"
        assert request.headers["user-agent"].startswith("remuxd/")
        assert request.headers["via"] == fetcher.settings.via == "1.1 remuxd-abc"
        assert "cookie" not in request.headers
        assert "range" not in request.headers


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_open_framings(framing: str) -> None:
    """A body comes whole however it is framed, and says how it was."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/a.ts", CLIP, framing=framing)  # type: ignore[arg-type]
        async with fetcher.open(url) as body:
            assert await whole(body) == CLIP
            assert body.framing == framing
            assert body.length == (len(CLIP) if framing == "length" else None)
            assert body.received == len(CLIP)


async def test_open_reuses_connection() -> None:
    """A connection whose body was read to its end is used again."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/a.ts", CLIP)
        for _ in range(3):
            assert await clip(fetcher, url) == CLIP
        assert len(origin.connections) == 1


async def test_open_left_early() -> None:
    """Leaving the context before the end closes the connection at once."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        origin.fault("/a.ts", Endless())
        async with fetcher.open(origin.at("/a.ts")) as body:
            await body.read()
        await origin.until(lambda: origin.open_connections == 0)


async def test_open_cancelled() -> None:
    """Cancelling a fetch, before the headers or within the body, closes its connection."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/a.ts", CLIP)
        for at in (None, 1000):
            origin.hold("/a.ts", after_bytes=at)
            count = len(origin.requests)
            task = asyncio.create_task(clip(fetcher, url))
            await origin.until(lambda: len(origin.requests) > count)  # noqa: B023
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await origin.until(lambda: origin.open_connections == 0)


async def test_read_cookies_forgotten() -> None:
    """Cookies that an origin sets are not sent back."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/a.m3u8", TEXT, headers={"Set-Cookie": "id=1"})
        await playlist(fetcher, url)
        await playlist(fetcher, url)
        assert "cookie" not in origin.requests[1].headers


@pytest.mark.parametrize(
    "target",
    [
        "/a%2Fb.m3u8?sig=%41b+c%2B~%7e&x=a,b!*'()&empty=&flag",
        "/a/../b.m3u8?next=http://h/?q",
        "/a;v=1/$@:=.m3u8",
    ],
)
async def test_read_address_as_given(target: str) -> None:
    """Addresses go out byte for byte: a signature may cover every one of them."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        origin.add(target.partition("?")[0], TEXT)
        await playlist(fetcher, origin.at(target))
        assert origin.requests[0].target == target


async def test_read_address_quoted() -> None:
    """What cannot stand in a request line is quoted."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        origin.add("/a%20%C3%BC.m3u8", TEXT)
        await playlist(fetcher, origin.at("/a ü.m3u8"))


@pytest.mark.parametrize("coding", ["gzip", "x-gzip"])
async def test_read_gzip(coding: str) -> None:
    """A playlist that comes in gzip, although nobody asked for it, is unpacked."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/a.m3u8", TEXT)
        origin.fault("/a.m3u8", Gzip(coding=coding))
        assert await playlist(fetcher, url) == TEXT.encode()


async def test_open_any_coding_refused() -> None:
    """A segment in a content coding is a failed fetch."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/a.ts", CLIP)
        origin.fault("/a.ts", Gzip())
        with pytest.raises(SourceUnavailable, match="content coding"):
            await clip(fetcher, url)


# -- what may go wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error", "attempts"),
    [
        (Status(404), SourceNotFound, 1),
        (Status(410), SourceNotFound, 1),
        (Status(400), SourceUnavailable, 1),
        (Status(401), SourceUnavailable, 1),
        (Status(403), SourceUnavailable, 1),
        (Raw(b"HTTP/1.1 204 No\r\n\r\n"), SourceUnavailable, 1),
        (Status(206), SourceUnavailable, 3),
        (Status(302), SourceUnavailable, 1),
        (Status(429), SourceUnavailable, 3),
        (Status(500), SourceUnavailable, 3),
        (Status(503), SourceUnavailable, 3),
        (Status(503, retry_after=0), SourceUnavailable, 3),
        (Status(503, retry_after=3600), SourceUnavailable, 1),
        (Truncate(100), SourceUnavailable, 3),
        (WrongLength(+7), SourceUnavailable, 3),
        (Reset(100), SourceUnavailable, 3),
        (Hangup(0), SourceUnavailable, 3),
        (Gzip(cut_bytes=1), SourceUnavailable, 3),
        (Gzip(cut_bytes=9), SourceUnavailable, 3),
        (Gzip(coding="br"), SourceUnavailable, 3),
        (GzipBomb(20_000_000), SourceTooLarge, 1),
        (Endless(), SourceTooLarge, 1),
        (Raw(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), SourceUnavailable, 3),
        (Raw(b"not http at all\r\n\r\n"), SourceUnavailable, 3),
        (
            Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"),
            SourceUnavailable,
            3,
        ),
        (
            Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"),
            SourceUnavailable,
            3,
        ),
        (
            Raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"),
            SourceUnavailable,
            3,
        ),
    ],
)
async def test_read_faults(fault: Fault, error: type[ProxyError], attempts: int) -> None:
    """Every fault has its error, and is tried again only where that makes sense."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/a.m3u8", TEXT)
        origin.fault("/a.m3u8", fault)
        with pytest.raises(error) as raised:
            await playlist(fetcher, url + "?token=s3cret")
        assert len(origin.requests) == attempts
        assert "s3cret" not in repr(raised.value)
        assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    "fault", [Status(503), Status(429, retry_after=0), Reset(), Reset(10), Hangup(), Truncate(10)]
)
async def test_read_heals(fault: Fault) -> None:
    """A fault that heals within the attempts is not seen."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/a.m3u8", TEXT)
        origin.fault("/a.m3u8", fault, times=2)
        assert await playlist(fetcher, url) == TEXT.encode()


async def test_read_attempts_of_keys() -> None:
    """Keys have attempts of their own, and a missing key is no missing playlist."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        origin.fault("/key", Status(500))
        with pytest.raises(SourceUnavailable):
            await fetcher.read(origin.at("/key"), max_bytes=1024, what="key")
        assert len(origin.requests) == 2
        origin.heal()
        with pytest.raises(SourceUnavailable):
            await fetcher.read(origin.at("/key"), max_bytes=1024, what="key")
        assert len(origin.requests) == 3


async def test_read_retry_after_waited() -> None:
    """The pause is at least what Retry-After asks for."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/a.m3u8", TEXT)
        origin.fault("/a.m3u8", Status(503, retry_after=1), times=1)
        began_s = time.monotonic()
        assert await playlist(fetcher, url) == TEXT.encode()
        assert time.monotonic() - began_s >= 1.0


async def test_read_budget() -> None:
    """No attempt is begun behind the budget of time."""
    async with Origin() as origin, Fetcher(quick(read_budget_s=0.001)) as fetcher:
        origin.fault("/a.m3u8", Status(503))
        with pytest.raises(SourceUnavailable):
            await playlist(fetcher, origin.at("/a.m3u8"))
        assert len(origin.requests) == 1


async def test_read_cancelled_in_pause() -> None:
    """Cancelling between two attempts ends it there."""
    async with Origin() as origin, Fetcher(quick(backoff_s=(60.0, 60.0))) as fetcher:
        origin.fault("/a.m3u8", Status(503))
        task = asyncio.create_task(playlist(fetcher, origin.at("/a.m3u8")))
        await origin.until(lambda: bool(origin.requests) and origin.requests[0].ended)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(origin.requests) == 1


async def test_read_refused() -> None:
    """A port on which nobody listens is unavailable; when somebody does again, it is read."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/a.m3u8", TEXT)
        await origin.refuse()
        with pytest.raises(
            SourceUnavailable, match=r"(?i)ClientConnectorError .*connect call failed"
        ):
            await playlist(fetcher, url)
        await origin.listen()
        assert await playlist(fetcher, url) == TEXT.encode()


async def test_read_unknown_name() -> None:
    """A name that does not exist is unavailable."""
    async with Fetcher(quick()) as fetcher:
        with pytest.raises(SourceUnavailable, match="DNS"):
            await playlist(fetcher, "http://nowhere.invalid/a.m3u8")


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Stall(), "headers_timeout"),
        (SlowHeaders(0.05), "headers_timeout"),
        (Stall(0), "source_timeout"),
        (Stall(100), "source_timeout"),
    ],
)
async def test_read_too_slow(fault: Fault, code: str) -> None:
    """Silence and dripping headers are time-outs; those before the body have their own code."""
    settings = quick(
        connect_timeout_s=0.1,
        tls_timeout_s=0.0,
        headers_timeout_s=0.1,
        read_timeout_s=0.1,
        playlist_attempts=2,
    )
    async with Origin() as origin, Fetcher(settings) as fetcher:
        url = origin.add("/a.m3u8", TEXT)
        origin.fault("/a.m3u8", fault)
        with pytest.raises(SourceTimeout) as raised:
            await playlist(fetcher, url)
        assert (raised.value.status, raised.value.code) == (504, code)
        assert len(origin.requests) == 2


async def test_open_trickle() -> None:
    """A trickle that no read time-out stops is ended by the minimum rate."""
    settings = quick(min_rate_window_s=0.3, min_rate_grace_s=0.1)
    async with Origin() as origin, Fetcher(settings) as fetcher:
        url = origin.add("/a.ts", CLIP)
        origin.fault("/a.ts", Trickle(every_s=0.02))
        with pytest.raises(SourceTimeout, match="slower"):
            await clip(fetcher, url)
        await origin.until(lambda: origin.open_connections == 0)


async def test_open_deadline() -> None:
    """A body that comes at a fair rate but for too long is ended."""
    settings = quick(min_rate_window_s=0.1)
    async with Origin(rate_bytes_per_s=200_000) as origin, Fetcher(settings) as fetcher:
        url = origin.add("/a.ts", CLIP)
        async with fetcher.open(url, deadline_s=0.2) as body:
            with pytest.raises(SourceTimeout, match="not complete"):
                await whole(body)


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_open_paused_consumer(framing: str) -> None:
    """A consumer that stands still for longer than every limit loses nothing."""
    settings = quick(
        headers_timeout_s=0.1,
        read_timeout_s=0.1,
        read_buffer_bytes=16384,
        min_rate_window_s=0.1,
        min_rate_grace_s=0.0,
    )
    data = os.urandom(3_000_000)
    async with Origin(send_buffer_bytes=16384) as origin, Fetcher(settings) as fetcher:
        url = origin.add("/a.ts", data, framing=framing)  # type: ignore[arg-type]
        async with fetcher.open(url) as body:
            got = b""
            for pause_at in (1, 100_000, len(data) - 100_000, len(data)):
                while len(got) < pause_at:
                    got += await body.read()
                await asyncio.sleep(0.3)  # the condition itself: longer than the limits above
            assert await body.read() == b""
        assert got == data


async def test_open_backpressure() -> None:
    """Of a body that nobody reads, the origin gets rid of a few buffers only."""
    settings = quick(read_buffer_bytes=16384)
    async with Origin(send_buffer_bytes=16384) as origin, Fetcher(settings) as fetcher:
        origin.fault("/a.ts", Endless(b"x" * 1000))
        async with fetcher.open(origin.at("/a.ts")):
            sent = await origin.standstill()
            assert 0 < sent < 8_000_000  # the kernel's receive buffer is most of it


# -- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_open_too_large(framing: str) -> None:
    """One byte above the cap is too large, by announcement or by count; the cap itself is not."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/a.ts", CLIP, framing=framing)  # type: ignore[arg-type]
        assert await clip(fetcher, url, max_bytes=len(CLIP)) == CLIP
        with pytest.raises(SegmentTooLarge):
            await clip(fetcher, url, max_bytes=len(CLIP) - 1)
        if framing == "length":
            assert origin.requests[-1].sent_bytes <= len(CLIP)


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("playlist", "playlist_too_large"),
        ("page", "source_too_large"),
        ("key", "key_too_large"),
        ("map", "init_section_too_large"),
    ],
)
async def test_read_too_large(what: Literal["playlist", "page", "key", "map"], code: str) -> None:
    """Each kind of body has its own code for too many bytes, announced, counted or unpacked."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        origin.add("/announced", TEXT)
        origin.fault("/counted", Endless())
        origin.add("/unpacked", TEXT)
        origin.fault("/unpacked", Gzip())
        for path in ("/announced", "/counted", "/unpacked"):
            if (what, path) == ("map", "/unpacked"):
                continue  # media in a content coding are refused as such
            with pytest.raises(ProxyError) as raised:
                await fetcher.read(origin.at(path), max_bytes=len(TEXT) - 1, what=what)
            assert (raised.value.status, raised.value.code) == (502, code)
            assert len(origin.asked(path)) == 1


async def test_open_cap_of_settings() -> None:
    """Segments have the cap of the settings."""
    async with Origin() as origin, Fetcher(quick(segment_bytes=1000)) as fetcher:
        url = origin.add("/a.ts", CLIP)
        with pytest.raises(SegmentTooLarge):
            async with fetcher.open(url):
                pass


# -- ranges ----------------------------------------------------------------------------------------


async def test_open_range() -> None:
    """A byte range is asked for as such, and exactly it is given."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/a.ts", CLIP)
        got = await clip(fetcher, url, byte_range=ByteRange(offset=1000, length=500))
        assert got == CLIP[1000:1500]
        assert origin.requests[0].headers["range"] == "bytes=1000-1499"
        assert "if-range" not in origin.requests[0].headers


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_open_range_ignored(framing: str) -> None:
    """Where Range is ignored, the rest is read over; within the cap only."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/a.ts", CLIP, ranges=False, framing=framing)  # type: ignore[arg-type]
        part = ByteRange(offset=100_000, length=50_000)
        assert await clip(fetcher, url, byte_range=part) == CLIP[100_000:150_000]
        with pytest.raises(SegmentTooLarge):
            await clip(fetcher, url, byte_range=part, max_bytes=149_999)


@pytest.mark.parametrize(
    "fault",
    [
        WrongRange(shift_bytes=1),
        WrongRange(shift_bytes=-1),
        WrongRange(short_bytes=1),
        WrongRange(short_bytes=1, lie=True),
        Replace(CLIP[:1400]),
        Raw(b"HTTP/1.1 206 P\r\nContent-Length: 500\r\n\r\n" + bytes(500)),
        Raw(b"HTTP/1.1 206 P\r\nContent-Range: bytes 1000-*/*\r\n\r\n" + bytes(500)),
        Raw(
            b"HTTP/1.1 206 P\r\nContent-Type: multipart/byteranges; boundary=x\r\n"
            b"Content-Length: 3\r\n\r\nabc"
        ),
        Status(416),
        Raw(b"HTTP/1.1 416 R\r\nContent-Range: bytes */1000\r\nContent-Length: 0\r\n\r\n"),
        Gzip(),
    ],
)
async def test_open_range_wrong(fault: Fault) -> None:
    """Any other range than the one asked for is a failed fetch, not a wrong one."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/a.ts", CLIP)
        origin.fault("/a.ts", fault)
        with pytest.raises(SourceUnavailable):
            await clip(fetcher, url, byte_range=ByteRange(offset=1000, length=500))


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("ranges", [True, False])
async def test_open_range_beyond_end(framing: str, ranges: bool) -> None:
    """A range that reaches behind the end of the resource is a failed fetch."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/a.ts", CLIP, framing=framing, ranges=ranges)  # type: ignore[arg-type]
        for offset in (len(CLIP) - 100, len(CLIP)):
            with pytest.raises(SourceUnavailable):
                await clip(fetcher, url, byte_range=ByteRange(offset=offset, length=101))


async def test_open_range_huge() -> None:
    """A range of 2^63 bytes is refused before anything is asked, one at 2^62 is not read for."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        far = origin.add("/far.ts", CLIP, framing="chunked", ranges=False)
        with pytest.raises(SegmentTooLarge):
            await clip(fetcher, far, byte_range=ByteRange(offset=2**62, length=100))
        origin.requests.clear()
        with pytest.raises(SegmentTooLarge):
            await clip(fetcher, origin.at("/a.ts"), byte_range=ByteRange(offset=0, length=2**63))
        assert origin.requests == []


async def test_open_continues() -> None:
    """With an offset and a validator the rest is asked for, and told to be the rest."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/a.ts", CLIP)
        async with fetcher.open(url) as body:
            validator = body.validator
        assert validator is not None
        async with fetcher.open(url, offset=1000, validator=validator) as body:
            assert (body.offset, body.total, body.length) == (1000, len(CLIP), len(CLIP) - 1000)
            assert await whole(body) == CLIP[1000:]
        assert origin.requests[1].headers["if-range"] == validator
        async with fetcher.open(url, offset=1000, validator='"another"') as body:
            assert (body.offset, body.total) == (0, len(CLIP))


async def test_open_continues_range() -> None:
    """A byte range is continued within itself."""
    part = ByteRange(offset=1000, length=500)
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/a.ts", CLIP)
        async with fetcher.open(url, byte_range=part) as body:
            validator = body.validator
            assert body.total == 500
        async with fetcher.open(url, byte_range=part, offset=200, validator=validator) as body:
            assert (body.offset, body.total) == (200, 500)
            assert await whole(body) == CLIP[1200:1500]
        origin.fault("/a.ts", IgnoreRange())
        async with fetcher.open(url, byte_range=part, offset=200, validator=validator) as body:
            assert (body.offset, body.total) == (0, 500)
            assert await whole(body) == CLIP[1000:1500]


@pytest.mark.parametrize(
    "answer",
    [
        b"206 P\r\nContent-Range: bytes 1000-1099/*\r\nContent-Length: 100",
        b"206 P\r\nContent-Range: bytes 1000-1098/1100\r\nContent-Length: 99",
        b"206 P\r\nContent-Range: bytes 999-1098/1099\r\nContent-Length: 100",
        b"416 R\r\nContent-Range: bytes */999\r\nContent-Length: 100",
        b"416 R\r\nContent-Length: 100",
    ],
)
async def test_open_continues_wrong(answer: bytes) -> None:
    """A rest that may be another piece, or no rest at all, is a failed fetch."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        origin.fault("/a.ts", Raw(b"HTTP/1.1 " + answer + b"\r\n\r\n" + bytes(100)))
        with pytest.raises(SourceUnavailable):
            async with fetcher.open(origin.at("/a.ts"), offset=1000, validator='"x"'):
                pass


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": '"a\x01b"'},
        {"ETag": '"a"b"'},
        {"Last-Modified": "yesterday"},
        {"Last-Modified": "Mon, 01 Jan 2999 00:00:00 GMT"},
        {"ETag": "unquoted"},
        {"ETag": '"'},
        {"ETag": 'W/"x"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"},
    ],
)
async def test_open_validator_malformed(headers: dict[str, str]) -> None:
    """What does not prove anything is not taken for a validator."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/a.ts", CLIP, validator="none", headers=headers)
        async with fetcher.open(url) as body:
            assert body.validator is None


@pytest.mark.parametrize(
    ("kind", "strong"), [("etag", True), ("weak", False), ("date", True), ("none", False)]
)
async def test_open_validator(kind: str, strong: bool) -> None:
    """Only what If-Range may carry is taken for a validator."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/a.ts", CLIP, validator=kind)  # type: ignore[arg-type]
        async with fetcher.open(url) as body:
            assert (body.validator is not None) is strong


# -- redirects -------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_read_redirected(code: int) -> None:
    """Redirects are followed, relative ones too, and the last address is the one that counts."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        url = origin.add("/v/a.m3u8", TEXT)
        origin.fault("/", Redirect("../v/b.m3u8?x=%41", code))
        origin.fault("/v/b.m3u8", Redirect(url, code))
        resource = await fetcher.read(origin.at("/"), max_bytes=CAP, what="playlist")
        assert resource.url == url
        assert [request.target for request in origin.requests] == [
            "/",
            "/v/b.m3u8?x=%41",
            "/v/a.m3u8",
        ]


async def test_read_redirect_loop() -> None:
    """Five redirects are followed, a sixth is not, and a loop is not tried again."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        origin.fault("/a", Redirect("/a"))
        with pytest.raises(TooManyRedirects, match="more than 5"):
            await playlist(fetcher, origin.at("/a"))
        assert len(origin.requests) == 6


async def test_read_redirect_limit() -> None:
    """Exactly the limit of redirects is fine."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        origin.add("/a", TEXT)
        origin.fault("/a", Redirect("/a"), times=5)
        assert await playlist(fetcher, origin.at("/a")) == TEXT.encode()


@pytest.mark.parametrize(
    "to",
    [
        "http://10.0.0.1/",
        "http://user:pw@127.0.0.1/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "http://127.0.0.1:99999/",
        "http://[::1/",
        "//evil\\@127.0.0.1/",
    ],
)
async def test_read_redirected_to_forbidden(to: str) -> None:
    """Each hop is checked as the first one was."""
    policy = AddressPolicy(allowed_networks=("127.0.0.1/32",), allowed_ports=())
    async with Origin() as origin, Fetcher(quick(policy=policy)) as fetcher:
        origin.fault("/a", Redirect(to))
        with pytest.raises(Forbidden):
            await playlist(fetcher, origin.at("/a"))
        assert len(origin.requests) == 1


# -- lifetime --------------------------------------------------------------------------------------


async def test_aclose_idempotent() -> None:
    """Closing ends every connection, may be repeated, and nothing can be asked afterwards."""
    async with Origin() as origin:
        fetcher = Fetcher(quick())
        await playlist(fetcher, origin.add("/a.m3u8", TEXT))
        assert origin.open_connections == 1
        await fetcher.aclose()
        await fetcher.aclose()
        await origin.until(lambda: origin.open_connections == 0)
        with pytest.raises(RuntimeError, match="closed"):
            await playlist(fetcher, origin.at("/a.m3u8"))


async def test_errors_know_the_attempt() -> None:
    """An error keeps what a retry policy asks for."""
    async with Origin() as origin, Fetcher(quick(playlist_attempts=1)) as fetcher:
        origin.fault("/a", Status(503, retry_after=4))
        with pytest.raises(SourceUnavailable) as raised:
            await playlist(fetcher, origin.at("/a"))
        error = raised.value
        assert isinstance(error, Attempted)
        assert (error.upstream_status, error.retry_after_s, error.retryable) == (503, 4, True)


async def test_open_connections_per_host() -> None:
    """An origin never has more connections of us than it may; who is too many waits."""
    async with Origin() as origin, Fetcher(quick(connections_per_host=2)) as fetcher:
        url = origin.add("/a", bytes(1000))
        gate = origin.hold("/a")

        async def get() -> int:
            async with fetcher.open(url) as body:
                return sum([len(chunk) async for chunk in body])

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(get()) for _ in range(6)]
            await origin.until(lambda: len(origin.requests) == 2)
            await asyncio.sleep(0)
            gate.open()
        assert [task.result() for task in tasks] == [1000] * 6
        assert len(origin.connections) == 2
        assert len(origin.requests) == 6
