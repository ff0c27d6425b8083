"""Where the splitter of plain transport streams stops, and what it does at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from tests.conftest import REQUIRE_ALL
from tests.media.helpers import adts_frame
from tests.media.test_transport import (
    PICTURE_PID,
    SIZES,
    SOUND_PID,
    by_libavformat,
    film,
    frames_of,
    keys,
    singly,
    sounds,
    split,
    starts,
)
from tests.support import ts, ts_edit, ts_tables
from tests.support.clips import make_clip
from tests.support.ts import PACKET_BYTES, Pes

try:
    from proxy.media.transport import Splitter
except ImportError:
    if REQUIRE_ALL:
        raise
    pytest.skip("missing: the compiled proxy.media.transport", allow_module_level=True)

# -- where it stops --------------------------------------------------------------------------------


def patched(data: bytes, number: int, change: Callable[[bytearray, int], None]) -> bytes:
    """Change a transport packet, of which the function also learns where its payload begins."""
    begin = number * PACKET_BYTES
    raw = bytearray(data[begin : begin + PACKET_BYTES])
    change(raw, PACKET_BYTES - len(ts.Packet(bytes(raw)).payload))
    return data[:begin] + raw + data[begin + PACKET_BYTES :]


def _put(place: int, value: int) -> Callable[[bytearray, int], None]:
    """Put a byte into the head of a PES packet."""
    return lambda raw, payload: raw.__setitem__(payload + place, value)


def _flip(place: int, bits: int) -> Callable[[bytearray, int], None]:
    """Turn bits of the head of a transport packet over."""
    return lambda raw, _: raw.__setitem__(place, raw[place] ^ bits)


def _shorten(raw: bytearray, payload: int) -> None:
    """Let a PES packet say that it is shorter by a byte."""
    size = int.from_bytes(raw[payload + 4 : payload + 6], "big") - 1
    raw[payload + 4 : payload + 6] = size.to_bytes(2, "big")


LONGER = "a PES packet longer than it says"
NO_HEADER = "a PES header that is none, or long"
# What is done to the packet in which a PES packet begins, so that it stops in front of it.
BAD_PACKETS: dict[str, tuple[str, Callable[[bytearray, int], None]]] = {
    "no_sync_byte": ("no sync byte", _flip(0, 1)),
    "scrambled": ("scrambled packets", _flip(3, 0x80)),
    "start_lost": (LONGER, _flip(1, 0x40)),
    "no_pes_header": (NO_HEADER, _put(2, 7)),
    "other_stream_id": (NO_HEADER, _put(3, ts.PRIVATE_1_ID)),
    "long_pes_header": (NO_HEADER, _put(8, 255)),
    "pes_scrambled": (NO_HEADER, _put(6, 0xB4)),
    "dts_without_pts": (NO_HEADER, _put(7, 0x40)),
}


def expected_units(data: bytes, stop: int) -> list[tuple[int, bytes]]:
    """The PES packets that are open in front of a transport packet, in the order of their
    beginnings: of audio, such as have not as many bytes as they say."""
    program = ts_tables.read_program(data)
    packets = list(ts.packets(data[: stop * PACKET_BYTES]))
    out: list[tuple[int, int, bytes]] = []
    for pid in [program.video_pid, *program.audio_pids]:
        assert pid is not None
        unit = b"".join(packet.payload for packet in ts.pes_groups(packets, pid)[-1])
        if pid == program.video_pid or len(unit) < 6 + int.from_bytes(unit[4:6], "big"):
            out.append((starts(data[: stop * PACKET_BYTES], pid)[-1], pid, unit))
    return [(pid, unit) for _, pid, unit in sorted(out)]


def assert_stops(data: bytes, stop: int, why: str, undamaged: bytes, *, pictures: int) -> None:
    """It stops there, in pieces of any size: what came before is right, and what it has left is
    the PES packets that are open and all from there on."""
    for size in SIZES:
        out = split(data, [size], tables=undamaged)
        assert out.odd == why
        assert list(out.units) == expected_units(data, stop)
        assert out.rest == data[stop * PACKET_BYTES :]
        got, wanted = keys(out.packets), by_libavformat(undamaged)
        assert len(got[0]) == pictures
        for index, mine in got.items():
            assert mine == wanted[index][: len(mine)]


@pytest.mark.parametrize("name", BAD_PACKETS)
@pytest.mark.parametrize("kind", ["video", "audio"])
def test_stop_in_front_of_a_bad_packet(name: str, kind: str) -> None:
    """It stops in front of a packet that it does not understand, and says why."""
    clip = make_clip()
    why, change = BAD_PACKETS[name]
    stop = starts(clip.data, clip.video_pid if kind == "video" else clip.audio_pids[0])[8]
    # Behind what is not understood of one stream, the other's packets are not looked at either.
    pictures = sum(place < stop for place in starts(clip.data, clip.video_pid)) - 1
    data = patched(clip.data, stop, change)
    assert_stops(data, stop, why, clip.data, pictures=pictures)


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_stop_in_front_of_too_much(kind: str) -> None:
    """A PES packet that says less than comes is not whole: it stops in front of its last part."""
    clip = make_clip()
    pid = clip.video_pid if kind == "video" else clip.audio_pids[0]
    groups = ts.pes_groups(ts.packets(clip.data), pid)
    number = next(n for n, group in enumerate(groups) if n > 5 and len(group) > 1)
    begin = starts(clip.data, pid)[number]
    data = patched(clip.data, begin, _shorten)
    stop = [n for n, one in enumerate(ts.packets(data)) if n > begin and one.pid == pid]
    last = stop[len(groups[number]) - 2]
    pictures = sum(place < last for place in starts(data, clip.video_pid)) - 1
    assert_stops(data, last, LONGER, clip.data, pictures=pictures)


def test_stop_in_front_of_too_much_at_once() -> None:
    """Where the first part of a PES packet is too much already, nothing is used of it."""
    pieces = [(None, adts_frame(bytes([number]) * 40)) for number in range(3)]
    data = sounds(*pieces)
    stop = starts(data, SOUND_PID)[1]
    out = split(patched(data, stop, _shorten))
    assert (out.odd, out.units) == (LONGER, [])
    assert out.rest == patched(data, stop, _shorten)[stop * PACKET_BYTES :]
    assert [one.data for one in singly(out.packets)] == [pieces[0][1]]


Change = Callable[[Sequence[Pes], int, Pes], Pes | None]


def _merge(clip_pictures: Sequence[Pes], number: int, pes: Pes) -> Pes | None:
    """Put the 12th picture into the PES packet of the one before."""
    if number == 11:
        return None
    behind = clip_pictures[11].payload if number == 10 else b""
    return replace(pes, payload=pes.payload + behind)


def _around(before: bytes = b"", behind: bytes = b"") -> Change:
    def change(_: Sequence[Pes], number: int, pes: Pes) -> Pes:
        return replace(pes, payload=before + pes.payload + behind) if number == 10 else pes

    return change


def _empty(_: Sequence[Pes], number: int, pes: Pes) -> Pes:
    """Leave a delimiter of a picture, and nothing behind."""
    return replace(pes, payload=b"\0\0\0\1\x09\xf0") if number == 10 else pes


NO_START_CODE = "no start code at the start of a PES packet"
NO_ACCESS_UNIT = "no access unit at the start of a PES packet"
NOT_ONE_PICTURE = "not one picture in a PES packet"
# Why it stops, in front of which PES packet of video, and what is done to the 11th.
BAD_PICTURES: dict[str, tuple[str, int, Change]] = {
    "no_start_code": (NO_START_CODE, 10, _around(b"\xff")),
    "many_zeros": (NO_START_CODE, 10, _around(b"\0\0")),
    "later_slice": (NO_ACCESS_UNIT, 10, _around(b"\0\0\1\x41\x40")),
    "end_of_sequence": (NO_ACCESS_UNIT, 10, _around(b"\0\0\1\x0a")),
    "delimiter_behind": (NOT_ONE_PICTURE, 11, _around(behind=b"\0\0\1\x09\xf0")),
    "two_pictures": (NOT_ONE_PICTURE, 11, _merge),
    "no_picture": (NOT_ONE_PICTURE, 11, _empty),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_stop_in_front_of_a_bad_picture(name: str) -> None:
    """It stops in front of a PES packet that does not begin an access unit, and behind one that is
    not exactly one: that one is left as a whole."""
    clip = make_clip()
    why, number, change = BAD_PICTURES[name]
    pictures = clip.pictures()
    data = ts_edit.rewrite(clip.data, clip.video_pid, lambda n, pes: change(pictures, n, pes))
    stop = starts(data, clip.video_pid)[number]
    assert_stops(data, stop, why, clip.data, pictures=number - 1)


@pytest.mark.parametrize(
    "unit", [b"\x42\x09\x50", b"\x02\x09\x80", b"\x02\x01\x40", b"\x03\x01\x80"]
)
def test_stop_in_front_of_another_layer(unit: bytes) -> None:
    """A PES packet of HEVC that begins with another layer, or with a later slice, begins none."""
    data = film([b"\x02\x01\x80\x80"], [unit, b"\x02\x01\x80\x80"], hevc=True)
    out = split(data)
    assert (out.odd, out.packets) == (NO_ACCESS_UNIT, [])
    assert out.rest == data[starts(data, PICTURE_PID)[1] * PACKET_BYTES :]


# -- at an audio frame -----------------------------------------------------------------------------


def _sounds_with(middle: bytes) -> tuple[bytes, list[bytes], int]:
    """A stream whose second PES packet has this between its frames; all frames in front of it; and
    the number of the packet behind that PES packet."""
    frames = frames_of(12)
    pieces: list[tuple[int | None, bytes]] = [
        (10_000, b"".join(frames[:4])),
        (20_000, b"".join(frames[4:6]) + middle + b"".join(frames[6:8])),
        (30_000, b"".join(frames[8:])),
    ]
    data = sounds(*pieces)
    return data, frames[:6], starts(data, SOUND_PID)[2]


BAD_FRAMES = {
    "garbage": b"garbage" * 5,
    "zeros": bytes(20),
    "other_rate": adts_frame(b"x" * 40, rate=4),
    "other_profile": adts_frame(b"x" * 40, profile=2),
    "other_channels": adts_frame(b"x" * 40, channels=1),
    "several_blocks": adts_frame(b"x" * 40, blocks=2),
    "with_crc": adts_frame(b"x" * 40, crc=True),
    "reserved_rate": adts_frame(b"x" * 40, rate=13),
    "shorter_than_its_header": adts_frame(b"x" * 40, size=6),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_stop_in_front_of_a_bad_frame(name: str) -> None:
    """It stops in front of what is no frame like the others, and leaves it, and what is behind it
    in its PES packet, as a PES packet."""
    data, good, behind = _sounds_with(BAD_FRAMES[name])
    for size in SIZES:
        out = split(data, [size])
        assert out.odd == "no ADTS frame like the others behind another"
        assert [one.data for one in singly(out.packets)] == good
        ((pid, unit),) = out.units
        left = ts.parse_pes(ts.packetize(pid, unit))
        assert (left.pts, left.stream_id) == (None, ts.AUDIO_ID)
        assert left.payload == BAD_FRAMES[name] + b"".join(frames_of(8)[6:])
        assert out.rest.endswith(data[behind * PACKET_BYTES :])


def test_stop_at_the_first_frame_keeps_its_time() -> None:
    """What is left as a PES packet has the time of the one that it comes from."""
    time = 0x1_2345_6789
    out = split(sounds((1000, frames_of(1)[0]), (time, b"garbage" * 30)))
    ((pid, unit),) = out.units
    assert ts.parse_pes(ts.packetize(pid, unit)).pts == time


# -- the end ---------------------------------------------------------------------------------------


def test_finish_of_nothing() -> None:
    """Where nothing has come, nothing is left."""
    one = Splitter(video=(0x100, 0), audio=(0x101, 1))
    assert one.feed(b"") == []
    assert one.finish() == ([], 0)
    assert one.finish(broken_off=True) == ([], 0)
    assert one.left() == ([], b"")


def _cut(data: bytes, pid: int, number: int, packets: int) -> bytes:
    """A stream up to so many packets of the numbered PES packet."""
    mine = [n for n, one in enumerate(ts.packets(data)) if one.pid == pid]
    begin = mine.index(starts(data, pid)[number])
    return data[: (mine[begin + packets - 1] + 1) * PACKET_BYTES]


LARGE = b"\x65\x88" + b"x" * 400


@pytest.mark.parametrize("broken_off", [False, True])
def test_finish_in_a_picture(broken_off: bool) -> None:
    """A picture that is cut is given as libavformat gives it, but not where the section broke off:
    there it is left out, and counted."""
    data = _cut(film([LARGE], [LARGE]), PICTURE_PID, 1, 2)
    out = split(data, broken_off=broken_off)
    assert len(out.packets) == 2 - broken_off
    assert out.left_out == broken_off


def test_finish_behind_a_picture() -> None:
    """A picture that has as many bytes as it says is whole, also where the section broke off."""
    out = split(film([LARGE], [LARGE]), broken_off=True)
    assert (len(out.packets), out.left_out) == (2, 0)


def test_finish_behind_an_unbounded_picture() -> None:
    """A picture that does not say how long it is may be cut where the section broke off."""
    data = film([LARGE], [b"\x65\x88" + b"x" * 70_000])
    assert len(split(data).packets) == 2
    out = split(data, broken_off=True)
    assert (len(out.packets), out.left_out) == (1, 1)


@pytest.mark.parametrize("broken_off", [False, True])
def test_finish_in_a_frame(broken_off: bool) -> None:
    """The same of audio frames: those in front of the cut one are whole."""
    frames = frames_of(5)
    data = _cut(sounds((1000, b"".join(frames))), SOUND_PID, 0, 2)
    out = split(data, broken_off=broken_off)
    given_, wanted = [one.data for one in singly(out.packets)], by_libavformat(data)[0]
    assert len(wanted) == 3
    assert given_ == [payload for *_, payload in wanted][: 3 - broken_off]
    assert out.left_out == broken_off


def test_finish_at_a_bad_picture() -> None:
    """It may stop at the very end: then the last picture is left."""
    slice_ = b"\x65\x88\x80"
    out = split(film([slice_], [slice_, slice_]))
    assert (out.odd, out.rest, len(out.packets)) == (NOT_ONE_PICTURE, b"", 1)
    ((pid, unit),) = out.units
    assert pid == PICTURE_PID
    assert unit.endswith(b"\0\0\1" + slice_ + b"\0\0\1" + slice_)
