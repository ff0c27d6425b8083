"""SegmentCursor: where to start, what is new, when to reload, what was lost, when to give up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import StartBeyondEnd
from proxy.hls.cursor import MEMORY_SEGMENTS, CursorSettings, SegmentCursor, Update
from proxy.hls.model import MediaPlaylist, Start
from tests.support.playlists import Entry, media_text, parse_media


def playlist_of(
    uris: Iterable[object],
    *,
    sequence: int | None = 0,
    kind: str | None = None,
    ended: bool = False,
    target_duration_s: float = 6,
    head: Sequence[str] = (),
) -> MediaPlaylist:
    """Return a live playlist of segments of six seconds, or as told."""
    text = media_text(
        [uri if isinstance(uri, Entry) else str(uri) for uri in uris],
        media_sequence=sequence,
        playlist_type=kind,
        ended=ended,
        target_duration_s=target_duration_s,
        head=head,
    )
    return parse_media(text)


def names(update: Update) -> list[str]:
    return [segment.uri.rpartition("/")[2] for segment in update.segments]


def feed(cursor: SegmentCursor, *playlists: MediaPlaylist) -> list[str]:
    """Feed in turn; return the names of all new segments."""
    return [name for playlist in playlists for name in names(cursor.feed(playlist, 0))]


def opened(*uris: object, sequence: int = 0) -> SegmentCursor:
    """Return a cursor that has handed out these segments."""
    cursor = SegmentCursor(start_s=0)
    assert len(feed(cursor, playlist_of(uris, sequence=sequence))) == len(uris)
    return cursor


# -- where to start --------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "ended"), [("VOD", True), (None, True), ("VOD", False)])
def test_feed_vod(kind: str | None, ended: bool) -> None:
    """A VOD is handed out whole, and that is its end; EXT-X-START does not shorten it."""
    cursor = SegmentCursor()
    playlist = playlist_of("abcdef", kind=kind, ended=ended, head=["#EXT-X-START:TIME-OFFSET=12"])
    assert feed(cursor, playlist) == list("abcdef")
    assert cursor.ended
    assert cursor.skipped_s == 0
    assert not cursor.is_stale(1e9)


def test_feed_event_starts_at_the_beginning() -> None:
    """An EVENT keeps all of its segments, and is played from the first."""
    cursor = SegmentCursor()
    assert feed(cursor, playlist_of("abcdef", kind="EVENT")) == list("abcdef")
    assert not cursor.ended


@pytest.mark.parametrize(
    ("uris", "first"), [("abcdef", "d"), ("abcd", "b"), ("abc", "a"), ("ab", "a"), ("a", "a")]
)
def test_feed_live_starts_three_target_durations_before_the_end(uris: str, first: str) -> None:
    """A live stream starts where three target durations are left (6.3.3), or at its beginning."""
    cursor = SegmentCursor()
    assert feed(cursor, playlist_of(uris)) == list(uris[uris.index(first) :])
    assert cursor.skipped_s == 6.0 * uris.index(first)


def test_feed_live_with_a_hold_back_of_its_own() -> None:
    """How far from the end to start can be set."""
    cursor = SegmentCursor(settings=CursorSettings(hold_back_targets=1.5))
    assert feed(cursor, playlist_of("abcdef")) == ["e", "f"]


def test_feed_live_of_short_segments() -> None:
    """Segments shorter than the target duration make it more of them."""
    entries = [Entry(uri=uri, duration_s=2.5) for uri in "abcdefghij"]
    assert feed(SegmentCursor(), playlist_of(entries)) == list("cdefghij")


@pytest.mark.parametrize(
    ("start_s", "first"),
    [
        (0, "a"),
        (5.9, "a"),
        (6, "b"),
        (35.9, "f"),
        (-0.1, "f"),
        (-6, "f"),
        (-6.1, "e"),
        (-36, "a"),
        (-1e9, "a"),
    ],
)
@pytest.mark.parametrize("ended", [True, False])
def test_feed_from_a_wished_start(start_s: float, first: str, ended: bool) -> None:
    """A start in seconds, from the end when negative, begins with the segment it falls into."""
    cursor = SegmentCursor(start_s=start_s)
    fed = feed(cursor, playlist_of("abcdef", ended=ended, head=["#EXT-X-START:TIME-OFFSET=12"]))
    assert fed == list("abcdef"["abcdef".index(first) :])


@pytest.mark.parametrize("start_s", [36, 36.1, 1e9])
def test_feed_from_a_start_beyond_the_end(start_s: float) -> None:
    """A start behind the last segment has its own error."""
    with pytest.raises(StartBeyondEnd):
        SegmentCursor(start_s=start_s).feed(playlist_of("abcdef"), 0)


def test_feed_from_a_start_between_sums_of_floats() -> None:
    """Rounding of sums does not put a start one segment back."""
    entries = [Entry(uri=uri, duration_s=0.1) for uri in "abcdef"]
    assert feed(SegmentCursor(start_s=0.3), playlist_of(entries, ended=True)) == list("def")
    assert feed(SegmentCursor(start_s=0.6 - 1e-9), playlist_of(entries, ended=True)) == ["f"]


def test_feed_segments_without_a_duration() -> None:
    """Segments of no length at the beginning are not passed over."""
    entries = [Entry(uri=uri, duration_s=0) for uri in "abc"]
    for cursor in (SegmentCursor(), SegmentCursor(start_s=0)):
        assert feed(cursor, playlist_of(entries, ended=True)) == list("abc")


@pytest.mark.parametrize(
    ("offset_s", "first"),
    [(0, "a"), (7, "b"), (-30, "b"), (-1, "d"), (100, "d"), (-100, "a"), (20, "d")],
)
def test_feed_live_from_ext_x_start(offset_s: float, first: str) -> None:
    """EXT-X-START counts while a playlist grows, but keeps its distance from the end (4.4.2.2)."""
    uris = "abcdef"
    head = [f"#EXT-X-START:TIME-OFFSET={offset_s}"]
    for kind in (None, "EVENT"):
        fed = feed(SegmentCursor(), playlist_of(uris, kind=kind, head=head))
        assert fed == list(uris[uris.index(first) :])


def test_feed_live_from_the_start_of_the_multivariant_playlist() -> None:
    """The Multivariant Playlist's EXT-X-START counts where the media playlist has none."""
    start = Start(time_offset_s=-24)
    assert feed(SegmentCursor(start=start), playlist_of("abcdef")) == list("cdef")
    head = ["#EXT-X-START:TIME-OFFSET=0"]
    assert feed(SegmentCursor(start=start), playlist_of("abcdef", head=head)) == list("abcdef")


