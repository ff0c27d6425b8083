"""The judge passes a good remux, and catches each fault by its name.

The remuxes here are made with PyAV's muxer and spoilt on purpose: nothing of the proxy is involved.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from tests.conftest import missing
from tests.support import boxes, clip_recipes, ts_edit
from tests.support.clips import Clip, make_clip
from tests.support.expected import _filled_times, expect
from tests.support.fidelity import Report, assert_faithful, compare, judge

TICKS_5_MS = 450
MOVFLAGS = "frag_keyframe+delay_moov+default_base_moof"
ASC_LC_48K_STEREO = bytes([0x11, 0x90])


@dataclass(slots=True)
class Item:
    """A packet on its way into the muxer, to be spoilt; times in ticks of 90 kHz."""

    kind: str
    data: bytes
    pts: int
    dts: int
    key: bool


def remux(
    clip: Clip,
    spoil: Callable[[list[Item]], object] = lambda items: None,
    *,
    movflags: str = MOVFLAGS,
    config: bytes = ASC_LC_48K_STEREO,
    tag: str = "hvc1",
) -> bytes:
    """Remux a clip's first video and first audio track with PyAV, time beginning at 0."""
    sink = io.BytesIO()
    options = {"movflags": movflags}
    with (
        av.open(io.BytesIO(clip.data), "r", format="mpegts") as source,
        av.open(sink, "w", format="mp4", options=options) as target,
    ):
        chosen = [*source.streams.video[:1], *source.streams.audio[:1]]
        streams: dict[str, Any] = {}
        for stream in chosen:
            streams[stream.type] = target.add_stream_from_template(stream)
            if stream.codec_context.name == "aac":
                streams["audio"].codec_context.extradata = config or None
            if stream.codec_context.name == "hevc":
                streams["video"].codec_context.codec_tag = tag
        items = []
        for packet in source.demux(chosen):
            if not packet.size:
                continue
            assert packet.pts is not None
            assert packet.dts is not None
            adts = packet.stream.codec_context.name == "aac"
            data = bytes(packet)[7:] if adts else bytes(packet)
            kind = packet.stream.type
            items.append(Item(kind, data, packet.pts, packet.dts, packet.is_keyframe))
        first = min(item.pts for item in items)
        for item in items:
            item.pts -= first
            item.dts -= first
        spoil(items)
        for item in items:
            out: av.Packet[Any] = av.Packet(item.data)
            out.pts, out.dts, out.time_base = item.pts, item.dts, Fraction(1, 90_000)
            out.is_keyframe = item.key
            out.stream = streams[item.kind]
            target.mux(out)
    return sink.getvalue()


def nth(items: list[Item], kind: str, number: int) -> int:
    """Return the index of the n-th packet of a kind."""
    return [at for at, item in enumerate(items) if item.kind == kind][number]


def judge_undecoded(clip: Clip, output: bytes) -> Report:
    """Judge without decoding: what is looked for lies in the packets."""
    return judge(clip.data, output, decode=False)


def names(clip: Clip, output: bytes) -> set[str]:
    return judge_undecoded(clip, output).names


@pytest.fixture
def ffmpeg() -> None:
    """The ffmpeg command; without it only PyAV decodes, which forgives more."""
    if shutil.which("ffmpeg") is None:
        missing("the ffmpeg command")


# -- what is good ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "h264_aac",
        "h264_changed_size",
        "h264_alone",
        "h264_captions",
        "h264_silent_track",
        "hevc_aac",
        "aac_alone",
        "audio_leads",
        "wraps",
        "missing_pictures",
    ],
)
def test_judge_good_remux(name: str) -> None:
    """A remux in which nothing was spoilt has no findings."""
    clip = clip_recipes.PLAYABLE[name]()
    report = assert_faithful(clip.segments, remux(clip))
    assert report.skipped_video == 0
    assert sum(report.packets.values()) >= 100


@pytest.mark.parametrize("codec", ["ac3", "eac3", "mp3"])
def test_judge_other_audio(codec: str) -> None:
    """AC-3, E-AC-3 and MP3 are judged too, however the muxer groups their frames."""
    clip = make_clip(audio=(codec,))
    assert_faithful(clip.data, remux(clip))


