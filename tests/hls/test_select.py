"""Choosing: which variant and which audio a wish means, and when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import InvalidRequest, NoPlayableVariant
from proxy.hls.model import MultivariantPlaylist, Rendition, Variant
from proxy.hls.parse import parse_playlist
from proxy.hls.select import Choice, Quality, choose, select_rendition, select_variant
from tests.support.playlists import BASE_URL, parse_multivariant, rendition_tag, variant_lines

FOLDER = "https://origin.example/live/channel/"


def chosen(quality: str, *parts: str | list[str]) -> str:
    """Return the URI, as the playlist has it, of the variant that `quality` means."""
    variant = select_variant(parse_multivariant(*parts), Quality.parse(quality))
    return variant.uri.removeprefix(FOLDER)


# -- Quality ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "quality"),
    [
        ("best", Quality(kind="best")),
        ("worst", Quality(kind="worst")),
        ("audio", Quality(kind="audio")),
        ("720p", Quality(kind="height", limit=720)),
        ("2500k", Quality(kind="bandwidth", limit=2500)),
    ],
)
def test_quality_parse(text: str, quality: Quality) -> None:
    """The five forms are read, and written back as they were."""
    assert Quality.parse(text) == quality
    assert str(quality) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Best",
        "p",
        "0p",
        "-1p",
        "720",
        "720P",
        "720 p",
        "1e3k",
        "\u0667p",
        "720p\n",
        "9" * 10 + "k",
    ],
)
def test_quality_parse_anything_else(text: str) -> None:
    """Anything else is a 400 that names the parameter and what it takes."""
    with pytest.raises(InvalidRequest) as error:
        Quality.parse(text)
    for word in ("quality", "best", "worst", "audio", "720p", "2500k"):
        assert word in error.value.detail


# -- variants --------------------------------------------------------------------------------------

LADDER = [
    *variant_lines("mid", BANDWIDTH=2_000_000, RESOLUTION="1280x720", CODECS="avc1.1,mp4a.40.2"),
    *variant_lines("low", BANDWIDTH=500_000, RESOLUTION="640x360", CODECS="avc1.1,mp4a.40.2"),
    *variant_lines("mid2", BANDWIDTH=3_000_000, RESOLUTION="1280x720", CODECS="avc1.1,mp4a.40.2"),
    *variant_lines("high", BANDWIDTH=6_000_000, RESOLUTION="1920x1080", CODECS="avc1.1,mp4a.40.2"),
    *variant_lines("sound", BANDWIDTH=64_000, CODECS="mp4a.40.5"),
    '#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,RESOLUTION=1x1,URI="i",CODECS="avc1.1"',
    '#EXT-X-IMAGE-STREAM-INF:BANDWIDTH=99999999,RESOLUTION=9999x9999,URI="t",CODECS="jpeg"',
]


@pytest.mark.parametrize(
    ("quality", "uri"),
    [
        ("best", "high"),
        ("worst", "low"),
        ("1080p", "high"),
        ("1079p", "mid2"),
        ("720p", "mid2"),
        ("360p", "low"),
        ("100p", "low"),
        ("6000k", "high"),
        ("5999k", "mid2"),
        ("2000k", "mid"),
        ("1k", "low"),
        ("audio", "sound"),
    ],
)
def test_select_variant_of_a_ladder(quality: str, uri: str) -> None:
    """Limits mean at most that much, and the smallest where none is that small."""
    assert chosen(quality, LADDER) == uri


def test_select_variant_without_resolutions() -> None:
    """A height that is not stated fits no limit: then it is the lowest bandwidth."""
    ladder = [*variant_lines("a", BANDWIDTH=2), *variant_lines("b", BANDWIDTH=1)]
    assert [chosen(q, ladder) for q in ("best", "worst", "720p")] == ["a", "b", "b"]


def test_select_variant_of_equals_takes_the_first() -> None:
    """Of the same variant on two servers the first is taken; height decides before that."""
    ladder = [
        *variant_lines("a", BANDWIDTH=1, RESOLUTION="1x1"),
        *variant_lines("b", BANDWIDTH=1, RESOLUTION="2x2"),
        *variant_lines("c", BANDWIDTH=1, RESOLUTION="2x2"),
    ]
    assert [chosen(q, ladder) for q in ("best", "worst")] == ["b", "a"]


def test_select_variant_prefers_what_can_be_copied() -> None:
    """A variant that cannot be copied loses, and one of unknown codecs comes in between."""
    vvc = variant_lines("vvc", BANDWIDTH=9, CODECS="vvc1.1,mp4a.40.2")
    ac4 = variant_lines("ac4", BANDWIDTH=8, CODECS="avc1.1,ac-4.02")
    unknown = variant_lines("unknown", BANDWIDTH=7, CODECS="avc1.1,zzzz")
    hevc = variant_lines("hevc", BANDWIDTH=2, CODECS="hvc1.2,ec-3,wvtt")
    unstated = variant_lines("unstated", BANDWIDTH=3, RESOLUTION="2x2")
    assert chosen("best", vvc, ac4, unknown) == "unknown"
    assert chosen("best", vvc, ac4, unknown, hevc) == "hevc"
    assert chosen("best", vvc, ac4, unknown, hevc, unstated) == "unstated"


def test_select_variant_prefers_what_shows_video() -> None:
    """`worst` is the worst picture, not sound alone, even where CODECS does not tell."""
    video = variant_lines("video", BANDWIDTH=9, RESOLUTION="2x2")
    assert chosen("worst", variant_lines("maybe", BANDWIDTH=1, NAME="0 audio"), video) == "video"
    assert chosen("worst", variant_lines("maybe", BANDWIDTH=1), LADDER[-4:-2]) == "maybe"


def test_select_variant_of_audio_alone() -> None:
    """A radio station has variants too."""
    radio = [
        *variant_lines("a", BANDWIDTH=1, CODECS="mp4a.40.2"),
        *variant_lines("b", BANDWIDTH=2, CODECS="mp4a.40.2"),
    ]
    assert [chosen(q, radio) for q in ("best", "720p", "audio")] == ["b", "a", "b"]


@pytest.mark.parametrize("quality", ["best", "worst", "720p", "1k"])
def test_select_variant_when_none_can_be_copied(quality: str) -> None:
    """The refusal names the codecs; sound is not passed off as the film it belongs to."""
    playlist = parse_multivariant(
        variant_lines("a", BANDWIDTH=2, CODECS="vvc1.1,mp4a.40.2"),
        variant_lines("b", BANDWIDTH=1, CODECS="avc1.1,dtsc.\x1b"),
        variant_lines("c", BANDWIDTH=1, CODECS="mp4a.40.2"),
    )
    with pytest.raises(NoPlayableVariant) as error:
        select_variant(playlist, Quality.parse(quality))
    assert error.value.detail == (
        "No variant can be put into an MP4; players of MP4 do not take vvc1.1, dtsc.?."
    )


@pytest.mark.parametrize(
    "parts",
    [
        variant_lines("t", BANDWIDTH=1, CODECS="wvtt"),
        ['#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI="i"'],
        [rendition_tag(NAME="en", URI="en")],
    ],
)
@pytest.mark.parametrize("quality", ["best", "audio"])
def test_select_variant_when_there_is_only_text_or_pictures(parts: list[str], quality: str) -> None:
    """Playlists of nothing but text, I-frames or renditions have nothing to choose."""
    with pytest.raises(NoPlayableVariant, match="no variant with video or audio of its own"):
        chosen(quality, parts)


# -- audio alone -----------------------------------------------------------------------------------


def test_select_variant_for_audio_takes_the_best_audio_with_an_address() -> None:
    """Without a variant of audio alone it is the best one whose audio has its own playlist."""
    choice = choose(
        parse_multivariant(
            rendition_tag(GROUP_ID="lo", NAME="en", URI="lo"),
            rendition_tag(GROUP_ID="hi", NAME="en", URI="hi"),
            rendition_tag(GROUP_ID="in", NAME="en"),
            variant_lines("a", BANDWIDTH=1, CODECS="avc1.1,mp4a.40.5", AUDIO="lo"),
            variant_lines("b", BANDWIDTH=3, CODECS="vvc1.1,mp4a.40.2", AUDIO="hi"),
            variant_lines("c", BANDWIDTH=4, CODECS="avc1.1,ac-4", AUDIO="hi"),
            variant_lines("d", BANDWIDTH=5, CODECS="avc1.1,mp4a.40.2", AUDIO="in"),
        ),
        Quality.parse("audio"),
    )
    assert choice.variant.bandwidth == 3  # its video does not matter, its audio does
    assert choice.rendition is not None
    assert choice.rendition.uri == FOLDER + "hi"
    assert choice.audio_only


def test_select_variant_for_audio_takes_the_cheapest_with_audio_inside() -> None:
    """Where audio comes with video only, as little video as possible is fetched."""
    choice = choose(
        parse_multivariant(
            variant_lines("a", BANDWIDTH=5, CODECS="avc1.1,mp4a.40.2"),
            variant_lines("b", BANDWIDTH=2),
            variant_lines("mute", BANDWIDTH=1, CODECS="avc1.1"),
        ),
        Quality.parse("audio"),
    )
    assert choice == Choice(variant=Variant(uri=FOLDER + "b", bandwidth=2), audio_only=True)


def test_select_variant_for_audio_prefers_what_can_be_copied() -> None:
    """Audio alone that cannot be copied loses to audio that comes with video."""
    alone = variant_lines("alone", BANDWIDTH=1, CODECS="ac-4.02")
    assert (
        chosen("audio", alone, variant_lines("both", BANDWIDTH=2, CODECS="avc1.1,ac-3")) == "both"
    )


def test_select_variant_for_audio_where_all_is_mute() -> None:
    """Video without audio has no audio to give."""
    with pytest.raises(NoPlayableVariant):
        chosen("audio", variant_lines("mute", BANDWIDTH=1, CODECS="avc1.1"))


# -- renditions ------------------------------------------------------------------------------------

DESCRIBED = "public.accessibility.describes-video"
AUDIOS = [
    rendition_tag(NAME="Commentary", LANGUAGE="en", CHARACTERISTICS=DESCRIBED, URI="described"),
    rendition_tag(NAME="English", LANGUAGE="en-GB", URI="en"),
    rendition_tag(NAME="Français", LANGUAGE="fr", AUTOSELECT=True, DEFAULT=True, URI="fr"),
    rendition_tag(NAME="Québécois", LANGUAGE="fr-CA", URI="fr-ca"),
    rendition_tag(NAME="Music", URI="music"),
    rendition_tag(NAME="Deutsch", LANGUAGE="de", GROUP_ID="other", URI="other"),
    rendition_tag(NAME="Texte", LANGUAGE="nl", TYPE="SUBTITLES", URI="text"),
]


def rendition_of(audio: str | None, *tags: str, group: str = "a") -> str | None:
    """Return the URI of the rendition that `audio` means among `tags`; None: the variant's own."""
    playlist = parse_multivariant(*tags, variant_lines("v.m3u8", BANDWIDTH=1, AUDIO=group))
    rendition = select_rendition(playlist, playlist.variants[0], audio)
    return None if rendition is None else (rendition.uri or "").removeprefix(FOLDER)


