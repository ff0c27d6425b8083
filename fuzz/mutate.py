"""Damage: one or a few edits of a clip, chosen by a random generator.

A mutation is a function `(data, rng) -> bytes`; one that finds nothing to damage returns the data
as they are.  Here are those that know no format, and the choice among all of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from fuzz import mutate_mp4, mutate_stream, mutate_ts
from fuzz.case import Case, Piece
from proxy.media.wish import Wish

Mutation = Callable[[bytes, random.Random], bytes]

_MOST_EDITS = 4


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    """A line that disturbs."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 4, 16, 64))):
        if out:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def flip_bits_in_front(data: bytes, rng: random.Random) -> bytes:
    """The same where the tables and headers are."""
    return flip_bits(data[:2048], rng) + data[2048:]


def truncate(data: bytes, rng: random.Random) -> bytes:
    """A body that ended too early."""
    return data[: rng.randrange(len(data) + 1)]


def behead(data: bytes, rng: random.Random) -> bytes:
    """A body that began too late."""
    return data[rng.randrange(min(len(data), 8192) + 1) :]


def remove(data: bytes, rng: random.Random) -> bytes:
    """A hole."""
    begin, end = _stretch(data, rng)
    return data[:begin] + data[end:]


def repeat(data: bytes, rng: random.Random) -> bytes:
    """A stretch that comes twice."""
    begin, end = _stretch(data, rng)
    return data[:end] + data[begin:]


def overwrite(data: bytes, rng: random.Random) -> bytes:
    """Zeros, ones or noise over a stretch."""
    begin, end = _stretch(data, rng)
    filling = rng.choice((bytes(end - begin), b"\xff" * (end - begin), rng.randbytes(end - begin)))
    return data[:begin] + filling + data[end:]


def insert(data: bytes, rng: random.Random) -> bytes:
    """Something foreign in between."""
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 4, 187, 188, 1000))) + data[at:]


def move(data: bytes, rng: random.Random) -> bytes:
    """A stretch that comes at another place."""
    begin, end = _stretch(data, rng)
    rest = data[:begin] + data[end:]
    at = rng.randrange(len(rest) + 1)
    return rest[:at] + data[begin:end] + rest[at:]


def _stretch(data: bytes, rng: random.Random) -> tuple[int, int]:
    begin = rng.randrange(len(data) + 1)
    return begin, min(begin + rng.choice((1, 4, 16, 188, 1024, 16384)), len(data))


_ANY: Sequence[Mutation] = (
    flip_bits,
    flip_bits_in_front,
    truncate,
    behead,
    remove,
    repeat,
    overwrite,
    insert,
    move,
)
_KNOWING: dict[str, Sequence[Mutation]] = {
    "mpegts": (*mutate_ts.ALL, *mutate_stream.ALL),
    "mp4": (*mutate_mp4.ALL, *mutate_mp4.ALL, *mutate_stream.ALL),
}


def damaged(case: Case, rng: random.Random) -> Case:
    """Return the case with one to `_MOST_EDITS` edits of one of its sections; `recipe` names them.

    Three of four edits know the format: damage without sense mostly ends at the first checksum.
    """
    inputs = [list(pieces) for pieces in case.inputs]
    pieces = rng.choice(inputs)
    at = rng.randrange(len(pieces))
    piece = pieces[at]
    knowing = _KNOWING.get(piece.format, mutate_stream.ALL)
    names = []
    for _ in range(rng.randint(1, _MOST_EDITS)):
        mutation = rng.choice(knowing if rng.random() < 0.75 else _ANY)
        names.append(mutation.__name__)
        data = mutation(piece.data, rng)
        piece = replace(piece, data=data)
    if rng.random() < 0.02:  # called what it is not: the first bytes of a segment can lie
        piece = Piece(rng.choice(("mpegts", "mp4", "aac", "ac3", "eac3", "mp3")), piece.data)
        names.append(f"as_{piece.format}")
    pieces[at] = piece
    recipe = " ".join([case.recipe, *names]).strip()
    return Case(tuple(tuple(one) for one in inputs), recipe, _wish(rng))


def _wish(rng: random.Random) -> Wish:
    """Mostly everything, as most clients; sometimes a clip, audio alone, or a known length."""
    if rng.random() < 0.6:
        return Wish()
    return Wish(
        video=rng.random() < 0.8,
        language=rng.choice((None, "de")),
        duration_s=rng.choice((None, 0.0, 1.2, 1e6)),
        start_s=rng.choice((None, 0.0, 0.3, 5.0)),
        insists=rng.random() < 0.3,
        end_s=rng.choice((None, 0.5, 1.0)),
        skip_splices=rng.random() < 0.5,
    )
