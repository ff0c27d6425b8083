"""Media playlists: numbers, byte ranges, maps, keys, discontinuities, what counts as a segment."""

from __future__ import annotations

import pytest

from proxy.errors import PlaylistError
from proxy.hls.model import ByteRange, InitSection, Key, MediaPlaylist
from tests.support.playlists import Entry, media_text, parse_media

FOLDER = "https://origin.example/live/channel/"


def parse_lines(*lines: str) -> MediaPlaylist:
    return parse_media("\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:6", *lines]))


def refusal(*lines: str) -> str:
    with pytest.raises(PlaylistError) as error:
        parse_lines(*lines)
    return str(error.value)


def ranges_of(playlist: MediaPlaylist) -> list[tuple[int, int] | None]:
    ranges = [segment.byte_range for segment in playlist.segments]
    return [None if one is None else (one.offset, one.length) for one in ranges]


# -- the playlist ----------------------------------------------------------------------------------


def test_playlist_tags() -> None:
    """The tags of a Media Playlist arrive in their fields."""
    playlist = parse_media(
        media_text(
            ["a.ts", "b.ts"],
            target_duration_s=7,
            media_sequence=41,
            playlist_type="event",
            head=["#EXT-X-DISCONTINUITY-SEQUENCE:3", "#EXT-X-I-FRAMES-ONLY"],
        )
    )
    assert playlist.target_duration_s == 7
    assert playlist.media_sequence == 41
    assert playlist.discontinuity_sequence == 3
    assert playlist.playlist_type == "EVENT"
    assert playlist.ended
    assert not playlist.live
    assert playlist.i_frames_only
    assert playlist.duration_s == 12
    assert [s.sequence for s in playlist.segments] == [41, 42]


@pytest.mark.parametrize("value", ["", "gobblegobble", "-2680", "1.5", "99999999999999999999"])
def test_playlist_numbers_that_are_none(value: str) -> None:
    """Sequence numbers that are none count as missing, and an unknown type as no type."""
    playlist = parse_media(
        media_text(
            ["a.ts"],
            media_sequence=None,
            playlist_type=value,
            ended=False,
            head=[f"#EXT-X-MEDIA-SEQUENCE:{value}", f"#EXT-X-DISCONTINUITY-SEQUENCE:{value}"],
        )
    )
    assert playlist.media_sequence == 0
    assert playlist.discontinuity_sequence == 0
    assert playlist.playlist_type is None
    assert playlist.live


def test_playlist_of_type_vod_without_an_end() -> None:
    """PLAYLIST-TYPE:VOD says that nothing will change, EXT-X-ENDLIST or not."""
    assert not parse_media(media_text(["a.ts"], playlist_type="VOD", ended=False)).live


def test_sequence_numbers_behind_a_segment_are_ignored() -> None:
    """Both sequence tags must come before what they number (4.4.3.2, 4.4.3.3)."""
    playlist = parse_lines(
        "#EXT-X-MEDIA-SEQUENCE:5",
        "#EXT-X-DISCONTINUITY",
        "#EXT-X-DISCONTINUITY-SEQUENCE:9",
        "#EXTINF:1,",
        "a.ts",
        "#EXT-X-MEDIA-SEQUENCE:7",
        "#EXT-X-DISCONTINUITY-SEQUENCE:9",
        "#EXTINF:1,",
        "b.ts",
    )
    assert [(s.sequence, s.discontinuity_sequence) for s in playlist.segments] == [(5, 1), (6, 1)]


@pytest.mark.parametrize("value", ["0", "x", "", "-6", "nan", "99999999"])
def test_target_duration_that_is_none(value: str) -> None:
    """Without a target duration the longest segment stands in for it."""
    text = media_text(
        [Entry(uri="a.ts", duration_s=4), Entry(uri="b.ts", duration_s=5)],
        target_duration_s=None,
        head=[f"#EXT-X-TARGETDURATION:{value}"],
    )
    assert parse_media(text).target_duration_s == 5


def test_target_duration_where_nothing_tells_it() -> None:
    """Where no segment has a length either, ten seconds are assumed, for all of them."""
    playlist = parse_media("#EXTINF:0,a\na.ts\n#EXTINF:-1,b\nb.ts\n")
    assert playlist.target_duration_s == 10
    assert [s.duration_s for s in playlist.segments] == [0, 10]


