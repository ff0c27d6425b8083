"""What a stream's trail keeps and counts, and what real streams leave in it."""

from __future__ import annotations

import itertools

from proxy.events import (
    FIRST,
    LAST,
    LAST_ROUTINE,
    ClientStalled,
    Ended,
    Event,
    Planned,
    SegmentDone,
    SegmentFailed,
    SegmentRetried,
    SegmentSkipped,
    SegmentStarted,
    Trail,
)
from proxy.pipeline import StreamRequest
from tests.support.clips import make_clip, pieces
from tests.support.origin import Origin, Status
from tests.support.streams import Played, pipeline, publish, read


def done(sequence: int) -> SegmentDone:
    return SegmentDone(
        sequence=sequence, size_bytes=100, attempts=1, ttfb_s=0.1, elapsed_s=0.2, closed_early=False
    )


def retried(sequence: int) -> SegmentRetried:
    return SegmentRetried(
        sequence=sequence,
        attempt=1,
        code="source_unavailable",
        upstream_status=503,
        received_bytes=0,
        pause_s=0.25,
    )


def test_note_counts() -> None:
    """Counts are of all records, kept or not."""
    trail = Trail()
    for sequence in range(100):
        trail.note(SegmentStarted(sequence=sequence))
        trail.note(retried(sequence))
        trail.note(done(sequence))
    trail.note(SegmentSkipped(sequence=None, count=3, duration_s=18.0))
    trail.note(ClientStalled(seconds=5.0))
    assert (trail.fetched, trail.retried, trail.skipped) == (100, 100, 3)
    assert (trail.bytes_in, trail.client_stalls) == (10_000, 1)


def test_entries_are_the_first_and_the_last() -> None:
    """However long a stream runs, its trail tells the beginning and the end, in order."""
    ticks = itertools.count()
    trail = Trail(now=lambda: float(next(ticks)))
    trail.note(Planned(live=False, elapsed_s=0.1))
    for sequence in range(1000):
        trail.note(retried(sequence))
        trail.note(done(sequence))
    trail.note(Ended(outcome="complete", status=200, elapsed_s=9.0))
    entries = trail.entries
    assert len(entries) == FIRST + LAST + LAST_ROUTINE
    assert [entry.time_s for entry in entries] == sorted(entry.time_s for entry in entries)
    assert [entry.event.name for entry in entries[:2]] == ["planned", "segment_retried"]
    assert isinstance(entries[-1].event, Ended)
    assert trail.live is False


def test_note_tells_the_hook() -> None:
    """A hook sees each record, routine or not."""
    seen: list[Event] = []
    trail = Trail(hook=seen.append)
    events = [SegmentStarted(sequence=1), done(1)]
    for event in events:
        trail.note(event)
    assert seen == events


def test_detail_says_what_was_seen() -> None:
    """Number, status, attempts and seconds stand in the words."""
    failed = SegmentFailed(
        sequence=12, attempts=3, code="source_unavailable", upstream_status=503, elapsed_s=1.25
    )
    assert failed.detail == (
        "segment 12: given up after 3 attempts and 1.25 s (source_unavailable, HTTP status 503)"
    )


async def test_trail_of_a_stream_with_a_hole() -> None:
    """A real stream notes its plan, its retries, what it gave up and what it left out."""
    trail, clip = Trail(), make_clip(seconds=4)
    async with Origin() as origin, pipeline() as one:
        url = publish(origin, clip)
        origin.fault("/1.ts", Status(503), times=1)
        origin.fault("/2.ts", Status(503))
        request = StreamRequest(url=url, on_gap="skip")
        async with await one.open_stream(request, trail) as stream:
            assert stream.id == trail.id
            played = Played()
            await read(stream, played)
            assert played.error is None
            assert stream.media_s > 2.5
    assert (trail.fetched, trail.skipped) == (3, 1)
    assert trail.retried == 3  # one of segment 1, two of segment 2
    assert trail.bytes_in == sum(len(pieces(clip, 1.0)[n].data) for n in (0, 1, 3))
    names = [entry.event.name for entry in trail.entries]
    assert names[0] == "planned"
    assert {"segment_retried", "segment_failed", "segment_skipped"} <= set(names)
    (failed,) = [e.event for e in trail.entries if isinstance(e.event, SegmentFailed)]
    assert (failed.sequence, failed.attempts, failed.upstream_status) == (2, 3, 503)
