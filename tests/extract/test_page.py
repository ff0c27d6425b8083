"""Pages that are broken, hostile or none at all: read in bounded time, and never an exception."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.extract import Limits, read_page
from proxy.extract.page import is_page
from tests.extract.helpers import URL, first, linked, read, state_page, told

MIB = 1024 * 1024
GUARD_S = 30.0  # a hundred times what any of these takes: quadratic work takes minutes


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd.m3u8",
        "data:application/x-mpegurl,%23EXTM3U.m3u8",
        "javascript:a.m3u8",
        "blob:https://site.example/a.m3u8",
        "ftp://m.example/a.m3u8",
        "https://user:secret@m.example/a.m3u8",
        "https://[::1/a.m3u8",
        "https://m.example:99999/a.m3u8",
        "https://m.example/a b.m3u8",
        "https://m.example/" + "a" * 9000 + ".m3u8",
        "\ud800.m3u8",
    ],
)
def test_address_that_nobody_could_fetch_is_no_candidate(url: str) -> None:
    """Only http and https, without credentials, well-formed, not endless."""
    pages: list[str | bytes] = [
        state_page({"hls": url}),
        linked({"@type": "VideoObject", "contentUrl": url}),
        f'<meta property="og:video" content="{url}"><video src="{url}"></video>'.encode(
            "utf-8", "replace"
        ),
    ]
    candidates = [one for page in pages for one in read(page).candidates]
    assert [one for one in candidates if "?" not in one.url] == []


@pytest.mark.parametrize(
    "page",
    [
        b"<div>" * (2 * MIB // 5),
        b"<div " + b" ".join(b"a%d=" % number for number in range(2 * MIB // 9)) + b">",
        b'<script type="application/json">.m3u8' + b"[" * 2 * MIB,
        b"<script>a='.m3u8';b=" + b"[" * 2 * MIB,
        b'<script type="application/json">' + b'{"hls":' * (2 * MIB // 7),
        b"<script>.m3u8" + b'=["' * (2 * MIB // 3),
        b"<script>.m3u8" + b"JSON.parse('" * (2 * MIB // 12),
        b'<script type="application/json">{"hls":"//m/a.m3u8","width":' + b"9" * MIB + b"}",
        b'<script type="application/json">' + b'{"id":1,"a":' * 800 + b"["
        + b'"//m/a.m3u8",' * 90_000 + b"1]" + b"}" * 800 + b"</script>",
        b"<title>" * (2 * MIB // 7),
        bytes(range(256)) * (2 * MIB // 256),
    ],
    ids=lambda page: repr(page[:24]),
)  # fmt: skip
def test_hostile_page_takes_no_time(page: bytes) -> None:
    """Depth, attributes, numbers and openings without end cost no more than other text."""
    began_s = time.monotonic()
    read(page[: 2 * MIB])
    assert time.monotonic() - began_s < GUARD_S


def test_numbers_that_are_none_are_left_out() -> None:
    """NaN, infinities, negative and huge numbers, and booleans are no sizes."""
    text = (
        '{"a": {"url": "//m.example/a.m3u8", "width": NaN, "height": -Infinity, "bitrate": 1e999},'
        '"b": {"url": "//m.example/b.m3u8", "width": true, "height": 1e300, "bitrate": -5}}'
    )
    page = read(f'<script type="application/json">{text}</script>')
    assert len(page.candidates) == 2
    assert {(one.width, one.height, one.bandwidth) for one in page.candidates} == {(None,) * 3}


def test_walk_has_a_limit() -> None:
    """A state with more values than the limit is read up to there."""
    state = [{"n": number} for number in range(1000)] + [{"hls": "https://m.example/a.m3u8"}]
    html = state_page(state).encode()
    assert read_page(html, url=URL).candidates
    assert not read_page(html, url=URL, limits=Limits(state_values=1000)).candidates


def test_candidates_have_a_limit() -> None:
    """More candidates than the limit are left out, and none stands there twice."""
    state = {"list": [f"https://m.example/{number % 90}.m3u8" for number in range(180)]}
    assert len(read(state_page(state)).candidates) == Limits().candidates


@pytest.mark.parametrize(
    ("charset", "content_type", "said"),
    [
        ("utf-8", "text/html", ""),
        ("iso-8859-1", "text/html; charset=ISO-8859-1", ""),
        ("windows-1251", "text/html", "windows-1251"),
        ("utf-16", "text/html", ""),
        ("utf-8", "text/html; charset=idna", ""),
        ("utf-8", "text/html; charset=iso-8859-12", ""),
    ],
)
def test_page_in_its_encoding(charset: str, content_type: str, said: str) -> None:
    """By its mark, the header, its own word, or UTF-8; odd encodings are not looked up."""
    title = "Жук" if "1251" in charset else "Füße"
    meta = f'<meta charset="{said}">' if said else ""
    html = f"<!doctype html>{meta}<title>{title}</title>".encode(charset)
    assert read(html, content_type=content_type).title == title


@pytest.mark.parametrize(
    ("html", "refused"),
    [
        ("<title>Just a moment...</title>", True),
        ("<title>x</title><script>window._cf_chl_opt={}</script>", True),
        ("<title>Log in to Site</title><input type=password>", True),
        ("<title>A film</title><input type=password>", False),
        ("<title>Just a moment...</title><video src=a.m3u8></video>", False),
        ("<title>A film</title>", False),
    ],
)
def test_refusal_is_told_from_a_page(html: str, *, refused: bool) -> None:
    """A login or a challenge in the place of a page; not where there is a video."""
    assert bool(read(html).refusal) is refused


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"\xef\xbb\xbf \n<!DOCTYPE html>", "", True),
        (b"<HTML>", "text/plain", True),
        (b"<div>", "text/html", True),
        (b"<div>", "text/plain", False),
        (b"not found", "text/html", False),
        (b"<?xml version='1.0'?><MPD/>", "application/dash+xml", False),
        (b"", "text/html", False),
    ],
)
def test_is_page(body: bytes, content_type: str, *, expected: bool) -> None:
    """By its beginning, or by its type where it begins like markup."""
    assert is_page(body, content_type) is expected


def test_drm_is_noticed() -> None:
    """A page that speaks of a DRM system says so."""
    page = read(state_page({"dash": "https://m.example/a.mpd", "widevine": {"url": "x"}}))
    assert page.drm
    assert told(page) == [("dash", "https://m.example/a.mpd")]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.sampled_from(["https://m.example/a.m3u8", "//[", "VideoObject", "{\"hls\":1}", "1e9"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["@type", "@graph", "contentUrl", "url", "hls", "id", "width", "bitrate",
                         "related", "type", "title", "mainEntityOfPage", "encodingFormat"])
        | st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_any_state_is_read(value: object) -> None:
    """No JSON makes it raise."""
    text = json.dumps(value)
    for kind in ("application/json", "application/ld+json"):
        read(f'<script type="{kind}">{text}/*.m3u8 VideoObject*/</script>'.encode())
        read(f'<script type="{kind}">{text}</script><!-- -->'.encode())
    read(f"<script>window.a = {text}; // .m3u8</script>".encode())


@settings(max_examples=150, deadline=None)
@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_read(body: bytes) -> None:
    """No bytes make it raise, alone or within markup."""
    is_page(body, "text/html")
    for page in (
        body,
        b"<script>.m3u8 window.a=" + body,
        b'<meta property="og:video" content="' + body + b'"><base href="' + body + b'">',
        b"<video src='" + body + b"'><title>" + body,
    ):
        read(page)


def test_title_is_one_short_line() -> None:
    """Whatever stands in it: neither lines nor what a terminal or a reader would be misled by."""
    assert read("<title>a\x1b[31m\u202eb</title>").title == "a[31mb"
    assert read("<title> a\n b " + "c" * 999 + "</title>").title == ("a b " + "c" * 999)[:300]
    assert first(read("<video src=/a.m3u8>")).url == "https://site.example/a.m3u8"
