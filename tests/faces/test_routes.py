"""Routes over both faces: what a player asks for, what the origin sees, and what nobody gets."""

import contextlib
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from proxy import wiring
from proxy.app import App, Settings
from proxy.config import Config
from proxy.errors import SourceUnavailable
from proxy.guard import signing
from proxy.routes import Route
from tests.support import boxes
from tests.support.client import ask, stream_target
from tests.support.clips import make_clip, pieces
from tests.support.origin import Origin, Request
from tests.support.pipelines import PARTS, ScriptedPipeline
from tests.support.playlists import Entry
from tests.support.served import Serve, free_port, running
from tests.support.streams import publish, publish_playlist

VOD = Route(path="/vod/{path}.mp4", url="https://origin.internal/{path}/index.m3u8")
SECRET = "0123456789abcdef" * 2


def routed(pipeline: ScriptedPipeline, route: Route = VOD, **settings: Any) -> App:
    return App(pipeline, Settings(routes=(route,), **settings))


# -- what reaches the pipeline ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("/vod/film.mp4", "https://origin.internal/film/index.m3u8"),
        ("/vod/2024/film.mp4", "https://origin.internal/2024/film/index.m3u8"),
        ("/vod/2024%2Ffilm.mp4", "https://origin.internal/2024/film/index.m3u8"),
        ("/vod/a%20b%3F%23.mp4", "https://origin.internal/a%20b%3F%23/index.m3u8"),
        ("/vod/a+b.mp4", "https://origin.internal/a%2Bb/index.m3u8"),
        ("/vod/100%25.mp4", "https://origin.internal/100%25/index.m3u8"),
        ("/vod/F%C3%BC.mp4", "https://origin.internal/F%C3%BC/index.m3u8"),
        ("/vod/%40evil.example.mp4", "https://origin.internal/%40evil.example/index.m3u8"),
    ],
)
async def test_route_opens_the_address_it_means(serve: Serve, target: str, url: str) -> None:
    """A path is a stream, from the address of its route, by the route's own way."""
    pipeline = ScriptedPipeline()
    async with serve(routed(pipeline)) as address:
        reply = await ask(address, target)
    assert (reply.status, reply.body) == (200, b"".join(PARTS))
    assert (reply.header("content-type") or "").startswith("video/mp4")
    assert [request.url for request in pipeline.requests] == [url]


@pytest.mark.parametrize(
    "target",
    [
        "/vod/%2e%2e/%2e%2e/secret.mp4", "/vod/..%2fsecret.mp4", "/vod/a%0d%0aHost:x.mp4",
        "/vod/%252e%252e%252fsecret.mp4", "/vod/%2Fevil.example/a.mp4", "/vod//evil.example/a.mp4",
        "/vod/a%5c..%5cb.mp4", "/vod/%FF.mp4", "/vod/%00.mp4", "/vod/%ED%A0%80.mp4",
    ],
)  # fmt: skip
async def test_path_that_is_not_clean_is_400(serve: Serve, target: str) -> None:
    """Nothing is opened for a path that could mean something else to an origin."""
    pipeline = ScriptedPipeline()
    async with serve(routed(pipeline)) as address:
        reply = await ask(address, target)
    assert (reply.status, reply.json()["code"]) == (400, "invalid_request")
    assert "path" in reply.json()["detail"]
    assert pipeline.requests == []


async def test_route_takes_the_parameters_it_leaves_open(serve: Serve) -> None:
    """A client chooses what the route has not decided, and is refused the rest by name."""
    route = Route(path=VOD.path, url=VOD.url, fixed={"quality": "720p", "filename": "{path}.mp4"})
    pipeline = ScriptedPipeline()
    async with serve(routed(pipeline, route)) as address:
        reply = await ask(address, "/vod/a/film.mp4?start=3&audio=en")
        assert reply.header("content-disposition") == 'attachment; filename="film.mp4"'
        assert reply.header("x-start-time") == "8.000"
        for query in ("quality=best", "url=http%3A%2F%2Fo%2Fa", "filename=x", "on_gap=skip"):
            reply = await ask(address, f"/vod/film.mp4?{query}")
            assert (reply.status, reply.json()["code"]) == (400, "invalid_request")
            assert query.partition("=")[0] in reply.json()["detail"]
    (request,) = pipeline.requests
    assert (request.start_s, request.audio, request.quality.limit) == (3.0, "en", 720)


