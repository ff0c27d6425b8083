"""Live playlists: followed by an injected clock, so that hours pass in no time.

Which segments are new is tested in `hls/test_cursor`; here is what becomes of them: reloads, gaps,
windows that move on, playlists that fail for a while, and days without end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import pytest

from proxy.errors import ProxyError, SourceTimeout, SourceUnavailable
from proxy.follow import follow
from proxy.hls.cursor import SegmentCursor
from proxy.hls.model import MediaPlaylist, Segment
from proxy.intake import Holes
from proxy.pipeline import StreamRequest
from tests.support import boxes, endless, fidelity, ts_edit
from tests.support.clips import WRAP_S, make_clip, pieces
from tests.support.clock import FastClock
from tests.support.expected import expect
from tests.support.origin import Origin, Replace, Request, Status
from tests.support.playlists import Entry, media_text, parse_media
from tests.support.sources import stretches
from tests.support.streams import Resources, attempt, own_tasks, pipeline, play, workers

Load = str | ProxyError


def live(first: int, count: int, *, ended: bool = False, tags: Sequence[str] = ()) -> str:
    """A playlist of segments of 4 s."""
    entries = [Entry(uri=f"{n}.ts", duration_s=4, tags=tuple(tags)) for n in range(first, count)]
    return media_text(entries, target_duration_s=4, media_sequence=first, ended=ended)


async def followed(
    *loads: Load, on_gap: str = "abort", last_s: float | None = None
) -> tuple[list[Segment], Holes, FastClock, Exception | None]:
    """Follow a playlist through these loads, the last of them over and over."""
    clock, holes, out = FastClock(), Holes(), []
    rest = list(loads)

    async def load() -> MediaPlaylist:
        now = rest.pop(0) if len(rest) > 1 else rest[0]
        if isinstance(now, ProxyError):
            raise now
        return parse_media(now)

    first = await load()
    cursor = SegmentCursor()
    error: Exception | None = None
    try:
        async for segment in follow(
            cursor.feed(first, clock.now_s),
            load,
            cursor=cursor,
            holes=holes,
            target_duration_s=first.target_duration_s,
            last_s=last_s,
            on_gap="skip" if on_gap == "skip" else "abort",
            clock=clock.clock,
        ):
            out.append(segment)  # noqa: PERF401 - what came before an error stays
    except ProxyError as caught:
        error = caught
    return out, holes, clock, error


def numbers(segments: Sequence[Segment]) -> list[int]:
    return [segment.sequence for segment in segments]


# -- following -------------------------------------------------------------------------------------


async def test_follow_vod() -> None:
    """A VOD is never loaded again."""
    found, _, clock, error = await followed(live(0, 5, ended=True))
    assert (numbers(found), clock.slept_s, error) == ([0, 1, 2, 3, 4], [], None)


async def test_follow_live_until_the_end() -> None:
    """Each segment once, in order, from three target durations before the end on."""
    loads = [live(0, 6), live(1, 7), live(1, 7), live(3, 9), live(4, 10, ended=True)]
    found, holes, clock, error = await followed(*loads)
    assert numbers(found) == [3, 4, 5, 6, 7, 8, 9]
    assert error is None
    assert holes.count == 0
    # a target duration after a change, half of it after none
    assert clock.slept_s == [4.0, 4.0, 2.0, 4.0]


async def test_follow_window_moved_past_us() -> None:
    """Segments that came and went unseen are a loss, or a hole where that is wished."""
    loads = [live(0, 4), live(7, 10, ended=True)]
    found, _, _, error = await followed(*loads)
    assert isinstance(error, SourceUnavailable)
    assert numbers(found) == [1, 2, 3]
    found, holes, _, error = await followed(*loads, on_gap="skip")
    assert error is None
    assert numbers(found) == [1, 2, 3, 7, 8, 9]
    assert (holes.count, holes.before(found[3])) == (3, 12.0)


async def test_follow_stands_still() -> None:
    """A playlist that brings nothing new for too long ends the stream as broken."""
    found, _, clock, error = await followed(live(0, 4))
    assert isinstance(error, SourceTimeout)
    assert numbers(found) == [1, 2, 3]
    assert 24 <= sum(clock.slept_s) < 60


async def test_follow_fails_for_a_while() -> None:
    """Loads that fail are survived while patience lasts."""
    bad = SourceUnavailable("503")
    found, _, _, error = await followed(live(0, 4), bad, bad, bad, live(2, 6, ended=True))
    assert (numbers(found), error) == ([1, 2, 3, 4, 5], None)
    found, _, clock, error = await followed(live(0, 4), bad)
    assert isinstance(error, SourceTimeout)
    assert sum(clock.slept_s) < 90


async def test_follow_sequence_goes_backwards() -> None:
    """An old copy from another edge is no new beginning; an encoder that began anew is one, and
    brings a discontinuity."""
    loads = [live(10, 14), live(8, 12), live(10, 15), live(11, 16, ended=True)]
    found, _, _, error = await followed(*loads)
    assert (numbers(found), error) == ([11, 12, 13, 14, 15], None)
    fresh = live(0, 3).replace(".ts", "-new.ts")
    last = live(0, 5, ended=True).replace(".ts", "-new.ts")
    found, _, _, error = await followed(live(10, 14), fresh, fresh, last)
    assert error is None
    assert numbers(found) == [11, 12, 13, 0, 1, 2, 3, 4]
    assert [segment.discontinuity for segment in found].index(True) == 3


async def test_follow_retry_after() -> None:
    """A playlist that asks for time is not loaded before, and the stream goes on."""
    busy = SourceUnavailable("429", retry_after_s=12)
    found, _, clock, error = await followed(live(0, 4), busy, live(0, 6, ended=True))
    assert (numbers(found), error) == ([1, 2, 3, 4, 5], None)
    assert clock.slept_s == [4.0, 12.0, 0.0]


async def test_follow_retry_after_beyond_patience() -> None:
    """Where Retry-After asks for more time than there is, its error ends the stream at once."""
    busy = SourceUnavailable("503", retry_after_s=120)
    found, _, clock, error = await followed(live(0, 4), busy)
    assert (numbers(found), error) == ([1, 2, 3], busy)
    assert clock.slept_s == [4.0]


async def test_follow_gaps() -> None:
    """Segments marked by EXT-X-GAP are left out and counted, at the start and in the middle."""
    entries = [
        Entry(uri=f"{n}.ts", duration_s=4, tags=("#EXT-X-GAP",) if n in {0, 1, 3} else ())
        for n in range(5)
    ]
    text = media_text(entries, target_duration_s=4)
    found, holes, _, error = await followed(text)
    assert (numbers(found), error) == ([2, 4], None)
    assert [holes.before(segment) for segment in found] == [8.0, 4.0]
    assert holes.count == 3


async def test_follow_ends_where_wished() -> None:
    """Segments that begin at the wished end or behind it are not asked for."""
    found, _, _, _ = await followed(live(0, 9, ended=True), last_s=8.0)
    assert numbers(found) == [0, 1]
    found, _, _, _ = await followed(live(0, 9, ended=True), last_s=8.5)
    assert numbers(found) == [0, 1, 2]


async def test_follow_low_latency() -> None:
    """PART, PRELOAD-HINT and RENDITION-REPORT are no segments; SKIP leaves out what was seen."""
    head = (
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.0",
        "#EXT-X-PART-INF:PART-TARGET=0.33",
    )
    tail = (
        '#EXT-X-PART:DURATION=0.33,URI="4.0.mp4",INDEPENDENT=YES',
        '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="4.1.mp4"',
        '#EXT-X-RENDITION-REPORT:URI="../other.m3u8",LAST-MSN=3',
    )
    first = media_text(
        [Entry(uri=f"{n}.ts", duration_s=4) for n in range(4)],
        target_duration_s=4,
        ended=False,
        head=head,
        tail=tail,
    )
    second = media_text(
        [Entry(uri=f"{n}.ts", duration_s=4) for n in range(3, 6)],
        target_duration_s=4,
        ended=True,
        head=(*head, "#EXT-X-SKIP:SKIPPED-SEGMENTS=3"),
    )
    found, _, _, error = await followed(first, second)
    assert (numbers(found), error) == ([1, 2, 3, 4, 5], None)


# -- through the pipeline --------------------------------------------------------------------------


def channel(origin: Origin, clock: FastClock, *, total: int = 10, window: int = 5) -> str:
    """Serve a clip as a live playlist that grows by a segment a second of `clock`."""
    clip = make_clip(seconds=float(total))
    for number, piece in enumerate(pieces(clip, 1.0)):
        origin.add(f"/{number}.ts", piece.data)
    began_s = clock.now_s

    def text(request: Request) -> str:
        made = min(window + int(clock.now_s - began_s), total)
        first = max(0, made - window)
        entries = [Entry(uri=f"{n}.ts", duration_s=1) for n in range(first, made)]
        return media_text(entries, target_duration_s=1, media_sequence=first, ended=made == total)

    return origin.add("/live.m3u8", text)


async def test_live_stream() -> None:
    """A live playlist, from near its end to ENDLIST: each segment once; no length is told."""
    clock = FastClock()
    async with Origin() as origin, pipeline(clock=clock) as one:
        address = channel(origin, clock)
        async with await one.open_stream(StreamRequest(url=address)) as stream:
            assert stream.duration_s is None
            data = b"".join([part async for part in stream])
        cuts = [piece.data for piece in pieces(make_clip(seconds=10.0), 1.0)]
        fidelity.assert_faithful(b"".join(cuts[2:]), data, decode=False)
        asked = [r.path for r in origin.requests if r.path.endswith(".ts")]
        assert asked == [f"/{n}.ts" for n in range(2, 10)]


@pytest.mark.parametrize("fault", [Status(503), Status(404), Replace(b"<html>"), Replace(b"")])
async def test_live_playlist_fails_for_a_while(fault: Status | Replace) -> None:
    """A playlist that cannot be reloaded a few times, or is none for a while, is survived."""
    clock = FastClock()
    async with Origin() as origin, pipeline(clock=clock, playlist_attempts=1) as one:
        address = channel(origin, clock, window=8, total=12)
        stream = await one.open_stream(StreamRequest(url=address))
        async with stream:
            origin.fault("/live.m3u8", fault, times=2)
            data = b"".join([part async for part in stream])
        movie = boxes.read(data)
        assert len(movie.samples(movie.track("vide"))) >= 25 * 6


async def test_live_windows_on_both_sides_of_a_discontinuity() -> None:
    """Audio that is apart and begins behind a discontinuity: so does video, on the same clock."""
    clock = FastClock()
    old, new = make_clip(seconds=4.0), make_clip(seconds=4.0, start_s=500.0)
    async with Origin() as origin, pipeline(clock=clock) as one:
        for kind, first in (("video", 0), ("audio", 4)):
            cuts = [
                ts_edit.drop_pid(piece.data, pid)
                for clip in (old, new)
                for pid in ((clip.video_pid,) if kind == "audio" else clip.audio_pids)
                for piece in pieces(clip, 1.0)
            ]
            entries = [
                Entry(uri=f"/{kind}{n}.ts", duration_s=1, tags=("#EXT-X-DISCONTINUITY",) * (n == 4))
                for n in range(len(cuts))
            ]
            for number, cut in enumerate(cuts):
                origin.add(f"/{kind}{number}.ts", cut)
            origin.add(f"/{kind}.m3u8", growing(entries, first))
        address = origin.add(
            "/main.m3u8",
            '#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",DEFAULT=YES,URI="audio.m3u8"\n'
            '#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="a"\nvideo.m3u8\n',
        )
        async with await one.open_stream(StreamRequest(url=address, start_s=-7.0)) as stream:
            data = b"".join([part async for part in stream])
        asked = {request.path for request in origin.requests}
        assert not asked & {f"/video{n}.ts" for n in range(4)}
    fidelity.assert_faithful(new.data, data, decode=False)


def growing(entries: Sequence[Entry], first: int) -> Callable[[Request], str]:
    """A playlist whose window begins at `first`; ended from the second load on."""
    loads = 0

    def text(request: Request) -> str:
        nonlocal loads
        loads += 1
        return media_text(
            entries[first:],
            target_duration_s=1,
            media_sequence=first,
            ended=loads > 1,
            head=[f"#EXT-X-DISCONTINUITY-SEQUENCE:{int(first > 4)}"],
        )

    return text


async def test_live_lost_window_cuts() -> None:
    """A window that moved past us cuts the stream, and tells why."""
    clock = FastClock()
    texts = [live(0, 3), live(9, 12)]
    async with Origin() as origin, pipeline(clock=clock) as one:
        for number, piece in enumerate(pieces(make_clip(seconds=12.0), 1.0)):
            origin.add(f"/{number}.ts", piece.data)
        address = origin.add("/live.m3u8", lambda _: texts.pop(0) if len(texts) > 1 else texts[0])
        played = await attempt(one, address)
        assert isinstance(played.error, SourceUnavailable)
        assert own_tasks() == set()
        assert workers() == []


@pytest.mark.parametrize("gone", [{1, 2}, {0}, {0, 3}, {3}])
async def test_gaps_keep_their_holes(gone: set[int]) -> None:
    """EXT-X-GAP leaves a hole, at the very start too; audio and video stay in step."""
    clip = make_clip(seconds=6.0)
    cuts = [piece.data for piece in pieces(clip, 1.0)]
    async with Origin() as origin, pipeline() as one:
        entries = []
        for number, data in enumerate(cuts):
            tags = ("#EXT-X-GAP",) if number in gone else ()
            entries.append(Entry(uri=f"{number}.ts", duration_s=1, tags=tags))
            if number not in gone:
                origin.add(f"/{number}.ts", data)
        address = origin.add("/media.m3u8", media_text(entries, target_duration_s=1))
        output = await play(one, address)
        assert origin.unknown == []
    runs: list[bytes] = []
    for number, data in enumerate(cuts):
        if number in gone:
            continue
        if runs and number - 1 not in gone:
            runs[-1] += data
        else:
            runs.append(data)
    found = stretches([expect(run) for run in runs], output)
    assert len({stretch.shift_s for stretch in found}) == 1
    begin_s = min(found[0].begins_s.values())
    assert begin_s == (1 if 0 in gone else 0)


# -- days ------------------------------------------------------------------------------------------


class Checker:
    """Checks fragments one by one, and keeps nothing of them."""

    def __init__(self) -> None:
        self.init = b""
        self.counts = {"vide": 0, "soun": 0}

    def take(self, part: bytes) -> None:
        if not self.init:
            self.init = part
            return
        movie = boxes.read(self.init + part)
        for handler, ticks in (("vide", endless.PICTURE_TICKS), ("soun", endless.FRAME_TICKS)):
            track = movie.track(handler)
            assert track.timescale == 90_000
            for sample in movie.samples(track):
                wanted = Fraction(self.counts[handler] * ticks, 90_000)
                assert track.seconds(sample.composition_time) == wanted
                self.counts[handler] += 1


async def long_stream(seconds: float, growth_bytes: int) -> None:
    """Follow a live stream that begins a minute before a wrap, and check every packet's time."""
    total = round(seconds / endless.SEGMENT_S)
    begin = round((WRAP_S - 60) * 90_000)
    told = endless.Channel(total=total)
    clock, checker = FastClock(), Checker()
    warm: Resources | None = None
    async with Origin() as origin, pipeline(clock=clock) as one:
        made = last = told.window

        def text(request: Request) -> str:
            nonlocal made, last
            made = told.window + int((clock.now_s - 1000.0) / endless.SEGMENT_S)
            for number in range(last, min(made, total)):
                serve(number)
            last = max(last, min(made, total))
            return told.text(made)

        def serve(number: int) -> None:
            origin.add(f"/{number}.ts", lambda _: endless.segment(number, begin))
            if number >= 100:
                origin.remove(f"/{number - 100}.ts")

        for number in range(told.window):
            serve(number)
        address = origin.add("/live.m3u8", text)
        request = StreamRequest(url=address, start_s=0.0)
        async with await one.open_stream(request) as stream:
            async for part in stream:
                checker.take(part)
                del origin.requests[:-50]
                del clock.slept_s[:-50]
                if warm is None and checker.counts["vide"] > 200:
                    warm = Resources.now()
            assert warm is not None
            grown = Resources.now()
    assert checker.counts == {
        "vide": total * endless.PICTURES,
        "soun": total * endless.FRAMES,
    }
    assert grown.resident_bytes - warm.resident_bytes < growth_bytes
    assert grown.files <= warm.files + 3


async def test_ten_minutes_across_a_wrap() -> None:
    """Ten minutes of live stream that begins a minute before the clock wraps, to the tick."""
    await long_stream(600, 16 * 1024 * 1024)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_a_day_across_two_wraps() -> None:
    """27 hours, two wraps; memory stays flat."""
    await long_stream(27 * 3600, 16 * 1024 * 1024)
