"""Makes fragmented MP4 for tests: encoded and muxed by PyAV, cut into init section and segments.

`make_fmp4` is what `clips.make_clip` is for transport streams; `Fmp4.data` is all of it, `init` and
`segments` are what a playlist with EXT-X-MAP names.
"""

from __future__ import annotations  # av.Packet takes type arguments only in its stub

import functools
import io
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import av.filter
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from tests.support.box_tree import parse

os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder tells its life otherwise

_ENCODERS = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "opus": "libopus"}
_SAMPLE_FORMATS = {"opus": "s16", "flac": "s16"}
_QUIET = {
    "h264": {"preset": "veryfast", "x264-params": "threads=1:scenecut=0:b-adapt=0"},
    "hevc": {
        "preset": "ultrafast",
        "x265-params": "pools=none:frame-threads=1:log-level=error:scenecut=0:b-adapt=0",
    },
    "av1": {"preset": "12", "svtav1-params": "lp=1"},
}


@dataclass(frozen=True, slots=True)
class Fmp4:
    """A fragmented MP4 in pieces."""

    init: bytes = field(repr=False)
    segments: tuple[bytes, ...] = field(repr=False)

    @property
    def data(self) -> bytes:
        return self.init + b"".join(self.segments)


@functools.cache
def make_fmp4(
    *,
    video: str | None = "h264",
    audio: str | None = "aac",
    tag: str | None = None,
    seconds: float = 4.0,
    width: int = 160,
    height: int = 90,
    fps: int = 25,
    gop_s: float = 1.0,
    b_frames: int = 2,
    sample_rate: int = 48_000,
    channels: int = 2,
    begin_s: float = 0.0,
    audio_offset_s: float = 0.0,
    edit_list: bool = True,
) -> Fmp4:
    """Encode a test picture and a tone into a fragmented MP4.

    Args:
        tag: of the sample entry of the video (`hvc1`, `hev1`).
        begin_s: of its decode times; the first fragment's tfdt is not 0 then.
        edit_list: whether an edit list makes up for reordering and priming (`delay_moov`).
    """
    sink = io.BytesIO()
    flags = "frag_keyframe+default_base_moof+" + ("delay_moov" if edit_list else "empty_moov")
    options = {"movflags": flags, "use_editlist": "1" if edit_list else "0"}
    with av.open(sink, "w", format="mp4", options=options) as container:
        parts: list[av.Packet[Any]] = []
        streams: list[VideoStream | AudioStream] = []
        if video is not None:
            pictures = container.add_stream(_ENCODERS[video], rate=fps, options=dict(_QUIET[video]))
            assert isinstance(pictures, VideoStream)
            pictures.width, pictures.height, pictures.pix_fmt = width, height, "yuv420p"
            pictures.codec_context.gop_size = round(gop_s * fps)
            pictures.codec_context.max_b_frames = b_frames
            pictures.codec_context.thread_count = 1
            if tag is not None:
                pictures.codec_context.codec_tag = tag
            streams.append(pictures)
        if audio is not None:
            sounds = container.add_stream(_ENCODERS.get(audio, audio), rate=sample_rate)
            assert isinstance(sounds, AudioStream)
            sounds.codec_context.layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
            sounds.codec_context.format = _SAMPLE_FORMATS.get(audio, "fltp")
            streams.append(sounds)
        for stream in streams:
            if isinstance(stream, VideoStream):
                parts += _pictures(stream, seconds, begin_s)
            else:
                parts += _sounds(stream, seconds, begin_s + audio_offset_s)
        for packet in sorted(parts, key=lambda one: (one.dts or 0) * one.time_base):
            container.mux(packet)
    return _cut(sink.getvalue())


def _pictures(stream: VideoStream, seconds: float, begin_s: float) -> list[av.Packet[Any]]:
    context = stream.codec_context
    rate = stream.average_rate or Fraction(25)
    source = f"size={context.width}x{context.height}:rate={rate}"
    out: list[av.Packet[Any]] = []
    for number, frame in enumerate(_generate("testsrc2", source, round(seconds * rate))):
        assert isinstance(frame, VideoFrame)
        picture = frame.reformat(format="yuv420p")
        picture.pict_type = PictureType.NONE
        picture.pts = number + round(Fraction(begin_s).limit_denominator(1000) * rate)
        picture.time_base = 1 / rate
        out += stream.encode(picture)
    return [*out, *stream.encode(None)]


def _sounds(stream: AudioStream, seconds: float, begin_s: float) -> list[av.Packet[Any]]:
    context = stream.codec_context
    context.open()
    size = context.frame_size or 1024
    rate = context.sample_rate
    source = f"frequency=440:sample_rate={rate}:samples_per_frame={size}"
    resampler = av.AudioResampler(format=context.format, layout=context.layout, rate=rate)
    out: list[av.Packet[Any]] = []
    for number, frame in enumerate(_generate("sine", source, round(seconds * rate / size))):
        assert isinstance(frame, AudioFrame)
        (sound,) = resampler.resample(frame)
        sound.pts = number * size + round(begin_s * rate)
        sound.time_base = Fraction(1, rate)
        out += stream.encode(sound)
    return [*out, *stream.encode(None)]


def _generate(name: str, source: str, count: int) -> Sequence[VideoFrame | AudioFrame]:
    graph = av.filter.Graph()
    sink = graph.add("abuffersink" if name == "sine" else "buffersink")
    graph.link_nodes(graph.add(name, source), sink).configure()
    return [graph.pull() for _ in range(count)]


def _cut(data: bytes) -> Fmp4:
    """Cut at each moof; what comes in front of the first one is the init section."""
    starts = [box.offset for box in parse(data) if box.kind == "moof"]
    end = next((box.offset for box in parse(data) if box.kind == "mfra"), len(data))
    edges = [*starts, end]
    pieces = tuple(data[a:b] for a, b in itertools.pairwise(edges))
    return Fmp4(init=data[: starts[0]], segments=pieces)