def test_playlist_without_a_segment_that_is_about_to_begin() -> None:
    """A live playlist may be empty, so long as it tells when to look again."""
    playlist = parse_media(media_text([], ended=False))
    assert playlist.segments == ()
    assert playlist.live


@pytest.mark.parametrize(
    "text",
    [
        media_text([]),
        media_text([], ended=False, playlist_type="VOD"),
        media_text([], ended=False, target_duration_s=None, head=["#EXT-X-BYTERANGE:1@0"]),
    ],
)
def test_playlist_without_a_segment_for_ever(text: str) -> None:
    """An empty playlist to which none will be added is refused."""
    with pytest.raises(PlaylistError, match="no segment up to here, and none to come"):
        parse_media(text)


# -- segments --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extinf", "duration_s", "title"),
    [
        ("#EXTINF:5.005,", 5.005, ""),
        ("#EXTINF:2.0", 2.0, ""),
        ("#EXTINF: 5 , a title, with commas ", 5.0, "a title, with commas"),
        ("#EXTINF:5,\t", 5.0, ""),
        ("#EXTINF:0,", 0.0, ""),
        ("#EXTINF:-1,Live", 6.0, "Live"),
        ("#EXTINF:;asljasdfii11)))00,", 6.0, ""),
        ("#EXTINF", 6.0, ""),
        ("#EXTINF:nan,", 6.0, ""),
        ("#EXTINF:1" + "0" * 300 + ",", 6.0, ""),
    ],
)
def test_extinf_in_any_spelling(extinf: str, duration_s: float, title: str) -> None:
    """A duration that is none is taken to be the target duration, 6 s here."""
    segment = parse_lines(extinf, "a.ts").segments[0]
    assert (segment.duration_s, segment.title) == (duration_s, title)


def test_segment_needs_extinf_or_byterange() -> None:
    """Lines that are no segments are passed over: RFC 8216bis 4.4.4.1 makes EXTINF required."""
    playlist = parse_lines(
        "{{#if endlist}}",
        "#EXTINF:1,",
        "#EXTINF:2,",
        "a.ts",
        "stray.ts",
        "#EXT-X-BYTERANGE:5@0",
        "b.ts",
        "#EXT-X-ENDLIST",
        "#EXTINF:3,",
        "c.ts",
    )
    assert [(s.uri.removeprefix(FOLDER), s.duration_s) for s in playlist.segments] == [
        ("a.ts", 2),
        ("b.ts", 6),
        ("c.ts", 3),
    ]


@pytest.mark.parametrize("tail", [[], ["#EXT-X-ENDLIST"], ["#EXT-X-DISCONTINUITY", "# done"]])
def test_segment_that_is_cut_off(tail: list[str]) -> None:
    """A text that ends between EXTINF and its segment is refused, at the EXTINF."""
    assert refusal("#EXTINF:1,", "a.ts", "#EXTINF:1,", *tail).startswith("line 5: EXTINF without")


def test_parts_make_no_segment() -> None:
    """The tags of low latency add nothing, before the segment they become and at the end."""
    playlist = parse_lines(
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.0",
        "#EXT-X-PART-INF:PART-TARGET=0.3",
        '#EXT-X-PART:DURATION=0.3,URI="a1.mp4"',
        "#EXTINF:4,",
        "a.mp4",
        '#EXT-X-PART:DURATION=0.3,URI="b1.mp4",GAP=YES',
        '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="b2.mp4"',
        '#EXT-X-RENDITION-REPORT:URI="../2/x.m3u8",LAST-MSN=1',
    )
    assert [s.uri for s in playlist.segments] == [FOLDER + "a.mp4"]
    assert not playlist.segments[0].gap


def test_gap_and_discontinuity_apply_to_one_segment() -> None:
    """EXT-X-GAP and EXT-X-DISCONTINUITY hold for the next segment; each of the latter counts."""
    playlist = parse_lines(
        "#EXT-X-DISCONTINUITY-SEQUENCE:10",
        "#EXTINF:1,",
        "a.ts",
        "#EXT-X-DISCONTINUITY",
        "#EXT-X-DISCONTINUITY",
        "#EXTINF:1,",
        "#EXT-X-GAP",
        "b.ts",
        "#EXTINF:1,",
        "c.ts",
    )
    assert [(s.gap, s.discontinuity, s.discontinuity_sequence) for s in playlist.segments] == [
        (False, False, 10),
        (True, True, 12),
        (False, False, 12),
    ]