def test_feed_live_that_has_not_begun() -> None:
    """An empty playlist is looked at again; the start is found when there are segments."""
    cursor = SegmentCursor()
    assert feed(cursor, playlist_of("")) == []
    assert not cursor.ended
    assert cursor.reload_at_s == 3
    assert feed(cursor, playlist_of("abcdef")) == list("def")


# -- what is new -----------------------------------------------------------------------------------


def test_feed_hands_out_each_segment_once() -> None:
    """A window that moves on brings its new segments, and its end is the end."""
    cursor = SegmentCursor()
    assert feed(cursor, playlist_of("abc", sequence=7)) == list("abc")
    assert feed(cursor, playlist_of("abc", sequence=7)) == []
    assert feed(cursor, playlist_of("bcd", sequence=8)) == ["d"]
    assert feed(cursor, playlist_of("cdef", sequence=9, ended=True)) == ["e", "f"]
    assert cursor.ended


def test_feed_keeps_the_numbers_of_the_source() -> None:
    """Segments keep the sequence that their IVs are made of, also where the source renumbers."""
    cursor = opened(*"abc", sequence=7)
    update = cursor.feed(playlist_of("cd", sequence=0), 0)
    assert [(s.uri[-1], s.sequence) for s in update.segments] == [("d", 1)]
    assert not update.restarted


def test_feed_a_window_that_moved_past() -> None:
    """Segments that came and went unseen are counted."""
    cursor = opened(*"abc", sequence=7)
    update = cursor.feed(playlist_of("fgh", sequence=12), 0)
    assert (update.lost, names(update), update.restarted) == (2, list("fgh"), False)


def test_feed_a_window_that_is_empty_in_between() -> None:
    """An empty playlist tells nothing, and harms nothing."""
    cursor = opened(*"abc", sequence=7)
    assert cursor.feed(playlist_of("", sequence=None), 0) == Update()
    assert cursor.feed(playlist_of("", sequence=0), 0) == Update()
    assert feed(cursor, playlist_of("bcd", sequence=8)) == ["d"]


