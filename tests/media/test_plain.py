"""The demuxer of plain sections: which ones it takes, and how libavformat goes on from it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import CorruptMedia
from proxy.media import fence, plain
from proxy.media.demux import Demuxer
from proxy.media.plain import PlainDemuxer, open_section
from proxy.media.section import Section
from tests.conftest import REQUIRE_ALL
from tests.media.test_transport import Key, by_libavformat, film, starts
from tests.media.test_transport_stops import BAD_FRAMES, BAD_PACKETS, BAD_PICTURES, patched
from tests.support import ts, ts_edit
from tests.support.clip_recipes import PLAYABLE
from tests.support.clips import WRAP_S, Audio, Clip, make_clip
from tests.support.fmp4 import make_fmp4
from tests.support.sources import Script, remuxed
from tests.support.ts import PACKET_BYTES, WRAP, Pes

try:
    from proxy.media.transport import Frames, Packet, Splitter
except ImportError:
    if REQUIRE_ALL:
        raise
    pytest.skip("missing: the compiled proxy.media.transport", allow_module_level=True)

EXPLICIT = Section(explicit=True)
WHOLE = 1 << 30

# -- which sections --------------------------------------------------------------------------------


def opened(
    data: bytes, section: Section = EXPLICIT, *, sizes: Sequence[int] = (WHOLE,), **wants: Any
) -> Demuxer | PlainDemuxer:
    """Open a section of these bytes; everything is wanted of it but for what `wants` says."""
    script = Script((section, data), sizes=sizes, broken_off=wants.pop("broken_off", ()))
    script.next_section()
    return open_section(
        script, section, **{"video": True, "audio": True, "language": None, **wants}
    )


# Clips, what is wanted of them, and whether that is plain.
SECTIONS: dict[str, tuple[str, Mapping[str, Any], bool]] = {
    "h264_aac": ("h264_aac", {}, True),
    "hevc_aac": ("hevc_aac", {}, True),
    "h264": ("h264_alone", {}, True),
    "hevc": ("hevc_alone", {}, True),
    "aac": ("aac_alone", {}, True),
    "a_language": ("h264_aac", {"language": "deu"}, True),
    "h264_without_audio": ("h264_alone", {"audio": False}, True),
    "aac_without_video": ("aac_alone", {"video": False}, True),
    "video_not_wanted": ("h264_aac", {"video": False}, False),
    "audio_not_wanted": ("h264_aac", {"audio": False}, False),
    "two_audio_tracks": ("h264_two_languages", {}, False),
    "three_tracks": ("h264_three_tracks", {}, False),
    "ac3": ("h264_ac3", {}, False),
    "mp3": ("mp3_alone", {}, False),
    "metadata_beside": ("h264_extra_streams", {}, False),
    "two_programs": ("h264_second_program", {}, False),
}


@pytest.mark.parametrize("name", SECTIONS)
def test_open_section_of_streams(name: str) -> None:
    """A section is plain with one program of one or two streams that are known and wanted."""
    clip, wants, is_plain = SECTIONS[name]
    with opened(PLAYABLE[clip]().data, **wants) as demuxer:
        assert isinstance(demuxer, PlainDemuxer if is_plain else Demuxer)


@pytest.mark.parametrize("size", [1, 100, 1000])
def test_open_section_in_pieces(size: int) -> None:
    """The tables may come in pieces; nothing that was read with them is lost."""
    clip = make_clip()
    with opened(clip.data, sizes=[size]) as demuxer:
        assert isinstance(demuxer, PlainDemuxer)
        assert keys_of(demuxer) == by_libavformat(clip.data)


def test_open_section_not_explicit() -> None:
    """A section that does not say what all its streams are is for libavformat."""
    with opened(make_clip().data, Section()) as demuxer:
        assert isinstance(demuxer, Demuxer)


def test_open_section_of_another_format() -> None:
    """So is one of another format."""
    with opened(make_fmp4().data, Section(format="mp4", explicit=True)) as demuxer:
        assert isinstance(demuxer, Demuxer)


def test_open_section_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """So are all where nobody has compiled the splitter."""
    assert plain.compiled()
    monkeypatch.setattr(plain, "transport", None)
    assert not plain.compiled()
    with opened(make_clip().data) as demuxer:
        assert isinstance(demuxer, Demuxer)


def test_open_section_of_nothing_wanted() -> None:
    """Where the section has nothing of what is wanted, it fails as ever."""
    with pytest.raises(CorruptMedia):
        opened(PLAYABLE["h264_alone"]().data, video=False)


@pytest.mark.parametrize("clip", ["h264_aac", "hevc_aac", "aac_alone"])
def test_tracks_as_libavformat(clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tracks are those of libavformat, in the same order, but for how NAL units come and what
    only a parser knows."""
    data = PLAYABLE[clip]().data
    with opened(data) as demuxer:
        ours = demuxer.tracks
    monkeypatch.setattr(plain, "transport", None)
    with opened(data) as demuxer:
        assert isinstance(demuxer, Demuxer)
        assert ours == [replace(track, prefixed=True, size=(0, 0)) for track in demuxer.tracks]


