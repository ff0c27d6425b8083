"""The figures that are promised: ratios of medians within one run, each with its bound.

A ratio to the ffmpeg pipe is one to the better of its two command lines.  Where something was not
measured the figure has no value, and the report says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench.contenders import ASGI, PIPES, RAW, RAW_KEPT, REMUXD
from bench.results import Case, Result
from bench.ttff import LIMIT

__all__ = [
    "NETWORK", "PACES", "Face", "Figure", "against_pipe", "faces", "figures", "many", "usual",
]  # fmt: skip

Results = Mapping[str, Result]
Sides = tuple[float | None, float | None]
NETWORK: Mapping[str, str | float | int] = {"delay_ms": 20, "rate_mbit": 50}
PACES = ("origin", "client")
MANY = 50  # streams at a time, for which the bounds are


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    name: str
    value: float | None
    bound: float | None = None  # none: it stands beside one that has
    at_least: bool = False  # the bound is a lower one
    ours: float | None = None  # what stands above the line, and below it
    theirs: float | None = None
    unit: str = ""

    @property
    def kept(self) -> bool | None:
        """Whether the bound is kept; None where there is none, or nothing was measured."""
        if self.value is None or self.bound is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """One figure for both of our faces."""

    name: str
    aiohttp: float
    asgi: float
    unit: str
    at_least: bool = False

    @property
    def ratio(self) -> float:
        """How much worse the ASGI face is."""
        above, below = (self.aiohttp, self.asgi) if self.at_least else (self.asgi, self.aiohttp)
        return above / below if below else float("inf")


def many(result: Result | None) -> int:
    """Return the number of streams, of those measured, that stands for many."""
    counts = {int(row.case["streams"]) for row in result.rows} if result else set()
    return max((count for count in counts if count <= MANY), default=MANY)


def usual(result: Result | None, pace: str) -> Case:
    """Return the case of many streams that the bounds are for: the shorter one, if several."""
    streams = many(result)
    rows = result.find(pace=pace, streams=streams) if result else []
    return {
        "pace": pace,
        "streams": streams,
        "seconds": min((float(row.case["seconds"]) for row in rows), default=0.0),
    }


def figures(results: Results) -> list[Figure]:
    """Return all figures, in the order in which they are promised."""
    found = [*_ttff(results), *_memory(results), *_cpu(results), *_throughput(results)]
    return [*found, _worst_face(results), *_upstream(results)]


def faces(results: Results) -> list[Face]:
    """Return the values of both faces for every figure that was measured for them."""
    wanted: list[tuple[str, str, str, Case, str]] = []
    for source in ("master", "media"):
        case: Case = {"source": source, "connections": "cold", **NETWORK}
        name = f"first fragment, {source} playlist"
        wanted.append((name, "ttff", "first_fragment_ms", case, "ms"))
    for pace in PACES:
        case = usual(results.get("memory"), pace)
        where = f"{case['streams']} streams, {pace}-paced"
        wanted.append((f"PSS per stream, {where}", "memory", "pss_per_stream_mb", case, "MB"))
        wanted.append((f"PSS given back, {where}", "memory", "given_back", case, ""))
        case = usual(results.get("cpu"), pace)
        wanted.append((f"CPU per MB, {where}", "cpu", "whole_cpu_ms_per_mb", case, "ms"))
    wanted.append(("one whole clip, total time", "throughput", "total_ms", {"streams": 1}, "ms"))
    found = []
    for name, question, value, case, unit in wanted:
        asgi = _median(results, question, ASGI.name, value, case)
        aiohttp = _median(results, question, REMUXD.name, value, case)
        if asgi is not None and aiohttp is not None:
            at_least = value == "given_back"
            found.append(Face(name=name, aiohttp=aiohttp, asgi=asgi, unit=unit, at_least=at_least))
    return found


def against_pipe(results: Results, question: str, value: str, case: Case) -> Sides:
    """Return our median and that of the better pipe."""
    pipes = [_median(results, question, pipe.name, value, case) for pipe in PIPES]
    there = [one for one in pipes if one is not None]
    return _median(results, question, REMUXD.name, value, case), min(there, default=None)


def _ttff(results: Results) -> Iterator[Figure]:
    for source, bound in (("master", 0.25), ("media", 0.50)):
        case: Case = {"source": source, "connections": "cold", **NETWORK}
        sides = against_pipe(results, "ttff", "first_fragment_ms", case)
        yield _ratio(f"first fragment / ffmpeg pipe, {source} playlist", sides, bound, "ms")
        # What nobody can be before, and what a server takes that looks at nothing; in the table
        # that compares us they have no columns of their own.
        for name, other in (("the limit", LIMIT), (RAW.name, RAW.name)):
            least = _median(results, "ttff", other, "first_fragment_ms", case)
            value = _ratio("", (least, sides[1]), None, "ms").value
            yield Figure(name=f"({name} / ffmpeg pipe, {source} playlist)", value=value)
    for source in ("master", "media"):
        for connections in ("cold", "warm"):
            case = {"source": source, "connections": connections, **NETWORK}
            sides = (
                _median(results, "ttff", REMUXD.name, "first_fragment_ms", case),
                _median(results, "ttff", LIMIT, "first_fragment_ms", case),
            )
            name = f"first fragment / limit, {source} playlist, {connections} connections"
            yield _ratio(name, sides, 1.10, "ms")


def _memory(results: Results) -> Iterator[Figure]:
    cases = {pace: usual(results.get("memory"), pace) for pace in PACES}
    for pace, case in cases.items():
        sides = against_pipe(results, "memory", "pss_per_stream_mb", case)
        name = f"PSS per stream / ffmpeg pipe, {case['streams']} streams, {pace}-paced"
        yield _ratio(name, sides, 0.12, "MB")
    for pace, case in cases.items():
        yield Figure(
            name=f"PSS given back 2 s after {case['streams']} streams ended, {pace}-paced",
            value=_median(results, "memory", REMUXD.name, "given_back", case),
            bound=0.80,
            at_least=True,
        )


def _cpu(results: Results) -> Iterator[Figure]:
    raw_bounds = {"origin": 2.2, "client": 4.0}
    for value, what in (("whole_cpu_ms_per_mb", ""), ("cpu_ms_per_mb", ", once under way")):
        bounded = not what  # the promise is for the whole work
        for pace in PACES:
            case = usual(results.get("cpu"), pace)
            where = f"{case['streams']} streams, {pace}-paced{what}"
            sides = against_pipe(results, "cpu", value, case)
            bound = 0.40 if bounded else None
            yield _ratio(f"CPU per MB / ffmpeg pipe, {where}", sides, bound, "ms")
        for pace in PACES:
            case = usual(results.get("cpu"), pace)
            where = f"{case['streams']} streams, {pace}-paced{what}"
            sides = (
                _median(results, "cpu", REMUXD.name, value, case),
                _median(results, "cpu", RAW.name, value, case),
            )
            bound = raw_bounds[pace] if bounded else None
            yield _ratio(f"CPU per MB / raw pass-through, {where}", sides, bound, "ms")


def _throughput(results: Results) -> Iterator[Figure]:
    case = {"streams": 1}
    sides = against_pipe(results, "throughput", "total_ms", case)
    yield _ratio("one whole clip, total time / ffmpeg pipe", sides, 0.50, "ms")
    for other, bound in ((RAW, 2.0), (RAW_KEPT, None)):
        least = _median(results, "throughput", other.name, "total_ms", case)
        name = f"one whole clip, total time / {other.name}"
        yield _ratio(name, (sides[0], least), bound, "ms")


def _worst_face(results: Results) -> Figure:
    worst = max(faces(results), key=lambda face: face.ratio, default=None)
    return Figure(
        name="ASGI face / aiohttp face, every figure"
        + (f" (the worst: {worst.name})" if worst else ""),
        value=worst.ratio if worst else None,
        bound=1.15,
        ours=worst.asgi if worst else None,
        theirs=worst.aiohttp if worst else None,
        unit=worst.unit if worst else "",
    )


def _upstream(results: Results) -> Iterator[Figure]:
    result = results.get("upstream")
    rows = result.find(REMUXD.name) if result else []
    for name, value in (("GETs per segment", "most_gets_of_one"), ("variants touched", "variants")):
        taken = [one for row in rows for one in row.values[value]]
        yield Figure(name=name, value=max(taken, default=None), bound=1)


def _median(
    results: Results, question: str, contender: str, value: str, case: Case
) -> float | None:
    result = results.get(question)
    return result.median(contender, value, **case) if result else None


def _ratio(name: str, sides: Sides, bound: float | None, unit: str) -> Figure:
    ours, theirs = sides
    value = ours / theirs if ours is not None and theirs else None
    return Figure(name=name, value=value, bound=bound, ours=ours, theirs=theirs, unit=unit)
