"""The lines of a Multivariant Playlist → `MultivariantPlaylist` (RFC 8216bis 4.4.6).

Attributes that cannot be read count as missing: a variant without BANDWIDTH can still be played.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from proxy.errors import PlaylistError, TooManyRenditions, TooManyVariants
from proxy.hls.lines import Line, decimal_number
from proxy.hls.model import Key, MultivariantPlaylist, Rendition, Variant
from proxy.hls.tags import Context, TagReader, is_yes

__all__ = ["MultivariantReader"]

MAX_BANDWIDTH = 1e12  # bit/s
MAX_FRAME_RATE = 100_000.0
_RESOLUTION = re.compile(r"([0-9]{1,6})[xX]([0-9]{1,6})")


class MultivariantReader(TagReader):
    """The tags of a Multivariant Playlist (4.4.6)."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._variants: list[Variant] = []
        self._i_frame_variants: list[Variant] = []
        self._renditions: list[Rendition] = []
        self._session_keys: list[Key] = []
        self._stream: dict[str, str] | None = None  # EXT-X-STREAM-INF that waits for its URI
        self._handlers |= {
            "": self._on_uri,
            "EXT-X-I-FRAME-STREAM-INF": self._on_i_frame_stream_inf,
            "EXT-X-IMAGE-STREAM-INF": self._on_i_frame_stream_inf,
            "EXT-X-MEDIA": self._on_media,
            "EXT-X-SESSION-KEY": self._on_session_key,
            "EXT-X-STREAM-INF": self._on_stream_inf,
        }

    def read(self, lines: list[Line]) -> MultivariantPlaylist:
        """Return what `lines` say; raises `PlaylistError`."""
        self._walk(lines)
        if not self._variants and not self._i_frame_variants and not self._renditions:
            raise PlaylistError("no variant with an address up to here", line=lines[-1].number)
        return MultivariantPlaylist(
            uri=self._context.base_url,
            variants=tuple(self._variants),
            i_frame_variants=tuple(self._i_frame_variants),
            renditions=tuple(self._renditions),
            session_keys=tuple(self._session_keys),
            independent_segments=self._independent_segments,
            version=self._version,
            start=self._start,
            defines=tuple(self._variables.items()),
        )

    def _on_stream_inf(self, line: Line) -> None:
        self._stream = self._attributes(line)

    def _on_uri(self, line: Line) -> None:
        """Take the URI for the EXT-X-STREAM-INF before it; a second one in a row has no use."""
        if self._stream is None:
            return
        if len(self._variants) >= self._context.limits.variants:
            raise TooManyVariants(f"more than {self._context.limits.variants}", line=line.number)
        address = self._address(self._substitute(line.value, line), line)
        self._variants.append(_variant(self._stream, address))
        self._stream = None

    def _on_i_frame_stream_inf(self, line: Line) -> None:
        """Take an I-frame stream (4.4.6.3), or a stream of thumbnails, which comes in its shape."""
        if len(self._i_frame_variants) >= self._context.limits.variants:
            limit = self._context.limits.variants
            raise TooManyVariants(f"more than {limit} for trick play", line=line.number)
        attributes = self._attributes(line)
        uri = attributes.get("uri")
        if uri:
            self._i_frame_variants.append(_variant(attributes, self._address(uri, line)))

    def _on_media(self, line: Line) -> None:
        if len(self._renditions) >= self._context.limits.renditions:
            limit = self._context.limits.renditions
            raise TooManyRenditions(f"more than {limit}", line=line.number)
        attributes = self._attributes(line)
        uri = attributes.get("uri")
        self._renditions.append(
            Rendition(
                type=attributes.get("type", "").upper(),
                group_id=attributes.get("group_id", ""),
                name=attributes.get("name", ""),
                uri=self._address(uri, line) if uri else None,
                language=attributes.get("language") or None,
                assoc_language=attributes.get("assoc_language") or None,
                default=is_yes(attributes, "default"),
                autoselect=is_yes(attributes, "autoselect"),
                forced=is_yes(attributes, "forced"),
                characteristics=_comma_separated(attributes, "characteristics"),
                channels=attributes.get("channels") or None,
            )
        )

    def _on_session_key(self, line: Line) -> None:
        key = self._key(line)
        if key is not None:
            self._session_keys.append(key)


def _variant(attributes: Mapping[str, str], address: str) -> Variant:
    resolution = _RESOLUTION.fullmatch(attributes.get("resolution", ""))
    average = decimal_number(
        attributes.get("average_bandwidth", ""), lowest=0, highest=MAX_BANDWIDTH
    )
    bandwidth = decimal_number(attributes.get("bandwidth", ""), lowest=0, highest=MAX_BANDWIDTH)
    return Variant(
        uri=address,
        bandwidth=int(bandwidth or 0),
        average_bandwidth=None if average is None else int(average),
        codecs=_comma_separated(attributes, "codecs"),
        width=int(resolution[1]) if resolution else None,
        height=int(resolution[2]) if resolution else None,
        frame_rate=decimal_number(
            attributes.get("frame_rate", ""), lowest=0, highest=MAX_FRAME_RATE
        ),
        video_range=attributes.get("video_range") or None,
        audio_group=attributes.get("audio") or None,
        video_group=attributes.get("video") or None,
        subtitles_group=attributes.get("subtitles") or None,
        name=attributes.get("name") or None,
    )


def _comma_separated(attributes: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(part for item in attributes.get(name, "").split(",") if (part := item.strip()))