def test_tracks_language() -> None:
    """The language of the audio is the PMT's."""
    with opened(make_clip(languages=("deu",)).data) as demuxer:
        assert [track.language for track in demuxer.tracks] == [None, "deu"]


# -- handing over ----------------------------------------------------------------------------------


def singly(demuxer: Demuxer | PlainDemuxer) -> Iterator[Any]:
    for one in demuxer.packets():
        yield from one.packets() if isinstance(one, Frames) else [one]


def keys_of(demuxer: Demuxer | PlainDemuxer) -> dict[int, list[Key]]:
    """What counts of the packets that come, by stream, in order."""
    out: dict[int, list[Key]] = {}
    for one in singly(demuxer):
        pts, dts = (None if time is None else time % WRAP for time in (one.pts, one.dts))
        key = (pts, dts, one.is_keyframe, bytes(memoryview(one)))
        out.setdefault(one.stream_index, []).append(key)
    return out


def clip(start_s: float = 1.4) -> Clip:
    """A clip whose PES packets of audio take several transport packets each."""
    return make_clip(audio=(Audio(bitrate=256_000),), start_s=start_s)


def bad_packet(name: str, kind: str, number: int = 12) -> bytes:
    """The clip with such a packet in the middle."""
    one = clip()
    pid = one.video_pid if kind == "video" else one.audio_pids[0]
    return patched(one.data, starts(one.data, pid)[number], BAD_PACKETS[name][1])


def bad_picture(name: str) -> bytes:
    """The clip with such a picture in the middle."""
    one = clip()
    pictures, change = one.pictures(), BAD_PICTURES[name][2]
    return ts_edit.rewrite(one.data, one.video_pid, lambda n, pes: change(pictures, n, pes))


def bad_frame(name: str) -> bytes:
    """The clip with such a frame in the middle."""
    one = clip()

    def change(number: int, pes: Pes) -> Pes:
        extra = BAD_FRAMES[name] if number == 30 else b""
        return replace(pes, payload=extra + pes.payload)

    return ts_edit.rewrite(one.data, one.audio_pids[0], change)


def split_picture() -> bytes:
    """The clip with a picture that two PES packets share."""
    one = clip()
    groups = ts.pes_groups(ts.packets(one.data), one.video_pid)
    whole = ts.parse_pes(groups[20])
    half = len(whole.payload) // 2
    parts = [
        replace(whole, payload=whole.payload[:half]),
        Pes(pid=one.video_pid, stream_id=ts.VIDEO_ID, pts=None, payload=whole.payload[half:]),
    ]
    begin = starts(one.data, one.video_pid)[20] * PACKET_BYTES
    others = [p for p in ts.packets(one.data[begin:]) if p.pid != one.video_pid]
    video = [p for p in ts.packets(one.data[begin:]) if p.pid == one.video_pid]
    fresh = [packet for part in parts for packet in ts.pes_packets(part)]
    behind = [*fresh, *others[:1], *video[len(groups[20]) :], *others[1:]]
    return ts.renumber(one.data[:begin] + ts.pack(behind))