def test_judge_leading_pictures_left_out() -> None:
    """Pictures in front of the first keyframe may be missing; they are counted."""
    clip = clip_recipes.begins_inside_gop()

    def leave_out(items: list[Item]) -> None:
        first = next(at for at, item in enumerate(items) if item.kind == "video" and item.key)
        items[:first] = [item for item in items[:first] if item.kind == "audio"]

    report = assert_faithful(clip.data, remux(clip, leave_out), skipped_video=24)
    assert report.skipped_video == 24
    assert judge(clip.data, remux(clip)).names >= {"packet_extra"}
    assert judge(clip.data, remux(clip, leave_out), skipped_video=23).names == {"skipped_video"}


def test_judge_rasl_pictures_left_out() -> None:
    """HEVC's RASL pictures behind a leading CRA must be missing."""
    clip = clip_recipes.leading_pictures("hevc")

    def leave_out(items: list[Item]) -> None:
        for at in [nth(items, "video", number) for number in (3, 2, 1)]:
            del items[at]

    assert_faithful(clip.data, remux(clip, leave_out), skipped_video=3)
    assert judge(clip.data, remux(clip)).names == {"packet_extra"}


def test_judge_chosen_audio_track() -> None:
    """`audio` says which track was asked for; another one in its place is caught."""
    clip = make_clip(audio=("aac", "aac"))
    only_second = replace(clip, data=ts_edit.drop_pid(clip.data, clip.audio_pids[0]))
    with_second = remux(replace(only_second, data=_unannounce_first(only_second)))
    assert judge(clip.data, with_second, audio=1).findings == ()
    assert "payload" in judge(clip.data, with_second, audio=0).names
    assert judge(clip.data, with_second, audio=None).names == {"track_extra"}
    assert "track_extra" in judge(clip.data, with_second, audio=1, video=False).names


def _unannounce_first(clip: Clip) -> bytes:
    program = clip.program
    kept = tuple(stream for stream in program.streams if stream.pid != clip.audio_pids[0])
    return ts_edit.with_tables(clip.data, [replace(program, streams=kept)])


# -- what is spoilt --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_judge_dropped_packet(kind: str) -> None:
    """One packet that is missing is caught."""
    clip = make_clip()
    report = judge_undecoded(clip, remux(clip, lambda items: items.pop(nth(items, kind, 40))))
    assert "packet_missing" in report.names
    assert "timing" not in report.names
    [found] = [finding for finding in report.findings if finding.name == "packet_missing"]
    assert (
        found.text == f"{kind} from packet 40 of {report.packets[kind]} on: 1 packets are not there"
    )


@pytest.mark.parametrize("kind", ["video", "audio"])
@pytest.mark.parametrize("number", [0, 41, -1])
def test_judge_dropped_packet_anywhere(kind: str, number: int) -> None:
    """The first and the last packet are missed as the others are."""
    clip = make_clip()
    report = judge_undecoded(clip, remux(clip, lambda items: items.pop(nth(items, kind, number))))
    assert "packet_missing" in report.names


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_judge_moved_timestamp(kind: str) -> None:
    """One timestamp that is 5 ms late is caught, and nothing else is said."""
    clip = make_clip()

    def move(items: list[Item]) -> None:
        items[nth(items, kind, 50)].pts += TICKS_5_MS
        if kind == "audio":
            items[nth(items, kind, 50)].dts += TICKS_5_MS

    report = judge_undecoded(clip, remux(clip, move))
    assert report.names == {"timing"}
    assert f"{kind} packet 50 is 5.0" in report.findings[0].text


def test_judge_moved_timestamp_within_tolerance() -> None:
    """Rounding to another timescale is no finding: half a millisecond passes, 1.1 ms does not."""
    clip = make_clip()

    def move(ticks: int) -> Callable[[list[Item]], None]:
        def spoil(items: list[Item]) -> None:
            items[nth(items, "video", 50)].pts += ticks

        return spoil

    assert judge(clip.data, remux(clip, move(45))).findings == ()
    assert names(clip, remux(clip, move(99))) == {"timing"}


def test_judge_many_moved_timestamps() -> None:
    """Of many timestamps that are wrong, a few are told one by one, and the others are counted."""
    clip = make_clip()

    def stretch(items: list[Item]) -> None:
        for item in items:
            if item.kind == "audio":
                item.pts = item.dts = item.dts + item.dts // 1000

    report = judge_undecoded(clip, remux(clip, stretch))
    assert report.names == {"timing"}
    assert len(report.findings) == 4
    assert report.findings[-1].text == "and 138 more packets of audio"


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_judge_shifted_track(kind: str) -> None:
    """Audio that is 5 ms off against the video is caught, whichever of them was moved."""
    clip = make_clip()

    def shift(items: list[Item]) -> None:
        for item in items:
            if item.kind == kind:
                item.pts += TICKS_5_MS
                item.dts += TICKS_5_MS

    assert names(clip, remux(clip, shift)) == {"offset"}


