"""The splitter of plain transport streams: beside libavformat, in pieces of any size, and where it
stops."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy.media import watch
from proxy.media.demux import Demuxer
from proxy.media.nal import join_length_prefixed, split_annexb
from proxy.media.section import Section
from tests.conftest import REQUIRE_ALL
from tests.media.helpers import adts_frame
from tests.support import ts, ts_tables
from tests.support.clip_recipes import PLAYABLE
from tests.support.clips import make_clip
from tests.support.sources import Script
from tests.support.ts import PACKET_BYTES, WRAP, Pes

try:
    from proxy.media.transport import Frames, Packet, Splitter, length_prefixed, marked
except ImportError:
    if REQUIRE_ALL:
        raise
    pytest.skip("missing: the compiled proxy.media.transport", allow_module_level=True)

WHOLE = 1 << 30
SIZES = [1, 187, 188, 997, 65_536, WHOLE]

PLAIN = [
    "h264_aac", "h264_ntsc", "h264_open_gop", "h264_leading_pictures", "h264_changed_sets",
    "h264_captions", "h264_aac_surround", "h264_alone", "h264_one_picture", "hevc_aac",
    "hevc_leading_rasl", "hevc_changed_size", "aac_alone", "wraps", "audio_lags", "without_dts",
    "untimed_audio",
]  # fmt: skip

# Of the corpus, what has only transport streams that are plain.
PLAIN_FOLDERS = [
    "b-frames-ts", "bbb360-ts", "bipbop2seg-ts", "cea608-ts", "diffptsdts-ts",
    "disc-text-offset-ts", "gap-ts", "hevc-small-ts", "hevc-ts", "iframes-ts",
    "multivideo-demuxed-ts", "no-aud-ts", "rollover-ts", "split-video-audio",
]  # fmt: skip

# -- making ----------------------------------------------------------------------------------------

PICTURE_PID, SOUND_PID = 0x100, 0x101


def _stream(stream_type: int, parts: Sequence[Pes]) -> bytes:
    stream = ts_tables.Stream(pid=parts[0].pid, stream_type=stream_type)
    return ts_tables.mux(ts_tables.Program(pcr_pid=stream.pid, streams=(stream,)), parts)


def film(*pictures: Sequence[bytes], hevc: bool = False) -> bytes:
    """A stream of pictures made of these NAL units, 40 ms each."""
    payloads = [b"".join(b"\0\0\1" + unit for unit in units) for units in pictures]
    parts = [
        Pes(pid=PICTURE_PID, stream_id=ts.VIDEO_ID, pts=90_000 + 3600 * number, payload=payload)
        for number, payload in enumerate(payloads)
    ]
    return _stream(ts_tables.HEVC if hevc else ts_tables.H264, parts)


def sounds(*pieces: tuple[int | None, bytes]) -> bytes:
    """A stream of AAC in PES packets with these PTS and bytes."""
    parts = [
        Pes(pid=SOUND_PID, stream_id=ts.AUDIO_ID, pts=pts, payload=payload)
        for pts, payload in pieces
    ]
    return _stream(ts_tables.AAC_ADTS, parts)


def frames_of(number: int) -> list[bytes]:
    """So many ADTS frames, no two of them alike, nor of the same size."""
    return [adts_frame(bytes([n]) * (100 + 13 * n % 80)) for n in range(1, number + 1)]


# -- running ---------------------------------------------------------------------------------------

Key = tuple[int | None, int | None, bool, bytes]  # PTS, DTS, whether it is a keyframe, payload


def splitter(data: bytes) -> Splitter:
    """A splitter of the streams that the tables of a stream announce."""
    streams = ts_tables.read_program(data).streams
    places = {one.stream_type: (one.pid, index) for index, one in enumerate(streams)}
    return Splitter(
        video=places.get(ts_tables.H264) or places.get(ts_tables.HEVC),
        audio=places.get(ts_tables.AAC_ADTS),
        hevc=ts_tables.HEVC in places,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """What a splitter makes of a stream."""

    packets: Sequence[Packet | Frames]
    odd: str | None
    units: Sequence[tuple[int, bytes]]
    rest: bytes  # what it was not fed included
    left_out: int


def split(
    data: bytes,
    sizes: Sequence[int] = (WHOLE,),
    *,
    tables: bytes = b"",
    broken_off: bool = False,
) -> Split:
    """Feed a stream in pieces of these sizes, over and over, as far as it goes; `tables` stands for
    a stream that has none."""
    one = splitter(tables or data)
    packets: list[Packet | Frames] = []
    place = left_out = 0
    cycle = itertools.cycle(sizes)
    while place < len(data) and one.odd is None:
        size = next(cycle)
        packets += one.feed(data[place : place + size])
        place += size
    if one.odd is None:
        last, left_out = one.finish(broken_off=broken_off)
        packets += last
    units, rest = one.left()
    return Split(
        packets=packets, odd=one.odd, units=units, rest=rest + data[place:], left_out=left_out
    )


def singly(packets: Iterable[Packet | Frames]) -> list[Packet]:
    """Each frame for itself."""
    return [
        each for one in packets for each in (one.packets() if isinstance(one, Frames) else [one])
    ]


def keys(packets: Iterable[Packet | Frames]) -> dict[int, list[Key]]:
    """What counts of packets, by stream, in order."""
    out: dict[int, list[Key]] = {}
    for one in singly(packets):
        out.setdefault(one.stream_index, []).append(
            (one.pts, one.dts, one.is_keyframe, bytes(memoryview(one)))
        )
    return out


@functools.cache
def by_libavformat(data: bytes) -> dict[int, list[Key]]:
    """What libavformat makes of a stream, in the same form."""
    script = Script((Section(explicit=True), data))
    script.next_section()
    out: dict[int, list[Key]] = {}
    with Demuxer(script, explicit=True) as demuxer:
        videos = {track.index for track in demuxer.tracks if track.kind == "video"}
        for one in demuxer.packets():
            payload = bytes(one)
            if one.stream_index in videos:
                payload = join_length_prefixed(split_annexb(payload))
            pts = None if one.pts is None else one.pts % WRAP
            dts = None if one.dts is None else one.dts % WRAP
            out.setdefault(one.stream_index, []).append((pts, dts, one.is_keyframe, payload))
    return out


def starts(data: bytes, pid: int) -> list[int]:
    """The numbers of the transport packets in which PES packets begin."""
    return [
        number
        for number, packet in enumerate(ts.packets(data))
        if packet.pid == pid and packet.starts
    ]


# -- whole streams ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PLAIN)
def test_feed_as_libavformat(name: str, size: int) -> None:
    """The packets of a clip are those of libavformat, in pieces of any size."""
    data = PLAYABLE[name]().data
    out = split(data, [size])
    assert (out.odd, out.left_out) == (None, 0)
    assert keys(out.packets) == by_libavformat(data)


@pytest.mark.parametrize("folder", PLAIN_FOLDERS)
def test_feed_corpus_as_libavformat(folder: str, corpus: Path) -> None:
    """So are the packets of what other muxers wrote."""
    files = sorted((corpus / folder).glob("*.ts"))
    assert files
    for file in files:
        data = file.read_bytes()
        for size in (997, WHOLE):
            out = split(data, [size])
            assert (out.odd, out.left_out) == (None, 0), file.name
            assert keys(out.packets) == by_libavformat(data), file.name


def test_feed_ignores_other_pids() -> None:
    """Packets of PIDs that nobody asked for are passed over, scrambled ones too."""
    clip = make_clip()
    stranger = bytes([0x47, 0x41, 0x99, 0xD0]) + bytes(184)
    parts = [packet.raw + stranger for packet in ts.packets(clip.data)]
    assert keys(split(b"".join(parts)).packets) == by_libavformat(clip.data)


def test_feed_begins_inside_pes_packets() -> None:
    """What stands before the first start of a PES packet belongs to none."""
    clip = make_clip()
    packets = list(ts.packets(clip.data))
    first = starts(clip.data, clip.video_pid)[10] + 1
    assert not packets[first].starts
    out = split(ts.pack(packets[first:]), tables=clip.data)
    assert out.odd is None
    for index, mine in keys(out.packets).items():
        assert mine == by_libavformat(clip.data)[index][-len(mine) :]


def test_feed_behind_a_stop() -> None:
    """Who feeds it on when it has stopped has made a mistake."""
    one = Splitter(video=(0x100, 0))
    assert one.feed(b"x" * PACKET_BYTES) == []
    with pytest.raises(AssertionError):
        one.feed(b"")


# -- packets ---------------------------------------------------------------------------------------


def test_packet_is_a_buffer() -> None:
    """A packet has the attributes of PyAV's, and its bytes without a copy, not to be written."""
    data = b"abc"
    one = Packet(2, 1, None, True, data)
    assert (one.stream_index, one.pts, one.dts, one.is_keyframe, one.size) == (2, 1, None, True, 3)
    assert one.time_base == Fraction(1, ts.TICKS_PER_S)
    view = memoryview(one)
    assert view.readonly
    assert view.obj is one
    assert view == data


