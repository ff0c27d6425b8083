"""An HTML page as `url`: over both faces, from a real origin with a real clip."""

import asyncio
import json
from typing import Any, Literal

import pytest

from proxy.guard.addresses import AddressPolicy
from proxy.pages import PageSettings
from proxy.pipeline import Settings
from tests.support.client import TIMEOUT_S, Reply, ask, stream_target
from tests.support.clips import hls, make_clip
from tests.support.fidelity import assert_faithful
from tests.support.origin import Fault, Origin, Raw, Redirect, Replace, Reset, Status, Trickle
from tests.support.served import Serve, real_app

HTML = "text/html; charset=utf-8"


RELATED = '<script>window.s = {"related": [{"hls": "/main.m3u8"}]}</script>'


def linked(**values: str) -> str:
    text = json.dumps({"@type": "VideoObject", **values})
    return f'<!doctype html><title>A page</title><script type="application/ld+json">{text}</script>'


def video(url: str) -> str:
    return f'<!doctype html><title>A page</title><video src="{url}"></video>'


def publish(origin: Origin, page: str, robots: str = "") -> str:
    """A clip below /, a page at /watch/1 and a robots.txt; return the page's address."""
    for path, body in hls(make_clip(seconds=3)).items():
        origin.add(f"/{path}", body)
    origin.add("/main.m3u8", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nmedia.m3u8\n")
    origin.add("/robots.txt", robots, content_type="text/plain")
    return origin.add("/watch/1", page, content_type=HTML)


async def answer(
    serve: Serve, url: str, pages: PageSettings | None = None, *, route: str = "/stream",
    **fetching: Any,
) -> Reply:  # fmt: skip
    settings = Settings(pages=pages or PageSettings())
    async with real_app(pipeline=settings, **fetching) as app, serve(app) as address:
        reply = await ask(address, stream_target(url).replace("/stream", route))
        await asyncio.wait_for(app.idle(), TIMEOUT_S)
        return reply


def code(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json()["code"]


@pytest.mark.parametrize(
    "page",
    [
        linked(contentUrl="/main.m3u8?sig=1"),
        '<!doctype html><meta property="og:video" content="/media.m3u8">',
        '<!doctype html><base href="/"><video><source src="main.m3u8" type="video/mp4">',
        '<!doctype html><script>window.s = {"hls": "\\/main.m3u8"}</script>',
    ],
    ids=["json_ld", "open_graph", "video_element", "embedded_state"],
)
async def test_page_is_streamed(serve: Serve, page: str) -> None:
    """What the page embeds comes out, packet by packet; asked for once, as who we are."""
    page = page.replace(' type="video/mp4"', ' type="application/x-mpegURL"')
    async with Origin() as origin:
        reply = await answer(serve, publish(origin, page))
        assert (reply.status, reply.ended) == (200, "complete")
        assert_faithful(make_clip(seconds=3).data, reply.body)
        paths = [request.path for request in origin.requests[:3]]
        assert paths[:2] == ["/watch/1", "/robots.txt"]
        assert paths[2] in {"/main.m3u8", "/media.m3u8"}
        assert len(origin.asked("/watch/1")) == len(origin.asked("/robots.txt")) == 1
        for request in origin.requests:
            assert request.headers["user-agent"].startswith("remuxd/")


async def test_playlist_costs_no_robots(serve: Serve) -> None:
    """An address that leads to a playlist is fetched without any question."""
    async with Origin() as origin:
        publish(origin, "", robots="User-agent: *\nDisallow: /")
        assert (await answer(serve, origin.at("/main.m3u8"))).status == 200
        assert origin.asked("/robots.txt") == []


async def test_playlist_as_html_is_a_playlist(serve: Serve) -> None:
    """What begins like a playlist is one, whatever its type says, and however large."""
    async with Origin() as origin:
        publish(origin, "")
        text = "#EXTM3U\n#" + "x" * 9000 + "\n#EXT-X-STREAM-INF:BANDWIDTH=1\nmedia.m3u8\n"
        url = origin.add("/odd.m3u8", text, content_type=HTML)
        limits = PageSettings(limits=PageSettings().limits.__class__(page_bytes=4000))
        assert (await answer(serve, url, limits)).status == 200


async def test_embed_is_followed_once(serve: Serve) -> None:
    """A player page is read by the same rules; one behind it is not."""
    async with Origin() as origin:
        url = publish(origin, linked(embedUrl="/embed/1"))
        origin.add("/embed/1", video("/main.m3u8"), content_type=HTML)
        assert (await answer(serve, url)).status == 200
        origin.add("/embed/1", linked(embedUrl="/embed/2"), content_type=HTML)
        origin.add("/embed/2", video("/main.m3u8"), content_type=HTML)
        assert code(await answer(serve, url)) == (422, "no_video_found")
        assert origin.asked("/embed/2") == []


async def test_embed_that_fails_gives_way(serve: Serve) -> None:
    """Where a player page fails, what comes next on the page is taken."""
    async with Origin() as origin:
        url = publish(origin, linked(embedUrl="/embed/1") + video("/main.m3u8"))
        assert (await answer(serve, url)).status == 200
        assert len(origin.asked("/embed/1")) == 1


@pytest.mark.parametrize(
    ("robots", "status"),
    [
        ("User-agent: *\nDisallow: /watch/", 422),
        ("User-agent: remuxd\nDisallow:\n\nUser-agent: *\nDisallow: /", 200),
        (Status(404), 200),
        (Status(403), 200),
        (Status(500), 422),
        (Reset(), 422),
        (Redirect("http://10.0.0.1/robots.txt"), 422),
        (Redirect("/robots.txt"), 200),
    ],
    ids=str,
)
async def test_robots_is_respected(serve: Serve, robots: str | Fault, status: int) -> None:
    """By RFC 9309: no file means no rules, an origin that cannot be asked means no."""
    async with Origin() as origin:
        url = publish(origin, video("/main.m3u8"), robots if isinstance(robots, str) else "")
        if not isinstance(robots, str):
            origin.fault("/robots.txt", robots)
        reply = await answer(serve, url)
        assert reply.status == status
        if status == 422:
            assert "robots.txt" in reply.json()["detail"]
            assert (reply.json()["code"], origin.asked("/main.m3u8")) == ("page_refused", [])


async def test_robots_is_not_asked_where_told_so(serve: Serve) -> None:
    """`extract.respect_robots = false` is the operator's decision."""
    async with Origin() as origin:
        url = publish(origin, video("/main.m3u8"), "User-agent: *\nDisallow: /")
        assert (await answer(serve, url, PageSettings(respect_robots=False))).status == 200
        assert origin.asked("/robots.txt") == []


async def test_robots_is_remembered(serve: Serve) -> None:
    """One question for many pages of an origin."""
    async with Origin() as origin, real_app() as app, serve(app) as address:
        url = publish(origin, video("/main.m3u8"))
        for _ in range(3):
            assert (await ask(address, stream_target(url))).status == 200
        assert len(origin.asked("/robots.txt")) == 1


@pytest.mark.parametrize(
    ("path", "head", "expected"),
    [
        ("/watch/1", "403 F\r\nContent-Type: text/html", (422, "page_refused")),
        ("/watch/1", "429 T\r\nContent-Type: text/html", (422, "page_refused")),
        ("/watch/1", "401 U\r\nContent-Type: text/html\r\nWWW-Authenticate: Basic",
         (422, "page_refused")),
        ("/watch/1", "503 S\r\nContent-Type: text/html\r\ncf-mitigated: challenge",
         (422, "page_refused")),
        ("/main.m3u8", "403 F\r\nContent-Type: text/html\r\ncf-mitigated: challenge",
         (422, "page_refused")),
        ("/main.m3u8", "403 F\r\nContent-Type: text/html", (502, "source_unavailable")),
        ("/watch/1", "403 F\r\nContent-Type: text/plain", (502, "source_unavailable")),
        ("/watch/1", "503 S\r\nContent-Type: text/html", (502, "source_unavailable")),
    ],
)  # fmt: skip
async def test_refusal_of_a_page_is_told_from_that_of_a_playlist(
    serve: Serve, path: str, head: str, expected: tuple[int, str]
) -> None:
    """A page that is guarded is refused in words of its own; nothing else is tried."""

    async with Origin() as origin:
        publish(origin, video("/main.m3u8"))
        origin.fault(path, Raw(f"HTTP/1.1 {head}\r\nContent-Length: 3\r\n\r\nno\n".encode()))
        reply = await answer(serve, origin.at(path))
        assert code(reply) == expected
        if expected[1] == "page_refused":
            assert "official API" in reply.json()["detail"]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<!doctype html><title>Just a moment...</title>", "page_refused"),
        ("<!doctype html><title>Sign in</title><input type=password>", "page_refused"),
        ("<!doctype html><title>A page</title>", "no_video_found"),
        (video("/a.mpd"), "no_video_found"),
        (video("/a.mpd") + "<script>var widevine = 1</script>", "encrypted_source"),
        (video("/a.mp4?token=1"), "plain_file"),
        (video("/a.mpd") + RELATED, "no_video_found"),
        (video("/a.mp4") + RELATED, "plain_file"),
    ],
)
async def test_page_without_a_stream_is_told_why(serve: Serve, page: str, expected: str) -> None:
    """422, with a code and words for what is there instead."""
    async with Origin() as origin:
        reply = await answer(serve, publish(origin, page))
        assert code(reply) == (422, expected)
        if expected == "plain_file":
            assert reply.json()["file"] == origin.at("/a.mp4")
            assert "http" not in reply.json()["detail"]


