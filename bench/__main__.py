"""Ask all questions, one after the other, and write the report.

    python -m bench [--quick | --full] [--out FOLDER] [--from QUESTION]

Without an option it measures what the promised figures need, in a quarter of an hour; `--quick`
sees in three minutes that everything works; `--full` goes through the whole grid, in less than two
hours, with everybody who can be installed, and needs nobody beside it.  `--from` goes on where it
was interrupted; what was measured before stays.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench import clip as clips
from bench import cpu, mediaflow, memory, paced, report, scale, steps, throughput, ttff, upstream
from bench.contenders import CONTENDERS, PIPES, REMUXD, everybody
from bench.options import OUT, Options, finish
from bench.processes import run
from bench.results import commit

QUESTIONS = ("upstream", "ttff", "throughput", "steps", "many", "scale")  # many: memory and CPU
RUNS = 7
PACED_RUNS = 3
FULL_PACED_RUNS = 5
QUICK_RESULTS = Path(__file__).parent / "results-quick"
REPOSITORY = Path(__file__).parent.parent


async def everything(options: Options, out: Path, *, quick: bool, since: str) -> None:
    """Ask all questions from one on; those about many streams share their runs."""
    alone = {"upstream": upstream, "ttff": ttff, "throughput": throughput, "steps": steps}
    asked = QUESTIONS[QUESTIONS.index(since) :]
    for name in asked:
        if name == "scale" and not (options.full or quick):
            continue
        began_s = time.monotonic()
        if name in alone:
            question = alone[name]
            finish(await question.run(options), options, out, question.SHOWN)
        elif name == "many":
            runs = 1 if quick else FULL_PACED_RUNS if options.full else PACED_RUNS
            await _memory_and_cpu(replace(options, runs=runs), out)
        else:
            few = options if options.full else replace(options, contenders=(REMUXD,))
            finish(await scale.run(few), few, out, scale.SHOWN)
        print(f"{time.monotonic() - began_s:.0f} s")


async def _memory_and_cpu(options: Options, out: Path) -> None:
    found = await _many(options)
    held, used = (one.summarise(found.runs, found.failures) for one in (memory, cpu))
    finish(held, options, out, memory.SHOWN)
    await cpu.full_speed(options, used)
    finish(used, options, out, cpu.SHOWN)


async def _many(options: Options) -> paced.Collected:
    """Run many streams: as often as asked where figures are promised for them, else once."""

    async def collect(streams: Sequence[int], *, runs: int) -> paced.Collected:
        return await paced.collect(
            options.folder,
            options.contenders,
            streams=streams,
            runs=runs,
            seconds=options.seconds,
            window_s=options.window_s,
        )

    parts = [await collect(options.streams, runs=options.runs)]
    if options.full:
        others = [count for count in memory.GRID if count not in options.streams]
        parts.append(await collect(others, runs=1))
    return paced.Collected(
        runs=[one for part in parts for one in part.runs],
        failures=[one for part in parts for one in part.failures],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true")
    how.add_argument("--full", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--from", dest="since", choices=QUESTIONS, default=QUESTIONS[0])
    taken = parser.parse_args()
    print(f"commit {commit()}")  # as it is now: it may have moved on when all is measured
    if taken.quick:
        # One command line of the pipe is enough to see that it works.
        few = tuple(c for c in CONTENDERS if c != PIPES[1])
        options = Options(
            folder=clips.make(24), contenders=few, runs=2, streams=(10,), seconds=5, window_s=2
        )
    elif taken.full:
        mediaflow.make()
        options = Options(folder=clips.make(120), contenders=everybody(), runs=RUNS, full=True)
    else:
        options = Options(folder=clips.make(120), runs=RUNS)
    out = taken.out or (QUICK_RESULTS if taken.quick else OUT)
    began_s = time.monotonic()
    run(everything(options, out, quick=taken.quick, since=taken.since))
    # What was measured in a hurry is not what the repository shows.
    shown = not taken.quick and not taken.out
    print(report.write(out, OUT.parent if shown else out, REPOSITORY if shown else None))
    print(f"{time.monotonic() - began_s:.0f} s")


if __name__ == "__main__":
    main()
