"""The nginx and Envoy files of `deploy/`, run as they stand in front of both faces."""

import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy import admission
from proxy.app import Settings
from tests.support import boxes
from tests.support.client import Conversation, ask, stream_target
from tests.support.clips import Clip, make_clip
from tests.support.deployed import Front, MakeFront, deployed_envoy, deployed_nginx
from tests.support.faults import Stall, Truncate
from tests.support.nginx import running_nginx
from tests.support.origin import Origin
from tests.support.served import (
    Serve,
    curl,
    free_port,
    over_aiohttp,
    over_asgi,
    real_app,
    running,
    until_idle,
)
from tests.support.streams import publish

CURL_PARTIAL_FILE = 18  # "transfer closed with outstanding read data remaining"
CURL_HTTP2_STREAM = 92  # an HTTP/2 stream that was reset
BEHIND = [
    pytest.param(over_aiohttp, deployed_nginx, id="aiohttp-nginx"),
    pytest.param(over_aiohttp, deployed_envoy, id="aiohttp-envoy"),
    pytest.param(over_asgi, deployed_nginx, id="asgi-nginx"),
    pytest.param(over_asgi, deployed_envoy, id="asgi-envoy"),
]
both = pytest.mark.parametrize(("face", "front"), BEHIND)


def large_clip() -> Clip:
    """3 MB in eight segments: more than the buffers of a proxy hold."""
    return make_clip(seconds=8.0, width=640, height=360, bitrate=5_000_000)


@contextlib.asynccontextmanager
async def behind(
    face: Serve, front: MakeFront, folder: Path, *, times: int = 1
) -> AsyncIterator[tuple[Origin, str, Front, str]]:
    """An origin with a clip, the proxy, and what stands in front of it: gives the origin, the
    address of the proxy, the front, and the target."""
    async with Origin() as origin, real_app() as app, face(app) as address:
        target = stream_target(publish(origin, large_clip(), times=times))
        async with front(address, folder) as outermost:
            yield origin, address, outermost, target


@both
async def test_stream_is_whole(face: Serve, front: MakeFront, tmp_path: Path) -> None:
    """A stream that ends well is a success, and not a byte of it is different."""
    async with behind(face, front, tmp_path) as (_, direct, outermost, target):
        code, body = await curl(outermost.address + target)
        assert code == 0
        assert (await ask(direct, target)).body == body


@both
async def test_broken_stream_is_a_failure(face: Serve, front: MakeFront, tmp_path: Path) -> None:
    """A stream that breaks in mid-way is none, and all that was delivered before arrives."""
    async with behind(face, front, tmp_path) as (origin, direct, outermost, target):
        whole = (await ask(direct, target)).body
        origin.fault("/6.ts", Truncate(50_000))
        code, part = await curl(outermost.address + target)
        assert code == CURL_PARTIAL_FILE
        assert boxes.read(part).fragments
        assert whole.startswith(part)


async def test_broken_stream_is_a_failure_over_http_2(tmp_path: Path) -> None:
    """Envoy takes HTTP/2, and resets the stream that broke."""
    async with behind(over_aiohttp, deployed_envoy, tmp_path) as (origin, _, front, target):
        code, _ = await curl("--http2-prior-knowledge", front.address + target)
        assert code == 0
        origin.fault("/6.ts", Truncate(50_000))
        code, part = await curl("--http2-prior-knowledge", front.address + target)
        assert code == CURL_HTTP2_STREAM
        assert boxes.read(part).fragments


@both
async def test_first_fragment_is_not_held_back(
    face: Serve, front: MakeFront, tmp_path: Path
) -> None:
    """What has come of a stream is with the client while its source still stands."""
    async with behind(face, front, tmp_path) as (origin, _, outermost, target):
        gate = origin.hold("/1.ts")
        async with await Conversation.open(outermost.address) as conversation:
            conversation.request(target)
            status, _ = await conversation.head()
            assert status == 200
            got = b""
            while b"mdat" not in got:
                got += await conversation.read(1)
            assert b"moof" in got
            gate.open()


