"""The key ring against a real origin: one fetch for all, 16 bytes or an error, and no leaks."""

import asyncio
import base64
import traceback

import pytest

from proxy.errors import (
    EncryptedSource,
    Forbidden,
    KeyTooLarge,
    KeyUnavailable,
    ProxyError,
    SourceTimeout,
    SourceUnavailable,
)
from proxy.fetch import Fetcher, Settings
from proxy.fetch.keys import KeyRing, check_supported
from proxy.hls.model import Key, MediaPlaylist
from proxy.hls.parse import parse_playlist
from tests.fetch.helpers import quick, settled
from tests.support.origin import (
    Delay,
    Endless,
    Fault,
    Hangup,
    Origin,
    Redirect,
    Replace,
    Stall,
    Status,
)

SECRET = b"sixteen secrets!"
OTHER = bytes(range(16))
TOKEN = "s3cret"


def aes(uri: str | None) -> Key:
    return Key(method="AES-128", uri=uri)


# -- what is fetched, and how often ----------------------------------------------------------------


async def test_get_key() -> None:
    """A key comes as its 16 bytes, over a request with the headers of its origin's scope."""
    async with Origin() as origin:
        settings = quick(headers={f"127.0.0.1:{origin.port}": {"Authorization": f"Bearer {TOKEN}"}})
        async with Fetcher(settings) as fetcher, KeyRing(fetcher) as keys:
            origin.add("/key", SECRET)
            assert await keys.get(aes(origin.at("/key?a=b"))) == SECRET
        (request,) = origin.requests
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        assert request.headers["via"] == settings.via
        assert request.query == "a=b"


async def test_get_known_key() -> None:
    """A key is fetched once, whatever IV it comes with; another address is another key."""
    async with Origin() as origin, Fetcher(quick()) as fetcher, KeyRing(fetcher) as keys:
        one, two = origin.add("/one", SECRET), origin.add("/two", OTHER)
        for iv in (None, OTHER, SECRET):
            assert await keys.get(Key(method="AES-128", uri=one, iv=iv)) == SECRET
            assert await keys.get(Key(method="AES-128", uri=two, iv=iv)) == OTHER
        assert len(origin.asked("/one")) == len(origin.asked("/two")) == 1


async def test_get_by_many_at_once() -> None:
    """Ten who ask at the same time share one request."""
    async with Origin() as origin, Fetcher(quick()) as fetcher, KeyRing(fetcher) as keys:
        key = aes(origin.add("/key", SECRET))
        gate = origin.hold("/key", after_bytes=None)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(keys.get(key)) for _ in range(10)]
            await gate.reached()
            gate.open()
        assert [task.result() for task in tasks] == [SECRET] * 10
        assert len(origin.requests) == 1


@pytest.mark.parametrize("cancelled", [0, 1, 9])
async def test_get_cancelled(cancelled: int) -> None:
    """One who leaves, be it who asked first, takes nothing from the others."""
    async with Origin() as origin, Fetcher(quick()) as fetcher, KeyRing(fetcher) as keys:
        key = aes(origin.add("/key", SECRET))
        gate = origin.hold("/key", after_bytes=None)
        tasks = [asyncio.create_task(keys.get(key)) for _ in range(10)]
        await gate.reached()
        gone = tasks.pop(cancelled)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        gate.open()
        assert await asyncio.gather(*tasks) == [SECRET] * 9
        assert len(origin.requests) == 1


async def test_get_cancelled_by_all() -> None:
    """What nobody waits for any more is still there for who asks next."""
    async with Origin() as origin, Fetcher(quick()) as fetcher, KeyRing(fetcher) as keys:
        key = aes(origin.add("/key", SECRET))
        gate = origin.hold("/key", after_bytes=None)
        task = asyncio.create_task(keys.get(key))
        await gate.reached()
        task.cancel()
        await asyncio.wait([task])
        gate.open()
        assert await keys.get(key) == SECRET
        assert len(origin.requests) == 1