# -- EXT-X-SKIP ------------------------------------------------------------------------------------


def test_skip_counts_in_the_numbers() -> None:
    """The segments behind EXT-X-SKIP are numbered as if the others were there."""
    playlist = parse_lines(
        "#EXT-X-MEDIA-SEQUENCE:266", "#EXT-X-SKIP:SKIPPED-SEGMENTS=3", "#EXTINF:4,", "a.mp4"
    )
    assert playlist.skipped_segments == 3
    assert [s.sequence for s in playlist.segments] == [269]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["#EXT-X-SKIP:SKIPPED-SEGMENTS=x"], "line 3: EXT-X-SKIP does not tell how many"),
        (["#EXT-X-SKIP:"], "line 3: EXT-X-SKIP does not tell how many"),
        (["#EXTINF:1,", "#EXT-X-SKIP:SKIPPED-SEGMENTS=1"], "line 4: EXT-X-SKIP stands behind"),
        (["#EXTINF:1,", "a", "#EXT-X-SKIP:SKIPPED-SEGMENTS=1"], "line 5: EXT-X-SKIP stands behind"),
        (["#EXT-X-SKIP:SKIPPED-SEGMENTS=1"] * 2, "line 4: EXT-X-SKIP stands behind"),
    ],
)
def test_skip_that_leaves_numbers_unknown(lines: list[str], why: str) -> None:
    """A delta update that does not tell which segments it leaves out is refused."""
    assert refusal(*lines, "#EXTINF:1,", "z.ts").startswith(why)


# -- EXT-X-BYTERANGE -------------------------------------------------------------------------------


def test_byterange_with_implied_offsets() -> None:
    """An offset left out is the end of the same resource's previous range, else 0."""
    playlist = parse_lines(
        *("#EXTINF:1,", "#EXT-X-BYTERANGE:10@5", "a.ts"),
        *("#EXTINF:1,", "#EXT-X-BYTERANGE: 20 ", "a.ts"),
        *("#EXTINF:1,", "#EXT-X-BYTERANGE:7", "b.ts"),
        *("#EXTINF:1,", "whole.ts"),
        *("#EXT-X-BYTERANGE:30@", "#EXTINF:1,", "a.ts"),
        *("#EXTINF:1,", "#EXT-X-BYTERANGE:3 @ 1", "b.ts"),
        *("#EXTINF:1,", "#EXT-X-BYTERANGE:1", "b.ts"),
    )
    assert ranges_of(playlist) == [(5, 10), (15, 20), (0, 7), None, (35, 30), (1, 3), (4, 1)]


def test_byterange_with_an_implied_offset_in_a_window_that_moved() -> None:
    """At the head of a window that has moved the offset cannot be known, and 0 would be wrong."""
    text = ["#EXT-X-BYTERANGE:10", "#EXTINF:1,", "a.ts", "#EXT-X-BYTERANGE:10", "#EXTINF:1,", "b"]
    assert ranges_of(parse_lines(*text)) == [(0, 10), (0, 10)]
    assert refusal("#EXT-X-MEDIA-SEQUENCE:3", *text) == (
        "line 6: EXT-X-BYTERANGE with no offset to go by"
    )


@pytest.mark.parametrize("value", ["", "0", "0@0", "x", "10@x", "-1@0", "10.5", "9" * 20, "1@1@1"])
def test_byterange_that_is_none(value: str) -> None:
    """A range that cannot be read is refused: the whole resource would be other media."""
    assert refusal(f"#EXT-X-BYTERANGE:{value}", "#EXTINF:1,", "a.ts") == (
        "line 3: EXT-X-BYTERANGE has a byte range that is none"
    )


def test_byterange_beyond_what_can_be_counted() -> None:
    """Ranges up to 2**63 - 1 are numbers like any other; beyond it they are refused."""
    edge = f"#EXT-X-BYTERANGE:1@{2**63 - 2}"
    assert ranges_of(parse_lines(edge, "#EXTINF:1,", "a.ts")) == [(2**63 - 2, 1)]
    assert refusal(edge, "#EXTINF:1,", "a.ts", "#EXT-X-BYTERANGE:1", "a.ts") == (
        "line 7: EXT-X-BYTERANGE ends beyond any resource"
    )