SPOILT: dict[str, Callable[[], bytes]] = {
    **{
        f"{kind}_{name}": functools.partial(bad_packet, name, kind)
        for name in BAD_PACKETS
        for kind in ("video", "audio")
    },
    **{f"picture_{name}": functools.partial(bad_picture, name) for name in BAD_PICTURES},
    **{f"frame_{name}": functools.partial(bad_frame, name) for name in ("garbage", "zeros")},
    "split_picture": split_picture,
    "byte_lost": lambda: clip().data[:90_000] + clip().data[90_001:],
    "byte_too_much": lambda: clip().data[:90_000] + b"x" + clip().data[90_000:],
    "packet_lost": lambda: ts.pack(
        packet
        for number, packet in enumerate(ts.packets(clip().data))
        if number != starts(clip().data, clip().video_pid)[15]
    ),
}


@pytest.mark.parametrize("size", [997, WHOLE])
@pytest.mark.parametrize("name", SPOILT)
def test_hand_over_as_libavformat(name: str, size: int) -> None:
    """All packets are those that libavformat makes of the section alone: none is lost and none
    comes twice where it takes over."""
    data = SPOILT[name]()
    with opened(data, sizes=[size]) as demuxer:
        assert isinstance(demuxer, PlainDemuxer)
        assert keys_of(demuxer) == by_libavformat(data)
    assert demuxer.incomplete == 0


def test_hand_over_behind_a_wrap() -> None:
    """Times go on where the clock has wrapped before libavformat takes over."""
    one = clip(WRAP_S - 1)
    place = starts(one.data, one.video_pid)[60]
    data = patched(one.data, place, BAD_PACKETS["scrambled"][1])
    with opened(data) as demuxer:
        assert isinstance(demuxer, PlainDemuxer)
        assert keys_of(demuxer) == by_libavformat(data)


def test_hand_over_of_hevc() -> None:
    """Pictures of HEVC come behind their lengths, too, when libavformat has taken over."""
    one = make_clip(video="hevc")
    place = starts(one.data, one.video_pid)[30]
    data = patched(one.data, place, BAD_PACKETS["scrambled"][1])
    with opened(data) as demuxer:
        assert isinstance(demuxer, PlainDemuxer)
        packets = list(singly(demuxer))
    pictures = [packet for packet in packets if packet.stream_index == 0]
    assert all(isinstance(packet, Packet) for packet in pictures)
    assert [packet.data for packet in pictures] == [key[3] for key in by_libavformat(data)[0]]


def test_hand_over_at_the_end() -> None:
    """It may be the last picture that is not one: libavformat gets what there is."""
    slice_ = b"\x65\x88\x80"
    data = film([slice_], [slice_], [slice_, slice_])
    with opened(data) as demuxer:
        assert isinstance(demuxer, PlainDemuxer)
        payloads = [key[3] for key in keys_of(demuxer)[0]]
    assert payloads == [len(slice_).to_bytes(4, "big") + slice_] * 4


