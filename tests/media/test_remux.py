"""The remux of one section: every kind of transport stream, judged packet by packet.

What is played comes from `clip_recipes`, what judges is `fidelity`; neither shares code with what
is tested.  Several sections, other containers and two inputs are in `test_sections`.
"""

from __future__ import annotations  # av.Packet takes type arguments only in its stub

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import av
import pytest

from proxy.errors import CorruptMedia, ProxyError, RemuxFailed, SourceTimeout, UnsupportedCodec
from proxy.media.demux import Demuxer
from proxy.media.fragment import Fragment, Part
from proxy.media.remux import SILENT_S
from proxy.media.ring import BridgeClosed
from proxy.media.wish import Wish
from tests.support import fidelity, ts_edit
from tests.support.clip_recipes import (
    PLAYABLE,
    REFUSED,
    begins_inside_gop,
    extra_streams,
    leading_pictures,
    second_program,
)
from tests.support.clips import WRAP_S, Audio, Clip, make_clip
from tests.support.expected import Expected, expect
from tests.support.sources import Output, Script, attempt, failure, remuxed

# -- every kind ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLAYABLE)
def test_remux_faithful(name: str) -> None:
    """Every kind of stream comes out whole, in time and decodable."""
    clip = PLAYABLE[name]()
    output = remuxed(clip.data)
    left_out = output.counts.left_out.get("undecodable_video", 0)
    report = fidelity.assert_faithful(clip.data, output.data, skipped_video=left_out)
    copied = {kind: count for kind, count in output.counts.packets.items() if count}
    assert copied == report.packets


@pytest.mark.parametrize("frame_ms", ["2.5", "10", "40"])
def test_remux_opus_frames(frame_ms: str) -> None:
    """Opus packets that share a PES packet, and so its time, follow each other as they last."""
    opus = Audio(codec="opus", frame_ms=frame_ms)
    clip = make_clip(audio=(opus,), muxer=(("max_delay", "700000"),))
    output = remuxed(clip.data)
    fidelity.assert_faithful(clip.data, output.data)
    track = output.movie.track("soun")
    times = [track.seconds(sample.composition_time) for sample in output.movie.samples(track)]
    assert {float(b - a) * 1000 for a, b in pairwise(times)} == {float(frame_ms)}


@pytest.mark.parametrize("name", PLAYABLE)
def test_remux_without_video(name: str) -> None:
    """Asked for audio alone, it gives just that, from its own beginning; or says there is none."""
    clip = PLAYABLE[name]()
    if not clip.audios or name == "h264_only_track_silent":
        assert isinstance(failure(clip.data, wish=Wish(video=False)), CorruptMedia)
        return
    output = remuxed(clip.data, wish=Wish(video=False))
    fidelity.assert_faithful(clip.data, output.data, video=False, decode=False)


@pytest.mark.parametrize("name", REFUSED)
def test_remux_refused(name: str) -> None:
    """What no player of MP4 takes is refused before anything leaves, and the codec is named."""
    refused = REFUSED[name]
    output = attempt(refused.make().data)
    assert isinstance(output.error, UnsupportedCodec)
    assert any(codec in output.error.detail for codec in refused.codecs), output.error.detail
    assert not output.parts


def test_remux_second_audio_refused() -> None:
    """Of two audio tracks, the one that can be copied is: the other is no reason to refuse."""
    clip = make_clip(audio=("mp2", "aac"))
    output = remuxed(clip.data)
    fidelity.assert_faithful(clip.data, output.data, audio=1)


# -- the judge can fail ----------------------------------------------------------------------------


def tampered(monkeypatch: pytest.MonkeyPatch, index: int, number: int, change: str) -> None:
    """Let the demuxer lose, double, or move one packet of a stream, in secret."""
    real = Demuxer.packets

    def packets(self: Demuxer) -> Iterator[av.Packet[Any]]:
        seen, done = -1, False
        for packet in real(self):
            seen += packet.stream_index == index
            timed = packet.pts is not None  # of an audio PES packet, the first frame only
            if packet.stream_index == index and seen >= number and timed and not done:
                done = True
                if change == "drop":
                    continue
                if change == "double":
                    yield packet
                elif packet.pts is not None:
                    packet.pts += 450  # 5 ms
                    packet.dts = packet.pts if index else packet.dts
            yield packet

    monkeypatch.setattr(Demuxer, "packets", packets)