def test_frames_packets() -> None:
    """Frames come apart where their headers say; only the first one has times."""
    frames, *others = split(sounds((7000, b"".join(frames_of(3))))).packets
    assert isinstance(frames, Frames)
    assert not others
    assert (frames.stream_index, frames.pts, frames.dts) == (0, 7000, 7000)
    apart = frames.packets()
    assert [one.data for one in apart] == frames_of(3)
    assert [(one.pts, one.dts) for one in apart] == [(7000, 7000), (None, None), (None, None)]
    assert all(one.is_keyframe and one.stream_index == 0 for one in apart)


@pytest.mark.parametrize("crc", [False, True])
def test_frames_blocks(crc: bool) -> None:
    """Blocks are the frames without their headers, and without a CRC that belongs to them."""
    blocks = [b"one", b"second", b"3"]
    data = sounds((90_000, b"".join(adts_frame(block, crc=crc) for block in blocks)))
    (frames,) = split(data).packets
    assert isinstance(frames, Frames)
    assert frames.blocks() == (b"".join(blocks), [3, 6, 1])


# -- pictures --------------------------------------------------------------------------------------


RECOVERY_POINT = b"\x06\x01\x84"
OTHER_MESSAGE = b"\x05\x02ab"
SEI = {
    "alone": (RECOVERY_POINT, True),
    "behind_another": (OTHER_MESSAGE + RECOVERY_POINT, True),
    "behind_a_long_one": (b"\x05\xff\x0a" + b"x" * 265 + RECOVERY_POINT, True),
    "behind_emulation_prevention": (b"\x05\x03\0\0\3\1" + RECOVERY_POINT, True),
    "in_front_of_another": (RECOVERY_POINT + OTHER_MESSAGE, True),
    "none": (OTHER_MESSAGE, False),
    "only_inside_another": (b"\x05\x03" + RECOVERY_POINT, False),
    "larger_type": (b"\xff" + RECOVERY_POINT, False),
    "cut": (b"\xff\xff", False),
    "message_behind_the_end": (b"\x05\xff\xff\xff\x01" + RECOVERY_POINT, False),
}


