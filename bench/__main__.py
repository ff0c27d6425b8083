"""Ask all questions, one after the other, and write the report.

    python -m bench [--quick | --full] [--out FOLDER]

Without an option it measures what the promised figures need, in a quarter of an hour; `--quick`
sees in three minutes that everything works; `--full` goes through the whole grid, for hours.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import replace
from pathlib import Path

from bench import clip as clips
from bench import cpu, memory, paced, report, scale, throughput, ttff, upstream
from bench.contenders import CONTENDERS, PIPES, REMUXD, STREAMLINK
from bench.options import OUT, Options, finish

FULL_RUNS = 7
PACED_RUNS = 3
QUICK_RESULTS = Path(__file__).parent / "results-quick"


async def everything(options: Options, out: Path, *, quick: bool) -> None:
    """Ask all questions; those about many streams share their runs."""
    for question in (upstream, ttff, throughput):
        began_s = time.monotonic()
        finish(await question.run(options), options, out, question.SHOWN)
        print(f"{time.monotonic() - began_s:.0f} s")
    began_s = time.monotonic()
    many = replace(options, runs=1 if quick else PACED_RUNS)
    found = await paced.collect(
        options.folder,
        options.contenders,
        streams=memory.GRID if options.full else options.streams,
        runs=many.runs,
        window_s=options.window_s,
    )
    finish(memory.summarise(found), many, out, memory.SHOWN)
    used = cpu.summarise(found, clips.load(options.folder))
    await cpu.full_speed(options, used)
    finish(used, many, out, cpu.SHOWN)
    print(f"{time.monotonic() - began_s:.0f} s")
    if options.full or quick:
        few = options if options.full else replace(options, contenders=(REMUXD,))
        finish(await scale.run(few), few, out, scale.SHOWN)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true")
    how.add_argument("--full", action="store_true")
    parser.add_argument("--out", type=Path)
    taken = parser.parse_args()
    if taken.quick:
        # One command line of the pipe is enough to see that it works.
        few = tuple(c for c in CONTENDERS if c not in {PIPES[1], STREAMLINK})
        options = Options(
            folder=clips.make(24), contenders=few, runs=2, streams=(10,), window_s=1.5
        )
    else:
        # Fifty processes of streamlink take half a minute to start.
        usual = tuple(c for c in CONTENDERS if taken.full or c != STREAMLINK)
        options = Options(folder=clips.make(120), contenders=usual, runs=FULL_RUNS, full=taken.full)
    out = taken.out or (QUICK_RESULTS if taken.quick else OUT)
    began_s = time.monotonic()
    asyncio.run(everything(options, out, quick=taken.quick))
    # What was measured in a hurry is not what the repository shows.
    place = out if taken.quick or taken.out else Path(__file__).parent
    print(report.write(out, place))
    print(f"{time.monotonic() - began_s:.0f} s")


if __name__ == "__main__":
    main()
