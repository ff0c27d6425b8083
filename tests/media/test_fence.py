"""What libavformat cannot be made to do: take memory for tables that lie, read for ever, open
things of its own, or hold hundreds of streams."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import socket
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import pytest

from proxy.errors import CorruptMedia, SourceTimeout
from proxy.media import fence
from proxy.media.demux import Demuxer
from proxy.media.fence import BARREN_BYTES, CheckedBoxes, Metered
from proxy.media.remux import remux
from proxy.media.section import Format, Section
from tests.support import ts, ts_edit, ts_tables
from tests.support.box_tree import Box, parse
from tests.support.clips import make_clip
from tests.support.fmp4 import make_fmp4
from tests.support.sources import Script, attempt, failure, remuxed, section

# -- tables that lie -------------------------------------------------------------------------------


def through(data: bytes, sizes: tuple[int, ...] = (1 << 20,)) -> bytes:
    """What libavformat would get to read."""
    script = Script(data, sizes=sizes)
    script.next_section()
    checked = CheckedBoxes(script)
    return b"".join(iter(lambda: checked.read(4096), b""))


def every(data: bytes, kind: str) -> Iterator[Box]:
    """All boxes of a kind, wherever they are."""
    queue = list(parse(data))
    while queue:
        box = queue.pop(0)
        if box.kind == kind:
            yield box
        queue += box.children


def patched(data: bytes, kind: str, at: int, value: int, size: int = 4) -> bytes:
    """Overwrite a field of the first box of a kind; `at` counts from behind its header."""
    begin = next(every(data, kind)).offset + 8 + at
    return data[:begin] + value.to_bytes(size, "big") + data[begin + size :]


@pytest.mark.parametrize("sizes", [(1 << 20,), (1,), (7, 1000)])
def test_checked_boxes_pass(sizes: tuple[int, ...]) -> None:
    """A good file passes byte by byte, but for the names of what is not needed."""
    made = make_fmp4(seconds=1.0)
    data = made.data + struct.pack(">I4s", 1000, b"uuid") + bytes(992) + made.segments[-1]
    out = through(data, sizes)
    assert len(out) == len(data)
    before, behind = parse(data), parse(out)
    assert [box.size for box in before] == [box.size for box in behind]
    changed = {a.kind for a, b in zip(before, behind, strict=True) if a.kind != b.kind}
    assert changed == {"uuid"}
    assert [box.kind for box in behind if box.kind in {"moof", "mdat"}] == [
        box.kind for box in before if box.kind in {"moof", "mdat"}
    ]


def test_checked_boxes_unneeded_renamed() -> None:
    """Metadata in the moov is shown as free space."""
    data = make_fmp4(seconds=1.0).data
    assert next(every(data, "udta"), None) is not None
    out = through(data)
    assert next(every(out, "udta"), None) is None
    assert next(every(out, "stsd"), None) is not None


LIES = {
    "trun_count": ("trun", 4, 0x7FFF_FFFF, 4),
    "trun_count_just_over": ("trun", 4, 4096, 4),
    "trun_without_columns": ("trun", 1, 0x000000_FFFFFFFF, 7),
    "stsz_count": ("stsz", 8, 0xFFFF_FFFF, 4),
    "stsz_uniform": ("stsz", 4, 0x00000001_FFFFFFFF, 8),
    "stsz_size": ("stsz", 4, 0xFFFF_FFFF, 4),
    "stts_count": ("stts", 4, 0x1000_0000, 4),
    "stsc_count": ("stsc", 4, 0x1000_0000, 4),
    "stco_count": ("stco", 4, 0x1000_0000, 4),
    "stsd_count": ("stsd", 4, 0x1000_0000, 4),
    "elst_count": ("elst", 4, 0x1000_0000, 4),
    "trex_size": ("trex", 16, 0xFFFF_FFFF, 4),
    "moov_size": ("moov", -8, 0x7FFF_FFFF, 4),
    "moof_size": ("moof", -8, 0x7FFF_FFFF, 4),
    "moof_cut": ("moof", -8, 0x0070_0000, 4),
    "ftyp_size": ("ftyp", -8, 0x7FFF_FFFF, 4),
    "moof_without_size": ("moof", -8, 0, 4),
    "trak_size": ("trak", -8, 0x0000_FFFF, 4),
    "mdat_tiny": ("mdat", -8, 3, 4),
}


@pytest.mark.parametrize("name", LIES)
def test_remux_lying_box(name: str) -> None:
    """A count or size that is not so is damage, and no reason to take memory."""
    data = make_fmp4(seconds=1.0).data
    tracemalloc.start()
    try:
        error = failure(Script(section(patched(data, *LIES[name]), format="mp4")))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(error, CorruptMedia)
    assert peak < 16 << 20


def test_remux_lying_large_size() -> None:
    """A size of 64 bits lies no better."""
    data = make_fmp4(seconds=1.0).data
    moov = next(every(data, "moov")).offset
    for size in (0, 8, 1 << 40, (1 << 64) - 1):
        lying = data[:moov] + struct.pack(">I4sQ", 1, b"moov", size) + data[moov + 8 :]
        assert isinstance(failure(Script(section(lying, format="mp4"))), CorruptMedia)


def test_remux_many_empty_runs() -> None:
    """Fragments that announce samples for which nothing comes are damage before their index has
    grown: a hundred bytes must not cost megabytes."""
    made = make_fmp4(audio=None, seconds=1.0)
    moof = next(box for box in parse(made.segments[0]) if box.kind == "moof")
    head = made.segments[0][: moof.size]
    lying = patched(head, "trun", 1, 0x000000_0000FFFF, 7)
    told = section(made.data + lying * 1000, format="mp4")
    script = Script(told)
    assert isinstance(attempt(script).error, CorruptMedia)
    assert script.read_bytes < len(made.data) + 20 * len(lying)


# -- bytes without packets -------------------------------------------------------------------------


class Endless:
    """An input that plays something and then the same bytes for ever."""

    broken_off = False

    def __init__(self, head: bytes, loop: bytes, format: Format = "mpegts") -> None:  # noqa: A002
        self._sections = iter([Section(format=format)])
        self._head = head
        self._loop = loop * (65536 // len(loop) + 1)
        self.read_bytes = 0

    def next_section(self) -> Section | None:
        return next(self._sections, None)

    def read(self, n: int, /) -> bytes:
        piece, self._head = self._head[:n], self._head[n:]
        piece = piece or self._loop[:n]
        self.read_bytes += len(piece)
        assert self.read_bytes < 3 * BARREN_BYTES, "it reads for ever"
        return piece


NULL_PACKET = b"\x47\x1f\xff\x10" + bytes(184)


def other_pids() -> bytes:
    """Packets of a PID that no table knows, with PES packets in them."""
    clip = make_clip()
    packets = [p for p in ts.packets(clip.data) if p.pid == clip.video_pid]
    return ts.pack(packet.with_pid(0x1ABC) for packet in packets)


def unchosen_pid() -> bytes:
    """Packets of an audio track that is announced and not chosen."""
    clip = make_clip(audio=("aac", "aac"))
    packets = [p for p in ts.packets(clip.data) if p.pid == clip.audio_pids[1]]
    return ts.pack(packets)


LOOPS: dict[str, Callable[[], bytes]] = {
    "null_packets": lambda: NULL_PACKET,
    "unknown_pid": other_pids,
    "unchosen_track": unchosen_pid,
    "zeros": lambda: bytes(188),
    "sync_bytes": lambda: b"\x47" * 188,
}


@pytest.mark.parametrize("name", LOOPS)
def test_remux_endless_nothing(name: str) -> None:
    """A source that goes on and on, and of which nothing comes any more, is ended."""
    head = make_clip(audio=("aac", "aac")).data
    source = Endless(head, LOOPS[name]())
    with pytest.raises(CorruptMedia):
        remux([source], lambda _: None)
    assert source.read_bytes < BARREN_BYTES + len(head) + (2 << 20)


@pytest.mark.parametrize("name", ["null_packets", "zeros", "sync_bytes"])
def test_remux_endless_nothing_from_start(name: str) -> None:
    """So is one that never begins."""
    source = Endless(b"", LOOPS[name]())
    with pytest.raises(CorruptMedia):
        remux([source], lambda _: None)
    assert source.read_bytes < BARREN_BYTES + (2 << 20)


def test_remux_endless_mdat() -> None:
    """So is an mdat as large as a disk."""
    head = make_fmp4(seconds=1.0).data + struct.pack(">I4sQ", 1, b"mdat", 1 << 40)
    source = Endless(head, bytes(1024), "mp4")
    with pytest.raises(CorruptMedia):
        remux([source], lambda _: None)
    assert source.read_bytes < BARREN_BYTES + len(head) + (2 << 20)


def test_remux_much_of_other_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Far more bytes of other streams than the bound are no reason to end, as long as packets of
    a chosen track come now and then."""
    monkeypatch.setattr(fence, "BARREN_BYTES", 2 << 20)
    clip = make_clip()
    filler = NULL_PACKET * 400
    data = b"".join(
        itertools.chain.from_iterable(
            (packet.raw, filler if packet.starts and number > 200 else b"")
            for number, packet in enumerate(ts.packets(clip.data))
        )
    )
    assert len(data) > 3 * (2 << 20)
    assert remuxed(data).counts.packets["video"] == 100


