"""Sections: runs of segments that one demuxer can read from end to end.

A new section begins at EXT-X-DISCONTINUITY, at another EXT-X-MAP or moov, behind a hole, and where
a transport stream announces other streams: libavformat presents streams that appear in mid-stream
in a way that PyAV cannot deliver, so each of these gets a container of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Format = Literal["mpegts", "mp4", "aac", "ac3", "eac3", "mp3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What comes next in an `Input`.

    Args:
        format: the demuxer to use.
        discontinuity: whether the clock starts anew; otherwise it goes on from the section before.
        group: the number of that discontinuity in its playlist, by which two inputs are paired.
        hole_s: seconds of media that are missing before it.
        explicit: whether, as a transport stream, it says at its beginning what all its streams are.
        clock: 90 kHz time of its first packet where the format carries none (packed audio).
    """

    format: Format = "mpegts"
    discontinuity: bool = True
    group: int = 0
    hole_s: float = 0.0
    explicit: bool = False
    clock: int | None = None


class Input(Protocol):
    """A file-like object that comes in sections; `ring.RingBuffer` is one.

    `read` returns `b""` at the end of each section.
    """

    def next_section(self) -> Section | None:
        """Go to the next section, leaving out what is left of this one; None at the end.  Blocks
        until it is known."""

    def read(self, n: int, /) -> bytes:
        """Return 1 to n bytes of this section, `b""` at its end; blocks until there are some."""

    @property
    def broken_off(self) -> bool:
        """Whether the section is not whole that `read` has just come to the end of: what its last
        packets hold may be cut."""
