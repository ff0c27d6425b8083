"""The nouns of HLS as frozen values: one type per thing that RFC 8216bis names.

The tag a field comes from stands beside it.  Addresses are absolute (`parse.py` resolved them) and
are kept out of `repr`: their queries carry tokens.  Pure: text and numbers, no IO, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "ByteRange",
    "InitSection",
    "Key",
    "MediaPlaylist",
    "MultivariantPlaylist",
    "Playlist",
    "Rendition",
    "Segment",
    "Start",
    "Variant",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteRange:
    """EXT-X-BYTERANGE, or the BYTERANGE of EXT-X-MAP, with its offset resolved."""

    length: int  # bytes, > 0
    offset: int  # bytes from the start of the resource

    @property
    def end(self) -> int:
        """The first byte behind the range."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """EXT-X-KEY or EXT-X-SESSION-KEY; METHOD=NONE is no key at all (`None`)."""

    method: str  # METHOD: AES-128, SAMPLE-AES, SAMPLE-AES-CTR, AES-256, ...
    uri: str | None = field(repr=False, default=None)  # URI
    iv: bytes | None = field(repr=False, default=None)  # IV, 16 bytes
    key_format: str = "identity"  # KEYFORMAT


@dataclass(frozen=True, slots=True, kw_only=True)
class InitSection:
    """EXT-X-MAP: the Media Initialization Section."""

    uri: str = field(repr=False)  # URI
    byte_range: ByteRange | None = None  # BYTERANGE
    key: Key | None = None  # the EXT-X-KEY in force where the tag stands


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A Media Segment: one URI line and the tags that apply to it."""

    uri: str = field(repr=False)
    duration_s: float  # EXTINF
    sequence: int  # its Media Sequence Number
    discontinuity_sequence: int  # its Discontinuity Sequence Number
    discontinuity: bool = False  # EXT-X-DISCONTINUITY stands before it
    byte_range: ByteRange | None = None  # EXT-X-BYTERANGE
    init_section: InitSection | None = None  # EXT-X-MAP
    key: Key | None = None  # EXT-X-KEY
    gap: bool = False  # EXT-X-GAP
    title: str = ""  # EXTINF, behind the comma


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """EXT-X-START."""

    time_offset_s: float  # TIME-OFFSET; negative counts from the end
    precise: bool = False  # PRECISE


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaPlaylist:
    """A Media Playlist as it stood when it was fetched."""

    uri: str = field(repr=False)  # where it came from, redirects followed
    segments: tuple[Segment, ...] = field(repr=False)
    target_duration_s: float  # EXT-X-TARGETDURATION; the longest EXTINF where the tag is missing
    media_sequence: int = 0  # EXT-X-MEDIA-SEQUENCE
    discontinuity_sequence: int = 0  # EXT-X-DISCONTINUITY-SEQUENCE
    playlist_type: Literal["VOD", "EVENT"] | None = None  # EXT-X-PLAYLIST-TYPE
    ended: bool = False  # EXT-X-ENDLIST
    i_frames_only: bool = False  # EXT-X-I-FRAMES-ONLY
    independent_segments: bool = False  # EXT-X-INDEPENDENT-SEGMENTS
    version: int = 1  # EXT-X-VERSION
    start: Start | None = None  # EXT-X-START
    skipped_segments: int = 0  # EXT-X-SKIP: segments left out of a delta update

    @property
    def live(self) -> bool:
        """Whether it may still grow or move."""
        return not self.ended and self.playlist_type != "VOD"

    @property
    def duration_s(self) -> float:
        """The sum of its EXTINF."""
        return sum(segment.duration_s for segment in self.segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendition:
    """EXT-X-MEDIA: one alternative rendition."""

    type: str  # TYPE: AUDIO, VIDEO, SUBTITLES, CLOSED-CAPTIONS
    group_id: str  # GROUP-ID
    name: str  # NAME
    uri: str | None = field(repr=False, default=None)  # URI; None: inside the variant itself
    language: str | None = None  # LANGUAGE
    assoc_language: str | None = None  # ASSOC-LANGUAGE
    default: bool = False  # DEFAULT
    autoselect: bool = False  # AUTOSELECT
    forced: bool = False  # FORCED
    characteristics: tuple[str, ...] = ()  # CHARACTERISTICS
    channels: str | None = None  # CHANNELS


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """EXT-X-STREAM-INF and the URI line behind it, or EXT-X-I-FRAME-STREAM-INF / image streams."""

    uri: str = field(repr=False)
    bandwidth: int  # BANDWIDTH, bit/s; 0 where the attribute is missing
    average_bandwidth: int | None = None  # AVERAGE-BANDWIDTH, bit/s
    codecs: tuple[str, ...] = ()  # CODECS, RFC 6381; empty where it is missing
    width: int | None = None  # RESOLUTION
    height: int | None = None  # RESOLUTION
    frame_rate: float | None = None  # FRAME-RATE
    video_range: str | None = None  # VIDEO-RANGE
    audio_group: str | None = None  # AUDIO
    video_group: str | None = None  # VIDEO
    subtitles_group: str | None = None  # SUBTITLES
    name: str | None = None  # NAME (not in the RFC, but in the wild)


@dataclass(frozen=True, slots=True, kw_only=True)
class MultivariantPlaylist:
    """A Multivariant Playlist (formerly: master playlist)."""

    uri: str = field(repr=False)
    variants: tuple[Variant, ...]  # EXT-X-STREAM-INF, in the playlist's order
    i_frame_variants: tuple[Variant, ...] = ()  # EXT-X-I-FRAME-STREAM-INF and image streams
    renditions: tuple[Rendition, ...] = ()  # EXT-X-MEDIA
    session_keys: tuple[Key, ...] = ()  # EXT-X-SESSION-KEY
    independent_segments: bool = False  # EXT-X-INDEPENDENT-SEGMENTS
    version: int = 1  # EXT-X-VERSION
    start: Start | None = None  # EXT-X-START
    defines: tuple[tuple[str, str], ...] = field(repr=False, default=())  # EXT-X-DEFINE, for IMPORT


Playlist = MultivariantPlaylist | MediaPlaylist