def test_remux_no_further_random_access_point() -> None:
    """Behind a discontinuity, pictures that nothing can decode are not waited on for ever."""
    clip = make_clip(audio=(), gop_s=10.0, seconds=4.0)
    (first, *rest) = ts.read_pes(clip.data, clip.video_pid)
    pictures = [
        replace(rest[n % len(rest)], pts=first.pts + 3600 * n, dts=None, random_access=False)  # type: ignore[operator]
        for n in range(2500)
    ]
    barren = ts_tables.mux(clip.program, pictures)
    output = attempt(Script(clip.data, barren))
    assert isinstance(output.error, CorruptMedia)
    assert output.parts


def test_metered_silent_after_error() -> None:
    """It raises once and is at its end then: libavformat asks again, and PyAV would write what a
    second exception displaces to stderr."""

    class Broken:
        def read(self, n: int, /) -> bytes:
            raise SourceTimeout

    metered = Metered(Broken())
    with pytest.raises(SourceTimeout):
        metered.read(4)
    assert metered.read(4) == b""


# -- streams ---------------------------------------------------------------------------------------


def test_remux_hundred_pids() -> None:
    """Of a hundred announced streams the first ones are known, and those are copied."""
    clip = make_clip()
    extra = [ts_tables.Stream(pid=0x1000 + n, stream_type=0x0F) for n in range(1, 101)]
    data = ts_edit.announce(clip.data, *extra)
    source = Script(data)
    source.next_section()
    with Demuxer(source) as demuxer:
        assert len(demuxer._container.streams) <= 64
    assert remuxed(data).counts.packets["video"] == 100


