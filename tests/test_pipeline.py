"""From an address to a stream: real segments, a real origin that does wrong, nothing left behind.

What the media become is tested in `media/`, what a client sees over HTTP in `faces/`; here is what
lies between: which error comes when, what is fetched, what is held, and what is left.
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Literal

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from proxy.errors import (
    CorruptMedia,
    EncryptedSource,
    HeadersTimeout,
    InvalidRequest,
    KeyUnavailable,
    NoPlayableVariant,
    NotAPlaylist,
    NoVideoFound,
    Overloaded,
    PlaylistError,
    ProxyError,
    SourceNotFound,
    SourceTimeout,
    SourceUnavailable,
    SpliceIncompatible,
    StartBeyondEnd,
    StreamAborted,
    UnsupportedCodec,
)
from proxy.pipeline import Pipeline, Quality, Settings, StreamRequest
from tests.support import boxes, fidelity, ts_edit
from tests.support.clips import make_clip, multivariant, pieces
from tests.support.expected import expect, found
from tests.support.fmp4 import make_fmp4
from tests.support.origin import (
    Fault,
    Garbage,
    Hangup,
    Origin,
    Replace,
    Reset,
    Stall,
    Status,
    Truncate,
    unused_port,
)
from tests.support.playlists import Entry, multivariant_text, rendition_tag, variant_lines
from tests.support.sources import smallest_shift, stretches
from tests.support.streams import (
    Played,
    Resources,
    attempt,
    own_tasks,
    pipeline,
    play,
    publish,
    publish_playlist,
    read,
    workers,
)

PAGE = b"<!doctype html><html><title>Not found</title></html>"
MIB = 1024 * 1024


def movie_of(played: Played) -> boxes.Movie:
    """What was delivered, which must be whole fragments."""
    movie = boxes.read(played.data)
    assert len(movie.fragments) == len(played.parts) - 1
    return movie


# -- a stream --------------------------------------------------------------------------------------


async def test_stream_is_faithful() -> None:
    """All of a presentation comes out, and each segment is fetched once."""
    clip = make_clip(seconds=6.0)
    async with Origin() as origin, pipeline() as one:
        data = await play(one, publish(origin, clip))
        fidelity.assert_faithful(clip.data, data)
        assert [len(origin.asked(f"/{n}.ts")) for n in range(6)] == [1] * 6
        assert len(origin.asked("/media.m3u8")) == 1


async def test_open_stream_has_the_first_fragment() -> None:
    """A stream is opened when its init segment and a fragment are there, and not before."""
    clip = make_clip(seconds=6.0)
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, clip)
        gate = origin.hold("/0.ts", after_bytes=3000)
        opening = asyncio.create_task(one.open_stream(StreamRequest(url=address)))
        await gate.reached()
        assert not opening.done()
        late = origin.hold("/1.ts")
        gate.open()
        async with asyncio.timeout(5):
            stream = await opening
        async with stream:
            parts = aiter(stream)
            start = await anext(parts) + await anext(parts)
            movie = boxes.read(start)
            assert len(movie.fragments) == 1
            assert movie.fragments[0].samples[0].sync
            assert stream.codecs.startswith("avc1.")
            assert stream.duration_s == pytest.approx(6.0, abs=0.1)
            assert {name for name, _ in stream.timings} == {"playlist", "fragment"}
            late.open()


async def test_variant_of_the_wished_quality_alone() -> None:
    """Nothing of other variants is fetched, not even their playlists."""
    async with Origin() as origin, pipeline() as one:
        for path, body in multivariant().items():
            origin.add(f"/{path}", body)
        request = StreamRequest(url=origin.at("/main.m3u8"), quality=Quality.parse("180p"))
        movie = boxes.read(await play(one, request))
        assert movie.track("vide").entry.height == 180
        paths = {request.path for request in origin.requests}
        assert {path.split("/")[1] for path in paths} == {"main.m3u8", "180p"}


async def test_audio_alone() -> None:
    """`quality=audio` of muxed segments gives their audio."""
    clip = make_clip()
    async with Origin() as origin, pipeline() as one:
        request = StreamRequest(url=publish(origin, clip), quality=Quality.parse("audio"))
        data = await play(one, request)
        fidelity.assert_faithful(clip.data, data, video=False)


async def test_same_input_same_bytes() -> None:
    """Two runs over one address give the same bytes."""
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, make_clip(seconds=6.0))
        assert await play(one, address) == await play(one, address)


async def test_streams_side_by_side() -> None:
    """Many streams at a time do not mix."""
    clips = [make_clip(seconds=4.0, start_s=start_s) for start_s in (1.4, 50_000.0)]
    async with Origin() as origin, pipeline() as one:
        addresses = [publish(origin, clip, prefix=f"/{n}/") for n, clip in enumerate(clips)]
        outputs = await asyncio.gather(*(play(one, address) for address in addresses * 8))
        for number, output in enumerate(outputs):
            source = clips[number % 2].data
            assert not fidelity.judge(source, output, decode=False).findings


# -- before the first byte -------------------------------------------------------------------------

FAULTS: list[tuple[str, Fault, type[ProxyError]]] = [
    ("/main.m3u8", Status(404), SourceNotFound),
    ("/main.m3u8", Status(410), SourceNotFound),
    ("/main.m3u8", Status(401), SourceUnavailable),
    ("/main.m3u8", Status(403), SourceUnavailable),
    ("/main.m3u8", Status(500), SourceUnavailable),
    ("/main.m3u8", Reset(), SourceUnavailable),
    ("/main.m3u8", Truncate(20), SourceUnavailable),
    ("/main.m3u8", Stall(), HeadersTimeout),
    ("/main.m3u8", Replace(PAGE), NoVideoFound),
    ("/main.m3u8", Replace(b"\n\n" + PAGE, content_type="text/plain"), NoVideoFound),
    ("/main.m3u8", Replace(b""), PlaylistError),
    ("/main.m3u8", Replace(b"just words"), PlaylistError),
    ("/main.m3u8", Garbage(), PlaylistError),
    ("/main.m3u8", Replace(b"#EXTM3U\n"), PlaylistError),
    ("/media.m3u8", Status(404), SourceNotFound),
    ("/media.m3u8", Status(403), SourceUnavailable),
    ("/media.m3u8", Replace(PAGE), NotAPlaylist),
    ("/media.m3u8", Replace(b""), NotAPlaylist),
    ("/media.m3u8", Garbage(), NotAPlaylist),
    ("/media.m3u8", Replace(b"#EXTM3U\n#EXT-X-BYTERANGE:x\n#EXTINF:1,\n0.ts\n"), PlaylistError),
    ("/media.m3u8", Replace(b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-ENDLIST\n"), PlaylistError),
    ("/0.ts", Status(404), SourceUnavailable),
    ("/0.ts", Status(403), SourceUnavailable),
    ("/0.ts", Status(503), SourceUnavailable),
    ("/0.ts", Reset(100), SourceUnavailable),
    ("/0.ts", Truncate(100), SourceUnavailable),
    ("/0.ts", Stall(100), SourceTimeout),
    ("/0.ts", Replace(b""), CorruptMedia),
    ("/0.ts", Replace(PAGE), CorruptMedia),
    ("/0.ts", Replace(b"#EXTM3U\n", content_type="video/mp2t"), CorruptMedia),
    ("/0.ts", Replace(b"\x47"), CorruptMedia),
    ("/0.ts", Replace(bytes(500_000)), CorruptMedia),
    ("/0.ts", Garbage(), CorruptMedia),
    ("/0.ts", Garbage(500_000), CorruptMedia),
]


@pytest.mark.parametrize(
    ("path", "fault", "error"),
    FAULTS,
    ids=[f"{path[1:]}-{str(fault)[:30]}" for path, fault, _ in FAULTS],
)
async def test_open_stream_refused(path: str, fault: Fault, error: type[ProxyError]) -> None:
    """Each fault of the origin before the first byte is an error of its own type; nothing stays."""
    async with Origin() as origin, pipeline(read_timeout_s=0.2, headers_timeout_s=0.2) as one:
        publish(origin, make_clip())
        address = origin.add("/main.m3u8", multivariant_text(variant_lines("media.m3u8")))
        origin.fault(path, fault)
        with pytest.raises(ProxyError) as caught:
            await attempt(one, address)
        assert caught.value.code == error.code, repr(caught.value)
        assert caught.value.detail
        assert one.active == 0
        assert workers() == []
        assert own_tasks() == set()


async def test_open_stream_origin_refuses_to_connect() -> None:
    """Nobody listens."""
    async with pipeline() as one:
        with pytest.raises(SourceUnavailable):
            await attempt(one, f"http://127.0.0.1:{unused_port()}/media.m3u8")


async def test_open_stream_unsupported_codec() -> None:
    """What cannot be copied is told before the first byte."""
    async with Origin() as origin, pipeline() as one:
        with pytest.raises(UnsupportedCodec):
            await attempt(one, publish(origin, make_clip(video="mpeg4")))
        assert workers() == []


async def test_open_stream_live_end_refused() -> None:
    """`end` has no meaning while a playlist grows."""
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, make_clip(), ended=False)
        with pytest.raises(InvalidRequest):
            await attempt(one, StreamRequest(url=address, end_s=3.0))


async def test_open_stream_i_frames_only_refused() -> None:
    """A playlist of I-frames is no video that plays."""
    async with Origin() as origin, pipeline() as one:
        publish(origin, make_clip())
        entries = [Entry(uri="0.ts", duration_s=1)]
        address = publish_playlist(origin, entries, head=["#EXT-X-I-FRAMES-ONLY"])
        with pytest.raises(NoPlayableVariant):
            await attempt(one, address)


# -- after the first byte --------------------------------------------------------------------------


async def cut_at(path: str, fault: Fault) -> tuple[Played, int]:
    """Play six segments, one of them spoilt; return what came, and how often that was asked for."""
    async with Origin() as origin, pipeline(read_timeout_s=0.2, headers_timeout_s=0.2) as one:
        address = publish(origin, make_clip(seconds=6.0))
        origin.fault(path, fault)
        played = await attempt(one, address)
        assert one.active == 0
        assert workers() == []
        assert own_tasks() == set()
        return played, len(origin.asked(path))


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Status(404), SourceUnavailable),
        (Status(403), SourceUnavailable),
        (Status(500), SourceUnavailable),
        (Reset(5000), SourceUnavailable),
        (Hangup(5000), SourceUnavailable),
        (Truncate(5000), SourceUnavailable),
        (Stall(5000), SourceTimeout),
        (Replace(PAGE), CorruptMedia),
        (Replace(PAGE * 2000, content_type="video/mp2t"), CorruptMedia),
        (Replace(b""), CorruptMedia),
        (Replace(b"#EXTM3U\n"), CorruptMedia),
        (Replace(b'{"error": "expired"}'), CorruptMedia),
        (Replace(b"expired"), CorruptMedia),
        (Garbage(), CorruptMedia),
        (Garbage(200_000), CorruptMedia),
    ],
    ids=str,
)
@pytest.mark.parametrize("number", [3, 5])
async def test_stream_cut(fault: Fault, error: type[ProxyError], number: int) -> None:
    """A fault in mid-stream cuts it with its cause, behind whole fragments of all before it."""
    played, _ = await cut_at(f"/{number}.ts", fault)
    assert played.error is not None
    assert played.error.code == error.code, repr(played.error)
    movie = movie_of(played)
    pictures = len(movie.samples(movie.track("vide")))
    assert 25 * number - 15 <= pictures <= 25 * (number + 1)


async def test_stream_cut_is_the_beginning_of_the_whole() -> None:
    """What was delivered before a cut is, to the byte, what the whole stream begins with."""
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, make_clip(seconds=6.0))
        whole = await play(one, address)
        origin.fault("/4.ts", Status(500))
        played = await attempt(one, address)
        assert played.error is not None
        assert len(played.data) > len(whole) / 2
        assert whole.startswith(played.data)


async def test_stream_recovers_from_what_passes() -> None:
    """A segment that fails and comes at the next attempt leaves no trace."""
    clip = make_clip(seconds=6.0)
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, clip)
        origin.fault("/2.ts", Truncate(3000), times=1)
        origin.fault("/4.ts", Reset(20), times=1)
        fidelity.assert_faithful(clip.data, await play(one, address), decode=False)


async def test_splice_cuts_or_is_skipped() -> None:
    """`on_splice`: a section that does not fit cuts the stream, or is left out and counted."""
    one_clip, other = make_clip(seconds=2.0), make_clip(seconds=2.0, audio=("ac3",), start_s=90.0)
    async with Origin() as origin, pipeline() as one:
        origin.add("/a.ts", one_clip.data)
        origin.add("/b.ts", other.data)
        tags = ("#EXT-X-DISCONTINUITY",)
        entries = [Entry(uri=uri, duration_s=2, tags=tags) for uri in ("a.ts", "b.ts", "a.ts")]
        address = publish_playlist(origin, entries)
        played = await attempt(one, address)
        assert isinstance(played.error, SpliceIncompatible)
        movie_of(played)
        request = StreamRequest(url=address, on_splice="skip")
        async with await one.open_stream(request) as stream:
            played = Played()
            await read(stream, played)
            assert stream.counts.sections_skipped == 1
        source = expect(one_clip.data)
        first, second = stretches([source, source], played.data)
        assert abs(second.shift_s - smallest_shift(first, source)) < Fraction(1, 10_000)


# -- gaps ------------------------------------------------------------------------------------------


async def test_lost_segment_skipped() -> None:
    """`on_gap=skip`: the hole stays a hole, in both tracks, and is counted."""
    clip = make_clip(seconds=6.0)
    cuts = [piece.data for piece in pieces(clip, 1.0)]
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, clip)
        origin.fault("/2.ts", Status(404))
        origin.fault("/3.ts", Status(500))
        data = await play(one, StreamRequest(url=address, on_gap="skip"))
        parts = [expect(b"".join(cuts[:2])), expect(b"".join(cuts[4:]))]
        before, behind = stretches(parts, data)
        assert before.shift_s == behind.shift_s


NO_SEGMENT = [
    Replace(PAGE),
    Replace(PAGE * 2000, content_type="video/mp2t"),
    Replace(b""),
    Replace(b"#EXTM3U\n"),
    Replace(b"WEBVTT\n\n"),
    Replace(b"expired"),
    Garbage(),
    Garbage(200_000),
]


@pytest.mark.parametrize("fault", NO_SEGMENT, ids=str)
@pytest.mark.parametrize("number", [0, 2, 5])
async def test_unfit_segment_skipped(fault: Fault, number: int) -> None:
    """`on_gap=skip`: a segment that is answered with something else is missing, wherever."""
    clip = make_clip(seconds=6.0)
    cuts = [piece.data for piece in pieces(clip, 1.0)]
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, clip)
        origin.fault(f"/{number}.ts", fault)
        if number == 0 and fault == Replace(b"WEBVTT\n\n"):
            with pytest.raises(NoPlayableVariant):
                await attempt(one, StreamRequest(url=address, on_gap="skip"))
            return
        async with await one.open_stream(StreamRequest(url=address, on_gap="skip")) as stream:
            played = Played()
            await read(stream, played)
            assert stream.tally == {"segments_missing": 1}
        assert played.error is None
        kept = [b"".join(cuts[:number]), b"".join(cuts[number + 1 :])]
        joined = stretches([expect(part) for part in kept if part], played.data)
        assert len({stretch.shift_s for stretch in joined}) == 1


async def test_all_segments_unfit() -> None:
    """`on_gap=skip` where nothing is media: an error, and no empty stream."""
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, make_clip(seconds=3.0))
        for number in range(3):
            origin.fault(f"/{number}.ts", Replace(PAGE))
        with pytest.raises(CorruptMedia):
            await attempt(one, StreamRequest(url=address, on_gap="skip"))


@pytest.mark.parametrize("on_gap", ["skip", "abort"])
@pytest.mark.parametrize("size", [3_300, 5_700, 9_001])  # within a picture
async def test_segment_breaks_off(on_gap: Literal["skip", "abort"], size: int) -> None:
    """A segment that breaks off for good leaves no cut picture or frame behind."""
    clip = make_clip(seconds=6.0)
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, clip)
        origin.fault("/2.ts", Truncate(size))
        request = StreamRequest(url=address, on_gap=on_gap)
        async with await one.open_stream(request) as stream:
            played = Played()
            await read(stream, played)
            assert (played.error is None) is (on_gap == "skip")
            assert ("broken_off" in stream.tally) is (on_gap == "skip")
            assert stream.tally.get("segments_missing", 0) == (on_gap == "skip")
        movie = movie_of(played)
        for track, wanted in zip(movie.tracks, expect(clip.data), strict=True):
            ours = iter([packet.payload for packet in wanted.packets])
            got = [packet.payload for packet in found(wanted, track, movie.samples(track))]
            assert all(payload in ours for payload in got)


@pytest.mark.parametrize("on_gap", ["skip", "abort"])
async def test_gaps_only_refused(on_gap: Literal["skip", "abort"]) -> None:
    """A VOD of which every segment is marked as missing has nothing to play, and says so."""
    async with Origin() as origin, pipeline() as one:
        entries = [Entry(uri=f"{n}.ts", duration_s=2, tags=("#EXT-X-GAP",)) for n in range(3)]
        address = publish_playlist(origin, entries)
        with pytest.raises(NoPlayableVariant, match="EXT-X-GAP"):
            await attempt(one, StreamRequest(url=address, on_gap=on_gap))
        assert (await one.inspect(StreamRequest(url=address)))["copyable"] is False


# -- encryption ------------------------------------------------------------------------------------


def encrypted(data: bytes, key: bytes, iv: bytes) -> bytes:
    padder = PKCS7(128).padder()
    encryptor = Cipher(AES128(key), CBC(iv)).encryptor()
    return encryptor.update(padder.update(data) + padder.finalize()) + encryptor.finalize()


async def test_aes_128() -> None:
    """Key rotation, IVs told and counted, clear segments in between; each key fetched once."""
    clip = make_clip(seconds=5.0)
    keys = {"a": b"0123456789abcdef", "b": b"fedcba9876543210"}
    told_iv = bytes(range(16))
    plan: list[tuple[str | None, bytes | None]] = [
        ("a", None),
        ("a", told_iv),
        (None, None),
        ("b", None),
        ("b", told_iv),
    ]
    async with Origin() as origin, pipeline() as one:
        entries = []
        for number, (piece, (name, iv)) in enumerate(zip(pieces(clip, 1.0), plan, strict=True)):
            data, tag = piece.data, "#EXT-X-KEY:METHOD=NONE"
            if name is not None:
                data = encrypted(data, keys[name], iv or number.to_bytes(16, "big"))
                tag = f'#EXT-X-KEY:METHOD=AES-128,URI="{name}.key"'
                tag += f",IV=0x{iv.hex()}" if iv else ""
            origin.add(f"/{number}.ts", data)
            entries.append(Entry(uri=f"{number}.ts", duration_s=1, tags=(tag,)))
        for name, key in keys.items():
            origin.add(f"/{name}.key", key)
        fidelity.assert_faithful(clip.data, await play(one, publish_playlist(origin, entries)))
        assert [len(origin.asked(f"/{name}.key")) for name in keys] == [1, 1]


@pytest.mark.parametrize("key", [None, b"0123456789abcdef"])
async def test_other_pids_inside_a_segment(key: bytes | None) -> None:
    """Other PIDs from the middle of a segment on, in the clear and encrypted: all of it plays."""
    clip = make_clip(seconds=4.0)
    a, b, c, d = (piece.data for piece in pieces(clip, 1.0))
    pids = {pid: pid + 0x40 for pid in (clip.video_pid, *clip.audio_pids)}
    async with Origin() as origin, pipeline() as one:
        entries = []
        segments = [a + ts_edit.remap(b, pids), ts_edit.remap(c, pids) + d]
        for number, clear in enumerate(segments):
            data, tags = clear, tuple[str, ...]()
            if key is not None:
                data = encrypted(clear, key, number.to_bytes(16, "big"))
                tags = ('#EXT-X-KEY:METHOD=AES-128,URI="a.key"',)
            origin.add(f"/{number}.ts", data)
            entries.append(Entry(uri=f"{number}.ts", duration_s=2, tags=tags))
        origin.add("/a.key", key or b"")
        fidelity.assert_faithful(clip.data, await play(one, publish_playlist(origin, entries)))


@pytest.mark.parametrize("spoilt", [PAGE, b"", None])
async def test_aes_128_unfit_segment_skipped(spoilt: bytes | None) -> None:
    """`on_gap=skip`: what does not decrypt is missing too; None: cut between two blocks, so that
    it shows at the end only."""
    clip = make_clip(seconds=4.0)
    key = b"0123456789abcdef"
    async with Origin() as origin, pipeline() as one:
        tag = '#EXT-X-KEY:METHOD=AES-128,URI="a.key"'
        origin.add("/a.key", key)
        entries = []
        for number, piece in enumerate(pieces(clip, 1.0)):
            data = encrypted(piece.data, key, number.to_bytes(16, "big"))
            if number == 2:
                data = data[:30_000] if spoilt is None else spoilt
            origin.add(f"/{number}.ts", data)
            entries.append(Entry(uri=f"{number}.ts", duration_s=1, tags=(tag,)))
        address = publish_playlist(origin, entries)
        async with await one.open_stream(StreamRequest(url=address, on_gap="skip")) as stream:
            played = Played()
            await read(stream, played)
            assert played.error is None
            assert stream.tally["segments_missing"] == 1
            assert ("broken_off" in stream.tally) is (spoilt is None)
        movie = movie_of(played)
        assert 72 <= len(movie.samples(movie.track("vide"))) <= 99
        played = await attempt(one, address)
        assert isinstance(played.error, CorruptMedia)


@pytest.mark.parametrize(
    ("key", "error"),
    [(b"short", KeyUnavailable), (b"x" * 16, CorruptMedia), (b"", KeyUnavailable)],
)
async def test_aes_128_wrong_key(key: bytes, error: type[ProxyError]) -> None:
    """A key that is none, or another, is refused before the first byte."""
    clip = make_clip(seconds=1.0)
    async with Origin() as origin, pipeline() as one:
        origin.add("/0.ts", encrypted(clip.data, b"0123456789abcdef", bytes(16)))
        origin.add("/a.key", key)
        tag = '#EXT-X-KEY:METHOD=AES-128,URI="a.key"'
        address = publish_playlist(origin, [Entry(uri="0.ts", duration_s=1, tags=(tag,))])
        with pytest.raises(error):
            await attempt(one, address)


@pytest.mark.parametrize("method", ["SAMPLE-AES", "SAMPLE-AES-CTR", "AES-256"])
async def test_encrypted_source_refused(method: str) -> None:
    """What we have no key for is refused at once, or where it begins."""
    async with Origin() as origin, pipeline() as one:
        publish(origin, make_clip(seconds=2.0))
        tags = ("#EXT-X-DISCONTINUITY", f'#EXT-X-KEY:METHOD={method},URI="a.key"')
        address = publish_playlist(origin, [Entry(uri="0.ts", duration_s=1, tags=tags[1:])])
        with pytest.raises(EncryptedSource):
            await attempt(one, address)
        late = [Entry(uri="0.ts", duration_s=1), Entry(uri="1.ts", duration_s=1, tags=tags)]
        played = await attempt(one, publish_playlist(origin, late, prefix="/"))
        assert isinstance(played.error, EncryptedSource)
        movie_of(played)
        assert origin.asked("/a.key") == []


# -- fragmented MP4 --------------------------------------------------------------------------------


def publish_fmp4(origin: Origin, prefix: str = "/", **wishes: Any) -> tuple[str, bytes]:
    """Serve a fragmented MP4 with EXT-X-MAP; return its address and all of its bytes."""
    source = make_fmp4(**wishes)
    origin.add(f"{prefix}init.mp4", source.init)
    tags: tuple[str, ...] = ('#EXT-X-MAP:URI="init.mp4"',)
    entries = []
    for number, segment in enumerate(source.segments):
        origin.add(f"{prefix}{number}.m4s", segment)
        entries.append(Entry(uri=f"{number}.m4s", duration_s=1, tags=tags))
        tags = ()
    return publish_playlist(origin, entries, prefix=prefix), source.data


@pytest.mark.parametrize(
    "wishes", [{}, {"video": "hevc", "audio": "ac3"}, {"video": "av1", "audio": "opus"}]
)
async def test_fmp4(wishes: dict[str, str]) -> None:
    """Segments behind an EXT-X-MAP, which is fetched once."""
    async with Origin() as origin, pipeline() as one:
        address, data = publish_fmp4(origin, **wishes)
        stretches([expect(data)], await play(one, address))
        assert len(origin.asked("/init.mp4")) == 1


async def test_fmp4_encrypted_refused() -> None:
    """Sample entries that say `encv` are never passed on as if they were clear."""
    async with Origin() as origin, pipeline() as one:
        address, _ = publish_fmp4(origin)
        origin.add("/init.mp4", make_fmp4().init.replace(b"avc1", b"encv", 2))
        with pytest.raises(EncryptedSource):
            await attempt(one, address)


# -- separate audio --------------------------------------------------------------------------------


def publish_apart(origin: Origin, seconds: float = 6.0) -> tuple[str, bytes]:
    """Serve video and audio apart; return the address and the source."""
    from tests.media.test_sections import demuxed

    clip = make_clip(seconds=seconds)
    publish(origin, demuxed(clip, "video"), target_s=1.0, prefix="/v/")
    publish(origin, demuxed(clip, "audio"), target_s=1.5, prefix="/a/")
    text = multivariant_text(
        rendition_tag(NAME="one", DEFAULT=True, URI="a/media.m3u8"),
        variant_lines("v/media.m3u8", BANDWIDTH=1, AUDIO="a"),
    )
    return origin.add("/main.m3u8", text), clip.data


async def test_apart() -> None:
    """Two playlists become one stream, each segment fetched once."""
    async with Origin() as origin, pipeline() as one:
        address, source = publish_apart(origin)
        fidelity.assert_faithful(source, await play(one, address), decode=False)
        paths = [request.path for request in origin.requests]
        assert len(paths) == len(set(paths))


@pytest.mark.parametrize("late", ["/a/1.ts", "/v/2.ts"])
async def test_apart_one_is_late(late: str) -> None:
    """While one of the two is late, the other is not read without end; nothing is lost."""
    async with (
        Origin(send_buffer_bytes=16_384) as origin,
        pipeline(Settings(budget_bytes=MIB)) as one,
    ):
        address, source = publish_apart(origin, seconds=30.0)
        gate = origin.hold(late)
        async with await one.open_stream(StreamRequest(url=address)) as stream:
            played = Played()
            reading = asyncio.create_task(read(stream, played))
            await gate.reached()
            sent = await origin.standstill()
            assert sent < len(source) * 0.75
            gate.open()
            await asyncio.wait_for(reading, 20)
        assert played.error is None
        assert not fidelity.judge(source, played.data, decode=False).findings


async def test_apart_audio_fails() -> None:
    """A fault of either playlist cuts the stream, and ends the other's fetching too."""
    async with Origin() as origin, pipeline() as one:
        address, _ = publish_apart(origin)
        origin.fault("/a/2.ts", Status(500))
        played = await attempt(one, address)
        assert isinstance(played.error, SourceUnavailable)
        movie_of(played)
        await origin.until(lambda: all(request.ended for request in origin.requests))
        assert own_tasks() == set()