async def test_inspect_tells_of_the_page(serve: Serve) -> None:
    """What was found, by whom, and what was chosen, beside all that is told of the playlist."""
    async with Origin() as origin:
        url = publish(origin, linked(contentUrl="/main.m3u8?sig=1", embedUrl="/e/1", width="1920"))
        report = (await answer(serve, f"{url}?q=1", route="/inspect")).json()
        assert (report["kind"], report["copyable"]) == ("multivariant", True)
        page = report["page"]
        assert (page["url"], page["title"], page["extractor"]) == (url, "A page", "json_ld")
        assert page["candidates"][0] == {
            "url": origin.at("/main.m3u8"), "kind": "hls", "width": 1920, "height": None,
            "bandwidth": None, "extractor": "json_ld", "chosen": True,
        }  # fmt: skip
        assert [one["kind"] for one in page["candidates"]] == ["hls", "page"]


async def test_inspect_tells_of_a_file(serve: Serve) -> None:
    """A page with nothing but an MP4 is no error for `inspect`: it says where the file is."""
    async with Origin() as origin:
        url = publish(origin, video("/a.mp4"))
        report = (await answer(serve, url, route="/inspect")).json()
        assert (report["kind"], report["copyable"]) == ("mp4", False)
        assert report["reason"]["code"] == "plain_file"
        assert report["page"]["candidates"][0]["url"] == origin.at("/a.mp4")