@pytest.mark.parametrize(
    ("front", "status"), [(deployed_nginx, 505), (deployed_envoy, 426)], ids=["nginx", "envoy"]
)
async def test_http_1_0_is_refused(front: MakeFront, status: int, tmp_path: Path) -> None:
    """A client that could not be shown a broken stream gets none."""
    async with behind(over_aiohttp, front, tmp_path) as (origin, _, outermost, target):
        assert (await ask(outermost.address, target, version="1.0")).status == status
        assert origin.requests == []


@both
async def test_client_that_leaves_is_noticed(face: Serve, front: MakeFront, tmp_path: Path) -> None:
    """The front closes its connection, and the origin sees its own closed."""
    async with behind(face, front, tmp_path) as (origin, direct, outermost, target):
        origin.fault("/4.ts", Stall(5000))
        async with await Conversation.open(outermost.address) as conversation:
            conversation.request(target)
            await conversation.head()
            await origin.until(lambda: bool(origin.asked("/4.ts")))
            conversation.leave()
        await origin.until(lambda: origin.asked("/4.ts")[-1].ended)
        await until_idle(direct)


@both
async def test_slow_client_slows_the_origin_down(
    face: Serve, front: MakeFront, tmp_path: Path
) -> None:
    """A front keeps little of a stream that nobody takes: the origin waits, too."""
    async with behind(face, front, tmp_path, times=30) as (origin, _, outermost, target):
        async with await Conversation.narrow(outermost.address) as conversation:
            conversation.request(target)
            await conversation.head()
            sent = await origin.standstill(quiet_s=0.5)
            conversation.leave()
        assert sent < 60_000_000  # of 90 MB; the proxy may hold 16, and the kernel much


def disk_files_of(process: int, folder: Path) -> list[str]:
    """The files below `folder` that a process has open, names that are gone included."""
    links = [str(one.readlink()) for one in Path(f"/proc/{process}/fd").iterdir()]
    return [link for link in links if link.startswith(str(folder))]


# What makes nginx buffer although remuxd asks it not to (X-Accel-Buffering).
BUFFERING = """\
server {{
  listen 127.0.0.1:{port};
  proxy_ignore_headers X-Accel-Buffering;
  location / {{ proxy_pass {upstream}; }}
}}
"""


@contextlib.asynccontextmanager
async def buffering_nginx(upstream: str, folder: Path) -> AsyncIterator[Front]:
    port = free_port()
    async with running_nginx(BUFFERING.format(port=port, upstream=upstream), folder) as run:
        yield Front(address=f"http://127.0.0.1:{port}", run=run)


@pytest.mark.parametrize(
    ("front", "writes"), [(deployed_nginx, False), (buffering_nginx, True)], ids=["ours", "other"]
)
async def test_nginx_writes_no_stream_to_disk(
    front: MakeFront, tmp_path: Path, *, writes: bool
) -> None:
    """A client that is slow makes no temporary file, as it does where nginx may buffer."""
    async with behind(over_aiohttp, front, tmp_path, times=12) as (origin, _, outermost, target):
        async with await Conversation.narrow(outermost.address) as conversation:
            conversation.request(target)
            await conversation.head()
            await origin.standstill(quiet_s=0.5)
            assert bool(disk_files_of(outermost.run.process.pid, tmp_path)) == writes
            conversation.leave()
        told = [line for line in outermost.run.said if "temporary file" in line]
        assert bool(told) == writes