def test_hand_over_to_other_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where libavformat finds other streams than were announced, it cannot go on."""

    class Other(Demuxer):
        def __init__(self, *args: Any, **wishes: Any) -> None:
            super().__init__(*args, **wishes)
            del self.tracks[0]

    monkeypatch.setattr(plain, "Demuxer", Other)
    with opened(bad_packet("scrambled", "video")) as demuxer:
        with pytest.raises(CorruptMedia, match="other streams"):
            list(demuxer.packets())


def cut_in_a_picture(data: bytes) -> bytes:
    """A stream up to the second packet of a picture."""
    pid = clip().video_pid
    group = next(
        n for n, one in enumerate(ts.pes_groups(ts.packets(data), pid)) if n > 40 and one[1:]
    )
    return data[: (starts(data, pid)[group] + 1) * PACKET_BYTES]


@pytest.mark.parametrize("handed_over", [False, True])
def test_incomplete_of_a_section_that_broke_off(handed_over: bool) -> None:
    """A picture that is cut where the section breaks off is left out, and counted, whoever has
    taken the section apart."""
    data = bad_packet("scrambled", "video") if handed_over else clip().data
    data = cut_in_a_picture(data)
    with opened(data, broken_off={0}) as demuxer:
        assert isinstance(demuxer, PlainDemuxer)
        assert len(keys_of(demuxer)[0]) == len(by_libavformat(data)[0]) - 1
        assert demuxer.incomplete >= 1


# -- a PES packet as transport packets -------------------------------------------------------------


@given(st.integers(0x10, 0x1FFE), st.binary(min_size=1, max_size=600))
def test_transport_of_any_pes_packet(pid: int, pes: bytes) -> None:
    """Its transport packets hold its bytes, the first one begins it, and they are counted."""
    packets = list(ts.packets(plain._transport(pid, pes)))
    assert b"".join(packet.payload for packet in packets) == pes
    assert {packet.pid for packet in packets} == {pid}
    assert [packet.starts for packet in packets] == [True] + [False] * (len(packets) - 1)
    assert [packet.counter for packet in packets] == [n % 16 for n in range(len(packets))]


@given(st.integers(1, 600))
def test_transport_through_the_splitter(size: int) -> None:
    """A splitter gets the picture out of them that went in."""
    unit = b"\x65\x88" + b"x" * size
    pes = Pes(pid=0x100, stream_id=ts.VIDEO_ID, pts=7, payload=b"\0\0\1" + unit)
    one = Splitter(video=(0x100, 0))
    assert one.feed(plain._transport(0x100, ts.pes_bytes(pes))) == []
    (packet,), _ = one.finish()
    assert isinstance(packet, Packet)
    assert (packet.pts, packet.data[4:]) == (7, unit)


# -- the whole remux -------------------------------------------------------------------------------


def samples(data: bytes) -> list[tuple[str, list[tuple[object, ...]]]]:
    """The samples of each track of the remux of a plain section."""
    movie = remuxed(Script((EXPLICIT, data), sizes=[10_000])).movie
    return [
        (
            track.handler,
            [
                (sample.data, sample.decode_time, sample.composition_time, sample.sync)
                for sample in movie.samples(track)
            ],
        )
        for track in movie.tracks
    ]


REMUXED: dict[str, Callable[[], bytes]] = {
    **{
        name: functools.partial(lambda name: PLAYABLE[name]().data, name)
        for name in ("h264_aac", "h264_open_gop", "hevc_aac", "aac_alone", "wraps", "untimed_audio")
    },
    "handed_over": functools.partial(bad_packet, "scrambled", "video"),
    "split_picture": split_picture,
}


@pytest.mark.parametrize("name", REMUXED)
def test_remux_compiled_or_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output has the same samples at the same times, whoever takes the section apart."""
    data = REMUXED[name]()
    ours = samples(data)
    monkeypatch.setattr(plain, "transport", None)
    assert samples(data) == ours


# -- bounds ----------------------------------------------------------------------------------------

NULL_PACKET = bytes([0x47, 0x1F, 0xFF, 0x10]) + bytes(184)


def test_packets_of_a_source_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that come and come, and no packet in them, are an end with an error."""
    monkeypatch.setattr(fence, "BARREN_BYTES", 100_000)
    data = make_clip().data
    given_ = []
    with opened(data + NULL_PACKET * 1000, sizes=[10_000]) as demuxer:
        assert isinstance(demuxer, PlainDemuxer)
        with pytest.raises(CorruptMedia, match="no packet of a chosen track"):
            given_ += list(demuxer.packets())
    with opened(data + NULL_PACKET * 400, sizes=[10_000]) as demuxer:
        assert keys_of(demuxer) == by_libavformat(data)


def test_packets_renew_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is between two packets, and not one of the section."""
    monkeypatch.setattr(fence, "BARREN_BYTES", 50_000)
    data = make_clip().data
    assert len(data) > 100_000
    with opened(data, sizes=[10_000]) as demuxer:
        assert keys_of(demuxer) == by_libavformat(data)