@pytest.mark.parametrize(
    ("index", "number", "change", "finding"),
    [
        (0, 60, "drop", "packet_missing"),
        (0, 99, "drop", "packet_missing"),
        (1, 100, "drop", "packet_missing"),
        (1, 180, "drop", "packet_missing"),
        (0, 60, "double", "packet_extra"),
        (0, 60, "late", "timing"),
        (1, 100, "late", "timing"),
    ],
)
def test_judge_catches(
    monkeypatch: pytest.MonkeyPatch, index: int, number: int, change: str, finding: str
) -> None:
    """A packet dropped, or doubled, or moved by 5 ms on its way is found by name."""
    clip = make_clip()
    assert fidelity.judge(clip.data, remuxed(clip.data).data, decode=False).names == set()
    tampered(monkeypatch, index, number, change)
    report = fidelity.judge(clip.data, remuxed(clip.data).data, decode=False)
    assert finding in report.names


def test_judge_catches_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    """One track that is moved as a whole by 5 ms is found too."""
    clip = make_clip()
    real = Demuxer.packets

    def packets(self: Demuxer) -> Iterator[av.Packet[Any]]:
        for packet in real(self):
            if packet.stream_index == 1 and packet.pts is not None:
                packet.pts += 450
                packet.dts = packet.pts
            yield packet

    monkeypatch.setattr(Demuxer, "packets", packets)
    assert fidelity.judge(clip.data, remuxed(clip.data).data, decode=False).names == {"offset"}


# -- silence ---------------------------------------------------------------------------------------


def read_at_first_part(data: bytes) -> tuple[Output, float]:
    """Remux in small reads; return the output, and which part of the input the first part took."""
    script = Script(data, sizes=(1880,))
    at: list[int] = []
    output = attempt(script, on_part=lambda _: at.append(script.read_bytes))
    assert output.error is None
    return output, at[0] / len(data)


@pytest.mark.parametrize("tracks", [1, 2])
def test_remux_silent_audio_given_up(tracks: int) -> None:
    """An announced track of which nothing comes is waited for during 2 s of media, no longer."""
    clip = make_clip(seconds=8.0, gop_s=0.48, audio=("aac",) * tracks)
    data = ts_edit.drop_pid(clip.data, clip.audio_pids[0])
    output, share = read_at_first_part(data)
    assert SILENT_S / clip.seconds * 0.75 < share < SILENT_S / clip.seconds * 1.5
    assert "silent_track" in output.counts.left_out
    assert [track.handler for track in output.movie.tracks] == ["vide"]
    assert output.counts.packets["video"] == 200


def test_remux_audio_just_in_time() -> None:
    """A track that begins within those 2 s is copied, however late."""
    clip = make_clip(seconds=6.0, audio_offset_s=1.8)
    output = remuxed(clip.data)
    fidelity.assert_faithful(clip.data, output.data)
    assert "silent_track" not in output.counts.left_out


def test_remux_audio_too_late() -> None:
    """What comes of a track that was given up is left out and counted, each packet."""
    clip = make_clip(seconds=8.0, audio=(Audio(offset_s=4.0),))
    output = remuxed(clip.data)
    (track,) = expect(clip.data, video=False)
    assert output.counts.left_out["silent_track"] == len(track.packets)
    fidelity.assert_faithful(clip.data, output.data, audio=None)


def test_remux_nothing_silent_first_fragment_early() -> None:
    """With all tracks there, the first fragment leaves long before 2 s of media were read."""
    clip = make_clip(seconds=8.0)
    _, share = read_at_first_part(clip.data)
    assert share * clip.seconds < 0.6


def test_remux_silent_video() -> None:
    """Video that is announced and never comes is given up as audio is."""
    clip = make_clip(seconds=8.0)
    data = ts_edit.drop_pid(clip.data, clip.video_pid)
    output = remuxed(data)
    assert [track.handler for track in output.movie.tracks] == ["soun"]
    fidelity.assert_faithful(data, output.data, decode=False)


# -- what is left out ------------------------------------------------------------------------------


def test_remux_begins_at_random_access_point() -> None:
    """Pictures before the first random access point are left out, counted, and nothing else is."""
    output = remuxed(begins_inside_gop().data)
    assert output.counts.left_out == {"undecodable_video": 24}
    assert output.counts.packets["video"] == 75
    assert output.fragments[0].starts_with_keyframe


def test_remux_rasl_left_out() -> None:
    """RASL pictures behind a leading CRA are left out and counted; those of later ones are kept."""
    clip = leading_pictures()
    output = remuxed(clip.data)
    assert output.counts.left_out == {"undecodable_video": 3}
    fidelity.assert_faithful(clip.data, output.data, skipped_video=3)


