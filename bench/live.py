"""Other playlists over the segments of a clip: as if it were live, and of one segment only."""

from __future__ import annotations

from bench.clip import SEGMENT_S

__all__ = ["LIVE_EDGE", "WINDOW", "live_playlist", "one_segment"]

WINDOW = 6  # segments of a live playlist
LIVE_EDGE = -3  # how far from the end of a live playlist one begins (RFC 8216, 6.3.3)


def live_playlist(whole: bytes, age_s: float) -> bytes:
    """Return what a live playlist over the same segments says at an age."""
    lines = whole.decode().splitlines()
    entries = [
        (lines[i], lines[i + 1]) for i in range(len(lines)) if lines[i].startswith("#EXTINF")
    ]
    first = min(int(age_s / SEGMENT_S), max(len(entries) - WINDOW, 0))
    window = [line for entry in entries[first : first + WINDOW] for line in entry]
    head = [
        "#EXTM3U",
        "#EXT-X-VERSION:6",
        f"#EXT-X-TARGETDURATION:{SEGMENT_S}",
        f"#EXT-X-MEDIA-SEQUENCE:{first}",
        "#EXT-X-INDEPENDENT-SEGMENTS",
    ]
    return "\n".join([*head, *window, ""]).encode()


def one_segment(whole: bytes) -> bytes:
    """Return a media playlist up to its first segment."""
    lines = whole.decode().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("#EXTINF"))
    return "\n".join([*lines[: first + 2], "#EXT-X-ENDLIST", ""]).encode()
