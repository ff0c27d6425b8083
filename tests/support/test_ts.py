"""The TS toolkit and FFmpeg read each other's streams, and each edit does one thing only."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import av
import pytest

from tests.support import ts, ts_edit, ts_tables
from tests.support.clips import WRAP_S, Clip, make_clip
from tests.support.ts import TICKS_PER_S, WRAP, Pes, TsError, packets, read_pes

PROGRAM = ts_tables.Program(streams=(ts_tables.Stream(pid=0x100, stream_type=ts_tables.H264),))


def demux(data: bytes) -> dict[str, list[av.Packet[Any]]]:
    """Return PyAV's packets by the type of their stream; of a type, the first stream's."""
    with av.open(io.BytesIO(data), "r", format="mpegts") as container:
        found: dict[str, list[av.Packet[Any]]] = {}
        first = {stream.type: stream.index for stream in reversed(container.streams)}
        for packet in container.demux():
            if packet.size and first[packet.stream.type] == packet.stream.index:
                found.setdefault(packet.stream.type, []).append(packet)
        return found


def assert_counters_run(data: bytes) -> None:
    last: dict[int, int] = {}
    for packet in packets(data):
        if packet.payload:
            assert packet.counter == (last.get(packet.pid, packet.counter - 1) + 1) % 16
            last[packet.pid] = packet.counter


# -- packets ---------------------------------------------------------------------------------------


def test_packets_junk_in_front() -> None:
    """Bytes in front of the first sync byte are skipped, a stray sync byte among them too."""
    clip = make_clip()
    junk = b"\x00\x47" + bytes(70)
    assert list(packets(junk + clip.data)) == list(packets(clip.data))


def test_packets_lost_sync() -> None:
    """Sync that is lost, a packet that is cut, and no sync at all are errors."""
    data = make_clip().data
    with pytest.raises(TsError, match="sync lost at byte 1880"):
        list(packets(data[:1880] + b"\0" + data[1881:]))
    with pytest.raises(TsError, match="cut to 100 bytes"):
        list(packets(data[:288]))
    with pytest.raises(TsError, match="no sync"):
        list(packets(bytes(4000)))


@pytest.mark.parametrize("size", [0, 1, 150, 169, 170, 171, 175, 176, 177, 178, 184, 185, 1000])
@pytest.mark.parametrize("pcr", [None, 0, ts.PCR_WRAP - 1])
def test_packetize_round_trip(size: int, pcr: int | None) -> None:
    """A PES packet of any size comes back from its packets, with its clock and its flags."""
    pes = Pes(
        pid=0x1234,
        stream_id=ts.VIDEO_ID,
        pts=3,
        dts=WRAP - 5,
        payload=bytes(number % 251 for number in range(size)),
        random_access=size % 2 == 0,
        pcr=pcr,
    )
    data = ts_tables.mux(replace(PROGRAM, streams=()), [pes])
    assert len(data) % ts.PACKET_BYTES == 0
    assert read_pes(data, 0x1234) == [pes]
    assert_counters_run(data)


@pytest.mark.parametrize("ticks", [0, 1, 1 << 15, 1 << 30, WRAP - 1])
def test_pes_times(ticks: int) -> None:
    """All 33 bits of a timestamp are written and read; a DTS is written only where it differs."""
    both = Pes(pid=256, stream_id=ts.AUDIO_ID, pts=ticks, dts=(ticks + 1) % WRAP, payload=b"x")
    only = replace(both, dts=ticks)
    assert read_pes(ts_tables.mux(PROGRAM, [both]), 256) == [both]
    assert read_pes(ts_tables.mux(PROGRAM, [only]), 256) == [replace(only, dts=None)]


def test_pes_bytes_too_long() -> None:
    """Only video may leave its length open, 2.4.3.7."""
    video = Pes(pid=256, stream_id=ts.VIDEO_ID, pts=1, payload=bytes(70_000))
    assert read_pes(ts_tables.mux(PROGRAM, [video]), 256) == [video]
    with pytest.raises(TsError, match="only a video"):
        ts.pes_bytes(replace(video, stream_id=ts.AUDIO_ID))


def test_read_pes_broken() -> None:
    """A PES packet without its start code, and one that is cut, are errors."""
    pes = Pes(pid=256, stream_id=ts.AUDIO_ID, pts=1, payload=bytes(500))
    good = ts_tables.mux(PROGRAM, [pes])
    with pytest.raises(TsError, match="178 bytes, not 508"):
        read_pes(good[: -2 * ts.PACKET_BYTES], 256)
    at = good.index(b"\0\0\1\xc0")
    with pytest.raises(TsError, match="no PES header"):
        read_pes(good[:at] + b"\1" + good[at + 1 :], 256)


@pytest.mark.parametrize("start_s", [1.4, WRAP_S - 2])
def test_read_pes_agrees_with_pyav(start_s: float) -> None:
    """Payloads and times are those that libavformat finds."""
    clip = make_clip(start_s=start_s)
    theirs = demux(clip.data)
    pictures = clip.pictures()
    assert [pes.payload for pes in pictures] == [bytes(packet) for packet in theirs["video"]]
    assert [pes.pts for pes in pictures] == [
        packet.pts % WRAP for packet in theirs["video"] if packet.pts is not None
    ]
    assert [pes.decode_time for pes in pictures] == [
        packet.dts % WRAP for packet in theirs["video"] if packet.dts is not None
    ]
    sound = b"".join(pes.payload for pes in read_pes(clip.data, clip.audio_pids[0]))
    assert sound == b"".join(bytes(packet) for packet in theirs["audio"])


# -- tables ----------------------------------------------------------------------------------------


def test_crc32_check_value() -> None:
    """The CRC is CRC-32/MPEG-2, whose check value is known."""
    assert ts_tables.crc32(b"123456789") == 0x0376E6E7


def test_read_program_of_muxer() -> None:
    """The tables of libavformat's muxer are read."""
    program = make_clip(audio=("aac", "ac3"), languages=("deu", "fra")).program
    assert [stream.stream_type for stream in program.streams] == [0x1B, 0x0F, 0x81]
    assert [stream.language for stream in program.streams] == [None, "deu", "fra"]
    assert program.video_pid == 0x100
    assert program.audio_pids == (0x101, 0x102)
    assert make_clip(video=None, audio=("opus",)).audio_pids == (0x100,)