@pytest.mark.parametrize(
    "target", ["http://localhost:{port}/main.m3u8", "http://169.254.169.254/main.m3u8", "{own}"]
)
async def test_page_cannot_lead_where_a_client_may_not(serve: Serve, target: str) -> None:
    """Hosts that are not allowed, metadata services and our own ports are closed to pages, too."""
    async with Origin() as origin, real_app() as app, serve(app) as address:
        own = f"{address}/stream.m3u8"
        url = publish(origin, video(target.format(port=origin.port, own=own)))
        reply = await ask(address, stream_target(url))
        assert code(reply) == (403, "forbidden")
        assert [r.path for r in origin.requests] == ["/watch/1", "/robots.txt"]


async def test_page_on_loopback_is_refused(serve: Serve) -> None:
    """The page itself is an address like any other."""
    async with Origin() as origin:
        reply = await answer(serve, publish(origin, video("/a.m3u8")), policy=AddressPolicy())
        assert code(reply) == (403, "forbidden")
        assert origin.requests == []


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_large_page_is_cut_off(serve: Serve, framing: Literal["length", "chunked"]) -> None:
    """A page of 10 MB is not read to its end."""
    async with Origin(send_buffer_bytes=65536) as origin:
        publish(origin, "")
        page = "<!doctype html>" + "<p>" * 3_400_000
        url = origin.add("/large", page, content_type=HTML, framing=framing)
        assert code(await answer(serve, url)) == (502, "source_too_large")
        await origin.until(lambda: origin.open_connections == 0)
        assert origin.sent_bytes < 6_000_000


async def test_slow_page_is_given_up(serve: Serve) -> None:
    """What comes too slowly is a timeout, as with any other answer."""
    async with Origin() as origin:
        url = publish(origin, video("/main.m3u8"))
        origin.fault("/watch/1", Trickle(1, 0.02))
        reply = await answer(
            serve, url, min_rate_window_s=0.2, min_rate_grace_s=0.0, playlist_attempts=1
        )
        assert code(reply) == (504, "source_timeout")


async def test_slow_robots_is_given_up(serve: Serve) -> None:
    """All that a page needs has one deadline."""
    async with Origin() as origin:
        url = publish(origin, video("/main.m3u8"))
        origin.hold("/robots.txt", after_bytes=None)
        reply = await answer(serve, url, PageSettings(deadline_s=0.2))
        assert code(reply) == (504, "source_timeout")


async def test_requests_for_a_page_are_counted(serve: Serve) -> None:
    """A page with many addresses that lead nowhere causes a few requests, not many."""
    async with Origin() as origin:
        sources = "".join(f'<source src="/gone{number}.m3u8">' for number in range(40))
        url = publish(origin, f"<!doctype html><video>{sources}</video>")
        assert code(await answer(serve, url)) == (404, "source_not_found")
        asked = [request for request in origin.requests if "gone" in request.path]
        assert len(asked) == PageSettings().fetches


async def test_pages_can_be_switched_off(serve: Serve) -> None:
    """`extract.enabled = false`: a page is what it was before, an error."""
    async with Origin() as origin:
        url = publish(origin, video("/main.m3u8"))
        reply = await answer(serve, url, PageSettings(enabled=False))
        assert code(reply) == (422, "no_video_found")
        assert [request.path for request in origin.requests] == ["/watch/1"]


async def test_page_that_is_replaced_by_a_login(serve: Serve) -> None:
    """A redirect to a login is a refusal, not a page without a video."""
    async with Origin() as origin:
        url = publish(origin, "")
        login = "<!doctype html><title>Welcome</title><input type=password>"
        origin.add("/login", login, content_type=HTML)
        origin.fault("/watch/1", Redirect("/login?next=1"))
        assert code(await answer(serve, url)) == (422, "page_refused")
        origin.heal()
        origin.fault("/watch/1", Replace(b"not found", content_type=HTML))
        assert code(await answer(serve, url)) == (502, "playlist_error")
