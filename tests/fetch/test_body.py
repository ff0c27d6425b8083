"""The minimum rate and the deadline, on a clock of the test's own."""

import pytest

from proxy.fetch.body import Pace

KIB = 1024


def pace(*, deadline_s: float | None = None) -> Pace:
    return Pace(rate_bytes_per_s=16 * KIB, window_s=10.0, grace_s=5.0, deadline_s=deadline_s)


def runs(subject: Pace, *, every_s: float, bring_bytes: int, for_s: float) -> float | None:
    """Feed a steady pace; the waiting time at which it was called too slow."""
    waited_s = 0.0
    while waited_s < for_s:
        waited_s += every_s
        if subject.add(every_s, bring_bytes) is not None:
            return waited_s
    return None


def test_pace_trickle() -> None:
    """A byte every 0.3 s is ended within 12 s, and not before a full window."""
    ended_s = runs(pace(), every_s=0.3, bring_bytes=1, for_s=100)
    assert ended_s is not None
    assert 10.0 <= ended_s <= 12.0


@pytest.mark.parametrize("every_s", [0.01, 0.1, 1.0, 6.0])
def test_pace_just_enough(every_s: float) -> None:
    """The minimum rate itself passes, however it is cut into chunks."""
    enough = int(16 * KIB * every_s) + 1
    assert runs(pace(), every_s=every_s, bring_bytes=enough, for_s=300) is None


def test_pace_late_trickle() -> None:
    """A body that begins fast and then dries up is ended a window later."""
    subject = pace()
    assert runs(subject, every_s=0.1, bring_bytes=100 * KIB, for_s=60) is None
    ended_s = runs(subject, every_s=0.3, bring_bytes=1, for_s=100)
    assert ended_s is not None
    assert 10.0 <= ended_s <= 14.0


def test_pace_slow_start() -> None:
    """Nothing for five seconds, then enough: the grace pays for the start."""
    subject = pace()
    assert runs(subject, every_s=1.0, bring_bytes=0, for_s=5) is None
    assert runs(subject, every_s=0.5, bring_bytes=9 * KIB, for_s=60) is None


def test_pace_paused_consumer() -> None:
    """Chunks that nobody waited for say nothing about the origin."""
    subject = pace()
    assert all(subject.add(0.0, 10) is None for _ in range(10_000))


def test_pace_deadline() -> None:
    """A body at a fair rate is ended when all the waiting takes too long."""
    ended_s = runs(pace(deadline_s=20), every_s=0.5, bring_bytes=100 * KIB, for_s=100)
    assert ended_s is not None
    assert 20.0 < ended_s <= 23.0
