"""The judge of a remux: says where an MP4 is not what its source was.

`judge(source, output)` reads the source (MPEG-TS segments of one timeline) with PyAV and the output
with `boxes` and, again, with PyAV, and returns a `Report` of named findings; none means: the same
packets in the same order at the same times, in an MP4 that players take.  `assert_faithful` raises
with the list.  The names:

    broken_box        the output is not whole, or inconsistent (nothing else is judged then)
    track_missing  track_extra  sample_entry  config
    packet_missing  packet_extra  packet_order  payload  parameter_sets
    timing            a packet against the first of its track, more than 1 ms
    offset            the tracks against each other, more than 1 ms
    start             the earliest presentation time is not 0, by more than 1 ms
    dts  pts_below_dts
    overlap           a sample begins more than 1 ms before the one in front of it ends
    sync              keyframes are not marked, or others are
    fragment          a keyframe is not the first picture of its fragment, or none comes first
    readers_disagree  PyAV reads other samples or times than `boxes`
    decode            PyAV or the ffmpeg command complain about the output, not about the source
    skipped_video     not as many pictures were left out as the caller was told

Two things may be missing: pictures in front of the first random access point, and HEVC's RASL
pictures behind a leading CRA.  `compare` is for those who know otherwise what to expect.
"""

import hashlib
import io
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av

from tests.support import boxes, elementary
from tests.support.box_tree import BoxError
from tests.support.expected import (
    Expected,
    Packet,
    config_sets,
    expect,
    found,
    seconds,
    sets_in_force,
)

TOLERANCE_S = Fraction(1, 1000)
_SHOWN = 3  # findings of one kind that are told one by one

# codec → the sample entries that say so
_ENTRIES = {
    "h264": {"avc1"},
    "hevc": {"hvc1"},
    "aac": {"mp4a"},
    "mp3": {"mp4a"},
    "ac3": {"ac-3"},
    "eac3": {"ec-3"},
    "opus": {"Opus"},
    "flac": {"fLaC"},
    "av1": {"av01"},
}
_MP3_OBJECT_TYPES = {0x69, 0x6B}  # MPEG-2 (below 32 kHz) and MPEG-1, 14496-1 table 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One way in which the output is not faithful."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the judge found, and what it had to leave out of its judgement (`notes`)."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    skipped_video: int  # pictures of the source that need not be there
    packets: dict[str, int]  # kind → packets expected

    @property
    def names(self) -> set[str]:
        return {finding.name for finding in self.findings}


def judge(
    source: bytes | Sequence[bytes],
    output: bytes,
    *,
    video: bool = True,
    audio: int | None = 0,
    skipped_video: int | None = None,
    decode: bool = True,
) -> Report:
    """Compare an output with its source.

    `video` and `audio` (the number of the audio track among those that are not silent, None: no
    audio) say what was asked for; tracks that the source lacks are not expected.  `skipped_video`
    is the number of pictures that the remuxer says it left out.  Without `decode` nothing is
    decoded, which is faster.
    """
    data = source if isinstance(source, bytes) else b"".join(source)
    return compare(
        expect(data, video=video, audio=audio),
        output,
        skipped_video=skipped_video,
        decodes_like=data if decode else None,
    )


def assert_faithful(source: bytes | Sequence[bytes], output: bytes, **wishes: Any) -> Report:
    """Judge as `judge` does, and raise AssertionError with the findings if there are any."""
    report = judge(source, output, **wishes)
    if report.findings:
        lines = [f"{finding.name}: {finding.text}" for finding in report.findings]
        raise AssertionError("the output is not faithful\n  " + "\n  ".join(lines))
    return report


# -- the comparison --------------------------------------------------------------------------------