def test_remux_h264_leading_pictures_kept() -> None:
    """H.264 does not say which leading pictures cannot be decoded: they are kept, as they came."""
    output = remuxed(leading_pictures("h264").data)
    assert output.counts.left_out == {}


def test_remux_extra_streams_counted() -> None:
    """Metadata, SCTE-35 and subtitles are left out, each packet counted."""
    output = remuxed(extra_streams().data)
    assert output.counts.left_out == {"other_streams": 8}


def test_remux_second_program_counted() -> None:
    """Of two programs the first is copied; the packets of the second are counted."""
    clip = second_program()
    output = remuxed(clip.data)
    assert output.counts.left_out == {"other_streams": 289}


def test_remux_no_random_access_point() -> None:
    """Pictures among which nothing can be decoded end in an error, not in an empty stream."""
    clip = make_clip(audio=(), gop_s=10.0)
    data = ts_edit.drop_pes(clip.data, clip.video_pid, {0})
    assert isinstance(failure(data), CorruptMedia)


def test_remux_no_random_access_point_beside_audio() -> None:
    """Sound alone is not what the source is: without a picture that can be decoded it is refused,
    not shortened."""
    clip = make_clip(gop_s=10.0)
    data = ts_edit.drop_pes(clip.data, clip.video_pid, {0})
    assert isinstance(failure(data), CorruptMedia)


# -- which audio -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "codec"),
    [
        (None, "mp4a.40.2"),
        ("en", "mp4a.40.2"),
        ("eng", "mp4a.40.2"),
        ("de", "ac-3"),
        ("deu", "ac-3"),
        ("de-AT", "ac-3"),
        ("DE", "ac-3"),
        ("fr", "ec-3"),
        ("fra", "ec-3"),
        ("fre", "ec-3"),
        ("ja", "mp4a.40.2"),
    ],
)
def test_remux_language(wish: str | None, codec: str) -> None:
    """The wished language wins, by any of its ISO 639 codes; where none has it, the first track."""
    clip = make_clip(audio=("aac", "ac3", "eac3"), languages=("eng", "deu", "fre"))
    output = remuxed(clip.data, wish=Wish(language=wish))
    assert output.init.codecs.split(",")[1] == codec


def test_remux_language_told() -> None:
    """The language of the track stands in the output, as ISO 639-2."""
    clip = make_clip(audio=("aac", "aac"), languages=("deu", "eng"))
    output = remuxed(clip.data, wish=Wish(language="en"))
    assert output.movie.track("soun").language == "eng"
    fidelity.assert_faithful(clip.data, output.data, audio=1, decode=False)


# -- time ------------------------------------------------------------------------------------------

STARTS_S = [
    0.0,
    0.04,
    1.4,
    10.0,
    50_000.0,
    WRAP_S / 2 - 1,
    WRAP_S - 4.0,
    WRAP_S - 0.5,
    WRAP_S - 0.01,
]


@pytest.mark.parametrize("start_s", STARTS_S)
@pytest.mark.parametrize("offset_s", [-0.5, 0.0, 0.7])
def test_remux_any_start(start_s: float, offset_s: float) -> None:
    """Wherever the clock starts, and whoever comes first, times come out as they were."""
    clip = make_clip(start_s=start_s, audio_offset_s=offset_s)
    fidelity.assert_faithful(clip.data, remuxed(clip.data).data, decode=False)


@pytest.mark.parametrize("start_s", STARTS_S)
def test_remux_any_start_audio_alone(start_s: float) -> None:
    """Likewise without pictures."""
    clip = make_clip(video=None, start_s=start_s)
    fidelity.assert_faithful(clip.data, remuxed(clip.data).data, decode=False)


def spoilt(clip: Clip, what: str) -> bytes:
    """Take timestamps away, or make them wrong, as real sources do."""
    data, video, audio = clip.data, clip.video_pid, clip.audio_pids[0]
    match what:
        case "leading audio undated":
            return ts_edit.without_times(data, audio, range(3))
        case "first picture undated":
            return ts_edit.without_times(data, video, {0})
        case "pictures undated":
            return ts_edit.without_times(data, video, range(30, 40))
        case "audio undated at all":
            return ts_edit.without_times(data, audio)
        case "no DTS at the start":
            return ts_edit.without_dts(data, video, range(20))
        case "DTS frozen at the start":
            return ts_edit.freeze_dts(data, video, 1, 3)
        case "DTS frozen for long":
            return ts_edit.freeze_dts(data, video, 10, 25)
        case "DTS half a second back":
            return ts_edit.move_dts(data, video, 50, -45_000)
        case "DTS ahead":
            return ts_edit.move_dts(data, video, 50, 18_000)
        case _:
            raise AssertionError(what)