# -- clips -----------------------------------------------------------------------------------------


async def test_clip_fetches_what_it_needs() -> None:
    """Segments outside of a clip are not fetched; its start is told truly."""
    clip = make_clip(seconds=8.0)
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, clip, target_s=2.0)
        request = StreamRequest(url=address, start_s=3.5, end_s=5.5)
        async with await one.open_stream(request) as stream:
            assert stream.start_s == 3.0
            assert stream.duration_s == pytest.approx(2.5)
            played = Played()
            await read(stream, played)
        movie = movie_of(played)
        track = movie.track("vide")
        times = [track.seconds(sample.composition_time) for sample in movie.samples(track)]
        assert min(times) == 0
        assert max(times) == Fraction(62, 25)
        asked = {request.path for request in origin.requests}
        assert asked == {"/media.m3u8", "/1.ts", "/2.ts"}


async def test_clip_beyond_the_end() -> None:
    """A start behind the end is told as such."""
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, make_clip())
        with pytest.raises(StartBeyondEnd):
            await attempt(one, StreamRequest(url=address, start_s=100.0))
        assert own_tasks() == set()


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("start_s", [0.0, 1.0, 2.7, -2.0])
async def test_clip_keeps_audio(apart: bool, start_s: float) -> None:
    """Wherever a clip starts, both tracks are there from its start, also where they come apart."""
    async with Origin() as origin, pipeline() as one:
        address = publish_apart(origin)[0] if apart else publish(origin, make_clip(seconds=6.0))
        data = await play(one, StreamRequest(url=address, start_s=start_s))
        movie = boxes.read(data)
        begin_s = math.floor(start_s if start_s >= 0 else 6 + start_s)
        for handler, behind_s in (("vide", 0), ("soun", Fraction(1024, 48_000))):
            track = movie.track(handler)
            times = [track.seconds(sample.composition_time) for sample in movie.samples(track)]
            assert 0 <= min(times) <= behind_s
            assert max(times) == pytest.approx(6 - begin_s, abs=0.1)


