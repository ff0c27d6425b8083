"""ISO BMFF boxes, written: sample entries, the init segment, and the moof of a fragment.

Why not libavformat's muxer: it deletes the parameter sets inside `hvc1` samples, cuts fragments
where its options say and not where a GOP starts, holds packets back to interleave them, and its
hvcC writer has a published overflow on crafted input (CVE-2026-75141).  What is left without it is
small: numbers and lengths, from ISO/IEC 14496-12, -14 and -15 and ETSI TS 102 366 annex F.

Pure functions: values in, bytes out.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from proxy.media.audio_format import AudioFormat
from proxy.media.nal import LENGTH_SIZE, BitstreamError
from proxy.media.parameters import HevcSequence, PictureFormat

_MATRIX = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_MOVIE_TIMESCALE = 1000

SYNC_SAMPLE = 0x02000000  # sample_depends_on = 2: on no other
DEPENDENT_SAMPLE = 0x01010000  # sample_depends_on = 1, sample_is_non_sync_sample


def box(kind: bytes, *parts: bytes) -> bytes:
    """Return a box of these contents."""
    return b"".join((struct.pack(">I", 8 + sum(map(len, parts))), kind, *parts))


def full_box(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


# -- sample entries --------------------------------------------------------------------------------


def _units(units: Sequence[bytes]) -> bytes:
    if max(map(len, units)) > 0xFFFF:
        raise BitstreamError("a parameter set of more than 65,535 bytes")
    return b"".join(struct.pack(">H", len(unit)) + unit for unit in units)


def avcc(sps: Sequence[bytes], pps: Sequence[bytes], picture: PictureFormat) -> bytes:
    """Return an AVCDecoderConfigurationRecord (14496-15 section 5.3.3.1), without its box.

    Raises:
        BitstreamError: a set is too large for it.
    """
    first = sps[0]
    record = struct.pack(
        ">B3sBB", 1, first[1:4], 0xFC | (LENGTH_SIZE - 1), 0xE0 | min(len(sps), 31)
    )
    record += _units(sps[:31])
    record += bytes([min(len(pps), 255)])
    record += _units(pps[:255])
    if first[1] not in {66, 77, 88}:
        record += bytes(
            (
                0xFC | picture.chroma_format_idc,
                0xF8 | (picture.bit_depth_luma - 8),
                0xF8 | (picture.bit_depth_chroma - 8),
                0,
            )
        )
    return record


def hvcc(
    vps: Sequence[bytes], sps: Sequence[bytes], pps: Sequence[bytes], sequence: HevcSequence
) -> bytes:
    """Return an HEVCDecoderConfigurationRecord (14496-15 section 8.3.3.1), without its box.

    Raises:
        BitstreamError: a set is too large for it.
    """
    picture = sequence.picture
    record = struct.pack(
        ">B12sHBBBBHBB",
        1,
        sequence.profile_tier_level,
        0xF000 | sequence.min_spatial_segmentation,
        0xFC,  # parallelismType: unknown
        0xFC | picture.chroma_format_idc,
        0xF8 | (picture.bit_depth_luma - 8),
        0xF8 | (picture.bit_depth_chroma - 8),
        0,  # avgFrameRate: unspecified
        sequence.temporal_layers << 3 | sequence.temporal_id_nested << 2 | (LENGTH_SIZE - 1),
        3,
    )
    # array_completeness is 0: more sets may stand in the samples, and are kept there.
    for kind, units in ((32, vps), (33, sps), (34, pps)):
        record += struct.pack(">BH", kind, len(units)) + _units(units)
    return record


def video_entry(kind: bytes, configuration: bytes, picture: PictureFormat) -> bytes:
    """Return a VisualSampleEntry; `configuration` is a whole box, as `avcC` or `hvcC`."""
    extra = b""
    colour = picture.colour
    if colour is not None:
        extra += box(
            b"colr",
            b"nclx",
            struct.pack(
                ">HHHB", colour.primaries, colour.transfer, colour.matrix, colour.full_range << 7
            ),
        )
    if picture.sample_aspect_ratio is not None:
        extra += box(b"pasp", struct.pack(">II", *picture.sample_aspect_ratio))
    return box(
        kind,
        struct.pack(">6xH16x", 1),
        struct.pack(">HHIIIH", picture.width, picture.height, 0x480000, 0x480000, 0, 1),
        bytes(32),
        struct.pack(">Hh", 24, -1),
        configuration,
        extra,
    )


def _descriptor(tag: int, *parts: bytes) -> bytes:
    """Return a descriptor (14496-1 section 8.3.3), its size in four bytes as everybody writes."""
    size = sum(map(len, parts))
    length = bytes(0x80 | (size >> shift) & 0x7F for shift in (21, 14, 7)) + bytes([size & 0x7F])
    return b"".join((bytes([tag]), length, *parts))


def _esds(audio: AudioFormat) -> bytes:
    object_type = {"mp4a.6B": 0x6B, "mp4a.69": 0x69}.get(audio.rfc6381, 0x40)
    specific = _descriptor(5, audio.config) if audio.config else b""
    decoder = _descriptor(4, struct.pack(">BB3xII", object_type, 0x15, 0, 0), specific)
    return full_box(b"esds", 0, 0, _descriptor(3, b"\0\1\0", decoder, _descriptor(6, b"\2")))


def audio_entry(audio: AudioFormat) -> bytes:
    """Return an AudioSampleEntry."""
    match audio.codec:
        case "ac3":
            kind, configuration = b"ac-3", box(b"dac3", audio.config)
        case "eac3":
            kind, configuration = b"ec-3", box(b"dec3", audio.config)
        case "opus":
            kind, configuration = b"Opus", box(b"dOps", audio.config)
        case "flac":
            kind, configuration = b"fLaC", box(b"dfLa", audio.config)
        case _:
            kind, configuration = b"mp4a", _esds(audio)
    # 16.16 fixed point: rates of 65,536 Hz and more stand in the codec's own configuration only.
    rate = audio.sample_rate << 16 if audio.sample_rate < 1 << 16 else 0
    return box(
        kind,
        struct.pack(">6xH8xHHHHI", 1, audio.channels, 16, 0, 0, rate),
        configuration,
    )


# -- init segment ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackBox:
    """What a `trak` says of a track."""

    track_id: int
    timescale: int  # ticks per second
    sample_entry: bytes
    media_start: int  # decode time that is presented first, in ticks: the edit list
    duration: int = 0  # ticks; 0: unknown
    language: str | None = None  # ISO 639-2/T
    picture: PictureFormat | None = None  # None: audio


def _language_code(language: str | None) -> int:
    letters = (language or "und").lower()
    if len(letters) != 3 or not all("a" <= letter <= "z" for letter in letters):
        letters = "und"
    first, second, third = (ord(letter) - 0x60 for letter in letters)
    return first << 10 | second << 5 | third


def _track(track: TrackBox) -> bytes:
    picture = track.picture
    width = height = 0
    if picture is not None:
        across, down = picture.sample_aspect_ratio or (1, 1)
        width = min((picture.width << 16) * across // down, 0xFFFFFFFF)
        height = picture.height << 16
    movie_duration = track.duration * _MOVIE_TIMESCALE // track.timescale
    header = full_box(
        b"tkhd",
        0,
        3,  # enabled, in movie
        struct.pack(">IIIII", 0, 0, track.track_id, 0, min(movie_duration, 0xFFFFFFFF)),
        struct.pack(">8xhhhH", 0, 0 if picture else 1, 0 if picture else 0x100, 0),
        _MATRIX,
        struct.pack(">II", width, height),
    )
    edits = b""
    if track.media_start:
        # A duration of 0 goes on through all fragments (section 8.6.6.1).
        edit = struct.pack(">QqI", 0, track.media_start, 0x10000)
        edits = box(b"edts", full_box(b"elst", 1, 0, struct.pack(">I", 1), edit))
    wide = track.duration > 0xFFFFFFFF  # 13.2 hours at 90 kHz
    media = full_box(
        b"mdhd",
        1 if wide else 0,
        0,
        struct.pack(">QQIQ" if wide else ">IIII", 0, 0, track.timescale, track.duration),
        struct.pack(">HH", _language_code(track.language), 0),
    )
    handler, name = (b"vide", b"VideoHandler\0") if picture else (b"soun", b"SoundHandler\0")
    kind = full_box(b"hdlr", 0, 0, struct.pack(">I4s12x", 0, handler), name)
    media_header = (
        full_box(b"vmhd", 0, 1, bytes(8)) if picture else full_box(b"smhd", 0, 0, bytes(4))
    )
    url = full_box(b"url ", 0, 1)  # the media is in this file
    data = box(b"dinf", full_box(b"dref", 0, 0, struct.pack(">I", 1), url))
    table = box(
        b"stbl",
        full_box(b"stsd", 0, 0, struct.pack(">I", 1), track.sample_entry),
        full_box(b"stts", 0, 0, bytes(4)),
        full_box(b"stsc", 0, 0, bytes(4)),
        full_box(b"stsz", 0, 0, bytes(8)),
        full_box(b"stco", 0, 0, bytes(4)),
    )
    return box(
        b"trak", header, edits, box(b"mdia", media, kind, box(b"minf", media_header, data, table))
    )


def init_segment(tracks: Sequence[TrackBox]) -> bytes:
    """Return `ftyp` and `moov`.

    A known length stands in every `mdhd`, which is where Chromium looks, and in `mehd`, where the
    standard wants it and Firefox looks.
    """
    file_type = box(b"ftyp", b"iso6", struct.pack(">I", 0x200), b"iso6", b"cmfc", b"mp41")
    duration = max(track.duration * _MOVIE_TIMESCALE // track.timescale for track in tracks)
    movie = full_box(
        b"mvhd",
        0,
        0,
        struct.pack(
            ">IIIIIH10x", 0, 0, _MOVIE_TIMESCALE, min(duration, 0xFFFFFFFF), 0x10000, 0x100
        ),
        _MATRIX,
        struct.pack(">24xI", max(track.track_id for track in tracks) + 1),
    )
    extends = [
        full_box(b"trex", 0, 0, struct.pack(">IIIII", track.track_id, 1, 0, 0, 0))
        for track in tracks
    ]
    if duration:
        extends.insert(0, full_box(b"mehd", 1, 0, struct.pack(">Q", duration)))
    return file_type + box(b"moov", movie, *map(_track, tracks), box(b"mvex", *extends))


# -- fragments -------------------------------------------------------------------------------------


@dataclass(slots=True)
class TrackRun:
    """The samples of one track in one fragment, in decode order, one list per property."""

    track_id: int
    decode_time: int  # of the first sample, in ticks
    durations: Sequence[int]
    sizes: Sequence[int]
    sync: Sequence[bool] | None  # None: every sample is a sync sample (audio)
    offsets: Sequence[int] | None  # composition time - decode time; None: all 0 (audio)

    def box_size(self) -> int:
        """Size in bytes of the `traf` that `movie_fragment` writes."""
        columns = 2 + (self.sync is not None) + (self.offsets is not None)
        return 8 + 20 + 20 + 20 + 4 * columns * len(self.sizes)


def _run(run: TrackRun, data_offset: int) -> bytes:
    flags = SYNC_SAMPLE if run.sync is None else DEPENDENT_SAMPLE
    # default-base-is-moof, default-sample-flags
    header = full_box(b"tfhd", 0, 0x020020, struct.pack(">II", run.track_id, flags))
    time = full_box(b"tfdt", 1, 0, struct.pack(">Q", run.decode_time))
    contents = 0x000301  # data-offset, sample-duration, sample-size
    columns: list[Sequence[int]] = [run.durations, run.sizes]
    if run.sync is not None:
        contents |= 0x000400
        columns.append([SYNC_SAMPLE if sync else DEPENDENT_SAMPLE for sync in run.sync])
    if run.offsets is not None:
        contents |= 0x000800
        columns.append([offset & 0xFFFFFFFF for offset in run.offsets])  # version 1: signed
    count = len(run.sizes)
    rows = chain.from_iterable(zip(*columns, strict=True))
    table = struct.pack(f">{len(columns) * count}I", *rows)
    samples = full_box(b"trun", 1, contents, struct.pack(">Ii", count, data_offset), table)
    return box(b"traf", header, time, samples)


def movie_fragment(sequence: int, runs: Sequence[TrackRun]) -> bytes:
    """Return `moof` and the header of the `mdat` whose contents must follow: the samples of the
    first run, then those of the second, and so on."""
    size = 8 + 16 + sum(run.box_size() for run in runs)
    parts = [full_box(b"mfhd", 0, 0, struct.pack(">I", sequence & 0xFFFFFFFF))]
    offset = size + 8
    for run in runs:
        parts.append(_run(run, offset))
        offset += sum(run.sizes)
    payload = offset - size - 8
    return box(b"moof", *parts) + struct.pack(">I4s", payload + 8, b"mdat")
