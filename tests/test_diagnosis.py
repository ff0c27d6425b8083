"""Root causes: of every outcome, and with what was really seen."""

from __future__ import annotations

import pytest

from proxy import errors
from proxy.diagnosis import RootCause, diagnose
from proxy.errors import ProxyError
from proxy.events import (
    Ended,
    Entry,
    Event,
    Opened,
    OriginStalled,
    Planned,
    SegmentDone,
    SegmentFailed,
    SegmentRetried,
)
from proxy.verdicts import CALM, LATER, SEE_UPSTREAM, SIGN_ANEW, SKIP_GAPS, VERDICTS, WORKER_DIED
from tests.support.client import ask, stream_target
from tests.support.clips import make_clip
from tests.support.origin import Fault, Origin, Replace, Status, Truncate, unused_port
from tests.support.served import Serve, over_aiohttp, over_asgi, real_app
from tests.support.streams import publish

CODES = {
    kind.code
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ProxyError)
}


def caused(outcome: str, *events: Event, status: int = 200, skipped: int = 0) -> RootCause:
    ended = Ended(outcome=outcome, status=status, elapsed_s=12.5)
    entries = [Entry(float(second), event) for second, event in enumerate([*events, ended])]
    return diagnose(outcome, entries, skipped=skipped)


def failed(status: int | None, code: str = "source_unavailable") -> SegmentFailed:
    return SegmentFailed(sequence=12, attempts=3, code=code, upstream_status=status, elapsed_s=1.25)


def done(sequence: int) -> SegmentDone:
    return SegmentDone(
        sequence=sequence, size_bytes=9, attempts=1, ttfb_s=0.1, elapsed_s=0.2, closed_early=False
    )


def test_verdicts_are_of_every_outcome() -> None:
    """No code is without words, and no words are of a code that is not there."""
    assert VERDICTS.keys() == CODES | CALM | {WORKER_DIED}


@pytest.mark.parametrize("outcome", sorted(VERDICTS))
def test_diagnose_says_something_of_every_outcome(outcome: str) -> None:
    """Whose matter, a sentence, evidence; and, for what is a failure, what to do about it."""
    cause = caused(outcome)
    assert cause.code == outcome
    assert cause.layer in {"client", "proxy", "origin", "media"}
    assert cause.summary.endswith(".")
    assert [one.event for one in cause.evidence] == ["ended"]
    assert cause.actions or outcome in CALM | {"stopped"}


def test_diagnose_names_the_segment() -> None:
    """Number, status, attempts and seconds are in the summary, and each attempt is evidence."""
    retried = SegmentRetried(
        sequence=12, attempt=1, code="source_unavailable", upstream_status=503, received_bytes=0,
        pause_s=0.25,
    )  # fmt: skip
    cause = caused("source_unavailable", retried, failed(503))
    assert cause.summary == (
        "The source could not be read. It was segment 12: HTTP status 503, 3 attempts in 1.25 s."
    )
    assert (cause.layer, cause.retryable) == ("origin", True)
    assert [one.event for one in cause.evidence] == ["segment_retried", "segment_failed", "ended"]
    assert cause.evidence[0].time == "1970-01-01T00:00:00.000Z"
    assert "attempt 1 failed (source_unavailable, HTTP status 503)" in cause.evidence[0].detail


def test_diagnose_does_not_blame_a_segment_that_was_skipped() -> None:
    """What failed and was left out is not why something else ended the stream."""
    cause = caused("corrupt_media", failed(503))
    assert "segment 12" not in cause.summary
    assert cause.layer == "media"


@pytest.mark.parametrize(("status", "retryable"), [(403, False), (429, True), (500, True)])
def test_diagnose_knows_what_a_retry_can_change(status: int, retryable: bool) -> None:
    """A refusal stays one, trouble may pass; and nobody is told to try what is of no use."""
    cause = caused("source_unavailable", failed(status))
    assert cause.retryable == retryable
    assert (LATER in cause.actions) == retryable


def test_diagnose_tells_to_skip_segments_alone() -> None:
    """Without a playlist there is nothing to go on with."""
    assert SKIP_GAPS in caused("source_unavailable", failed(404)).actions
    assert SKIP_GAPS not in caused("source_unavailable").actions


def test_diagnose_a_client_that_left_a_source_that_stalled() -> None:
    """Who leaves because nothing comes has not left of its own accord."""
    opened = Opened(ttfb_s=0.5)
    cause = caused("client_gone", opened, OriginStalled(seconds=30.0), done(3))
    assert (cause.layer, "30 s" in cause.summary) == ("origin", True)
    assert caused("client_gone", OriginStalled(seconds=30.0), opened).layer == "client"
    assert "before the first fragment" in caused("client_gone", status=0).summary


def test_diagnose_a_complete_stream_with_holes() -> None:
    """Complete is not whole."""
    assert "2 segments were left out" in caused("complete", skipped=2).summary
    assert "1 segment was left out" in caused("complete", skipped=1).summary


