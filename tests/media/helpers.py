"""Builders for the tests of the media room: parameter sets bit by bit, encoded pictures, frames.

Written from ITU-T H.264 sections 7.3.2.1.1 and E.1.1 and ITU-T H.265 sections 7.3.2.2, 7.3.3,
7.3.4, 7.3.7 and E.2.1, as a writer, so that a parser that misreads a field lands beside everything
that stands behind it.
"""

from __future__ import annotations  # av.Packet takes type arguments only in its stub

import asyncio
import concurrent.futures
import functools
import io
import threading
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Self

import av
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from proxy.media.turn import TurnGate
from tests.support.clips import Audio, make_clip

# -- bits ------------------------------------------------------------------------------------------


class Bits:
    """A string of bits that is written from the front; every method returns itself."""

    def __init__(self) -> None:
        self.bits = ""

    def u(self, width: int, value: int) -> Self:
        assert 0 <= value < 1 << width or (width == 0 and value == 0)
        self.bits += f"{value:0{width}b}" if width else ""
        return self

    def flag(self, value: object) -> Self:
        return self.u(1, int(bool(value)))

    def ue(self, value: int) -> Self:
        """An unsigned Exp-Golomb code, H.264 section 9.1."""
        width = (value + 1).bit_length()
        return self.u(width - 1, 0).u(width, value + 1)

    def se(self, value: int) -> Self:
        return self.ue(2 * value - 1 if value > 0 else -2 * value)

    def pack(self) -> bytes:
        """The bits as bytes, filled up with zeros."""
        padded = self.bits + "0" * (-len(self.bits) % 8)
        return int("1" + padded, 2).to_bytes(len(padded) // 8 + 1, "big")[1:]

    def rbsp(self) -> bytes:
        """The bits behind which rbsp_trailing_bits() stand, with emulation prevention."""
        return escape(Bits().raw(self.bits + "1").pack())

    def raw(self, bits: str) -> Self:
        self.bits += bits
        return self


def escape(payload: bytes) -> bytes:
    """Put emulation prevention bytes in, H.264 section 7.4.1."""
    out = bytearray()
    zeros = 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)


Write = Callable[[Bits], object]  # writes a part of a parameter set


# -- H.264 -----------------------------------------------------------------------------------------


def h264_sps(
    *,
    number: int = 0,
    profile: int = 100,
    constraints: int = 0,
    level: int = 31,
    chroma: int = 1,
    separate_planes: bool = False,
    depths: tuple[int, int] = (8, 8),
    scaling: Write | None = None,
    order: Write | None = None,
    reference_frames: int = 4,
    macroblocks: tuple[int, int] = (80, 45),
    frame_mbs_only: bool = True,
    crop: tuple[int, int, int, int] | None = None,
    vui: Write | None = None,
) -> bytes:
    """Build a sequence parameter set; `number` is its id, and `crop` left, right, top,
    bottom in crop units."""
    bits = Bits().u(8, profile).u(8, constraints).u(8, level).ue(number)
    if profile in {100, 110, 122, 244, 44, 83, 86, 118, 128}:
        bits.ue(chroma)
        if chroma == 3:
            bits.flag(separate_planes)
        bits.ue(depths[0] - 8).ue(depths[1] - 8).flag(False).flag(scaling)
        if scaling:
            scaling(bits)
    bits.ue(0)
    (order or (lambda b: b.ue(0).ue(4)))(bits)
    bits.ue(reference_frames).flag(False)
    bits.ue(macroblocks[0] - 1).ue(macroblocks[1] - 1).flag(frame_mbs_only)
    if not frame_mbs_only:
        bits.flag(True)
    bits.flag(True).flag(crop)
    for edge in crop or ():
        bits.ue(edge)
    bits.flag(vui)
    if vui:
        vui(bits)
    return b"\x67" + bits.rbsp()


