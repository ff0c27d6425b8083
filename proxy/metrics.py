"""What Prometheus is told: every metric there is, and how it comes about.

`FAMILIES` is the list of them.  A label has a closed set of values, so that every figure has a cell
from the start, and nobody can make more of them by asking for odd things.  Cells are of one process
or, with several workers, added up over all of them (`state.sums`): whichever is scraped tells of
the whole server.

`Metrics.note` hears the records of every stream; what streams hold is looked at by `look`, when it
is asked for.  Nothing is done for a chunk or a packet.  The text is written by prometheus-client,
which is imported when it is needed for the first time.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, product
from typing import TYPE_CHECKING, Literal, Protocol

import proxy as package
from proxy.events import (
    ClientStalled,
    Ended,
    Event,
    Opened,
    OriginStalled,
    SegmentDone,
    SegmentRetried,
    SegmentSkipped,
)
from proxy.state.sums import LocalSums, Sums
from proxy.verdicts import CALM, VERDICTS, WORKER_DIED

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["CELLS", "FAMILIES", "HELD", "RULES", "Family", "Held", "Metrics"]

# Seconds to the first fragment: well cached, over the sea, with an encoder that has to begin.
_TTFB_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0)

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # as every version of Prometheus reads

REFUSED, ABORTED = "refused", "aborted"
_ERRORS = tuple(code for code in VERDICTS if code not in CALM)
# With several label names the values are those that belong together.
_OUTCOMES = (
    *((outcome, "") for outcome in sorted(CALM)),
    *product((REFUSED, ABORTED), _ERRORS),
)

RULES = ("signature", "expired", "host", "port", "address", "own", "malformed", "operator_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric."""

    name: str  # without the _total of a counter
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    values: tuple[tuple[str, ...], ...] = ((),)  # of the labels
    bounds: tuple[float, ...] = field(default=())  # of a histogram

    @property
    def exposed(self) -> str:
        """Its name where it is queried."""
        return f"{self.name}_total" if self.kind == "counter" else self.name

    @property
    def cells(self) -> int:
        # A histogram has one for each bucket, the last being that without a bound, and the sum.
        return len(self.bounds) + 2 if self.kind == "histogram" else len(self.values)


ACTIVE = Family(
    name="remuxd_streams_active", kind="gauge", labels=("phase",),
    values=(("opening",), ("streaming",)),
    help="Streams that are running, by phase.",
)  # fmt: skip
RING = Family(
    name="remuxd_ring_bytes", kind="gauge",
    help="Bytes in the rings between the network and the remux, of all streams.",
)  # fmt: skip
RING_CAPACITY = Family(
    name="remuxd_ring_capacity_bytes", kind="gauge",
    help="Bytes that these rings may hold now; the quotient is their fill.",
)  # fmt: skip
MEMORY_USED = Family(
    name="remuxd_memory_used_bytes", kind="gauge",
    help="Bytes of media in all buffers of all streams.",
)  # fmt: skip
STREAMS = Family(
    name="remuxd_streams", kind="counter", labels=("outcome", "code"), values=_OUTCOMES,
    help="Streams that have ended. outcome: how, with `refused` for an error before the first byte "
    "and `aborted` for one behind it; code: of the error.",
)  # fmt: skip
TTFB = Family(
    name="remuxd_time_to_first_fragment_seconds", kind="histogram", bounds=_TTFB_S,
    help="Seconds from the request to the first fragment in hand.",
)  # fmt: skip
BYTES_IN = Family(
    name="remuxd_received_bytes", kind="counter",
    help="Bytes of segments that have come from the sources, counted when a segment is whole.",
)  # fmt: skip
BYTES_OUT = Family(
    name="remuxd_sent_bytes", kind="counter", help="Bytes of MP4 that were handed to clients."
)
FETCHED = Family(
    name="remuxd_segments_fetched", kind="counter", help="Segments of which all has come."
)
RETRIED = Family(
    name="remuxd_segments_retried", kind="counter",
    help="Attempts to fetch a segment that failed and were followed by another one.",
)  # fmt: skip
SKIPPED = Family(
    name="remuxd_segments_skipped", kind="counter",
    help="Segments that were left out, since the client wanted to go on without them.",
)  # fmt: skip
CLIENT_STALLS = Family(
    name="remuxd_client_stalls", kind="counter",
    help="Times that a client took nothing for 5 s though there was something to take.",
)  # fmt: skip
ORIGIN_STALLS = Family(
    name="remuxd_origin_stalls", kind="counter",
    help="Times that there was nothing to hand to a client for 10 s.",
)  # fmt: skip
REFUSALS = Family(
    name="remuxd_guard_refusals", kind="counter", labels=("rule",),
    values=tuple((rule,) for rule in RULES),
    help="Requests and addresses that a guard has refused, by what they ran against.",
)  # fmt: skip

# Those that say what is held now come first: `sums` clears them when a process dies.
_HELD = (ACTIVE, RING, RING_CAPACITY, MEMORY_USED)
_COUNTED = (
    STREAMS, TTFB, BYTES_IN, BYTES_OUT, FETCHED, RETRIED, SKIPPED, CLIENT_STALLS, ORIGIN_STALLS,
    REFUSALS,
)  # fmt: skip
_IN_CELLS = (*_HELD, *_COUNTED)

# These are the same for all processes, and need no cell.
BUDGET = Family(
    name="remuxd_memory_budget_bytes", kind="gauge",
    help="Bytes of media that all buffers may hold: memory.budget_bytes.",
)  # fmt: skip
BUILD = Family(
    name="remuxd_build_info", kind="gauge", labels=("version", "python"),
    help="1; the labels say what is running.",
)  # fmt: skip