async def test_get_forgets_oldest() -> None:
    """Beyond its capacity the ring forgets the key that was used longest ago."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        one, two, three = (aes(origin.add(f"/{name}", SECRET)) for name in ("1", "2", "3"))
        async with KeyRing(fetcher, capacity=2) as keys:
            for key in (one, two, one, three, one, two):
                assert await keys.get(key) == SECRET
        assert [request.path for request in origin.requests] == ["/1", "/2", "/3", "/2"]


async def test_expect_key() -> None:
    """A key that was expected is asked for once, before anybody needs it."""
    async with Origin() as origin, Fetcher(quick()) as fetcher, KeyRing(fetcher) as keys:
        key = aes(origin.add("/key", SECRET))
        keys.expect(key)
        keys.expect(key)
        await origin.until(lambda: len(origin.requests) == 1)
        assert await keys.get(key) == SECRET
        keys.expect(key)
        await settled()
        assert len(origin.requests) == 1


async def test_expect_failure() -> None:
    """An expected key that did not come is no trouble for who asks when it is there."""
    async with Origin() as origin, Fetcher(quick(key_attempts=1)) as fetcher:
        key = aes(origin.add("/key", SECRET))
        origin.fault("/key", Status(404), times=1)
        async with KeyRing(fetcher) as keys:
            keys.expect(key)
            await origin.until(lambda: origin.requests != [] and origin.requests[0].ended)
            await settled()
            assert await keys.get(key) == SECRET
        assert [request.status for request in origin.requests] == [404, 200]


async def test_aclose() -> None:
    """Closing ends the request, tells who waits, and leaves neither task nor connection."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        before = asyncio.all_tasks()
        keys = KeyRing(fetcher)
        gate = origin.hold("/key", after_bytes=None)
        waiting = asyncio.create_task(keys.get(aes(origin.add("/key", SECRET))))
        await gate.reached()
        await keys.aclose()
        await keys.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await waiting
        with pytest.raises(RuntimeError, match="closed"):
            await keys.get(aes(origin.at("/key")))
        await origin.until(lambda: origin.open_connections == 0)
        await settled()
        assert {
            task for task in asyncio.all_tasks() - before if "_serve" not in repr(task)
        } == set()