# -- closing ---------------------------------------------------------------------------------------


async def settled(one: Pipeline, origin: Origin) -> None:
    """Wait until the origin is left alone; nothing of the stream may be left then."""
    await origin.until(lambda: all(request.ended for request in origin.requests))
    assert one.active == 0
    assert workers() == []
    assert own_tasks() == set()


async def test_close_after_opening() -> None:
    """A stream that is closed at once leaves nothing."""
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, make_clip(seconds=20.0))
        stream = await one.open_stream(StreamRequest(url=address))
        await stream.aclose()
        await stream.aclose()
        await settled(one, origin)


async def test_close_while_a_segment_hangs() -> None:
    """A stream whose origin says nothing more is closed all the same."""
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, make_clip(seconds=6.0))
        gate = origin.hold("/3.ts", after_bytes=5000)
        stream = await one.open_stream(StreamRequest(url=address))
        played = Played()
        reading = asyncio.create_task(read(stream, played))
        await gate.reached()
        async with asyncio.timeout(1):
            await stream.aclose()
            await reading
        assert played.error is not None, "closing looked like the end"
        await settled(one, origin)


async def test_close_while_the_client_does_not_read() -> None:
    """A stream that is full is closed at once; the origin was not read without end."""
    async with (
        Origin(send_buffer_bytes=16_384) as origin,
        pipeline(Settings(budget_bytes=MIB)) as one,
    ):
        clip = make_clip(seconds=60.0)
        stream = await one.open_stream(StreamRequest(url=publish(origin, clip)))
        sent = await origin.standstill()
        assert sent < len(clip.data)
        async with asyncio.timeout(1):
            await stream.aclose()
        with pytest.raises(StreamAborted):
            async for _ in stream:
                pass
        await settled(one, origin)


