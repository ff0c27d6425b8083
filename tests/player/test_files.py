"""The files of the page, over both faces: what they are, how they are cached, what they may do."""

from __future__ import annotations

import re

import pytest

from proxy import player
from proxy.app import App, Settings
from tests.support.client import ask
from tests.support.pipelines import ScriptedPipeline
from tests.support.served import Serve, over_aiohttp, over_asgi


@pytest.fixture(params=[over_aiohttp, over_asgi], ids=["aiohttp", "asgi"])
def serve(request: pytest.FixtureRequest) -> Serve:
    face: Serve = request.param
    return face


async def test_files_are_served(serve: Serve) -> None:
    """Each file comes whole, with its type and with what holds a browser to the rules."""
    async with serve(App(ScriptedPipeline())) as address:
        for path, file in player.FILES.items():
            reply = await ask(address, path)
            assert (reply.status, reply.body, reply.ended) == (200, file.body, "complete")
            assert reply.header("content-type") == file.content_type
            assert reply.header("content-length") == str(len(file.body))
            assert reply.header("cache-control") == "no-cache"
            assert reply.header("x-content-type-options") == "nosniff"
            assert reply.header("referrer-policy") == "no-referrer"


async def test_policy_lets_nothing_in_from_elsewhere(serve: Serve) -> None:
    """The policy allows what is of this server, names no other, and no code that is text."""
    async with serve(App(ScriptedPipeline())) as address:
        policy = (await ask(address, "/")).header("content-security-policy")
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules.pop("default-src") == "'none'"
    assert rules.pop("media-src") == "'self' blob:"
    assert rules.pop("require-trusted-types-for") == "'script'"
    assert set(rules.values()) == {"'self'", "'none'"}
    assert {"script-src", "style-src", "connect-src", "img-src"} < set(rules)
    assert rules["base-uri"] == rules["frame-ancestors"] == "'none'"


@pytest.mark.parametrize("condition", ["{}", "W/{}", '"other", {}'])
async def test_known_file_is_not_sent_again(serve: Serve, condition: str) -> None:
    """Who has the file is told so, and to keep it."""
    etag = player.FILES["/player/player.js"].etag
    headers = (("If-None-Match", condition.format(etag)),)
    async with serve(App(ScriptedPipeline())) as address:
        reply = await ask(address, "/player/player.js", headers=headers)
        other = await ask(address, "/player/feed.js", headers=headers)
    assert (reply.status, reply.body) == (304, b"")
    assert reply.header("etag") == etag
    assert reply.header("cache-control") == "no-cache"
    assert other.status == 200


async def test_head_of_a_file(serve: Serve) -> None:
    """HEAD tells the length and sends nothing."""
    async with serve(App(ScriptedPipeline())) as address:
        reply = await ask(address, "/", method="HEAD")
    assert (reply.status, reply.body) == (200, b"")
    assert reply.header("content-length") == str(len(player.FILES["/"].body))


async def test_page_below_a_base_path(serve: Serve) -> None:
    """Without its last slash the base path leads to the page, which lies behind it."""
    async with serve(App(ScriptedPipeline(), Settings(base_path="/a/media"))) as address:
        reply = await ask(address, "/a/media")
        page = await ask(address, "/a/media/")
        outside = await ask(address, "/")
    assert (reply.status, reply.header("location")) == (308, "media/")
    assert (page.status, page.body) == (200, player.FILES["/"].body)
    assert outside.status == 404


async def test_query_of_the_page_is_ignored(serve: Serve) -> None:
    """`/?url=` is a link to the page, which reads it itself."""
    async with serve(App(ScriptedPipeline())) as address:
        assert (await ask(address, "/?url=https%3A%2F%2Forigin.invalid%2F")).status == 200


def test_files_name_no_place_of_the_server() -> None:
    """Addresses of files and of the API are relative, and none is of another host."""
    for path, file in player.FILES.items():
        text = file.body.decode()
        assert not re.findall(r"""(?:src|href|action)="/""", text), path
        named = set(re.findall(r"""["'`(]((?:https?:)?//[\w.-]+)""", text))
        assert named <= {"https://example.org", "http://www.w3.org"}, path


def test_page_names_files_that_are_there() -> None:
    """Whatever the page or a module refers to is served."""
    for path, file in player.FILES.items():
        folder = "/" if path == "/" else "/player/"
        text = file.body.decode()
        named = re.findall(r"""(?:src|href)="([\w/]+\.\w+)"|from "\./([\w.]+)\"""", text)
        for page, module in named:
            assert f"{folder}{page or module}" in player.FILES
    assert re.findall(r"""src="player/player.js\"""", player.FILES["/"].body.decode())
