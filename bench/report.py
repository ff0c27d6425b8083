"""Turn results into RESULTS.md and its pictures; no figure in it is typed by hand.

python -m bench.report [--results bench/results] [--to bench]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.contenders import PIPES, REMUXD
from bench.figures import Figure, figures, many
from bench.options import OUT
from bench.plots import draw
from bench.results import Case, Result, Row, median, p95

__all__ = ["write"]

QUESTIONS = ("ttff", "memory", "cpu", "throughput", "scale", "upstream")
TITLES = {
    "ttff": "Time to the first byte and the first fragment",
    "memory": "Memory",
    "cpu": "CPU",
    "throughput": "Throughput",
    "scale": "How many streams",
    "upstream": "What it costs the origin",
}
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "ttff": {"first_byte_ms": "first byte, ms", "first_fragment_ms": "first fragment, ms"},
    "memory": {
        "pss_per_stream_mb": "PSS/stream, MB",
        "rss_per_stream_mb": "RSS/stream, MB",
        "tree_per_stream_mb": "tree/stream, MB",
        "tree_pss_mb": "tree, MB",
        "idle_pss_mb": "idle tree, MB",
        "given_back": "given back",
    },
    "cpu": {
        "whole_cpu_ms_per_mb": "CPU, whole clip, ms/MB",
        "cpu_ms_per_mb": "once under way, ms/MB",
        "start_cpu_ms": "start of a stream, ms",
        "cores": "cores",
        "late_s": "latest client, s",
    },
    "throughput": {
        "total_ms": "total, ms",
        "mb_per_s": "MB/s",
        "times_real_time": "x real time",
    },
    "scale": {
        "carried": "carried",
        "late_s": "latest client, s",
        "cores": "cores",
        "tree_pss_mb": "tree, MB",
        "pss_per_stream_mb": "PSS/stream, MB",
    },
    "upstream": {
        "gets_per_segment": "GETs/segment",
        "most_gets_of_one": "most GETs of one",
        "variants": "variants",
        "playlists": "playlists",
        "bytes_ratio": "bytes fetched / played",
        "delivered_ratio": "bytes delivered / played",
    },
}
NOTES = {
    "ttff": (
        "The limit is a bare client that makes the same requests one after the other, until the "
        "first picture and the first audio frame have arrived; nobody can be before it. What comes "
        "on top is what the origin's rate takes to send what the media library wants to have read "
        "before it names the tracks, and the start of a worker."
    ),
    "memory": (
        "The whole process tree counts: per stream is (tree - idle tree) / n, and tree / n is what "
        "a machine has to have. Origin-paced, a stream holds what its demuxer and its muxer hold; "
        "client-paced, its buffers are full too, and their sum is bounded by one budget."
    ),
    "cpu": (
        "The ffmpeg pipe is C with a copy through an OS pipe; raw pass-through is what receiving "
        "and sending alone cost in the same kind of server. The difference between it and remuxd "
        "is the remux itself and the way of the bytes between event loop and worker thread."
    ),
    "throughput": (
        "Nothing waits here: what bounds a lone stream is how well fetching, remuxing and sending "
        "overlap, and eight of them are bound by what one interpreter can do at a time."
    ),
    "scale": (
        "The origin and the clients run on the same cores, so raw pass-through shows what the rig "
        "carries. A stream is carried as long as no client is two seconds behind its own time."
    ),
    "upstream": (
        "One GET for each segment, and none from a variant that nobody plays. The ffmpeg pipe "
        "reads all variants of a multivariant playlist while it probes, and maps one of them."
    ),
}


def write(source: Path, folder: Path) -> Path:
    """Write `RESULTS.md` and `plots/` into `folder`, from the JSON files in `source`."""
    read = {q: Result.read(source / f"{q}.json") for q in QUESTIONS if _there(source, q)}
    drawn = draw(read, folder / "plots")
    file = folder / "RESULTS.md"
    file.write_text("\n".join(_lines(read, drawn)))
    return file


def _there(source: Path, question: str) -> bool:
    return (source / f"{question}.json").is_file()


def _lines(results: Mapping[str, Result], drawn: Mapping[str, Sequence[str]]) -> Iterator[str]:
    yield "# Measured\n"
    yield "Written by `python -m bench.report` from what `python -m bench` measured.\n"
    yield from _about(results)
    yield "\n## The figures\n"
    yield "Ratios of medians within one run; to the better of the two ffmpeg command lines.\n"
    yield from _figures(figures(results))
    yield from _asked_for(results)
    for question, result in results.items():
        yield f"\n## {TITLES[question]}\n"
        yield f"{NOTES[question]}\n"
        for name in drawn.get(question, ()):
            yield f"![{TITLES[question]}](plots/{name})\n"
        yield from _table(result)
    yield ""


def _about(results: Mapping[str, Result]) -> Iterator[str]:
    if not results:
        return
    about = next(iter(results.values())).about
    clip, versions = about["clip"], about["versions"]
    yield f"- made {about['made']}, commit `{about['commit']}`"
    yield f"- {about['cpu']}, {about['cores']} cores, {about['system']}"
    yield "- " + ", ".join(f"{k} {v}" if k != "ffmpeg" else v for k, v in versions.items())
    yield (
        f"- clip: {clip['seconds']} s, {clip['mbit_per_s']} Mbit/s in its best of three variants, "
        f"sha256 `{clip['sha256'][:16]}`"
    )


def _figures(all_figures: Sequence[Figure]) -> Iterator[str]:
    yield "| figure | bound | measured | | remuxd | the other |"
    yield "|---|---:|---:|---|---:|---:|"
    for one in all_figures:
        bound = f"{'>=' if one.at_least else '<='} {one.bound:g}"
        value = "not measured" if one.value is None else f"{one.value:.2f}"
        mark = {True: "kept", False: "**missed**", None: ""}[one.kept]
        ours, theirs = (
            "" if side is None else f"{_number(side)} {one.unit}" for side in (one.ours, one.theirs)
        )
        yield f"| {one.name} | {bound} | {value} | {mark} | {ours} | {theirs} |"


def _asked_for(results: Mapping[str, Result]) -> Iterator[str]:
    if "ttff" in results:
        network: dict[str, str | float | int] = {
            "connections": "cold",
            "delay_ms": 20,
            "rate_mbit": 50,
        }
        for source in ("master", "media"):
            first = results["ttff"].median(REMUXD.name, "first_byte_ms", source=source, **network)
            if first is not None:
                yield f"\nFirst byte, {source} playlist, cold: **{first:.0f} ms**."
    if "memory" in results:
        result = results["memory"]
        streams = many(result)
        for pace in ("origin", "client"):
            case: Case = {"pace": pace, "streams": streams}
            ours = result.median(REMUXD.name, "pss_per_stream_mb", **case)
            pipes = [result.median(pipe.name, "pss_per_stream_mb", **case) for pipe in PIPES]
            there = [one for one in pipes if one]
            if ours is not None and there:
                saved = 100 * (1 - ours / min(there))
                yield f"\nMemory saved, {streams} streams, {pace}-paced: **{saved:.0f} %**."


def _table(result: Result) -> Iterator[str]:
    columns = COLUMNS[result.question]
    for case, rows in _by_case(result.rows, result.question).items():
        there = {k: v for k, v in columns.items() if any(k in row.values for row in rows)}
        yield f"\n{case}\n" if case else ""
        yield f"| contender | {' | '.join(there.values())} | n |"
        yield f"|---|{'---:|' * (len(there) + 1)}"
        for row in rows:
            cells = [_cell(row.values.get(value, [])) for value in there]
            n = max((len(taken) for taken in row.values.values()), default=0)
            yield f"| {_named(row, result.question)} | {' | '.join(cells)} | {n} |"


def _by_case(rows: Sequence[Row], question: str) -> dict[str, list[Row]]:
    """Put rows of one case together; a curve is read better in one piece."""
    tables: dict[str, list[Row]] = {}
    for row in rows:
        case = "" if question == "scale" else _case(row)
        tables.setdefault(case, []).append(row)
    return tables


def _named(row: Row, question: str) -> str:
    return (
        f"{row.contender}, {row.case['streams']} streams" if question == "scale" else row.contender
    )


def _case(row: Row) -> str:
    words = {
        "source": "{} playlist",
        "connections": "{} connections",
        "delay_ms": "{} ms delay",
        "rate_mbit": "{} Mbit/s",
        "pace": "{}-paced",
        "streams": "{} at a time",
    }
    parts = [words[key].format(value) for key, value in row.case.items()]
    said = ", ".join(parts).replace(", 0 Mbit/s", ", unlimited rate")
    return said.replace("none-paced", "full speed")


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    if len(values) == 1 or p95(values) == median(values):
        return _number(median(values))
    return f"{_number(median(values))} (p95 {_number(p95(values))})"


def _number(value: float) -> str:
    if value and abs(value) < 10:
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}".removesuffix(".0")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=OUT)
    parser.add_argument("--to", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    print(write(options.results, options.to))


if __name__ == "__main__":
    main()
