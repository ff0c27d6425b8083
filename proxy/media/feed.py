"""A feed: one input of the remux as packets, section after section.

Runs on the worker thread; belongs to the remux, which ties its tracks to the lanes of the output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import av

from proxy.errors import CorruptMedia
from proxy.media.demux import Demuxer, Packets, SourceTrack
from proxy.media.lane import Lane
from proxy.media.plain import Flow, PlainDemuxer, open_section
from proxy.media.section import Input, Section


def _never() -> None:
    return None


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
        self._demuxer: Demuxer | PlainDemuxer | None = None
        self._packets: Iterator[Packets] = iter(())
        self._is_unopened = False  # whether the last section broke off before it could be opened
        self.next: Section | None = None  # the section that is to be opened next
        self.lanes: dict[int, Lane] = {}  # by stream index
        self.exhausted = False  # on this clock
        self.incomplete = 0  # packets of the chosen tracks that were cut where a section broke off
        self._first_group: int | None = None
        self.settle: Callable[[], Flow | None] = _never  # see `PlainDemuxer`

    def advance(self) -> None:
        """Find out what comes next."""
        unopened = self.next if self._is_unopened else None
        self._is_unopened = False
        self.next = self._source.next_section()
        if self.next is not None and unopened is not None:
            self.next = replace(
                self.next,
                discontinuity=self.next.discontinuity or unopened.discontinuity,
                hole_s=self.next.hole_s + unopened.hole_s,
            )

    def open(self) -> Sequence[SourceTrack]:
        """Open the next section and return its tracks.

        None of them: it broke off too early to tell.  Then it has no packets, and the section
        behind takes its place.
        """
        assert self.next is not None
        self.close()
        self.exhausted = False
        try:
            self._demuxer = open_section(self._source, self.next, **self._wants)
        except (av.FFmpegError, CorruptMedia):
            if not self._source.broken_off:
                raise
            self._is_unopened = True
            return ()
        if isinstance(self._demuxer, PlainDemuxer):
            self._demuxer.settle = self.settle
        self._packets = self._demuxer.packets()
        return self._demuxer.tracks

    def packet(self) -> Packets | None:
        """Return the next packet of the section; None at its end."""
        packet = next(self._packets, None)
        if packet is None and self._demuxer is not None:
            self.incomplete += self._demuxer.incomplete
            self._demuxer.incomplete = 0
        return packet

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
