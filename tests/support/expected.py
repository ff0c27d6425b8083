"""The packets of a source, and of an output, in one form in which they can be compared.

`expect` demuxes a source (MPEG-TS, packed audio or a fragmented MP4, in memory) with PyAV and says
which tracks, packets and times its remux should have; `found` says the same of a track of an MP4.
What a muxer may add, move or drop (delimiters, filler, parameter sets, ADTS headers) is not in the
payloads; parameter sets stand beside them.
"""

from __future__ import annotations  # av.Packet takes type arguments only in its stub

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av

from tests.support import boxes, elementary
from tests.support.elementary import AacConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A packet or sample in the form in which both sides can be compared."""

    payload: bytes = field(repr=False)  # without what a muxer may add or take away
    time_s: Fraction | None  # presentation; None where the source does not tell
    key: bool
    sets: tuple[bytes, ...] = field(repr=False, default=())  # in-band parameter sets
    kinds: frozenset[int] = frozenset()  # of its NAL units


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A track as the output should have it."""

    kind: str  # video, audio
    codec: str  # FFmpeg's name
    packets: tuple[Packet, ...] = field(repr=False)
    skipped: int = 0  # packets in front that may not be there
    sets: tuple[bytes, ...] = field(repr=False, default=())  # in force when it begins
    aac: AacConfig | None = None


# -- the source -----------------------------------------------------------------------------------


def expect(
    data: bytes,
    *,
    video: bool = True,
    audio: int | None = 0,
    format: str | None = None,  # noqa: A002 - libavformat's word
) -> tuple[Expected, ...]:
    """Read a source, and say which tracks its output should have.

    `format` is libavformat's name where the bytes alone do not tell.
    """
    tracks: list[Expected] = []
    with _open(data, format) as container:
        raw: dict[int, list[av.Packet[Any]]] = {}
        for packet in container.demux():
            if packet.size:
                raw.setdefault(packet.stream.index, []).append(packet)
        alive = [stream for stream in container.streams if stream.index in raw]
        pictures = [stream for stream in alive if stream.type == "video"]
        sounds = [stream for stream in alive if stream.type == "audio"]
        if video and pictures:
            config = _config(pictures[0])
            tracks.append(_expect_video(_codec(pictures[0]), raw[pictures[0].index], config))
        if audio is not None and sounds:
            if audio >= len(sounds):
                raise ValueError(f"the source has {len(sounds)} audio tracks that are not silent")
            config = _config(sounds[audio])
            tracks.append(_expect_audio(_codec(sounds[audio]), raw[sounds[audio].index], config))
    return tuple(tracks)


def _open(data: bytes, known: str | None) -> Any:
    # Everything is in memory: probe far, so that a stream that starts late is known before its
    # first packet comes, and nothing is left without a timestamp.
    options = {"probesize": str(max(len(data), 5_000_000)), "analyzeduration": "120000000"}
    packed = b"\x47" in data[:1000] and data[4:8] not in (b"ftyp", b"styp")
    known = known or ("mpegts" if packed else None)
    return av.open(io.BytesIO(data), "r", format=known, options=options)


def _config(stream: Any) -> bytes:
    """The extradata; empty where PyAV does not know the codec."""
    context = stream.codec_context
    return b"" if context is None else bytes(context.extradata or b"")


def _codec(stream: Any) -> str:
    if stream.codec_context is None:
        raise ValueError(f"stream {stream.index} has a codec that PyAV does not know")
    return str(stream.codec_context.codec.canonical_name)


def _expect_video(codec: str, raw: Sequence[av.Packet[Any]], config: bytes) -> Expected:
    packets: list[Packet] = []
    length_bytes = 0
    configured: list[bytes] = []
    if codec in elementary.IGNORED and config[:1] == b"\x01":  # a configuration record: an MP4
        read = elementary.read_avcc if codec == "h264" else elementary.read_hvcc
        length_bytes, configured = read(config)
    for packet in raw:
        key = packet.is_keyframe
        if codec not in elementary.IGNORED:
            packets.append(Packet(payload=bytes(packet), time_s=seconds(packet), key=key))
            continue
        data = bytes(packet)
        units = list(
            elementary.split_lengths(data, length_bytes)
            if length_bytes
            else elementary.split_start_codes(data)
        )
        kinds = frozenset(elementary.unit_type(codec, unit) for unit in units)
        if codec == "hevc":
            key = bool(kinds & elementary.IRAP)
        packets.append(_picture(codec, units, key, seconds(packet)))
    first = next((n for n, packet in enumerate(packets) if packet.key), 0)
    kept = packets[first:]
    # 8.1.3 of H.265: the RASL pictures of a CRA that comes first are not decodable, nor shown
    if codec == "hevc" and kept and kept[0].kinds & elementary.CRA_OR_BLA:
        second = next((n for n, packet in enumerate(kept) if n and packet.key), len(kept))
        leading = [packet for packet in kept[1:second] if not packet.kinds & elementary.RASL]
        kept = [kept[0], *leading, *kept[second:]]
    early = (*configured, *(unit for packet in packets[:first] for unit in packet.sets))
    return Expected(
        kind="video",
        codec=codec,
        packets=tuple(kept),
        skipped=len(packets) - len(kept),
        sets=early,
    )