@pytest.mark.parametrize("front", [deployed_nginx, deployed_envoy], ids=["nginx", "envoy"])
async def test_client_is_the_one_in_front(
    front: MakeFront, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the front among `trusted_proxies` the client is who asked it, whatever that one says."""
    settings = Settings(admission=admission.Settings(trusted_proxies=("127.0.0.1",)))
    async with (
        Origin() as origin,
        real_app(settings) as app,
        over_aiohttp(app) as address,
        front(address, tmp_path) as outermost,
    ):
        target = stream_target(publish(origin, make_clip()))
        said = ("--interface", "127.0.0.2", "-H", "X-Forwarded-For: 203.0.113.9")
        with caplog.at_level(logging.INFO, logger="proxy.delivery"):
            assert (await curl(*said, outermost.address + target))[0] == 0
            await app.idle()
    (line,) = [
        record.getMessage() for record in caplog.records if "stream " in record.msg % record.args
    ]
    assert " client=127.0.0.2 " in line


@pytest.mark.parametrize(
    ("front", "metrics"),
    [(deployed_nginx, b"403"), (deployed_envoy, b"404")],
    ids=["nginx", "envoy"],
)
async def test_health_is_asked_through_the_front(
    front: MakeFront, metrics: bytes, tmp_path: Path
) -> None:
    """Liveness and readiness can be seen from outside; the figures cannot."""
    async with behind(over_aiohttp, front, tmp_path) as (_, _, outermost, _):
        assert (await ask(outermost.address, "/healthz")).status == 200
        assert (await ask(outermost.address, "/readyz")).status == 200
        show = ("--interface", "127.0.0.2", "-o", "/dev/null", "-w", "%{http_code}")
        assert (await curl(*show, f"{outermost.address}/metrics"))[1] == metrics


# -- beside an application -------------------------------------------------------------------------

SIDECAR = """\
[server]
port = 0
trusted_proxies = ["127.0.0.1"]

[[routes]]
path = "/vod/{{path}}.mp4"
url = "{origin}/internal/{{path}}/media.m3u8"
allow_private_addresses = true
headers = {{ Authorization = "Bearer canary" }}
"""


async def test_player_behind_nginx_never_sees_the_origin(tmp_path: Path) -> None:
    """From the file of nginx to the origin: paths play, and no answer tells where they lead."""
    async with Origin() as origin:
        publish(origin, large_clip(), prefix="/internal/2024/film/")
        config = tmp_path / "config.toml"
        config.write_text(SIDECAR.format(origin=origin.url))
        async with running("proxy", "serve", "--config", str(config), environment={}) as run:
            address = (await run.until_said("listening on")).rpartition(" ")[2]
            async with deployed_nginx(address, tmp_path) as front:
                film = "/vod/2024/film.mp4"
                whole = await ask(front.address, film)
                assert (whole.status, whole.ended) == (200, "complete")
                assert boxes.read(whole.body).fragments
                replies = [whole, await ask(front.address, film, method="HEAD")]
                for target, status in (
                    ("/vod/none.mp4", 404),
                    ("/vod/%2e%2e/x.mp4", 400),
                    (f"{film}?url=x", 400),
                    (f"{film}?start=900", 416),
                    (stream_target(origin.at("/internal/2024/film/media.m3u8")), 403),
                    ("/inspect?url=x", 403),
                    ("/nothing", 404),
                ):
                    replies.append(await ask(front.address, target))
                    assert replies[-1].status == status, target
                origin.fault("/internal/2024/film/0.ts", Truncate(100))
                replies.append(await ask(front.address, film))
                assert replies[-1].status == 502
                origin.heal()
                origin.fault("/internal/2024/film/6.ts", Truncate(50_000))
                replies.append(await ask(front.address, film))
                assert replies[-1].ended == "cut"
                origin.heal()
                await origin.refuse()
                replies.append(await ask(front.address, film))
                assert replies[-1].status == 502
                # Whoever has an answer has its id, and may ask about it.
                ids = [reply.header("x-stream-id") for reply in replies]
                replies += [await ask(front.address, f"/streams/{one}") for one in ids]
        assert {one.headers["authorization"] for one in origin.requests} == {"Bearer canary"}
    for reply in replies:
        told = repr(reply.headers).encode() + reply.body
        for secret in (f":{origin.port}", "/internal/", "m3u8", "canary"):
            assert secret.encode() not in told, (reply.status, secret)