@pytest.mark.parametrize(
    ("audio", "uri"),
    [
        (None, "fr"),
        ("fr", "fr"),
        ("FR-ca", "fr-ca"),
        ("en", "en"),
        ("en-gb", "en"),
        ("*", "fr"),
        ("music", "music"),
        ("QUÉBÉCOIS", "fr-ca"),
        ("commentary", "described"),
    ],
)
def test_select_rendition_by_language_or_name(audio: str | None, uri: str) -> None:
    """A language takes its variants too, the default and the plain one first; else it is a name."""
    assert rendition_of(audio, *AUDIOS) == uri


@pytest.mark.parametrize("audio", ["de", "nl", "e", "en-US", "fr-", "", "fran"])
def test_select_rendition_that_is_not_there(audio: str) -> None:
    """Audio that the group does not have is a 400 that names what it has."""
    with pytest.raises(InvalidRequest) as error:
        rendition_of(audio, *AUDIOS)
    assert error.value.detail == (
        "The parameter `audio` matches nothing here: en, en-GB, fr, fr-CA, Music."
    )


def test_select_rendition_without_a_default() -> None:
    """Without DEFAULT it is the one to be selected automatically, else the first."""
    first, second = rendition_tag(NAME="1", URI="1"), rendition_tag(NAME="2", URI="2")
    auto = rendition_tag(NAME="3", URI="3", AUTOSELECT=True)
    assert rendition_of(None, first, second) == "1"
    assert rendition_of(None, first, second, auto) == "3"


