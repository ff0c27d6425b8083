"""parse_playlist as a whole: the two kinds, the corpus, any bytes at all, and the time it takes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import m3u8
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import PlaylistError
from proxy.hls.model import MediaPlaylist, MultivariantPlaylist
from proxy.hls.parse import Limits, parse_playlist
from tests.support.playlists import BASE_URL, media_text, multivariant_text, variant_lines

# The texts of the corpus that are refused.  All others parse to the kind and the number of segments
# that INDEX.json states.
REFUSED = {
    "m3u8-parser__empty.m3u8": (1, "no text at all"),
    "m3u8-parser__headerOnly.m3u8": (1, "#EXTM3U and nothing else"),
    "m3u8__SESSION_DATA_PLAYLIST.m3u8": (3, "session data without a variant"),
    "m3u8__MULTIPLE_SESSION_DATA_PLAYLIST.m3u8": (6, "session data without a variant"),
    "m3u8__DATERANGE_IN_PART_PLAYLIST.m3u8": (
        7,
        "parts without a segment or EXT-X-TARGETDURATION: nothing to play, no telling when to look",
    ),
    "m3u8__PLAYLIST_WITH_SLASH_IN_QUERY_STRING.m3u8": (
        13,
        "cut off behind the last EXTINF: its segment would be missing from the output unnoticed",
    ),
    "m3u8__sample-playlists_media-playlist-with-cue-out-in-without-oatcls.m3u8": (
        136,
        "cut off behind the last EXTINF, too",
    ),
    "m3u8-parser__llhls-delta-byte-range.m3u8": (
        7,
        "EXT-X-SKIP between EXTINF and its segment, and that segment missing: numbers unknown",
    ),
    "m3u8__PLAYLIST_WITH_TAG_MEDIA_READY.m3u8": (
        6,
        'EXT-X-KEY:METHOD=AES-128,URI="[KEY]",IV=[IV]: no such key, and no such IV',
    ),
}


class IndexEntry(TypedDict):
    """An entry of the corpus's INDEX.json."""

    file: str
    kind: str
    segments: int


def index_of(corpus: Path) -> list[IndexEntry]:
    entries: list[IndexEntry] = json.loads((corpus / "playlists" / "INDEX.json").read_text())
    return entries


def kind_and_segments(text: bytes) -> tuple[str, int]:
    playlist = parse_playlist(text, BASE_URL)
    if isinstance(playlist, MultivariantPlaylist):
        return "master", 0
    return "media", len(playlist.segments)


def test_parse_playlist_on_every_text_of_the_corpus(corpus: Path) -> None:
    """Each text in use parses to its kind and its segments; exactly the listed ones are refused."""
    expected: dict[str, object] = {}
    found: dict[str, object] = {}
    for entry in index_of(corpus):
        name = entry["file"]
        expected[name] = REFUSED[name][0] if name in REFUSED else (entry["kind"], entry["segments"])
        try:
            found[name] = kind_and_segments((corpus / "playlists" / name).read_bytes())
        except PlaylistError as error:
            found[name] = error.line
    assert found == expected
    assert found.keys() >= REFUSED.keys()


def test_parse_playlist_on_the_presentations_of_the_corpus(corpus: Path) -> None:
    """No playlist of a presentation is refused, those of refused media included."""
    playlists = [path for path in corpus.glob("*/*.m3u8") if path.parent.name != "playlists"]
    assert playlists
    for path in playlists:
        parse_playlist(path.read_bytes(), BASE_URL)