@pytest.mark.parametrize("path", ["/media.m3u8", "/0.ts"])
async def test_cancel_while_opening(path: str) -> None:
    """A client that leaves while its stream is opened leaves nothing."""
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, make_clip())
        gate = origin.hold(path, after_bytes=100)
        opening = asyncio.create_task(one.open_stream(StreamRequest(url=address)))
        await gate.reached()
        opening.cancel()
        async with asyncio.timeout(1):
            await asyncio.wait([opening])
        assert opening.cancelled()
        await settled(one, origin)


async def test_cancel_while_reading() -> None:
    """A reader that is cancelled between two parts closes what it opened."""
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, make_clip(seconds=6.0))
        gate = origin.hold("/2.ts")
        playing = asyncio.create_task(play(one, address))
        await gate.reached()
        playing.cancel()
        async with asyncio.timeout(1):
            await asyncio.wait([playing])
        assert playing.cancelled()
        await settled(one, origin)


async def test_pipeline_close_ends_all_streams() -> None:
    """Closing the pipeline closes its streams; whoever reads them sees that they were cut."""
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, make_clip(seconds=6.0))
        gate = origin.hold("/3.ts")
        streams = [await one.open_stream(StreamRequest(url=address)) for _ in range(3)]
        played = [Played() for _ in streams]
        reading = [
            asyncio.create_task(read(stream, each))
            for stream, each in zip(streams, played, strict=True)
        ]
        await gate.reached()
        async with asyncio.timeout(2):
            await one.aclose()
            await asyncio.gather(*reading)
        assert all(each.error is not None for each in played)
        await settled(one, origin)