@pytest.mark.parametrize("name", SEI)
def test_keyframe_by_recovery_point(name: str) -> None:
    """A picture of H.264 is a keyframe where a SEI message says that decoding can begin there."""
    body, key = SEI[name]
    data = film([b"\x09\xf0", b"\x06" + body + b"\x80", b"\x41\x9a\x80"])
    (packet,) = singly(split(data).packets)
    assert packet.is_keyframe is key


def test_keyframe_by_idr() -> None:
    """A picture of H.264 is a keyframe where its slices are of an IDR picture."""
    data = film([b"\x65\x88\x80", b"\x65\x48\x80"], [b"\x41\x9a\x80"], [b"\x65\x88\x80"])
    assert [one.is_keyframe for one in singly(split(data).packets)] == [True, False, True]


def test_keyframe_of_intra_refresh_as_libavformat() -> None:
    """Where a column of intra macroblocks wanders, there are keyframes and one IDR picture."""
    data = make_clip(encoder="intra-refresh=1").data
    flags = [one.is_keyframe for one in singly(split(data).packets) if one.stream_index == 0]
    assert flags == [key for _, _, key, _ in by_libavformat(data)[0]]
    assert sum(flags) > 1


@pytest.mark.parametrize("kind", [0, 1, 8, 9, 16, 17, 18, 19, 20, 21, 22, 23, 24])
def test_keyframe_of_hevc(kind: int) -> None:
    """A picture of HEVC is a keyframe where its slices are of an IRAP picture, 16 to 23."""
    head = bytes([kind << 1, 1])
    data = film([b"\x46\x01\x50", head + b"\x80\x80", head + b"\x40\x80"], hevc=True)
    (packet,) = singly(split(data).packets)
    assert packet.is_keyframe is (16 <= kind <= 23)