def test_parse_playlist_agrees_with_m3u8(corpus: Path) -> None:
    """Where the m3u8 package reads a text without fault, addresses and durations are the same."""
    compared = 0
    for entry in index_of(corpus):
        text = (corpus / "playlists" / entry["file"]).read_text("utf-8", "replace")
        try:
            ours = parse_playlist(text, BASE_URL)
            theirs = m3u8.loads(text)
        except (PlaylistError, ValueError, KeyError):
            continue
        compared += 1
        if isinstance(ours, MultivariantPlaylist):
            assert [v.bandwidth for v in ours.variants] == [
                p.stream_info.bandwidth for p in theirs.playlists
            ], entry["file"]
            assert [list(v.codecs) for v in ours.variants] == [
                [c.strip() for c in (p.stream_info.codecs or "").split(",") if c]
                for p in theirs.playlists
            ]
            assert [(r.type, r.group_id, r.name, r.language) for r in ours.renditions] == [
                (m.type, m.group_id or "", m.name, m.language) for m in theirs.media
            ]
        else:
            segments = [s for s in theirs.segments if s.uri is not None]
            assert [s.uri.rpartition("/")[2] for s in ours.segments] == [
                s.uri.rpartition("/")[2] for s in segments
            ], entry["file"]
            assert [s.duration_s for s in ours.segments] == [s.duration for s in segments]
            assert [s.title for s in ours.segments] == [s.title.strip() for s in segments]
            assert [s.discontinuity for s in ours.segments] == [s.discontinuity for s in segments]
            assert ours.ended == theirs.is_endlist
    assert compared > 230


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("#EXTM3U\n#EXTINF:1\na.ts\n#EXT-X-STREAM-INF:BANDWIDTH=1\nb.m3u8\n", 4),
        ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nb.m3u8\n#EXTINF:1\na.ts\n", 4),
    ],
)
def test_parse_playlist_with_segments_and_variants(text: str, line: int) -> None:
    """A text of both kinds is refused (RFC 8216bis 4.1), at the line where the second begins."""
    with pytest.raises(PlaylistError) as error:
        parse_playlist(text, BASE_URL)
    assert error.value.line == line


def test_parse_playlist_with_stray_tags_of_the_other_kind() -> None:
    """A tag that belongs to the other kind does not turn a playlist into it."""
    master = multivariant_text("#EXT-X-TARGETDURATION:6", variant_lines("v.m3u8", BANDWIDTH=1))
    assert isinstance(parse_playlist(master, BASE_URL), MultivariantPlaylist)
    media = media_text(["a.ts"], head=['#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a"'])
    assert isinstance(parse_playlist(media, BASE_URL), MediaPlaylist)


def test_parse_playlist_with_unknown_tags_only() -> None:
    """Tags that tell of neither kind are no playlist; the message names the last line."""
    with pytest.raises(PlaylistError, match=r"^line 3: neither segments nor variants"):
        parse_playlist("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-NEW\n", BASE_URL)


def test_parse_playlist_error_shows_no_address() -> None:
    """What is said to the outside names the line and the tag, and no address: they hold tokens."""
    with pytest.raises(PlaylistError) as error:
        parse_playlist(
            media_text(["https://[secret"], head=["#EXT-X-VERSION:3"]), "https://o.example/?secret"
        )
    assert error.value.detail == (
        "The playlist is malformed: line 6: the URI line has an address that cannot be read."
    )


# -- any bytes at all ------------------------------------------------------------------------------

TAGS = st.sampled_from(
    """#EXTM3U|#EXTINF:4,|#EXTINF:-1,x|#EXTINF:nan|#EXTINF|a.ts|http://[|//x/y.ts?{$v}|../b|{$v}
    |#EXT-X-TARGETDURATION:4|#EXT-X-TARGETDURATION:|#EXT-X-MEDIA-SEQUENCE:9|#EXT-X-MEDIA-SEQUENCE:x
    |#EXT-X-BYTERANGE:10|#EXT-X-BYTERANGE:10@0|#EXT-X-BYTERANGE:9223372036854775807@1
    |#EXT-X-BYTERANGE:99999999999999999999@1|#EXT-X-BYTERANGE:0|#EXT-X-DISCONTINUITY|#EXT-X-GAP
    |#EXT-X-DISCONTINUITY-SEQUENCE:3|#EXT-X-ENDLIST|#EXT-X-PLAYLIST-TYPE:VOD
    |#EXT-X-PLAYLIST-TYPE:EVENT|#EXT-X-SKIP:SKIPPED-SEGMENTS=3|#EXT-X-SKIP:|#EXT-X-I-FRAMES-ONLY
    |#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x1|#EXT-X-KEY:METHOD=NONE|#EXT-X-KEY:URI="k"
    |#EXT-X-KEY:METHOD=SAMPLE-AES,KEYFORMAT="x",URI="skd://x"|#EXT-X-KEY:METHOD=AES-128,IV=5
    |#EXT-X-MAP:URI="i.mp4"|#EXT-X-MAP:URI="i.mp4",BYTERANGE="7"|#EXT-X-MAP:|#EXT-X-START:
    |#EXT-X-START:TIME-OFFSET=-3|#EXT-X-DEFINE:NAME="v",VALUE="w"|#EXT-X-DEFINE:IMPORT="v"
    |#EXT-X-DEFINE:QUERYPARAM="token"|#EXT-X-DEFINE:|#EXT-X-PART:DURATION=1,URI="p"|#EXT-X-VERSION:x
    |#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=1x1,CODECS="avc1"|#EXT-X-STREAM-INF:BANDWIDTH=x
    |#EXT-X-I-FRAME-STREAM-INF:URI="i"|#EXT-X-IMAGE-STREAM-INF:URI="http://["
    |#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="it's",URI="a.m3u8"|#EXT-X-MEDIA:URI="|#EXT-X-MEDIA:
    |#EXT-X-SESSION-KEY:METHOD=AES-128,URI="k"|#EXT-X-INDEPENDENT-SEGMENTS|#
    """.replace("\n", "")
    .replace("    ", "")
    .split("|")
)
LINES = st.one_of(TAGS, st.builds(lambda tag, junk: tag[:-1] + junk, TAGS, st.text(max_size=8)))