def compare(
    expected: Sequence[Expected],
    output: bytes,
    *,
    skipped_video: int | None = None,
    decodes_like: bytes | None = None,
) -> Report:
    """Compare an output with what is expected; `decodes_like` are the bytes of the source."""
    notes: list[str] = []
    skipped = sum(track.skipped for track in expected)
    try:
        movie = boxes.read(output)
        findings = list(_compare(expected, movie))
    except BoxError as error:
        findings = [Finding("broken_box", str(error))]
    else:
        findings += _read_again(movie, output)
        if decodes_like is not None:
            findings += _decode(output, decodes_like, notes)
    if skipped_video is not None and skipped_video != skipped:
        findings.append(Finding("skipped_video", f"{skipped_video} told, {skipped} expected"))
    return Report(
        findings=tuple(findings),
        notes=tuple(notes),
        skipped_video=skipped,
        packets={track.kind: len(track.packets) for track in expected},
    )


@dataclass(frozen=True, slots=True)
class _Pair:
    """A packet of the source and what stands for it in the output."""

    number: int
    wanted: Packet
    got: Packet


def _compare(expected: Sequence[Expected], movie: boxes.Movie) -> Iterator[Finding]:
    handlers = {"video": "vide", "audio": "soun"}
    wanted = Counter(handlers[track.kind] for track in expected)
    there = Counter(track.handler for track in movie.tracks)
    for handler in (wanted - there).elements():
        yield Finding("track_missing", f"no track of type {handler}")
    for handler in (there - wanted).elements():
        yield Finding("track_extra", f"a track of type {handler} that nobody asked for")
    begins: list[tuple[Expected, Fraction]] = []  # how far each track was moved
    earliest: list[Fraction] = []
    for one in expected:
        handler = handlers[one.kind]
        if there[handler] != 1:
            continue
        track = movie.track(handler)
        try:
            packets = found(one, track, movie.samples(track))
        except ValueError as error:
            yield Finding("config", f"{one.kind}: {error}")
            continue
        yield from _check_entry(one, track)
        yield from _check_samples(one, track, movie.samples(track))
        pairs, differences = _align(one, packets)
        yield from differences
        yield from _check_timing(one, pairs)
        if one.kind == "video":
            yield from _check_pictures(one, track, packets, pairs)
        earliest += [packet.time_s for packet in packets if packet.time_s is not None]
        begins += [(one, moved) for moved in _moved(pairs[:1])]
    if earliest and abs(min(earliest)) > TOLERANCE_S:
        yield Finding("start", f"the earliest presentation time is {_ms(min(earliest))}")
    for one, moved in begins[1:]:
        apart = moved - begins[0][1]
        if abs(apart) > TOLERANCE_S:
            text = f"{one.kind} is {_ms(apart)} late against {begins[0][0].kind}"
            yield Finding("offset", text)


def _align(one: Expected, got: Sequence[Packet]) -> tuple[list[_Pair], list[Finding]]:
    """Pair the packets that stand for each other, and say what is wrong with the others."""
    wanted = one.packets
    ours = [hashlib.sha256(packet.payload).digest() for packet in wanted]
    theirs = [hashlib.sha256(packet.payload).digest() for packet in got]
    if ours == theirs:
        pairs = zip(wanted, got, strict=True)
        return [_Pair(number, *pair) for number, pair in enumerate(pairs)], []
    # ETSI TS 102 366 annex F: an E-AC-3 sample holds six blocks, which may be several frames
    if one.codec == "eac3" and _joined(wanted) == _joined(got):
        begun = dict(zip(_positions(got), got, strict=True))
        places = enumerate(zip(_positions(wanted), wanted, strict=True))
        return [_Pair(n, packet, begun[at]) for n, (at, packet) in places if at in begun], []
    head = 0
    while head < min(len(ours), len(theirs)) and ours[head] == theirs[head]:
        head += 1
    tail = 0
    while tail < min(len(ours), len(theirs)) - head and ours[-1 - tail] == theirs[-1 - tail]:
        tail += 1
    aligned = [_Pair(n, wanted[n], got[n]) for n in range(head)]
    shift = len(theirs) - len(ours)
    aligned += [_Pair(n, wanted[n], got[n + shift]) for n in range(len(ours) - tail, len(ours))]
    middle, other = ours[head : len(ours) - tail], theirs[head : len(theirs) - tail]
    missing = (Counter(middle) - Counter(other)).total()
    extra = (Counter(other) - Counter(middle)).total()
    where = f"{one.kind} from packet {head} of {len(ours)} on"
    if not missing and not extra:
        return aligned, [Finding("packet_order", f"{where}: the order is another")]
    if len(middle) == len(other):
        return aligned, [Finding("payload", f"{where}: {missing} packets have other bytes")]
    out = []
    if missing:
        out.append(Finding("packet_missing", f"{where}: {missing} packets are not there"))
    if extra:
        out.append(Finding("packet_extra", f"{where}: {extra} packets are not of the source"))
    return aligned, out


