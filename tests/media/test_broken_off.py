"""Sections that break off: what was whole of them passes, and what was cut does not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from proxy.errors import SourceUnavailable
from proxy.media.section import Format
from tests.support import ts
from tests.support.clips import make_clip, pieces
from tests.support.expected import Expected, expect, found
from tests.support.fmp4 import make_fmp4
from tests.support.sources import Output, Script, attempt, goes_on, remuxed, section

KINDS = {"vide": "video", "soun": "audio"}


def payloads(output: Output, tracks: Sequence[Expected]) -> dict[str, list[bytes]]:
    """The samples of each track of an output, by kind."""
    movie = output.movie
    out = {}
    for track in movie.tracks:
        one = next(one for one in tracks if one.kind == KINDS[track.handler])
        packets = found(one, track, movie.samples(track))
        out[one.kind] = [packet.payload for packet in packets]
    return out


def assert_nothing_cut(output: Output, tracks: Sequence[Expected]) -> int:
    """Every sample is one of the source, and so is their order; returns how many there are."""
    count = 0
    for kind, got in payloads(output, tracks).items():
        ours = [packet.payload for one in tracks if one.kind == kind for packet in one.packets]
        rest = iter(ours)
        assert all(payload in rest for payload in got), f"{kind}: a sample that the source has not"
        count += len(got)
    return count


PLACES = [0.31, 0.5, 0.502, 0.51, 0.53, 0.549, 0.577, 0.6, 0.999]


@pytest.mark.parametrize("codec", ["aac", "ac3", "eac3", "mp3"])
@pytest.mark.parametrize("place", PLACES)
def test_broken_off_ts(codec: str, place: float) -> None:
    """The picture and the audio frame that were on their way are left out, and counted."""
    clip = make_clip(seconds=4.0, audio=(codec,))
    first, second, *_ = [piece.data for piece in pieces(clip, 1.0)]
    rest = pieces(clip, 1.0)[3].data
    cut = second[: int(len(second) * place)]
    script = Script(section(first), goes_on(cut), goes_on(rest, hole_s=2.0), broken_off={1})
    output = remuxed(script)
    count = assert_nothing_cut(output, expect(clip.data))
    assert count > sum(len(one.packets) for one in expect(first))
    assert 1 <= output.counts.left_out["broken_off"] <= 2


def whole_packets(data: bytes) -> list[ts.Packet]:
    return list(ts.packets(data[: len(data) // ts.PACKET_BYTES * ts.PACKET_BYTES]))


def test_broken_off_cut_frame_is_what_is_left_out() -> None:
    """Without the mark, the cut picture would pass as whole: the test is able to fail."""
    clip = make_clip()
    data = clip.data
    # Within a picture: a packet of video behind one that began a PES packet.
    packets = whole_packets(data)
    mine = [n for n, packet in enumerate(packets) if packet.pid == clip.program.video_pid]
    place = next(
        later
        for earlier, later in itertools.pairwise(mine)
        if later > len(packets) // 2 and packets[earlier].starts and not packets[later].starts
    )
    cut = data[: place * ts.PACKET_BYTES]
    with pytest.raises(AssertionError):
        assert_nothing_cut(attempt(cut), expect(clip.data))
    whole = remuxed(Script(cut, broken_off={0}))
    assert_nothing_cut(whole, expect(clip.data))


def test_broken_off_loses_no_more() -> None:
    """All pictures whose PES packets were whole are there."""
    clip = make_clip()
    data = clip.data[: 400 * ts.PACKET_BYTES + 77]
    begun = [packet for packet in whole_packets(data) if packet.starts]
    output = remuxed(Script(data, broken_off={0}))
    assert_nothing_cut(output, expect(clip.data))
    pictures = sum(packet.pid == clip.video_pid for packet in begun)
    assert len(payloads(output, expect(clip.data))["video"]) == pictures - 1


@pytest.mark.parametrize("place", PLACES)
def test_broken_off_fmp4(place: float) -> None:
    """The same of fragments, wherever they break."""
    source = make_fmp4()
    first, second, third, *_ = source.segments
    cut = second[: int(len(second) * place)]
    tracks = expect(source.init + b"".join(source.segments))
    told = [
        section(source.init + first, format="mp4"),
        section(source.init + cut, format="mp4", discontinuity=False),
        section(source.init + third, format="mp4", discontinuity=False, hole_s=1.0),
    ]
    output = remuxed(Script(*told, broken_off={1}))
    whole = sum(len(one.packets) for one in tracks)
    assert whole // 3 < assert_nothing_cut(output, tracks) < whole


@pytest.mark.parametrize("codec", ["aac", "ac3", "eac3", "mp3"])
@pytest.mark.parametrize("size", [1, 50, 1_000, 7_777])
def test_broken_off_packed_audio(codec: Format, size: int) -> None:
    """The same of packed audio, of which there may be less than a frame."""
    clip = make_clip(video=None, audio=(codec,))
    frames = b"".join(pes.payload for pes in ts.read_pes(clip.data, clip.audio_pids[0]))
    told = [
        section(frames, format=codec),
        section(frames[:size], format=codec, discontinuity=False),
        section(frames, format=codec, discontinuity=False, hole_s=1.0),
    ]
    output = remuxed(Script(*told, broken_off={1}))
    got = payloads(output, expect(frames, format=codec))["audio"]
    ours = {packet.payload for packet in expect(frames, format=codec)[0].packets}
    assert set(got) <= ours


@pytest.mark.parametrize("size", [1, 188, 300, 376, 1_000])
@pytest.mark.parametrize("discontinuity", [True, False])
def test_broken_off_before_it_could_be_opened(size: int, discontinuity: bool) -> None:
    """Where nothing can be told of a section, the one behind takes its place."""
    one, two = make_clip(seconds=2.0), make_clip(seconds=2.0, start_s=90.0)
    told = [
        section(one.data),
        section(two.data[:size], discontinuity=discontinuity, hole_s=1.0),
        goes_on(two.data, hole_s=1.0),
    ]
    output = remuxed(Script(*told, broken_off={1}))
    tracks = [*expect(one.data), *expect(two.data)]
    assert assert_nothing_cut(output, tracks) == sum(len(one.packets) for one in tracks)


@pytest.mark.parametrize("place", [20_000, 40_001, 60_002])
def test_error_behind_a_cut_picture(place: int) -> None:
    """Where the stream ends with an error, nothing that was cut is sent before it."""
    clip = make_clip()
    output = attempt(Script(clip.data, breaks=SourceUnavailable(), after_bytes=place))
    assert isinstance(output.error, SourceUnavailable)
    if output.parts:
        assert_nothing_cut(output, expect(clip.data))
