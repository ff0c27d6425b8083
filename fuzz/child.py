"""The process in which cases run: told which by its arguments, it says what became of each.

    python -m fuzz.child SEED FIRST COUNT CORPUS     cases FIRST to FIRST + COUNT - 1 of a seed
    python -m fuzz.child --file FILE                 one that was kept
    python -m fuzz.child --fail KIND                 none: it fails itself, to show that it is seen

One line of JSON per case on stdout, after one with its number alone: when the process dies in
between, whoever watches knows by which.  A case that computes for more than `HANG_S` is ended by
SIGPROF, also inside libav; a processor that others use too is no reason.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import random
import resource
import signal
import sys
from pathlib import Path

from fuzz import seeds
from fuzz.case import Case, load
from fuzz.judge import Verdict, judge
from fuzz.mutate import damaged
from proxy.media import libav

HANG_S = 5.0  # of CPU time per case

# Above what the process has when it starts: the budget of a stream, and what libav allocates and
# never touches.
_ADDRESS_SPACE_BYTES = 1 << 30
BUDGET_BYTES = 64 << 20


def case_of(seed: int, number: int, *, corpus: bool) -> Case:
    """Return the case that these numbers name, on this machine."""
    rng = random.Random(f"{seed}/{number}")
    name = rng.choice(seeds.names(corpus=corpus))
    case = seeds.make(name)
    return damaged(Case(case.inputs, name), rng)


def run(case: Case) -> Verdict:
    """Judge a case under the watch of a timer that ends the process."""
    signal.setitimer(signal.ITIMER_PROF, HANG_S)
    try:
        return judge(case, budget_bytes=BUDGET_BYTES)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def fence() -> None:
    """Bound what this process may take, and let it say where it was when it is ended."""
    with contextlib.suppress(ValueError, OSError):
        size = next(
            int(line.split()[1]) * 1024
            for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
            if line.startswith("VmSize:")
        )
        limit = size + _ADDRESS_SPACE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    logger = logging.getLogger("proxy")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    libav.listen()  # as a server does: its words go through Python while it runs
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable()
    faulthandler.register(signal.SIGPROF, chain=True)


def _failing(how: str) -> Verdict:
    hoard = []
    match how:
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "noise":
            sys.stderr.write("libav speaks past the log")
            sys.stderr.flush()
        case "memory":
            while True:
                hoard.append(bytearray(64 << 20))
        case _:
            signal.setitimer(signal.ITIMER_PROF, 0.2)
            while True:
                pass
    return Verdict(outcome="finished", fault="")


def _say(document: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> None:
    """Run what the arguments tell."""
    if arguments[0] == "--fail":
        fence()
        _say({"case": 0, "recipe": arguments[1]})
        _say(_failing(arguments[1]).document())
        return
    if arguments[0] == "--file":
        case = load(Path(arguments[1]).read_text(encoding="utf-8"))
        fence()
        _say({"case": 0, "recipe": case.recipe})
        _say(run(case).document())
        return
    seed, first, count, corpus = (int(one) for one in arguments)
    fence()
    for number in range(first, first + count):
        # Made under no watch: encoding a clip for the first time takes long, and is not judged.
        case = case_of(seed, number, corpus=bool(corpus))
        _say({"case": number, "recipe": case.recipe, "size": case.size})
        _say(run(case).document())


if __name__ == "__main__":
    main(sys.argv[1:])