def test_feed_an_older_copy() -> None:
    """What another server of a CDN has not heard of yet is no news, and no restart."""
    cursor = opened(*"abcdef", sequence=7)
    for uris, sequence in (("bcde", 8), ("abc", 7), ("def", 10), ("ef", 11)):
        assert cursor.feed(playlist_of(uris, sequence=sequence), 0) == Update()
    assert feed(cursor, playlist_of("efg", sequence=11)) == ["g"]


def test_feed_without_media_sequence() -> None:
    """A window that slides while its numbers stand still is followed by its addresses."""
    cursor = SegmentCursor()
    fed = feed(cursor, *(playlist_of(uris, sequence=None) for uris in ("abc", "bcd", "bcd", "def")))
    assert fed == list("abcdef")


@pytest.mark.parametrize("sequence", [0, 4, 6, 8, 9])
def test_feed_numbers_that_change_but_addresses_go_on(sequence: int) -> None:
    """A source that numbers anew, up or down, is followed by its addresses."""
    cursor = opened(*"abc", sequence=7)
    update = cursor.feed(playlist_of("bcde", sequence=sequence), 0)
    assert (names(update), update.lost, update.restarted) == (["d", "e"], 0, False)
    assert feed(cursor, playlist_of("cdef", sequence=sequence + 1)) == ["f"]


@pytest.mark.parametrize("sequence", [0, 6, 10 + MEMORY_SEGMENTS + 1, 10**9])
def test_feed_numbers_that_begin_anew(sequence: int) -> None:
    """An encoder that was restarted is followed from its first segment, and it is said so."""
    cursor = opened(*"abc", sequence=7)
    assert cursor.feed(playlist_of("xyz", sequence=sequence), 0) == Update()  # is it so?
    update = cursor.feed(playlist_of("xyz", sequence=sequence), 0)
    assert (names(update), update.lost, update.restarted) == (list("xyz"), 0, True)
    update = cursor.feed(playlist_of("yzw", sequence=sequence + 1), 0)
    assert (names(update), update.lost, update.restarted) == (["w"], 0, False)


def test_feed_numbers_that_begin_anew_at_the_end() -> None:
    """The last playlist of all is believed at once: there will be no second look."""
    update = opened(*"abc", sequence=7).feed(playlist_of("xyz", sequence=0, ended=True), 0)
    assert (names(update), update.restarted) == (list("xyz"), True)


def test_feed_an_older_copy_of_what_nobody_knows() -> None:
    """A copy from before the start, or of segments that were lost, is let pass."""
    cursor = opened(*"def", sequence=7)
    for _ in range(3):
        assert cursor.feed(playlist_of("abc", sequence=4), 0) == Update()
        assert cursor.feed(playlist_of("def", sequence=7), 0) == Update()
    assert cursor.feed(playlist_of("jkl", sequence=13), 0).lost == 3
    for _ in range(3):
        assert cursor.feed(playlist_of("ghi", sequence=10), 0) == Update()
    assert feed(cursor, playlist_of("klm", sequence=14)) == ["m"]


def test_feed_addresses_that_change_with_each_reload() -> None:
    """Tokens in addresses, in the query or the path, do not make old segments new."""
    cursor = opened("1/a?t=1", "1/b?t=1", "1/c?t=1", sequence=7)
    assert feed(cursor, playlist_of(["2/b?t=2", "2/c?t=2", "2/d?t=2"], sequence=8)) == ["d?t=2"]
    assert feed(cursor, playlist_of(["2/b?t=3", "2/c?t=3", "2/d?t=3"], sequence=8)) == []
    assert feed(cursor, playlist_of(["4/b", "4/c", "4/d", "4/e"], sequence=8)) == ["e"]


def test_feed_a_slate_over_and_over() -> None:
    """The same address under new numbers is a new segment each time."""
    cursor = SegmentCursor(start_s=0)
    assert feed(cursor, playlist_of("abs", sequence=0)) == list("abs")
    assert feed(cursor, playlist_of("bss", sequence=1)) == ["s"]
    assert feed(cursor, playlist_of("ssssc", sequence=2)) == ["s", "s", "c"]
    assert feed(cursor, playlist_of("sd", sequence=7)) == ["s", "d"]
    assert feed(cursor, playlist_of("sab", sequence=9)) == ["s", "a", "b"]  # the loop begins anew
    assert cursor.feed(playlist_of("ssc", sequence=4), 0) == Update()  # an older copy