async def test_close_at_every_part() -> None:
    """However far a stream was read, closing it leaves nothing."""
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, make_clip(seconds=3.0))
        count = len((await attempt(one, address)).parts)
        for number in range(0, count, 3):
            async with await one.open_stream(StreamRequest(url=address)) as stream:
                parts = aiter(stream)
                for _ in range(number):
                    await anext(parts)
            assert one.active == 0
        await settled(one, origin)


# -- limits ----------------------------------------------------------------------------------------


async def test_overloaded_beyond_streams() -> None:
    """More streams than there may be are refused, and taken again when one has gone."""
    async with Origin() as origin, pipeline(Settings(streams=2)) as one:
        address = publish(origin, make_clip(seconds=6.0))
        request = StreamRequest(url=address)
        first, second = await one.open_stream(request), await one.open_stream(request)
        with pytest.raises(Overloaded):
            await one.open_stream(request)
        await first.aclose()
        third = await one.open_stream(request)
        await second.aclose()
        await third.aclose()
        await settled(one, origin)


async def test_overloaded_beyond_the_budget() -> None:
    """Streams that would get too little memory are refused."""
    async with Origin() as origin, pipeline(Settings(budget_bytes=MIB)) as one:
        address = publish(origin, make_clip(seconds=6.0))
        request = StreamRequest(url=address)
        streams = [await one.open_stream(request) for _ in range(4)]
        with pytest.raises(Overloaded):
            await one.open_stream(request)
        for stream in streams:
            await stream.aclose()
        await settled(one, origin)


