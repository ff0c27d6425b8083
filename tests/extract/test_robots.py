"""What a robots.txt means for us."""

import pytest

from proxy.extract.robots import MAX_BYTES, Robots, robots_url


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("", True),
        ("User-agent: *\nDisallow: /", False),
        ("User-agent: *\nDisallow: /\n\nUser-agent: Remuxd\nAllow: /", True),
        ("User-agent: *\nAllow: /\n\nUser-agent: remuxd\nDisallow: /watch", False),
        ("User-agent: *\nDisallow: /\nAllow: /watch/", True),
        ("User-agent: *\nDisallow: /*/7$", False),
        ("User-agent: *\nDisallow: /%77atch/", False),
        ("\ufeffUser-agent: *\nDisallow: /", False),
        ("<!doctype html><p>Disallow: /</p>", True),
        ("\0\ud83d" * 9, True),
    ],
)
def test_allow(text: str, *, allowed: bool) -> None:
    """By our product token, the longest match and wildcards (RFC 9309, 2.2)."""
    body = text.encode("utf-8", "surrogatepass")
    assert Robots(body).allow("https://site.example/watch/7") is allowed


def test_rules_behind_the_limit_are_left_out() -> None:
    """500 KiB are read, as the RFC asks at least (2.5)."""
    rule = b"User-agent: *\nDisallow: /\n"
    assert Robots(b"#" * (MAX_BYTES - 50) + b"\n" + rule).allow("https://a.example/") is False
    assert Robots(b"#" * MAX_BYTES + b"\n" + rule).allow("https://a.example/") is True


def test_robots_url_is_at_the_root_of_the_origin() -> None:
    """Scheme, host and port are those of the page."""
    assert robots_url("https://a.example:8443/b/c?d") == "https://a.example:8443/robots.txt"