def test_feed_a_slate_where_numbers_stand_still() -> None:
    """An address that came several times does not tell where the window is; the others do."""
    assert feed(opened(*"sabs"), playlist_of("absc"), playlist_of("bsca")) == ["c", "a"]
    assert feed(opened(*"xssa"), playlist_of("sayz")) == ["y", "z"]


def test_feed_a_restart_behind_an_older_copy() -> None:
    """How far the window was is not forgotten over an older copy."""
    cursor = opened(*"abcdef", sequence=7)
    assert feed(cursor, playlist_of("defg", sequence=10), playlist_of("abcd", sequence=7)) == ["g"]
    cursor.feed(playlist_of("wxyz", sequence=8), 0)
    assert cursor.feed(playlist_of("wxyz", sequence=8), 0).restarted


def test_feed_a_restart_with_the_same_names() -> None:
    """An encoder that begins again with the same names and numbers is followed from its first
    segment, as soon as its playlist moves on; one load of an old copy changes nothing."""
    cursor = opened(*range(12))
    assert feed(cursor, playlist_of(range(9, 13), sequence=9)) == ["12"]
    assert cursor.feed(playlist_of([0], sequence=0), 0) == Update()
    assert cursor.feed(playlist_of([0], sequence=0), 0) == Update()
    update = cursor.feed(playlist_of([0, 1], sequence=0), 0)
    assert (names(update), update.lost, update.restarted) == (["0", "1"], 0, True)
    assert cursor.feed(playlist_of(range(9, 13), sequence=9), 0) == Update()  # an old copy
    update = cursor.feed(playlist_of([0, 1, 2, 3], sequence=0), 0)
    assert (names(update), update.lost, update.restarted) == (["2", "3"], 0, False)
    assert feed(cursor, playlist_of([3, 4, 5, 6], sequence=3)) == ["4", "5", "6"]


def test_feed_a_restart_that_soon_reaches_the_window() -> None:
    """A new beginning that grows into the numbers that were there is believed all the same."""
    cursor = opened(0, 1, 2)
    assert feed(cursor, playlist_of(range(2, 6), sequence=2)) == ["3", "4", "5"]
    assert cursor.feed(playlist_of([0], sequence=0), 0) == Update()
    assert feed(cursor, playlist_of([0, 1, 2], sequence=0)) == ["0", "1", "2"]


def test_feed_a_restart_with_the_same_names_at_the_end() -> None:
    """A playlist that has ended is no old copy of one that goes on."""
    cursor = opened(*range(12))
    feed(cursor, playlist_of(range(9, 13), sequence=9))
    update = cursor.feed(playlist_of([0, 1], sequence=0, ended=True), 0)
    assert (names(update), update.restarted) == (["0", "1"], True)


def test_feed_older_copies_of_different_age() -> None:
    """Copies that come from several servers, one far behind, are no new beginning."""
    cursor = opened(*range(12))
    assert feed(cursor, playlist_of(range(9, 13), sequence=9)) == ["12"]
    for first in (4, 8):
        assert cursor.feed(playlist_of(range(first, first + 4), sequence=first), 0) == Update()
    assert feed(cursor, playlist_of(range(10, 14), sequence=10)) == ["13"]


def test_feed_segments_named_by_the_query() -> None:
    """Where only the query tells segments apart, it does, and signatures beside it do not."""

    def window(first: int, sequence: int, signature: str) -> MediaPlaylist:
        uris = [f"s.ts?sig={signature}{n}&n={n}" for n in range(first, first + 4)]
        return playlist_of(uris, sequence=sequence)

    cursor = SegmentCursor(start_s=0)
    assert len(feed(cursor, window(5, 5, "aaaa"))) == 4
    # numbers that stand still, or fall: the addresses are followed
    assert feed(cursor, window(6, 5, "bbbb")) == ["s.ts?sig=bbbb9&n=9"]
    assert feed(cursor, window(7, 0, "cccc")) == ["s.ts?sig=cccc10&n=10"]
    assert feed(cursor, window(7, 0, "dddd")) == []