async def test_budget_is_shared() -> None:
    """What all streams together hold of what the origin sent stays near the budget."""
    clip = make_clip(seconds=8.0, width=640, height=360, bitrate=5_000_000)
    assert len(clip.data) > 3 * MIB
    async with (
        Origin(send_buffer_bytes=16_384) as origin,
        pipeline(Settings(budget_bytes=2 * MIB)) as one,
    ):
        address = publish(origin, clip)
        request = StreamRequest(url=address)
        streams = [await one.open_stream(request) for _ in range(4)]
        sent = await origin.standstill()
        # the budget, and what sockets hold, which is not ours: of 12 MiB that would come otherwise
        assert sent < 2 * MIB + 4 * 3 * 384 * 1024
        for stream in streams:
            await stream.aclose()


async def test_slow_client_is_held_little_for() -> None:
    """Of a stream whose client sets the pace little is held, however much of the budget is free."""
    clip = make_clip(seconds=12.0, width=640, height=360, bitrate=5_000_000)
    async with Origin(send_buffer_bytes=16_384) as origin, pipeline() as one:
        address = publish(origin, clip, target_s=0.5, times=3)
        async with await one.open_stream(StreamRequest(url=address)) as stream:
            taken = 0
            async for part in stream:
                taken += len(part)
                sent = await origin.standstill()
                if taken > 4 * MIB:
                    break
            # in ring, outlet and sockets, at most a part or a read each beyond their share; the
            # stream was shown 16 MiB
            assert sent - taken < 2 * MIB


