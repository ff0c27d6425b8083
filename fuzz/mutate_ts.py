"""Damage that knows transport streams: packets, tables with valid checksums, and PES packets."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from fuzz import mutate_stream
from tests.support import ts_edit
from tests.support.ts import PACKET_BYTES, Pes, TsError, pes_groups
from tests.support.ts import packets as read_packets
from tests.support.ts_tables import crc32

_TABLE_PIDS = 0, 0x1000  # PAT, and where libavformat's muxer puts the PMT


def _packets(data: bytes) -> list[bytes]:
    """Cut without a look at sync bytes; the rest is the last one."""
    return [data[at : at + PACKET_BYTES] for at in range(0, len(data), PACKET_BYTES)]


def _pid(packet: bytes) -> int:
    return int.from_bytes(packet[1:3], "big") & 0x1FFF if len(packet) > 3 else -1


def _with_pid(packet: bytes, pid: int) -> bytes:
    return (
        packet[:1] + (packet[1] & 0xE0 | pid >> 8).to_bytes() + (pid & 255).to_bytes() + packet[3:]
    )


def drop_packets(data: bytes, rng: random.Random) -> bytes:
    share = rng.choice((0.002, 0.02, 0.2, 0.8))
    return b"".join(packet for packet in _packets(data) if rng.random() >= share)


def drop_burst(data: bytes, rng: random.Random) -> bytes:
    parts = _packets(data)
    at = rng.randrange(len(parts) + 1)
    del parts[at : at + rng.choice((1, 3, 20, 200))]
    return b"".join(parts)


def double_packets(data: bytes, rng: random.Random) -> bytes:
    return b"".join(packet * (1 + (rng.random() < 0.05)) for packet in _packets(data))


def reorder_packets(data: bytes, rng: random.Random) -> bytes:
    parts = _packets(data)
    for _ in range(rng.choice((1, 8, 64))):
        one, other = rng.randrange(len(parts) or 1), rng.randrange(len(parts) or 1)
        if parts:
            parts[one], parts[other] = parts[other], parts[one]
    return b"".join(parts)


def swap_pids(data: bytes, rng: random.Random) -> bytes:
    """From some place on, two PIDs change their roles."""
    parts = _packets(data)
    pids = sorted({_pid(packet) for packet in parts if len(packet) > 3})
    if len(pids) < 2:
        return data
    one, other = rng.sample(pids, 2)
    swapped = {one: other, other: one}
    begin = rng.choice((0, rng.randrange(len(parts))))
    return b"".join(
        _with_pid(packet, swapped[_pid(packet)])
        if at >= begin and _pid(packet) in swapped
        else packet
        for at, packet in enumerate(parts)
    )


def scatter_pids(data: bytes, rng: random.Random) -> bytes:
    """Some packets belong to nothing known, or to each other's stream."""
    parts = _packets(data)
    known = [_pid(packet) for packet in parts if len(packet) > 3] or [0]
    return b"".join(
        _with_pid(packet, rng.choice((rng.randrange(0x2000), rng.choice(known))))
        if rng.random() < 0.02 and len(packet) > 3
        else packet
        for packet in parts
    )


def lie_in_headers(data: bytes, rng: random.Random) -> bytes:
    """Flags, counters and adaptation field lengths that are not so."""
    parts = _packets(data)
    for _ in range(rng.choice((1, 4, 32))):
        at = rng.randrange(len(parts) or 1)
        if parts and len(parts[at]) > 5:
            packet = bytearray(parts[at])
            field = rng.choice((1, 3, 4, 5))
            packet[field] = rng.choice((0, 0xFF, 183, 184, packet[field] ^ 1 << rng.randrange(8)))
            parts[at] = bytes(packet)
    return b"".join(parts)


