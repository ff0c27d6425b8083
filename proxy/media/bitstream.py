"""Which codec takes which path into ISO BMFF samples; what is not here cannot be copied."""

from __future__ import annotations

from collections.abc import Callable

from proxy.media.audio_path import AacPath, Ac3Path, Eac3Path, FlacPath, Mp3Path, OpusPath
from proxy.media.path import Path
from proxy.media.video_path import Av1Path, H264Path, HevcPath

__all__ = ["COPYABLE", "path_for"]

_PATHS: dict[str, Callable[[bytes], Path]] = {
    "h264": H264Path,
    "hevc": HevcPath,
    "av1": Av1Path,
    "aac": AacPath,
    "ac3": Ac3Path,
    "eac3": Eac3Path,
    "mp3": Mp3Path,
    "opus": OpusPath,
    "flac": FlacPath,
}
COPYABLE = frozenset(_PATHS)


def path_for(
    codec: str, config: bytes = b"", size: tuple[int, int] = (0, 0), *, prefixed: bool = False
) -> Path:
    """Return a fresh path for a codec in `COPYABLE` (FFmpeg's name).

    Args:
        config: extradata, where the container and not the stream itself describes it (MP4).
        size: width and height of the picture, where the container says it.
        prefixed: whether NAL units come behind their lengths, though no extradata says so.

    Raises:
        BitstreamError: the extradata is damaged.
    """
    path = _PATHS[codec](config)
    if isinstance(path, Av1Path):
        path.size = size
    path.prefixed = prefixed
    return path