async def test_aclose_before_the_first_step() -> None:
    """Closing right behind an expectation costs the origin nothing."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        async with KeyRing(fetcher) as keys:
            keys.expect(aes(origin.add("/key", SECRET)))
        assert origin.connections == []


# -- what is no key --------------------------------------------------------------------------------


FAILURES: dict[str, tuple[Fault, type[ProxyError] | None]] = {
    "401": (Status(401), SourceUnavailable),
    "403": (Status(403), SourceUnavailable),
    "404": (Status(404), SourceUnavailable),
    "410": (Status(410), SourceUnavailable),
    "500": (Status(500), SourceUnavailable),
    "no answer": (Hangup(), SourceUnavailable),
    "half an answer": (Hangup(after_bytes=8), SourceUnavailable),
    "stall": (Stall(), SourceTimeout),
    "stall half way": (Stall(after_bytes=8), SourceTimeout),
    "1024 bytes": (Replace(bytes(1024)), None),
    "hexadecimal": (Replace(SECRET.hex().encode()), None),
    "line feed": (Replace(SECRET + b"\n"), None),
    "15 bytes": (Replace(SECRET[:15]), None),
    "nothing": (Replace(b""), None),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_get_failure(failure: str) -> None:
    """Whatever else comes instead of 16 bytes is `key_unavailable`, with the reason behind it."""
    fault, cause = FAILURES[failure]
    settings = quick(headers_timeout_s=0.1, read_timeout_s=0.1, key_attempts=1)
    async with Origin() as origin, Fetcher(settings) as fetcher, KeyRing(fetcher) as keys:
        origin.add("/key", SECRET)
        origin.fault("/key", fault)
        key = aes(origin.at(f"/key?token={TOKEN}"))
        with pytest.raises(KeyUnavailable) as raised:
            await keys.get(key)
        error = raised.value
        assert (error.status, error.code) == (502, "key_unavailable")
        if cause is None:
            assert error.__cause__ is None
        else:
            assert isinstance(error.__cause__, cause)
        shown = "".join(traceback.format_exception(error)) + repr(error)
        assert f"127.0.0.1:{origin.port}/key" in shown
        assert TOKEN not in shown
        assert SECRET.decode() not in shown


@pytest.mark.parametrize("fault", [Endless(), Replace(bytes(1025))])
async def test_get_too_large(fault: Fault) -> None:
    """More than 1 KiB is not read, and has a code of its own."""
    async with Origin() as origin, Fetcher(quick()) as fetcher, KeyRing(fetcher) as keys:
        origin.fault("/key", fault)
        with pytest.raises(KeyTooLarge) as raised:
            await keys.get(aes(origin.at(f"/key?token={TOKEN}")))
        assert (raised.value.status, raised.value.code) == (502, "key_too_large")
        assert TOKEN not in str(raised.value)
        assert len(origin.requests) == 1


async def test_get_retried() -> None:
    """A passing failure is tried again as often as the settings say."""
    async with Origin() as origin, Fetcher(quick(key_attempts=2)) as fetcher:
        key = aes(origin.add("/key", SECRET))
        origin.fault("/key", Status(503), times=1)
        async with KeyRing(fetcher) as keys:
            assert await keys.get(key) == SECRET
        assert [request.status for request in origin.requests] == [503, 200]


async def test_get_retry_after() -> None:
    """What the origin says about when to come back is passed on."""
    async with Origin() as origin, Fetcher(quick()) as fetcher, KeyRing(fetcher) as keys:
        origin.fault("/key", Status(503, retry_after=120))
        with pytest.raises(KeyUnavailable) as failure:
            await keys.get(aes(origin.at("/key")))
        assert failure.value.retry_after_s == 120


async def test_get_failure_is_told_to_all_and_not_kept() -> None:
    """All who wait get the failure of the one request; who asks later gets another try."""
    async with Origin() as origin, Fetcher(quick(key_attempts=1)) as fetcher:
        key = aes(origin.add("/key", SECRET))
        origin.fault("/key", Status(403), times=1)
        gate = origin.hold("/key", after_bytes=None)
        async with KeyRing(fetcher) as keys:
            tasks = [asyncio.create_task(keys.get(key)) for _ in range(10)]
            await gate.reached()
            gate.open()
            errors = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(error) for error in errors] == [KeyUnavailable] * 10
            assert len(origin.requests) == 1
            assert await keys.get(key) == SECRET


async def test_get_forbidden() -> None:
    """An address that our guard refuses stays `forbidden`, also behind a redirect."""
    async with Origin() as origin:
        key = aes(origin.add("/key", SECRET))
        async with Fetcher(Settings()) as fetcher, KeyRing(fetcher) as keys:
            with pytest.raises(Forbidden):
                await keys.get(key)
            assert origin.connections == []
        async with Fetcher(quick()) as fetcher, KeyRing(fetcher) as keys:
            origin.fault("/key", Redirect("file:///etc/passwd"))
            with pytest.raises(Forbidden):
                await keys.get(key)


@pytest.mark.parametrize(
    ("key", "named"),
    [
        (Key(method="SAMPLE-AES", uri="http://127.0.0.1/"), "METHOD=SAMPLE-AES"),
        (Key(method="SAMPLE-AES-CTR", uri="http://127.0.0.1/"), "METHOD=SAMPLE-AES-CTR"),
        (Key(method="AES-256", uri="http://127.0.0.1/"), "METHOD=AES-256"),
        (
            Key(method="AES-128", uri="skd://x", key_format="com.apple.streamingkeydelivery"),
            "KEYFORMAT=com.apple.streamingkeydelivery",
        ),
    ],
)
async def test_get_unsupported(key: Key, named: str) -> None:
    """Other methods and key formats are `encrypted_source`, named, and nothing is fetched."""
    async with Fetcher(quick()) as fetcher, KeyRing(fetcher) as keys:
        with pytest.raises(EncryptedSource) as refusal:
            await keys.get(key)
        assert refusal.value.detail == f"EXT-X-KEY: {named}."
        with pytest.raises(EncryptedSource):
            keys.expect(key)
        with pytest.raises(EncryptedSource):
            check_supported(key)
        assert "0 keys, 0 on their way" in repr(keys)


async def test_get_without_address() -> None:
    """A key without URI cannot be had."""
    async with Fetcher(quick()) as fetcher, KeyRing(fetcher) as keys:
        keys.expect(aes(None))
        with pytest.raises(KeyUnavailable):
            await keys.get(aes(None))


# -- keys that stand in the playlist ---------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "data:;base64,c2l4dGVlbiBzZWNyZXRzIQ==",
        "data:text/plain;charset=UTF-8;base64,c2l4dGVlbiBzZWNyZXRzIQ==",
        "DATA:application/octet-stream;BASE64,c2l4dGVlbiBzZWNyZXRzIQ%3D%3D",
        "data:;base64,c2l4dGVlbiBzZWNyZXRzIQ",
    ],
)
async def test_get_inline(uri: str) -> None:
    """A key in a data: address is read from the playlist's text, and nothing is fetched."""
    text = f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{uri}"\n#EXTINF:4,\na.ts\n#EXT-X-ENDLIST\n'
    playlist = parse_playlist(text, "https://example.org/a/b.m3u8")
    assert isinstance(playlist, MediaPlaylist)
    key = playlist.segments[0].key
    assert key is not None
    async with Fetcher(Settings()) as fetcher, KeyRing(fetcher) as keys:
        keys.expect(key)
        assert await keys.get(key) == SECRET


