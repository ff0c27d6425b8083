"""Edits of whole transport streams: what spoils a clip by hand, and what cuts it into segments.

`rewrite` is the one primitive: it takes each PES packet of a PID apart, lets a function change it,
and puts the result where the old one stood, with its clock references.  PES packets are numbered
from 0.  Everything is `bytes` in and new `bytes` out, with continuity counters made anew, so that a
demuxer sees a stream that was made that way and not one that was damaged on its way.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from tests.support.ts import (
    PACKET_BYTES,
    PAT_PID,
    TICKS_PER_S,
    WRAP,
    Packet,
    Pes,
    TsError,
    pack,
    packetize,
    packets,
    parse_pes,
    pes_bytes,
    pes_groups,
    pes_packets,
    read_pes,
    renumber,
)
from tests.support.ts_tables import (
    Program,
    Stream,
    pat,
    pmt,
    read_program,
    read_programs,
    section_packets,
)

# -- one PID ---------------------------------------------------------------------------------------


def rewrite(data: bytes, pid: int, change: Callable[[int, Pes], Pes | None]) -> bytes:
    """Put every PES packet of one PID through `change(number, pes)`; None drops it.

    The clock references of a dropped packet go with it.
    """
    everything = list(packets(data))
    places = [at for at, packet in enumerate(everything) if packet.pid == pid]
    started = next((n for n, at in enumerate(places) if everything[at].starts), len(places))
    rest = iter(places[started:])
    slots: dict[int, list[Packet]] = {}
    for number, group in enumerate(pes_groups(everything, pid)):
        old = [next(rest) for _ in group]
        slots.update({at: [] for at in old})
        changed = change(number, parse_pes(group))
        if changed is None:
            continue
        first = (changed.random_access, changed.pcr)
        fields = [first, *((packet.random_access, packet.pcr) for packet in group[1:])]
        for index, packet in enumerate(packetize(changed.pid, pes_bytes(changed), fields=fields)):
            slots[old[min(index, len(old) - 1)]].append(packet)
    out = chain.from_iterable(slots.get(at, [packet]) for at, packet in enumerate(everything))
    return renumber(pack(out))


def without_dts(data: bytes, pid: int, numbers: Collection[int] | None = None) -> bytes:
    """Take the DTS out of the numbered PES packets (of all by default)."""
    return rewrite(data, pid, lambda n, pes: replace(pes, dts=None) if _in(n, numbers) else pes)


def without_times(data: bytes, pid: int, numbers: Collection[int] | None = None) -> bytes:
    """Take PTS and DTS out of the numbered PES packets (of all by default)."""
    return rewrite(
        data, pid, lambda n, pes: replace(pes, pts=None, dts=None) if _in(n, numbers) else pes
    )


def freeze_dts(data: bytes, pid: int, first: int, count: int) -> bytes:
    """Give `count` PES packets from the `first` on (1 or later) the DTS of the one before them."""
    frozen = read_pes(data, pid)[first - 1].decode_time
    return rewrite(
        data, pid, lambda n, pes: replace(pes, dts=frozen) if first <= n < first + count else pes
    )


def move_dts(data: bytes, pid: int, number: int, ticks: int) -> bytes:
    """Move the DTS of one PES packet (negative: it steps back); its PTS stays."""

    def change(n: int, pes: Pes) -> Pes:
        if n != number or pes.decode_time is None:
            return pes
        return replace(pes, dts=(pes.decode_time + ticks) % WRAP)

    return rewrite(data, pid, change)


def move(data: bytes, pid: int, ticks: int, numbers: Collection[int] | None = None) -> bytes:
    """Move PTS and DTS of the numbered PES packets (of all by default); clock references stay."""

    def change(n: int, pes: Pes) -> Pes:
        if not _in(n, numbers):
            return pes
        pts = None if pes.pts is None else (pes.pts + ticks) % WRAP
        dts = None if pes.dts is None else (pes.dts + ticks) % WRAP
        return replace(pes, pts=pts, dts=dts)

    return rewrite(data, pid, change)


def drop_pes(data: bytes, pid: int, numbers: Collection[int]) -> bytes:
    """Leave out the numbered PES packets."""
    return rewrite(data, pid, lambda n, pes: None if n in numbers else pes)


def drop_pid(data: bytes, pid: int) -> bytes:
    """Leave out every packet of one PID; the PMT goes on announcing it."""
    return pack(packet for packet in packets(data) if packet.pid != pid)


def _in(number: int, numbers: Collection[int] | None) -> bool:
    return numbers is None or number in numbers


# -- the whole stream ------------------------------------------------------------------------------


def shift(data: bytes, ticks: int) -> bytes:
    """Move the whole stream in time: PTS, DTS and PCR of every PID, modulo the wrap."""
    everything = list(packets(data))
    data = pack(
        packet if packet.pcr is None else packet.with_pcr(packet.pcr + ticks * 300)
        for packet in everything
    )
    for pid in dict.fromkeys(packet.pid for packet in everything if packet.pts is not None):
        data = move(data, pid, ticks)
    return data


def with_tables(data: bytes, programs: Sequence[Program]) -> bytes:
    """Put a PAT and the PMTs of these programs where each PAT stood; the old PMTs go."""
    old = {program.pmt_pid for program in read_programs(data)}
    out: list[Packet] = []
    for packet in packets(data):
        if packet.pid == PAT_PID and packet.starts:
            out += section_packets(PAT_PID, pat(programs))
            for program in programs:
                out += section_packets(program.pmt_pid, pmt(program))
        elif packet.pid != PAT_PID and packet.pid not in old:
            out.append(packet)
    return renumber(pack(out))


def announce(data: bytes, *streams: Stream) -> bytes:
    """Add streams to the PMT of the first program; nothing of them comes."""
    first, *others = read_programs(data)
    return with_tables(data, [replace(first, streams=(*first.streams, *streams)), *others])


def remap(data: bytes, pids: Mapping[int, int]) -> bytes:
    """Give streams, and PMTs, other PIDs: in the packets and in the tables."""
    programs = [
        replace(
            program,
            pmt_pid=pids.get(program.pmt_pid, program.pmt_pid),
            pcr_pid=pids.get(program.pcr_pid, program.pcr_pid),
            streams=tuple(
                replace(stream, pid=pids.get(stream.pid, stream.pid)) for stream in program.streams
            ),
        )
        for program in read_programs(data)
    ]
    data = with_tables(data, programs)
    fresh = {program.pmt_pid for program in programs}  # these packets are new already
    return pack(
        packet if packet.pid in fresh else packet.with_pid(pids.get(packet.pid, packet.pid))
        for packet in packets(data)
    )


def insert(data: bytes, extra: Iterable[Pes]) -> bytes:
    """Put PES packets between those that are there, each before the first with a later time.

    `announce` announces their PIDs.
    """
    waiting = sorted(extra, key=lambda pes: pes.decode_time or 0)
    own = {pes.pid for pes in waiting}
    out: list[Packet] = []
    for packet in packets(data):
        now = None if packet.pid in own else packet.decode_time
        while waiting and now is not None and (waiting[0].decode_time or 0) < now:
            out += pes_packets(waiting.pop(0))
        out.append(packet)
    out += chain.from_iterable(pes_packets(pes) for pes in waiting)
    return renumber(pack(out))


def insert_section(data: bytes, pid: int, whole: bytes, *, every: int = 100) -> bytes:
    """Put a section (SCTE-35, say) in front of the next unit that starts, `every` packets."""
    out: list[Packet] = []
    since = 0
    for packet in packets(data):
        since += 1
        if since >= every and packet.starts:
            out += section_packets(pid, whole)
            since = 0
        out.append(packet)
    return renumber(pack(out))


def with_second_program(data: bytes, other: bytes) -> bytes:
    """Interleave another stream, as further programs; its PIDs and program numbers must differ."""
    programs = (*read_programs(data), *read_programs(other))
    used = [pid for one in programs for pid in (one.pmt_pid, *(s.pid for s in one.streams))]
    if len(set(used)) < len(used) or len({one.number for one in programs}) < len(programs):
        raise TsError("the two streams share a PID or a program number")
    first = list(packets(data))
    second = [packet for packet in packets(other) if packet.pid != PAT_PID]
    out: list[Packet] = []
    for at, packet in enumerate(first):
        out.append(packet)
        out += second[at * len(second) // len(first) : (at + 1) * len(second) // len(first)]
    old = {one.pmt_pid for one in programs}
    kept = (packet for packet in out if packet.pid not in old)
    return with_tables(_pack_behind_tables(kept, programs), programs)


def _pack_behind_tables(parts: Iterable[Packet], programs: Sequence[Program]) -> bytes:
    tables = section_packets(PAT_PID, pat(programs))
    tables += chain.from_iterable(section_packets(one.pmt_pid, pmt(one)) for one in programs)
    return pack(chain(tables, parts))


# -- segments --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A segment: whole PES packets behind a PAT and a PMT."""

    data: bytes
    start: int  # PTS of its first picture (or audio frame), ticks, the wrap undone
    duration_s: float  # up to the next piece's start


