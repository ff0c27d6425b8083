"""Why a stream ended as it did: a pure function from what happened to it to its root cause.

`verdicts` says of each outcome whose matter it is, what it means in plain words, whether the same
request may succeed later, and who can change what.  What was seen of this very stream (which
segment, which status, how many attempts, after how many seconds) comes from its records, and stands
in the summary and in the evidence.

The client may read it: nothing in it comes from a message that is for the log alone, and no address
is in it but what the answer named itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from proxy.events import Ended, Entry, OriginStalled, SegmentDone, SegmentFailed
from proxy.verdicts import LATER, SEE_UPSTREAM, SIGN_ANEW, SKIP_GAPS, VERDICTS, Layer

__all__ = ["Evidence", "RootCause", "diagnose"]

_MOST_EVIDENCE = 8
_OF_LINKS = frozenset({"signature", "expired"})  # rules of the guard that are about a link

# Answers that may be others in a while: RFC 9110 (408, 429, 5xx) and RFC 8470 (425).
_PASSING = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    time: str  # RFC 3339, UTC
    event: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RootCause:
    code: str
    layer: Layer
    summary: str
    retryable: bool  # whether the same request may succeed later
    evidence: tuple[Evidence, ...]
    actions: tuple[str, ...]


def diagnose(outcome: str, entries: Sequence[Entry], *, skipped: int = 0) -> RootCause:
    """Return the root cause of how a stream has ended.

    Args:
        outcome: as in the log: `complete`, `client_gone`, ..., or the code of an error.
        entries: what happened to it, in order, its end included.
        skipped: segments that were left out.
    """
    verdict = VERDICTS.get(outcome, VERDICTS["internal_error"])
    events = [entry.event for entry in entries]
    end = next((event for event in reversed(events) if isinstance(event, Ended)), None)
    failed = next((event for event in reversed(events) if isinstance(event, SegmentFailed)), None)
    layer, words, retryable = verdict.layer, [verdict.summary], verdict.retryable
    status = end.upstream_status if end is not None else None
    useless = set()
    if failed is not None and failed.code == outcome:
        status = failed.upstream_status
        words.append(f"It was {_failure(failed)}.")
    else:
        useless.add(SKIP_GAPS)
        if status is not None:
            words.append(f"It answered with HTTP status {status}.")
    if outcome == "forbidden" and end is not None:  # which of the two the answer says, too
        of_link = end.rule in _OF_LINKS
        useless.add(SEE_UPSTREAM if of_link else SIGN_ANEW)
        words = ["The link is not good." if of_link else "The proxy may not fetch this source."]
    if end is not None and end.told:
        words.append(end.told)
    if status is not None and 400 <= status < 500 and status not in _PASSING:
        retryable = False
        useless.add(LATER)
    if outcome == "complete" and skipped:
        lost = "1 segment was" if skipped == 1 else f"{skipped} segments were"
        words = [f"The source came to its end; {lost} left out on the way."]
    if outcome == "client_gone":
        layer, words = _departure(events, end)
    return RootCause(
        code=outcome,
        layer=layer,
        summary=" ".join(words),
        retryable=retryable,
        evidence=_evidence(entries),
        actions=tuple(action for action in verdict.actions if action not in useless),
    )


def _failure(failed: SegmentFailed) -> str:
    status = "" if failed.upstream_status is None else f"HTTP status {failed.upstream_status}, "
    attempts = "1 attempt" if failed.attempts == 1 else f"{failed.attempts} attempts"
    return f"segment {failed.sequence}: {status}{attempts} in {failed.elapsed_s:.3g} s"


def _departure(events: Sequence[object], end: Ended | None) -> tuple[Layer, list[str]]:
    """Why a client left: of its own accord, or since nothing came."""
    told = [event for event in events if not isinstance(event, Ended | SegmentDone)]
    if told and isinstance(told[-1], OriginStalled):
        waited = f"for {told[-1].seconds:.3g} s"
        return "origin", [f"The client left when nothing had come from the source {waited}."]
    if end is not None and end.status == 0:
        return "client", [
            f"The client left after {end.elapsed_s:.3g} s, before the first fragment was there."
        ]
    return "client", [VERDICTS["client_gone"].summary]


def _evidence(entries: Sequence[Entry]) -> tuple[Evidence, ...]:
    """The records that say something, the last ones where there are many, and of those that say
    that all was well the last one."""
    routine = [entry for entry in entries if entry.event.routine][-1:]
    kept = [entry for entry in entries if not entry.event.routine or entry in routine]
    return tuple(
        Evidence(time=_rfc3339(entry.time_s), event=entry.event.name, detail=entry.event.detail)
        for entry in kept[-_MOST_EVIDENCE:]
    )


def _rfc3339(time_s: float) -> str:
    moment = datetime.fromtimestamp(time_s, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
