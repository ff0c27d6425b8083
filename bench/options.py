"""The command line that all questions share, and how each of them is run by itself."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import clip as clips
from bench.contenders import CONTENDERS, Contender, by_name
from bench.processes import run
from bench.results import Result, commit, surroundings

__all__ = ["OUT", "Options", "alone", "finish"]

OUT = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is measured, and how often."""

    folder: Path  # of the clip
    contenders: tuple[Contender, ...] = CONTENDERS
    runs: int = 7
    full: bool = False  # the whole grid, instead of what the figures need
    streams: tuple[int, ...] = (50,)  # at a time, where many are asked about
    seconds: float = 14.0  # that many streams are watched
    window_s: float = 4.0  # at their end, once all are under way

    def as_dict(self) -> dict[str, object]:
        return {
            "runs": self.runs,
            "full": self.full,
            "streams": list(self.streams),
            "seconds": self.seconds,
            "window_s": self.window_s,
        }


def alone(
    question: Callable[[Options], Awaitable[Result]], about: str | None, values: Sequence[str]
) -> None:
    """Run one question from the command line, show it and keep it."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--full", action="store_true", help="the whole grid")
    parser.add_argument("--contender", action="append", default=[], help="by name; default: all")
    parser.add_argument("--streams", type=int, nargs="+", default=[50])
    parser.add_argument("--seconds", type=float, default=14.0)
    parser.add_argument("--window-s", type=float, default=4.0)
    parser.add_argument("--clip-s", type=int, default=120)
    parser.add_argument("--out", type=Path, default=OUT)
    taken = parser.parse_args()
    options = Options(
        folder=clips.make(taken.clip_s),
        contenders=by_name(taken.contender),
        runs=taken.runs,
        full=taken.full,
        streams=tuple(taken.streams),
        seconds=taken.seconds,
        window_s=taken.window_s,
    )

    commit()  # as it is now

    async def ask() -> Result:
        return await question(options)

    finish(run(ask()), options, taken.out, values)


def finish(result: Result, options: Options, out: Path, values: Sequence[str]) -> None:
    """Show a result, and write it with what it depends on."""
    result.about = surroundings(clips.load(options.folder), options.as_dict())
    result.show(values)
    print(result.write(out))