def cut(data: bytes, target_s: float, *, anywhere: bool = False) -> list[Piece]:
    """Cut a stream as an HLS segmenter does: at random access points, `target_s` apart or more; or
    `anywhere`, before any picture.

    The first video track is what is cut along, or the first audio track where there is no video.
    No PES packet is split, each piece begins with PAT and PMT, and continuity counters run on.

    Raises:
        TsError: there is nothing to cut along, or its PES packets have no PTS.
    """
    everything = list(packets(data))
    program = read_program(data)
    video = program.video_pid
    leader = program.audio_pids[0] if video is None else video
    tables = [*_first_unit(everything, PAT_PID), *_first_unit(everything, program.pmt_pid)]
    pieces: list[list[Packet]] = [[]]
    starts: list[int] = []
    times: list[int] = []
    home: dict[int, int] = {}  # PID → the piece that its open PES packet belongs to
    for packet in everything:
        if packet.pid == leader and packet.starts:
            pts = _unwrap(packet, times)
            times.append(pts)
            cuttable = anywhere or video is None or packet.random_access
            if not starts:
                starts.append(pts)
            elif cuttable and pts - starts[-1] >= target_s * TICKS_PER_S:
                starts.append(pts)
                pieces.append(list(tables))
        if packet.starts:
            home[packet.pid] = len(pieces) - 1
        pieces[home.get(packet.pid, len(pieces) - 1)].append(packet)
    if not times:
        raise TsError("there is nothing to cut along")
    times.sort()
    step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
    ends = [*starts[1:], times[-1] + round(step)]
    whole = renumber(pack(chain.from_iterable(pieces)))
    out: list[Piece] = []
    at = 0
    for piece, start, end in zip(pieces, starts, ends, strict=True):
        size = len(piece) * PACKET_BYTES
        seconds = (end - start) / TICKS_PER_S
        out.append(Piece(data=whole[at : at + size], start=start, duration_s=seconds))
        at += size
    return out


def _first_unit(everything: Sequence[Packet], pid: int) -> list[Packet]:
    groups = pes_groups(everything, pid)
    if not groups:
        raise TsError(f"nothing starts on PID {pid:#x}")
    return groups[0]


def _unwrap(packet: Packet, before: Sequence[int]) -> int:
    if packet.pts is None:
        raise TsError("cannot cut along a track whose PES packets have no PTS")
    if not before:
        return packet.pts
    return packet.pts + round((before[-1] - packet.pts) / WRAP) * WRAP