@pytest.mark.parametrize(
    "uri",
    [
        "data:",
        "data:;base64",
        "data:;base64,",
        "data:,sixteen%20secrets!",  # not in base64
        "data:;base64,c2l4dGVlbiBzZWNyZXRz",  # 15 bytes
        "data:;base64,c2l4*dGVlbiBzZWNyZXRzIQ==",
        "data:;base64,c2l4dGVlbiBzZWNyZXRzIQ%FF",
        "data:;base64,c2l4dGVlbiBzZWNyZXRzI",
        "data:;base64,c2l4dGVlbiBzZWNyZXRzIQ====" + "=" * 256,
    ],
)
async def test_get_inline_malformed(uri: str) -> None:
    """A data: address that is not 16 bytes in base64 is no key, and is not shown."""
    async with Fetcher(quick()) as fetcher, KeyRing(fetcher) as keys:
        with pytest.raises(KeyUnavailable) as failure:
            await keys.get(aes(uri))
        assert "c2l4" not in "".join(traceback.format_exception(failure.value, limit=0))


# -- secrets ---------------------------------------------------------------------------------------


async def test_repr_shows_no_secret() -> None:
    """Neither the ring nor its tasks show a key or the query of its address."""
    async with Origin() as origin, Fetcher(quick()) as fetcher, KeyRing(fetcher) as keys:
        origin.fault("/key", Delay(0.001))
        origin.add("/key", SECRET)
        key = aes(origin.at(f"/key?token={TOKEN}"))
        before = asyncio.all_tasks()
        keys.expect(key)
        (flight,) = asyncio.all_tasks() - before
        shown = [repr(key), repr(flight), repr(keys)]
        assert await keys.get(key) == SECRET
        shown += [repr(flight), repr(keys), str(keys)]
        for text in shown:
            for secret in (TOKEN, "sixteen", SECRET.hex(), base64.b64encode(SECRET).decode()):
                assert secret not in text


async def test_get_failure_has_facts_behind_it() -> None:
    """The status of the origin is still known from the cause."""
    async with Origin() as origin, Fetcher(quick()) as fetcher, KeyRing(fetcher) as keys:
        origin.fault("/key", Status(403))
        with pytest.raises(KeyUnavailable) as failure:
            await keys.get(aes(origin.at("/key")))
        cause = failure.value.__cause__
        assert isinstance(cause, SourceUnavailable)
        assert getattr(cause, "upstream_status", None) == 403
