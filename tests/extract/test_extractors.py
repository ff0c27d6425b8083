"""Each extractor on a page of its own."""

import pytest

from proxy.extract.model import Standing
from proxy.extract.registry import registered
from tests.extract.helpers import URL, first, golden, linked, read, state_page, told

MEDIA = "https://media.example"


def test_json_ld_in_a_graph() -> None:
    """The VideoObject that is in no list is the page's: its content, then its player page."""
    page = golden("json_ld")
    assert told(page)[:2] == [
        ("hls", f"{MEDIA}/walk/main.m3u8?sig=1"),
        ("page", "https://site.example/embed/48213"),
    ]
    one = first(page)
    assert (one.extractor, one.width, one.height) == ("json_ld", 1920, 1080)
    assert [c.standing for c in page.candidates if "other" in c.url] == [Standing.OTHER]
    assert page.title == "A walk by the river"


def test_open_graph_groups() -> None:
    """Type and size belong to the addresses before them; a player page comes before a file."""
    page = golden("open_graph")
    assert told(page) == [
        ("hls", f"{MEDIA}/kettle/play"),
        ("page", "https://site.example/player/7"),
        ("mp4", "http://media.example/kettle.mp4"),
        ("mp4", f"{MEDIA}/kettle.mp4"),
    ]
    assert (page.candidates[2].width, page.candidates[2].height) == (640, 360)
    assert {one.extractor for one in page.candidates} == {"open_graph"}


def test_video_element_with_sources() -> None:
    """Sources have types and are relative to <base>; a picture in the background comes last."""
    page = golden("video_element")
    assert told(page) == [
        ("hls", f"{MEDIA}/shows/evening/index"),
        ("mp4", f"{MEDIA}/shows/evening.mp4"),
        ("mp4", f"{MEDIA}/shows/background.mp4"),
    ]


def test_embedded_state_finds_the_video_of_the_address() -> None:
    """Of all videos in a state, the one that the page's address names, in its best quality."""
    page = golden("embedded_state", "https://site.example/pin/700123/")
    assert told(page)[:3] == [
        ("hls", f"{MEDIA}/700123/v4.m3u8"),
        ("hls", f"{MEDIA}/700123/mobile.m3u8"),
        ("mp4", f"{MEDIA}/700123/720.mp4"),
    ]
    assert all(one.standing is Standing.OTHER for one in page.candidates[3:])


def test_embedded_state_finds_the_video_of_the_title() -> None:
    """Where the address says nothing, the title of the page does."""
    assert first(golden("embedded_state")).url == f"{MEDIA}/700123/v4.m3u8"


FLIGHT = r"""<script>self.__next_f.push([1,"1:{\"u\":\"https://m.exam"])</script>
<script>self.__next_f.push([1,"ple/a.m3u8\"}\n2:{}"])</script>"""


@pytest.mark.parametrize(
    "script",
    [
        '<script>window.__INITIAL_STATE__ = {"a": {"hls": "https://m.example/a.m3u8"}};</script>',
        '<script>var a = {b: 1}; window.s={"a":[{"file":"https://m.example/a.m3u8"}]};</script>',
        '<script>init({"url": "https:\\/\\/m.example\\/a.m3u8"})</script>',
        '<script>s = JSON.parse("{\\"url\\":\\"https://m.example/a.m3u8\\"}")</script>',
        r"""<script>s = JSON.parse('{"u":"https:\/\/m.example/\x61.m3u8","t":"it\'s"}')</script>""",
        '<script id="__NEXT_DATA__" type="application/json">["https://m.example/a.m3u8"]</script>',
        FLIGHT,
        '<script>s = {"json": "{\\"url\\": \\"https://m.example/a.m3u8\\"}"}</script>',
        '<script>s = {"hlsUrl": "https://m.example/a.m3u8", "width": NaN}</script>',
    ],
)
def test_embedded_state_is_cut_out(script: str) -> None:
    """State is found however a page carries it, behind literals that are no JSON, too."""
    assert told(read(f"<!doctype html>{script}")) == [("hls", "https://m.example/a.m3u8")]


def test_embedded_state_knows_hls_without_a_suffix() -> None:
    """A key or a type beside an address says what it is."""
    state = {
        "a": {"hlsManifest": f"{MEDIA}/one"},
        "b": {"url": f"{MEDIA}/two", "mimeType": "application/x-mpegURL"},
        "c": {"url": f"{MEDIA}/three", "type": "video/mp4"},
        "d": {"url": f"{MEDIA}/page", "type": "article"},
        "e": {"hlsPoster": f"{MEDIA}/poster.jpg"},
    }
    found = told(read(state_page(state)))
    assert found == [("hls", f"{MEDIA}/one"), ("hls", f"{MEDIA}/two"), ("mp4", f"{MEDIA}/three")]