def _joined(packets: Iterable[Packet]) -> bytes:
    return b"".join(packet.payload for packet in packets)


def _positions(packets: Iterable[Packet]) -> Iterator[int]:
    at = 0
    for packet in packets:
        yield at
        at += len(packet.payload)


def _moved(pairs: Iterable[_Pair]) -> Iterator[Fraction]:
    for pair in pairs:
        if pair.wanted.time_s is not None and pair.got.time_s is not None:
            yield pair.got.time_s - pair.wanted.time_s


def _check_timing(one: Expected, pairs: Sequence[_Pair]) -> Iterator[Finding]:
    timed = [(pair.number, moved) for pair in pairs for moved in _moved([pair])]
    wrong = [(n, moved - timed[0][1]) for n, moved in timed]
    wrong = [(n, late) for n, late in wrong if abs(late) > TOLERANCE_S]
    for number, late in wrong[:_SHOWN]:
        text = f"{one.kind} packet {number} is {_ms(late)} late against the first"
        yield Finding("timing", text)
    if len(wrong) > _SHOWN:
        yield Finding("timing", f"and {len(wrong) - _SHOWN} more packets of {one.kind}")


def _ms(seconds: Fraction) -> str:
    return f"{float(seconds * 1000):.3f} ms"


# -- tracks ----------------------------------------------------------------------------------------


def _check_entry(one: Expected, track: boxes.Track) -> Iterator[Finding]:
    entry = track.entry
    if entry.kind not in _ENTRIES.get(one.codec, set()):
        yield Finding("sample_entry", f"{one.codec} as {entry.kind!r}")
        return
    if not entry.config:
        yield Finding("config", f"{entry.kind} has no decoder configuration")
        return
    if entry.kind != "mp4a":
        return
    try:
        esds = elementary.read_esds(entry.config)
        if one.codec == "mp3":
            if esds.object_type not in _MP3_OBJECT_TYPES:
                yield Finding("config", f"MP3 with object type {esds.object_type:#x}")
        elif esds.object_type != 0x40 or not esds.specific:
            yield Finding("config", "the AAC track has no AudioSpecificConfig")
        elif (told := elementary.read_audio_specific_config(esds.specific)) != one.aac:
            yield Finding("config", f"AAC is configured as {told}, its frames say {one.aac}")
    except ValueError as error:
        yield Finding("config", str(error))


def _check_samples(
    one: Expected, track: boxes.Track, samples: Sequence[boxes.Sample]
) -> Iterator[Finding]:
    behind = [n for n, sample in enumerate(samples) if sample.composition_offset < 0]
    if behind:
        text = f"{len(behind)} packets of {one.kind}, first {behind[0]}"
        yield Finding("pts_below_dts", text)
    following = list(pairwise(samples))
    stuck = [n for n, (a, b) in enumerate(following, 1) if b.decode_time <= a.decode_time]
    if stuck:
        text = f"{len(stuck)} packets of {one.kind} not behind the one before, first {stuck[0]}"
        yield Finding("dts", text)
    over = [
        n
        for n, (a, b) in enumerate(following, 1)
        if Fraction(a.decode_time + a.duration - b.decode_time, track.timescale) > TOLERANCE_S
    ]
    if over:
        text = f"{len(over)} packets of {one.kind} begin before the last ends, first {over[0]}"
        yield Finding("overlap", text)
    if one.kind == "video":
        inside = [n for n, sample in enumerate(samples) if sample.sync and not sample.first]
        if inside:
            text = f"{len(inside)} keyframes are not first in their fragment, e.g. {inside[0]}"
            yield Finding("fragment", text)
        if samples and not samples[0].sync:
            yield Finding("fragment", "the first picture is no keyframe")