# -- audio frames ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [7, 50, 100, 171, 500, 4000])
def test_frames_over_pes_packets_as_libavformat(size: int) -> None:
    """Frames may be cut by PES packets of any size; each is given once, with the time of the PES
    packet in which it is the first to begin."""
    stream = b"".join(frames_of(40))
    begins = list(itertools.accumulate(map(len, frames_of(40)), initial=0))[:-1]
    pieces: list[tuple[int | None, bytes]] = []
    for place in range(0, len(stream), size):
        number = next((n for n, at in enumerate(begins) if place <= at < place + size), None)
        pts = None if number is None else 90_000 + 1920 * number
        pieces.append((pts, stream[place : place + size]))
    data = sounds(*pieces)
    for chunk in (1, 997, WHOLE):
        out = split(data, [chunk])
        assert out.odd is None
        assert keys(out.packets) == by_libavformat(data)
        assert b"".join(one.data for one in singly(out.packets)) == stream


def test_frames_time_of_the_first_to_begin() -> None:
    """The end of a frame has the time of its own PES packet, and the frame behind it the next."""
    one, other, third = frames_of(3)
    data = sounds((1000, one[:50]), (2000, one[50:] + other + third[:9]), (3000, third[9:]))
    out = singly(split(data).packets)
    assert [(each.pts, each.data) for each in out] == [(1000, one), (2000, other), (None, third)]


# -- NAL units behind their lengths ----------------------------------------------------------------

_bits_of_annexb = st.lists(
    st.sampled_from([b"\0", b"\1", b"\3", b"\0\0", b"\0\0\1", b"\0\0\0\1", b"\x65", b"abc"])
    | st.binary(max_size=9)
).map(b"".join)


@given(_bits_of_annexb)
@example(b"")
@example(b"\0\0\1")
@example(b"\0\0\1\0\0\1")
@example(b"\0\0\1\x65\0\0\1")
@example(b"\0\0\1\x65\0\0\0\1")
@example(b"\0\0\1\x65\0\0\0")
@example(b"\0\0\1\1")
@example(bytes(9))
@example(b"no start code")
def test_length_prefixed_of_anything(data: bytes) -> None:
    """The units and their lengths are those of the cut in Python, of bytes and of a view."""
    wanted = join_length_prefixed(split_annexb(data))
    assert length_prefixed(data) == wanted
    assert length_prefixed(memoryview(b"\0\0\1" + data)[3:]) == wanted


def test_length_prefixed_of_many_units() -> None:
    """There may be more units than there was room for, and long ones."""
    units = [bytes([1 + n % 200]) * (1 + n * 37 % 70_000) for n in range(300)]
    data = b"".join(b"\0\0\1" + unit for unit in units)
    assert length_prefixed(data) == join_length_prefixed(units)


# -- anything --------------------------------------------------------------------------------------

_sizes = st.lists(st.integers(1, 600), min_size=1, max_size=5)

