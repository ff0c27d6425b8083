"""What a segment is, told by its first bytes and never by its name or content type.

Pure.  A segment that is none of these must not reach a demuxer: libavformat would search it for
a sync byte in silence, and the stream would end up short.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from proxy.media.psi import PACKET_SIZE, Program, ProgramReader
from proxy.media.section import Format

# A transport stream may begin behind something else (an image that hides it, a cut packet), and an
# ID3 tag may hold a cover.  libavformat looks for the next sync no further than this.
SNIFF_BYTES = 64 * 1024
EARLY_BYTES = 4 * 1024  # tables that come later than this may escape a demuxer in a hurry

# Sync bytes in a row that make a transport stream: chance finds four in one of 2**32 places.
_SYNCS = 4

# PAT and PMT stand in the first packets of a segment (RFC 8216bis section 3.1.1); one that keeps
# them back further is taken for one of the streams before.
_PROGRAMS_BYTES = 16 * 1024

_BOXES = frozenset({b"ftyp", b"styp", b"moof", b"moov", b"sidx", b"emsg", b"prft", b"mdat"})
_TIMESTAMP_OWNER = b"com.apple.streaming.transportStreamTimestamp\0"  # RFC 8216bis section 3.1.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognition:
    """What a segment turned out to be."""

    format: Format
    start: int = 0  # bytes in front that are none of it
    clock: int | None = None  # 90 kHz, as the ID3 tag of packed audio tells it
    programs: tuple[Program, ...] = ()  # that a transport stream announces
    tables: bytes = field(repr=False, default=b"")  # PAT and PMTs that do so, as packets
    explicit: bool = False  # whether these stand at its beginning, and tell all codecs
    movie: bytes = field(repr=False, default=b"")  # the moov of an MP4 that has one of its own


def recognise(head: bytes, *, complete: bool) -> Recognition | None:
    """Tell what a segment is.

    Args:
        head: its first bytes.
        complete: whether these are all of it.

    Returns:
        None where it is nothing known, or (while not `complete`, and up to `SNIFF_BYTES`) where
        more bytes are needed to tell.
    """
    if head[4:8] in _BOXES:
        return _mp4(head, complete=complete)
    if head[:3] == b"ID3":
        end, clock = _id3(head)
        if end + 8 > len(head):
            return None
        return _packed_audio(head, end, clock)
    start = find_sync(head, complete=complete)
    if start is None:
        return _packed_audio(head, 0, None)
    reader = ProgramReader(strict=True)
    reader.feed(head[start : start + EARLY_BYTES])
    early = reader.complete
    if not early:  # a chunk is not copied for nothing
        reader.feed(head[start + EARLY_BYTES :])
    if not reader.complete and not complete and len(head) - start < _PROGRAMS_BYTES:
        return None
    return Recognition(
        format="mpegts",
        start=start,
        programs=reader.programs,
        tables=reader.tables.packets(),
        explicit=early and all(program.is_explicit for program in reader.programs),
    )


def _mp4(head: bytes, *, complete: bool) -> Recognition | None:
    """Look for a moov of its own in front of the media: a segment without EXT-X-MAP has one."""
    enough = complete or len(head) >= SNIFF_BYTES
    place = 0
    while len(head) >= place + 8:
        size, kind = struct.unpack_from(">I4s", head, place)
        if kind in {b"moof", b"mdat"} or size < 8:
            return Recognition(format="mp4")
        if kind == b"moov" and (enough or len(head) >= place + size):
            return Recognition(format="mp4", movie=head[place : place + size])
        if kind == b"moov":
            return None
        place += size
    return Recognition(format="mp4") if enough else None


def find_sync(head: bytes, *, complete: bool = False) -> int | None:
    """Return where the first transport packet begins; None: nowhere, as far as can be seen."""
    place = head.find(b"\x47")
    while place >= 0:
        syncs = head[place : place + _SYNCS * PACKET_SIZE : PACKET_SIZE]
        # A short segment has fewer, but a whole packet at least: a lone byte 47 is any letter G.
        short = complete and len(head) - place >= PACKET_SIZE
        if syncs == b"\x47" * len(syncs) and (len(syncs) == _SYNCS or short):
            return place
        place = head.find(b"\x47", place + 1)
    return None


def _packed_audio(head: bytes, start: int, clock: int | None) -> Recognition | None:
    first = head[start : start + 6]
    kind: Format | None = None
    if first[:2] == b"\x0b\x77" and len(first) == 6:
        kind = "eac3" if first[5] >> 3 > 10 else "ac3"  # bsid
    elif first[:1] == b"\xff" and len(first) >= 3:
        if first[1] & 0xF6 == 0xF0 and (first[2] >> 2) & 15 < 13:  # ADTS
            kind = "aac"
        elif _is_mpeg_audio(first):
            kind = "mp3"
    return Recognition(format=kind, start=start, clock=clock) if kind else None


def _is_mpeg_audio(first: bytes) -> bool:
    """Whether a frame of layer II or III begins here; a byte order mark looks like layer I."""
    version, layer = (first[1] >> 3) & 3, (first[1] >> 1) & 3
    return (
        first[1] & 0xE0 == 0xE0
        and version != 1
        and layer in {1, 2}
        and first[2] >> 4 != 15
        and (first[2] >> 2) & 3 != 3
    )


def _id3(head: bytes) -> tuple[int, int | None]:
    """Return the end of the ID3 tags in front, and the timestamp in them (RFC 8216bis 3.1.4)."""
    place, clock = 0, None
    while head[place : place + 3] == b"ID3" and len(head) >= place + 10:
        end = place + 10 + _synchsafe(head[place + 6 : place + 10])
        end += 10 if head[place + 5] & 0x10 else 0  # a footer (ID3v2.4 section 3.1)
        found = head.find(_TIMESTAMP_OWNER, place, end)
        value = head[found + len(_TIMESTAMP_OWNER) : end][:8]
        if found >= 0 and len(value) == 8:
            clock = int.from_bytes(value, "big") & ((1 << 33) - 1)
        place = end
    return place, clock


def _synchsafe(size: bytes) -> int:
    number = 0
    for byte in size:
        number = number << 7 | byte & 0x7F
    return number


def is_hopeless(head: bytes) -> bool:
    """Whether no further byte can make a segment of this: text, or too much of nothing."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:16].lower()
    return len(head) >= SNIFF_BYTES or text.startswith((b"<", b"#ext", b"{", b"webvtt"))


def is_text(head: bytes) -> bool:
    """Whether it is a WebVTT segment."""
    return head.removeprefix(b"\xef\xbb\xbf").startswith(b"WEBVTT")


_TABLE = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")  # what lies in what


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        if size < 8:
            return
        yield kind, data[place + 8 : place + size]
        place += size


def sample_entries(init: bytes) -> list[bytes]:
    """Return the types of all sample entries of an init section (ISO/IEC 14496-12 section 8.5.2):
    `encv` and `enca` are encrypted."""
    bodies = [init]
    for wanted in _TABLE:
        bodies = [body for parent in bodies for kind, body in _boxes(parent) if kind == wanted]
    return [entry for body in bodies for entry, _ in _boxes(body[8:])]