def test_feed_a_loop_of_few_segments() -> None:
    """A channel that plays the same names in a circle goes on and on."""
    cursor = SegmentCursor(start_s=0)
    names_played = [f"{n % 7}.ts" for n in range(60)]
    fed: list[str] = []
    for begin in range(0, 56, 3):
        fed += feed(cursor, playlist_of(names_played[begin : begin + 5], sequence=begin))
    assert fed == names_played[:59]


def test_feed_ranges_of_one_resource() -> None:
    """Segments that are ranges of one resource are told apart by where they begin."""

    def window(first: int, sequence: int) -> MediaPlaylist:
        tags = [f"#EXT-X-BYTERANGE:10@{n * 10}" for n in range(first, first + 3)]
        entries = [Entry(uri="all.ts", tags=(tag,)) for tag in tags]
        return playlist_of(entries, sequence=sequence)

    cursor = SegmentCursor()
    offsets = [
        segment.byte_range.offset
        for playlist in (window(0, 5), window(1, 0), window(2, 1))
        for segment in cursor.feed(playlist, 0).segments
        if segment.byte_range is not None
    ]
    assert offsets == [0, 10, 20, 30, 40]


def test_feed_forgets_what_is_long_gone() -> None:
    """Memory is bounded; names that come back after a long time are no old acquaintances."""
    cursor = SegmentCursor(start_s=0)
    many = [f"{n}.ts" if n % 3 else "slate.ts" for n in range(3 * MEMORY_SEGMENTS)]
    assert feed(cursor, playlist_of(many, kind="EVENT", sequence=1)) == many
    assert feed(cursor, playlist_of([*many, "x.ts"], kind="EVENT", sequence=1)) == ["x.ts"]
    recent = [f"{n}.ts" for n in range(MEMORY_SEGMENTS)]
    assert feed(cursor, playlist_of(recent, sequence=4_000)) == recent
    cursor.feed(playlist_of(many[-9:], sequence=0), 0)
    update = cursor.feed(playlist_of(many[-9:], sequence=0), 0)
    assert (names(update), update.restarted) == (many[-9:], True)
    assert str(cursor.__dict__).count(".ts'") <= 2 * MEMORY_SEGMENTS


# -- EXT-X-SKIP ------------------------------------------------------------------------------------

KEYED = ['#EXT-X-MAP:URI="i.mp4"', '#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x1']


def delta(uris: Iterable[object], *, sequence: int, skipped: int) -> MediaPlaylist:
    head = [f"#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}", "#EXT-X-DISCONTINUITY-SEQUENCE:4"]
    return playlist_of(uris, sequence=sequence, head=head)


@pytest.mark.parametrize("skipped", [3, 4, 5])
def test_feed_a_delta_update(skipped: int) -> None:
    """What a delta update leaves out still holds: map, key, Discontinuity Sequence Number."""
    full = [
        *(Entry(uri="a", tags=tuple(KEYED)), Entry(uri="b", tags=("#EXT-X-DISCONTINUITY",))),
        *("c", Entry(uri="d", tags=("#EXT-X-DISCONTINUITY",)), "e"),
    ]
    cursor = SegmentCursor(start_s=0)
    first = cursor.feed(playlist_of(full, head=["#EXT-X-DISCONTINUITY-SEQUENCE:4"]), 0)
    new = ["f", Entry(uri="g", tags=("#EXT-X-DISCONTINUITY", '#EXT-X-MAP:URI="j.mp4"')), "h"]
    update = cursor.feed(delta([*full, *new][skipped:], sequence=0, skipped=skipped), 6)
    assert names(update) == ["f", "g", "h"]
    assert [s.discontinuity_sequence for s in update.segments] == [6, 7, 7]
    assert {s.key for s in update.segments} == {first.segments[0].key}
    maps = [(s.init_section.uri if s.init_section else "").rpartition("/")[2] for s in
            update.segments]  # fmt: skip
    assert maps == ["i.mp4", "j.mp4", "j.mp4"]


def test_feed_a_delta_update_that_begins_with_a_discontinuity() -> None:
    """The discontinuity of its first segment is counted once."""
    cursor = opened("a", "b")
    new = [Entry(uri="c", tags=("#EXT-X-DISCONTINUITY",))]
    update = cursor.feed(delta(new, sequence=0, skipped=2), 0)
    assert [s.discontinuity_sequence for s in update.segments] == [1]