def test_embedded_state_takes_the_highest_bandwidth() -> None:
    """Numbers beside an address, in its parent, in texts, in kbit/s."""
    state = {
        "files": [
            {"src": f"{MEDIA}/low.m3u8", "bitrate": 800},
            {"src": f"{MEDIA}/high.m3u8", "bandwidth": "2500000", "label": "720p"},
            {"bitrate": 1_500_000, "urls": [f"{MEDIA}/middle.m3u8"]},
        ]
    }
    page = read(state_page(state))
    assert [one.bandwidth for one in page.candidates] == [2_500_000, 1_500_000, 800_000]
    assert first(page).height == 720


@pytest.mark.parametrize("key", ["related", "recommendedVideos", "upNext", "ads", "liveNow"])
def test_embedded_state_leaves_other_videos_behind(key: str) -> None:
    """What lies below a key that leads away is another video, however good it is."""
    state = {
        key: {"video": {"hls": f"{MEDIA}/other.m3u8", "bandwidth": 9_000_000}},
        "player": {"src": f"{MEDIA}/main.mp4"},
    }
    assert first(read(state_page(state))).url == f"{MEDIA}/main.mp4"


def test_declared_video_beats_a_deep_resource() -> None:
    """A file that the page calls its video stands before a stream that only lies there."""
    state = state_page({"a": [{"b": {"hls": f"{MEDIA}/deep.m3u8"}}]})
    page = read(linked({"@type": "VideoObject", "contentUrl": f"{MEDIA}/main.mp4"}) + state)
    assert told(page) == [("mp4", f"{MEDIA}/main.mp4"), ("hls", f"{MEDIA}/deep.m3u8")]


def test_stream_with_the_name_of_the_declared_video_is_it() -> None:
    """HLS whose address shares its name with the declared file is the same video."""
    state = state_page({"a": [{"hls": f"{MEDIA}/hls/ab12cd34ef56.m3u8"}]})
    declared = {"@type": "VideoObject", "contentUrl": f"{MEDIA}/720p/ab12cd34ef56.mp4"}
    assert first(read(linked(declared) + state)).url == f"{MEDIA}/hls/ab12cd34ef56.m3u8"


def test_json_ld_that_names_the_page_is_the_main_one() -> None:
    """Of several VideoObjects, the one about this page."""
    one = {"@type": "VideoObject", "contentUrl": f"{MEDIA}/one.m3u8"}
    two = {"@type": "VideoObject", "contentUrl": f"{MEDIA}/two.m3u8", "url": URL}
    page = read(linked(one, two))
    assert first(page).url == f"{MEDIA}/two.m3u8"
    assert page.candidates[1].standing is Standing.OTHER


def test_extractors_have_their_order() -> None:
    """What knows a standard is believed before what guesses."""
    names = [one.name for one in registered()]
    assert names == ["json_ld", "open_graph", "video_element", "embedded_state"]


def test_embedded_state_takes_no_list_for_the_main_video() -> None:
    """Several videos in one list, or by their ids, are others; one that stands alone may be it."""
    films = [{"title": name, "hls": f"{MEDIA}/{name}.m3u8"} for name in ("one", "two")]
    alone = {"src": f"{MEDIA}/alone.mp4"}
    for shelf in (films, {"f1": films[0], "f2": films[1]}, [{"node": film} for film in films]):
        page = read(state_page({"shelf": shelf, "player": alone}))
        standings = [one.standing for one in page.candidates]
        assert first(page).url == f"{MEDIA}/alone.mp4"
        assert standings == [Standing.LIKELY, Standing.OTHER, Standing.OTHER]
        assert first(read(state_page({"shelf": films[:1], "player": alone}))).kind == "hls"


def test_embedded_state_that_knows_the_main_video_has_no_other() -> None:
    """Where one is named by the page, whatever else lies there is another."""
    state = {"a": {"id": 700123, "hls": f"{MEDIA}/a.m3u8"}, "b": {"hls": f"{MEDIA}/b.m3u8"}}
    page = read(state_page(state), url="https://site.example/pin/700123")
    assert [one.standing for one in page.candidates] == [Standing.MAIN, Standing.OTHER]


def test_embedded_state_is_walked_so_deep() -> None:
    """Deep enough for any site, and not without end."""

    def page(depth: int) -> str:
        opened = '{"a":' * depth
        text = f'{opened}"{MEDIA}/a.m3u8"{"}" * depth}'
        return f'<script type="application/json">{text}</script>'

    assert len(read(page(60)).candidates) == 1
    assert read(page(80)).candidates == ()
