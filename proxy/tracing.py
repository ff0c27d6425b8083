"""The trace that a request belongs to: W3C Trace Context, Level 2.  Pure.

What is not as the specification has it is no trace (section 4.3): it is passed over, never guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Trace", "parse"]

# Section 3.2: version "-" trace-id "-" parent-id "-" trace-flags, in lower-case hex.  Versions
# above 00 may have more behind a further dash; ff is none.
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    trace_id: str  # 32 hex digits
    span_id: str  # 16 hex digits: whose request this is


def parse(header: str) -> Trace | None:
    """Return what a `traceparent` header says; `None` where it says nothing, or nothing valid."""
    match = _TRACEPARENT.fullmatch(header.strip(" \t"))
    if match is None:
        return None
    version, trace_id, span_id, more = match.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    if not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return Trace(trace_id=trace_id, span_id=span_id)
