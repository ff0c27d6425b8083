"""`python -m fuzz`: run cases until they are done, or until it is stopped."""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

from fuzz.runner import REPOSITORY, Summary, keep, run, tell

_ENDLESS = 1 << 62


def main() -> int:
    """Run, print a summary, and return 1 if a case failed."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=_ENDLESS, help="until stopped by default")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31), help="of the run")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--no-corpus", action="store_true", help="only clips that are made here")
    parser.add_argument(
        "--keep", type=Path, default=REPOSITORY / "fuzz" / "found", help="where failures go"
    )
    told = parser.parse_args()
    print(f"seed {told.seed}", flush=True)
    summary = Summary()
    began_s = time.monotonic()
    corpus = not told.no_corpus
    try:
        for count, result in enumerate(run(told.seed, told.first, told.cases, corpus=corpus), 1):
            summary.add(result)
            if result.verdict.fault:
                path = keep(told.seed, result, told.keep, corpus=corpus)
                print(f"{tell(result)}\n  kept as {path}", flush=True)
            if count % 1000 == 0:
                print(f"{count} cases, {len(summary.failures)} failed", flush=True)
    except KeyboardInterrupt:
        pass
    print(summary.text())
    print(f"{time.monotonic() - began_s:.1f} s")
    return 1 if summary.failures else 0


if __name__ == "__main__":
    sys.exit(main())
