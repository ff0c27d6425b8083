"""Clips of a VOD over HTTP: the picture they begin with, where they end, and what is fetched.

What the remux makes of a start and an end is tested in `media/test_sections`; here is the search
for the segments, where playlists say less than the whole truth about them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import pytest

from proxy.clip import run_ups
from proxy.errors import StartBeyondEnd
from proxy.pipeline import Quality, Settings, StreamRequest
from tests.media.test_sections import demuxed, packed
from tests.support import boxes, elementary, ts_edit
from tests.support.client import ask, stream_target
from tests.support.clips import Clip, make_clip
from tests.support.expected import expect, found
from tests.support.origin import Origin, Status
from tests.support.playlists import Entry, multivariant_text, rendition_tag, variant_lines
from tests.support.served import over_aiohttp, real_app
from tests.support.streams import Played, own_tasks, pipeline, publish_playlist, read, workers

TICK_S = Fraction(1, 90_000)
DISCONTINUITY = ("#EXT-X-DISCONTINUITY",)


def long_gops(gop_s: float = 5.0, **wishes: object) -> Clip:
    """A clip whose keyframes stand far apart: to be cut anywhere, into segments of a second."""
    told = {"seconds": 12.0, "gop_s": gop_s, "b_frames": 0, **wishes}
    return make_clip(**told)  # type: ignore[arg-type]


def publish(
    origin: Origin,
    data: bytes,
    *,
    prefix: str = "/",
    target_s: float = 1.0,
    told_s: float | None = None,
    tags: Mapping[int, tuple[str, ...]] | None = None,
    more: Sequence[bytes] = (),
) -> str:
    """Serve segments that were cut without regard to keyframes; `told_s` is what EXTINF says, if
    not the truth, and `more` are other sources behind discontinuities."""
    entries: list[Entry] = []
    above = dict(tags or {})
    for source in (data, *more):
        if entries:
            above[len(entries)] = DISCONTINUITY
        for piece in ts_edit.cut(source, target_s, anywhere=True):
            number = len(entries)
            origin.add(f"{prefix}{number}.ts", piece.data)
            seconds = piece.duration_s if told_s is None else told_s
            entries.append(
                Entry(uri=f"{number}.ts", duration_s=seconds, tags=above.get(number, ()))
            )
    return publish_playlist(origin, entries, prefix=prefix)


def fetched(origin: Origin, prefix: str = "/") -> dict[int, int]:
    """How often each segment was asked for."""
    counts: dict[int, int] = {}
    for request in origin.requests:
        name = request.path.removeprefix(prefix)
        if name.endswith(".ts") and "/" not in name:
            number = int(name.removesuffix(".ts"))
            counts[number] = counts.get(number, 0) + 1
    return dict(sorted(counts.items()))


def assert_clipped(
    source: bytes, data: bytes, begin_s: float, end_s: float = 1e9, *, late_s: float = 0.0
) -> None:
    """The output holds all packets of a source from one picture on, up to an end, both in seconds
    from its first picture, and no other.  Audio is muxed behind the pictures that it belongs to:
    `late_s` of it may stand in the next segment."""
    movie = boxes.read(data)
    tracks = expect(source)
    video = next(track for track in tracks if track.kind == "video")
    zero_s = min(packet.time_s for packet in video.packets if packet.time_s is not None)
    assert {track.handler for track in movie.tracks} == {
        {"video": "vide", "audio": "soun"}[one.kind] for one in tracks
    }
    for one in tracks:
        track = movie.track({"video": "vide", "audio": "soun"}[one.kind])
        got = found(one, track, movie.samples(track))
        wanted = [
            (packet.payload, packet.time_s - zero_s - Fraction(begin_s))
            for packet in one.packets
            if packet.time_s is not None
            and Fraction(begin_s) <= packet.time_s - zero_s < Fraction(end_s)
        ]
        if one.kind == "audio" and len(got) < len(wanted):
            assert wanted[len(got)][1] > end_s - begin_s - late_s
            del wanted[len(got) :]
        assert [packet.payload for packet in got] == [payload for payload, _ in wanted], one.kind
        for packet, (_, time_s) in zip(got, wanted, strict=True):
            assert packet.time_s is not None
            assert abs(packet.time_s - time_s) <= TICK_S


# -- where it begins -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start_s", "begin_s", "attempts"),
    [
        # in a segment that begins with a keyframe: nothing is fetched twice
        (5.0, 5.0, 1),
        (5.9, 5.0, 1),
        (0.5, 0.0, 1),
        # in one that has none: 1 segment earlier, 2, 4
        (6.2, 5.0, 2),
        (4.9, 0.0, 4),
    ],
)
async def test_start_behind_a_keyframe(start_s: float, begin_s: float, attempts: int) -> None:
    """A clip begins with the keyframe at or before its start, in whatever segment that is; and only
    then more is asked for than the segments it consists of."""
    clip = long_gops()
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, clip.data)
        async with await one.open_stream(StreamRequest(url=address, start_s=start_s)) as stream:
            assert stream.start_s == begin_s
            assert stream.duration_s == pytest.approx(12 - begin_s, abs=0.001)
            assert ("search" in dict(stream.timings)) == (attempts > 1)
            played = Played()
            await read(stream, played)
        assert played.error is None
        assert_clipped(clip.data, played.data, begin_s)
        assert list(fetched(origin)) == list(range(int(begin_s), 12))
        assert max(fetched(origin).values()) <= attempts
        assert one.active == 0
        assert workers() == []
        assert own_tasks() == set()


@pytest.mark.parametrize("silent", [False, True])
async def test_start_in_the_last_segment(silent: bool) -> None:
    """Where no picture follows the start, a stream of audio alone is no answer, nor is none."""
    clip = demuxed(long_gops(), "video") if silent else long_gops()
    async with Origin() as origin, pipeline() as one:
        request = StreamRequest(url=publish(origin, clip.data), start_s=11.99)
        async with await one.open_stream(request) as stream:
            assert stream.start_s == 10.0
            played = Played()
            await read(stream, played)
        assert_clipped(clip.data, played.data, 10.0)


async def test_start_apart() -> None:
    """Audio that is apart is fetched from the earlier start too, and stays in step."""
    clip = long_gops()
    async with Origin() as origin, pipeline() as one:
        publish(origin, demuxed(clip, "video").data, prefix="/v/")
        publish(origin, demuxed(clip, "audio").data, prefix="/a/", target_s=1.5)
        text = multivariant_text(
            rendition_tag(NAME="one", DEFAULT=True, URI="a/media.m3u8"),
            variant_lines("v/media.m3u8", BANDWIDTH=1, AUDIO="a"),
        )
        request = StreamRequest(url=origin.add("/main.m3u8", text), start_s=7.5, end_s=8.5)
        async with await one.open_stream(request) as stream:
            assert stream.start_s == 5.0
            assert stream.duration_s == pytest.approx(3.5)
            played = Played()
            await read(stream, played)
        assert_clipped(clip.data, played.data, 5.0, 8.5)


async def test_start_behind_a_discontinuity_without_a_keyframe() -> None:
    """What lies before a discontinuity does not help to decode what follows: it is not looked at,
    and the clip begins with the next keyframe."""
    first, second = long_gops(seconds=3.0), long_gops()
    headless = b"".join(piece.data for piece in ts_edit.cut(second.data, 1.0, anywhere=True)[1:])
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, first.data, more=[headless])
        async with await one.open_stream(StreamRequest(url=address, start_s=4.5)) as stream:
            assert stream.start_s == 7.0
            played = Played()
            await read(stream, played)
        assert_clipped(second.data, played.data, 5.0)
        assert min(fetched(origin)) == 3


async def test_start_behind_a_discontinuity_apart() -> None:
    """Audio begins behind the same discontinuity as the video, where its segments have other
    lengths."""
    first, second = make_clip(seconds=4.0), make_clip(seconds=4.0, start_s=500.0)
    async with Origin() as origin, pipeline() as one:
        for kind, prefix, shift_s in (("video", "/v/", 0.0), ("audio", "/a/", 0.1)):
            entries = []
            for number, clip in enumerate((first, second)):
                origin.add(f"{prefix}{number}.ts", demuxed(clip, kind).data)
                tags = DISCONTINUITY if number else ()
                seconds = 4.0 + (shift_s if number == 0 else 0.0)
                entries.append(Entry(uri=f"{number}.ts", duration_s=seconds, tags=tags))
            publish_playlist(origin, entries, prefix=prefix)
        text = multivariant_text(
            rendition_tag(NAME="one", DEFAULT=True, URI="a/media.m3u8"),
            variant_lines("v/media.m3u8", BANDWIDTH=1, AUDIO="a"),
        )
        request = StreamRequest(url=origin.add("/main.m3u8", text), start_s=4.05)
        async with await one.open_stream(request) as stream:
            assert stream.start_s == 4.0
            played = Played()
            await read(stream, played)
        assert_clipped(second.data, played.data, 0.0)


async def test_start_in_a_gap() -> None:
    """Where the start lies in a gap, the clip begins behind it, at 0, and says so."""
    clip = make_clip(seconds=6.0, b_frames=0)
    async with Origin() as origin, pipeline() as one:
        gaps = {2: ("#EXT-X-GAP",), 3: ("#EXT-X-GAP",)}
        address = publish(origin, clip.data, tags=gaps)
        async with await one.open_stream(StreamRequest(url=address, start_s=2.5)) as stream:
            assert stream.start_s == 4.0
            assert stream.duration_s == pytest.approx(2.0, abs=0.001)
            played = Played()
            await read(stream, played)
        assert_clipped(clip.data, played.data, 4.0)
        assert fetched(origin) == {4: 1, 5: 1}


async def test_start_where_what_lies_before_is_lost() -> None:
    """What cannot be had of the segments before does not keep a clip from beginning later."""
    clip = long_gops()
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, clip.data)
        origin.fault("/7.ts", Status(404))
        async with await one.open_stream(StreamRequest(url=address, start_s=8.5)) as stream:
            assert stream.start_s == 10.0
            played = Played()
            await read(stream, played)
        assert_clipped(clip.data, played.data, 10.0)


async def test_start_told_by_header() -> None:
    """X-Start-Time and X-Content-Duration tell the truth about a clip, over HTTP."""
    clip = long_gops()
    async with Origin() as origin, real_app() as app, over_aiohttp(app) as address:
        target = stream_target(publish(origin, clip.data), start="6.5", end="8.5")
        reply = await ask(address, target)
        assert (reply.status, reply.ended) == (200, "complete")
        assert reply.header("X-Start-Time") == "5.000"
        assert reply.header("X-Content-Duration") == "3.500"
        assert_clipped(clip.data, reply.body, 5.0, 8.5)


@pytest.mark.parametrize("start_s", [0.0, 1.3, 2.7])
async def test_start_packed_audio_without_a_timestamp(start_s: float) -> None:
    """Packed audio that states no time begins at 0 of the playlist: in step with the video."""
    clip = demuxed(make_clip(seconds=6.0, start_s=0.0, b_frames=0), "video")
    sound = elementary.split_adts(packed("aac", 6.0))
    frames = [frame for _, frame in sound]
    whole = packed("aac", 6.0)
    sizes = [len(frame) + 7 for frame in frames]
    assert sum(sizes) == len(whole)
    async with Origin() as origin, pipeline() as one:
        publish(origin, clip.data, prefix="/v/")
        entries, place = [], 0
        for number in range(0, len(sizes), 70):
            size = sum(sizes[number : number + 70])
            origin.add(f"/a/{number}.aac", whole[place : place + size])
            place += size
            seconds = len(sizes[number : number + 70]) * 1024 / 48_000
            entries.append(Entry(uri=f"{number}.aac", duration_s=seconds))
        publish_playlist(origin, entries, prefix="/a/")
        text = multivariant_text(
            rendition_tag(NAME="one", DEFAULT=True, URI="a/media.m3u8"),
            variant_lines("v/media.m3u8", BANDWIDTH=1, AUDIO="a"),
        )
        request = StreamRequest(url=origin.add("/main.m3u8", text), start_s=start_s)
        async with await one.open_stream(request) as stream:
            assert stream.start_s == int(start_s)
            played = Played()
            await read(stream, played)
        movie = boxes.read(played.data)
        track = movie.track("soun")
        for sample in movie.samples(track):
            nth = (track.seconds(sample.composition_time) + int(start_s)) * 48_000 / 1024
            assert abs(nth - round(nth)) < Fraction(1, 10)
            assert sample.data == frames[round(nth)]


@pytest.mark.parametrize(
    ("segments", "steps"), [(0, []), (1, [1]), (4, [1, 2, 4]), (7, [1, 2, 4, 7])]
)
def test_run_ups(segments: int, steps: list[int]) -> None:
    """Farther each time, up to the beginning, and in few attempts."""
    assert list(run_ups(segments)) == steps


# -- where it ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize("end_s", [1.0, 2.0, 3.5, 4.0, 5.99])
@pytest.mark.parametrize("start_s", [None, 1.0])
async def test_end_with_honest_durations(start_s: float | None, end_s: float) -> None:
    """No segment behind the end is fetched."""
    if start_s == end_s:
        return
    clip = make_clip(seconds=8.0)
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, clip.data)
        request = StreamRequest(url=address, start_s=start_s, end_s=end_s)
        async with await one.open_stream(request) as stream:
            played = Played()
            await read(stream, played)
        assert played.error is None
        assert max(fetched(origin)) == -(-end_s // 1) - 1
        assert set(fetched(origin).values()) == {1}


@pytest.mark.parametrize("told_s", [1.2, 2.0, 6.0])
@pytest.mark.parametrize("start_s", [None, 0.5])
async def test_end_where_durations_say_too_much(told_s: float, start_s: float | None) -> None:
    """A clip is as long as was wished, not as EXTINF says: the media decide."""
    clip = make_clip(seconds=12.0, b_frames=0)
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, clip.data, told_s=told_s)
        request = StreamRequest(url=address, start_s=start_s, end_s=7.5)
        async with await one.open_stream(request) as stream:
            played = Played()
            await read(stream, played)
        assert_clipped(clip.data, played.data, 0.0, 7.5)
        assert fetched(origin) == dict.fromkeys(range(8), 1)


async def test_end_where_durations_drift() -> None:
    """A fifth of a second that rounding adds up to is not cut off."""
    clip = make_clip(seconds=12.0, b_frames=0)
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, clip.data, told_s=1.03)
        async with await one.open_stream(StreamRequest(url=address, end_s=7.19)) as stream:
            played = Played()
            await read(stream, played)
        assert_clipped(clip.data, played.data, 0.0, 7.19)


async def test_end_where_durations_say_too_much_apart() -> None:
    """Of separate playlists each is followed as far as its own media need it."""
    clip = make_clip(seconds=12.0, b_frames=0)
    async with Origin() as origin, pipeline() as one:
        publish(origin, demuxed(clip, "video").data, prefix="/v/")
        publish(origin, demuxed(clip, "audio").data, prefix="/a/", told_s=2.0)
        text = multivariant_text(
            rendition_tag(NAME="one", DEFAULT=True, URI="a/media.m3u8"),
            variant_lines("v/media.m3u8", BANDWIDTH=1, AUDIO="a"),
        )
        request = StreamRequest(url=origin.add("/main.m3u8", text), end_s=7.5)
        async with await one.open_stream(request) as stream:
            played = Played()
            await read(stream, played)
        assert_clipped(clip.data, played.data, 0.0, 7.5)
        assert max(fetched(origin, "/v/")) == 7
        assert max(fetched(origin, "/a/")) <= 8


async def test_end_of_audio_alone_where_durations_say_too_much() -> None:
    """Where there is no video, audio decides."""
    clip = make_clip(seconds=12.0)
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, clip.data, told_s=3.0)
        quality = Quality.parse("audio")
        request = StreamRequest(url=address, end_s=7.5, quality=quality)
        async with await one.open_stream(request) as stream:
            played = Played()
            await read(stream, played)
        movie = boxes.read(played.data)
        track = movie.track("soun")
        last_s = max(track.seconds(sample.composition_time) for sample in movie.samples(track))
        assert 7.45 < last_s < 7.5


@pytest.mark.parametrize("told_s", [0.0, 0.2])
async def test_end_where_durations_say_too_little(told_s: float) -> None:
    """A clip ends where it should, and what is behind is left alone but for what was on its way."""
    clip = make_clip(seconds=30.0, b_frames=0, width=320, height=180, bitrate=1_000_000)
    settings = Settings(budget_bytes=512 * 1024)
    async with Origin() as origin, pipeline(settings, parallel_segments=2) as one:
        address = publish(origin, clip.data, told_s=told_s)
        async with await one.open_stream(StreamRequest(url=address, end_s=3.5)) as stream:
            played = Played()
            await read(stream, played)
        assert_clipped(clip.data, played.data, 0.0, 3.5)
        assert max(fetched(origin)) < 12


async def test_end_in_a_gap() -> None:
    """A gap before the end is no reason to fetch what lies behind."""
    clip = make_clip(seconds=8.0, b_frames=0)
    async with Origin() as origin, pipeline() as one:
        gaps = {3: ("#EXT-X-GAP",), 4: ("#EXT-X-GAP",)}
        address = publish(origin, clip.data, tags=gaps)
        async with await one.open_stream(StreamRequest(url=address, end_s=4.5)) as stream:
            played = Played()
            await read(stream, played)
        assert_clipped(clip.data, played.data, 0.0, 3.0, late_s=0.03)
        assert fetched(origin) == {0: 1, 1: 1, 2: 1}


async def test_end_behind_a_lost_segment() -> None:
    """Nor is a segment that is lost where the client wants to go on without."""
    clip = make_clip(seconds=8.0, b_frames=0)
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, clip.data)
        origin.fault("/3.ts", Status(404))
        request = StreamRequest(url=address, end_s=4.0, on_gap="skip")
        async with await one.open_stream(request) as stream:
            played = Played()
            await read(stream, played)
        assert_clipped(clip.data, played.data, 0.0, 3.0, late_s=0.03)
        assert max(fetched(origin)) == 3


async def test_end_before_a_track_begins() -> None:
    """A track that has nothing to show before the end is not announced."""
    clip = make_clip(seconds=4.0, audio_offset_s=-0.5)
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, clip.data)
        async with await one.open_stream(StreamRequest(url=address, end_s=0.01)) as stream:
            assert stream.codecs == "mp4a.40.2"
            played = Played()
            await read(stream, played)
        movie = boxes.read(played.data)
        assert [track.handler for track in movie.tracks] == ["soun"]
        assert len(movie.samples(movie.track("soun"))) == 1


async def test_start_beyond_a_playlist_without_durations() -> None:
    """EXTINF is the timeline: where it says nothing, there is nothing behind 0."""
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, make_clip().data, told_s=0.0)
        with pytest.raises(StartBeyondEnd):
            await one.open_stream(StreamRequest(url=address, start_s=1.0))
        async with await one.open_stream(StreamRequest(url=address)) as stream:
            assert stream.duration_s is None
