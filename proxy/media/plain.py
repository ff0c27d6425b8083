"""The demuxer of plain transport streams: ours, as long as all of it is as nearly everybody muxes.

A section is plain that says at its beginning what its streams are: one of H.264 or HEVC and one of
AAC, or one of these, all of them wanted.  `transport.Splitter` takes it apart, without libavformat.
Where it finds anything out of the ordinary (a picture that is spread over two PES packets, bytes
between two audio frames, a lost sync), libavformat goes on from there in the middle of the section,
and nobody behind notices: packets, order and times are the same.

`open_section` gives the demuxer of a section, this one or the general one.
Runs on the worker thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from proxy.errors import CorruptMedia
from proxy.media.demux import Demuxer, Packet, Packets, SourceTrack
from proxy.media.fence import Metered
from proxy.media.psi import PACKET_SIZE, ElementaryStream, ProgramReader
from proxy.media.section import Input, Section

if TYPE_CHECKING:
    from proxy.media import transport
    from proxy.media.flow import Flow as Flow  # noqa: PLC0414 - it is ours
else:
    try:
        from proxy.media import transport
        from proxy.media.flow import Flow
    except ImportError:  # nobody has compiled it: libavformat takes all sections apart
        transport = Flow = None

__all__ = ["PlainDemuxer", "compiled", "open_section"]

logger = logging.getLogger(__name__)

_CODECS = {0x1B: "h264", 0x24: "hevc", 0x0F: "aac"}  # by stream type (ISO/IEC 13818-1 table 2-34)
_CLOCK_HZ = 90000

# More than is read from a socket at a time, so that no chunk is cut and copied.
_READ_BYTES = 1 << 20

# A flow that took fewer samples than this was not worth its beginning, which copies what waits for
# its fragment: the next one is asked for after twice as many chunks, up to so many.
_WORTH_SAMPLES = 50
_LONGEST_REST = 64


def _never() -> None:
    return None


def compiled() -> bool:
    """Whether there is a demuxer of plain transport streams here."""
    return transport is not None


def open_section(
    source: Input, section: Section, *, video: bool, audio: bool, language: str | None
) -> Demuxer | PlainDemuxer:
    """Open the section that `source` is at.

    Args:
        source: read to the end of the section.
        section: what is known of it.
        video: whether video is wanted.
        audio: whether audio is wanted.
        language: of the audio track.

    Raises:
        av.FFmpegError, UnsupportedCodec, CorruptMedia: as `Demuxer` does.
    """
    wants: dict[str, Any] = {"video": video, "audio": audio, "language": language}
    if not (compiled() and section.explicit and section.format == "mpegts"):
        return Demuxer(source, section.format, explicit=section.explicit, **wants)
    reader, head = ProgramReader(strict=True), b""
    while not reader.complete and (data := source.read(_READ_BYTES)):
        head += data
        reader.feed(data)
    source = _Ahead(head, source)
    streams = [stream for program in reader.programs for stream in program.streams]
    kinds = sorted(_CODECS.get(stream.stream_type, "") for stream in streams)
    plain = len(reader.programs) == 1 and kinds in _plain_kinds(video=video, audio=audio)
    if not plain:
        return Demuxer(source, explicit=True, **wants)
    return PlainDemuxer(source, streams, reader.tables.packets(), wants)


def _plain_kinds(*, video: bool, audio: bool) -> Sequence[Sequence[str]]:
    """Return the codecs that a plain section may have, where these are wanted."""
    alone = [["h264"], ["hevc"]] if video else []
    together = [["aac", "h264"], ["aac", "hevc"]] if video and audio else []
    return [*alone, *together, *([["aac"]] if audio else [])]


class PlainDemuxer:
    """An open section that is plain, as far as is known; a sibling of `demux.Demuxer`."""

    def __init__(
        self,
        source: Input,
        streams: Sequence[ElementaryStream],
        tables: bytes,
        wants: dict[str, Any],
    ) -> None:
        self.incomplete = 0  # packets that were left out at the end
        self.settle: Callable[[], Flow | None] = _never  # asked for a flow that takes packets
        tracks = [
            SourceTrack(
                index=index,
                kind="audio" if stream.stream_type == 0x0F else "video",
                codec=_CODECS[stream.stream_type],
                timescale=_CLOCK_HZ,
                language=stream.language,
                wraps=True,
                prefixed=True,
            )
            for index, stream in enumerate(streams)
        ]
        places = {
            track.kind: (stream.pid, track.index)
            for track, stream in zip(tracks, streams, strict=True)
        }
        self.tracks = sorted(tracks, key=lambda track: track.kind, reverse=True)  # video first
        self._source = source
        self._meter = Metered(source)
        self._tables = tables
        self._wants = wants
        self._rest = self._rested = 0  # chunks until a flow is asked for again, and since the last
        self._splitter = transport.Splitter(
            video=places.get("video"),
            audio=places.get("audio"),
            hevc=any(track.codec == "hevc" for track in self.tracks),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """There is nothing that would stay."""

    def packets(self) -> Iterator[Packets]:
        """Yield the packets of both streams as they come, audio frames mostly several in one.

        Raises:
            SpliceIncompatible, CorruptMedia: as `Demuxer.packets` does.
        """
        meter, splitter = self._meter, self._splitter
        while chunk := meter.read(_READ_BYTES):
            packets = splitter.feed(chunk)
            del chunk  # what follows may wait for a slow client
            if packets or (splitter.flow is not None and splitter.flow.took):
                meter.advance()
            self._flow(ends=bool(packets) or splitter.odd is not None)
            yield from packets
            if splitter.odd is not None:
                break
            if splitter.flow is None:
                self._rested += 1
                if self._rested > self._rest:
                    splitter.flow = self.settle()
        else:
            self._flow(ends=True)
            packets, self.incomplete = splitter.finish(broken_off=self._source.broken_off)
            yield from packets
        if splitter.odd is not None:
            yield from self._by_libavformat(splitter.odd)

    def _flow(self, *, ends: bool) -> None:
        """Let the flow, if there is one, deliver what it has made, and leave where it ends."""
        flow = self._splitter.flow
        if flow is None:
            return
        if ends or not flow.active:
            self._splitter.flow = None
            self._rested = 0
            self._rest = min(2 * self._rest + 1, _LONGEST_REST)
            if flow.taken >= _WORTH_SAMPLES:
                self._rest = 0
            flow.leave()
        else:
            flow.deliver()

    def _by_libavformat(self, why: str) -> Iterator[Packet]:
        """Go on where the splitter has stopped."""
        logger.debug("no plain transport stream: %s", why)
        units, rest = self._splitter.left()
        head = b"".join([self._tables, *(_transport(pid, unit) for pid, unit in units), rest])
        with Demuxer(_Ahead(head, self._source), explicit=True, **self._wants) as demuxer:
            if [(t.index, t.codec) for t in demuxer.tracks] != [
                (t.index, t.codec) for t in self.tracks
            ]:
                raise CorruptMedia("libavformat finds other streams than the tables announce")
            videos = {track.index for track in demuxer.tracks if track.kind == "video"}
            for packet in demuxer.packets():
                yield _prefixed(packet) if packet.stream_index in videos else packet
            self.incomplete += demuxer.incomplete


def _prefixed(packet: Packet) -> Packet:
    """Make of a picture what the splitter makes of one."""
    return transport.Packet(
        packet.stream_index,
        packet.pts,
        packet.dts,
        packet.is_keyframe,
        transport.length_prefixed(memoryview(packet)),
    )


def _transport(pid: int, pes: bytes) -> bytes:
    """Cut a PES packet into transport packets (ISO/IEC 13818-1 section 2.4.3.2)."""
    packets: list[bytes] = []
    for place in range(0, len(pes), PACKET_SIZE - 4):
        part = pes[place : place + PACKET_SIZE - 4]
        missing = PACKET_SIZE - 4 - len(part)
        # An adaptation field of so many bytes, which says nothing.
        stuffing = (bytes([max(missing - 1, 0), 0]) + b"\xff" * missing)[:missing]
        head = (
            0x47,
            pid >> 8 | (0 if place else 0x40),
            pid & 255,
            (0x30 if missing else 0x10) | len(packets) & 15,
        )
        packets.append(bytes(head) + stuffing + part)
    return b"".join(packets)


class _Ahead:
    """An input of which some has been read already."""

    def __init__(self, head: bytes, source: Input) -> None:
        self._head = head
        self._place = 0  # up to which that has been read
        self._source = source

    def next_section(self) -> Section | None:
        self._head = b""
        return self._source.next_section()

    def read(self, n: int, /) -> bytes:
        if not self._head:
            return self._source.read(n)
        data = self._head[self._place : self._place + n]
        self._place += len(data)
        if self._place == len(self._head):
            self._head = b""
        return data

    @property
    def broken_off(self) -> bool:
        return not self._head and self._source.broken_off
