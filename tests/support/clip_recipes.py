"""One clip of every kind of MPEG-TS: those that must be remuxed faithfully, those to be refused.

`PLAYABLE` and `REFUSED` map a name to what makes the clip, so that a test can be parametrised over
the names and only what it runs is encoded.  Many are spoilt by hand, since no muxer writes what
real sources hold.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from tests.support import ts, ts_edit, ts_tables
from tests.support.clips import WRAP_S, Audio, Clip, Video, make_clip, splice, without_first_gop
from tests.support.ts import TICKS_PER_S, Pes

Recipe = Callable[[], Clip]

_EXTRA_PID = 0x0180  # the muxer counts up from 0x0100


# -- pictures --------------------------------------------------------------------------------------


@functools.cache
def open_gop(codec: str = "h264") -> Clip:
    """Pictures that are shown before their keyframe and come behind it (CRA and RASL with HEVC)."""
    # 24 pictures do not divide into 1 + n groups of 4: the last B pictures need the next keyframe
    return make_clip(video=codec, open_gop=True, gop_s=0.96, seconds=3.84)


@functools.cache
def leading_pictures(codec: str = "hevc") -> Clip:
    """Begins at a random access point whose leading pictures refer to what is not there."""
    return without_first_gop(open_gop(codec))


@functools.cache
def begins_inside_gop() -> Clip:
    """Begins with pictures that nothing can decode: the first keyframe's PES packet is missing."""
    clip = make_clip()
    return replace(clip, data=ts_edit.drop_pes(clip.data, clip.video_pid, {0}))


@functools.cache
def changed_size(codec: str = "h264") -> Clip:
    """The picture size changes in mid-stream, with its parameter sets, and nothing else tells."""
    small = Video(codec=codec, seconds=2.0)
    return splice(small, replace(small, width=320, height=180), audios=(Audio(),))


@functools.cache
def changed_sets(codec: str = "hevc") -> Clip:
    """The parameter sets change in mid-stream, and the picture size stays."""
    plain = Video(codec=codec, seconds=2.0)
    other = "ref=1:ctu=16:no-sao=1" if codec == "hevc" else "ref=1:weightp=0:cabac=0"
    return splice(plain, replace(plain, encoder=other), audios=(Audio(),))


@functools.cache
def captions() -> Clip:
    """Each picture carries a CEA-608 byte pair in an SEI message, ATSC A/53 part 4, 6.2.3."""
    clip = make_clip()
    # itu_t_t35: USA, ATSC, "GA94", cc_data with one triplet: field 1, "Hi" with odd parity
    body = b"\xb5\x00\x31GA94\x03" + bytes([0x41, 0xFF, 0xFC, 0xC8, 0xE9, 0xFF])
    unit = b"\0\0\1\x06\x04" + bytes([len(body)]) + body + b"\x80"

    def add(number: int, pes: Pes) -> Pes:
        # behind the access unit delimiter, which the muxer writes first
        second = pes.payload.index(b"\0\0\1", 4)
        second -= pes.payload[second - 1] == 0
        return replace(pes, payload=pes.payload[:second] + unit + pes.payload[second:])

    return replace(clip, data=ts_edit.rewrite(clip.data, clip.video_pid, add))


# -- tracks ----------------------------------------------------------------------------------------


@functools.cache
def silent_track() -> Clip:
    """The PMT announces a second audio track, and nothing of it ever comes."""
    clip = make_clip(audio=("aac", "aac"), languages=("deu", "eng"))
    return replace(clip, data=ts_edit.drop_pid(clip.data, clip.audio_pids[1]))


@functools.cache
def only_track_silent() -> Clip:
    """The PMT announces one audio track, and nothing of it ever comes."""
    clip = make_clip()
    return replace(clip, data=ts_edit.drop_pid(clip.data, clip.audio_pids[0]))