def test_select_rendition_inside_the_variant() -> None:
    """A rendition without an address, or with the variant's own, is the variant's own audio."""
    inside = rendition_tag(NAME="English", LANGUAGE="en", DEFAULT=True)
    french = rendition_tag(NAME="French", LANGUAGE="fr", URI="fr")
    assert rendition_of(None, inside, french) is None
    assert rendition_of("en", inside, french) is None
    assert rendition_of("fr", inside, french) == "fr"
    assert rendition_of("ja", inside, french) is None  # the segments may have it
    assert rendition_of(None, rendition_tag(NAME="same", URI="v.m3u8")) is None


def test_select_rendition_without_a_group() -> None:
    """Without renditions nothing is known about languages, so nothing is refused."""
    assert rendition_of("ja", *AUDIOS, group="none") is None
    playlist = parse_multivariant(variant_lines("v", BANDWIDTH=1))
    assert select_rendition(playlist, playlist.variants[0], "ja") is None


def test_select_rendition_error_shows_little() -> None:
    """A playlist cannot fill an error text, nor write control characters into it."""
    tags = [rendition_tag(NAME=f"\x1b[2J{n}" + "x" * 99, URI=str(n)) for n in range(60)]
    with pytest.raises(InvalidRequest) as error:
        rendition_of("ja", *tags)
    assert error.value.detail.isprintable()
    assert len(error.value.detail) < 1_000