@pytest.mark.parametrize(
    "what",
    [
        "leading audio undated",
        "first picture undated",
        "pictures undated",
        "no DTS at the start",
        "DTS frozen at the start",
        "DTS frozen for long",
        "DTS half a second back",
        "DTS ahead",
    ],
)
@pytest.mark.parametrize("start_s", [1.4, WRAP_S - 2])
def test_remux_spoilt_times(what: str, start_s: float) -> None:
    """Times that are missing or wrong are repaired; those that are right stay."""
    clip = make_clip(start_s=start_s)
    data = spoilt(clip, what)
    output = remuxed(data)
    # what the source does not tell, nobody can know: of pictures, which are reordered, at least
    unknown = {"first picture undated": {0}, "pictures undated": set(range(30, 40))}
    wanted = [without_some_times(track, unknown.get(what, set())) for track in expect(clip.data)]
    assert not fidelity.compare(wanted, output.data).findings


def without_some_times(track: Expected, numbers: set[int]) -> Expected:
    """Expect these pictures at any time."""
    if track.kind == "audio":
        return track
    packets = (replace(p, time_s=None) if n in numbers else p for n, p in enumerate(track.packets))
    return replace(track, packets=tuple(packets))


def test_remux_audio_undated_at_all() -> None:
    """A track without a single timestamp is copied, every packet."""
    clip = make_clip()
    output = remuxed(spoilt(clip, "audio undated at all"))
    names = fidelity.compare(expect(clip.data), output.data).names
    assert names <= {"offset", "start"}


# -- reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(188,), (7,), (64 * 1024,), (1, 1000, 188, 3)])
@pytest.mark.parametrize("name", ["h264_aac", "hevc_eac3", "mp3_alone", "junk_in_front"])
def test_remux_read_sizes(name: str, sizes: tuple[int, ...]) -> None:
    """However the input comes in pieces, the output is the same, to the byte."""
    data = PLAYABLE[name]().data
    assert remuxed(Script(data, sizes=sizes)).data == remuxed(data).data


def test_remux_byte_by_byte() -> None:
    """Even one byte at a time."""
    data = make_clip(seconds=1.0).data
    assert remuxed(Script(data, sizes=(1,))).data == remuxed(data).data


@pytest.mark.parametrize("name", ["h264_aac", "hevc_aac", "aac_alone"])
def test_remux_same_input_same_bytes(name: str) -> None:
    """Two runs over one input give the same bytes."""
    data = PLAYABLE[name]().data
    assert remuxed(data).data == remuxed(data).data


# -- fragments -------------------------------------------------------------------------------------


def test_fragments_grow() -> None:
    """The first fragment is short, later ones longer; every GOP starts one."""
    clip = make_clip(seconds=8.0, gop_s=2.0)
    output = remuxed(clip.data)
    durations_s = [fragment.duration_s for fragment in output.fragments]
    assert durations_s[0] <= 0.1
    assert max(durations_s) <= 0.6
    assert sum(durations_s) == pytest.approx(8.0, abs=0.05)
    assert len([one for one in output.fragments if one.starts_with_keyframe]) == 4
    assert [one.sequence for one in output.fragments] == list(range(1, len(output.fragments) + 1))


def test_fragments_leave_as_the_input_comes() -> None:
    """No fragment waits for input that lies far behind what it holds."""
    clip = make_clip(seconds=8.0, gop_s=2.0)
    script = Script(clip.data, sizes=(188,))
    at: list[float] = []
    sent_s: list[float] = []

    def on_part(part: Part) -> None:
        at.append(script.read_bytes / len(clip.data) * clip.seconds)
        before = sent_s[-1] if sent_s else 0.0
        sent_s.append(before + (part.duration_s if isinstance(part, Fragment) else 0.0))

    assert attempt(script, on_part=on_part).error is None
    behind_s = [read_s - out_s for read_s, out_s in zip(at, sent_s, strict=True)]
    assert max(behind_s) < 1.6


def test_fragments_whole_boxes() -> None:
    """Each part is a whole number of boxes: any prefix of parts is a file."""
    output = remuxed(make_clip().data)
    for count in range(1, len(output.parts)):
        movie = replace_parts(output, count).movie
        assert len(movie.fragments) == count - 1


