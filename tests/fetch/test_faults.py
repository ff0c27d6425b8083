"""What an error tells the log, and what it tells a retry."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from proxy.errors import SourceNotFound, SourceUnavailable
from proxy.fetch.faults import bad_status
from proxy.fetch.retry import is_retryable, pause_s
from tests.fetch.helpers import quick


@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        (400, False), (401, False), (403, False), (404, False), (410, False), (416, False),
        (408, True), (425, True), (429, True), (500, True), (502, True), (503, True), (504, True),
        (204, False), (304, False),
    ],
)  # fmt: skip
def test_bad_status_retryable(status: int, retryable: bool) -> None:
    """Only what may pass by itself is worth another attempt."""
    error = bad_status(status, "http://h/a?x", what="segment", retry_after=None)
    assert isinstance(error, SourceUnavailable)
    assert error.upstream_status == status
    assert is_retryable(error, quick()) is retryable
    assert "?x" not in str(error)


@pytest.mark.parametrize("what", ["playlist", "page"])
@pytest.mark.parametrize("status", [404, 410])
def test_bad_status_missing(what: str, status: int) -> None:
    """A playlist or page that is not there is told apart."""
    error = bad_status(status, "http://h/a", what=what, retry_after=None)  # type: ignore[arg-type]
    assert isinstance(error, SourceNotFound)


def later(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        (" 0 ", 0),
        (later(-100), 0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0),
        ("soon", None),
        ("-3", None),
        ("\u0661", None),
        ("", None),
    ],
)
def test_retry_after_forms(value: str, seconds: int | None) -> None:
    """Retry-After is a number or a date; anything else is as if it were not there."""
    error = bad_status(503, "http://h/a", what="segment", retry_after=value)
    assert error.retry_after_s == seconds


def test_retry_after_date() -> None:
    """A date in the future gives the seconds until then."""
    error = bad_status(429, "http://h/a", what="segment", retry_after=later(30))
    assert error.retry_after_s is not None
    assert 28 <= error.retry_after_s <= 31


def test_retry_after_huge() -> None:
    """A number of any length costs nothing, and is not waited for."""
    error = bad_status(503, "http://h/a", what="segment", retry_after="9" * 5000)
    assert not is_retryable(error, quick())


def test_pause_grows_with_jitter() -> None:
    """Pauses double up to the longest, with up to half as much again."""
    settings = quick(backoff_s=(0.25, 2.0))
    error = bad_status(500, "http://h/a", what="segment", retry_after=None)
    for failures, least_s in ((1, 0.25), (2, 0.5), (3, 1.0), (4, 2.0), (9, 2.0), (90, 2.0)):
        pauses = {pause_s(failures, error, settings) for _ in range(50)}
        assert min(pauses) >= least_s
        assert max(pauses) <= least_s * 1.5
        assert len(pauses) > 1


def test_pause_asked_for() -> None:
    """What the origin asks for is the least."""
    error = bad_status(503, "http://h/a", what="segment", retry_after="7")
    assert pause_s(1, error, quick()) == 7
