"""What the prefetcher tells whoever listens: frozen records, one per thing that happened.

They carry numbers and codes, no addresses: safe for logs, metrics and stream records.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FetchEvent", "SegmentDone", "SegmentFailed", "SegmentRetried", "SegmentStarted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentStarted:
    """A segment is about to be requested for the first time."""

    sequence: int  # its Media Sequence Number


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRetried:
    """An attempt failed, and there will be another."""

    sequence: int
    attempt: int  # the one that failed, from 1
    code: str  # of the error, as in `ProxyError.code`
    upstream_status: int | None
    received_bytes: int  # that are kept: the next attempt goes on behind them
    pause_s: float  # until the next attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentDone:
    """All of a segment has come (it may still wait for its turn to be delivered)."""

    sequence: int
    size_bytes: int
    attempts: int
    ttfb_s: float  # request to headers, of the last attempt
    elapsed_s: float  # from the first attempt, pauses and backpressure included
    closed_early: bool  # nothing but the end of the connection ended it: it may be incomplete


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFailed:
    """A segment is given up."""

    sequence: int
    attempts: int
    code: str
    upstream_status: int | None


FetchEvent = SegmentStarted | SegmentRetried | SegmentDone | SegmentFailed