def test_feed_a_delta_update_without_news() -> None:
    """A delta update may bring nothing, or leave out what was never seen."""
    cursor = opened(*"abc")
    assert cursor.feed(delta("c", sequence=0, skipped=2), 0) == Update()
    update = cursor.feed(delta("f", sequence=0, skipped=5), 0)
    assert (names(update), update.lost) == (["f"], 2)


def test_feed_a_delta_update_first() -> None:
    """Nobody asked for it: a live stream plays on, an EVENT has lost its beginning."""
    live = SegmentCursor().feed(delta("def", sequence=0, skipped=3), 0)
    assert (names(live), live.lost) == (list("def"), 0)
    head = ["#EXT-X-SKIP:SKIPPED-SEGMENTS=3"]
    event = SegmentCursor().feed(playlist_of("def", kind="EVENT", head=head), 0)
    assert (names(event), event.lost) == (list("def"), 3)


# -- when to reload --------------------------------------------------------------------------------


def test_reload_at_follows_the_target_duration() -> None:
    """After news a target duration, after none half of it, both from when the load began."""
    cursor = SegmentCursor()
    cursor.feed(playlist_of("abc"), 100)
    assert cursor.reload_at_s == 106
    cursor.feed(playlist_of("abc"), 106.5)
    assert cursor.reload_at_s == 109.5
    cursor.feed(playlist_of("bcd", sequence=1, target_duration_s=8), 110)
    assert cursor.reload_at_s == 118
    assert repr(cursor) == "<SegmentCursor next=4 reload at 118.0 s>"


def test_reload_at_has_a_least_pause() -> None:
    """Short segments are no reason to ask all the time."""
    cursor = SegmentCursor(settings=CursorSettings(reload_min_s=2))
    cursor.feed(playlist_of("abc", target_duration_s=1), 100)
    assert cursor.reload_at_s == 102
    cursor.feed(playlist_of("abc", target_duration_s=1), 102)
    assert cursor.reload_at_s == 104


def test_is_stale_after_a_while_without_segments() -> None:
    """Without a new segment for six target durations a playlist is taken to be dead."""
    cursor = SegmentCursor()
    assert not cursor.is_stale(1e9)
    cursor.feed(playlist_of("abc"), 100)
    cursor.feed(playlist_of("abc"), 130)
    assert not cursor.is_stale(136)
    assert cursor.is_stale(136.1)
    cursor.feed(playlist_of("bcd", sequence=1), 140)
    assert not cursor.is_stale(176)
    cursor.feed(playlist_of("bcd", sequence=1, ended=True), 180)
    assert not cursor.is_stale(1e9)
    assert repr(cursor) == "<SegmentCursor next=4 ended>"


def test_is_stale_not_before_a_least_time() -> None:
    """Short segments do not shorten the patience below its least."""
    cursor = SegmentCursor(settings=CursorSettings(stale_targets=2, stale_min_s=5))
    cursor.feed(playlist_of("abc", target_duration_s=1), 100)
    assert not cursor.is_stale(105)
    assert cursor.is_stale(105.1)


def test_is_stale_when_it_never_begins() -> None:
    """A live playlist that stays empty is waited for as long as one that stands still."""
    cursor = SegmentCursor()
    cursor.feed(playlist_of(""), 100)
    cursor.feed(playlist_of(""), 130)
    assert not cursor.is_stale(136)
    assert cursor.is_stale(136.1)


# -- whole histories -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["live", "event"])
def test_feed_the_histories_of_the_corpus(corpus: Path, kind: str) -> None:
    """Snapshots of a real window, each loaded twice, give all segments once."""
    cursor = SegmentCursor()
    fed: list[str] = []
    for path in sorted((corpus / "live-bbb360").glob(f"{kind}-*.m3u8")):
        assert not cursor.ended
        fed += feed(cursor, *[parse_media(path.read_bytes())] * 2)
    assert fed == [f"data{n:02}.ts" for n in range(6)]
    assert cursor.ended


LOADS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 3), st.booleans()), min_size=1, max_size=40
)