@functools.cache
def extra_streams() -> Clip:
    """Timed ID3, SCTE-35 and DVB subtitles beside the media."""
    clip = make_clip()
    id3, scte, subtitles = _EXTRA_PID, _EXTRA_PID + 1, _EXTRA_PID + 2
    # the metadata descriptors that Apple's "Timed Metadata for HTTP Live Streaming" asks for
    pointer = ts_tables.descriptor(0x26, b"\xff\xffID3 \xffID3 \x00\x0f")
    subtitling = ts_tables.descriptor(0x59, b"deu\x10\x00\x01\x00\x01")
    data = ts_edit.announce(
        clip.data,
        ts_tables.Stream(pid=id3, stream_type=ts_tables.METADATA_PES, descriptors=pointer),
        ts_tables.Stream(
            pid=scte,
            stream_type=ts_tables.SCTE35,
            descriptors=ts_tables.registration(b"CUEI"),
        ),
        ts_tables.Stream(pid=subtitles, stream_type=ts_tables.PRIVATE_PES, descriptors=subtitling),
    )
    begin = round(clip.start_s * TICKS_PER_S)
    frame = b"TXXX" + (8).to_bytes(4, "big") + b"\0\0" + b"\x03a\0tests\0"
    tag = b"ID3\x04\0\0" + len(frame).to_bytes(4, "big") + frame
    # an end_of_display_set segment of page 1, ETSI EN 300 743
    display_set = b"\x20\x00\x0f\x80\x00\x01\x00\x00\xff"
    data = ts_edit.insert(
        data,
        [
            Pes(pid=pid, stream_id=ts.PRIVATE_1_ID, pts=begin + second * TICKS_PER_S, payload=body)
            for second in range(4)
            for pid, body in ((id3, tag), (subtitles, display_set))
        ],
    )
    return replace(clip, data=ts_edit.insert_section(data, scte, splice_null()))


def splice_null() -> bytes:
    """Build the splice_info_section that says nothing, SCTE 35 section 9.7.1."""
    body = bytes(6) + b"\xff\xf0\x00\x00\x00\x00"
    whole = b"\xfc" + (0x3000 | len(body) + 4).to_bytes(2, "big") + body
    return whole + ts_tables.crc32(whole).to_bytes(4, "big")


@functools.cache
def second_program() -> Clip:
    """Two programs in one stream; the first is the one to play."""
    clip = make_clip()
    other = make_clip(width=128, height=72, start_s=5.0)
    pids = {pid: pid + 0x0200 for pid in (other.video_pid, *other.audio_pids)}
    data = ts_edit.remap(other.data, {**pids, other.program.pmt_pid: 0x1100})
    second = replace(ts_tables.read_program(data), number=2)
    data = ts_edit.with_tables(data, [second])
    return replace(clip, data=ts_edit.with_second_program(clip.data, data))


# -- timestamps ------------------------------------------------------------------------------------


@functools.cache
def frozen_dts() -> Clip:
    """The DTS of four pictures in a row stand still."""
    clip = make_clip()
    return replace(clip, data=ts_edit.freeze_dts(clip.data, clip.video_pid, 30, 4))


@functools.cache
def backward_dts() -> Clip:
    """The DTS of one picture lies 80 ms before the one in front of it."""
    clip = make_clip()
    back = -round(0.12 * TICKS_PER_S)
    return replace(clip, data=ts_edit.move_dts(clip.data, clip.video_pid, 40, back))


@functools.cache
def without_dts() -> Clip:
    """No picture has a DTS, although they are reordered."""
    clip = make_clip()
    return replace(clip, data=ts_edit.without_dts(clip.data, clip.video_pid))


@functools.cache
def pts_below_dts() -> Clip:
    """Every picture's DTS lies 120 ms too late, behind many a PTS."""
    clip = make_clip(audio=())
    late = round(0.12 * TICKS_PER_S)

    def move(number: int, pes: Pes) -> Pes:
        assert pes.decode_time is not None
        return replace(pes, dts=pes.decode_time + late)

    return replace(clip, data=ts_edit.rewrite(clip.data, clip.video_pid, move))


@functools.cache
def untimed_audio() -> Clip:
    """Every other PES packet of the audio has no timestamp, as 2.7.5 of the standard allows."""
    clip = make_clip()
    pid = clip.audio_pids[0]
    count = len(ts.read_pes(clip.data, pid))
    return replace(clip, data=ts_edit.without_times(clip.data, pid, range(1, count, 2)))


