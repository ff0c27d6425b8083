"""Routes: which paths they are, and what address comes out."""

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import InvalidRequest
from proxy.routes import OWN_PATHS, Route, Routes

VOD = Route(path="/vod/{path}.mp4", url="https://origin.internal/{path}/index.m3u8")


def address(route: Route, path: str) -> str | None:
    """What a path leads to, if it is one of the route's."""
    captures = route.captures(path)
    return None if captures is None else route.address(captures)


@pytest.mark.parametrize(
    ("pattern", "path", "captures"),
    [
        ("/vod/{path}.mp4", "/vod/film.mp4", {"path": "film"}),
        ("/vod/{path}.mp4", "/vod/2024/a/film.mp4", {"path": "2024/a/film"}),
        ("/vod/{path}.mp4", "/vod/a.mp4.mp4", {"path": "a.mp4"}),
        ("/vod/{path}.mp4", "/vod/.mp4", None),
        ("/vod/{path}.mp4", "/vod/film.mp3", None),
        ("/vod/{path}.mp4", "/VOD/film.mp4", None),
        ("/vod/{path}.mp4", "/vod/film.mp4/", None),
        ("/vod/{path}.mp4", "/x/vod/film.mp4", None),
        ("/{tenant}/{path}.mp4", "/a/b/c.mp4", {"tenant": "a", "path": "b/c"}),
        ("/{tenant}/hls/{path}", "/a/b/hls/c", {"tenant": "a/b", "path": "c"}),
        ("/t/{a}-{b}.mp4", "/t/1-2-3.mp4", {"a": "1", "b": "2-3"}),
        ("/t/{a}-{b}.mp4", "/t/-.mp4", None),
        ("/t/{a}-{b}.mp4", "/t/a-.mp4", None),
        ("/live/news.mp4", "/live/news.mp4", {}),
        ("/live/news.mp4", "/live/news.mp4x", None),
        ("/filme/ä/{name}", "/filme/ä/ö", {"name": "ö"}),
    ],
)
def test_captures(pattern: str, path: str, captures: dict[str, str] | None) -> None:
    """A placeholder is one character or more, slashes included, and as few as will do."""
    route = Route(path=pattern, url="https://o.example/index.m3u8")
    assert route.captures(path) == captures


@pytest.mark.parametrize(
    ("path", "led_to"),
    [
        ("/vod/a/film.mp4", "https://origin.internal/a/film/index.m3u8"),
        ("/vod/a b.mp4", "https://origin.internal/a%20b/index.m3u8"),
        (
            "/vod/Füße/日本.mp4",
            "https://origin.internal/F%C3%BC%C3%9Fe/%E6%97%A5%E6%9C%AC/index.m3u8",
        ),
        ("/vod/a?b#c&d=e.mp4", "https://origin.internal/a%3Fb%23c%26d%3De/index.m3u8"),
        ("/vod/100%.mp4", "https://origin.internal/100%25/index.m3u8"),
        ("/vod/a%2Fb.mp4", "https://origin.internal/a%252Fb/index.m3u8"),  # sent as a%252Fb
        ("/vod/@evil.example:80.mp4", "https://origin.internal/%40evil.example%3A80/index.m3u8"),
        ("/vod/http:.mp4", "https://origin.internal/http%3A/index.m3u8"),
        ("/vod/..a/b...mp4", "https://origin.internal/..a/b../index.m3u8"),
        ("/vod/a;..;.mp4", "https://origin.internal/a%3B..%3B/index.m3u8"),
        ("/vod/{path}.mp4", "https://origin.internal/%7Bpath%7D/index.m3u8"),
    ],
)
def test_address(path: str, led_to: str) -> None:
    """What was captured is encoded, so that no character of it has a meaning but the slash."""
    assert address(VOD, path) == led_to


@pytest.mark.parametrize(
    "captured",
    [
        "..", ".", "../secret", "a/../../b", "a/./b", "a/..", "/", "/evil.example", "a//b", "a/",
        "..;x/b", "%2e%2e", "a/%2E%2e/b", "..%2fsecret", "%2e.%2Fa", "a\\..\\b", "a%5c..%5cb",
        "a\r\nHost: evil.example", "a%0d%0ab", "a\x00", "a\x7f", "\u2028", "a\ud800", "\ufffdb",
        "%ff", "a\x85",
    ],
)  # fmt: skip
def test_address_of_what_is_not_clean_is_refused(captured: str) -> None:
    """Dot segments, empty ones, control characters and no UTF-8: also decoded once more."""
    with pytest.raises(InvalidRequest, match="The path"):
        address(VOD, f"/vod/{captured}.mp4")


def test_address_is_looked_at_again_as_a_whole() -> None:
    """What is harmless by itself may become a dot segment where it stands."""
    route = Route(path="/v/{a}", url="https://o.example/x/%2{a}/index.m3u8")
    assert address(route, "/v/d") == "https://o.example/x/%2d/index.m3u8"
    with pytest.raises(InvalidRequest):
        address(route, "/v/e")


