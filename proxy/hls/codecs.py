"""What a CODECS attribute promises (RFC 6381): video, audio or text, and whether it can be copied.

Pure, and only about names: the segments may hold something else, and then that counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

__all__ = ["Copy", "copyable", "is_audio", "is_text", "is_video"]


class Copy(IntEnum):
    """Whether a codec can be copied into a fragmented MP4 that players take."""

    NO = 0
    UNKNOWN = 1
    YES = 2


_VIDEO: Final[Mapping[str, Copy]] = {
    **dict.fromkeys(("avc1", "avc3", "hvc1", "hev1", "av01"), Copy.YES),
    # Dolby Vision in its own sample entries has no base layer that others show in true colours;
    # where it has one, CODECS says hvc1 and SUPPLEMENTAL-CODECS the rest (RFC 8216bis 4.4.6.2)
    **dict.fromkeys(("dvh1", "dvhe", "dva1", "dvav", "dav1"), Copy.NO),
    **dict.fromkeys(
        ("vvc1", "vvi1", "evc1", "lvc1", "mp4v", "vp08", "vp8", "vp09", "vp9"), Copy.NO
    ),
    **dict.fromkeys(("jpeg", "mjpg", "mjp2"), Copy.NO),
}
_AUDIO: Final[Mapping[str, Copy]] = {
    **dict.fromkeys(("mp4a", "ac-3", "ec-3", "opus", "flac", "mp3"), Copy.YES),
    **dict.fromkeys(("ac-4", "mha1", "mha2", "mhm1", "mhm2", "mlpa", "alac", "iamf"), Copy.NO),
    **dict.fromkeys(("dtsc", "dtse", "dtsh", "dtsl", "dts-", "dtsx", "dtsy"), Copy.NO),
}
_TEXT = frozenset({"wvtt", "stpp", "sbtt", "tx3g", "c608", "c708"})  # left out of the output
# RFC 6381 section 3.3: mp4a.<object type indication>.<audio object type>
_MP4A_OBJECT_TYPES = frozenset({"40", "66", "67", "68", "69", "6b", "a5", "a6"})  # AAC MP3 AC-3
_MPEG4_AUDIO: Final[Mapping[str, Copy]] = {
    **dict.fromkeys(("2", "5", "29", "34"), Copy.YES),  # LC, HE, HE v2; MP3
    "42": Copy.UNKNOWN,  # xHE-AAC: not every player has it
}


def copyable(codec: str) -> Copy:
    """Return whether `codec` can be copied; text is left out of the output, so it never hinders."""
    name, _, rest = codec.lower().partition(".")
    if name == "mp4a" and rest:
        object_type, _, audio_type = rest.partition(".")
        if object_type == "40" and audio_type:
            return _MPEG4_AUDIO.get(audio_type.lstrip("0"), Copy.NO)
        return Copy.YES if object_type in _MP4A_OBJECT_TYPES else Copy.NO
    if name in _TEXT:
        return Copy.YES
    return _VIDEO.get(name, _AUDIO.get(name, Copy.UNKNOWN))


def is_video(codec: str) -> bool:
    return _name(codec) in _VIDEO


def is_audio(codec: str) -> bool:
    return _name(codec) in _AUDIO


def is_text(codec: str) -> bool:
    return _name(codec) in _TEXT


def _name(codec: str) -> str:
    return codec.lower().partition(".")[0]
