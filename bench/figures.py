"""The figures that are promised: ratios of medians within one run, each with its bound.

A ratio to the ffmpeg pipe is one to the better of its two command lines.  Where something was not
measured the figure has no value, and the report says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench.contenders import ASGI, PIPES, RAW, REMUXD
from bench.results import Case, Result
from bench.ttff import LIMIT

__all__ = ["Figure", "figures", "many"]

Results = Mapping[str, Result]
Sides = tuple[float | None, float | None]
# A process that is started for a stream costs most at its start; both views are given.
CPU = {
    "whole_cpu_ms_per_mb": "CPU per MB, whole clip",
    "cpu_ms_per_mb": "CPU per MB, once under way",
}
MANY = 50  # streams at a time, for which the bounds are


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    name: str
    value: float | None
    bound: float
    at_least: bool = False  # the bound is a lower one
    ours: float | None = None  # what stands above the line, and below it
    theirs: float | None = None
    unit: str = ""

    @property
    def kept(self) -> bool | None:
        """Whether the bound is kept; None where nothing was measured."""
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def many(result: Result | None) -> int:
    """Return the number of streams, of those measured, that stands for many."""
    counts = {int(row.case["streams"]) for row in result.rows} if result else set()
    return max((count for count in counts if count <= MANY), default=MANY)


def figures(results: Results) -> list[Figure]:
    """Return all figures, in the order in which they are promised."""
    found = [*_ttff(results), *_memory(results), *_cpu(results), *_throughput(results)]
    return [*found, _faces(results), *_upstream(results)]


def _ttff(results: Results) -> Iterator[Figure]:
    network: dict[str, str | float | int] = {"delay_ms": 20, "rate_mbit": 50}
    for source, bound in (("master", 0.25), ("media", 0.50)):
        case: Case = {"source": source, "connections": "cold", **network}
        sides = _against_pipe(results, "ttff", "first_fragment_ms", case)
        yield _ratio(f"first fragment / ffmpeg pipe, {source} playlist", sides, bound, "ms")
    for source in ("master", "media"):
        for connections in ("cold", "warm"):
            case = {"source": source, "connections": connections, **network}
            sides = (
                _median(results, "ttff", REMUXD.name, "first_fragment_ms", case),
                _median(results, "ttff", LIMIT, "first_fragment_ms", case),
            )
            name = f"first fragment / limit, {source} playlist, {connections} connections"
            yield _ratio(name, sides, 1.10, "ms")


def _memory(results: Results) -> Iterator[Figure]:
    streams = many(results.get("memory"))
    cases = {pace: {"pace": pace, "streams": streams} for pace in ("origin", "client")}
    for pace, case in cases.items():
        sides = _against_pipe(results, "memory", "pss_per_stream_mb", case)
        name = f"PSS per stream / ffmpeg pipe, {streams} streams, {pace}-paced"
        yield _ratio(name, sides, 0.12, "MB")
    for pace, case in cases.items():
        yield Figure(
            name=f"PSS given back 2 s after {streams} streams ended, {pace}-paced",
            value=_median(results, "memory", REMUXD.name, "given_back", case),
            bound=0.80,
            at_least=True,
        )


def _cpu(results: Results) -> Iterator[Figure]:
    streams = many(results.get("cpu"))
    for value, what in CPU.items():
        for pace in ("origin", "client"):
            case: Case = {"pace": pace, "streams": streams}
            sides = _against_pipe(results, "cpu", value, case)
            yield _ratio(f"{what} / ffmpeg pipe, {streams} {pace}-paced", sides, 0.40, "ms/MB")
        for pace, bound in (("origin", 2.2), ("client", 4.0)):
            case = {"pace": pace, "streams": streams}
            sides = (
                _median(results, "cpu", REMUXD.name, value, case),
                _median(results, "cpu", RAW.name, value, case),
            )
            name = f"{what} / raw pass-through, {streams} {pace}-paced"
            yield _ratio(name, sides, bound, "ms/MB")


def _throughput(results: Results) -> Iterator[Figure]:
    case = {"streams": 1}
    sides = _against_pipe(results, "throughput", "total_ms", case)
    yield _ratio("one whole clip, total time / ffmpeg pipe", sides, 0.50, "ms")
    raw = _median(results, "throughput", RAW.name, "total_ms", case)
    yield _ratio("one whole clip, total time / raw pass-through", (sides[0], raw), 2.0, "ms")


def _faces(results: Results) -> Figure:
    """Return the worst ratio of the two faces, over everything that is better when it is less."""
    worst: tuple[float, str] | None = None
    values = {
        "ttff": "first_fragment_ms",
        "memory": "pss_per_stream_mb",
        "cpu": "cpu_ms_per_mb",
        "throughput": "total_ms",
    }
    for question, value in values.items():
        result = results.get(question)
        for row in result.find(ASGI.name) if result else []:
            if question in {"memory", "cpu"} and row.case["streams"] not in {1, many(result)}:
                continue
            asgi = _median(results, question, ASGI.name, value, row.case)
            aiohttp = _median(results, question, REMUXD.name, value, row.case)
            if asgi is not None and aiohttp:
                case = ", ".join(str(part) for part in row.case.values())
                one = (asgi / aiohttp, f"{question} {case}")
                worst = max(worst, one) if worst else one
    where = f" (the worst: {worst[1]})" if worst else ""
    return Figure(
        name=f"ASGI face / aiohttp face, every figure{where}",
        value=worst[0] if worst else None,
        bound=1.15,
    )


def _upstream(results: Results) -> Iterator[Figure]:
    result = results.get("upstream")
    rows = result.find(REMUXD.name) if result else []
    for name, value in (("GETs per segment", "most_gets_of_one"), ("variants touched", "variants")):
        taken = [one for row in rows for one in row.values[value]]
        yield Figure(name=name, value=max(taken, default=None), bound=1)


def _against_pipe(results: Results, question: str, value: str, case: Case) -> Sides:
    pipes = [_median(results, question, pipe.name, value, case) for pipe in PIPES]
    there = [one for one in pipes if one is not None]
    return _median(results, question, REMUXD.name, value, case), min(there, default=None)


def _median(
    results: Results, question: str, contender: str, value: str, case: Case
) -> float | None:
    result = results.get(question)
    return result.median(contender, value, **case) if result else None


def _ratio(name: str, sides: Sides, bound: float, unit: str) -> Figure:
    ours, theirs = sides
    value = ours / theirs if ours is not None and theirs else None
    return Figure(name=name, value=value, bound=bound, ours=ours, theirs=theirs, unit=unit)