def lie_in_tables(data: bytes, rng: random.Random) -> bytes:
    """PAT or PMT with wrong lengths, types or PIDs under a checksum that is right."""
    parts = _packets(data)
    wanted = rng.choice(_TABLE_PIDS)
    found = [at for at, packet in enumerate(parts) if _pid(packet) == wanted and len(packet) == 188]
    all_of_them = rng.random() < 0.7
    seed = rng.random()
    for at in found if all_of_them else found[:1]:
        parts[at] = _lying_table(parts[at], random.Random(seed))  # each of them alike
    return b"".join(parts)


def _lying_table(packet: bytes, rng: random.Random) -> bytes:
    begin = 5 + packet[4] if packet[3] & 0x20 == 0 else 4
    size = 3 + (int.from_bytes(packet[begin + 1 : begin + 3], "big") & 0xFFF)
    if begin + size > PACKET_BYTES or size < 12:
        return packet
    section = bytearray(packet[begin : begin + size])
    for _ in range(rng.choice((1, 2, 6))):
        section[rng.randrange(size - 4)] = rng.choice(
            (0, 0xFF, 0x0F, 0x1B, 0x24, rng.randrange(256))
        )
    section[-4:] = crc32(bytes(section[:-4])).to_bytes(4, "big")
    return packet[:begin] + bytes(section) + packet[begin + size :]


def lie_in_pes(data: bytes, rng: random.Random) -> bytes:
    """Lengths, flags and times in the headers of PES packets."""
    parts = _packets(data)
    begins = [
        at
        for at, packet in enumerate(parts)
        if len(packet) == 188 and packet[1] & 0x40 and b"\0\0\1" in packet[4:160]
    ]
    for at in begins:
        if rng.random() < 0.15:
            packet = bytearray(parts[at])
            begin = packet.index(b"\0\0\1", 4)
            field = begin + rng.choice((3, 4, 5, 6, 7, 8, 9, 10, 13, 14))
            packet[min(field, 187)] = rng.choice((0, 0xFF, 0x80, rng.randrange(256)))
            parts[at] = bytes(packet)
    return b"".join(parts)


def _rewritten(data: bytes, rng: random.Random, change: Callable[[Pes], Pes]) -> bytes:
    """Change some PES packets of one PID and pack them anew; data that are too damaged stay."""
    try:
        everything = list(read_packets(data))
        pids = sorted({one.pid for one in everything if one.starts and one.pid not in _TABLE_PIDS})
        pids = [pid for pid in pids if pes_groups(everything, pid)]
        if not pids:
            return data
        share = rng.choice((0.03, 0.3, 1.0))
        return ts_edit.rewrite(
            data, rng.choice(pids), lambda _, pes: change(pes) if rng.random() < share else pes
        )
    except (TsError, IndexError, ValueError, OverflowError):
        return data


def damage_payload(data: bytes, rng: random.Random) -> bytes:
    """Damage access units or frames, in PES packets that are right."""
    edit = rng.choice(mutate_stream.ALL)
    return _rewritten(data, rng, lambda pes: replace(pes, payload=edit(pes.payload, rng)))


def cut_payload(data: bytes, rng: random.Random) -> bytes:
    """Access units that are cut, or empty."""
    return _rewritten(
        data,
        rng,
        lambda pes: replace(
            pes, payload=pes.payload[: rng.choice((0, 1, 4, 7, len(pes.payload) // 2))]
        ),
    )


def lie_about_times(data: bytes, rng: random.Random) -> bytes:
    """Timestamps that jump, stand still, or are missing."""

    def change(pes: Pes) -> Pes:
        time = rng.choice((None, 0, (1 << 33) - 1, rng.randrange(1 << 33), pes.pts))
        other = rng.choice((None, time, rng.randrange(1 << 33), pes.dts))
        return replace(pes, pts=time, dts=other if time is not None else None)

    return _rewritten(data, rng, change)


ALL = (
    drop_packets,
    drop_burst,
    double_packets,
    reorder_packets,
    swap_pids,
    scatter_pids,
    lie_in_headers,
    lie_in_tables,
    lie_in_tables,
    lie_in_pes,
    damage_payload,
    damage_payload,
    damage_payload,
    cut_payload,
    lie_about_times,
    lie_about_times,
)
