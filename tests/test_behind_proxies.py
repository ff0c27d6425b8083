"""Cut means cut, also behind real nginx and real Envoy: curl's exit code is the judge.

What breaks in mid-stream must be no success for whoever fetches it, and what was delivered before
must be there, in whole fragments.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.support import boxes
from tests.support.client import Conversation, ask, stream_target
from tests.support.clips import Clip, make_clip
from tests.support.envoy import envoy
from tests.support.nginx import DEFAULTS, RECOMMENDED, nginx
from tests.support.origin import Origin, Stall, Truncate
from tests.support.served import (
    LOOPBACK,
    Serve,
    curl,
    free_port,
    over_aiohttp,
    over_asgi,
    real_app,
    running,
    until_healthy,
    until_idle,
)
from tests.support.streams import publish

CURL_PARTIAL_FILE = 18  # "transfer closed with outstanding read data remaining"
CURL_HTTP2_STREAM = 92  # an HTTP/2 stream that was reset

Front = Callable[[str, Path], AbstractAsyncContextManager[str]]  # yields the address


def nginx_as_recommended(upstream: str, folder: Path) -> AbstractAsyncContextManager[str]:
    return nginx(upstream, folder, directives=RECOMMENDED)


def nginx_with_defaults(upstream: str, folder: Path) -> AbstractAsyncContextManager[str]:
    return nginx(upstream, folder, directives=DEFAULTS)


def large_clip() -> Clip:
    """3 MB in eight segments: more than the buffers of a proxy hold."""
    return make_clip(seconds=8.0, width=640, height=360, bitrate=5_000_000)


BEHIND = [
    (over_aiohttp, nginx_as_recommended),
    (over_aiohttp, nginx_with_defaults),
    (over_aiohttp, envoy),
    (over_asgi, nginx_as_recommended),
    (over_asgi, envoy),
]


@contextlib.asynccontextmanager
async def behind(face: Serve, front: Front, folder: Path) -> AsyncIterator[tuple[Origin, str, str]]:
    """An origin with a clip, the proxy, something in front of it: gives the origin, the address of
    the front, and the target."""
    async with Origin() as origin, real_app() as app, face(app) as address:
        target = stream_target(publish(origin, large_clip()))
        async with front(address, folder) as outermost:
            yield origin, outermost, target


@pytest.mark.parametrize(("face", "front"), BEHIND)
async def test_whole_stream_is_a_success(face: Serve, front: Front, tmp_path: Path) -> None:
    """A stream that ends well is exit code 0, and not a byte of it is different."""
    async with behind(face, front, tmp_path) as (_, address, target):
        code, body = await curl(address + target)
        assert code == 0
        boxes.read(body)
        async with real_app() as app, over_aiohttp(app) as direct:
            assert (await ask(direct, target)).body == body


@pytest.mark.parametrize("pace", [(), ("--limit-rate", "4M")], ids=["fast", "slow"])
@pytest.mark.parametrize(("face", "front"), BEHIND)
async def test_broken_stream_is_a_failure(
    face: Serve, front: Front, pace: tuple[str, ...], tmp_path: Path
) -> None:
    """A stream that breaks in mid-way is no success, and all that was delivered before arrives."""
    async with behind(face, front, tmp_path) as (origin, address, target):
        _, whole = await curl(address + target)
        origin.fault("/6.ts", Truncate(50_000))
        code, part = await curl(*pace, address + target)
        assert code == CURL_PARTIAL_FILE
        movie = boxes.read(part)  # whole fragments
        assert len(movie.samples(movie.track("vide"))) >= 6 * 25 - 15
        assert whole.startswith(part)


async def test_broken_stream_is_a_failure_over_http_2(tmp_path: Path) -> None:
    """Envoy resets the stream of an HTTP/2 client, who by then has most of what was delivered.

    Not always all: a reset overtakes what waits for the client in Envoy (seen once: 32 kB less).
    """
    async with behind(over_aiohttp, envoy, tmp_path) as (origin, address, target):
        code, whole = await curl("--http2-prior-knowledge", address + target)
        assert code == 0
        origin.fault("/6.ts", Truncate(50_000))
        code, part = await curl("--http2-prior-knowledge", address + target)
        assert code == CURL_HTTP2_STREAM
        assert b"moof" in part
        assert whole.startswith(part)


async def test_stream_to_http_1_0_behind_nginx(tmp_path: Path) -> None:
    """nginx ends every body politely towards HTTP/1.0; it can be told to refuse such clients."""
    refuse = f'{RECOMMENDED} if ($server_protocol = "HTTP/1.0") {{ return 505; }}'
    async with (
        Origin() as origin,
        real_app() as app,
        over_aiohttp(app) as address,
        nginx(address, tmp_path, directives=refuse) as front,
    ):
        target = stream_target(publish(origin, make_clip()))
        assert (await ask(front, target, version="1.0")).status == 505
        assert (await ask(front, target)).ended == "complete"


async def test_asgi_refuses_nginx_that_speaks_http_1_0(tmp_path: Path) -> None:
    """What cannot be cut over HTTP/1.0 is refused to it, and the answer says what to do."""
    async with behind(over_asgi, nginx_with_defaults, tmp_path) as (origin, address, target):
        reply = await ask(address, target)
        assert (reply.status, reply.json()["code"]) == (505, "http_version_unsupported")
        assert "HTTP/1.1" in reply.json()["detail"]
        assert origin.requests == []


@pytest.mark.parametrize(
    ("face", "front"),
    [(over_aiohttp, nginx_as_recommended), (over_aiohttp, nginx_with_defaults), (over_asgi, envoy)],
)
async def test_client_that_leaves_is_noticed_behind_a_proxy(
    face: Serve, front: Front, tmp_path: Path
) -> None:
    """The proxy in between closes its connection, and the origin sees its own closed."""
    async with behind(face, front, tmp_path) as (origin, address, target):
        origin.fault("/4.ts", Stall(5000))
        async with await Conversation.open(address) as conversation:
            conversation.request(target)
            await conversation.head()
            await origin.until(lambda: bool(origin.asked("/4.ts")))
            conversation.leave()
        await origin.until(lambda: origin.asked("/4.ts")[-1].ended)
        await until_idle(address)


async def test_granian_behind_proxies(tmp_path: Path) -> None:
    """Another ASGI server, in a process of its own: whole is whole, and cut is cut."""
    port = free_port()
    command = ("granian", "--interface", "asgi", "--factory", "proxy.faces.asgi:create_app",
               "--host", "127.0.0.1", "--port", str(port), "--no-ws",
               "--log-level", "critical")  # fmt: skip
    direct = f"http://127.0.0.1:{port}"
    async with Origin() as origin, running(*command, environment=LOOPBACK):
        await until_healthy(direct)
        target = stream_target(publish(origin, large_clip()))
        for number, front in enumerate((nginx_as_recommended, envoy)):
            folder = tmp_path / str(number)
            folder.mkdir()
            async with front(direct, folder) as address:
                code, whole = await curl(address + target)
                assert code == 0
                origin.fault("/6.ts", Truncate(50_000), times=3)  # as often as it is tried
                code, part = await curl(address + target)
                assert code == CURL_PARTIAL_FILE
                assert boxes.read(part).fragments
                assert whole.startswith(part)


async def test_reset_waits_until_everything_is_taken() -> None:
    """A slow HTTP/1.0 client gets every whole fragment before the reset that tells of the cut."""
    async with Origin() as origin, real_app() as app, over_aiohttp(app) as address:
        target = stream_target(publish(origin, large_clip()))
        # Before its first byte: how many of it are read before its end is seen is chance.
        origin.fault("/6.ts", Truncate(0), times=6)  # each as often as it is tried
        wanted = await ask(address, target)
        assert wanted.ended == "cut"
        async with await Conversation.narrow(address) as conversation:
            conversation.request(target, version="1.0")
            reply = await conversation.reply()
        assert reply.ended == "reset"
        assert reply.body == wanted.body