@functools.cache
def missing_pictures() -> Clip:
    """A whole GOP is missing in the middle, and its time stays empty."""
    clip = make_clip()
    return replace(clip, data=ts_edit.drop_pes(clip.data, clip.video_pid, range(25, 50)))


@functools.cache
def late_audio() -> Clip:
    """The audio begins 1.5 s behind the video."""
    return make_clip(audio_offset_s=1.5)


@functools.cache
def junk_in_front() -> Clip:
    """The first sync byte is at byte 77 of `data` (cutting it into segments skips the junk)."""
    clip = make_clip()
    return replace(clip, data=bytes(77) + clip.data)


# -- what is refused -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refused:
    """A clip that no player of MP4 takes, and the codecs (FFmpeg's names) that are why."""

    make: Recipe
    codecs: frozenset[str]


def foreign(
    stream_type: int, payload: bytes, *, descriptors: bytes = b"", video: bool = False
) -> Clip:
    """Make a clip with a track that no encoder here makes: `payload` in a PES packet per 40 ms.

    It stands alone, if it is `video`, or else beside H.264.
    """
    stream = ts_tables.Stream(pid=_EXTRA_PID, stream_type=stream_type, descriptors=descriptors)
    begin = round(1.4 * TICKS_PER_S)
    parts = [
        Pes(
            pid=_EXTRA_PID,
            stream_id=ts.VIDEO_ID if video else ts.PRIVATE_1_ID,
            pts=begin + number * TICKS_PER_S // 25,
            payload=payload,
            random_access=video,
            pcr=(begin - TICKS_PER_S // 2 + number * TICKS_PER_S // 25) * 300 if video else None,
        )
        for number in range(100)
    ]
    if video:
        program = ts_tables.Program(pcr_pid=_EXTRA_PID, streams=(stream,))
        data = ts_tables.mux(program, parts)
        return Clip(data=data, videos=(), audios=(), start_s=1.4, seconds=4.0)
    clip = make_clip(audio=())
    return replace(clip, data=ts_edit.insert(ts_edit.announce(clip.data, stream), parts))


def _dts_core() -> bytes:
    """A frame of DTS core with an honest header, ETSI TS 102 114 section 5.3, and empty content."""
    size = 1006
    fields: Sequence[tuple[int, int]] = (
        (0x7FFE8001, 32),  # SYNC
        (1, 1),  # FTYPE: a normal frame
        (31, 5),  # SHORT
        (0, 1),  # CPF
        (15, 7),  # NBLKS: 16 blocks of 32 samples
        (size - 1, 14),  # FSIZE
        (2, 6),  # AMODE: stereo
        (13, 4),  # SFREQ: 48 kHz
        (15, 5),  # RATE
    )
    bits = "".join(f"{value:0{width}b}" for value, width in fields)
    head = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    return head.ljust(size, b"\0")


_VVC_PICTURE = b"\0\0\1\x00\xa1\x28" + b"\0\0\1\x00\x39\x80" + bytes(range(1, 64))
_AC4_FRAME = b"\xac\x40\x01\x00" + bytes(range(256))
_MPEGH_FRAME = b"\xc0\x01\xa5" + bytes(range(1, 200))


# -- all of them -----------------------------------------------------------------------------------

PLAYABLE: Mapping[str, Recipe] = {
    "h264_aac": make_clip,
    "h264_without_b_frames": lambda: make_clip(b_frames=0),
    "h264_ntsc": lambda: make_clip(fps=Fraction(30_000, 1001)),
    "h264_open_gop": open_gop,
    "h264_leading_pictures": lambda: leading_pictures("h264"),
    "h264_begins_inside_gop": begins_inside_gop,
    "h264_changed_size": changed_size,
    "h264_changed_sets": lambda: changed_sets("h264"),
    "h264_captions": captions,
    "h264_ac3": lambda: make_clip(audio=("ac3",)),
    "h264_eac3": lambda: make_clip(audio=("eac3",)),
    "h264_mp3": lambda: make_clip(audio=(Audio(codec="mp3", sample_rate=44_100),)),
    "h264_mp3_22050": lambda: make_clip(audio=(Audio(codec="mp3", sample_rate=22_050),)),
    "h264_aac_44100_mono": lambda: make_clip(audio=(Audio(sample_rate=44_100, channels=1),)),
    "h264_aac_surround": lambda: make_clip(audio=(Audio(channels=6, bitrate=128_000),)),
    "h264_alone": lambda: make_clip(audio=()),
    "h264_two_languages": lambda: make_clip(audio=("aac", "aac"), languages=("deu", "eng")),
    "h264_three_tracks": lambda: make_clip(
        audio=("aac", "ac3", "aac"), languages=("deu", "deu", "fra")
    ),
    "h264_silent_track": silent_track,
    "h264_only_track_silent": only_track_silent,
    "h264_extra_streams": extra_streams,
    "h264_second_program": second_program,
    "h264_one_picture": lambda: make_clip(seconds=0.04),
    "hevc_aac": lambda: make_clip(video="hevc"),
    "hevc_open_gop": lambda: open_gop("hevc"),
    "hevc_leading_rasl": leading_pictures,
    "hevc_changed_size": lambda: changed_size("hevc"),
    "hevc_changed_sets": changed_sets,
    "hevc_eac3": lambda: make_clip(video="hevc", audio=("eac3",)),
    "hevc_alone": lambda: make_clip(video="hevc", audio=()),
    "aac_alone": lambda: make_clip(video=None),
    "ac3_alone": lambda: make_clip(video=None, audio=("ac3",)),
    "eac3_alone": lambda: make_clip(video=None, audio=("eac3",)),
    "mp3_alone": lambda: make_clip(video=None, audio=("mp3",)),
    "starts_at_0": lambda: make_clip(start_s=0.0, b_frames=0),
    "starts_late": lambda: make_clip(start_s=50_000.0),
    "wraps": lambda: make_clip(start_s=WRAP_S - 2),
    "wraps_at_once": lambda: make_clip(start_s=WRAP_S - 0.02),
    "audio_leads": lambda: make_clip(audio_offset_s=-0.54),
    "audio_lags": late_audio,
    "frozen_dts": frozen_dts,
    "backward_dts": backward_dts,
    "without_dts": without_dts,
    "pts_below_dts": pts_below_dts,
    "untimed_audio": untimed_audio,
    "missing_pictures": missing_pictures,
    "junk_in_front": junk_in_front,
}

REFUSED: Mapping[str, Refused] = {
    "mpeg2_mp2": Refused(
        lambda: make_clip(video="mpeg2video", audio=("mp2",)), frozenset({"mpeg2video", "mp2"})
    ),
    "mpeg4_aac": Refused(lambda: make_clip(video="mpeg4"), frozenset({"mpeg4"})),
    "h264_mp2": Refused(lambda: make_clip(audio=("mp2",)), frozenset({"mp2"})),
    # stream_type 3 is also MP3's: without a decoder for MP2, libavformat takes it for MP3
    "mp2_alone": Refused(lambda: make_clip(video=None, audio=("mp2",)), frozenset({"mp2"})),
    "h264_latm": Refused(
        lambda: make_clip(muxer=(("mpegts_flags", "latm"),)), frozenset({"aac_latm"})
    ),
    "h264_dts": Refused(lambda: foreign(0x8A, _dts_core()), frozenset({"dts"})),
    "h264_ac4": Refused(
        lambda: foreign(
            ts_tables.PRIVATE_PES, _AC4_FRAME, descriptors=ts_tables.registration(b"AC-4")
        ),
        frozenset({"ac4"}),
    ),
    "h264_mpegh": Refused(lambda: foreign(0x2D, _MPEGH_FRAME), frozenset({"mpegh_3d_audio"})),
    # no encoder here makes VVC, and libavformat finds no picture in this: the PMT is what tells
    "vvc": Refused(lambda: foreign(ts_tables.VVC, _VVC_PICTURE, video=True), frozenset({"vvc"})),
}