def test_diagnose_keeps_the_evidence_short() -> None:
    """However much happened: the end of it, and the last thing that went well."""
    events: list[Event] = [Planned(live=True, elapsed_s=0.1)]
    for sequence in range(20):
        events += [done(sequence), OriginStalled(seconds=10.0)]
    cause = caused("source_timeout", *events)
    assert len(cause.evidence) == 8
    assert [one.event for one in cause.evidence].count("segment_fetched") == 1


@pytest.mark.parametrize("serve", [over_aiohttp, over_asgi])
async def test_root_cause_of_a_real_stream_is_told_everywhere(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """The same object is in the API and in the log line, and its summary where people read."""
    caplog.set_level("INFO", "proxy")
    async with Origin() as origin, real_app() as served, serve(served) as address:
        url = publish(origin, make_clip(seconds=4))
        origin.fault("/2.ts", Status(503), times=9)
        reply = await ask(address, stream_target(f"{url}?token=secret"))
        assert reply.ended == "cut"
        stream = reply.header("x-stream-id")
        feed = (await ask(address, f"/streams/{stream}/events")).body.decode()
        cause = (await ask(address, f"/streams/{stream}")).json()["root_cause"]
    assert (cause["code"], cause["layer"]) == ("source_unavailable", "origin")
    assert "segment 2: HTTP status 503, 3 attempts" in cause["summary"]
    assert {one["event"] for one in cause["evidence"]} >= {"opened", "segment_retried", "ended"}
    assert cause["actions"]
    (line,) = [r for r in caplog.records if r.getMessage().startswith("stream ")]
    fields = vars(line)["fields"]
    assert _plain(fields["root_cause"]) == cause
    assert f'root_cause="origin: {cause["summary"]}"' in line.getMessage()
    assert cause["summary"] in feed


async def test_root_cause_of_a_playlist_that_is_refused() -> None:
    """The status of the source is named, without a segment there."""
    async with Origin() as origin, real_app() as served, over_aiohttp(served) as address:
        url = publish(origin, make_clip(seconds=2))
        origin.fault("/media.m3u8", Status(403), times=9)
        reply = await ask(address, stream_target(url))
        state = (await ask(address, f"/streams/{reply.header('x-stream-id')}")).json()
    cause = state["root_cause"]
    assert cause["summary"] == "The source could not be read. It answered with HTTP status 403."
    assert not cause["retryable"]


@pytest.mark.parametrize(
    ("rule", "words", "action"),
    [("host", "may not fetch", SEE_UPSTREAM), ("expired", "The link", SIGN_ANEW)],
)
def test_diagnose_tells_a_link_from_a_source(rule: str, words: str, action: str) -> None:
    """Who may not fetch a source is not told to have the link signed."""
    ended = Ended(outcome="forbidden", status=403, elapsed_s=0.1, rule=rule)
    cause = diagnose("forbidden", [Entry(0.0, ended)])
    assert words in cause.summary
    assert cause.actions == (action,)


async def test_root_cause_says_nothing_twice() -> None:
    """What the answer says beyond its code is added; what its code says is not repeated."""
    async with Origin() as origin, real_app() as served, over_aiohttp(served) as address:
        reply = await ask(address, stream_target(origin.add("/media.m3u8", "")))
        state = (await ask(address, f"/streams/{reply.header('x-stream-id')}")).json()
    assert state["root_cause"]["summary"] == (
        "A playlist of the source is malformed or empty. It is empty."
    )


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Replace(b"<!doctype html><p>Sign in"), "Segment 2 is no media"),
        (Truncate(1000), "shorter than announced"),
    ],
)
async def test_root_cause_says_what_was_wrong_with_a_segment(fault: Fault, words: str) -> None:
    """Damage and cuts are told of the segment, beyond what the code says."""
    async with Origin() as origin, real_app() as served, over_aiohttp(served) as address:
        url = publish(origin, make_clip(seconds=4))
        origin.fault("/2.ts", fault, times=9)
        reply = await ask(address, stream_target(url))
        state = (await ask(address, f"/streams/{reply.header('x-stream-id')}")).json()
    assert words in state["root_cause"]["summary"]
    assert "http" not in state["root_cause"]["summary"]


async def test_root_cause_says_that_nobody_is_there() -> None:
    """A connection that cannot be made is told from an answer that is wrong."""
    async with real_app() as served, over_aiohttp(served) as address:
        reply = await ask(address, stream_target(f"http://127.0.0.1:{unused_port()}/a.m3u8"))
        state = (await ask(address, f"/streams/{reply.header('x-stream-id')}")).json()
    assert "No connection" in reply.json()["detail"]
    assert "No connection" in state["root_cause"]["summary"]


def _plain(value: object) -> object:
    """As JSON has it."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
