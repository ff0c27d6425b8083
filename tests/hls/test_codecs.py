"""CODECS: what is video, audio or text, and what can be copied into an MP4."""

from __future__ import annotations

import pytest

from proxy.hls.codecs import Copy, copyable, is_audio, is_text, is_video


@pytest.mark.parametrize(
    "codec",
    [
        "avc1",
        "avc1.4d401e",
        "avc1.77.30",
        "avc3.640028",
        "hvc1.2.4.L123.B0",
        "HEV1.1",
        "av01.0.31M.10",
        "mp4a",
        "mp4a.40",
        "mp4a.40.2",
        "mp4a.40.02",
        "mp4a.40.5",
        "mp4a.40.29",
        "mp4a.40.34",
        "mp4a.66",
        "mp4a.67",
        "mp4a.69",
        "mp4a.6B",
        "mp4a.a5",
        "ac-3",
        "ec-3",
        "Opus",
        "fLaC",
        "mp3",
        "stpp.ttml.im1t",
        "wvtt",
    ],
)
def test_copyable_codec(codec: str) -> None:
    """What players of fragmented MP4 take is copied, and text never stands in the way."""
    assert copyable(codec) is Copy.YES


@pytest.mark.parametrize(
    "codec",
    [
        "vvc1.1.L67",
        "mp4v.20.9",
        "vp09.00.10.08",
        "dvh1.05.06",
        "dvhe.08",
        "jpeg",
        "ac-4.02.01",
        "mhm1.0x0D",
        "dtsc",
        "dtsx",
        "mp4a.40.36",
        "mp4a.a9",
        "mp4a.dd",
        "mlpa",
    ],
)
def test_copyable_codec_that_is_not(codec: str) -> None:
    """What they do not take is known by name."""
    assert copyable(codec) is Copy.NO


@pytest.mark.parametrize("codec", ["", "c1", "h264", "mp4a.40.42", "what.ever"])
def test_copyable_codec_that_nobody_knows(codec: str) -> None:
    """A name that is unknown here is neither promised nor refused."""
    assert copyable(codec) is Copy.UNKNOWN


@pytest.mark.parametrize(
    ("codec", "kinds"),
    [
        ("avc1.4d401e", (True, False, False)),
        ("dvh1.05.06", (True, False, False)),
        ("mp4a.40.2", (False, True, False)),
        ("AC-4", (False, True, False)),
        ("wvtt", (False, False, True)),
        ("c1", (False, False, False)),
    ],
)
def test_kind_of_codec(codec: str, kinds: tuple[bool, bool, bool]) -> None:
    """A codec is video, audio, text or unknown."""
    assert (is_video(codec), is_audio(codec), is_text(codec)) == kinds
