"""Turn results into RESULTS.md and its pictures; no figure in it is typed by hand.

    python -m bench.report [--results bench/results] [--to bench] [--readme .]

The words in it are those of `bench.notes`.  What the README shows is written anew between its two
markers (`bench.readme`).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench import readme
from bench.contenders import MEDIAFLOW, STREAMLINK, place
from bench.cpu import at_length_ms_per_mb
from bench.figures import PACES, Figure, faces, figures, usual
from bench.notes import HOW, NOTES
from bench.options import OUT
from bench.plots import draw
from bench.results import Result, Row, median, p95
from bench.ttff import CURL, LIMIT

__all__ = ["write"]

QUESTIONS = ("ttff", "memory", "cpu", "throughput", "scale", "upstream", "steps")
TITLES = {
    "ttff": "Time to the first byte and the first fragment",
    "memory": "Memory",
    "cpu": "CPU",
    "throughput": "Throughput",
    "scale": "How many streams",
    "upstream": "What it costs the origin",
    "steps": "Where the CPU goes",
}
LENGTHS_S = (10, 30, 120, 600)
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
        "whole_cpu_ms_per_mb": "CPU in all, ms/MB",
        "cpu_ms_per_mb": "once under way, ms/MB",
        "start_cpu_ms": "start of a stream, ms",
        "cores": "cores",
        "delivered_mbit_per_s": "Mbit/s delivered",
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
        "playlists": "GETs of playlists",
        "bytes_ratio": "bytes fetched / played",
        "delivered_ratio": "bytes delivered / played",
        "mp4": "MP4",
    },
    "steps": {"cpu_ms_per_mb": "CPU, ms/MB"},
}


def write(source: Path, folder: Path, repository: Path | None = None) -> Path:
    """Write `RESULTS.md` into `folder`, from the JSON files in `source`, and the pictures there.

    `repository`: the folder whose README is to show the new figures; None: leave it alone.
    """
    results = {q: Result.read(source / f"{q}.json") for q in QUESTIONS if _there(source, q)}
    drawn = draw(results, source)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "RESULTS.md"
    file.write_text("\n".join(_lines(results, drawn, Path(os.path.relpath(source, folder)))))
    if repository is not None:
        readme.fill(repository / "README.md", results, source, file)
    return file


def _there(source: Path, question: str) -> bool:
    return (source / f"{question}.json").is_file()


def _lines(
    results: Mapping[str, Result], drawn: Mapping[str, Sequence[str]], pictures: Path
) -> Iterator[str]:
    yield "# Measured\n"
    yield "Written by `python -m bench.report` from what `python -m bench` measured.\n"
    yield from _about(results)
    yield "\n## The figures\n"
    yield f"{HOW}\n"
    yield from _figures(figures(results))
    yield ""
    yield from (f"- {line}" for line in readme.asked_for(results))
    yield from _faces(results)
    yield from _wrong(results)
    for question, result in results.items():
        yield f"\n## {TITLES[question]}\n"
        yield f"{NOTES[question]}\n"
        for name in drawn.get(question, ()):
            yield f"![{TITLES[question]}]({(pictures / name).as_posix()})\n"
        if question == "ttff":
            yield from _checked(result)
        if question == "cpu":
            yield from _lengths(result)
        if question == "scale":
            yield from _carried(result)
        yield from _table(result)
    yield ""


def _about(results: Mapping[str, Result]) -> Iterator[str]:
    if not results:
        return
    abouts = {question: result.about for question, result in results.items()}
    about = next(iter(abouts.values()))
    clip, versions = about["clip"], about["versions"]
    made = sorted(one["made"] for one in abouts.values())
    commits: dict[str, list[str]] = {}
    for question, one in abouts.items():
        commits.setdefault(one["commit"], []).append(question)
    if len(commits) == 1:
        yield f"- measured at commit `{about['commit']}`, {made[0]} to {made[-1]}"
    else:
        parts = [f"`{commit}` ({', '.join(asked)})" for commit, asked in commits.items()]
        yield f"- measured at commits {', '.join(parts)}, {made[0]} to {made[-1]}"
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
        bound = "" if one.bound is None else f"{'>=' if one.at_least else '<='} {one.bound:g}"
        value = "not measured" if one.value is None else f"{one.value:.3g}"
        mark = {True: "kept", False: "**missed**", None: ""}[one.kept]
        ours, theirs = (
            "" if side is None else f"{_number(side)} {one.unit}" for side in (one.ours, one.theirs)
        )
        yield f"| {one.name} | {bound} | {value} | {mark} | {ours} | {theirs} |"


def _faces(results: Mapping[str, Result]) -> Iterator[str]:
    if found := faces(results):
        yield "\n### The two faces\n"
        yield "| figure | aiohttp | ASGI | ratio (more is worse for ASGI) |"
        yield "|---|---:|---:|---:|"
        for face in found:
            sides = [f"{_number(one)} {face.unit}" for one in (face.aiohttp, face.asgi)]
            yield f"| {face.name} | {' | '.join(sides)} | {face.ratio:.2f} |"


def _wrong(results: Mapping[str, Result]) -> Iterator[str]:
    """Say what contenders did wrong, as far as this run shows it."""
    said = []
    for row in results["upstream"].rows if "upstream" in results else ():
        where = f"{row.contender}, {row.case['source']} playlist:"
        values = {name: taken[0] for name, taken in row.values.items()}
        if values["gets_per_segment"] > 1:
            said.append(
                f"{where} {values['gets']:g} GETs of segments, {values['gets_per_segment']:.2f} "
                f"for each that was played and up to {values['most_gets_of_one']:g} of one; "
                f"{values['variants']:g} variants touched."
            )
        if values["delivered_ratio"] < 0.9:
            said.append(f"{where} only {values['delivered_ratio']:.0%} of the media came.")
    measured = {row.contender for result in results.values() for row in result.rows}
    said += [f"{c.name}: {c.wrong}" for c in (STREAMLINK, MEDIAFLOW) if c.name in measured]
    failures: dict[tuple[str, str, str], int] = {}
    for question, result in results.items():
        if question == "memory":
            continue  # those runs are the ones of the CPU, too
        for failure in result.failures:
            case = ", ".join(f"{key} {value}" for key, value in failure.case.items())
            key = (failure.contender, f"{question}, {case}", failure.reason)
            failures[key] = failures.get(key, 0) + 1
    said += [
        f"{contender}, {case}: failed{f' {count} times' if count > 1 else ''}: {reason}"
        for (contender, case, reason), count in failures.items()
    ]
    if said:
        yield "\n### What went wrong\n"
        yield from (f"- {one}" for one in said)


def _checked(result: Result) -> Iterator[str]:
    for row in result.find(CURL):
        curl = median(row.values["first_fragment_ms"])
        limit = result.median(LIMIT, "first_fragment_ms", **row.case)
        if limit:
            yield (
                f"Checked against curl, {_case(row)}: the limit took {limit:.1f} ms, curl "
                f"{curl:.1f} ms for the same requests and bytes.\n"
            )


def _lengths(result: Result) -> Iterator[str]:
    """Put the start of a stream to what it costs afterwards, for streams of some lengths."""
    rate = result.about["clip"]["mbit_per_s"] / 8
    yield "CPU per MB by how long a stream is watched, computed from its start and its rate:\n"
    yield f"| contender | pace | {' | '.join(f'{s} s, ms/MB' for s in LENGTHS_S)} |"
    yield f"|---|---|{'---:|' * len(LENGTHS_S)}"
    for pace in PACES:
        for row in result.find(**usual(result, pace)):
            if "start_cpu_ms" in row.values:
                start, under_way = (
                    median(row.values[name]) for name in ("start_cpu_ms", "cpu_ms_per_mb")
                )
                cells = [
                    _number(at_length_ms_per_mb(start, under_way, s * rate)) for s in LENGTHS_S
                ]
                yield f"| {row.contender} | {pace} | {' | '.join(cells)} |"
    yield ""


def _carried(result: Result) -> Iterator[str]:
    yield "| contender | streams carried |"
    yield "|---|---:|"
    for contender in dict.fromkeys(row.contender for row in result.rows):
        rows = result.find(contender)
        most = max((int(r.case["streams"]) for r in rows if r.values["carried"] == [1]), default=0)
        some_failed = any(row.values["carried"] == [0] for row in rows)
        yield f"| {contender} | {most}{'' if some_failed else ' or more'} |"
    yield ""


def _table(result: Result) -> Iterator[str]:
    columns = COLUMNS[result.question]
    rows_shown = sorted(result.rows, key=_order) if result.question == "scale" else result.rows
    for case, unordered in _by_case(rows_shown, result.question).items():
        rows = sorted(unordered, key=lambda row: place(row.contender))
        there = {k: v for k, v in columns.items() if any(k in row.values for row in rows)}
        yield f"\n{case}\n" if case else ""
        first = "step" if result.question == "steps" else "contender"
        yield f"| {first} | {' | '.join(there.values())} | n |"
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


def _order(row: Row) -> tuple[str, float]:
    return row.contender, float(row.case["streams"])


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
        "seconds": "{:g} s",
        "how": "{}",
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
    parser.add_argument("--to", type=Path, default=OUT.parent)
    parser.add_argument("--readme", type=Path, help="the folder of the README to fill in")
    options = parser.parse_args()
    print(write(options.results, options.to, options.readme))


if __name__ == "__main__":
    main()
