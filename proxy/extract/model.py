"""What a page says, as values: the candidates for its video, and the page as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

__all__ = ["Candidate", "Kind", "Limits", "Page", "Standing"]

# "page": an address of a player page, or of what cannot be told before it is fetched.
Kind = Literal["hls", "page", "mp4", "dash"]


class Standing(IntEnum):
    """How sure it is that a resource is the main video of its page; the lower the surer."""

    MAIN = 0  # the page says so, or it shares its name with what the page says
    LIKELY = 1  # it is there, and nothing says that it is another one
    OTHER = 2  # in a list of several, or called related, recommended, an advertisement


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One media resource, or player page, that a page names."""

    url: str = field(repr=False)  # absolute, http or https
    kind: Kind
    standing: Standing
    extractor: str = ""  # filled in by `page`
    width: int | None = None
    height: int | None = None
    bandwidth: int | None = None  # bits per second
    grade: int = 0  # what its key tells where no number does: V_HLSV4 before V_HLSV3_MOBILE


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much work one page may be.  Each is far more than the pages of large sites need."""

    # Pages with embedded state have 0.3 to 1.5 MB.  Measured at 2 MiB: 0.1 to 0.6 s on the thread,
    # in which the event loop waits for 55 ms (real state) to 250 ms (empty arrays, to do harm).
    page_bytes: int = 2 * 1024 * 1024
    scripts: int = 500
    state_values: int = 200_000  # that the walk over the state of one page looks at: some 0.2 s
    failed_cuts: int = 300  # places in scripts that look like JSON and are none
    nested_texts: int = 3  # JSON within texts of JSON, so deep
    candidates: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What one page says.  Candidates stand in the order of `rank`, without repetitions."""

    title: str
    candidates: tuple[Candidate, ...]
    refusal: str = ""  # a login, a challenge: what it shows instead of a page; empty: nothing
    drm: bool = False  # whether it speaks of a DRM system