def _check_pictures(
    one: Expected, track: boxes.Track, packets: Sequence[Packet], pairs: Sequence[_Pair]
) -> Iterator[Finding]:
    wrong = [pair.number for pair in pairs if pair.wanted.key != pair.got.key]
    if wrong:
        yield Finding("sync", f"{len(wrong)} pictures are marked wrongly, first {wrong[0]}")
    if one.codec not in elementary.IGNORED:
        return
    # What counts is what is in force at each picture, whether it came in-band or in the avcC.
    _, configured = config_sets(one.codec, track)
    ours = list(sets_in_force(one.codec, one.sets, [pair.wanted for pair in pairs]))
    numbers = {id(packet): n for n, packet in enumerate(packets)}
    theirs = list(sets_in_force(one.codec, configured, packets))
    lost = [
        pair.number
        for pair, wanted in zip(pairs, ours, strict=True)
        if not wanted.items() <= theirs[numbers[id(pair.got)]].items()
    ]
    if lost:
        yield Finding("parameter_sets", f"{len(lost)} pictures have other ones, first {lost[0]}")


# -- other readers ---------------------------------------------------------------------------------


def _read_again(movie: boxes.Movie, output: bytes) -> Iterator[Finding]:
    """Whether PyAV finds the same samples at the same times."""
    read: dict[int, list[tuple[bytes, Fraction | None]]] = {}
    kinds = {"vide": "video", "soun": "audio"}
    try:
        with av.open(io.BytesIO(output), "r", format="mp4") as container:
            order = [stream.type for stream in container.streams]
            for packet in container.demux():
                if packet.size:
                    own = read.setdefault(packet.stream.index, [])
                    own.append((bytes(packet), seconds(packet)))
    except av.FFmpegError as error:
        yield Finding("readers_disagree", f"PyAV cannot read the output: {error}")
        return
    if order != [kinds.get(track.handler, "data") for track in movie.tracks]:
        yield Finding("readers_disagree", f"PyAV finds the tracks {order}")
        return
    for index, track in enumerate(movie.tracks):
        ours = [
            (sample.data, track.seconds(sample.composition_time)) for sample in movie.samples(track)
        ]
        theirs = read.get(index, [])
        if [data for data, _ in ours] != [data for data, _ in theirs]:
            text = f"{order[index]}: {len(ours)} samples, PyAV reads {len(theirs)} or other ones"
            yield Finding("readers_disagree", text)
            continue
        times = zip(ours, theirs, strict=True)
        if any(b is None or abs(a - b) > TOLERANCE_S for (_, a), (_, b) in times):
            yield Finding("readers_disagree", f"{order[index]}: PyAV reads other times")


def _decode(output: bytes, source: bytes, notes: list[str]) -> Iterator[Finding]:
    """Whether the output decodes in silence, or with no more noise than its source."""
    try:
        with av.open(io.BytesIO(output), "r", format="mp4") as container:
            for packet in container.demux():
                packet.decode()
    except av.FFmpegError as error:
        yield Finding("decode", f"PyAV: {error}")
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        notes.append("there is no ffmpeg command: decoded with PyAV only")
        if os.environ.get("REMUXD_TEST_REQUIRE_ALL") == "1":
            yield Finding("decode", "REMUXD_TEST_REQUIRE_ALL=1, and there is no ffmpeg command")
        return
    noise = _noise(ffmpeg, output)
    if not noise:
        return
    before = _noise(ffmpeg, source)
    if len(noise) > len(before):
        yield Finding("decode", f"ffmpeg, {len(noise)} lines: {noise[0]}")
    else:
        notes.append(f"ffmpeg complains about the source too: {before[0]}")


def _noise(ffmpeg: str, data: bytes) -> list[str]:
    command = [ffmpeg, "-v", "error", "-i", "pipe:0", "-f", "null", "-"]
    done = subprocess.run(command, input=data, capture_output=True, check=False, timeout=60)
    lines = done.stderr.decode(errors="replace").splitlines()
    return lines or ([f"exit code {done.returncode}"] if done.returncode else [])
