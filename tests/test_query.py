"""The grammar of the query: what is asked for, and what is refused by name."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import request
from proxy.errors import InvalidRequest
from proxy.query import content_disposition, parse

URL = "url=https%3A%2F%2Forigin.invalid%2Fa.m3u8"


def test_parse_with_url_alone_asks_for_the_best() -> None:
    """Everything but `url` has a default."""
    wish = parse(URL)
    assert wish.stream.url == "https://origin.invalid/a.m3u8"
    assert str(wish.stream.quality) == "best"
    assert (wish.stream.audio, wish.filename) == (None, None)


def test_parse_reads_every_parameter_that_is_built() -> None:
    """Each parameter arrives where it belongs."""
    wish = parse(f"{URL}&quality=720p&audio=pt-BR&filename=a%20b.mp4&on_gap=skip&on_splice=abort")
    assert str(wish.stream.quality) == "720p"
    assert (wish.stream.audio, wish.filename) == ("pt-BR", "a b.mp4")
    assert (wish.stream.on_gap, wish.stream.on_splice) == ("skip", "abort")


@pytest.mark.parametrize(
    ("text", "clip"),
    [
        ("", (None, None)),
        ("&start=0", (0.0, None)),
        ("&start=12.5&end=20", (12.5, 20.0)),
        ("&start=-30", (-30.0, None)),
        ("&end=0.001", (None, 0.001)),
    ],
)
def test_parse_reads_a_clip(text: str, clip: tuple[float | None, float | None]) -> None:
    """`start` and `end` are seconds; a negative start counts back."""
    stream = parse(URL + text).stream
    assert (stream.start_s, stream.end_s) == clip


@pytest.mark.parametrize(
    "address",
    [
        "HTTP://ORIGIN.invalid/a",
        "http://origin.invalid:8080/a?b=c&d=e#f",
        "http://[2001:db8::1]/a",
        "https://origin.invalid/ä/日本.m3u8",
        "http://origin.invalid",
    ],
)
def test_parse_takes_any_absolute_http_address(address: str) -> None:
    """What is well-formed goes on unchanged."""
    assert parse(f"url={quote(address, safe='')}").stream.url == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "origin.invalid/a",
        "//origin.invalid/a",
        "/a",
        "ftp://origin.invalid/a",
        "file:///etc/passwd",
        "data:text/plain,a",
        "http:",
        "http:///a",
        "http://:80/a",
        "http://[::1/a",
        "http://origin.invalid:port/a",
        "http://origin.invalid:99999/a",
        "http://user@origin.invalid/a",
        "http://user:secret@origin.invalid/a",
        "http://@origin.invalid/a",
        "http://origin.invalid/a%20b c",
        "http://origin.invalid\\@evil.invalid/",
        "http://origin.invalid/\r\nX: y",
        "http://origin.invalid/\0",
        "http://origin.invalid/\u2028",
        " http://origin.invalid/",
        "http://origin.invalid/" + "a" * request.URL_CHARACTERS,
    ],
)
def test_parse_refuses_what_is_no_absolute_http_address(address: str) -> None:
    """Anything else is refused naming `url`, and never echoed."""
    with pytest.raises(InvalidRequest) as caught:
        parse(f"url={quote(address, safe='')}")
    assert "`url`" in caught.value.detail
    assert "secret" not in caught.value.detail


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "`url`"),
        (f"{URL}&{URL}", "`url`"),
        (f"{URL}&quality=best&quality=best", "`quality`"),
        (f"{URL}&token=1", "`token`"),
        (f"{URL}&Quality=best", "`Quality`"),
        (f"{URL}&quality=", "`quality`"),
        (f"{URL}&quality=-1p", "`quality`"),
        (f"{URL}&audio=", "`audio`"),
        (f"{URL}&audio=a%00", "`audio`"),
        (f"{URL}&filename=", "`filename`"),
        (f"{URL}&filename=%20", "`filename`"),
        (f"{URL}&filename=..%2Fpasswd", "`filename`"),
        (f"{URL}&filename=a%5Cb", "`filename`"),
        (f"{URL}&filename=..", "`filename`"),
        (f"{URL}&filename=a%0D%0AX-Injected%3A1", "`filename`"),
        (f"{URL}&filename=a%E2%80%AEgpj.exe", "`filename`"),
        (f"{URL}&filename={'%C3%A4' * 200}", "`filename`"),
        (f"{URL}&start=soon", "`start`"),
        (f"{URL}&start=nan", "`start`"),
        (f"{URL}&start=1e5", "`start`"),
        (f"{URL}&end=-1", "`end`"),
        (f"{URL}&start=10&end=10", "`end`"),
        (f"{URL}&on_gap=maybe", "`on_gap`"),
        (f"{URL}&on_splice=", "`on_splice`"),
        ("url=%FF", "UTF-8"),
        ("url=http://a/\udcff", "UTF-8"),
    ],
)
def test_parse_refuses_bad_values_by_name(text: str, named: str) -> None:
    """Missing, repeated, unknown and malformed parameters are named."""
    with pytest.raises(InvalidRequest) as caught:
        parse(text)
    assert named in caught.value.detail


def test_parse_leaves_signatures_to_the_guard() -> None:
    """What signing adds to a query asks for nothing, and stands there once."""
    assert parse(f"{URL}&expires=1&key_id=a&signature=b") == parse(URL)
    with pytest.raises(InvalidRequest, match="key_id"):
        parse(f"{URL}&key_id=a&key_id=a")


@given(st.text(max_size=60) | st.from_regex(r"[ -~]{0,60}", fullmatch=True))
def test_parse_of_anything_raises_nothing_else(text: str) -> None:
    """Whatever stands there, the answer is a wish or an error with printable words."""
    details: list[str] = []
    try:
        parse(text)
    except InvalidRequest as error:
        details.append(error.detail)
    assert all(detail.isprintable() for detail in details)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), min_size=1))
def test_content_disposition_is_one_safe_line(filename: str) -> None:
    """Whatever the name, the header is ASCII without anything that could end it."""
    header = content_disposition(filename)
    assert header.isascii()
    assert header.isprintable()
    plain = header.removeprefix('attachment; filename="').partition('"')[0]
    assert len(plain) == len(filename)


def test_content_disposition_keeps_the_name() -> None:
    """RFC 8187: the exact name stands in filename*, percent-encoded."""
    assert content_disposition("a b.mp4") == 'attachment; filename="a b.mp4"'
    assert content_disposition("€.mp4").endswith("; filename*=UTF-8''%E2%82%AC.mp4")
