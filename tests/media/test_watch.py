"""Other streams announced in mid-stream: a section of their own, and not a packet lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.errors import SpliceIncompatible
from proxy.media.sniff import recognise
from proxy.media.watch import Divider
from tests.support import fidelity, ts, ts_edit, ts_tables
from tests.support.clips import WRAP_S, Clip, make_clip
from tests.support.clips import pieces as cut
from tests.support.expected import expect
from tests.support.sources import (
    Output,
    Script,
    Told,
    attempt,
    goes_on,
    remuxed,
    section,
    stretches,
)

ROOM = 1 << 30


def divide(*segments: bytes, sizes: int = ROOM) -> list[bytes]:
    """Return the sections that come of segments in chunks of a size."""
    divider = Divider()
    out = [b""]
    for data in segments:
        found = recognise(data, complete=True)
        assert found is not None
        pieces: list[bytes | None] = list(divider.segment(found))
        for place in range(0, len(data), sizes):
            pieces += divider.feed(data[place : place + sizes])
        pieces += divider.finish()
        for piece in pieces:
            if piece is None:
                out.append(b"")
            else:
                out[-1] += piece
    return out


def script(sections: Sequence[bytes]) -> Script:
    told: list[Told] = [section(sections[0]), *map(goes_on, sections[1:])]
    return Script(*told)


def others(clip: Clip, step: int = 0x40) -> dict[int, int]:
    """Other PIDs for all streams of a clip."""
    return {pid: pid + step for pid in (clip.video_pid, *clip.audio_pids)}


def tables(programs: Sequence[ts_tables.Program], *, version: int = 0) -> list[ts.Packet]:
    out = ts_tables.section_packets(0, ts_tables.pat(programs))
    for program in programs:
        out += ts_tables.section_packets(program.pmt_pid, ts_tables.pmt(program, version=version))
    return out


def remapped(program: ts_tables.Program, pids: Mapping[int, int]) -> ts_tables.Program:
    return replace(
        program,
        pmt_pid=pids.get(program.pmt_pid, program.pmt_pid),
        pcr_pid=pids.get(program.pcr_pid, program.pcr_pid),
        streams=tuple(replace(one, pid=pids.get(one.pid, one.pid)) for one in program.streams),
    )


def switched(
    data: bytes,
    at: int,
    pids: Mapping[int, int],
    *,
    change: Callable[[ts_tables.Program], ts_tables.Program] = lambda program: program,
    front: Sequence[ts.Packet] | None = None,
) -> bytes:
    """Announce other PIDs in front of packet `at`; PES packets that have begun end on their old
    ones, behind the new tables."""
    everything = list(ts.packets(data))
    program = ts_tables.read_program(data)
    fresh = change(remapped(program, pids))
    new = tables([fresh], version=1)
    out = everything[:at] + (list(front) if front is not None else new)
    moved: set[int] = set()
    for packet in everything[at:]:
        if packet.pid == ts.PAT_PID:
            out += new
        elif packet.pid != program.pmt_pid:
            if packet.starts:
                moved.add(packet.pid)
            pid = pids.get(packet.pid, packet.pid) if packet.pid in moved else packet.pid
            out.append(packet.with_pid(pid))
    return ts.renumber(ts.pack(out))


def middle(clip: Clip, *, key: bool = True) -> int:
    """The packet with which a picture begins, about in the middle of a clip."""
    everything = list(ts.packets(clip.data))
    return next(
        n
        for n, packet in enumerate(everything)
        if n > len(everything) // 2
        and packet.pid == clip.video_pid
        and packet.starts
        and (packet.random_access or not key)
    )


def assert_whole(clip: Clip, sections: Sequence[bytes]) -> None:
    output = remuxed(script(sections))
    fidelity.assert_faithful(clip.data, output.data, decode=False)


# -- what begins a section -------------------------------------------------------------------------


@pytest.mark.parametrize("start_s", [1.4, WRAP_S - 2])
@pytest.mark.parametrize("size", [ROOM, 65_536, 4_001, 188, 50])
def test_divide_other_pids(size: int, start_s: float) -> None:
    """Other PIDs inside a segment: all packets of the old ones and of the new ones."""
    clip = make_clip(start_s=start_s)
    sections = divide(switched(clip.data, middle(clip), others(clip)), sizes=size)
    assert len(sections) == 2
    assert_whole(clip, sections)


@pytest.mark.parametrize("offset", [-190, -189, -188, -3, -2, -1, 0, 1, 2, 3, 100, 187, 188, 376])
def test_divide_at_a_border_of_chunks(offset: int) -> None:
    """Wherever the chunks meet around the changed PMT, the same sections come."""
    clip = make_clip()
    at = middle(clip)
    data = switched(clip.data, at, others(clip))
    border = (at + 1) * ts.PACKET_BYTES + offset  # the PMT stands behind the PAT
    found = recognise(data, complete=True)
    assert found is not None
    divider = Divider()
    assert not divider.segment(found)
    out = [b""]
    for piece in chain(divider.feed(data[:border]), divider.feed(data[border:]), divider.finish()):
        out = [*out, b""] if piece is None else [*out[:-1], out[-1] + piece]
    assert out == divide(data)


def test_divide_in_the_middle_of_a_picture() -> None:
    """PES packets that have begun end in the section before, wherever the tables stand."""
    clip = make_clip()
    at = middle(clip)
    for place in range(at - 12, at + 12):
        sections = divide(switched(clip.data, place, others(clip)))
        assert len(sections) == 2
        assert_whole(clip, sections)


def test_divide_twice() -> None:
    """There and back again, in one segment and at once."""
    clip = make_clip()
    count = len(clip.data) // ts.PACKET_BYTES
    pids = others(clip)
    back = {new: old for old, new in pids.items()}
    for first, second in [(count // 3, count // 2), (count // 2, count // 2 + 9)]:
        once = switched(clip.data, first, pids)
        sections = divide(switched(once, second, back))
        assert len(sections) == 3
        assert_whole(clip, sections)


def test_divide_some_pids_stay() -> None:
    """A stream whose PID stays goes over from one section to the next between two PES packets."""
    clip = make_clip()
    at = middle(clip)
    for pid in (clip.video_pid, clip.audio_pids[0]):
        for place in range(at - 6, at + 6):
            sections = divide(switched(clip.data, place, {pid: pid + 0x40}))
            assert len(sections) == 2
            assert_whole(clip, sections)


def test_divide_other_stream_joins() -> None:
    """Another stream is announced and comes: what played plays on."""
    clip = make_clip(audio=("aac", "aac"), languages=("eng", "deu"))
    late = clip.audio_pids[1]
    at = middle(clip, key=False)
    with_one = replace(clip.program, streams=clip.program.streams[:2])
    packets = list(ts.packets(clip.data))
    begin = [p for p in packets[:at] if p.pid not in (late, ts.PAT_PID, clip.program.pmt_pid)]
    behind = [p for p in packets[at:] if p.pid != late or p.starts]
    first_late = next(n for n, p in enumerate(packets[at:]) if p.pid == late and p.starts)
    behind = [p for n, p in enumerate(packets[at:]) if p.pid != late or n >= first_late]
    data = ts.renumber(ts.pack([*tables([with_one]), *begin, *tables([clip.program]), *behind]))
    sections = divide(data)
    assert len(sections) == 2
    output = remuxed(script(sections))
    fidelity.assert_faithful(clip.data, output.data, decode=False)


def test_divide_language_changes() -> None:
    """The same streams with another description: nothing is lost, and little is held back."""
    clip = make_clip()

    def spoken(program: ts_tables.Program) -> ts_tables.Program:
        video, audio = program.streams
        return replace(
            program, streams=(video, replace(audio, descriptors=ts_tables.language("deu")))
        )

    at = middle(clip)
    sections = divide(switched(clip.data, at + 2, {}, change=spoken))
    assert len(sections) == 2
    assert len(sections[0]) < (at + 200) * ts.PACKET_BYTES
    assert_whole(clip, sections)


@pytest.mark.parametrize("codec", ["aac", "ac3", "mp3"])
def test_divide_frames_across_pes_packets(codec: str) -> None:
    """Audio frames that go on in the next PES packet are not cut where the section begins."""
    clip = make_clip(audio=(codec,))
    (pid,) = clip.audio_pids
    units = [pes.payload for pes in ts.read_pes(clip.data, pid)]
    # every PES packet but each third one begins inside a frame
    begins = [0 if n % 3 == 0 else 100 for n in range(len(units))] + [0]
    shifted = [
        unit[begin:] + (units[n + 1] if n + 1 < len(units) else b"")[:end]
        for n, (unit, begin, end) in enumerate(zip(units, begins, begins[1:], strict=False))
    ]
    data = ts_edit.rewrite(clip.data, pid, lambda n, pes: replace(pes, payload=shifted[n]))

    def spoken(program: ts_tables.Program) -> ts_tables.Program:
        video, audio = program.streams
        told = audio.descriptors + ts_tables.language("deu")
        return replace(program, streams=(video, replace(audio, descriptors=told)))

    at = middle(clip)
    wanted = payloads(remuxed(data))
    for place in range(at, at + 90, 11):
        sections = divide(switched(data, place, {}, change=spoken))
        assert len(sections) == 2
        assert payloads(remuxed(script(sections))) == wanted


def payloads(output: Output) -> list[list[bytes]]:
    movie = output.movie
    return [[sample.data for sample in movie.samples(track)] for track in movie.tracks]


def test_divide_pmt_elsewhere() -> None:
    """A PAT that leads to another PMT, with other streams."""
    clip = make_clip()
    pids = {**others(clip), clip.program.pmt_pid: 0x1200}
    sections = divide(switched(clip.data, middle(clip), pids))
    assert len(sections) == 2
    assert_whole(clip, sections)


def test_divide_long_pmt() -> None:
    """A PMT of several packets, with packets of the streams before in between."""
    clip = make_clip()
    pids = others(clip)
    fresh = replace(
        remapped(clip.program, pids), descriptors=ts_tables.descriptor(0xF0, bytes(200)) * 2
    )
    at = middle(clip)
    whole = tables([fresh], version=1)
    assert len(whole) >= 4
    own = {ts.PAT_PID, clip.program.pmt_pid}
    parts = list(ts.packets(switched(clip.data, at, pids, change=lambda _: fresh, front=[])))
    between = [packet for packet in parts[at - 5 : at] if packet.pid not in own]
    assert between
    data = ts.renumber(ts.pack([*parts[: at - 5], *whole[:2], *between, *whole[2:], *parts[at:]]))
    for size in (ROOM, 100):
        sections = divide(data, sizes=size)
        assert len(sections) == 2
        assert_whole(clip, sections)


def test_divide_tables_behind_pointer_and_adaptation_field() -> None:
    """A PMT whose section begins late in its packet, behind an adaptation field."""
    clip = make_clip()
    pids = others(clip)
    fresh = remapped(clip.program, pids)
    unit = b"\x05" + b"\xff" * 5 + ts_tables.pmt(fresh, version=1)
    pmt = ts.packetize(fresh.pmt_pid, unit)  # it stuffs with an adaptation field
    assert len(pmt) == 1
    assert pmt[0].adaptation
    front = [*ts_tables.section_packets(0, ts_tables.pat([fresh])), *pmt]
    sections = divide(switched(clip.data, middle(clip), pids, front=front))
    assert len(sections) == 2
    assert_whole(clip, sections)


def test_divide_between_segments() -> None:
    """Where a segment announces others, PES packets of the one before end there too."""
    clip = make_clip()
    at = middle(clip) + 2  # inside a picture
    data = switched(clip.data, at, others(clip))
    cut = at * ts.PACKET_BYTES
    sections = divide(data[:cut], data[cut:])
    assert len(sections) == 2
    assert_whole(clip, sections)


def test_divide_other_program_changes() -> None:
    """A program that is not played changes: the one that is loses nothing."""
    clip, other = make_clip(), make_clip(seconds=2.0)
    moved = ts_edit.remap(other.data, {pid: pid + 0x200 for pid in others(other)})
    second = replace(ts_tables.read_program(moved), number=2, pmt_pid=0x1F00)
    moved = ts_edit.with_tables(moved, [second])
    both = ts_edit.with_second_program(clip.data, moved)
    again = replace(second, streams=tuple(replace(s, pid=s.pid + 0x40) for s in second.streams))
    packets = list(ts.packets(both))
    at = len(packets) // 2
    pids = {s.pid: s.pid + 0x40 for s in second.streams}
    behind = [p.with_pid(pids.get(p.pid, p.pid)) for p in packets[at:]]
    pmt = ts_tables.section_packets(0x1F00, ts_tables.pmt(again, version=1))
    behind = [p for p in behind if p.pid != 0x1F00]
    data = ts.renumber(ts.pack([*packets[:at], *pmt, *behind]))
    sections = divide(data)
    assert len(sections) == 2
    assert_whole(clip, sections)


def test_divide_late_table_of_a_second_program() -> None:
    """A PMT that the demuxer waits for is no change."""
    clip = make_clip()
    second = ts_tables.Program(
        number=2, pmt_pid=0x1F00, streams=(ts_tables.Stream(pid=0x1F01, stream_type=0x1B),)
    )
    packets = list(ts.packets(clip.data))
    late = ts_tables.section_packets(0x1F00, ts_tables.pmt(second))
    pat = ts_tables.section_packets(0, ts_tables.pat([clip.program, second]))
    rest = [packet for packet in packets if packet.pid != ts.PAT_PID]
    data = ts.renumber(ts.pack([*pat, *rest[:200], *late, *rest[200:]]))
    assert len(divide(data)) == 1


# -- what does not ---------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 1])
def test_divide_same_streams(version: int) -> None:
    """A PMT that is repeated, or has another version number only, begins nothing."""
    clip = make_clip()
    at = middle(clip)
    front = tables([clip.program], version=version)
    data = switched(clip.data, at, {}, front=front)
    assert divide(data, sizes=1_000) == [data]


def test_divide_no_streams() -> None:
    """A PMT that announces nothing, for a while, is nothing to go on with: the old ones do."""
    clip = make_clip()
    none = replace(clip.program, streams=())
    data = switched(clip.data, middle(clip), {}, front=tables([none], version=1))
    assert divide(data, sizes=1_000) == [data]
    first, second, *_ = (piece.data for piece in cut(clip, 2.0))
    empty = ts_edit.with_tables(second, [none])
    assert divide(first, empty) == [first + empty]


def test_divide_not_in_force_or_damaged() -> None:
    """A PMT that is announced for later, or that is damaged, begins nothing."""
    clip = make_clip()
    fresh = remapped(clip.program, others(clip))
    later = bytearray(ts_tables.pmt(fresh, version=1)[:-4])
    later[5] &= 0xFE
    later += ts_tables.crc32(bytes(later)).to_bytes(4, "big")
    damaged = bytearray(ts_tables.pmt(fresh, version=1))
    damaged[-1] ^= 1
    at = middle(clip)
    for whole in (later, damaged):
        front = ts_tables.section_packets(clip.program.pmt_pid, bytes(whole))
        data = switched(clip.data, at, {}, front=front)
        assert divide(data, sizes=1_000) == [data]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sizes=st.lists(st.integers(1, 5_000), min_size=1, max_size=8))
def test_divide_chunks_of_any_size(sizes: Sequence[int]) -> None:
    """However the bytes come, the same come out."""
    data = make_clip(seconds=1.0).data
    divider = Divider()
    out, place, turn = b"", 0, 0
    while place < len(data):
        size = sizes[turn % len(sizes)]
        out += b"".join(piece or b"?" for piece in divider.feed(data[place : place + size]))
        place, turn = place + size, turn + 1
    assert out == data


def test_divide_sync_lost() -> None:
    """Bytes that are missing in mid-stream: the packets behind are found again."""
    clip = make_clip()
    at = middle(clip)
    data = switched(clip.data, at, others(clip))
    hurt = data[:50_000] + data[50_070:]
    assert len(divide(hurt, sizes=8_192)) == 2


def test_segment_after_a_cut_packet() -> None:
    """A segment that ends inside a packet costs the next one nothing."""
    clip = make_clip()
    first, second, *_ = (piece.data for piece in cut(clip, 2.0))
    first = first[: -2 * ts.PACKET_BYTES]  # the tables of the next picture
    (whole,) = divide(first[:-100], second)
    assert len(whole) % ts.PACKET_BYTES == 0
    assert whole.endswith(second)


def test_held_back_is_bounded() -> None:
    """Where PIDs are announced no more, so much is held back and not the rest of the segment."""
    clip = make_clip(seconds=2.0)
    data = switched(clip.data, 20, others(clip))
    filler = ts.Packet(b"\x47\x1f\xf0\x10" + bytes(184)).raw * 500
    divider = Divider()
    came = [len(piece or b"") for piece in divider.feed(data[: 60 * ts.PACKET_BYTES])]
    held = 0
    while held < 1 << 20 and max(came) < 1 << 18:
        held += len(filler)
        came += [len(piece or b"") for piece in divider.feed(filler)]
    assert max(came) > 1 << 18
    assert held < 1 << 20


# -- what cannot go on -----------------------------------------------------------------------------


def test_divide_other_codec() -> None:
    """Another codec on the new PIDs cannot be told to a reader of one sample entry."""
    one, two = make_clip(), make_clip(audio=("ac3",), start_s=5.4)
    data = ts.pack(ts.packets(one.data)) + ts.pack(ts.packets(two.data))
    output = attempt(script(divide(ts.renumber(data))))
    assert isinstance(output.error, SpliceIncompatible)
    assert output.fragments


def test_divide_other_clock() -> None:
    """The clock jumps with the PIDs: joined as behind a discontinuity."""
    one, two = make_clip(), make_clip(start_s=5_000.0)
    other = ts_edit.remap(two.data, others(two))
    sections = divide(ts.renumber(one.data + other))
    assert len(sections) == 2
    stretches([expect(one.data), expect(other)], remuxed(script(sections)).data)
