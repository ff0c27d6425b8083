"""The clip of the demo: an HLS presentation of three variants, encoded here and now.

H.264 with B-frames and AAC in MPEG-TS: a gradient that drifts, a clock that counts, a beep on each
second.  Everything stays in memory.  Blocking; `make` encodes the variants side by side, since the
encoders run without the interpreter's lock.
"""

from __future__ import annotations

import io
import math
from array import array
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

__all__ = ["MASTER", "Clip", "Variant", "make"]

MASTER = "master.m3u8"
FPS = 25
SEGMENT_S = 2  # a GOP each
SAMPLE_RATE = 48_000
AAC_FRAME = 1024  # samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    width: int
    height: int
    bitrate: int  # bit/s, video

    @property
    def name(self) -> str:
        return f"{self.height}p"


VARIANTS = (
    Variant(width=640, height=360, bitrate=700_000),
    Variant(width=448, height=252, bitrate=400_000),
    Variant(width=256, height=144, bitrate=200_000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """An HLS presentation; `files` has the playlists and segments by their path."""

    seconds: int
    files: Mapping[str, bytes] = field(repr=False)

    def segments(self, name: str) -> bytes:
        """Return the segments of a variant, one behind the other."""
        playlist = self.files[f"{name}/index.m3u8"].decode()
        names = [line for line in playlist.splitlines() if line and not line.startswith("#")]
        return b"".join(self.files[f"{name}/{segment}"] for segment in names)


def make(seconds: int = 30) -> Clip:
    """Encode the clip; takes about a tenth of its length on two cores."""
    with ThreadPoolExecutor(len(VARIANTS)) as pool:
        encoded = pool.map(lambda variant: _encode(variant, seconds), VARIANTS)
        files = {path: data for one in encoded for path, data in one.items()}
    files[MASTER] = _master().encode()
    return Clip(seconds=seconds, files=files)


def _master() -> str:
    lines = ["#EXTM3U", "#EXT-X-VERSION:3"]
    for variant in VARIANTS:
        attributes = (
            f"BANDWIDTH={variant.bitrate * 2}",
            f"RESOLUTION={variant.width}x{variant.height}",
            f"FRAME-RATE={FPS}.000",
            'CODECS="avc1.64001e,mp4a.40.2"',
        )
        lines += [f"#EXT-X-STREAM-INF:{','.join(attributes)}", f"{variant.name}/index.m3u8"]
    return "\n".join([*lines, ""])


class _File(io.BytesIO):
    """A file that is kept when the muxer closes it."""

    def __init__(self, keep: Callable[[bytes], None]) -> None:
        super().__init__()
        self._keep = keep

    def close(self) -> None:
        if not self.closed:
            self._keep(self.getvalue())
        super().close()


def _encode(variant: Variant, seconds: int) -> dict[str, bytes]:
    files: dict[str, bytes] = {}

    def open_file(path: str, _flags: int, _options: Mapping[str, Any]) -> _File:
        return _File(lambda data: files.__setitem__(path, data))

    options = {
        "hls_time": str(SEGMENT_S),
        "hls_playlist_type": "vod",
        "hls_segment_filename": f"{variant.name}/%03d.ts",
        "hls_flags": "independent_segments",
    }
    path = f"{variant.name}/index.m3u8"
    with av.open(path, "w", format="hls", options=options, io_open=open_file) as container:
        video, audio = _streams(container, variant)
        sounds = _sounds(seconds)
        for index, picture in enumerate(_pictures(variant, seconds)):
            container.mux(video.encode(picture))
            while (sound := next(sounds, None)) is not None:
                container.mux(audio.encode(sound))
                if sound.pts is not None and sound.pts * FPS > (index + 1) * SAMPLE_RATE:
                    break
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return files


def _streams(container: OutputContainer, variant: Variant) -> tuple[VideoStream, AudioStream]:
    video = container.add_stream(
        "libx264",
        rate=FPS,
        options={
            "preset": "superfast",
            "bf": "3",
            "x264-params": f"keyint={FPS * SEGMENT_S}:scenecut=0:threads=1",
        },
    )
    assert isinstance(video, VideoStream)
    video.width, video.height, video.pix_fmt = variant.width, variant.height, "yuv420p"
    video.bit_rate = variant.bitrate
    audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
    assert isinstance(audio, AudioStream)
    audio.bit_rate = 64_000
    return video, audio


# -- pictures --------------------------------------------------------------------------------------

# A wave from dark to bright and back, long enough to be cut out anywhere in it.
_WAVE = bytes(round(110 - 70 * math.cos(2 * math.pi * i / 512)) for i in range(512)) * 5
# Seven-segment digits: x, y, width, height in a cell of 4 x 7, and which digits show it.
_SEGMENTS = (
    (1, 0, 2, 1, "02356789"), (0, 1, 1, 2, "045689"), (3, 1, 1, 2, "01234789"),
    (1, 3, 2, 1, "2345689"), (0, 4, 1, 2, "0268"), (3, 4, 1, 2, "013456789"),
    (1, 6, 2, 1, "0235689"), (1, 6, 1, 1, "."),
)  # fmt: skip


def _pictures(variant: Variant, seconds: int) -> Iterator[VideoFrame]:
    width, height = variant.width, variant.height
    for index in range(seconds * FPS):
        drift = index * 2
        luma = bytearray().join(
            _WAVE[start : start + width]
            for start in ((drift + row * 256 // height) % 512 for row in range(height))
        )
        _write(luma, width, f"{index / FPS:05.2f}", unit=height // 18)
        frame = VideoFrame(width, height, "yuv420p")
        planes = [
            bytes(luma),
            _chroma(width // 2, height // 2, index * 0.9),
            _chroma(width // 2, height // 2, 200 - index * 0.7),
        ]
        for plane, data in zip(frame.planes, planes, strict=True):
            plane.update(_padded(data, plane.height, plane.line_size))
        frame.pts, frame.time_base = index, Fraction(1, FPS)
        yield frame


def _chroma(width: int, height: int, drift: float) -> bytes:
    return b"".join(
        bytes([_WAVE[int(drift + row * 200 / height) % 512] // 2 + 70]) * width
        for row in range(height)
    )


def _write(luma: bytearray, width: int, text: str, *, unit: int) -> None:
    """Draw `text` into the middle of the picture."""
    left = (width - (5 * len(text) - 1) * unit) // 2
    top = (len(luma) // width - 7 * unit) // 2
    for place, character in enumerate(text):
        for x, y, w, h, shown in _SEGMENTS:
            if character in shown:
                start = left + (5 * place + x) * unit
                for row in range(top + y * unit, top + (y + h) * unit):
                    luma[row * width + start : row * width + start + w * unit] = b"\xeb" * (
                        w * unit
                    )


def _padded(data: bytes, rows: int, line_size: int) -> bytes:
    width = len(data) // rows
    if width == line_size:
        return data
    fill = bytes(line_size - width)
    return b"".join(data[row * width : (row + 1) * width] + fill for row in range(rows))


# -- sound -----------------------------------------------------------------------------------------


def _sounds(seconds: int) -> Iterator[AudioFrame]:
    def sample(index: int) -> float:
        beep = index < SAMPLE_RATE // 10
        pitch, volume = (880, 0.25) if beep else (220, 0.04)
        return volume * math.sin(2 * math.pi * pitch * index / SAMPLE_RATE)

    second = array("f", (sample(index) for index in range(SAMPLE_RATE))).tobytes()
    track = second * seconds
    for start in range(0, seconds * SAMPLE_RATE, AAC_FRAME):
        samples = track[start * 4 : (start + AAC_FRAME) * 4]
        frame = AudioFrame(format="fltp", layout="mono", samples=len(samples) // 4)
        plane = frame.planes[0]
        plane.update(samples.ljust(plane.buffer_size, b"\0"))
        frame.sample_rate = SAMPLE_RATE
        frame.pts, frame.time_base = start, Fraction(1, SAMPLE_RATE)
        yield frame
