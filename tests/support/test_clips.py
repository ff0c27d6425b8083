"""The clips are what they say: FFmpeg finds in them what their descriptions and recipes promise."""

from __future__ import annotations

import io
from fractions import Fraction
from itertools import pairwise

import av
import pytest

from tests.support import clip_recipes, clips, ts, ts_tables
from tests.support.clip_recipes import PLAYABLE, REFUSED
from tests.support.clips import WRAP_S, Clip, Video, make_clip, make_ts, splice
from tests.support.expected import Expected, expect
from tests.support.ts import TICKS_PER_S, WRAP, read_pes


def kinds(data: bytes) -> list[str]:
    """Return FFmpeg's names of the codecs of all streams, as a careful reader of them says."""
    with av.open(io.BytesIO(data), "r", format="mpegts") as container:
        return [
            getattr(stream.codec_context, "name", stream.type)  # None where PyAV knows no decoder
            for stream in container.streams
        ]


def first_time(clip: Clip, pid: int) -> float:
    """Return the earliest PTS of a PID in seconds, with the wrap undone near the clip's start."""
    begin = round(clip.start_s * TICKS_PER_S) - TICKS_PER_S
    times = [pes.pts for pes in read_pes(clip.data, pid) if pes.pts is not None]
    return (min((ticks - begin) % WRAP for ticks in times) + begin) / TICKS_PER_S


# -- encoding --------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_make_clip_deterministic(codec: str) -> None:
    """The same wishes give the same bytes, encoded twice.

    Pictures alone: libavcodec's AAC encoder differs in a few bits now and then (3 of 40 runs).
    """
    wishes = Video(codec=codec, seconds=1.0)
    uncached = splice.__wrapped__
    assert uncached(wishes, audios=()).data == uncached(wishes, audios=()).data


def test_make_clip_cached() -> None:
    """The same wishes are encoded once."""
    assert make_clip() is make_clip(audio=["aac"])
    assert make_ts() is make_clip().data


@pytest.mark.parametrize("start_s", [0.0, 1.4, 50_000.0, WRAP_S - 2, WRAP_S - 0.02])
def test_make_clip_start(start_s: float) -> None:
    """The earliest presentation time is where it was wished for, in both tracks."""
    clip = make_clip(start_s=start_s, b_frames=0)
    for pid in (clip.video_pid, *clip.audio_pids):
        assert first_time(clip, pid) == pytest.approx(start_s, abs=1e-5)


@pytest.mark.parametrize("offset_s", [-0.54, 0.0, 0.0212, 1.5])
def test_make_clip_audio_offset(offset_s: float) -> None:
    """The audio begins exactly that far behind the first picture."""
    clip = make_clip(audio_offset_s=offset_s)
    video, audio = first_time(clip, clip.video_pid), first_time(clip, clip.audio_pids[0])
    assert audio - video == pytest.approx(offset_s, abs=1e-5)
    assert min(audio, video) == pytest.approx(1.4, abs=1e-5)


