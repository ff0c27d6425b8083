"""`traceparent`, by the examples and the rules of W3C Trace Context."""

import pytest

from proxy.tracing import Trace, parse

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    "header",
    [f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00", f" 00-{TRACE}-{SPAN}-01\t",
     f"cc-{TRACE}-{SPAN}-01-what-will-come", f"01-{TRACE}-{SPAN}-01"],
)  # fmt: skip
def test_parse_takes_a_trace(header: str) -> None:
    """Version 00 as it is, and later ones as far as they are the same."""
    assert parse(header) == Trace(trace_id=TRACE, span_id=SPAN)


@pytest.mark.parametrize(
    "header",
    ["", "x", f"ff-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-more", f"00-{TRACE}-{SPAN}-1",
     f"00-{TRACE.upper()}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01",
     f"00-{TRACE}-{SPAN}", f"0-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01more",
     f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01", f"00-{TRACE[:-1]}g-{SPAN}-01",
     f"00-{TRACE}-{SPAN}-01\n"],
)  # fmt: skip
def test_parse_passes_over_what_is_none(header: str) -> None:
    """Malformed, forbidden, all zero, more than one."""
    assert parse(header) is None
