"""How much memory do so many streams take, and what is given back when they have ended?

    python -m bench.memory [--streams 1 10 50 100] [--runs 3]

The whole process tree counts.  Per stream is (tree - idle tree) / n; beside it stands tree / n,
which is what a machine has to have; the idle tree is the value at no stream.  Given back is the
part of what the streams had taken that is free again two seconds after their clients have left.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench import paced
from bench.options import Options, alone
from bench.results import Failure, Result

SHOWN = ("pss_per_stream_mb", "tree_per_stream_mb", "given_back", "idle_pss_mb")
GRID = (1, 10, 50, 100)
MB = 1e6
LEAST_BYTES = 4e6


async def run(options: Options) -> Result:
    found = await paced.collect(
        options.folder,
        options.contenders,
        streams=GRID if options.full else options.streams,
        runs=options.runs,
        seconds=options.seconds,
        window_s=options.window_s,
    )
    return summarise(found.runs, found.failures)


def summarise(found: Sequence[paced.Paced], failures: Sequence[Failure] = ()) -> Result:
    """Answer from runs that have been made."""
    result = Result(question="memory", failures=list(failures))
    for one in found:
        taken = one.pss_bytes - one.idle_pss_bytes
        result.add(
            one.contender,
            paced.case(one),
            pss_per_stream_mb=taken / one.streams / MB,
            rss_per_stream_mb=(one.rss_bytes - one.idle_rss_bytes) / one.streams / MB,
            tree_per_stream_mb=one.pss_bytes / one.streams / MB,
            tree_pss_mb=one.pss_bytes / MB,
            tree_rss_mb=one.rss_bytes / MB,
            after_pss_mb=one.after_pss_bytes / MB,
            idle_pss_mb=one.idle_pss_bytes / MB,
            fresh_pss_mb=one.fresh_pss_bytes / MB,
        )
        if taken > LEAST_BYTES:  # there is something to give back
            given_back = (one.pss_bytes - one.after_pss_bytes) / taken
            result.add(one.contender, paced.case(one), given_back=given_back)
    return result


if __name__ == "__main__":
    alone(run, __doc__, SHOWN)
