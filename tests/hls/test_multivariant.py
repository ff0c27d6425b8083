"""Multivariant playlists: variants, renditions, I-frame and image streams."""

from __future__ import annotations

import pytest

from proxy.errors import PlaylistError
from proxy.hls.model import Rendition, Variant
from tests.support.playlists import parse_multivariant, rendition_tag, variant_lines

FOLDER = "https://origin.example/live/channel/"


def test_variant_with_all_attributes() -> None:
    """Every attribute of EXT-X-STREAM-INF that counts here arrives in its field."""
    playlist = parse_multivariant(
        '#EXT-X-STREAM-INF:BANDWIDTH=1280000,AVERAGE-BANDWIDTH=1000000,CODECS="avc1.4d401e, mp4a.'
        '40.2",RESOLUTION=640x360,FRAME-RATE=29.970,VIDEO-RANGE=SDR,AUDIO="a",VIDEO="v",'
        'SUBTITLES="s",NAME="low",PROGRAM-ID=1,HDCP-LEVEL=NONE,CLOSED-CAPTIONS=NONE',
        "low.m3u8",
    )
    assert playlist.variants == (
        Variant(
            uri=FOLDER + "low.m3u8",
            bandwidth=1_280_000,
            average_bandwidth=1_000_000,
            codecs=("avc1.4d401e", "mp4a.40.2"),
            width=640,
            height=360,
            frame_rate=29.97,
            video_range="SDR",
            audio_group="a",
            video_group="v",
            subtitles_group="s",
            name="low",
        ),
    )


@pytest.mark.parametrize(
    "attributes",
    ["", 'BANDWIDTH="INVALID",RESOLUTION=big,FRAME-RATE=x,CODECS=""', "BANDWIDTH=-1", "BANDWIDTH"],
)
def test_variant_with_attributes_that_cannot_be_read(attributes: str) -> None:
    """A variant is a variant, whatever its attributes are worth."""
    playlist = parse_multivariant(f"#EXT-X-STREAM-INF:{attributes}", "v.m3u8")
    assert playlist.variants == (Variant(uri=FOLDER + "v.m3u8", bandwidth=0),)


def test_variant_with_a_bandwidth_that_is_no_integer() -> None:
    """BANDWIDTH=1280000.4 occurs, and means what it says."""
    assert parse_multivariant(["#EXT-X-STREAM-INF:BANDWIDTH=1280000.4", "v"]).variants[0] == (
        Variant(uri=FOLDER + "v", bandwidth=1_280_000)
    )


def test_variant_without_a_uri_is_left_out() -> None:
    """EXT-X-STREAM-INF needs a URI behind it; a URI needs the tag before it."""
    playlist = parse_multivariant(
        "stray.m3u8",
        "#EXT-X-STREAM-INF:BANDWIDTH=1",
        variant_lines("b.m3u8", BANDWIDTH=2),
        "stray.m3u8",
        "#EXT-X-STREAM-INF:BANDWIDTH=3",
    )
    assert [(v.bandwidth, v.uri) for v in playlist.variants] == [(2, FOLDER + "b.m3u8")]


def test_variants_none_with_a_uri() -> None:
    """Without a single address there is nothing to play."""
    with pytest.raises(PlaylistError, match=r"^line 2: no variant with an address"):
        parse_multivariant("#EXT-X-STREAM-INF:BANDWIDTH=1")


def test_i_frame_and_image_streams_are_kept_apart() -> None:
    """I-frame and image streams are no variants; those without an address are left out."""
    playlist = parse_multivariant(
        variant_lines("v.m3u8", BANDWIDTH=1),
        '#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=2,URI="i.m3u8",RESOLUTION="2x1"',
        '#EXT-X-IMAGE-STREAM-INF:BANDWIDTH=3,CODECS="jpeg",URI="t.m3u8"',
        "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=4",
    )
    assert [v.bandwidth for v in playlist.variants] == [1]
    assert [(v.bandwidth, v.width) for v in playlist.i_frame_variants] == [(2, 2), (3, None)]


def test_rendition_with_all_attributes() -> None:
    """Every attribute of EXT-X-MEDIA that counts here arrives in its field."""
    playlist = parse_multivariant(
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="It\'s, um, English",LANGUAGE="en",'
        'ASSOC-LANGUAGE="fr",DEFAULT=YES, AUTOSELECT=YES,FORCED="NO",URI="en.m3u8",CHANNELS="6",'
        'CHARACTERISTICS="public.accessibility.describes-video, public.easy-to-read"'
    )
    assert playlist.variants == ()
    assert playlist.renditions == (
        Rendition(
            type="AUDIO",
            group_id="a",
            name="It's, um, English",
            uri=FOLDER + "en.m3u8",
            language="en",
            assoc_language="fr",
            default=True,
            autoselect=True,
            forced=False,
            characteristics=("public.accessibility.describes-video", "public.easy-to-read"),
            channels="6",
        ),
    )


def test_rendition_with_few_attributes() -> None:
    """A rendition without an address is inside its variant; missing attributes are empty."""
    playlist = parse_multivariant(
        rendition_tag(NAME="en", DEFAULT=True), '#EXT-X-MEDIA:URI="",TYPE=subtitles'
    )
    assert playlist.renditions == (
        Rendition(type="AUDIO", group_id="a", name="en", default=True),
        Rendition(type="SUBTITLES", group_id="", name=""),
    )
