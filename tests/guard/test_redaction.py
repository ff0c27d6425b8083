"""What of an address may stand in a log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.guard.redaction import redact


@pytest.mark.parametrize(
    ("address", "redacted"),
    [
        ("https://h.org/a/b.m3u8?token=s3cret#frag", "https://h.org/a/b.m3u8"),
        ("https://user:s3cret@h.org:8443/a", "https://h.org:8443/a"),
        ("http://[::1]:80/a", "http://[::1]:80/a"),
        ("http://h.org/a\r\nX: s", "http://h.org/aX:%20s"),
        ("http://h.org/\x1b[31m\u2028", "http://h.org/%1B%5B31m%E2%80%A8"),
        ("http://h:s3cret/", "<malformed address>"),
        ("http://[s3cret/", "<malformed address>"),
        ("http://[2001:db8::1]/a?b", "http://[2001:db8::1]/a"),
    ],
)
def test_redact_table(address: str, redacted: str) -> None:
    """Query, userinfo and fragment are left out, and nothing in it can forge a line of log."""
    assert redact(address) == redacted


@given(st.text(max_size=300))
def test_redact_anything(address: str) -> None:
    """Whatever is given, one short line of printable ASCII comes out."""
    assert redact(address).isascii()
    assert redact(address).isprintable()
    assert len(redact(address)) <= 200