def test_judge_late_start() -> None:
    """Time that begins at 5 ms is caught."""
    clip = make_clip()

    def shift(items: list[Item]) -> None:
        for item in items:
            item.pts += TICKS_5_MS
            item.dts += TICKS_5_MS

    assert names(clip, remux(clip, shift)) == {"start"}


def test_judge_empty_moov() -> None:
    """The wrong offset that libavformat makes without `delay_moov` is caught."""
    clip = make_clip()
    spoilt = remux(clip, movflags="frag_keyframe+empty_moov+default_base_moof")
    assert "offset" in names(clip, spoilt)


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_judge_swapped_packets(kind: str) -> None:
    """Two packets whose bytes changed places are caught."""
    clip = make_clip()

    def swap(items: list[Item]) -> None:
        one, two = items[nth(items, kind, 41)], items[nth(items, kind, 42)]
        one.data, two.data = two.data, one.data

    assert "packet_order" in names(clip, remux(clip, swap))


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_judge_flipped_bit(kind: str) -> None:
    """One bit that differs is caught."""
    clip = make_clip()

    def flip(items: list[Item]) -> None:
        item = items[nth(items, kind, 42)]
        item.data = item.data[:-20] + bytes([item.data[-20] ^ 1]) + item.data[-19:]

    report = judge_undecoded(clip, remux(clip, flip))
    assert report.names == {"payload"}


def test_judge_repeated_packet() -> None:
    """A packet that comes twice is caught."""
    clip = make_clip()

    def repeat(items: list[Item]) -> None:
        at = nth(items, "audio", 42)
        items.insert(at + 1, replace(items[at], dts=items[at].dts + 9, pts=items[at].pts + 9))

    assert "packet_extra" in names(clip, remux(clip, repeat))


def test_judge_lost_audio() -> None:
    """A whole track that is missing is caught."""
    clip = make_clip()
    silent = replace(clip, data=ts_edit.drop_pid(clip.data, clip.audio_pids[0]))
    assert "track_missing" in names(clip, remux(make_clip(audio=())))
    assert judge(silent.data, remux(clip)).names == {"track_extra"}


def test_judge_truncated() -> None:
    """An output whose last fragment is cut is caught, and so is one that lacks it altogether."""
    clip = make_clip()
    good = remux(clip)
    assert names(clip, good[:-1000]) == {"broken_box"}
    last = boxes.read(good).fragments[-1]
    report = judge_undecoded(clip, good[: last.offset])
    assert report.names == {"packet_missing"}
    assert names(clip, b"") == {"broken_box"}


def test_judge_lost_parameter_sets() -> None:
    """HEVC parameter sets that change, and that the muxer deletes for `hvc1`, are caught."""
    clip = clip_recipes.changed_sets("hevc")
    spoilt = remux(clip)
    assert names(clip, spoilt) == {"parameter_sets"}
    # with `hev1` they stay: then only the name of the sample entry is wrong
    assert names(clip, remux(clip, tag="hev1")) == {"sample_entry"}
    renamed = remux(clip, tag="hev1").replace(b"hev1", b"hvc1", 1)
    assert judge(clip.data, renamed).findings == ()


def test_judge_lost_caption() -> None:
    """A caption that is missing in one picture is caught."""
    clip = clip_recipes.captions()
    assert names(clip, remux(make_clip())) == {"payload"}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (b"", "no AudioSpecificConfig"),
        (bytes([0x12, 0x10]), "sample_rate=44100"),
        (bytes([0x11, 0x88]), "channels=1"),
    ],
)
def test_judge_audio_config(config: bytes, says: str) -> None:
    """An AAC track without AudioSpecificConfig, or with a wrong one, is caught."""
    clip = make_clip()
    report = judge_undecoded(clip, remux(clip, config=config))
    assert report.names == {"config"}
    assert says in report.findings[0].text


def test_judge_broken_config() -> None:
    """A decoder configuration that cannot be read, and one that is not there, are caught."""
    clip = make_clip(audio=())
    good = remux(clip)
    assert names(clip, good.replace(b"avcC\1", b"avcC\2", 1)) == {"config"}
    assert "config" in names(clip, good.replace(b"avcC", b"free", 1))
    sound = make_clip(video=None)
    assert "config" in names(sound, remux(sound).replace(b"esds", b"free", 1))
    # ES_Descriptor, its length in four bytes: made longer than the box
    at = remux(sound).index(b"esds") + 9
    spoilt = remux(sound)[:at] + b"\xff" + remux(sound)[at + 1 :]
    assert "config" in names(sound, spoilt)


