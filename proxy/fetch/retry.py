"""When a failed attempt is tried again, and after what pause.

The loop is tenacity's: it has no state of its own between calls (stamina, built on it, can be
switched off for the whole process by anybody in it), and its pieces are plain functions of one
call's state.  What is retried, how often and how long to wait is decided here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import tenacity

from proxy.fetch.faults import Attempted
from proxy.fetch.settings import Settings

__all__ = ["is_retryable", "pause_s", "retrying"]


def is_retryable(error: BaseException, settings: Settings) -> bool:
    """Whether the same request may succeed soon: a passing fault, and not told to wait too long."""
    if not isinstance(error, Attempted) or not error.retryable:
        return False
    return (error.retry_after_s or 0) <= settings.retry_after_limit_s


def pause_s(failures: int, error: BaseException, settings: Settings) -> float:
    """How long to wait after so many failures (from 1): doubled each time, up to half of it more
    at random, and never less than the origin asked for."""
    first_s, longest_s = settings.backoff_s
    doubled_s = min(longest_s, first_s * 2.0 ** (failures - 1))
    pause_s = doubled_s * random.uniform(1.0, 1.5)  # noqa: S311 - no secret
    return max(pause_s, error.retry_after_s or 0) if isinstance(error, Attempted) else pause_s


def retrying(
    settings: Settings,
    *,
    attempts: int,
    budget_s: float | None = None,
    retryable: Callable[[BaseException], bool] | None = None,
    failures: Callable[[], int] | None = None,
    before_pause: Callable[[BaseException, float], None] | None = None,
) -> tenacity.AsyncRetrying:
    """A fresh retry loop for one request.

    `budget_s`: no attempt is begun behind it.  `retryable`: instead of `is_retryable`.
    `failures`: how many attempts count as failed, where not all do.  `before_pause` is told of the
    error and the seconds until the next attempt.  The last error comes out as it is.
    """

    def error_of(state: tenacity.RetryCallState) -> BaseException:
        error = state.outcome.exception() if state.outcome is not None else None
        assert error is not None  # asked only after an attempt that failed
        return error

    def failed(state: tenacity.RetryCallState) -> int:
        return state.attempt_number if failures is None else failures()

    def again(error: BaseException) -> bool:
        return is_retryable(error, settings) if retryable is None else retryable(error)

    def tell(state: tenacity.RetryCallState) -> None:
        if before_pause is not None:
            before_pause(error_of(state), state.upcoming_sleep)

    stop: tenacity.stop.stop_base = _stop_when(lambda state: failed(state) >= attempts)
    if budget_s is not None:
        stop |= tenacity.stop_before_delay(budget_s)
    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(again),
        stop=stop,
        wait=lambda state: pause_s(failed(state), error_of(state), settings),
        before_sleep=tell,
        sleep=asyncio.sleep,
        reraise=True,
    )


class _stop_when(tenacity.stop.stop_base):  # noqa: N801 - named like its siblings in tenacity
    def __init__(self, condition: Callable[[tenacity.RetryCallState], bool]) -> None:
        self._condition = condition

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        return self._condition(retry_state)