async def test_part_belongs_to_whoever_takes_it() -> None:
    """Nobody else holds a part that was taken: a face that has copied it lets go of it for good."""
    clip = make_clip(seconds=12.0, width=640, height=360, bitrate=5_000_000)
    async with Origin() as origin, pipeline() as one:
        async with await one.open_stream(StreamRequest(url=publish(origin, clip))) as stream:
            parts = aiter(stream)
            for _ in range(12):
                part = await anext(parts)
                assert sys.getrefcount(part) <= 2  # `part`, and the argument


async def test_fast_client_is_fetched_ahead_for() -> None:
    """A client that waits for us is given depth: segments behind the one that is late have come."""
    clip = make_clip(seconds=12.0, width=640, height=360, bitrate=5_000_000)
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, clip)
        gate = origin.hold("/7.ts")
        async with await one.open_stream(StreamRequest(url=address)) as stream:
            reading = asyncio.create_task(read(stream, Played()))
            await gate.reached()
            await origin.until(lambda: any(r.path == "/9.ts" and r.ended for r in origin.requests))
            gate.open()
            await asyncio.wait_for(reading, 20)


async def test_budget_is_shared_with_other_processes() -> None:
    """Streams that run elsewhere have their part of the budget, from the next rebalancing on."""
    clip = make_clip(seconds=8.0, width=640, height=360, bitrate=5_000_000)
    elsewhere = 7
    async with (
        Origin(send_buffer_bytes=16_384) as origin,
        pipeline(Settings(budget_bytes=2 * MIB), crowd=lambda: elsewhere + 1) as one,
    ):
        request = StreamRequest(url=publish(origin, clip))
        async with await one.open_stream(request):
            sent = await origin.standstill()
            assert sent < 2 * MIB // 8 + 3 * 256 * 1024
            elsewhere = 0
            one.rebalance()
            assert await origin.standstill() > sent
        elsewhere = 8
        with pytest.raises(Overloaded):
            await one.open_stream(request)


