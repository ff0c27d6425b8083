"""Runs cases in child processes and sums up; what fails is written to a folder."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz.child import case_of
from fuzz.judge import Verdict

REPOSITORY = Path(__file__).resolve().parent.parent

# Without a word from a child for so long (clips of the first case are encoded meanwhile), it waits
# for something: what computes is ended by its own timer long before.
_SILENCE_S = 120

_NAMES = {signal.SIGPROF: "hang", signal.SIGXCPU: "hang"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A case and what became of it."""

    number: int
    recipe: str
    verdict: Verdict


@dataclass(slots=True)
class Summary:
    """What a run gave."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[Result] = field(default_factory=list)
    slowest: list[Result] = field(default_factory=list)
    largest: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Take a result in."""
        verdict = result.verdict
        self.outcomes[verdict.fault or verdict.outcome] += 1
        if verdict.fault:
            self.failures.append(result)
        by_time = sorted([*self.slowest, result], key=lambda one: -one.verdict.cpu_s)
        by_size = sorted([*self.largest, result], key=lambda one: -one.verdict.memory_bytes)
        self.slowest, self.largest = by_time[:3], by_size[:3]

    def text(self) -> str:
        """Return it for people."""
        lines = [f"{sum(self.outcomes.values())} cases"]
        lines += [f"  {count:6} {outcome}" for outcome, count in self.outcomes.most_common()]
        for name, results in (("slowest", self.slowest), ("largest", self.largest)):
            for one in results:
                verdict = one.verdict
                lines.append(
                    f"{name}: {verdict.cpu_s * 1000:.0f} ms, {verdict.memory_bytes / 2**20:.1f} MiB"
                    f", case {one.number}: {one.recipe}"
                )
        lines += [f"FAILED {tell(one)}" for one in self.failures]
        return "\n".join(lines)


def tell(result: Result) -> str:
    """Return a line about a failure."""
    verdict = result.verdict
    where = f"case {result.number} ({result.recipe})"
    return f"{where}: {verdict.fault}, {verdict.outcome}: {verdict.text}"


def run(seed: int, first: int, count: int, *, corpus: bool) -> Iterator[Result]:
    """Run cases `first` to `first + count - 1`, and yield their results in order."""
    done = first
    while done < first + count:
        for result in _child([str(seed), str(done), str(first + count - done), str(int(corpus))]):
            yield result
            done = result.number + 1


def replay(file: Path) -> Verdict:
    """Run a case that was kept."""
    (result,) = _child(["--file", str(file)])
    return result.verdict


def failing(how: str) -> Verdict:
    """Run a child that fails in a way of its own: `crash`, `hang`, `noise`."""
    (result,) = _child(["--fail", how])
    return result.verdict


def _child(arguments: list[str]) -> Iterator[Result]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore"}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.child", *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=REPOSITORY,
            env=environment,
        )
        running: dict[str, Any] | None = None
        noise = 0
        with process:
            try:
                for line in _lines(process):
                    if running is None:
                        running = line
                        continue
                    size = os.fstat(errors.fileno()).st_size
                    verdict = Verdict(**line)
                    if size > noise and not verdict.fault:  # libav writes there past our log
                        text = os.pread(errors.fileno(), 400, noise).decode(errors="replace")
                        verdict = Verdict(**{**line, "fault": "noise", "text": text})
                    noise = size
                    yield _result(running, verdict)
                    running = None
            finally:
                process.kill()
        status = process.wait()
        errors.seek(noise)
        text = errors.read().decode(errors="replace")[-2000:]
    if running is not None:
        fault: Any = _NAMES.get(signal.Signals(-status), "crash") if status < 0 else "crash"
        if status == -signal.SIGKILL:
            fault = "hang"
        yield _result(running, Verdict(outcome=f"exit {status}", fault=fault, text=text))
    elif status not in {0, -signal.SIGKILL}:
        raise RuntimeError(f"the child ended between cases with {status}: {text}")


def _lines(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """Yield what a child says, until it ends or is silent for too long."""
    assert process.stdout is not None
    left = b""
    while True:
        ready, _, _ = select.select([process.stdout], [], [], _SILENCE_S)
        piece = os.read(process.stdout.fileno(), 65536) if ready else b""
        if not piece:
            return
        *whole, left = (left + piece).split(b"\n")
        for line in whole:
            yield json.loads(line)


def _result(running: dict[str, Any], verdict: Verdict) -> Result:
    return Result(number=running["case"], recipe=running["recipe"], verdict=verdict)


def keep(seed: int, result: Result, folder: Path, *, corpus: bool) -> Path:
    """Write a case into a file that `replay` takes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.verdict.fault}-{seed}-{result.number}.json"
    path.write_text(case_of(seed, result.number, corpus=corpus).dump(), encoding="utf-8")
    return path