def parse_or_refuse(text: bytes | str) -> None:
    """Parse; a playlist must keep its promises, and a refusal must name a line."""
    try:
        playlist = parse_playlist(text, BASE_URL)
    except PlaylistError as refused:
        line = refused.line
    else:
        keeps_promises(playlist)
        return
    assert line is not None
    assert line >= 1


def keeps_promises(playlist: MultivariantPlaylist | MediaPlaylist) -> None:
    if isinstance(playlist, MediaPlaylist):
        assert playlist.target_duration_s > 0
        for number, segment in enumerate(playlist.segments):
            first = playlist.media_sequence + playlist.skipped_segments
            assert segment.sequence == first + number
            assert 0 <= segment.duration_s <= 86_400
            assert segment.byte_range is None or (
                0 <= segment.byte_range.offset < segment.byte_range.end < 2**63
            )
    else:
        assert playlist.variants or playlist.i_frame_variants or playlist.renditions


@settings(deadline=None)
@given(st.binary())
def test_parse_playlist_on_any_bytes(body: bytes) -> None:
    """Any bytes parse or are refused, with a header in front of them or not."""
    parse_or_refuse(body)
    parse_or_refuse(b"#EXTM3U\n" + body)


@settings(deadline=None)
@given(st.text())
def test_parse_playlist_on_any_text(text: str) -> None:
    """So does any text: separators of all writing systems, lone surrogates."""
    parse_or_refuse(text)
    parse_or_refuse("#EXTM3U\n#EXTINF:1,\n" + text)


@settings(max_examples=300, deadline=None)
@given(st.lists(LINES, max_size=30), st.sampled_from(["\n", "\r\n", "\r"]))
def test_parse_playlist_on_any_mixture_of_tags(lines: list[str], ending: str) -> None:
    """Tags in any order, whole and broken, parse or are refused."""
    parse_or_refuse(ending.join(["#EXTM3U", *lines]))


def test_parse_playlist_on_mutated_texts(corpus: Path) -> None:
    """Texts in use with bytes cut out, doubled, swapped and replaced parse or are refused."""
    texts = [(corpus / "playlists" / e["file"]).read_bytes() for e in index_of(corpus)]
    text = st.sampled_from([text for text in texts if text])
    position = st.floats(0, 1)
    junk = st.one_of(st.binary(max_size=6), st.sampled_from([b'"', b",", b"{$x}", b"\n", b"nan"]))

    @settings(max_examples=400, deadline=None)
    @given(text, st.lists(st.tuples(position, position, junk), min_size=1, max_size=4))
    def mutate(body: bytes, edits: list[tuple[float, float, bytes]]) -> None:
        for at, length, replacement in edits:
            begin = int(at * len(body))
            end = begin + int(length * 20)
            body = body[:begin] + replacement + body[end:]
        parse_or_refuse(body)

    mutate()


# -- time and memory -------------------------------------------------------------------------------


def many(count: int, line: Callable[[int], str]) -> str:
    return "#EXTM3U\n#EXT-X-TARGETDURATION:6\n" + "".join(line(n) for n in range(count))


