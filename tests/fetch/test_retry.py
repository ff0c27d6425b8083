"""When an attempt is made again, and how long it waits: plain functions of error and settings."""

from __future__ import annotations

import pytest

from proxy.errors import Forbidden
from proxy.fetch import Settings
from proxy.fetch.faults import TimedOut, Unavailable, bad_status
from proxy.fetch.retry import is_retryable, pause_s

SETTINGS = Settings(backoff_s=(0.25, 2.0), retry_after_limit_s=10.0)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (TimedOut("slow"), True),
        (Unavailable("reset"), True),
        (Unavailable("a certificate", retryable=False), False),
        (bad_status(503, "http://h/", what="segment", retry_after=None), True),
        (bad_status(429, "http://h/", what="playlist", retry_after="10"), True),
        (bad_status(429, "http://h/", what="playlist", retry_after="11"), False),
        (bad_status(403, "http://h/", what="segment", retry_after=None), False),
        (Forbidden("ours"), False),
        (ValueError("a bug"), False),
    ],
    ids=range(9),
)
def test_is_retryable(error: Exception, again: bool) -> None:
    """Passing faults are tried again, unless the origin asks for more time than we give."""
    assert is_retryable(error, SETTINGS) is again


@pytest.mark.parametrize(
    ("failures", "least_s", "most_s"),
    [(1, 0.25, 0.375), (2, 0.5, 0.75), (3, 1.0, 1.5), (4, 2.0, 3.0), (50, 2.0, 3.0)],
)
def test_pause(failures: int, least_s: float, most_s: float) -> None:
    """Pauses double up to the longest, and are never alike for all."""
    pauses = [pause_s(failures, TimedOut("slow"), SETTINGS) for _ in range(50)]
    assert least_s <= min(pauses) < max(pauses) <= most_s


def test_pause_retry_after() -> None:
    """Retry-After is the least pause; a shorter one does not hurry us."""
    asked = Unavailable("503", retry_after_s=7)
    assert pause_s(1, asked, SETTINGS) == 7
    assert pause_s(1, Unavailable("503", retry_after_s=0), SETTINGS) >= 0.25