def test_judge_mp3_object_type() -> None:
    """MP3 that is announced as something else is caught."""
    clip = make_clip(video=None, audio=("mp3",))
    good = remux(clip)
    at = good.index(b"\x6b\x15", good.index(b"esds"))
    assert names(clip, good) == set()
    assert "config" in names(clip, good[:at] + b"\x40" + good[at + 1 :])


def test_judge_sample_entry() -> None:
    """A sample entry of another name is caught."""
    clip = make_clip(audio=())
    assert names(clip, remux(clip).replace(b"avc1", b"avc3", 2)) >= {"sample_entry"}


def test_judge_readers_disagree() -> None:
    """Composition offsets that readers take differently are caught."""
    clip = make_clip(audio=())
    output = remux(clip, movflags=f"{MOVFLAGS}+negative_cts_offsets")
    assert names(clip, output) == {"readers_disagree", "pts_below_dts"}


def test_compare_grouped_frames() -> None:
    """Frames of E-AC-3 may share a sample; those of other codecs may not, nor may bytes be lost."""
    clip = make_clip(video=None, audio=("eac3",))
    [track] = expect(clip.data)
    halves = tuple(
        part
        for packet in track.packets
        for part in (
            replace(packet, payload=packet.payload[:99]),
            replace(packet, payload=packet.payload[99:], time_s=None),
        )
    )
    grouped = replace(track, packets=halves)
    assert compare([grouped], remux(clip)).findings == ()
    late = replace(halves[100], time_s=(halves[100].time_s or 0) + Fraction(5, 1000))
    moved = replace(track, packets=(*halves[:100], late, *halves[101:]))
    assert compare([moved], remux(clip)).names == {"timing"}
    lost = replace(track, packets=(*halves, halves[0]))
    assert "packet_missing" in compare([lost], remux(clip)).names
    other = replace(grouped, codec="ac3")
    assert {"sample_entry", "packet_missing"} <= compare([other], remux(clip)).names


def test_judge_keyframe_marks() -> None:
    """A keyframe that is not marked, or another picture that is, is caught."""
    clip = make_clip()

    def unmark(items: list[Item]) -> None:
        items[nth(items, "video", 25)].key = False

    def mark(items: list[Item]) -> None:
        items[nth(items, "video", 30)].key = True

    assert names(clip, remux(clip, unmark)) == {"sync"}
    assert names(clip, remux(clip, mark)) == {"sync"}


def test_judge_keyframe_inside_fragment() -> None:
    """A keyframe in the midst of a fragment is caught."""
    clip = make_clip()
    options = "delay_moov+default_base_moof+frag_custom"  # never flushed: one fragment for all
    report = judge_undecoded(clip, remux(clip, movflags=options))
    assert report.names == {"fragment"}
    assert "3 keyframes are not first" in report.findings[0].text


def test_judge_decode_times() -> None:
    """Decode times that stand still, overlap, or lie behind their presentation, are caught."""
    clip = make_clip(audio=())
    good = remux(clip)
    begin = boxes.read(good).fragments[1].offset
    # tfhd: version and flags, track, default duration, ...; trun: version and flags, count, data
    # offset, flags of the first sample, then size and composition offset of each
    tfhd, trun = good.index(b"tfhd", begin), good.index(b"trun", begin)
    assert int.from_bytes(good[tfhd + 5 : tfhd + 8], "big") & 0x0B == 0x08
    assert int.from_bytes(good[trun + 5 : trun + 8], "big") == 0xA05

    def patched(*patches: tuple[int, bytes]) -> set[str]:
        spoilt = bytearray(good)
        for at, value in patches:
            spoilt[at : at + len(value)] = value
        return names(clip, bytes(spoilt))

    assert patched((tfhd + 12, (3600).to_bytes(4, "big"))) == set()
    assert "dts" in patched((tfhd + 12, bytes(4)))
    assert "overlap" in patched((tfhd + 12, (3700).to_bytes(4, "big")))
    below = (-90).to_bytes(4, "big", signed=True)
    assert "pts_below_dts" in patched((trun + 4, b"\1"), (trun + 24, below))


@pytest.mark.usefixtures("ffmpeg")
def test_judge_undecodable() -> None:
    """An output that does not decode in silence is caught."""
    clip = make_clip()

    def spoil(items: list[Item]) -> None:
        item = items[nth(items, "video", 26)]
        item.data = item.data[:80]

    assert "decode" in judge(clip.data, remux(clip, spoil)).names