def test_address_in_the_query_keeps_to_its_parameter() -> None:
    """In a query not even the slash stands as it is."""
    route = Route(path="/v/{id}", url="https://o.example/play.m3u8?id={id}&hd=1")
    assert address(route, "/v/a/b&hd=0#+") == (
        "https://o.example/play.m3u8?id=a%2Fb%26hd%3D0%23%2B&hd=1"
    )


def test_address_that_grows_too_long_is_refused() -> None:
    """Encoding makes three bytes of one; the limit is that of `url`."""
    with pytest.raises(InvalidRequest, match="too long"):
        address(VOD, f"/vod/{'ü' * 2000}.mp4")


@given(st.text(min_size=1, max_size=40))
def test_address_never_leaves_the_folder_it_was_given(text: str) -> None:
    """Whatever is captured: the same origin, below the same folder, and it decodes to the text."""
    route = Route(path="/v/{path}.mp4", url="https://o.example/base/{path}/index.m3u8")
    try:
        led_to = address(route, f"/v/{text}.mp4")
    except InvalidRequest:
        return
    assert led_to is not None
    parts = urlsplit(led_to)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == (
        "https",
        "o.example",
        "",
        "",
    )
    assert led_to.isascii()
    assert unquote(parts.path) == f"/base/{text}/index.m3u8"
    assert not {"", ".", ".."} & set(unquote(parts.path)[1:].split("/"))


def test_captures_is_quick_for_a_hostile_path() -> None:
    """Many placeholders and a path that almost matches cost one look at each character."""
    route = Route(path="/" + "/".join(f"a{{x{n}}}" for n in range(12)) + "z", url="https://o/a")
    assert route.captures("/" + "a/" * 4000) is None  # with backtracking it would never end


def test_first_route_that_matches_counts() -> None:
    """The order of the configuration decides."""
    special = Route(path="/vod/special/{path}.mp4", url="https://o.example/s/{path}")
    routes = Routes((special, VOD))
    match = routes.find("/vod/special/a.mp4")
    assert match is not None
    assert match.route is special
    assert (other := routes.find("/vod/a.mp4")) is not None
    assert other.route is VOD
    assert routes.find("/vod") is None


@pytest.mark.parametrize(
    ("first", "second", "reached"),
    [
        ("/vod/{a}.mp4", "/vod/{b}.mp4", False),
        ("/vod/{a}.mp4", "/vod/film.mp4", False),
        ("/vod/{a}.mp4", "/vod/{t}/hls/{b}.mp4", False),
        ("/vod/{a}", "/vod/{b}.mp4", False),
        ("/vod/film.mp4", "/vod/{a}.mp4", True),
        ("/vod/{t}/hls/{b}.mp4", "/vod/{a}.mp4", True),
        ("/vod/{a}.mp4", "/vod/{a}.mov", True),
    ],
)
def test_route_that_cannot_be_reached_is_refused(first: str, second: str, reached: bool) -> None:
    """A route that one before it covers wholly is a mistake, whatever its placeholders' names."""
    pair = [Route(path=path, url="https://o.example/a") for path in (first, second)]
    if reached:
        Routes(pair)
        return
    with pytest.raises(ValueError, match=r"^1.path: routes.0 takes all of it$"):
        Routes(pair)


@pytest.mark.parametrize("own", OWN_PATHS)
def test_own_paths_cannot_be_shadowed(own: str) -> None:
    """No route may stand for what is answered here anyway."""
    with pytest.raises(ValueError, match="is a path of our own"):
        Routes([Route(path="/{path}", url="https://o.example/{path}")])
    if own != "/":
        path = f"{own}{{path}}" if own.endswith("/") else own
        with pytest.raises(ValueError, match="is a path of our own"):
            Routes([Route(path=path, url="https://o.example/a")])


def test_wish_has_what_the_route_says_and_what_the_client_says() -> None:
    """What the route fixes stands; the rest is the client's."""
    route = Route(
        path="/vod/{path}.mp4",
        url="https://o.example/{path}",
        fixed={"quality": "720p", "on_gap": "skip", "filename": "{path}.mp4"},
        upstream="routes.0",
    )
    match = Routes([route]).find("/vod/a/film.mp4")
    assert match is not None
    wish = match.wish("start=5&end=8&audio=en")
    assert wish.filename == "film.mp4"
    request = wish.stream
    assert (request.url, request.upstream) == ("https://o.example/a/film", "routes.0")
    assert (request.start_s, request.end_s, request.audio) == (5.0, 8.0, "en")
    assert (request.quality.kind, request.quality.limit) == ("height", 720)
    assert (request.on_gap, request.on_splice) == ("skip", "abort")


@pytest.mark.parametrize(
    "query", ["quality=best", "url=http%3A%2F%2Fo%2F", "on_gap=skip", "path=a"]
)
def test_wish_refuses_what_a_client_cannot_say(query: str) -> None:
    """Neither an address, nor what the route has decided, nor what it leaves out."""
    route = Route(path="/a", url="https://o.example/a", fixed={"quality": "720p"})
    match = Routes([route]).find("/a")
    assert match is not None
    with pytest.raises(InvalidRequest, match="There is no parameter"):
        match.wish(query)