async def test_route_answers_other_methods_as_stream_does(serve: Serve) -> None:
    """HEAD leaves nothing running, OPTIONS is a preflight, and the rest is refused."""
    pipeline = ScriptedPipeline()
    app = routed(pipeline, cors_origins=("*",))
    async with serve(app) as address:
        head = await ask(address, "/vod/film.mp4", method="HEAD")
        assert (head.status, head.body, app.active) == (200, b"", 0)
        preflight = await ask(
            address, "/vod/film.mp4", method="OPTIONS", headers=(("Origin", "https://a.invalid"),)
        )
        assert preflight.status == 204
        assert preflight.header("access-control-allow-methods") == "GET, HEAD"
        assert (await ask(address, "/vod/film.mp4", method="POST")).status == 405
        assert (await ask(address, "/vod/film.mp3")).status == 404
        assert (await ask(address, "/inspect/vod/film.mp4")).status == 404


async def test_route_stands_below_the_base_path(serve: Serve) -> None:
    """The base path is in front of routes, too."""
    async with serve(routed(ScriptedPipeline(), base_path="/media")) as address:
        assert (await ask(address, "/media/vod/film.mp4")).status == 200
        assert (await ask(address, "/vod/film.mp4")).status == 404
        assert (await ask(address, "/mediavod/film.mp4")).status == 404


async def test_without_relay_nothing_that_a_client_names_is_opened(serve: Serve) -> None:
    """A server that has routes only says so, also to a link that is signed."""
    keys = signing.Settings(keys={"k": SECRET})
    pipeline = ScriptedPipeline()
    signed = signing.sign({"url": "https://o.example/a"}, key_id="k", secret=SECRET,
                          expires=int(time.time()) + 60)  # fmt: skip
    async with serve(routed(pipeline, relay=False, signing=keys)) as address:
        for target in (stream_target(), f"/stream?{signed}", "/inspect?url=x", "/stream"):
            reply = await ask(address, target)
            assert (reply.status, reply.json()["code"]) == (403, "forbidden")
            assert "its own paths only" in reply.json()["detail"]
        assert (await ask(address, "/vod/film.mp4")).status == 200
    assert len(pipeline.requests) == 1


def signature_for(path: str | None, **parameters: str) -> str:
    expires = int(time.time()) + 60
    return signing.sign(parameters, key_id="k", secret=SECRET, expires=expires, path=path)


async def test_route_needs_a_signature_where_stream_does(serve: Serve) -> None:
    """Required signatures count for routes; they hold for one path, and for no address."""
    required = signing.Settings(keys={"k": SECRET}, required=True)
    pipeline = ScriptedPipeline()
    own = signature_for("/vod/a/ü.mp4", start="3")
    async with serve(routed(pipeline, base_path="/media", signing=required)) as address:
        reply = await ask(address, f"/media/vod/a/{quote('ü')}.mp4?{own}")
        assert reply.status == 200
        refused = [
            "/media/vod/a/%C3%BC.mp4",
            f"/media/vod/b.mp4?{own}",
            f"/media/vod/a/%C3%BC.mp4?{own.replace('start=3', 'start=4')}",
            f"/media/vod/a/%C3%BC.mp4?{signature_for(None, start='3')}",
            f"/media/vod/a/%C3%BC.mp4?{signature_for(None, url='https://o.example/a')}",
            f"/media/vod/%2e%2e.mp4?{own}",
            f"/media/stream?{own}",
        ]
        for target in refused:
            reply = await ask(address, target)
            assert (reply.status, reply.json()["detail"]) == (403, signing.REFUSED), target
        # What was signed for a path is no wish for /stream, however it is put.
        moved = f"/media/stream?{own}&path={quote('/vod/a/ü.mp4', safe='')}"
        assert (await ask(address, moved)).status == 400
    assert len(pipeline.requests) == 1