def replace_parts(output: Output, count: int) -> Output:
    return Output(parts=output.parts[:count])


def test_init_segment_codecs() -> None:
    """The init segment tells the codecs as RFC 6381 wants them."""
    output = remuxed(make_clip(video="hevc", audio=("eac3",)).data)
    video, audio = output.init.codecs.split(",")
    assert video.startswith("hvc1.1.6.L")
    assert audio == "ec-3"


# -- breaking --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [SourceTimeout("too slow"), BridgeClosed(), CorruptMedia("a segment is no media")]
)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
def test_remux_input_breaks(error: Exception, share: float) -> None:
    """What the input raises comes out as it is, behind whole fragments."""
    data = make_clip().data
    output = attempt(Script(data, breaks=error, after_bytes=round(len(data) * share)))
    assert output.error is error
    if share >= 0.5:
        assert len(output.movie.fragments) == len(output.fragments) > 1


@pytest.mark.parametrize("at", [0, 1, 4])
def test_remux_emit_breaks(at: int) -> None:
    """What `emit` raises comes out as it is, and nothing is emitted after it."""
    error = BridgeClosed()
    seen: list[Part] = []

    def on_part(part: Part) -> None:
        seen.append(part)
        if len(seen) > at:
            raise error

    output = attempt(make_clip().data, on_part=on_part)
    assert output.error is error
    assert len(seen) == at + 1


def test_remux_own_fault_named() -> None:
    """An error that is none of the family is our fault, and keeps its cause."""
    boom = ZeroDivisionError("boom")
    error = attempt(Script(make_clip().data, breaks=boom, after_bytes=100_000)).error
    assert isinstance(error, RemuxFailed)
    assert error.__cause__ is boom


def test_remux_error_keeps_counts() -> None:
    """The counts are filled in also where the remux breaks."""
    data = make_clip().data
    output = attempt(Script(data, breaks=SourceTimeout("too slow"), after_bytes=len(data) // 2))
    assert 20 < output.counts.packets["video"] < 80


# -- what is no media ------------------------------------------------------------------------------

PAGE = b"<!doctype html><html><body>Segment not found</body></html>\n"
NO_MEDIA = {
    "nothing": b"",
    "one byte": b"\x47",
    "a page": PAGE,
    "many pages": PAGE * 10_000,
    "zeros": bytes(2_000_000),
    "noise": bytes((n * n * 7919 + n // 3) % 251 for n in range(1_000_000)),
    "sync bytes": (b"\x47" + bytes(187)) * 5_000,
    "null packets": (b"\x47\x1f\xff\x10" + b"\xff" * 184) * 5_000,
}


@pytest.mark.parametrize("name", NO_MEDIA)
def test_remux_no_media(name: str) -> None:
    """What is no transport stream is refused, in no time, and nothing leaves."""
    began_s = time.monotonic()
    output = attempt(NO_MEDIA[name])
    assert isinstance(output.error, CorruptMedia)
    assert not output.parts
    assert time.monotonic() - began_s < 2


def test_remux_tables_only() -> None:
    """PAT and PMT and nothing else are no media."""
    clip = make_clip()
    data = ts_edit.drop_pid(ts_edit.drop_pid(clip.data, clip.video_pid), clip.audio_pids[0])
    assert isinstance(failure(data), CorruptMedia)


def test_remux_damage_in_the_middle() -> None:
    """Bytes turned over in the middle end in an error of the family or in a whole output."""
    clip = make_clip()
    for place in range(20_000, len(clip.data) - 3_000, 9_973):
        data = clip.data[:place] + bytes(1500) + clip.data[place + 1500 :]
        output = attempt(data)
        if output.error is None:
            assert output.movie.fragments
        else:
            assert isinstance(output.error, ProxyError)
            assert not isinstance(output.error, RemuxFailed), output.error


@pytest.mark.parametrize("cut", [1, 187, 1_000, 50_000])
def test_remux_cut_short(cut: int) -> None:
    """A stream whose end is cut off is copied as far as it goes."""
    clip = make_clip()
    output = remuxed(clip.data[:-cut])
    assert len(output.movie.fragments) == len(output.fragments)


def test_remux_second_clip_independent() -> None:
    """A remux leaves nothing behind that another one would find."""
    one, two = make_clip(), make_clip(video="hevc", start_s=50_000.0)
    before = remuxed(two.data).data
    remuxed(one.data)
    failure(replace(one, data=b"").data)
    assert remuxed(two.data).data == before