def test_tables_round_trip() -> None:
    """Tables come back as they were built, also when they need more than one packet."""
    many = tuple(
        ts_tables.Stream(pid=0x200 + n, stream_type=6, descriptors=ts_tables.language("deu"))
        for n in range(40)
    )
    program = ts_tables.Program(
        number=7, pmt_pid=0x333, descriptors=ts_tables.registration(b"HDMV"), streams=many
    )
    assert ts_tables.read_programs(ts_tables.mux(program, [])) == (program,)


def test_read_programs_broken() -> None:
    """A wrong CRC, a missing PAT and a missing PMT are errors."""
    good = ts_tables.mux(PROGRAM, [])
    with pytest.raises(TsError, match="CRC"):
        ts_tables.read_programs(good[:15] + b"\x55" + good[16:])
    with pytest.raises(TsError, match="no PAT"):
        ts_tables.read_programs(good[ts.PACKET_BYTES :])
    with pytest.raises(TsError, match="no PMT"):
        ts_tables.read_programs(good[: ts.PACKET_BYTES])


# -- edits -----------------------------------------------------------------------------------------


def test_rewrite_nothing() -> None:
    """An edit that changes nothing leaves PES packets, clocks and interleaving as they were."""
    clip = make_clip()
    same = ts_edit.rewrite(clip.data, clip.video_pid, lambda number, pes: pes)

    def shape(data: bytes) -> list[tuple[int, bool, int | None, bytes]]:
        return [(one.pid, one.starts, one.pcr, one.payload) for one in packets(data)]

    assert shape(same) == shape(clip.data)


def edited(clip: Clip, data: bytes) -> tuple[list[Pes], list[Pes]]:
    """Return the pictures before and after; everything else must be as it was."""
    assert_counters_run(data)
    [pid] = clip.audio_pids
    assert read_pes(data, pid) == read_pes(clip.data, pid)
    return clip.pictures(), read_pes(data, clip.video_pid)


