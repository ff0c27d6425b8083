"""Makes media for tests: MPEG-TS clips, encoded by PyAV in memory and described by themselves.

`make_clip` encodes a moving test picture and one tone per audio track, and muxes them with
libavformat; `segments` cuts a clip as an HLS segmenter does, `hls` and `multivariant` put playlists
beside it.  Everything is cached for the run of the tests and, as far as the encoders allow it (one
thread), the same in each run.  Small by default (160x90, 4 s), so that a clip costs a tenth of a
second.  `PLAYABLE` and `REFUSED` in `clip_recipes` hold one clip of every kind.
"""

from __future__ import annotations  # av.Packet takes type arguments only in its stub

import functools
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import av
import av.filter
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame

from tests.support import ts_edit
from tests.support.ts import TICKS_PER_S, Pes, read_pes
from tests.support.ts_tables import Program, read_program

WRAP_S = (1 << 33) / TICKS_PER_S  # where timestamps start again from 0: 26.5 hours

_BASE = 20 * TICKS_PER_S  # while muxing, so that no timestamp is negative
_CLOCK = Fraction(1, TICKS_PER_S)
_ENCODERS = {"h264": "libx264", "hevc": "libx265", "mp3": "libmp3lame", "opus": "libopus"}
_SAMPLE_FORMATS = {"mp3": "s16p", "mp2": "s16", "opus": "s16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """What to encode; `codec` is FFmpeg's name."""

    codec: str = "h264"
    width: int = 160
    height: int = 90
    fps: Fraction = Fraction(25)
    seconds: float = 4.0
    gop_s: float = 1.0
    b_frames: int = 3  # in a row; two or more of them make a pyramid
    open_gop: bool = False
    bitrate: int = 200_000  # bits/s
    encoder: str = ""  # more of x264's or x265's own parameters, "name=value:name=value"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio:
    """One audio track to encode; `codec` is FFmpeg's name."""

    codec: str = "aac"
    sample_rate: int = 48_000
    channels: int = 2
    language: str | None = None
    offset_s: float = 0.0  # of its first frame behind the first picture
    bitrate: int = 64_000  # bits/s
    frame_ms: str = ""  # what a packet of Opus lasts, where not 20 ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A transport stream and what it is made of.  Editing its `data` is `dataclasses.replace`."""

    data: bytes = field(repr=False)
    videos: tuple[Video, ...]  # one after the other on one PID; empty: audio only
    audios: tuple[Audio, ...]
    start_s: float  # the earliest presentation time, before the wrap
    seconds: float

    @property
    def program(self) -> Program:
        """The (first) program, read from its tables."""
        return read_program(self.data)

    @property
    def video_pid(self) -> int:
        pid = self.program.video_pid
        assert pid is not None, "this clip has no video"
        return pid

    @property
    def audio_pids(self) -> tuple[int, ...]:
        return self.program.audio_pids

    @property
    def segments(self) -> tuple[bytes, ...]:
        """The clip as HLS segments of 2 s or a little more."""
        return segments(self)

    def pictures(self) -> list[Pes]:
        """The PES packets of the video."""
        return read_pes(self.data, self.video_pid)


# -- making ----------------------------------------------------------------------------------------


def make_clip(
    *,
    video: str | None = "h264",
    audio: Sequence[str | Audio] = ("aac",),
    seconds: float = 4.0,
    width: int = 160,
    height: int = 90,
    fps: int | Fraction = 25,
    gop_s: float = 1.0,
    b_frames: int = 3,
    open_gop: bool = False,
    bitrate: int = 200_000,
    encoder: str = "",
    start_s: float = 1.4,
    audio_offset_s: float = 0.0,
    languages: Sequence[str | None] = (),
    muxer: Sequence[tuple[str, str]] = (),
) -> Clip:
    """Make a clip of one video track (or none) and any number of audio tracks.

    `audio` names codecs, or describes tracks; `languages` (ISO 639-2, three letters) and
    `audio_offset_s` apply to those that are only named.  `start_s` is the earliest presentation
    time, anywhere (`WRAP_S - 2` wraps in the clip); `muxer` are options of libavformat's mpegts.
    """
    videos: tuple[Video, ...] = ()
    if video is not None:
        videos = (
            Video(
                codec=video,
                width=width,
                height=height,
                fps=Fraction(fps),
                seconds=seconds,
                gop_s=gop_s,
                b_frames=b_frames,
                open_gop=open_gop,
                bitrate=bitrate,
                encoder=encoder,
            ),
        )
    named = [*languages, *(None for _ in audio)]
    audios = tuple(
        Audio(codec=one, language=code, offset_s=audio_offset_s) if isinstance(one, str) else one
        for one, code in zip(audio, named, strict=False)
    )
    return splice(*videos, audios=audios, seconds=seconds, start_s=start_s, muxer=tuple(muxer))


def make_ts(**wishes: Any) -> bytes:
    """Make a clip as `make_clip` does, and return only its bytes."""
    return make_clip(**wishes).data


@functools.cache
def splice(
    *videos: Video,
    audios: tuple[Audio, ...] = (),
    seconds: float | None = None,
    start_s: float = 1.4,
    muxer: tuple[tuple[str, str], ...] = (),
) -> Clip:
    """Make a clip whose video is encoded in several parts, each with settings of its own.

    Timestamps run on over the parts, and so does the PID: only the parameter sets tell them apart.
    The codec and `fps` must be the same in all.
    """
    if seconds is None:
        seconds = sum(video.seconds for video in videos)
    sink = io.BytesIO()
    with av.open(sink, "w", format="mpegts", options=dict(muxer)) as container:
        parts: list[av.Packet[Any]] = []
        if videos:
            stream = container.add_mux_stream(videos[0].codec, rate=videos[0].fps)
            stream.time_base = _CLOCK
            parts += _own(stream, _encode_videos(videos))
        for number, audio in enumerate(audios):
            stream = container.add_stream(
                _ENCODERS.get(audio.codec, audio.codec), rate=audio.sample_rate
            )
            assert isinstance(stream, AudioStream)
            encoder = _set_up(stream.codec_context, audio)
            if audio.language is not None:
                stream.metadata["language"] = audio.language
            parts += _own(stream, _encode_audio(encoder, audio, 440 + 220 * number, seconds))
        for packet in sorted(parts, key=lambda packet: packet.dts or 0):
            container.mux(packet)
    data = sink.getvalue()
    data = ts_edit.shift(data, round(start_s * TICKS_PER_S) - _earliest(data))
    return Clip(data=data, videos=videos, audios=audios, start_s=start_s, seconds=seconds)


def _earliest(data: bytes) -> int:
    """The earliest PTS of all tracks, where nothing wraps."""
    program = read_program(data)
    pids = [*program.audio_pids, program.video_pid]
    return min(
        pes.pts
        for pid in pids
        if pid is not None
        for pes in read_pes(data, pid)
        if pes.pts is not None
    )


def _own(stream: av.stream.Stream, parts: Sequence[av.Packet[Any]]) -> Iterator[av.Packet[Any]]:
    """Hand packets, whose times are already in ticks, to an output stream."""
    for packet in parts:
        packet.stream = stream
        packet.time_base = _CLOCK
        yield packet


def _encode_videos(videos: Sequence[Video]) -> list[av.Packet[Any]]:
    out: list[av.Packet[Any]] = []
    begins = Fraction(0)
    for video in videos:
        encoder = _video_encoder(video)
        parts: list[av.Packet[Any]] = []
        count = max(1, round(video.seconds * video.fps))
        source = f"testsrc2=size={video.width}x{video.height}:rate={video.fps}"
        for number, picture in enumerate(_generate(source, "format=yuv420p", count)):
            assert isinstance(picture, VideoFrame)
            picture.pict_type = PictureType.NONE  # the encoder chooses
            picture.pts = number
            picture.time_base = 1 / video.fps
            parts += encoder.encode(picture)
        parts += encoder.encode(None)
        for packet in parts:
            _to_ticks(packet, _BASE + begins * TICKS_PER_S)
        begins += count / video.fps
        out += parts
    return out


def _video_encoder(video: Video) -> VideoCodecContext:
    encoder = av.CodecContext.create(_ENCODERS.get(video.codec, video.codec), "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = video.width, video.height, "yuv420p"
    encoder.framerate = video.fps
    encoder.time_base = 1 / video.fps
    encoder.bit_rate = video.bitrate
    encoder.thread_count = 1
    gop = max(1, round(video.gop_s * video.fps))
    own = f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes={video.b_frames}:b-adapt=0:"
    own += f"open-gop={int(video.open_gop)}"
    if video.codec == "h264":
        own += ":b-pyramid=normal:threads=1" + (f":{video.encoder}" if video.encoder else "")
        encoder.options = {"preset": "veryfast", "x264-params": own}
    elif video.codec == "hevc":
        own += ":b-pyramid=1:pools=none:frame-threads=1:log-level=error"
        own += f":{video.encoder}" if video.encoder else ""
        encoder.options = {"preset": "ultrafast", "x265-params": own}
    else:
        encoder.gop_size = gop
        encoder.max_b_frames = video.b_frames
    return encoder


def _set_up(encoder: AudioCodecContext, audio: Audio) -> AudioCodecContext:
    encoder.layout = {1: "mono", 2: "stereo", 6: "5.1"}[audio.channels]
    encoder.format = _SAMPLE_FORMATS.get(audio.codec, "fltp")
    encoder.time_base = Fraction(1, audio.sample_rate)
    encoder.bit_rate = audio.bitrate
    if audio.frame_ms:
        encoder.options = {"frame_duration": audio.frame_ms, "application": "lowdelay"}
    encoder.open()
    return encoder


def _encode_audio(
    encoder: AudioCodecContext, audio: Audio, tone_hz: int, seconds: float
) -> list[av.Packet[Any]]:
    samples = encoder.frame_size or 1024
    count = max(1, -int(-seconds * audio.sample_rate // samples))
    source = f"sine=frequency={tone_hz}:sample_rate={audio.sample_rate}:samples_per_frame={samples}"
    shape = f"aformat=sample_fmts={encoder.format.name}:channel_layouts={encoder.layout.name}"
    parts: list[av.Packet[Any]] = []
    for number, frame in enumerate(_generate(source, shape, count)):
        assert isinstance(frame, AudioFrame)
        frame.pts = number * samples
        frame.time_base = Fraction(1, audio.sample_rate)
        parts += encoder.encode(frame)
    parts += encoder.encode(None)
    # encoders begin before 0 with their priming; here the first frame is what has the wished time
    begins = Fraction(parts[0].pts or 0, audio.sample_rate)
    wished = _BASE + Fraction(audio.offset_s).limit_denominator(TICKS_PER_S) * TICKS_PER_S
    for packet in parts:
        _to_ticks(packet, wished - begins * TICKS_PER_S)
    return parts


def _to_ticks(packet: av.Packet[Any], offset: Fraction) -> None:
    assert packet.pts is not None
    assert packet.dts is not None
    scale = packet.time_base * TICKS_PER_S
    packet.pts = round(packet.pts * scale + offset)
    packet.dts = round(packet.dts * scale + offset)
    if packet.duration:
        packet.duration = round(packet.duration * scale)


def _generate(source: str, shape: str, count: int) -> Iterator[VideoFrame | AudioFrame]:
    """Yield `count` frames of a generating filter, in the shape that a second one gives them."""
    graph = av.filter.Graph()
    first = graph.add(*source.split("=", 1))
    second = graph.add(*shape.split("=", 1))
    sink = graph.add("buffersink" if shape.startswith("format") else "abuffersink")
    graph.link_nodes(first, second, sink).configure()
    for _ in range(count):
        yield graph.pull()


# -- cutting ---------------------------------------------------------------------------------------


def segments(clip: Clip | bytes, target_s: float = 2.0) -> tuple[bytes, ...]:
    """Cut a clip into HLS segments: at keyframes, `target_s` apart or more, timestamps going on.

    Each begins with PAT and PMT; no PES packet is split; continuity counters run on.
    """
    return tuple(piece.data for piece in pieces(clip, target_s))


def pieces(clip: Clip | bytes, target_s: float = 2.0) -> tuple[ts_edit.Piece, ...]:
    """Cut a clip as `segments` does, and say what each segment's duration is."""
    return _cut(clip.data if isinstance(clip, Clip) else clip, target_s)


@functools.cache
def _cut(data: bytes, target_s: float) -> tuple[ts_edit.Piece, ...]:
    return tuple(ts_edit.cut(data, target_s))


def without_first_gop(clip: Clip) -> Clip:
    """Let a clip of an open GOP begin at its second random access point.

    The pictures behind it that refer to what is gone come along: RASL pictures, with HEVC.
    """
    gop, *others = pieces(clip, 0.1)
    data = b"".join(piece.data for piece in others)
    start_s = _earliest(data) / TICKS_PER_S
    return replace(clip, data=data, start_s=start_s, seconds=clip.seconds - gop.duration_s)


# -- playlists -------------------------------------------------------------------------------------


def hls(clip: Clip, *, target_s: float = 2.0, prefix: str = "") -> dict[str, bytes]:
    """Return a VOD of the clip: path → body, the playlist at `<prefix>media.m3u8`."""
    cuts = pieces(clip, target_s)
    longest = max(1, round(max(piece.duration_s for piece in cuts)))
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{longest}"]
    lines += ["#EXT-X-MEDIA-SEQUENCE:0", "#EXT-X-PLAYLIST-TYPE:VOD"]
    out: dict[str, bytes] = {}
    for number, piece in enumerate(cuts):
        lines += [f"#EXTINF:{piece.duration_s:.5f},", f"segment{number}.ts"]
        out[f"{prefix}segment{number}.ts"] = piece.data
    lines += ["#EXT-X-ENDLIST", ""]
    return {f"{prefix}media.m3u8": "\n".join(lines).encode(), **out}


def multivariant(
    *,
    sizes: Sequence[tuple[int, int]] = ((160, 90), (320, 180), (480, 270)),
    seconds: float = 4.0,
    target_s: float = 2.0,
    **wishes: Any,
) -> dict[str, bytes]:
    """Return a presentation of several variants, keyframes aligned, lowest first.

    Path → body: `main.m3u8`, and `<height>p/media.m3u8` with its segments for each size.  More
    `wishes` go to `make_clip`.
    """
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-INDEPENDENT-SEGMENTS"]
    out: dict[str, bytes] = {}
    for width, height in sizes:
        rate = max(100_000, 6 * width * height)
        clip = make_clip(width=width, height=height, seconds=seconds, bitrate=rate, **wishes)
        peak = max(len(one.data) * 8 / one.duration_s for one in pieces(clip, target_s))
        mean = len(clip.data) * 8 / clip.seconds
        lines.append(
            f"#EXT-X-STREAM-INF:BANDWIDTH={round(peak)},AVERAGE-BANDWIDTH={round(mean)},"
            f'CODECS="{codecs(clip)}",RESOLUTION={width}x{height},FRAME-RATE=25.000'
        )
        lines.append(f"{height}p/media.m3u8")
        out.update(hls(clip, target_s=target_s, prefix=f"{height}p/"))
    return {"main.m3u8": "\n".join([*lines, ""]).encode(), **out}


def codecs(clip: Clip) -> str:
    """Return the CODECS of a clip of H.264 (or no video) and its audio codecs, RFC 6381."""
    out: list[str] = []
    if clip.videos:
        assert clip.videos[0].codec == "h264", "only H.264 is spelt out here"
        first = clip.pictures()[0].payload
        at = next(at for at in _start_codes(first) if first[at] & 31 == 7)
        out.append(f"avc1.{first[at + 1 : at + 4].hex()}")
    names = {"aac": "mp4a.40.2", "ac3": "ac-3", "eac3": "ec-3", "mp3": "mp4a.40.34"}
    out += dict.fromkeys(names[audio.codec] for audio in clip.audios)
    return ",".join(out)


def _start_codes(data: bytes) -> Iterator[int]:
    """Where each NAL unit of Annex B begins, behind its start code."""
    at = data.find(b"\0\0\1")
    while at >= 0:
        yield at + 3
        at = data.find(b"\0\0\1", at + 3)