# -- all of it -------------------------------------------------------------------------------------


def test_choose_on_the_presentations_of_the_corpus(corpus: Path) -> None:
    """The multivariant playlists of the corpus have a choice in each quality."""
    found = 0
    for path in sorted(corpus.glob("*/*.m3u8")):
        if path.parent.name == "playlists":
            continue
        playlist = parse_playlist(path.read_bytes(), f"https://o.example/{path.parent.name}/x")
        if isinstance(playlist, MultivariantPlaylist):
            found += 1
            choice = choose(playlist, Quality())
            name = choice.variant.uri.rpartition("/")[2]
            assert (path.parent / name).is_file()
            assert choice.variant.bandwidth == max(v.bandwidth for v in playlist.variants)
            if choice.rendition is not None:
                assert (path.parent / (choice.rendition.uri or "").rpartition("/")[2]).is_file()
    assert found > 8


VARIANTS = st.builds(
    Variant,
    uri=st.sampled_from(["a", "b", "c"]),
    bandwidth=st.integers(0, 9_000),
    height=st.sampled_from([None, 1, 2, 720]),
    codecs=st.lists(
        st.sampled_from(["avc1.1", "vvc1", "mp4a.40.2", "ac-4", "wvtt", "zz"]), max_size=3
    ).map(tuple),
    audio_group=st.sampled_from([None, "g", "h"]),
)
RENDITIONS = st.builds(
    Rendition,
    type=st.sampled_from(["AUDIO", "VIDEO"]),
    group_id=st.sampled_from(["g", "h"]),
    name=st.sampled_from(["x", "y"]),
    uri=st.sampled_from([None, "a", "r"]),
    language=st.sampled_from([None, "en", "en-GB"]),
    default=st.booleans(),
)


@settings(deadline=None)
@given(
    st.lists(VARIANTS, max_size=5),
    st.lists(RENDITIONS, max_size=5),
    st.sampled_from(["best", "worst", "audio", "2p", "3k"]),
    st.sampled_from([None, "en", "y", "zz"]),
)
def test_choose_on_any_playlist(
    variants: list[Variant], renditions: list[Rendition], quality: str, audio: str | None
) -> None:
    """A choice is one of the playlist's own, or a refusal with a status of the four hundreds."""
    playlist = MultivariantPlaylist(
        uri=BASE_URL, variants=tuple(variants), renditions=tuple(renditions)
    )
    try:
        choice = choose(playlist, Quality.parse(quality), audio)
    except (NoPlayableVariant, InvalidRequest):
        return
    assert choice.variant in variants
    assert choice.rendition is None or (
        choice.rendition in renditions and choice.rendition.uri not in {None, choice.variant.uri}
    )
    assert "wvtt" not in choice.variant.codecs or len(set(choice.variant.codecs)) > 1