def test_without_dts() -> None:
    """DTS go, PTS and payloads stay; numbers choose."""
    clip = make_clip()
    before, after = edited(clip, ts_edit.without_dts(clip.data, clip.video_pid))
    assert after == [replace(pes, dts=None) for pes in before]
    before, after = edited(clip, ts_edit.without_times(clip.data, clip.video_pid, {3}))
    assert [n for n, pes in enumerate(after) if pes.pts is None] == [3]


def test_freeze_dts() -> None:
    """The DTS stand still where they should, and nowhere else."""
    clip = make_clip()
    before, after = edited(clip, ts_edit.freeze_dts(clip.data, clip.video_pid, 30, 4))
    assert {pes.decode_time for pes in after[29:34]} == {before[29].decode_time}
    assert after[:30] + after[34:] == before[:30] + before[34:]
    assert [pes.pts for pes in after] == [pes.pts for pes in before]


def test_move_dts() -> None:
    """One DTS steps back, and its PTS stays."""
    clip = make_clip()
    before, after = edited(clip, ts_edit.move_dts(clip.data, clip.video_pid, 40, -9000))
    assert after[40].decode_time == (before[40].decode_time or 0) - 9000
    assert after[40].pts == before[40].pts
    assert after[:40] + after[41:] == before[:40] + before[41:]


def test_drop() -> None:
    """Dropped PES packets are gone; a dropped PID is gone and still announced."""
    clip = make_clip()
    before, after = edited(clip, ts_edit.drop_pes(clip.data, clip.video_pid, {0, 99}))
    assert after == before[1:99]
    silent = ts_edit.drop_pid(clip.data, clip.audio_pids[0])
    assert read_pes(silent, clip.audio_pids[0]) == []
    assert ts_tables.read_program(silent) == clip.program


def test_shift_over_wrap() -> None:
    """PTS, DTS and PCR move alike, modulo the wrap."""
    clip = make_clip()
    ticks = round((WRAP_S - 3) * TICKS_PER_S)
    moved = ts_edit.shift(clip.data, ticks)
    for pid in (clip.video_pid, *clip.audio_pids):
        for one, two in zip(read_pes(clip.data, pid), read_pes(moved, pid), strict=True):
            assert two.payload == one.payload
            assert two.pts == ((one.pts or 0) + ticks) % WRAP
            assert two.decode_time == ((one.decode_time or 0) + ticks) % WRAP
    clocks = [one.pcr for one in packets(clip.data) if one.pcr is not None]
    assert [one.pcr for one in packets(moved) if one.pcr is not None] == [
        (clock + ticks * 300) % ts.PCR_WRAP for clock in clocks
    ]
    assert min(pes.pts or 0 for pes in read_pes(moved, clip.video_pid)) < TICKS_PER_S


def test_announce_and_insert() -> None:
    """An announced stream is there for libavformat, and so are the packets put into it."""
    clip = make_clip()
    # a metadata_pointer_descriptor without which libavformat passes over the stream
    pointer = ts_tables.descriptor(0x26, b"\xff\xffID3 \xffID3 \x00\x0f")
    stream = ts_tables.Stream(pid=0x180, stream_type=ts_tables.METADATA_PES, descriptors=pointer)
    data = ts_edit.announce(clip.data, stream)
    assert ts_tables.read_program(data).streams == (*clip.program.streams, stream)
    begin = round(1.4 * TICKS_PER_S)
    tags = [
        Pes(pid=0x180, stream_id=ts.PRIVATE_1_ID, pts=begin + n * TICKS_PER_S, payload=b"ID3" * 9)
        for n in range(6)
    ]
    data = ts_edit.insert(data, reversed(tags))
    assert read_pes(data, 0x180) == tags
    [extra] = demux(data).keys() - {"video", "audio"}
    assert [bytes(packet) for packet in demux(data)[extra]] == [b"ID3" * 9] * 6
    assert edited(clip, data)[1] == clip.pictures()
    # each stands in front of the first packet with a later time
    order = [(one.pid, one.decode_time) for one in packets(data) if one.decode_time is not None]
    for tag in tags[:4]:
        at = order.index((0x180, tag.pts or 0))
        others = [ticks for pid, ticks in order[:at] if pid != 0x180]
        assert max(others, default=0) <= (tag.pts or 0) < order[at + 1][1]


