"""What a segment is, told by its first bytes and never by its name or content type.

Pure.  A segment that is none of these must not reach a demuxer: libavformat would search it for
a sync byte in silence, and the stream would end up short.
"""

from __future__ import annotations

from typing import Literal

from proxy.media.psi import PACKET_SIZE

Container = Literal["mpegts", "mp4", "packed_audio"]

# A transport stream may begin behind something else (an image that hides it, a cut packet).
# libavformat looks for the next sync no further than this.
SNIFF_BYTES = 64 * 1024

# Sync bytes in a row that make a transport stream: chance finds three in one of 2**24 places.
_SYNCS = 4

_BOXES = frozenset({b"ftyp", b"styp", b"moof", b"moov", b"sidx", b"emsg", b"prft", b"mdat"})


def _has_sync(head: bytes, *, complete: bool) -> bool:
    place = head.find(b"\x47")
    while place >= 0:
        syncs = head[place : place + _SYNCS * PACKET_SIZE : PACKET_SIZE]
        short = complete and place + PACKET_SIZE * len(syncs) >= len(head)
        if syncs == b"\x47" * len(syncs) and (len(syncs) == _SYNCS or short):
            return True
        place = head.find(b"\x47", place + 1)
    return False


def sniff(head: bytes, *, complete: bool) -> Container | None:
    """Tell the container of a segment.

    Args:
        head: its first bytes.
        complete: whether these are all of it.

    Returns:
        None where it is none of them, or (while not `complete`, and up to `SNIFF_BYTES`) where more
        bytes are needed to tell.
    """
    if head[4:8] in _BOXES:
        return "mp4"
    if head[:1] == b"\x47" or head[:3] != b"ID3":
        if _has_sync(head, complete=complete):
            return "mpegts"
        if head[:2] == b"\x0b\x77" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0"):
            return "packed_audio"
        return None
    return "packed_audio"


def is_hopeless(head: bytes) -> bool:
    """Whether no further byte can make a segment of this: text, or too much of nothing."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:16].lower()
    return len(head) >= SNIFF_BYTES or text.startswith((b"<", b"#ext", b"{", b"webvtt"))
