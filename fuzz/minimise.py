"""`python -m fuzz.minimise FILE...`: leave out of kept cases what their failure does not need."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fuzz.case import Case, load
from fuzz.runner import replay

_SMALLEST_BYTES = 188
_MOST_TRIES = 80


def minimise(file: Path) -> None:
    """Write the file anew, as small as `_MOST_TRIES` tries can make it."""
    wanted = replay(file).fault
    if not wanted:
        raise SystemExit(f"{file} does not fail")
    trial = file.with_suffix(".trial")
    case = load(file.read_text(encoding="utf-8"))
    tries = 0
    shrunk = True
    while shrunk and tries < _MOST_TRIES:
        shrunk = False
        for smaller in _smaller(case):
            tries += 1
            trial.write_text(smaller.dump(), encoding="utf-8")
            if replay(trial).fault == wanted:
                case, shrunk = smaller, True
                file.write_text(case.dump(), encoding="utf-8")
                break
            if tries >= _MOST_TRIES:
                break
    trial.unlink(missing_ok=True)
    print(f"{file}: {case.size} bytes after {tries} tries")


def _smaller(case: Case) -> Iterator[Case]:
    """Yield the case with less, what takes away most first."""
    longest = max(len(piece.data) for pieces in case.inputs for piece in pieces)
    step = longest // 2
    while step >= _SMALLEST_BYTES:
        for number, pieces in enumerate(case.inputs):
            for at, piece in enumerate(pieces):
                for begin in range(max(len(piece.data) - step, 0), -1, -step):
                    if begin + step > len(piece.data):
                        continue
                    data = piece.data[:begin] + piece.data[begin + step :]
                    changed = (*pieces[:at], replace(piece, data=data), *pieces[at + 1 :])
                    inputs = (*case.inputs[:number], changed, *case.inputs[number + 1 :])
                    yield replace(case, inputs=inputs)
        step //= 2


if __name__ == "__main__":
    for name in sys.argv[1:]:
        minimise(Path(name))