def test_insert_section() -> None:
    """Sections come back whole, and the media beside them are untouched."""
    clip = make_clip()
    whole = ts_tables.section(0xC0, 1, bytes(300))
    data = ts_edit.insert_section(clip.data, 0x190, whole, every=200)
    found = list(ts_tables.read_sections(data, 0x190))
    assert len(found) >= 3
    assert set(found) == {whole}
    assert edited(clip, data)[1] == clip.pictures()


def test_remap() -> None:
    """Streams move to other PIDs, in the packets and in the tables."""
    clip = make_clip()
    data = ts_edit.remap(clip.data, {0x100: 0x300, 0x101: 0x301, 0x1000: 0x400})
    program = ts_tables.read_program(data)
    assert (program.pmt_pid, program.pcr_pid) == (0x400, 0x300)
    assert (program.video_pid, program.audio_pids) == (0x300, (0x301,))
    assert [pes.payload for pes in read_pes(data, 0x300)] == [
        pes.payload for pes in clip.pictures()
    ]
    assert len(demux(data)["video"]) == 100
    assert {one.pid for one in packets(data)}.isdisjoint({0x100, 0x101, 0x1000})


def test_with_second_program_shared_pid() -> None:
    """Two programs that share a PID cannot be put together."""
    clip = make_clip()
    with pytest.raises(TsError, match="share"):
        ts_edit.with_second_program(clip.data, clip.data)


# -- cutting ---------------------------------------------------------------------------------------


def test_cut_pieces() -> None:
    """Pieces begin with their tables and a keyframe, play alone, and lose nothing together."""
    clip = make_clip(seconds=5.0)
    pieces = ts_edit.cut(clip.data, 2.0)
    assert [piece.duration_s for piece in pieces] == [2.0, 2.0, 1.0]
    assert [piece.start for piece in pieces] == [126_000, 306_000, 486_000]
    for piece in pieces:
        pids = [one.pid for one in packets(piece.data)]
        assert pids.index(0) < pids.index(0x1000) < min(pids.index(0x100), pids.index(0x101))
        assert demux(piece.data)["video"][0].is_keyframe
    whole = b"".join(piece.data for piece in pieces)
    assert_counters_run(whole)
    for pid in (clip.video_pid, *clip.audio_pids):
        assert read_pes(whole, pid) == read_pes(clip.data, pid)
        parts = [pes for piece in pieces for pes in read_pes(piece.data, pid)]
        assert parts == read_pes(clip.data, pid)


def test_cut_interleaved_pes() -> None:
    """A PES packet that is still open where a piece ends stays whole in that piece."""
    clip = make_clip()
    everything = list(packets(clip.data))
    [pid] = clip.audio_pids
    keys = [at for at, one in enumerate(everything) if one.random_access and one.pid != pid]
    for key in reversed(keys[1:]):
        # the last packet of the audio in front of the keyframe moves behind that one's first
        last = max(at for at in range(key) if everything[at].pid == pid)
        assert not everything[last].starts
        everything[last : key + 1] = [*everything[last + 1 : key + 1], everything[last]]
    mixed = ts.pack(everything)
    before = read_pes(clip.data, pid)
    assert read_pes(mixed, pid) == before
    pieces = ts_edit.cut(mixed, 1.0)
    assert len(pieces) == 4
    assert [pes for piece in pieces for pes in read_pes(piece.data, pid)] == before


def test_cut_over_wrap() -> None:
    """A cut over the wrap has the durations of one without."""
    pieces = ts_edit.cut(make_clip(start_s=WRAP_S - 1).data, 1.0)
    assert [piece.duration_s for piece in pieces] == [1.0] * 4
    assert pieces[-1].start == round((WRAP_S + 2) * TICKS_PER_S)


def test_cut_audio_only() -> None:
    """Audio alone is cut between its PES packets."""
    clip = make_clip(video=None)
    pieces = ts_edit.cut(clip.data, 1.0)
    assert len(pieces) >= 3
    assert sum(len(demux(piece.data)["audio"]) for piece in pieces) == len(
        demux(clip.data)["audio"]
    )
    assert sum(piece.duration_s for piece in pieces) == pytest.approx(4.0, abs=0.1)