def test_remux_hundred_tracks() -> None:
    """A hundred tracks of an MP4 are too many."""
    made = make_fmp4(seconds=1.0, audio=None)
    moov = next(every(made.init, "moov"))
    trak = next(every(made.init, "trak"))
    body = made.init[trak.offset : trak.offset + trak.size]
    id_at = 8 + 8 + 12  # of the tkhd, version 0
    copies = b"".join(
        body[:id_at] + (n + 2).to_bytes(4, "big") + body[id_at + 4 :] for n in range(100)
    )
    end = trak.offset + trak.size
    size = (moov.size + len(copies)).to_bytes(4, "big")
    init = made.init[: moov.offset] + size + made.init[moov.offset + 4 : end] + copies
    data = init + made.init[end:] + b"".join(made.segments)
    error = failure(Script(section(data, format="mp4")))
    assert "64 tracks" in str(error)
    assert isinstance(error, CorruptMedia)


def test_remux_repeated_moov() -> None:
    """Segments that each repeat the moov, one behind the other, are not a hundred tracks."""
    made = make_fmp4(seconds=40.0, width=32, height=32, fps=5)
    assert len(made.segments) >= 40
    data = b"".join(made.init + segment for segment in made.segments)
    output = remuxed(Script(section(data, format="mp4")))
    assert output.counts.packets == remuxed(Script(section(made.data, format="mp4"))).counts.packets