def _picture(codec: str, units: Sequence[bytes], key: bool, time_s: Fraction | None) -> Packet:
    ignored, sets = elementary.IGNORED[codec], elementary.PARAMETER_SETS[codec]
    kinds = [elementary.unit_type(codec, unit) for unit in units]
    kept = [unit for unit, kind in zip(units, kinds, strict=True) if kind not in ignored]
    return Packet(
        payload=b"".join(len(unit).to_bytes(4, "big") + unit for unit in kept),
        time_s=time_s,
        key=key,
        sets=tuple(unit for unit, kind in zip(units, kinds, strict=True) if kind in sets),
        kinds=frozenset(kinds),
    )


def _expect_audio(codec: str, raw: Sequence[av.Packet[Any]], described: bytes) -> Expected:
    packets: list[Packet] = []
    config: AacConfig | None = None
    framed = codec == "aac" and elementary.is_adts(bytes(raw[0]))
    if codec == "aac" and not framed:
        config = elementary.read_audio_specific_config(described)
    for packet, time_s in zip(raw, _filled_times(raw), strict=True):
        if not framed:
            packets.append(Packet(payload=bytes(packet), time_s=time_s, key=True))
            continue
        for number, (found, block) in enumerate(elementary.split_adts(bytes(packet))):
            config = config or found
            later = None if time_s is None else time_s + number * Fraction(1024, found.sample_rate)
            packets.append(Packet(payload=block, time_s=later, key=True))
    return Expected(kind="audio", codec=codec, packets=tuple(packets), aac=config)


def _filled_times(raw: Sequence[av.Packet[Any]]) -> list[Fraction | None]:
    """Presentation times; where some are missing, from their neighbours and the durations."""
    times = [seconds(packet) for packet in raw]
    lasts = [packet.duration * packet.time_base if packet.duration else None for packet in raw]
    for at in range(1, len(times)):
        before, last = times[at - 1], lasts[at - 1]
        if times[at] is None and before is not None and last is not None:
            times[at] = before + last
    for at in range(len(times) - 2, -1, -1):
        after, last = times[at + 1], lasts[at]
        if times[at] is None and after is not None and last is not None:
            times[at] = after - last
    return times


def seconds(packet: av.Packet[Any]) -> Fraction | None:
    """Return the presentation time of a PyAV packet."""
    return None if packet.pts is None else Fraction(packet.pts * packet.time_base)


# -- the output -----------------------------------------------------------------------------------


def found(one: Expected, track: boxes.Track, samples: Sequence[boxes.Sample]) -> list[Packet]:
    """Return the samples of a track as packets.  Raises ValueError on a broken configuration."""
    length_bytes = 0
    if one.codec in elementary.IGNORED:
        length_bytes, _ = config_sets(one.codec, track)
    packets: list[Packet] = []
    for sample in samples:
        time_s = track.seconds(sample.composition_time)
        if length_bytes:
            units = list(elementary.split_lengths(sample.data, length_bytes))
            packets.append(_picture(one.codec, units, sample.sync, time_s))
        else:
            packets.append(Packet(payload=sample.data, time_s=time_s, key=sample.sync))
    return packets


def config_sets(codec: str, track: boxes.Track) -> tuple[int, list[bytes]]:
    """Return the size of the lengths and the parameter sets of an avcC or hvcC."""
    if codec == "h264":
        return elementary.read_avcc(track.entry.config)
    return elementary.read_hvcc(track.entry.config)


def sets_in_force(
    codec: str, begin: Iterable[bytes], packets: Iterable[Packet]
) -> Iterator[dict[tuple[int, int], bytes]]:
    """The parameter sets, by type and id, with which each picture is decoded."""
    force = {elementary.set_key(codec, unit): unit for unit in begin}
    for packet in packets:
        if packet.sets:
            force = {**force, **{elementary.set_key(codec, unit): unit for unit in packet.sets}}
        yield force
