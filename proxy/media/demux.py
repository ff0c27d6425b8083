"""One section in, packets of the chosen tracks out: libavformat, fenced.

libavformat is told the format, does no IO of its own, opens no video decoder and probes no further
than it must: of two packets of a stream it knows all that we ask it (see `_OPTIONS`).  What it does
not know then (times of audio frames inside a PES packet, sample rates, extradata) is computed by
`timeline` and `bitstream`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import av
from av.codec.context import CodecContext
from av.container import InputContainer

from proxy.errors import CorruptMedia, SpliceIncompatible, UnsupportedCodec
from proxy.media.bitstream import COPYABLE
from proxy.media.fence import MOST_STREAMS, CheckedBoxes, Metered
from proxy.media.psi import Program, ProgramReader
from proxy.media.section import Format, Input

if TYPE_CHECKING:
    from proxy.media import transport
    from proxy.media.transport import Frames as Frames  # noqa: PLC0414 - it is ours
else:
    try:
        from proxy.media.transport import Frames
    except ImportError:  # nobody has compiled it, and nobody makes them

        class Frames:
            """Several audio frames in one."""


# One access unit or audio frame, from libavformat or from our own demuxer of plain sections; and
# several audio frames in one.
Packet: TypeAlias = "av.Packet[Any] | transport.Packet"
Packets: TypeAlias = "Packet | Frames"

# Measured over 50 segments of the corpus against unlimited probing: the same packets in the same
# order, and every time that is stated is stated alike; opening takes 0.2-0.9 ms instead of 2-12 ms.
#   fpsprobesize     0: no frame rate is guessed, which would hold back 20 pictures
#   codec_whitelist  audio decoders only: no picture is decoded
#   analyzeduration  1 µs: stop at the second packet of any stream
#   probesize        the bound behind that, for streams in which nothing comes
# `nobuffer` and a tiny probesize lose packets and are no alternatives.  In a transport stream,
# `nofillin` keeps libavformat from making up times (from 0 on) for what comes before a stream's
# first timestamp: they cannot be told from true ones.
_OPTIONS = {
    "fpsprobesize": "0",
    "codec_whitelist": "aac,ac3,eac3,mp3float,mp3",
    "analyzeduration": "1",
    "probesize": "1000000",
    "protocol_whitelist": "none",
    "max_streams": str(MOST_STREAMS),
}

# Where the PMT tells all codecs, the first packet of any stream ends the probing: with `nofillin`,
# without durations, `analyzeduration` takes effect only after 30 pictures.  (In a clip of 4 Mbit/s
# the first fragment comes after 284,256 bytes, where the first audio frame ends, not 447,628.)  The
# header is looked for within as much, so it must be enough for that.
_SHORT_PROBE_BYTES = 8 * 1024

# Codecs that libavformat may take for data of an unknown kind, by the name that the PMT gives them.
# Leaving them out silently would be a shortened output.
_KINDS: dict[str, Literal["video", "audio"]] = {
    "mpegh_3d_audio": "audio", "ac4": "audio", "dts_uhd": "audio",
    "vvc": "video", "evc": "video", "jpegxs": "video", "av1": "video",
}  # fmt: skip

# libavformat compares the whole name of a demuxer.
_WHITELIST = {"mp4": "mov,mp4,m4a,3gp,3g2,mj2"}

_BUFFER_BYTES = 32 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTrack:
    """An elementary stream that will be copied."""

    index: int  # of the stream in the container
    kind: Literal["video", "audio"]
    codec: str  # FFmpeg's name
    timescale: int
    language: str | None = None
    config: bytes = b""  # extradata, where the container has it (MP4)
    size: tuple[int, int] = (0, 0)  # of the picture, in pixels, where the container has it
    wraps: bool = False  # whether its clock has 33 bits
    prefixed: bool = False  # whether its NAL units come behind their lengths, not start codes


class _Tap:
    """Shows the bytes to the program reader on their way into the demuxer, and where they end."""

    def __init__(self, source: Input, meter: Metered, programs: ProgramReader | None) -> None:
        self._source = source
        self._meter = meter
        self._programs = programs
        self.ended = False  # whether all bytes of the section have been read

    def read(self, n: int) -> bytes:
        data = self._meter.read(n)
        self.ended = not data
        if self._programs is not None:
            self._programs.feed(data)
        return data

    @property
    def broke_off(self) -> bool:
        """Whether all bytes of a section have been read that is not whole."""
        return self.ended and self._source.broken_off


def _deny(*_: object, **__: object) -> None:
    raise PermissionError("libavformat does no IO here")


def codec_name(stream: av.stream.Stream) -> str | None:
    """Return FFmpeg's name of the codec, or None where libavcodec has no decoder to name it by."""
    context: CodecContext | None = stream.codec_context  # PyAV's stub leaves out the None
    return None if context is None else str(context.codec.canonical_name)


