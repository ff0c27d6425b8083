"""What tests measure beside what they assert: a line of JSON for each, where somebody wants them.

REMUXD_TEST_FIGURES=figures.jsonl make test
"""

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path


def report(measured: str, **figures: object) -> None:
    """Append a line to the file that REMUXD_TEST_FIGURES names."""
    if name := os.environ.get("REMUXD_TEST_FIGURES"):
        with Path(name).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"measured": measured, **figures}) + "\n")


def in_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum, in milliseconds."""
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    values = {"p50": statistics.median(ordered), "p99": p99, "max": ordered[-1]}
    return {"count": len(ordered)} | {name: round(one * 1000, 2) for name, one in values.items()}
