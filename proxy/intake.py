"""The intake: segments come in, sections of a ring come out.

It recognises each segment by its first bytes before any of them may pass, puts init sections in
front, and begins a new section where one demuxer cannot go on: at EXT-X-DISCONTINUITY, another
EXT-X-MAP, another moov, another container, a hole, or (by a `Divider`) other streams in the PMT,
wherever in a segment these are announced.  It is the `Sink` of a `Prefetcher`, between fetch and
media; runs on the event loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from proxy.errors import CorruptMedia, EncryptedSource, NoPlayableVariant
from proxy.events import SegmentSkipped
from proxy.hls.model import InitSection, Segment
from proxy.media.chain import BoxChain, is_init_section
from proxy.media.ring import RingBuffer
from proxy.media.section import Section
from proxy.media.sniff import Recognition, is_hopeless, is_text, recognise, sample_entries
from proxy.media.watch import Divider

ReadInit = Callable[[InitSection, int], Awaitable[bytes]]

# Segments of fragmented MP4 per section: libavformat notes every sample of a file (32 bytes each),
# so that a live stream would grow by 8 MB an hour.
_MP4_SEGMENTS = 100

_CLOCKED = frozenset({"mpegts", "mp4"})  # formats whose packets carry times
_ENCRYPTED = frozenset({b"encv", b"enca"})


class Holes:
    """Seconds of media that are missing in front of a segment, by its Media Sequence Number: told
    by who leaves segments out, and asked by the intake when the next one comes.  `note` is told
    of each that is left out, in whatever way."""

    def __init__(self, note: Callable[[SegmentSkipped], None] | None = None) -> None:
        self.count = 0  # segments left out
        self._note = note
        self._pending_s = 0.0
        self._before: dict[int, float] = {}

    def leave_out(self, duration_s: float, count: int = 1, *, sequence: int | None = None) -> None:
        """A segment is left out, before it is asked for."""
        self._pending_s += duration_s
        self._tell(sequence, count, duration_s)

    def lose(self, segment: Segment) -> None:
        """A segment was asked for, and does not come."""
        self._tell(segment.sequence, 1, segment.duration_s)

    def _tell(self, sequence: int | None, count: int, duration_s: float) -> None:
        self.count += count
        if self._note is not None:
            self._note(SegmentSkipped(sequence=sequence, count=count, duration_s=duration_s))

    def next(self, segment: Segment) -> None:
        """This segment follows."""
        if self._pending_s:
            self._before[segment.sequence] = self._pending_s
            self._pending_s = 0.0

    def before(self, segment: Segment) -> float:
        """Return how much is missing in front of it; told once."""
        return self._before.pop(segment.sequence, 0.0)


class Intake:
    """Writes segments into a ring, section by section.

    Args:
        ring: where they go.
        read_init: gets the bytes of an init section, given the sequence number of its segment.
        holes: what is left out in between.
        skipped_s: seconds of the playlist before the first segment.
    """

    def __init__(
        self, ring: RingBuffer, read_init: ReadInit, holes: Holes, *, skipped_s: float = 0.0
    ) -> None:
        self._ring = ring
        self._read_init = read_init
        self._holes = holes
        self._skipped_s = skipped_s
        self._head: bytes | None = None  # of a segment that is not recognised yet
        self._segment: Segment | None = None
        self._previous: Segment | None = None  # the last one that passed
        self._recognition: Recognition | None = None  # of that
        self._lost_s = 0.0
        self._broken_off = False  # whether what passed last was not whole
        self._segments = 0  # of this section
        self._movie = b""  # the moov that its first segment has of its own
        self._chain: BoxChain | None = None  # of this segment, if it is an MP4
        self._divider: Divider | None = None  # of this section, if it is a transport stream

    async def begin(self, segment: Segment) -> None:
        self._segment = segment
        self._head = b""

    async def write(self, chunk: bytes) -> None:
        if self._head is None:
            await self._pass(chunk)
        else:
            self._head += chunk
            await self._recognise(complete=False)

    async def end(self, segment: Segment) -> None:
        if self._head is not None:
            await self._recognise(complete=True)
        if self._head is not None:
            raise CorruptMedia(detail=f"Segment {segment.sequence} holds no media.")
        if self._chain is not None and not self._chain.is_whole:
            raise CorruptMedia(detail=f"Segment {segment.sequence} is cut: it ends inside a box.")
        await self._finish_dividing()

    async def lost(self, segment: Segment) -> None:
        """A segment could not be had, and the client wants to go on without it."""
        self._lost_s += segment.duration_s
        self._holes.lose(segment)
        if self._segment == segment and self._head is None:  # some of it has passed
            await self._finish_dividing()
            self._ring.break_off()
            self._broken_off = True

    async def _pass(self, data: bytes) -> None:
        """Let bytes of a segment through, and begin a section where they announce other streams."""
        if self._chain is not None:
            self._chain.feed(data)
        if self._divider is None:
            await self._ring.write(data)
        else:
            await self._write(self._divider.feed(data))

    async def _finish_dividing(self) -> None:
        if self._divider is not None:
            await self._write(self._divider.finish())

    async def _write(self, pieces: Iterable[bytes | None]) -> None:
        for piece in pieces:
            if piece is not None:
                await self._ring.write(piece)
            else:
                assert self._segment is not None
                group = self._segment.discontinuity_sequence
                self._ring.begin(Section(discontinuity=False, group=group))

    async def _recognise(self, *, complete: bool) -> None:
        head, segment = self._head, self._segment
        assert head is not None
        assert segment is not None
        found = recognise(head, complete=complete)
        if found is not None:
            cut = 0 if self._divider is None else self._divider.missing
            fresh = await self._enter(segment, found, head)
            self._head = None  # from now on it passes
            self._chain = BoxChain() if found.format == "mp4" else None
            # What stands in front of the first sync may be the rest of a transport packet: of a
            # stream that was cut without regard to packets.
            completes = not fresh and 0 < found.start == cut
            if self._divider is not None:
                await self._write(self._divider.segment(found, completes=completes))
            await self._pass(head if completes else head[found.start :])
        elif self._previous is None and is_text(head):
            raise NoPlayableVariant(detail="The playlist holds text only.")
        elif is_hopeless(head):
            # Not more of it: where it is the text of an error it may repeat the query.
            raise CorruptMedia(
                f"segment {segment.sequence} begins with {head[:4].hex(' ')}",
                detail=f"Segment {segment.sequence} is no media, perhaps a page or a notice.",
            )

    def _is_long(self, found: Recognition) -> bool:
        """Whether the demuxer should be renewed: that of MP4 keeps an index of all samples."""
        self._segments += 1
        return found.format == "mp4" and self._segments >= _MP4_SEGMENTS

    async def _enter(self, segment: Segment, found: Recognition, head: bytes) -> bool:
        """Begin a section, if this segment needs one; says whether it did."""
        previous, before = self._previous, self._recognition
        hole_s = self._lost_s = self._holes.before(segment) + self._lost_s
        discontinuity = (
            previous is None
            or segment.discontinuity_sequence != previous.discontinuity_sequence
            or segment.discontinuity
        )
        if (
            not discontinuity
            and previous is not None
            and before is not None
            and not hole_s
            and not self._broken_off
            and not self._is_long(found)
            and segment.init_section == previous.init_section
            and found.format == before.format
            and found.movie in {b"", self._movie}  # libavformat would not look at another one
        ):
            self._previous, self._recognition = segment, found
            return False
        init = b""
        if segment.init_section is not None:
            init = await self._read_init(segment.init_section, segment.sequence)
            if found.format == "mp4" and not is_init_section(init):
                # libavformat takes what follows for the rest of a box, and may find less, silently.
                raise CorruptMedia(detail=f"Segment {segment.sequence} has a broken init section.")
        if found.format == "mp4" and _ENCRYPTED & {*sample_entries(init), *sample_entries(head)}:
            raise EncryptedSource(detail="The media is encrypted (Common Encryption).")
        # From here on it counts: had it failed before, the next one would stand in its place.
        self._previous, self._recognition = segment, found
        self._lost_s, self._broken_off = 0.0, False
        self._segments = 0
        self._movie = found.movie
        self._divider = Divider() if found.format == "mpegts" else None
        self._ring.begin(
            Section(
                format=found.format,
                discontinuity=discontinuity,
                group=segment.discontinuity_sequence,
                hole_s=hole_s,
                explicit=found.explicit,
                clock=self._clock(found, first=previous is None),
            )
        )
        if init:
            await self._ring.write(init)
        return True

    def _clock(self, found: Recognition, *, first: bool) -> int | None:
        """Return the time of packed audio; without a timestamp, 0 is the start of the playlist."""
        if found.clock is None and first and self._skipped_s and found.format not in _CLOCKED:
            return round(self._skipped_s * 90000)
        return found.clock