class Demuxer:
    """An open section; a context manager.

    Args:
        source: read to the end of the section.
        format: of the section.
        explicit: whether the section says at its beginning what all of its streams are.
        video: whether video is wanted.
        audio: whether audio is wanted.
        language: of the audio track.

    Raises:
        av.FFmpegError: it is of another format.
        UnsupportedCodec, CorruptMedia: see `choose_tracks`.
    """

    def __init__(
        self,
        source: Input,
        format: Format = "mpegts",  # noqa: A002 - the field's word
        *,
        explicit: bool = False,
        video: bool = True,
        audio: bool = True,
        language: str | None = None,
    ) -> None:
        programs = ProgramReader()
        self.incomplete = 0  # packets of the chosen tracks that were left out at the end
        self._meter = Metered(CheckedBoxes(source) if format == "mp4" else source)
        self._tap = _Tap(source, self._meter, programs if format == "mpegts" else None)
        self._container: InputContainer = av.open(
            self._tap,
            "r",
            format=format,
            options={
                **_OPTIONS,
                **({"fflags": "+nofillin"} if format == "mpegts" else {}),
                **({"probesize": str(_SHORT_PROBE_BYTES)} if explicit else {}),
                "format_whitelist": _WHITELIST.get(format, format),
            },
            io_open=_deny,
            metadata_errors="replace",
            buffer_size=_BUFFER_BYTES,
        )
        try:
            self.tracks = choose_tracks(
                list(self._container.streams),
                programs.programs,
                video=video,
                audio=audio,
                language=language,
                wraps=format == "mpegts",
            )
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free it.  Containers sit in reference cycles: without this, their buffers stay until a
        collection."""
        self._container.close()

    def packets(self) -> Iterator[av.Packet[Any]]:
        """Yield the packets of all streams as they come, chosen or not; empty ones left out.

        Of a section that broke off, the last packet of each stream that was not whole before the
        end is left out: libavformat hands out what it has of it as if it were all.

        Raises:
            SpliceIncompatible: a stream appears that was not announced at the start; PyAV cannot
                deliver its packets.
            CorruptMedia: bytes come and come, and no packet of a chosen track.
        """
        chosen = {track.index for track in self.tracks}
        meter, tap = self._meter, self._tap
        cut: dict[int, av.Packet[Any]] = {}  # by stream: the last one behind the end, so far
        try:
            for packet in self._container.demux():
                if not packet.size:
                    continue
                if packet.stream_index in chosen:
                    meter.advance()
                if tap.ended and tap.broke_off:
                    earlier = cut.pop(packet.stream_index, None)
                    cut[packet.stream_index] = packet
                    if earlier is not None:
                        yield earlier
                else:
                    yield packet
        except IndexError as error:
            raise SpliceIncompatible("a new stream appears in mid-stream") from error
        except av.FFmpegError:
            if not tap.broke_off:
                raise
        self.incomplete = sum(track.index in cut for track in self.tracks)


def _config(stream: av.stream.Stream, codec: str, *, described: bool) -> bytes:
    """Return the extradata where it is the container's word: MP4, and Opus everywhere."""
    if not described and codec != "opus":
        return b""
    return bytes(stream.codec_context.extradata or b"")


def _size(stream: av.stream.Stream) -> tuple[int, int]:
    if not isinstance(stream, av.VideoStream):
        return 0, 0
    return stream.codec_context.width, stream.codec_context.height


def _language(stream: av.stream.Stream) -> str | None:
    language = stream.language
    return None if language in {None, "und"} else language