# -- EXT-X-MAP and EXT-X-KEY -----------------------------------------------------------------------


def test_map_holds_until_the_next() -> None:
    """A map holds for all segments behind it, with the key in force where it stands."""
    playlist = parse_lines(
        *("#EXTINF:1,", "a.ts"),
        '#EXT-X-MAP:URI="i.mp4",BYTERANGE="100@50"',
        *("#EXTINF:1,", "b.mp4", "#EXTINF:1,", "c.mp4"),
        *("#EXTINF:1,", '#EXT-X-MAP:URI="j.mp4",BYTERANGE="7"', "d.mp4"),
        '#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x1',
        *('#EXT-X-MAP:URI="i.mp4"', "#EXTINF:1,", "e.mp4"),
    )
    key = Key(method="AES-128", uri=FOLDER + "k", iv=bytes(15) + b"\x01")
    first = InitSection(uri=FOLDER + "i.mp4", byte_range=ByteRange(length=100, offset=50))
    assert [s.init_section for s in playlist.segments] == [
        None,
        first,
        first,
        InitSection(uri=FOLDER + "j.mp4", byte_range=ByteRange(length=7, offset=0)),
        InitSection(uri=FOLDER + "i.mp4", key=key),
    ]
    assert playlist.segments[1].init_section is playlist.segments[2].init_section


def test_map_that_is_repeated_is_one() -> None:
    """The same map before every segment is one init section, not many."""
    text = ['#EXT-X-MAP:URI="i.mp4"', "#EXTINF:1,", "a.mp4"] * 2
    first, second = parse_lines(*text).segments
    assert first.init_section is second.init_section


@pytest.mark.parametrize(
    ("attributes", "why"),
    [("", "has no URI"), ('URI=""', "has no URI"), ('URI="i",BYTERANGE="x"', "has a byte range")],
)
def test_map_that_cannot_be_fetched(attributes: str, why: str) -> None:
    """Without its map nothing behind it can be read: refused."""
    assert refusal(f"#EXT-X-MAP:{attributes}").startswith(f"line 3: EXT-X-MAP {why}")


def test_key_holds_until_the_next_or_none() -> None:
    """A key holds for all segments behind it, until another comes or METHOD=NONE."""
    playlist = parse_lines(
        *("#EXTINF:1,", "a"),
        *('#EXT-X-KEY:METHOD=AES-128,URI="1"', "#EXTINF:1,", "b", "#EXTINF:1,", "c"),
        *("#EXTINF:1,", '#EXT-X-KEY:METHOD=AES-128,URI="2"', "d"),
        *('#EXT-X-KEY:METHOD=NONE,URI=""', "#EXTINF:1,", "e"),
    )
    assert [s.key and (s.key.uri or "").removeprefix(FOLDER) for s in playlist.segments] == [
        None,
        "1",
        "1",
        "2",
        None,
    ]


def test_key_in_several_formats() -> None:
    """Of ways to the same key, identity is the one to take, wherever it stands among them."""
    identity = '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="1",KEYFORMAT="identity"'
    apple = '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://1",KEYFORMAT="com.apple"'
    widevine = '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="data:1",KEYFORMAT="urn:uuid:1"'
    for keys, expected in (
        ([identity, apple, widevine], "identity"),
        ([apple, identity, widevine], "identity"),
        ([apple, widevine], "urn:uuid:1"),
        ([identity, "#EXT-X-KEY:METHOD=NONE", apple], "com.apple"),
    ):
        key = parse_lines(*keys, "#EXTINF:1,", "a").segments[0].key
        assert key is not None
        assert key.key_format == expected


def test_key_of_another_method_ends_the_ones_before() -> None:
    """A key of DRM behind an AES-128 one is no second way to it: the old key is not tried on."""
    playlist = parse_lines(
        *('#EXT-X-KEY:METHOD=AES-128,URI="1"', "#EXTINF:1,", "ad"),
        *('#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://1",KEYFORMAT="x"', "#EXTINF:1,", "film"),
    )
    assert [s.key and s.key.method for s in playlist.segments] == ["AES-128", "SAMPLE-AES"]
