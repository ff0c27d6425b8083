"""Damage that knows ISO BMFF: sizes, kinds, counts and fields of boxes that lie."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

_CONTAINERS = {
    b"moov": 0, b"trak": 0, b"edts": 0, b"mdia": 0, b"minf": 0, b"dinf": 0, b"stbl": 0, b"mvex": 0,
    b"moof": 0, b"traf": 0, b"mfra": 0, b"stsd": 8, b"dref": 8,
    b"avc1": 78, b"hvc1": 78, b"hev1": 78, b"av01": 78, b"mp4a": 28, b"ac-3": 28, b"ec-3": 28,
    b"Opus": 28, b"fLaC": 28,
}  # fmt: skip

# Behind the size, kind, version and flags: where the count of a table stands.
_COUNTS = {
    b"stts": 12, b"ctts": 12, b"stsc": 12, b"stsz": 16, b"stco": 12, b"co64": 12, b"stss": 12,
    b"elst": 12, b"stsd": 12, b"dref": 12, b"trun": 12, b"sidx": 30, b"tfra": 20, b"saiz": 13,
    b"saio": 12, b"sbgp": 16, b"sgpd": 16, b"pssh": 28,
}  # fmt: skip

_EXTREMES = (
    0, 1, 2, 7, 8, 9, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0xFFFFFF, 0x1000000, 0x7FFFFFFF, 0x80000000,
    0xFFFFFFF8, 0xFFFFFFFE, 0xFFFFFFFF,
)  # fmt: skip

Span = tuple[int, int, bytes]  # begin, end, kind


def _boxes(data: bytes, begin: int = 0, end: int | None = None, depth: int = 0) -> Iterator[Span]:
    end = len(data) if end is None else end
    while begin + 8 <= end and depth < 12:
        size = struct.unpack_from(">I", data, begin)[0]
        kind = data[begin + 4 : begin + 8]
        if size < 8 or begin + size > end:
            return
        yield begin, begin + size, kind
        if kind in _CONTAINERS:
            yield from _boxes(data, begin + 8 + _CONTAINERS[kind], begin + size, depth + 1)
        begin += size


def _put(data: bytes, at: int, value: int, size: int = 4) -> bytes:
    return data[:at] + (value & ((1 << 8 * size) - 1)).to_bytes(size, "big") + data[at + size :]


def _some(data: bytes, rng: random.Random) -> Span | None:
    """A box, each kind as likely as any other: of `moof` there are many."""
    found = list(_boxes(data))
    if not found:
        return None
    kind = rng.choice(sorted({kind for _, _, kind in found}))
    return rng.choice([box for box in found if box[2] == kind])


def lie_about_size(data: bytes, rng: random.Random) -> bytes:
    box = _some(data, rng)
    if box is None:
        return data
    begin, end, _ = box
    size = rng.choice((*_EXTREMES, end - begin + 1, end - begin - 1, end - begin + 8, len(data)))
    return _put(data, begin, size)


def lie_about_large_size(data: bytes, rng: random.Random) -> bytes:
    """A size of 64 bits, ISO/IEC 14496-12 section 4.2."""
    box = _some(data, rng)
    if box is None:
        return data
    large = rng.choice((0, 8, 16, 1 << 31, 1 << 32, 1 << 62, (1 << 63) - 1, (1 << 64) - 1))
    return _put(_put(data, box[0], 1), box[0] + 8, large, 8)


def lie_about_count(data: bytes, rng: random.Random) -> bytes:
    found = [(begin, kind) for begin, _, kind in _boxes(data) if kind in _COUNTS]
    if not found:
        return data
    chosen = rng.choice(sorted({kind for _, kind in found}))
    begin = rng.choice([begin for begin, kind in found if kind == chosen])
    size = 2 if chosen == b"sidx" else 4
    return _put(data, begin + _COUNTS[chosen], rng.choice(_EXTREMES), size)


def lie_in_field(data: bytes, rng: random.Random) -> bytes:
    """Any field of any box but the samples."""
    box = _some(data, rng)
    if box is None or box[2] == b"mdat":
        return data
    begin, end, _ = box
    at = rng.randrange(begin + 8, max(min(end, begin + 128), begin + 9))
    size = rng.choice((1, 2, 4, 8))
    return _put(data, at, rng.choice((*_EXTREMES, rng.getrandbits(64))), size)[: len(data)]


def lie_in_times(data: bytes, rng: random.Random) -> bytes:
    """Clocks, durations and offsets: mdhd, tfdt, tfhd, trun, elst."""
    kinds = (b"mdhd", b"tfdt", b"tfhd", b"trun", b"elst", b"trex", b"mvhd")
    kind = rng.choice(kinds)
    found = [box for box in _boxes(data) if box[2] == kind]
    for begin, end, _ in found if rng.random() < 0.3 else found[:1]:
        if end - begin >= 16:
            at = rng.randrange(begin + 12, end - 3)
            data = _put(data, at, rng.choice((*_EXTREMES, rng.getrandbits(32))))
    return data


def rename_box(data: bytes, rng: random.Random) -> bytes:
    found = list(_boxes(data))
    box = _some(data, rng)
    if box is None:
        return data
    begin, _, kind = box
    other = rng.choice((rng.choice(found)[2], b"free", bytes([*kind[:3], kind[3] ^ 1])))
    return data[: begin + 4] + other + data[begin + 8 :]


def drop_box(data: bytes, rng: random.Random) -> bytes:
    """Leave a box out; sizes of those around it are put right."""
    box = _some(data, rng)
    return data if box is None else _replaced(data, box, b"")


def double_box(data: bytes, rng: random.Random) -> bytes:
    """Put a box twice, or a hundred times; sizes of those around it are put right."""
    box = _some(data, rng)
    if box is None:
        return data
    body = data[box[0] : box[1]]
    times = rng.choice((2, 3, 100)) if len(body) < 1024 else 2
    return _replaced(data, box, body * times)


def swap_boxes(data: bytes, rng: random.Random) -> bytes:
    """The samples of another fragment, or a table of another track."""
    box = _some(data, rng)
    if box is None:
        return data
    other = rng.choice([one for one in _boxes(data) if one[2] == box[2]])
    return _replaced(data, box, data[other[0] : other[1]])


def lie_in_samples(data: bytes, rng: random.Random) -> bytes:
    """Lengths of NAL units inside samples, and noise among them."""
    found = [box for box in _boxes(data) if box[2] == b"mdat" and box[1] - box[0] > 16]
    if not found:
        return data
    begin, end, _ = rng.choice(found)
    at = begin + 8 if rng.random() < 0.6 else rng.randrange(begin + 8, end - 4)
    return _put(data, at, rng.choice((*_EXTREMES, rng.getrandbits(32))))


def _replaced(data: bytes, box: Span, body: bytes) -> bytes:
    begin, end, _ = box
    by = len(body) - (end - begin)
    for outer_begin, outer_end, _ in list(_boxes(data)):
        if outer_begin < begin and end <= outer_end:
            data = _put(data, outer_begin, outer_end - outer_begin + by)
    return data[:begin] + body + data[end:]


ALL = (
    lie_about_size,
    lie_about_large_size,
    lie_about_count,
    lie_about_count,
    lie_in_field,
    lie_in_field,
    lie_in_field,
    lie_in_times,
    lie_in_times,
    rename_box,
    drop_box,
    double_box,
    swap_boxes,
    lie_in_samples,
)
