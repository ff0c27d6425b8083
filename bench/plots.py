"""The pictures of the report: PNG, drawn from the rows and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.contenders import ASGI, BUFFERED, PIPES, RAW, RAW_KEPT, REMUXD, REMUXD_2, place
from bench.figures import NETWORK, PACES, many, usual
from bench.results import Result, Row, median
from bench.ttff import LIMIT

__all__ = ["draw"]

COLOURS = {
    REMUXD.name: "#1f6fb4",
    ASGI.name: "#6baed6",
    REMUXD_2.name: "#2c8c99",
    PIPES[0].name: "#d95f0e",
    PIPES[1].name: "#fe9929",
    BUFFERED.name: "#a6761d",
    RAW.name: "#41ab5d",
    RAW_KEPT.name: "#a1d99b",
    LIMIT: "#808080",
}
OTHER = "#756bb1"
GREY = "#808080"  # read on white and on black alike, as the pages are that show the pictures
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), GREY
    ),
}
OUTLIER = 10  # a bar that is so many times the next one
DOTS_PER_INCH = 110


def draw(results: Mapping[str, Result], folder: Path) -> dict[str, list[str]]:
    """Write the pictures of the questions that were asked; returns their names by question."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, list[str]] = {}
    painters: dict[str, Callable[[Result], list[tuple[str, Figure]]]] = {
        "ttff": _ttff,
        "memory": _memory,
        "cpu": _cpu,
        "throughput": _throughput,
        "scale": _scale,
    }
    with mpl.rc_context(STYLE):
        for question, paint in painters.items():
            if question in results:
                for name, figure in paint(results[question]):
                    figure.savefig(
                        folder / f"{name}.png",
                        dpi=DOTS_PER_INCH,
                        transparent=True,
                        # No date and no version inside: the same rows are the same file.
                        metadata={"Software": ""},
                    )
                    drawn.setdefault(question, []).append(f"{name}.png")
    return drawn


def _ttff(result: Result) -> list[tuple[str, Figure]]:
    rows = result.find(connections="cold", **NETWORK)
    kinds = ("master", "media", "live")
    panels = [(f"{k} playlist", [r for r in rows if r.case["source"] == k]) for k in kinds]
    title = "first whole fragment, ms (20 ms delay, 50 Mbit/s, cold connections)"
    return [("first-fragment", _bars(panels, "first_fragment_ms", title))]


def _memory(result: Result) -> list[tuple[str, Figure]]:
    streams = many(result)
    title = f"PSS per stream, MB ({streams} streams)"
    drawn = [("memory", _bars(_paces(result), "pss_per_stream_mb", title))]
    if len({row.case["streams"] for row in result.rows}) > 1:
        short = usual(result, "origin")["seconds"]
        lines = [
            (f"{pace}-paced", _with_idle(result.find(pace=pace, seconds=short))) for pace in PACES
        ]
        drawn.append(("memory-streams", _lines(lines, [("tree_pss_mb", "PSS of the tree, MB")])))
    return drawn


def _with_idle(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with that of no stream, which is the idle tree before each run."""
    idle = [
        Row(
            contender=row.contender,
            case={**row.case, "streams": 0},
            values={"tree_pss_mb": row.values["idle_pss_mb"]},
        )
        for row in rows
        if row.case["streams"] == 1
    ]
    return [*idle, *rows]


def _cpu(result: Result) -> list[tuple[str, Figure]]:
    panels = _paces(result)
    panels.append(("one whole clip at full speed", result.find(pace="none")))
    title = f"CPU per MB delivered, ms ({many(result)} streams, their start and end included)"
    return [("cpu", _bars(panels, "whole_cpu_ms_per_mb", title))]


def _throughput(result: Result) -> list[tuple[str, Figure]]:
    panels = [(f"{count} at a time", result.find(streams=count)) for count in (1, 8)]
    return [("throughput", _bars(panels, "mb_per_s", "MB/s at full speed"))]


def _scale(result: Result) -> list[tuple[str, Figure]]:
    values = [("cores", "cores used"), ("tree_pss_mb", "PSS of the tree, MB")]
    return [("scale", _lines([("", result.rows)], values))]


def _paces(result: Result) -> list[tuple[str, list[Row]]]:
    return [(f"{pace}-paced", result.find(**usual(result, pace))) for pace in PACES]


def _bars(panels: Sequence[tuple[str, list[Row]]], value: str, title: str) -> Figure:
    shown = [(name, [r for r in rows if r.values.get(value)]) for name, rows in panels]
    shown = [(name, rows) for name, rows in shown if rows]
    height = 0.9 + 0.27 * max((len(rows) for _, rows in shown), default=1)
    figure = Figure(figsize=(3.4 * max(len(shown), 1) + 1, height), layout="constrained")
    figure.suptitle(title)
    for index, (name, rows) in enumerate(shown):
        axes = figure.add_subplot(1, len(shown), index + 1)
        _bar_panel(axes, rows, value)
        axes.set_title(name, fontsize=9)
    return figure


def _bar_panel(axes: Axes, rows: list[Row], value: str) -> None:
    rows = sorted(rows, key=lambda row: place(row.contender))
    medians = [median(row.values[value]) for row in rows]
    names = [row.contender for row in rows]
    least, most = ([0.0, 0.0, *sorted(medians)])[-2:]
    # A bar starts at 0, so that its length is its value; one that is far longer than the others is
    # broken off, so that those can be told apart.
    edge = 1.5 * least if most > OUTLIER * least > 0 else most
    axes.barh(
        names,
        [min(one, edge) for one in medians],
        color=[COLOURS.get(name, OTHER) for name in names],
    )
    axes.invert_yaxis()
    for index, one in enumerate(medians):
        said = f"{one:.3g}" if one < 1000 else f"{one:.0f}"
        axes.annotate(
            f"… {said}" if one > edge else said,
            (min(max(one, 0), edge), index),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.margins(x=0.25)


def _lines(panels: Sequence[tuple[str, list[Row]]], values: Sequence[tuple[str, str]]) -> Figure:
    count = len(panels) * len(values)
    figure = Figure(figsize=(4 * count + 0.5, 3.2), layout="constrained")
    grid = [(name, rows, *value) for name, rows in panels for value in values]
    for index, (name, rows, value, title) in enumerate(grid):
        axes = figure.add_subplot(1, count, index + 1)
        for contender in dict.fromkeys(row.contender for row in rows):
            own = [r for r in rows if r.contender == contender and r.values.get(value)]
            points = sorted((float(r.case["streams"]), median(r.values[value])) for r in own)
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                marker="o",
                markersize=3,
                label=contender,
                color=COLOURS.get(contender, OTHER),
            )
        axes.set_xlabel("streams")
        axes.set_ylim(bottom=0)
        axes.set_title(f"{title}, {name}" if name else title, fontsize=9)
        if index == 0:
            axes.legend(fontsize=7, framealpha=0)
    return figure