def test_make_clip_b_frames() -> None:
    """B pictures are reordered as a pyramid: some are referred to, and decode times still grow."""
    pictures = make_clip().pictures()
    times = [pes.pts or 0 for pes in pictures[:5]]
    begin = times[0]
    assert [(ticks - begin) // 3600 for ticks in times] == [0, 4, 2, 1, 3]
    decoding = [pes.decode_time or 0 for pes in pictures]
    assert decoding == sorted(set(decoding))
    # nal_ref_idc of the middle B picture is not 0, that of the others is
    slices = [pes.payload[pes.payload.index(b"\0\0\1", 4) + 3] for pes in pictures[1:5]]
    assert [byte >> 5 & 3 > 0 for byte in slices] == [True, True, False, False]


def test_make_clip_fps() -> None:
    """Fractional frame rates keep their time."""
    clip = make_clip(fps=Fraction(30_000, 1001))
    times = sorted(pes.pts or 0 for pes in clip.pictures())
    assert len(times) == 120
    assert {b - a for a, b in pairwise(times)} == {3003}


def test_make_clip_languages() -> None:
    """Tracks carry their languages, and differ in what is heard."""
    clip = make_clip(audio=("aac", "aac"), languages=("deu", "eng"))
    assert [stream.language for stream in clip.program.streams] == [None, "deu", "eng"]
    first, second = (read_pes(clip.data, pid) for pid in clip.audio_pids)
    assert [pes.payload for pes in first] != [pes.payload for pes in second]


def test_make_clip_one_picture() -> None:
    """A clip may be one picture long."""
    clip = make_clip(seconds=0.04)
    assert len(clip.pictures()) == 1
    assert len(clip.segments) == 1


# -- recipes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLAYABLE)
def test_playable_holds_what_it_says(name: str) -> None:
    """Each clip has the tracks of its description, and time enough of them."""
    clip = PLAYABLE[name]()
    tracks: dict[str, Expected] = {track.kind: track for track in expect(clip.data)}
    wanted = {}
    if clip.videos:
        wanted["video"] = clip.videos[0].codec
    if clip.audios and name != "h264_only_track_silent":
        wanted["audio"] = clip.audios[0].codec
    assert {kind: track.codec for kind, track in tracks.items()} == wanted
    if name == "h264_one_picture":
        assert len(tracks["video"].packets) == 1
        return
    for track in tracks.values():
        assert len(track.packets) + track.skipped >= 70
        times = [packet.time_s for packet in track.packets if packet.time_s is not None]
        assert len(times) == len(track.packets)
        assert max(times) - min(times) > 2.2
    assert len(clip.segments) >= 1
    assert len({bytes(segment) for segment in clip.segments}) == len(clip.segments)


@pytest.mark.parametrize(
    ("name", "skipped"),
    [
        ("h264_aac", 0),
        ("h264_open_gop", 0),
        ("h264_leading_pictures", 0),
        ("h264_begins_inside_gop", 24),
        ("hevc_open_gop", 0),
        ("hevc_leading_rasl", 3),
    ],
)
def test_playable_pictures_left_out(name: str, skipped: int) -> None:
    """Pictures that may be left out are those that nothing can decode."""
    [video, _] = expect(PLAYABLE[name]().data)
    assert video.skipped == skipped


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_open_gop_leading_pictures(codec: str) -> None:
    """Behind a keyframe come pictures that are shown before it."""
    clip = clip_recipes.open_gop(codec)
    pictures = clip.pictures()
    keys = [n for n, pes in enumerate(pictures) if pes.random_access]
    assert keys == [0, 21, 45, 69]
    for key in keys[1:]:
        assert (pictures[key + 1].pts or 0) < (pictures[key].pts or 0)
    leading = clip_recipes.leading_pictures(codec)
    assert leading.pictures()[0] == pictures[keys[1]]
    assert len(leading.pictures()) == len(pictures) - keys[1]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_changed_size_decodes(codec: str) -> None:
    """The picture size really changes, at 2 s, on one PID and one timeline."""
    clip = clip_recipes.changed_size(codec)
    with av.open(io.BytesIO(clip.data), "r", format="mpegts") as container:
        sizes = [(frame.width, frame.height) for frame in container.decode(video=0)]
    assert sizes == [(160, 90)] * 50 + [(320, 180)] * 50
    times = sorted(pes.pts or 0 for pes in clip.pictures())
    assert {b - a for a, b in pairwise(times)} == {3600}


def test_captions_are_found() -> None:
    """FFmpeg's decoder finds the captions that were put in."""
    clip = clip_recipes.captions()
    with av.open(io.BytesIO(clip.data), "r", format="mpegts") as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 100
    assert all(frame.side_data.get("A53_CC") is not None for frame in frames)


def test_silent_track_is_announced() -> None:
    """The silent track is in the PMT and nowhere else."""
    clip = clip_recipes.silent_track()
    assert [stream.language for stream in clip.program.streams] == [None, "deu", "eng"]
    silent = clip.program.streams[2].pid
    assert all(packet.pid != silent for packet in ts.packets(clip.data))


def test_extra_streams_are_seen() -> None:
    """FFmpeg sees ID3, SCTE-35 and DVB subtitles beside the media."""
    clip = clip_recipes.extra_streams()
    with av.open(io.BytesIO(clip.data), "r", format="mpegts") as container:
        assert [stream.type for stream in container.streams] == [
            "video",
            "audio",
            "data",
            "unknown",
            "subtitle",
        ]
    # SCTE-35 has sections of the short form; their CRC is right all the same
    section = clip_recipes.splice_null()
    assert ts_tables.crc32(section) == 0
    assert len(section) == 3 + (int.from_bytes(section[1:3], "big") & 0xFFF)
    assert section in clip.data


def test_second_program_is_seen() -> None:
    """The second program has other streams."""
    programs = ts_tables.read_programs(clip_recipes.second_program().data)
    assert [program.number for program in programs] == [1, 2]
    assert kinds(clip_recipes.second_program().data) == ["h264", "aac"] * 2


def test_spoilt_decode_times() -> None:
    """The clips with spoilt decode times have them, and their presentation times are whole."""
    good = [pes.pts for pes in make_clip().pictures()]
    for recipe in (clip_recipes.frozen_dts, clip_recipes.backward_dts):
        pictures = recipe().pictures()
        times = [pes.decode_time or 0 for pes in pictures]
        assert any(b <= a for a, b in pairwise(times))
        assert [pes.pts for pes in pictures] == good
    late = clip_recipes.pts_below_dts().pictures()
    assert any((pes.pts or 0) < (pes.decode_time or 0) for pes in late)
    assert {pes.dts for pes in clip_recipes.without_dts().pictures()} == {None}
    clip = clip_recipes.untimed_audio()
    sound = read_pes(clip.data, clip.audio_pids[0])
    assert [pes.pts is None for pes in sound[:4]] == [False, True, False, True]


def test_missing_pictures_leave_hole() -> None:
    """A second without pictures lies in the middle."""
    times = sorted(pes.pts or 0 for pes in clip_recipes.missing_pictures().pictures())
    steps = [b - a for a, b in pairwise(times)]
    assert sorted(steps)[-2:] == [3600, 3600 + TICKS_PER_S]


@pytest.mark.parametrize("name", REFUSED)
def test_refused_is_what_it_says(name: str) -> None:
    """FFmpeg names the codec for which the clip is refused, where it knows one."""
    refused = REFUSED[name]
    clip = refused.make()
    unnamed = {"h264_mpegh": "unknown", "mp2_alone": "mp3float", "h264_ac4": "audio"}
    found = set(kinds(clip.data))
    if name in unnamed:
        assert unnamed[name] in found
    else:
        assert found & {*refused.codecs, "dca"}
    if name == "mp2_alone":
        header = read_pes(clip.data, clip.audio_pids[0])[0].payload
        assert header[1] >> 1 & 3 == 2, "layer II, ISO/IEC 11172-3 section 2.4.2.3"


# -- segments and playlists ------------------------------------------------------------------------


def test_segments_play_alone() -> None:
    """Each segment begins with a keyframe and is demuxed by itself; together they are the clip."""
    clip = make_clip(seconds=5.0)
    parts = clips.segments(clip, 2.0)
    assert clip.segments == parts
    assert len(parts) == 3
    counts = [{track.kind: track for track in expect(part)} for part in parts]
    assert [len(one["video"].packets) for one in counts] == [50, 50, 25]
    assert all(one["video"].packets[0].key for one in counts)
    whole = expect(clip.data)
    assert expect(b"".join(parts)) == whole
    assert sum(len(one["audio"].packets) for one in counts) == len(whole[1].packets)


def test_hls_playlist() -> None:
    """The playlist names each segment with its duration."""
    files = clips.hls(make_clip(seconds=5.0), prefix="a/")
    assert sorted(files) == ["a/media.m3u8", "a/segment0.ts", "a/segment1.ts", "a/segment2.ts"]
    lines = files["a/media.m3u8"].decode().splitlines()
    assert lines[0] == "#EXTM3U"
    assert lines[-1] == "#EXT-X-ENDLIST"
    assert [line for line in lines if line.startswith("#EXTINF")] == [
        "#EXTINF:2.00000,",
        "#EXTINF:2.00000,",
        "#EXTINF:1.00000,",
    ]
    assert [line for line in lines if not line.startswith("#")] == [
        "segment0.ts",
        "segment1.ts",
        "segment2.ts",
    ]


def test_multivariant_playlist() -> None:
    """Three variants: same keyframes, other sizes, growing bandwidth, right CODECS."""
    files = clips.multivariant(sizes=((96, 54), (160, 90), (320, 180)))
    lines = files["main.m3u8"].decode().splitlines()
    assert [line for line in lines if line.endswith("media.m3u8")] == [
        "54p/media.m3u8",
        "90p/media.m3u8",
        "180p/media.m3u8",
    ]
    told = [line for line in lines if line.startswith("#EXT-X-STREAM-INF")]
    rates = [int(line.split("BANDWIDTH=")[1].split(",")[0]) for line in told]
    assert rates == sorted(set(rates))
    assert all('CODECS="avc1.64' in line and ',mp4a.40.2"' in line for line in told)
    for path, body in files.items():
        if path.endswith("segment1.ts"):
            [video, _] = expect(body)
            assert video.packets[0].key
            assert video.packets[0].time_s == Fraction(34, 10)