@settings(max_examples=150, deadline=None)
@given(LOADS, st.integers(3, 8), st.integers(0, 2**40), st.booleans(), st.booleans())
def test_feed_any_live_history(
    loads: list[tuple[int, int, bool]], window: int, first: int, slates: bool, tokens: bool
) -> None:
    """Whatever is loaded when, of old copies too: each segment once, in order, losses counted."""

    def load(begin: int, end: int, nonce: int, ended: bool) -> MediaPlaylist:
        query = f"?token={nonce}" if tokens else ""
        uris = [f"{'slate' if slates and n % 3 else n}.ts{query}" for n in range(begin, end)]
        return playlist_of(uris, sequence=first + begin, ended=ended)

    cursor = SegmentCursor(start_s=0)
    edge = window
    oldest = 0
    expected_next = 0
    for nonce, (steps, behind, lucky) in enumerate([*loads, (1, 0, True)]):
        edge += steps if lucky else steps * 3
        end = max(window, edge - behind, oldest + 1)  # never wholly older than what was ever seen
        oldest = min(oldest, end - window) if nonce else end - window
        update = cursor.feed(load(end - window, end, nonce, nonce == len(loads)), nonce)
        assert not update.restarted
        numbers = [segment.sequence - first for segment in update.segments]
        begin = expected_next + update.lost if nonce else end - window
        assert numbers == list(range(begin, begin + len(numbers)))
        assert update.lost == (max(0, end - window - expected_next) if nonce else 0)
        expected_next = max(expected_next, end)
        assert cursor.reload_at_s == nonce + (6 if numbers else 3)
    assert cursor.ended
    assert expected_next == edge


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=30),
    st.integers(4, 8),
    st.integers(0, 100),
)
def test_feed_any_history_of_numbers_that_fall_back(
    loads: list[tuple[int, int]], window: int, sequence: int
) -> None:
    """Where numbers fall back or stand still time and again, addresses keep segments in order."""
    cursor = SegmentCursor(start_s=0)
    end = window
    fed = feed(cursor, playlist_of(range(window), sequence=sequence))
    for steps, back in loads:
        end += steps
        sequence = max(0, sequence + steps - back)
        fed += feed(cursor, playlist_of(range(end - window, end), sequence=sequence))
    assert fed == [str(n) for n in range(end)]


RUNS = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["now", "past", "older", "former"]), st.integers(0, 3)),
        min_size=4,
        max_size=25,
    ),
    min_size=2,
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(RUNS, st.integers(3, 6), st.sampled_from(["same", "other", "query"]))
def test_feed_any_history_of_restarts(
    runs: list[list[tuple[str, int]]], window: int, naming: str
) -> None:
    """Encoders that begin anew, with the same names or others, windows that move past us, and old
    copies in between, also of what was before: each segment once, in order, losses counted."""
    cursor = SegmentCursor(start_s=0)
    nonce = 0

    def load(run: int, end: int) -> Update:
        nonlocal nonce
        nonce += 1
        begin = max(0, end - window)
        uris = {
            "same": [f"{n}.ts" for n in range(begin, end)],
            "other": [f"{run}-{n}.ts" for n in range(begin, end)],
            "query": [f"s.ts?n={n}&signature={nonce}-{n}" for n in range(begin, end)],
        }[naming]
        return cursor.feed(playlist_of(uris, sequence=begin), nonce)

    end = 0
    for run, loads in enumerate(runs):
        former_end, end, following = end, 1 if run else window, 0
        if run:  # is it so?
            assert load(run, end) == Update()
            end += 1
        update = load(run, end)
        assert update.restarted == (run > 0)
        numbers = [segment.sequence for segment in update.segments]
        assert numbers == list(range(end))
        following, copied = end, False
        # in the end it is far from its beginning
        for what, count in [*loads, *[("now", 1)] * (2 * window)]:
            if what == "older" and not copied and end > count + 1:
                assert load(run, end - count) == Update()
                copied = True
            elif what == "former" and not copied and former_end - window > end:
                assert load(run - 1, former_end) == Update()
                copied = True
            else:
                past = end + window + count
                # where the former run ended, its last copy and a loss look the same
                alike = naming != "other" and former_end - window < past <= former_end
                end = past if what == "past" and not alike else end + count
                update = load(run, end)
                begin = max(0, end - window)
                assert update.lost == max(0, begin - following)
                numbers = [segment.sequence for segment in update.segments]
                assert numbers == list(range(following + update.lost, end))
                assert not update.restarted
                following, copied = end, False