HEAVY: dict[str, Callable[[], str]] = {
    "a million lines": lambda: many(1_000_000, lambda _: "\n"),
    "a million segments": lambda: many(1_000_000, lambda n: f"#EXTINF:6,\n{n}.ts\n"),
    "as many segments as allowed": lambda: many(
        50_000, lambda n: f"#EXTINF:6,\n../a b/{n}.ts?t=1\n"
    ),
    "as many lines as allowed": lambda: many(
        49_999,
        lambda n: (
            f'#EXT-X-KEY:METHOD=AES-128,URI="{n % 900}",IV=0x{n % 900:x}\n'
            f"#EXT-X-BYTERANGE:9\n#EXTINF:x,\ns{n}.ts\n"
        ),
    ),
    "a map for each segment": lambda: many(
        50_000, lambda n: f'#EXT-X-MAP:URI="{n}",BYTERANGE="1@0"\n#EXTINF:6,\n{n}.ts\n'
    ),
    "a key for each segment": lambda: many(
        50_000, lambda n: f'#EXT-X-KEY:METHOD=AES-128,URI="{n}"\n#EXTINF:6,\n{n}.ts\n'
    ),
    "millions of attributes": lambda: many(500, lambda _: f"#EXT-X-START:{'a=1,' * 4_000}\n"),
    "unclosed quotes": lambda: many(500, lambda _: f"#EXT-X-START:{chr(34) * 16_001}\n"),
    "variables of variables": lambda: many(
        40, lambda n: f'#EXT-X-DEFINE:NAME="v{n}",VALUE="{f"{{$v{n - 1}}}" * 9 if n else "x"}"\n'
    ),
    "long variables in each address": lambda: (
        f'#EXTM3U\n#EXT-X-DEFINE:NAME="v",VALUE="{"x" * 16_000}"\n' + "#EXTINF:6,\n{$v}\n" * 50_000
    ),
}


@pytest.mark.parametrize("name", HEAVY)
def test_parse_playlist_takes_no_time(name: str) -> None:
    """Texts made to hurt are read or refused within a second (of this process's time)."""
    text = HEAVY[name]().encode()
    began_s = time.process_time()
    parse_or_refuse(text)
    assert time.process_time() - began_s < 2.5  # 1 s, and room for coverage and slow machines


@pytest.mark.parametrize(
    ("limits", "text", "line", "code"),
    [
        (Limits(lines=2), media_text(["a.ts"]), 3, "too_many_lines"),
        (Limits(line_chars=30), media_text(["a.ts" * 8]), 5, "line_too_long"),
        (Limits(segments=1), media_text(["a.ts", "b.ts"]), None, "too_many_segments"),
        (
            Limits(segments=1),
            media_text(["a.ts", "b.ts"]).replace("#EXTINF", " #EXTINF"),
            7,
            "too_many_segments",
        ),
        (
            Limits(attributes=1),
            media_text(["a.ts"], head=["#EXT-X-MAP:URI=a,X=b"]),
            4,
            "too_many_attributes",
        ),
        (
            Limits(keys=1),
            media_text(["a"], head=["#EXT-X-KEY:METHOD=A", "#EXT-X-KEY:METHOD=B"]),
            5,
            "too_many_keys",
        ),
        (
            Limits(init_sections=1),
            media_text(["a"], head=["#EXT-X-MAP:URI=a", "#EXT-X-MAP:URI=a", "#EXT-X-MAP:URI=b"]),
            6,
            "too_many_init_sections",
        ),
        (
            Limits(expanded_chars=60),
            media_text(["a.ts", "b.ts"]),
            7,
            "playlist_expands_too_far",
        ),
        (
            Limits(variants=1),
            multivariant_text(variant_lines("a", BANDWIDTH=1), variant_lines("b", BANDWIDTH=2)),
            5,
            "too_many_variants",
        ),
        (
            Limits(variants=1),
            multivariant_text(*["#EXT-X-I-FRAME-STREAM-INF:URI=a"] * 2),
            3,
            "too_many_variants",
        ),
        (
            Limits(renditions=1),
            multivariant_text(*["#EXT-X-MEDIA:TYPE=AUDIO"] * 2),
            3,
            "too_many_renditions",
        ),
    ],
)
def test_parse_playlist_with_more_than_a_limit(
    limits: Limits, text: str, line: int | None, code: str
) -> None:
    """One more of anything than its limit is refused by a code of its own, at the line that is too
    much (segments are counted before the lines are)."""
    with pytest.raises(PlaylistError) as error:
        parse_playlist(text, BASE_URL, limits=limits)
    assert (error.value.line, error.value.code, error.value.status) == (line, code, 502)