# -- texts -----------------------------------------------------------------------------------------


def texts(file: Path, url: str) -> dict[str, bytes]:
    """Playlists of every kind that libavformat would follow, pointing at a file and a server."""
    secret = file.as_uri()
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXTINF:1,\n{secret}\n"
    mpd = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        f'<AdaptationSet><Representation id="1"><BaseURL>{url}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>"
    )
    return {
        "hls": hls.encode(),
        "multivariant": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{secret}\n".encode(),
        "ffconcat": f"ffconcat version 1.0\nfile {url}\nfile {secret}\n".encode(),
        "dash": mpd.encode(),
        "smil": f'<smil><body><video src="{url}"/></body></smil>'.encode(),
        "sdp": b"v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    }


class Sentinel:
    """Counts the connections that a port of this machine gets."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._socket.setblocking(False)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/segment.ts"

    def hits(self) -> int:
        """Connections since the last time: the kernel takes them without anybody's help."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.accept()[0].close()
                count += 1
        return count

    def close(self) -> None:
        self._socket.close()


class Watch:
    """Counts how often a file is opened, by whomever: inotify(7)."""

    def __init__(self, file: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK)
        assert self._fd >= 0
        assert libc.inotify_add_watch(self._fd, os.fsencode(file), 0x20) > 0  # IN_OPEN

    def hits(self) -> int:
        """Events since the last time (16 bytes each)."""
        with contextlib.suppress(BlockingIOError):
            return len(os.read(self._fd, 4096)) // 16
        return 0

    def close(self) -> None:
        os.close(self._fd)


@pytest.mark.parametrize("format", ["mpegts", "mp4", "aac", "ac3", "eac3", "mp3"])
def test_remux_text_opens_nothing(tmp_path: Path, format: Format) -> None:  # noqa: A002
    """A text that names files and servers never makes libavformat open one."""
    clip = make_clip().data
    secret = tmp_path / "secret.ts"
    secret.write_bytes(clip)
    sentinel, watch = Sentinel(), Watch(secret)
    with contextlib.closing(sentinel), contextlib.closing(watch):
        for name, text in texts(secret, sentinel.url).items():
            for data in (text, text + clip, clip + text, text.ljust(100_000, b"\n")):
                attempt(Script(section(data, format=format)))
            assert (sentinel.hits(), watch.hits()) == (0, 0), name


def test_sentinels_see(tmp_path: Path) -> None:
    """Libavformat left alone does open what a playlist names, and the sentinels tell."""
    secret = tmp_path / "secret.ts"
    secret.write_bytes(make_clip().data)
    sentinel, watch = Sentinel(), Watch(secret)
    with contextlib.closing(sentinel), contextlib.closing(watch):
        playlist = tmp_path / "playlist.m3u8"
        playlist.write_bytes(texts(secret, sentinel.url)["hls"])
        with contextlib.suppress(av.FFmpegError):
            av.open(str(secret)).close()
        assert watch.hits()
        with contextlib.suppress(av.FFmpegError):
            av.open(sentinel.url, timeout=0.2)
        assert sentinel.hits()