def vui_head(
    bits: Bits,
    *,
    aspect: tuple[int, ...] | None = None,
    overscan: bool = False,
    colour: tuple[int, int, int] | None = None,
    full_range: bool = False,
    signal: bool = False,
    chroma_location: bool = False,
) -> Bits:
    """Write what the VUI of both codecs begins with; `aspect`: an idc, or (255, width, height)."""
    bits.flag(aspect is not None)
    if aspect is not None:
        bits.u(8, aspect[0])
        for side in aspect[1:]:
            bits.u(16, side)
    bits.flag(overscan)
    if overscan:
        bits.flag(True)
    bits.flag(signal or colour)
    if signal or colour:
        bits.u(3, 5).flag(full_range).flag(colour)
        for point in colour or ():
            bits.u(8, point)
    bits.flag(chroma_location)
    if chroma_location:
        bits.ue(1).ue(2)
    return bits


def h264_vui(
    *,
    timing: tuple[int, int] | None = None,
    hrds: int = 0,
    reorder: int | None = None,
    **head: Any,
) -> Write:
    """Write a VUI; `hrds` are 0 to 2 hypothetical reference decoders of 3 buffers each."""

    def write(bits: Bits) -> Bits:
        vui_head(bits, **head).flag(timing)
        if timing:
            bits.u(32, timing[0]).u(32, timing[1]).flag(True)
        for number in range(2):
            bits.flag(number < hrds)
            if number < hrds:
                bits.ue(2).u(8, 0x21)
                for buffer in range(3):
                    bits.ue(7 + buffer).ue(900 + buffer).flag(buffer % 2)
                bits.u(20, 0xABCDE)
        if hrds:
            bits.flag(False)
        bits.flag(True).flag(reorder is not None)
        if reorder is not None:
            bits.flag(True).ue(2).ue(1).ue(15).ue(16).ue(reorder).ue(4)
        return bits

    return write


# -- HEVC ------------------------------------------------------------------------------------------


def hevc_sps(
    *,
    number: int = 0,
    head: bytes = bytes.fromhex("016000000090000000000078"),
    sub_layers: int = 1,
    told_sub_layers: Sequence[tuple[bool, bool]] = (),
    nested: bool = True,
    chroma: int = 1,
    separate_planes: bool = False,
    size: tuple[int, int] = (1280, 720),
    window: tuple[int, int, int, int] | None = None,
    depths: tuple[int, int] = (8, 8),
    reorder: Sequence[int] = (2,),
    scaling: Write | None = None,
    scaling_default: bool = False,
    pcm: bool = False,
    reference_sets: Write | None = None,
    long_term: int | None = None,
    order_bits: int = 8,
    vui: Write | None = None,
) -> bytes:
    """Build a sequence parameter set; `number`: its id; `head`: profile, tier, level (12 bytes)."""
    bits = Bits().u(4, 0).u(3, sub_layers - 1).flag(nested)
    for byte in head:
        bits.u(8, byte)
    told = [*told_sub_layers, *((False, False) for _ in range(sub_layers - 1))][: sub_layers - 1]
    for profile, level in told:
        bits.flag(profile).flag(level)
    if sub_layers > 1:
        bits.u(2 * (9 - sub_layers), 0)
    for profile, level in told:
        for _ in range(11 * profile + level):
            bits.u(8, 0x5A)
    bits.ue(number).ue(chroma)
    if chroma == 3:
        bits.flag(separate_planes)
    bits.ue(size[0]).ue(size[1]).flag(window)
    for edge in window or ():
        bits.ue(edge)
    bits.ue(depths[0] - 8).ue(depths[1] - 8).ue(order_bits - 4)
    bits.flag(len(reorder) > 1)
    for pictures in reorder:
        bits.ue(5).ue(pictures).ue(0)
    for value in (0, 2, 0, 3, 1, 2):
        bits.ue(value)
    bits.flag(scaling or scaling_default)
    if scaling or scaling_default:
        bits.flag(scaling)
    if scaling:
        scaling(bits)
    bits.flag(True).flag(True).flag(pcm)
    if pcm:
        bits.u(4, 7).u(4, 7).ue(0).ue(2).flag(True)
    (reference_sets or (lambda b: b.ue(0)))(bits)
    bits.flag(long_term is not None)
    if long_term is not None:
        bits.ue(long_term)
        for number in range(long_term):
            bits.u(order_bits, number + 1).flag(number % 2)
    bits.flag(True).flag(False).flag(vui)
    if vui:
        vui(bits)
        bits.flag(False)  # sps_extension_present_flag
    return b"\x42\x01" + bits.rbsp()


