"""What is asked of a remux, and what it says of what became of it.  Values; no media library."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.errors import CorruptMedia

__all__ = ["Counts", "StartMissed", "Wish"]


class StartMissed(CorruptMedia):
    """The input has no random access point at or before the wished start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the client wants of the source; times are seconds from its first picture."""

    video: bool = True  # False: audio alone
    language: str | None = None  # of the audio track
    duration_s: float | None = None  # of the source up to the wished end, where it is known
    start_s: float | None = None  # begin at the random access point at or before this
    insists: bool = False  # on that: raise `StartMissed` rather than begin at the next one
    end_s: float | None = None  # leave out what is presented from here on
    skip_splices: bool = False  # leave sections out that the output cannot take


def _all_missing(_: int) -> float:
    return math.inf


@dataclass(slots=True, kw_only=True)
class Counts:
    """What became of the packets; filled in as the remux goes on."""

    packets: dict[str, int] = field(default_factory=dict)  # by kind: those that were copied
    left_out: dict[str, int] = field(default_factory=dict)  # by reason
    sections_skipped: int = 0
    # How many seconds are missing up to the wished end, as far as an input (by its position) was
    # read: of its video, or of audio alone.  To be asked while the remux waits for that input.
    missing_s: Callable[[int], float] = _all_missing
