"""Lines: what text is a playlist at all, how it is cut, which numbers are numbers."""

from __future__ import annotations

import pytest

from proxy.errors import PlaylistError
from proxy.hls.lines import (
    Limits,
    Line,
    decimal_number,
    looks_like_playlist,
    read_lines,
    whole_number,
)

LIMITS = Limits()


@pytest.mark.parametrize(
    "body",
    [
        b"#EXTM3U\n",
        b"\xef\xbb\xbf#EXTM3U\r\n#EXTINF:1\na",
        b"\n\r\n  \t#EXTM3U",
        b"#EXTM3U8",
        b'#EXTM3U x-tvg-url="http://guide.example"',
        b"# a comment first\n#\n#EXTM3U\n",
        b"#ZEN-TOTAL-DURATION:10\n#EXT-X-TARGETDURATION:10\n",
        b"#EXTINF:10,\na.ts\n",
        b"#EXTM3U\r#EXTINF:10,\ra.ts\r",
    ],
)
def test_looks_like_playlist_with_a_tag_before_anything_else(body: bytes) -> None:
    """A text is a playlist when a tag of HLS comes before anything but comments."""
    assert looks_like_playlist(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \r\n\t\n",
        b"\xef\xbb\xbf",
        b"<!DOCTYPE html>\n<p>#EXTM3U",
        b"<html>\n#EXTM3U\n#EXTINF:1,\na.ts\n",
        b"{}",
        b"# only a comment\n",
        b"a.ts\n#EXTM3U\n",
        b"#EXT",
        "#EXTM3U".encode("utf-16"),
        b"G" + bytes(187),
    ],
)
def test_looks_like_playlist_with_anything_else(body: bytes) -> None:
    """A page, an empty body or media is none."""
    assert not looks_like_playlist(body)
    with pytest.raises(PlaylistError, match=r"^line 1: ") as error:
        read_lines(body, LIMITS)
    assert error.value.line == 1


def test_read_lines_leaves_out_comments_and_keeps_numbers() -> None:
    """Blank lines and comments are gone, and the others keep the numbers that an editor shows."""
    text = (
        "\ufeff#EXTM3U\r\n\r\n# comment\n \t#EXT-X-KEY : METHOD=NONE \r\n#EXTINF:2.0\n\ta b.ts \n"
    )
    assert read_lines(text, LIMITS) == [
        Line(1, "EXTM3U", ""),
        Line(4, "EXT-X-KEY", "METHOD=NONE"),
        Line(5, "EXTINF", "2.0"),
        Line(6, "", "a b.ts"),
    ]


def test_read_lines_ends_lines_at_line_feeds_only() -> None:
    """Other characters that Unicode breaks lines at may stand in a title."""
    title = "one\u2028two\x85three\x0bfour\x1cfive"
    lines = read_lines(f"#EXTM3U\n#EXTINF:1,{title}\na.ts", LIMITS)
    assert lines[1] == Line(2, "EXTINF", f"1,{title}")
    assert lines[2] == Line(3, "", "a.ts")


def test_read_lines_with_carriage_returns_alone() -> None:
    """A text with no line feed at all is cut at its carriage returns."""
    assert [line.number for line in read_lines("#EXTM3U\r#EXTINF:1\ra.ts", LIMITS)] == [1, 2, 3]


def test_read_lines_with_bytes_that_are_no_utf8() -> None:
    """A title in Latin-1 costs its accents, not the playlist."""
    lines = read_lines("#EXTM3U\n#EXTINF:1,Früh\na.ts".encode("latin-1"), LIMITS)
    assert lines[1].value == "1,Fr\ufffdh"


def test_read_lines_with_lone_surrogates() -> None:
    """Text that cannot be encoded is read like bytes that cannot be decoded."""
    assert read_lines("#EXTM3U\n\udc80.ts", LIMITS)[1].value == "?.ts"


def test_read_lines_with_too_many_lines() -> None:
    """One line more than allowed is refused, and named."""
    limits = Limits(lines=3)
    assert len(read_lines("#EXTM3U\na\nb", limits)) == 3
    with pytest.raises(PlaylistError, match=r"^line 4: more than 3$"):
        read_lines("#EXTM3U\na\nb\n", limits)


def test_read_lines_with_a_line_too_long() -> None:
    """One character more than allowed is refused, and its line is named."""
    limits = Limits(line_chars=10)
    read_lines("#EXTM3U\n0123456789", limits)
    with pytest.raises(PlaylistError, match=r"^line 2: more than 10 characters$"):
        read_lines("#EXTM3U\n0123456789a", limits)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("007", 7),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", None),
        ("9" * 5000, None),
        ("-1", None),
        ("1.0", None),
        ("1_0", None),
        ("٣", None),
        ("", None),
        ("nan", None),
    ],
)
def test_whole_number(text: str, number: int | None) -> None:
    """Decimal digits up to 2**64 - 1 are a number; what Python would take besides is none."""
    assert whole_number(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("9.98", 9.98),
        ("10", 10.0),
        ("10.", 10.0),
        (".5", 0.5),
        ("+3", 3.0),
        ("9.98;", 9.98),
        ("5 s", 5.0),
        ("0", 0.0),
        ("-1", None),
        ("100.1", None),
        ("1" * 400, None),
        ("9" * 5000 + ".5", None),
        ("nan", None),
        ("inf", None),
        ("-inf", None),
        (";asljasdfii11)))00", None),
        ("", None),
    ],
)
def test_decimal_number(text: str, number: float | None) -> None:
    """A number at the beginning counts when it is within the bounds, here 0 and 100."""
    assert decimal_number(text, lowest=0, highest=100) == number