_heads = st.sampled_from([b"", b"\0\0\1\xe0\0\0\x84\0\0", b"\0\0\1\xc0\0\x40\x84\0\0"])
_bodies = st.lists(
    st.sampled_from([b"\0\0\1", b"\x65\x88", b"\x41\x9a", b"\x09\xf0", *frames_of(2)])
    | st.binary(max_size=40),
    max_size=8,
).map(b"".join)
_packets = st.builds(
    lambda pid, control, head, body, filling: (
        bytes([0x47, pid >> 8 | (0x40 if head else 0), pid & 255, control])
        + (head + body).ljust(PACKET_BYTES - 4, filling)[: PACKET_BYTES - 4]
    ),
    st.sampled_from([PICTURE_PID, PICTURE_PID, SOUND_PID, SOUND_PID, 0]),
    st.sampled_from([0x10, 0x10, 0x10, 0x30, 0x20, 0x90]),
    _heads,
    _bodies,
    st.sampled_from([b"\0", b"\xff", b"a"]),
)


def assert_alike_in_pieces(
    data: bytes, tables: bytes, sizes: Sequence[int], broken_off: bool
) -> None:
    """Pieces of these sizes make no difference."""
    whole = split(data, tables=tables, broken_off=broken_off)
    pieces = split(data, sizes, tables=tables, broken_off=broken_off)
    assert keys(pieces.packets) == keys(whole.packets)
    assert replace(pieces, packets=()) == replace(whole, packets=())


@given(
    st.lists(_packets, max_size=30).map(b"".join) | st.binary(max_size=999), _sizes, st.booleans()
)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_feed_of_anything(data: bytes, sizes: Sequence[int], broken_off: bool) -> None:
    """Any bytes pass or make it stop, alike in all pieces; nothing is raised."""
    assert_alike_in_pieces(data, make_clip().data, sizes, broken_off)


@given(
    st.sampled_from(["h264_aac", "hevc_aac", "aac_alone"]),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 12), st.integers(0, 255)), max_size=4),
    st.tuples(st.floats(0, 1), st.integers(0, 400)),
    _sizes,
    st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_feed_of_a_damaged_clip(
    name: str,
    damage: Sequence[tuple[float, int, int]],
    hole: tuple[float, int],
    sizes: Sequence[int],
    broken_off: bool,
) -> None:
    """So do damaged clips: bytes of packet heads are others, and some are missing."""
    clip = PLAYABLE[name]().data
    data = bytearray(clip)
    for place, offset, value in damage:
        data[int(place * len(data)) // PACKET_BYTES * PACKET_BYTES + offset] = value
    begin = int(hole[0] * len(data))
    del data[begin : begin + hole[1]]
    assert_alike_in_pieces(bytes(data), clip, sizes, broken_off)


# -- marked ----------------------------------------------------------------------------------------


@given(
    pids=st.sets(st.integers(0, 0x1FFF), min_size=1, max_size=10),
    packets=st.lists(st.tuples(st.booleans(), st.integers(0, 0xFFFF)), max_size=40),
    before=st.integers(0, 200),
)
def test_search_is_the_same_compiled_or_not(
    pids: set[int], packets: Sequence[tuple[bool, int]], before: int
) -> None:
    """Packets of the tables are found, whatever else stands there, with a compiler and without."""
    known = sorted(pids)
    heads = [known[number % len(known)] if ours else number for ours, number in packets]
    chunk = bytes(before) + b"".join(b"G" + head.to_bytes(2) + bytes(185) for head in heads)
    places = [before + number * 188 for number in range(len(heads))]
    told = (chunk, before, len(chunk), *watch._marks(pids))
    found = marked(*told)
    assert found == watch._marked_by_stride(*told)
    assert {at for at, head in zip(places, heads, strict=True) if head in pids} <= set(found)


def test_search_stays_within_its_bytes() -> None:
    """What is not there is not looked at."""
    with pytest.raises(ValueError, match="not there"):
        marked(bytes(188), 0, 376, bytes(256), bytes(256))
    with pytest.raises(ValueError, match="not there"):
        marked(bytes(188), 0, 188, bytes(255), bytes(256))
    assert marked(bytes(188), 2**64 - 100, 188, b"\1" * 256, b"\1" * 256) == []
