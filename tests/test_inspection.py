"""What `inspect` tells: pure, out of playlists as texts."""

from typing import Any

from proxy.errors import EncryptedSource
from proxy.hls.model import MediaPlaylist, MultivariantPlaylist
from proxy.hls.parse import parse_playlist
from proxy.hls.select import Quality, choose
from proxy.inspection import describe
from proxy.plan import Plan, Source

BASE = "https://media.example.org/a/main.m3u8"
MAIN = """#EXTM3U
#EXT-X-SESSION-KEY:METHOD=AES-128,URI="k"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="English",LANGUAGE="en",DEFAULT=YES,URI="en.m3u8"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="Deutsch",LANGUAGE="de",CHANNELS="6",URI="de.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=800000,RESOLUTION=640x360,CODECS="avc1.64001e,mp4a.40.2",AUDIO="a"
low.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=2500000,RESOLUTION=1280x720,CODECS="avc1.64001f,mp4a.40.2",AUDIO="a"
high.m3u8
"""
MEDIA = """#EXTM3U
#EXT-X-TARGETDURATION:4
#EXT-X-MAP:URI="one.mp4"
#EXTINF:4,
1.m4s
#EXT-X-KEY:METHOD=AES-128,URI="k1"
#EXTINF:4,
2.m4s
#EXT-X-KEY:METHOD=AES-128,URI="k2"
#EXTINF:2,
3.m4s
#EXT-X-GAP
#EXTINF:4,
4.m4s
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI="two.mp4"
#EXT-X-KEY:METHOD=NONE
#EXTINF:4,
5.m4s
#EXT-X-ENDLIST
"""


def media(text: str) -> MediaPlaylist:
    playlist = parse_playlist(text, BASE)
    assert isinstance(playlist, MediaPlaylist)
    return playlist


def report(text: str = MEDIA, **told: Any) -> dict[str, Any]:
    plan = Plan(sources=(Source(playlist=media(text), address=BASE),))
    return describe(plan, **{"codecs": "", "reason": None, **told})


def test_describe_media_playlist() -> None:
    """Kind, length, encryption, gaps and discontinuities of a VOD."""
    told = report(codecs="avc1.64001e")
    assert (told["kind"], told["live"], told["duration_s"], told["segments"]) == (
        "media", False, 18.0, 5,
    )  # fmt: skip
    assert (told["encryption"], told["gaps"], told["discontinuities"]) == (["AES-128"], 1, 1)
    assert (told["copyable"], told["codecs"], told["reason"]) == (True, "avc1.64001e", None)


def test_describe_splices() -> None:
    """Where the playlist shows that something may change: at what time, and by which tags.  A key
    that rotates changes nothing."""
    assert report()["splices"] == [
        {"time_s": 4.0, "tags": ["EXT-X-KEY"]},
        {"time_s": 14.0, "tags": ["EXT-X-DISCONTINUITY", "EXT-X-MAP", "EXT-X-KEY"]},
    ]


def test_describe_unseen() -> None:
    """How far the judgement on the beginning goes: up to the first splice of any playlist, where
    other media may come; another key brings none."""
    assert report()["unseen_from_s"] == 14.0
    assert report(MEDIA.partition("#EXT-X-DISCONTINUITY")[0])["unseen_from_s"] is None
    sound = media(MEDIA.replace("#EXT-X-GAP", "#EXT-X-DISCONTINUITY"))
    sources = tuple(Source(playlist=one, address=BASE) for one in (media(MEDIA), sound))
    told = describe(Plan(sources=sources), codecs="", reason=None)
    assert (told["unseen_from_s"], told["splices"][1]["time_s"]) == (10.0, 14.0)


def test_describe_live() -> None:
    """Of what grows no length is told."""
    told = report(MEDIA.replace("#EXT-X-ENDLIST\n", ""))
    assert (told["live"], told["duration_s"]) == (True, None)


def test_describe_reason() -> None:
    """Why it cannot be copied, in words that are safe to show."""
    told = report(reason=EncryptedSource("secret", detail="EXT-X-KEY: METHOD=SAMPLE-AES."))
    assert told["copyable"] is False
    assert told["codecs"] is None
    assert told["reason"] == {
        "code": "encrypted_source",
        "detail": "EXT-X-KEY: METHOD=SAMPLE-AES.",
    }


def test_describe_multivariant_playlist() -> None:
    """All variants and renditions, which of them were chosen, and the keys of the session."""
    multivariant = parse_playlist(MAIN, BASE)
    assert isinstance(multivariant, MultivariantPlaylist)
    plan = Plan(
        sources=(Source(playlist=media(MEDIA), address=BASE),),
        multivariant=multivariant,
        choice=choose(multivariant, Quality(), "de"),
    )
    told = describe(plan, codecs="", reason=None)
    assert told["kind"] == "multivariant"
    assert [(v["height"], v["bandwidth"], v["chosen"]) for v in told["variants"]] == [
        (360, 800_000, False),
        (720, 2_500_000, True),
    ]
    assert [(r["language"], r["channels"], r["chosen"]) for r in told["renditions"]] == [
        ("en", None, False),
        ("de", "6", True),
    ]
    assert told["encryption"] == ["AES-128"]
    assert "media.example.org" not in repr(told)