FAMILIES = (*_IN_CELLS, BUDGET, BUILD)
_STARTS = dict(
    zip(
        (family.name for family in _IN_CELLS),
        accumulate((family.cells for family in _IN_CELLS), initial=0),
        strict=False,
    )
)
CELLS = sum(family.cells for family in _IN_CELLS)
HELD = sum(family.cells for family in _HELD)


class Held(Protocol):
    """What one running stream holds now."""

    @property
    def opening(self) -> bool: ...
    @property
    def bytes(self) -> int: ...  # handed to the client so far
    @property
    def held_bytes(self) -> int: ...
    @property
    def ring_bytes(self) -> int: ...
    @property
    def ring_capacity_bytes(self) -> int: ...


class Metrics:
    """The figures of this server.

    Args:
        sums: where they are kept; default: in this process.
        budget_bytes: `memory.budget_bytes`.
    """

    def __init__(self, sums: Sums | None = None, *, budget_bytes: int = 0) -> None:
        self._sums = sums if sums is not None else LocalSums(CELLS)
        self._cells = self._sums.own()
        self._budget_bytes = budget_bytes
        self._ended_bytes = 0  # handed out by streams that have ended
        self._sent_bytes = 0  # of all of them, as far as it is in the cell

    # -- what happens ------------------------------------------------------------------------------

    def note(self, event: Event) -> None:
        """Take up what happened to a stream."""
        if isinstance(event, SegmentDone):
            self._add(FETCHED)
            self._add(BYTES_IN, event.size_bytes)
        elif isinstance(event, SegmentRetried):
            self._add(RETRIED)
        elif isinstance(event, SegmentSkipped):
            self._add(SKIPPED, event.count)
        elif isinstance(event, ClientStalled):
            self._add(CLIENT_STALLS)
        elif isinstance(event, OriginStalled):
            self._add(ORIGIN_STALLS)
        elif isinstance(event, Opened):
            start = _STARTS[TTFB.name]
            self._cells[start + bisect_left(TTFB.bounds, event.ttfb_s)] += 1
            self._cells[start + TTFB.cells - 1] += event.ttfb_s
        elif isinstance(event, Ended):
            self._end(event)

    def _end(self, event: Ended) -> None:
        outcome, code = event.outcome, ""
        if outcome not in CALM:
            outcome, code = REFUSED if event.status >= 400 else ABORTED, event.outcome
        self._add(STREAMS, values=(outcome, code if code in _ERRORS or not code else _ERRORS[0]))
        if event.rule:
            self.refused(event.rule)

    def refused(self, rule: str) -> None:
        """A guard has refused a request or an address."""
        assert rule in RULES, rule
        self._add(REFUSALS, values=(rule,))

    def lost(self, streams: int) -> None:
        """A process died with so many streams."""
        self._add(STREAMS, streams, values=(ABORTED, WORKER_DIED))

    def sent(self, size_bytes: int) -> None:
        """A stream has ended that has handed out so many bytes."""
        self._ended_bytes += size_bytes

    def look(self, streams: Iterable[Held]) -> None:
        """Take up what the running streams of this process hold."""
        running = list(streams)
        opening = sum(stream.opening for stream in running)
        self._set(ACTIVE, opening, values=("opening",))
        self._set(ACTIVE, len(running) - opening, values=("streaming",))
        self._set(RING, sum(stream.ring_bytes for stream in running))
        self._set(RING_CAPACITY, sum(stream.ring_capacity_bytes for stream in running))
        self._set(MEMORY_USED, sum(stream.held_bytes for stream in running))
        sent_bytes = self._ended_bytes + sum(stream.bytes for stream in running)
        self._add(BYTES_OUT, sent_bytes - self._sent_bytes)
        self._sent_bytes = sent_bytes

    def _add(self, family: Family, count: float = 1, *, values: tuple[str, ...] = ()) -> None:
        self._cells[_STARTS[family.name] + family.values.index(values)] += count

    def _set(self, family: Family, value: float, *, values: tuple[str, ...] = ()) -> None:
        self._cells[_STARTS[family.name] + family.values.index(values)] = value

    # -- what is told ------------------------------------------------------------------------------

    def text(self) -> tuple[str, bytes]:
        """Return the figures as Prometheus reads them: the media type, and the text."""
        from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415

        registry = CollectorRegistry()
        registry.register(self)
        return MEDIA_TYPE, generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """Yield what there is, as prometheus-client wants it."""
        from prometheus_client.core import (  # noqa: PLC0415
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        totals = self._sums.totals()
        for family in _IN_CELLS:
            start = _STARTS[family.name]
            cells = totals[start : start + family.cells]
            if family.kind == "histogram":
                bounds = [*map(str, family.bounds), "+Inf"]
                buckets = list(zip(bounds, accumulate(cells[:-1]), strict=True))
                told = HistogramMetricFamily(family.name, family.help)
                told.add_metric([], buckets=buckets, sum_value=cells[-1])
                yield told
                continue
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            one = kind(family.name, family.help, labels=family.labels)
            for values, value in zip(family.values, cells, strict=True):
                one.add_metric(values, value)
            yield one
        yield GaugeMetricFamily(BUDGET.name, BUDGET.help, value=self._budget_bytes)
        build = GaugeMetricFamily(BUILD.name, BUILD.help, labels=BUILD.labels)
        build.add_metric([package.__version__, platform.python_version()], 1)
        yield build
