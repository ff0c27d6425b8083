"""Ask all questions, one after the other, and write the report.

    python -m bench [--quick | --full] [--out FOLDER]

Without an option it measures what the promised figures need, in a quarter of an hour; `--quick`
sees in three minutes that everything works; `--full` goes through the whole grid, in an hour and a
quarter, with everybody who can be installed, and needs nobody beside it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench import clip as clips
from bench import cpu, mediaflow, memory, paced, report, scale, steps, throughput, ttff, upstream
from bench.contenders import CONTENDERS, PIPES, RAW, REMUXD, Contender, everybody
from bench.options import OUT, Options, finish
from bench.processes import run
from bench.results import commit

RUNS = 7
PACED_RUNS = 3
LONG_S = 60.0  # half of the clip: what many streams cost that are watched for longer
LONG = (REMUXD, *PIPES, RAW)
QUICK_RESULTS = Path(__file__).parent / "results-quick"
REPOSITORY = Path(__file__).parent.parent


async def everything(options: Options, out: Path, *, quick: bool) -> None:
    """Ask all questions; those about many streams share their runs."""
    for question in (upstream, ttff, throughput, steps):
        began_s = time.monotonic()
        finish(await question.run(options), options, out, question.SHOWN)
        print(f"{time.monotonic() - began_s:.0f} s")
    began_s = time.monotonic()
    many = replace(options, runs=1 if quick else PACED_RUNS)
    found = await _many(many)
    held, used = (one.summarise(found.runs, found.failures) for one in (memory, cpu))
    finish(held, many, out, memory.SHOWN)
    await cpu.full_speed(options, used)
    finish(used, many, out, cpu.SHOWN)
    print(f"{time.monotonic() - began_s:.0f} s")
    if options.full or quick:
        few = options if options.full else replace(options, contenders=(REMUXD,))
        finish(await scale.run(few), few, out, scale.SHOWN)


async def _many(options: Options) -> paced.Collected:
    """Run many streams: as often as asked where figures are promised for them, else once."""

    async def collect(
        streams: Sequence[int], able: Sequence[Contender], *, runs: int, seconds: float
    ) -> paced.Collected:
        return await paced.collect(
            options.folder,
            able,
            streams=streams,
            runs=runs,
            seconds=seconds,
            window_s=options.window_s,
        )

    usual, able = options.streams, options.contenders
    parts = [await collect(usual, able, runs=options.runs, seconds=options.seconds)]
    if options.full:
        others = [count for count in memory.GRID if count not in usual]
        parts.append(await collect(others, able, runs=1, seconds=options.seconds))
        parts.append(await collect(usual, LONG, runs=1, seconds=LONG_S))
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
    run(everything(options, out, quick=taken.quick))
    # What was measured in a hurry is not what the repository shows.
    shown = not taken.quick and not taken.out
    print(report.write(out, OUT.parent if shown else out, REPOSITORY if shown else None))
    print(f"{time.monotonic() - began_s:.0f} s")


if __name__ == "__main__":
    main()