def hevc_vui(
    *,
    window: bool = False,
    timing: tuple[int, int] | None = None,
    hrd: Write | None = None,
    segmentation: int | None = None,
    **head: Any,
) -> Write:
    """Write a VUI."""

    def write(bits: Bits) -> Bits:
        vui_head(bits, **head).u(3, 0).flag(window)
        if window:
            bits.ue(1).ue(2).ue(3).ue(4)
        bits.flag(timing)
        if timing:
            bits.u(32, timing[0]).u(32, timing[1]).flag(True).ue(1).flag(hrd)
            if hrd:
                hrd(bits)
        bits.flag(segmentation is not None)
        if segmentation is not None:
            bits.u(3, 0).ue(segmentation).ue(2).ue(1).ue(15).ue(15)
        return bits

    return write


# -- encoded pictures ------------------------------------------------------------------------------

_PARAMETERS = {"libx264": "x264-params", "libx265": "x265-params"}


@functools.cache
def encode(
    encoder: str, pixels: str, width: int, height: int, parameters: str, count: int = 6
) -> tuple[bytes, ...]:
    """Encode black pictures with x264 or x265, and return the access units in Annex B."""
    context = av.CodecContext.create(encoder, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, pixels
    context.framerate, context.time_base = Fraction(25), Fraction(1, 25)
    context.thread_count = 1
    if encoder == "libx265":
        parameters = f"log-level=error:pools=none:frame-threads=1:{parameters}".rstrip(":")
    context.options = {"preset": "ultrafast", _PARAMETERS[encoder]: parameters}
    packets: list[av.Packet[Any]] = []
    for number in range(count):
        frame = VideoFrame(width, height, pixels)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.pts, frame.time_base = number, Fraction(1, 25)
        packets += context.encode(frame)
    packets += context.encode(None)
    return tuple(bytes(packet) for packet in packets)


def probe(codec: str, data: bytes) -> VideoCodecContext:
    """Return what libavformat and a decoder find in a raw stream of H.264 or HEVC."""
    with av.open(io.BytesIO(data), "r", format=codec) as container:
        return container.streams.video[0].codec_context


# -- audio frames ----------------------------------------------------------------------------------


def adts_frame(
    payload: bytes,
    *,
    profile: int = 1,
    rate: int = 3,
    channels: int = 2,
    crc: bool = False,
    blocks: int = 1,
    size: int | None = None,
) -> bytes:
    """Build an ADTS frame, ISO/IEC 14496-3 section 1.A.2.2."""
    head = 9 if crc else 7
    bits = Bits().u(12, 0xFFF).u(1, 0).u(2, 0).flag(not crc)
    bits.u(2, profile).u(4, rate).flag(False).u(3, channels).u(4, 0)
    bits.u(13, head + len(payload) if size is None else size).u(11, 0x7FF).u(2, blocks - 1)
    return bits.pack() + (b"\xab\xcd" if crc else b"") + payload


def ac3_frame(
    *, rate: int = 0, size_code: int = 20, version: int = 8, service: int = 0, mode: int = 2,
    lfe: int = 0, size: int = 64,
) -> bytes:  # fmt: skip
    """Build the head of an AC-3 frame and fill it up, ETSI TS 102 366 section 4.3."""
    bits = Bits().u(16, 0x0B77).u(16, 0x1234).u(2, rate).u(6, size_code)
    bits.u(5, version).u(3, service).u(3, mode)
    if mode & 1 and mode != 1:
        bits.u(2, 1)
    if mode & 4:
        bits.u(2, 2)
    if mode == 2:
        bits.u(2, 3)
    return bits.u(1, lfe).pack().ljust(size, b"\x55")


def eac3_frame(
    *, stream_type: int = 0, substream: int = 0, size: int = 64, rate: int = 0, blocks: int = 3,
    mode: int = 2, lfe: int = 0, version: int = 16, compress: bool = False,
    channel_map: int | None = None, rest: Write | None = None,
) -> bytes:  # fmt: skip
    """Build an E-AC-3 syncframe, ETSI TS 102 366 section E.1.2: `rest` writes from mixmdate on."""
    bits = Bits().u(16, 0x0B77).u(2, stream_type).u(3, substream).u(11, size // 2 - 1)
    bits.u(2, rate).u(2, blocks).u(3, mode).u(1, lfe).u(5, version)
    for _ in range(2 if mode == 0 else 1):
        bits.u(5, 27).flag(compress)
        if compress:
            bits.u(8, 0x99)
    if stream_type == 1:
        bits.flag(channel_map is not None)
        if channel_map is not None:
            bits.u(16, channel_map)
    if rest is None:
        bits.u(3 if stream_type == 0 else 8, 0)
    else:
        rest(bits)
    return bits.pack().ljust(size, b"\0")


def mp3_frame(
    *, version: int = 3, layer: int = 1, bitrate: int = 9, rate: int = 0, mode: int = 0
) -> bytes:
    """Build the head of a frame of MPEG audio, ISO/IEC 11172-3 section 2.4.1.3."""
    bits = Bits().u(11, 0x7FF).u(2, version).u(2, layer).flag(True)
    return bits.u(4, bitrate).u(2, rate).u(2, 0).u(2, mode).u(6, 0).pack() + bytes(60)


def first_packet(codec: str, audio: Audio) -> bytes:
    """Return the first packet of a track, as libavformat cuts it."""
    clip = make_clip(video=None, audio=(audio,), seconds=0.2)
    with av.open(io.BytesIO(clip.data), "r", format="mpegts") as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.name == codec or codec == "mp3"
        return next(bytes(packet) for packet in container.demux(stream) if packet.size)


@functools.cache
def movie_init() -> bytes:
    """Return the start of an MP4 as libavformat writes it: H.264 and AAC, no samples."""
    sink = io.BytesIO()
    options = {"movflags": "frag_keyframe+empty_moov"}
    with av.open(sink, "w", format="mp4", options=options) as container:
        picture = container.add_stream("libx264", rate=25)
        picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
        container.add_stream("aac", rate=48_000)
        container.start_encoding()
    return sink.getvalue()


# -- worker threads --------------------------------------------------------------------------------

GUARD_S = 20.0  # against hanging; nothing waits so long


class Worker:
    """Runs one function on a thread, as a worker runs: holding the gate.  An exception comes out
    of `result`."""

    def __init__(self, gate: TurnGate, work: Callable[[], Any]) -> None:
        self._gate = gate
        self._work = work
        self._began = threading.Event()
        self._outcome: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._gate:
                self._began.set()
                result = self._work()
        except BaseException as error:  # noqa: BLE001 - comes out of `result`
            self._outcome.set_exception(error)
        else:
            self._outcome.set_result(result)

    @property
    def is_done(self) -> bool:
        return self._outcome.done()

    async def result(self) -> Any:
        """Wait for its end on the event loop."""
        return await asyncio.wait_for(asyncio.wrap_future(self._outcome), GUARD_S)

    async def waits(self) -> None:
        """Return when it has begun and let go of the gate: it waits for something, or is done."""
        assert await asyncio.to_thread(self._began.wait, GUARD_S)
        await passed(self._gate)


async def passed(gate: TurnGate) -> None:
    """Return when the gate was free for a moment."""

    def pass_through() -> None:
        with gate:
            pass

    await asyncio.wait_for(asyncio.to_thread(pass_through), GUARD_S)