# -- many ------------------------------------------------------------------------------------------


async def many_streams(count: int, growth_bytes: int) -> None:
    """Play short streams one after another; the process must be as before."""
    async with Origin() as origin, pipeline() as one:
        clip = make_clip(seconds=2.0)
        address = publish(origin, clip)
        broken = publish(origin, clip, prefix="/broken/")
        origin.fault("/broken/1.ts", Status(404))

        async def round_of(number: int) -> None:
            if number % 10 == 3:
                assert (await attempt(one, broken)).error is not None
            elif number % 10 == 7:
                async with await one.open_stream(StreamRequest(url=address)):
                    pass
            else:
                await play(one, address)
            origin.requests.clear()

        for number in range(30):
            await round_of(number)
        before = Resources.now()
        for number in range(count):
            await round_of(number)
        after = Resources.now()
        assert after.threads <= before.threads
        assert after.files <= before.files + 2
        assert after.tasks <= before.tasks + 2
        assert after.resident_bytes - before.resident_bytes < growth_bytes


async def test_many_streams() -> None:
    """A hundred short streams, some of them broken or left: nothing is left of them."""
    await many_streams(100, 10 * MIB)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_thousand_streams() -> None:
    """A thousand of them."""
    await many_streams(1000, 10 * MIB)


async def test_workers_are_threads_of_their_own() -> None:
    """Each stream has one worker, none of the default executor, and it ends with the stream."""
    async with Origin() as origin, pipeline() as one:
        address = publish(origin, make_clip(seconds=6.0))
        gate = origin.hold("/4.ts")
        async with await one.open_stream(StreamRequest(url=address)) as stream:
            names = [t.name for t in threading.enumerate() if t.name.startswith("remuxd")]
            assert names == [f"remuxd-{stream.id[:8]}"]
        gate.open()
        assert workers() == []


# -- inspect ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("publish_it", "copyable", "code"),
    [
        (lambda origin: publish(origin, make_clip()), True, None),
        (lambda origin: publish(origin, make_clip(video="mpeg4")), False, "unsupported_codec"),
        (lambda origin: publish_fmp4(origin)[0], True, None),
    ],
)
async def test_inspect(
    publish_it: Callable[[Origin], str], copyable: bool, code: str | None
) -> None:
    """It says whether a source can be copied, and if not, why; and leaves nothing."""
    async with Origin() as origin, pipeline() as one:
        report = await one.inspect(StreamRequest(url=publish_it(origin)))
        assert report["copyable"] is copyable
        assert (report["reason"] or {}).get("code") == code
        await settled(one, origin)
