"""A feed: one input of the remux as packets, section after section.

Runs on the worker thread; belongs to the remux, which ties its tracks to the lanes of the output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import av

from proxy.media.demux import Demuxer, SourceTrack
from proxy.media.lane import Lane
from proxy.media.section import Input, Section


class Feed:
    """One input.

    Args:
        source: the input; sections are opened one at a time.
        video: whether video is wanted of it.
        audio: whether audio is wanted of it.
        language: of the audio track.
    """

    def __init__(self, source: Input, *, video: bool, audio: bool, language: str | None) -> None:
        self._source = source
        self._wants: dict[str, Any] = {"video": video, "audio": audio, "language": language}
        self._demuxer: Demuxer | None = None
        self._packets: Iterator[av.Packet[Any]] = iter(())
        self.next: Section | None = None  # the section that is to be opened next
        self.lanes: dict[int, Lane] = {}  # by stream index
        self.exhausted = False  # on this clock
        self._first_group: int | None = None

    def advance(self) -> None:
        """Find out what comes next."""
        self.next = self._source.next_section()

    def open(self) -> Sequence[SourceTrack]:
        """Open the next section and return its tracks."""
        assert self.next is not None
        self.close()
        self._demuxer = Demuxer(self._source, self.next.format, **self._wants)
        self._packets = self._demuxer.packets()
        self.exhausted = False
        return self._demuxer.tracks

    def packet(self) -> av.Packet[Any] | None:
        """Return the next packet of the section; None at its end."""
        return next(self._packets, None)

    def position_s(self) -> float:
        """How far it has been read, in seconds of the source's clock."""
        positions = [lane.position_s for lane in self.lanes.values()]
        return min((p for p in positions if p is not None), default=float("-inf"))

    def skip(self) -> None:
        """Leave out what comes up to the next discontinuity."""
        while True:
            self.advance()
            if self.next is None or self.next.discontinuity:
                self.exhausted = True
                return

    def group(self) -> int:
        """Return the discontinuity that the next section belongs to, counted from the start."""
        assert self.next is not None
        if self._first_group is None:
            self._first_group = self.next.group
        return self.next.group - self._first_group

    def close(self) -> None:
        if self._demuxer is not None:
            self._demuxer.close()
            self._demuxer = None
            self._packets = iter(())
