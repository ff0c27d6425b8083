"""Headers and the origins that may see them."""

import pytest

from proxy.fetch.scopes import HeaderScopes


@pytest.mark.parametrize(
    ("scope", "origin", "covered"),
    [
        ("h.org", "https://h.org:443", True),
        ("h.org", "http://H.org.:8080", True),
        ("h.org", "https://www.h.org:443", False),
        ("h.org", "https://h.org.evil.net:443", False),
        ("*.h.org", "https://www.h.org:443", True),
        ("*.h.org", "https://h.org:443", False),
        ("h.org:8443", "https://h.org:8443", True),
        ("h.org:8443", "https://h.org:443", False),
        ("https://h.org", "https://h.org:443", True),
        ("https://h.org", "https://h.org:8443", False),
        ("https://h.org", "http://h.org:443", False),
        ("http://h.org:8080/", "http://h.org:8080", True),
        ("[::1]:80", "http://::1:80", True),
        ("*", "http://anything:1", True),
    ],
)
def test_headers_for_table(scope: str, origin: str, covered: bool) -> None:
    """A scope covers its host, port and scheme as far as it names them."""
    scheme, _, rest = origin.partition("://")
    host, _, port = rest.rpartition(":")
    scopes = HeaderScopes({scope: {"X-Key": "1"}})
    found = scopes.headers_for(scheme=scheme, host=host, port=int(port))
    assert found == ({"X-Key": "1"} if covered else {})


def test_headers_for_several() -> None:
    """Where scopes overlap, later ones win name by name, whatever the case."""
    scopes = HeaderScopes({"*": {"X-A": "1", "X-B": "1"}, "h.org": {"x-a": "2"}})
    assert scopes.headers_for(scheme="http", host="h.org", port=80) == {"x-a": "2", "X-B": "1"}


@pytest.mark.parametrize(
    "scope", ["", "h.org/path", "ftp://h.org", "u@h.org", "h.org:port", "a b", "a.*.org", "**"]
)
def test_scopes_malformed(scope: str) -> None:
    """A scope that means nothing is refused at the start, with the key to change."""
    with pytest.raises(ValueError, match="headers"):
        HeaderScopes({scope: {}})


def test_scope_with_a_password_is_refused_without_showing_it() -> None:
    """Credentials belong into headers; what is refused is named by the host alone."""
    with pytest.raises(ValueError, match=r"'a\.example'") as caught:
        HeaderScopes({"https://user:s3cret@a.example": {"A": "b"}})
    assert "s3cret" not in str(caught.value)