@pytest.mark.parametrize(("everybody", "own", "status"), [(True, False, 200), (False, True, 403)])
async def test_route_has_the_last_word_on_its_signatures(
    serve: Serve, *, everybody: bool, own: bool, status: int
) -> None:
    """A route may be open where /stream is not, and the other way round."""
    route = Route(path=VOD.path, url=VOD.url, require_signature=own)
    keys = signing.Settings(keys={"k": SECRET}, required=everybody)
    async with serve(routed(ScriptedPipeline(), route, signing=keys)) as address:
        assert (await ask(address, "/vod/film.mp4")).status == status
        signed = signature_for("/vod/film.mp4")
        assert (await ask(address, f"/vod/film.mp4?{signed}")).status == 200


async def test_log_line_names_the_route_and_the_redacted_address(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has what was asked for and where it led, without the query of that."""
    route = Route(path="/vod/{path}.mp4", url="https://origin.internal/{path}?token=canary")
    with caplog.at_level(logging.INFO, logger="proxy.delivery"):
        async with serve(routed(ScriptedPipeline(), route)) as address:
            await ask(address, "/vod/a%20b.mp4")
    (line,) = [record.getMessage() for record in caplog.records]
    assert " route=/vod/a%20b.mp4 url=https://origin.internal/a%20b " in line
    assert "canary" not in line


async def test_problem_of_a_route_does_not_name_the_origin(serve: Serve) -> None:
    """What went wrong behind a route is told without its address."""
    pipeline = ScriptedPipeline(refuses=SourceUnavailable("playlist https://origin.internal/film"))
    async with serve(routed(pipeline)) as address:
        reply = await ask(address, "/vod/film.mp4")
    assert reply.status == 502
    assert "origin.internal" not in reply.body.decode() + repr(reply.headers)


async def test_state_of_a_route_names_its_path(serve: Serve) -> None:
    """Whoever plays a route has the id of its stream, and still does not see where it leads."""
    async with serve(routed(ScriptedPipeline())) as address:
        played = await ask(address, "/vod/a/film.mp4")
        refused = await ask(address, "/vod/film.mp4?quality=huge")
        for reply, path in ((played, "/vod/a/film.mp4"), (refused, "/vod/film.mp4")):
            state = await ask(address, f"/streams/{reply.header('x-stream-id')}")
            assert state.json()["url"] == path
            assert b"origin.internal" not in state.body


# -- the real thing --------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def configured(serve: Serve, folder: Path, text: str) -> AsyncIterator[str]:
    """The server that a configuration file describes."""
    file = folder / "config.toml"
    file.write_text(text)
    config = Config.load(file)
    config.check_may_serve()
    async with wiring.running_app(config) as app, serve(app) as address:
        yield address


def route_to(origin: Origin, *more: str) -> str:
    lines = [
        "[[routes]]",
        "path = '/vod/{path}.mp4'",
        f"url = '{origin.url}/{{path}}/media.m3u8'",
        *more,
    ]
    return "\n".join([*lines, ""])


PRIVATE = "allow_private_addresses = true"


async def test_route_alone_plays(serve: Serve, tmp_path: Path) -> None:
    """A configuration of one route is enough; its origin is open by it, and no other address."""
    async with (
        Origin() as origin,
        configured(serve, tmp_path, route_to(origin, PRIVATE)) as address,
    ):
        url = publish(origin, make_clip(), prefix="/a/film/")
        reply = await ask(address, "/vod/a/film.mp4")
        assert (reply.status, reply.ended) == (200, "complete")
        assert boxes.read(reply.body).fragments
        asked = len(origin.requests)
        assert (await ask(address, stream_target(url))).status == 403
        assert len(origin.requests) == asked


async def test_route_opens_its_origin_to_nobody_else(serve: Serve, tmp_path: Path) -> None:
    """Everybody's policy refuses the private address that a route has a kept connection to."""
    everybody = "[upstream]\nallowed_hosts = ['127.0.0.1']\nallowed_ports = []\n"
    async with (
        Origin() as origin,
        configured(serve, tmp_path, everybody + route_to(origin, PRIVATE)) as address,
    ):
        url = publish(origin, make_clip(), prefix="/film/")
        assert (await ask(address, "/vod/film.mp4")).status == 200
        asked = len(origin.requests)
        reply = await ask(address, stream_target(url))
        assert (reply.status, reply.json()["code"]) == (403, "forbidden")
        assert len(origin.requests) == asked


async def test_route_to_a_private_address_needs_to_be_told_so(serve: Serve, tmp_path: Path) -> None:
    """An address of one's own is not open because a route leads to it."""
    async with Origin() as origin, configured(serve, tmp_path, route_to(origin)) as address:
        publish(origin, make_clip(), prefix="/film/")
        reply = await ask(address, "/vod/film.mp4")
        assert (reply.status, reply.json()["code"]) == (403, "forbidden")
        assert origin.requests == []


async def test_route_to_a_page_follows_and_tells_nothing(serve: Serve, tmp_path: Path) -> None:
    """What a page behind a route offers is nobody's business: it leads to playlists only."""
    async with (
        Origin() as origin,
        configured(serve, tmp_path, route_to(origin, PRIVATE)) as address,
    ):
        page = '<!doctype html><video src="/secret.mp4"></video>'
        origin.add("/film/media.m3u8", page, content_type="text/html")
        reply = await ask(address, "/vod/film.mp4")
        assert (reply.status, reply.json()["code"]) == (422, "no_video_found")
        assert b"secret" not in reply.body
        assert f":{origin.port}".encode() not in reply.body
        assert len(origin.requests) == 1


@pytest.mark.parametrize("more", [(), ("allowed_hosts = ['localhost']",)], ids=["shut", "open"])
async def test_playlist_of_a_route_leads_to_its_hosts_only(
    serve: Serve, tmp_path: Path, more: tuple[str, ...]
) -> None:
    """What a playlist names is fetched from the route's own host and those it lists besides."""
    async with (
        Origin() as origin,
        configured(serve, tmp_path, route_to(origin, PRIVATE, *more)) as address,
    ):
        publish(origin, make_clip(), prefix="/film/")
        apart = origin.at("/film/0.ts").replace("127.0.0.1", "localhost")
        publish_playlist(origin, [Entry(uri=apart, duration_s=1.0)], prefix="/film/")
        reply = await ask(address, "/vod/film.mp4")
        assert reply.status == (200 if more else 403)
        assert bool(origin.asked("/film/0.ts")) == bool(more)


def sent(request: Request) -> str | None:
    return request.headers.get("authorization")


async def test_headers_of_a_route_go_with_it_alone(serve: Serve, tmp_path: Path) -> None:
    """Only requests of the route carry its headers, and only to the origin of its address."""
    everybody = (
        "[upstream]\nallowed_hosts = ['127.0.0.1']\nallowed_ports = []\n"
        "allow_private_addresses = true\n"
    )
    told = ("headers = { Authorization = 'Bearer canary' }",)
    async with (
        Origin() as origin,
        Origin() as cdn,
        configured(serve, tmp_path, everybody + route_to(origin, *told)) as address,
    ):
        url = publish(origin, make_clip(), prefix="/film/")
        elsewhere = cdn.add("/0.ts", pieces(make_clip(), 1.0)[0].data)
        publish_playlist(
            origin,
            [Entry(uri="0.ts", duration_s=1.0), Entry(uri=elsewhere, duration_s=1.0)],
            prefix="/film/",
        )
        await ask(address, "/vod/film.mp4")
        assert origin.asked("/film/0.ts")
        assert {sent(request) for request in origin.requests} == {"Bearer canary"}
        assert cdn.asked("/0.ts")
        assert {sent(request) for request in cdn.requests} == {None}
        before = len(origin.requests)
        await ask(address, stream_target(url))
        assert len(origin.requests) > before
        assert {sent(request) for request in origin.requests[before:]} == {None}


async def test_route_to_ourselves_is_refused(tmp_path: Path) -> None:
    """Where this server listens is no origin, for a route neither."""
    port = free_port()
    file = tmp_path / "config.toml"
    file.write_text(
        f"[server]\nport = {port}\n[[routes]]\npath = '/a/{{x}}'\n"
        f"url = 'http://127.0.0.1:{port}/a/{{x}}'\n{PRIVATE}\n"
    )
    async with running("proxy", "serve", "--config", str(file), environment={}) as run:
        await run.until_said(" serves")
        reply = await ask(f"http://127.0.0.1:{port}", "/a/b")
    assert (reply.status, reply.json()["code"]) == (403, "forbidden")