def _chosen_program(
    streams: Sequence[av.stream.Stream], programs: Sequence[Program]
) -> dict[int, av.stream.Stream]:
    """Return the streams, by PID, of the first program with audio or video."""
    if not programs:
        return {stream.index: stream for stream in streams}
    by_pid = {stream.id: stream for stream in streams}
    for program in programs:
        mine = {s.pid: by_pid[s.pid] for s in program.streams if s.pid in by_pid}
        if any(stream.type in {"video", "audio"} for stream in mine.values()):
            return mine
    return by_pid


def _matches(language: str | None, wish: str) -> bool:
    """Compare an ISO 639-2 code of a PMT with a wish such as `de`, `deu` or `ger`."""
    if not language:
        return False
    wish = wish.lower().split("-")[0]
    same = (codes for two, codes in _ISO_639_1.items() if wish == two or wish in codes)
    return language in (wish, *next(same, ()))


# ISO 639-1 → the terminological and bibliographic codes of ISO 639-2, for common audio tracks.
_ISO_639_1: dict[str, tuple[str, ...]] = {
    "ar": ("ara",), "bg": ("bul",), "ca": ("cat",), "cs": ("ces", "cze"), "da": ("dan",),
    "de": ("deu", "ger"), "el": ("ell", "gre"), "en": ("eng",), "es": ("spa",), "et": ("est",),
    "fi": ("fin",), "fr": ("fra", "fre"), "he": ("heb",), "hi": ("hin",), "hr": ("hrv",),
    "hu": ("hun",), "id": ("ind",), "it": ("ita",), "ja": ("jpn",), "ko": ("kor",),
    "lt": ("lit",), "lv": ("lav",), "ms": ("msa", "may"), "nb": ("nob",), "nl": ("nld", "dut"),
    "no": ("nor",), "pl": ("pol",), "pt": ("por",), "ro": ("ron", "rum"), "ru": ("rus",),
    "sk": ("slk", "slo"), "sl": ("slv",), "sr": ("srp",), "sv": ("swe",), "th": ("tha",),
    "tr": ("tur",), "uk": ("ukr",), "vi": ("vie",), "zh": ("zho", "chi"),
}  # fmt: skip


def choose_tracks(
    streams: Sequence[av.stream.Stream],
    programs: Sequence[Program],
    *,
    video: bool,
    audio: bool,
    language: str | None,
    wraps: bool,
) -> list[SourceTrack]:
    """Choose what is copied: the first video and one audio track of one program.

    Args:
        streams: what libavformat found.
        programs: what PAT and PMTs announce; may be empty.
        video: whether video is wanted.
        audio: whether audio is wanted.
        wraps: whether their clock has 33 bits.
        language: of the audio track; the first that can be copied where none has it.

    Raises:
        UnsupportedCodec: there is video or audio, and none of it can be copied.
        CorruptMedia: there is neither.
    """
    announced = {s.pid: s for program in programs for s in program.streams}
    found: dict[str, list[SourceTrack]] = {"video": [], "audio": []}
    refused: dict[str, list[str]] = {"video": [], "audio": []}
    for pid, stream in _chosen_program(streams, programs).items():
        entry = announced.get(pid)
        kind = stream.type
        if kind not in found and entry is not None:
            kind = _KINDS.get(entry.codec or "", kind)
        if (kind != "video" or not video) and (kind != "audio" or not audio):
            continue
        codec = codec_name(stream) or (entry and entry.codec)
        if codec in COPYABLE:
            track = SourceTrack(
                index=stream.index,
                kind=kind,
                codec=codec,
                timescale=stream.time_base.denominator if stream.time_base else 90000,
                language=entry.language if entry else _language(stream),
                config=_config(stream, codec, described=not wraps),
                size=_size(stream),
                wraps=wraps,
            )
            found[kind].append(track)
        else:
            unnamed = f"stream type 0x{entry.stream_type:02x}" if entry else "unknown"
            refused[kind].append(codec or unnamed)
    for kind_, names in refused.items():
        if names and not found[kind_]:
            listed = ", ".join(dict.fromkeys(names))
            detail = f"Players of MP4 do not take this {kind_} codec: {listed}."
            raise UnsupportedCodec(f"{kind_}: {listed}", detail=detail)
    spoken = (t for t in found["audio"] if language and _matches(t.language, language))
    heard = next(spoken, None) or next(iter(found["audio"]), None)
    chosen = [*found["video"][:1], *([heard] if heard else [])]
    if not chosen:
        raise CorruptMedia("the source announces nothing of what is wanted of it")
    return chosen