@pytest.mark.usefixtures("ffmpeg")
def test_judge_noisy_source() -> None:
    """Noise that the source makes as well is a note, not a finding."""
    clip = clip_recipes.leading_pictures("h264")
    report = judge(clip.data, remux(clip))
    assert report.findings == ()
    assert any("source" in note for note in report.notes)


def test_judge_without_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the ffmpeg command the report says so; where everything is required, it fails."""
    clip = make_clip(video=None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("REMUXD_TEST_REQUIRE_ALL", raising=False)
    report = judge(clip.data, remux(clip))
    assert report.findings == ()
    assert report.notes == ("there is no ffmpeg command: decoded with PyAV only",)
    monkeypatch.setenv("REMUXD_TEST_REQUIRE_ALL", "1")
    assert judge(clip.data, remux(clip)).names == {"decode"}


def test_assert_faithful_tells_findings() -> None:
    """The assertion names what was found."""
    clip = make_clip()
    with pytest.raises(AssertionError, match="track_missing: no track of type soun"):
        assert_faithful(clip.data, remux(make_clip(audio=())))


# -- the source's side -----------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [{0}, {0, 1, 2}, {4, 5}, set(range(1, 40, 2))])
def test_expect_untimed_audio(numbers: set[int]) -> None:
    """Where a source tells no time, it is computed from the neighbours."""
    clip = make_clip(video=None)
    untimed = ts_edit.without_times(clip.data, clip.audio_pids[0], numbers)
    [whole], [spoilt] = expect(clip.data), expect(untimed)
    assert spoilt == whole


def test_filled_times() -> None:
    """Times are filled from both sides; where no duration helps, they stay unknown."""

    def filled(*packets: tuple[int | None, int | None]) -> list[Fraction | None]:
        made: list[av.Packet[Any]] = []
        for pts, duration in packets:
            packet: av.Packet[Any] = av.Packet(b"x")
            packet.pts, packet.duration, packet.time_base = pts, duration, Fraction(1, 10)
            made.append(packet)
        return _filled_times(made)

    tenths = [Fraction(number, 10) for number in range(9)]
    assert filled((None, 2), (None, 2), (5, 2), (None, 1), (None, 1)) == [
        tenths[1],
        tenths[3],
        tenths[5],
        tenths[7],
        tenths[8],
    ]
    assert filled((3, 0), (None, 0)) == [tenths[3], None]
    assert filled((None, 1)) == [None]


def test_expect_unknown_codec() -> None:
    """A track whose codec PyAV cannot name is not passed over."""
    with pytest.raises(ValueError, match="a codec that PyAV does not know"):
        expect(clip_recipes.REFUSED["h264_ac4"].make().data)


def test_expect_audio_beyond_last() -> None:
    """Asking for a track that is not there is a mistake of the test, and said so."""
    with pytest.raises(ValueError, match="1 audio tracks"):
        expect(make_clip().data, audio=1)


def test_expect_agrees_with_corpus(corpus: Path) -> None:
    """The payloads of real sources have the checksums that the corpus states."""
    payload = _load(corpus / "payload.py")
    presentations = json.loads((corpus / "MANIFEST.json").read_text())["presentations"]
    names = {"bbb360-ts", "bipbop2seg-ts", "ec3-h264-ts", "mp3-audio-ts", "hevc-small-ts"}
    names |= {"rollover-ts", "id3-heaac-ts", "cea608-ts", "no-aud-ts"}
    seen = set()
    for one in presentations:
        if one["name"] not in names:
            continue
        seen.add(one["name"])
        uri = str(corpus / one["entry"])
        variants, _ = payload.parse_master(Path(uri).read_text("utf-8-sig"))
        if variants:
            best = max(variants, key=lambda variant: int(variant.get("BANDWIDTH", 0)))
            uri = payload.join(uri, best["URI"])
        [section] = payload.load_media(uri)
        for track in expect(b"".join(section["segs"])):
            wanted = one["expected"][track.kind]
            digest = hashlib.sha256()
            for packet in track.packets:
                digest.update(len(packet.payload).to_bytes(4, "big") * (track.codec == "aac"))
                digest.update(packet.payload)
            assert digest.hexdigest()[:32] == wanted["sha256"], (one["name"], track.kind)
            assert len(track.packets) == wanted["packets"]
    assert seen == names


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("payload", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
