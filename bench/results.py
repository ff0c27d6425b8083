"""What a question hands on: rows of measured values, with everything one needs to believe them.

A row is one contender in one case, with each value of each run.  Medians and percentiles are taken
where a table is made, so that the file keeps what was measured.
"""

from __future__ import annotations

import functools
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench import mediaflow
from bench.clip import Clip

__all__ = ["Case", "Failure", "Result", "Row", "commit", "median", "p95", "surroundings"]

Case = Mapping[str, str | float | int]
PACKAGES = ("remuxd", "av", "aiohttp", "uvloop", "uvicorn", "streamlink")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    contender: str
    case: dict[str, str | float | int]
    values: dict[str, list[float]] = field(default_factory=dict)

    def fits(self, contender: str | None, case: Case) -> bool:
        same = contender in {None, self.contender}
        return same and all(self.case.get(key) == value for key, value in case.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A run that came to nothing."""

    contender: str
    case: dict[str, str | float | int]
    reason: str


@dataclass(slots=True, kw_only=True)
class Result:
    """The rows of one question, in the order in which they were first measured."""

    question: str
    rows: list[Row] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    def add(self, contender: str, case: Case, **values: float) -> None:
        """Put the values of one run to those of the runs before."""
        row = next((r for r in self.rows if r.contender == contender and r.case == case), None)
        if row is None:
            row = Row(contender=contender, case=dict(case))
            self.rows.append(row)
        for name, value in values.items():
            row.values.setdefault(name, []).append(value)

    def fail(self, contender: str, case: Case, error: BaseException) -> None:
        """Note a run that came to nothing; it is no row, and stops nobody."""
        reason = f"{type(error).__name__}: {error}"
        print(f"{contender} {dict(case)}: {reason}", file=sys.stderr)
        self.failures.append(Failure(contender=contender, case=dict(case), reason=reason))

    def find(self, contender: str | None = None, /, **case: str | float) -> list[Row]:
        """Return the rows of a contender (None: all) whose case has these values."""
        return [row for row in self.rows if row.fits(contender, case)]

    def median(self, contender: str, value: str, **case: str | float) -> float | None:
        """Return the median of a value; None where it was not measured."""
        for row in self.find(contender, **case):
            if row.values.get(value):
                return median(row.values[value])
        return None

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{self.question}.json"
        file.write_text(json.dumps(asdict(self), indent=1) + "\n")
        return file

    @classmethod
    def read(cls, file: Path) -> Result:
        data = json.loads(file.read_text())
        rows = [Row(**row) for row in data["rows"]]
        failures = [Failure(**one) for one in data["failures"]]
        return cls(question=data["question"], rows=rows, failures=failures, about=data["about"])

    def show(self, values: Sequence[str]) -> None:
        """Print the medians, a line per row."""
        print(f"\n== {self.question}")
        for row in self.rows:
            case = ", ".join(f"{key} {value}" for key, value in row.case.items())
            shown = "  ".join(
                f"{name} {median(row.values[name]):.4g}" for name in values if row.values.get(name)
            )
            n = max((len(taken) for taken in row.values.values()), default=0)
            print(f"{row.contender:24} {case:52} {shown}  (n={n})")


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def p95(values: Sequence[float]) -> float:
    """Return the value that 95 of 100 do not exceed (one that was measured: nearest rank)."""
    ordered = sorted(values)
    return ordered[math.ceil(0.95 * len(ordered)) - 1]


def surroundings(clip: Clip, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the values depend on besides the contenders."""
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": os.getloadavg()[0],
        "system": platform.platform(),
        "versions": _versions(),
        "commit": commit(),
        "clip": {
            "sha256": clip.sha256,
            "seconds": clip.seconds,
            "best_bytes": clip.best_bytes,
            "mbit_per_s": round(clip.bytes_per_s * 8 / 1e6, 3),
        },
        "options": dict(options),
    }


@functools.cache
def commit() -> str:
    """Return the commit that is measured, as it was when this was first asked for.

    With `-dirty` where the code differs from it; what a run has written itself does not count.
    """
    head = _first_line("git", "rev-parse", "HEAD")[:12]
    changed = _first_line("git", "status", "--porcelain", "--", "proxy", "bench/*.py")
    return f"{head}-dirty" if changed else head


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0], "ffmpeg": _first_line("ffmpeg", "-version")}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if there := mediaflow.version():
        found["mediaflow-proxy"] = there
    return found


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.partition("\n")[0]
