"""The demo: it works, and its judge is able to condemn."""

from __future__ import annotations  # av.Packet takes type arguments only in its stub

import io
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import av
import pytest

from proxy.demo.clip import MASTER, VARIANTS, make
from proxy.demo.judge import judge
from tests.support.client import ask, stream_target
from tests.support.clips import make_clip
from tests.support.served import running


async def test_demo_once_ends_with_its_judgement() -> None:
    """The clip is made, streamed and found equal; the exit code says so."""
    async with running("proxy", "demo", "--once", "--seconds", "4", environment={}) as run:
        code, out = await run.finished()
    assert code == 0
    text = out.decode()
    assert re.search(r"h264 .* 100 .* 100 .* equal", text)
    assert re.search(r"aac .* equal", text)
    assert re.search(r"first fragment after \d+ ms", text)


async def test_demo_stays_up_and_prints_addresses() -> None:
    """Without --once the addresses work until it is told to end, and that is no failure."""
    async with running("proxy", "demo", "--seconds", "2", environment={}) as run:
        assert run.process.stdout is not None
        text = b""
        while b"Ctrl-C" not in text:
            text += await run.process.stdout.readline()
        page = re.search(r"watch +(http://[^/]+)/#url=(\S+)", text.decode())
        source = re.search(r"HLS +(\S+)", text.decode())
        assert page is not None
        assert source is not None
        assert unquote(page[2]) == source[1]
        assert b"<video" in (await ask(page[1], "/")).body
        assert (await ask(page[1], f"/stream?url={page[2]}")).status == 200
        embedding = re.search(r"page +(http://\S+)", text.decode())
        assert embedding is not None
        played = await ask(page[1], stream_target(embedding[1]))
        assert (played.status, played.ended) == (200, "complete")
        run.process.terminate()
        assert await run.ended() == 0


def test_clip_is_what_the_demo_says() -> None:
    """Three variants of H.264 with B-frames and AAC, whole segments of two seconds."""
    clip = make(4)
    assert clip.files[MASTER].count(b"#EXT-X-STREAM-INF") == len(VARIANTS) == 3
    for variant in VARIANTS:
        assert clip.files[f"{variant.name}/index.m3u8"].count(b"#EXTINF:2.0") == 2
        data = clip.segments(variant.name)
        with av.open(io.BytesIO(data), "r", format="mpegts") as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
            assert (video.width, video.height) == (variant.width, variant.height)
            packets = [packet for packet in container.demux(video) if packet.pts is not None]
        assert len(packets) == 100
        assert any(packet.pts != packet.dts for packet in packets)


def remuxed(data: bytes, keep: Callable[[av.Packet[Any]], bool], moved_s: float = 0.0) -> bytes:
    """An MP4 of the video of `data`, made by libavformat, for the judge to look at."""
    out = io.BytesIO()
    with (
        av.open(io.BytesIO(data), "r", format="mpegts") as source,
        av.open(out, "w", format="mp4") as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.dts is None or packet.pts is None or not keep(packet):
                continue
            if number > 20:
                packet.pts += round(moved_s * 90_000)
            packet.stream = stream
            target.mux(packet)
    return out.getvalue()


@pytest.mark.parametrize(
    ("lost", "moved_s", "equal"), [(None, 0.0, True), (30, 0.0, False), (None, 0.005, False)]
)
def test_judge_notices(lost: int | None, moved_s: float, equal: bool) -> None:
    """A packet that is missing, and times that are off by 5 ms, are condemned; nothing else is."""
    clip = make_clip(audio=())
    count = iter(range(10_000))
    output = remuxed(clip.data, lambda _: next(count) != lost, moved_s)
    (verdict,) = judge(clip.data, output)
    assert verdict.equal is equal


def test_judge_notices_a_changed_byte() -> None:
    """Payload that differs is condemned although counts and times are equal."""
    clip = make_clip(audio=())
    output = bytearray(remuxed(clip.data, lambda _: True))
    output[output.index(b"mdat") + 2000] ^= 1
    (verdict,) = judge(clip.data, bytes(output))
    assert (verdict.drift_s, verdict.equal) == (0, False)


def test_judge_refuses_another_set_of_tracks() -> None:
    """A track that is gone is told by name."""
    clip = make_clip()
    with pytest.raises(ValueError, match="h264, aac became h264"):
        judge(clip.data, remuxed(clip.data, lambda _: True))
