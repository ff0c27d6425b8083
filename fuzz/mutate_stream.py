"""Damage that knows elementary streams: NAL units, parameter sets, and headers of audio frames.

It works on any bytes: start codes and sync words are found in packets of a transport stream too.
"""

from __future__ import annotations

import random
import re

from tests.media import helpers
from tests.media.helpers import Bits

_START_CODE = re.compile(rb"\x00\x00\x01")
_SETS = re.compile(rb"\x00\x00\x01(?=[\x67\x68\x27\x28]|[\x40\x42\x44]\x01)")
_SYNC = re.compile(rb"\xff[\xf0-\xff]|\x0b\x77")
_CONFIGS = re.compile(rb"avcC|hvcC|esds|av1C|dac3|dec3|dOps|dfLa")


def _patched(data: bytes, rng: random.Random, places: list[int], reach: int) -> bytes:
    """Change one or more of the `reach` bytes behind some of the places."""
    if not places:
        return data
    out = bytearray(data)
    share = rng.choice((0.1, 0.5, 1.0))
    chosen = [place for place in places if rng.random() < share] or places[:1]
    offsets = [rng.randrange(reach) for _ in range(rng.choice((1, 2, 5)))]
    value = rng.randrange(256)
    how = rng.choice(("flip", "same", "noise", "extreme"))
    for place in chosen:
        for offset in offsets:
            at = place + offset
            if at >= len(out):
                continue
            if how == "flip":
                out[at] ^= 1 << rng.randrange(8)
            elif how == "same":
                out[at] = value
            else:
                out[at] = rng.randrange(256) if how == "noise" else rng.choice((0, 0xFF))
    return bytes(out)


def damage_sets(data: bytes, rng: random.Random) -> bytes:
    """Parameter sets with other fields."""
    return _patched(data, rng, [match.end() for match in _SETS.finditer(data)], 24)


def damage_configs(data: bytes, rng: random.Random) -> bytes:
    """The configuration boxes of an MP4."""
    return _patched(data, rng, [match.end() for match in _CONFIGS.finditer(data)], 60)


def damage_units(data: bytes, rng: random.Random) -> bytes:
    """NAL units of another type, with other slice headers."""
    return _patched(data, rng, [match.end() for match in _START_CODE.finditer(data)], 6)


def damage_frame_headers(data: bytes, rng: random.Random) -> bytes:
    """Lengths, rates, channels and versions of ADTS, MPEG audio and AC-3 frames."""
    return _patched(data, rng, [match.start() for match in _SYNC.finditer(data)], 8)


def remove_start_codes(data: bytes, rng: random.Random) -> bytes:
    share = rng.choice((0.01, 0.2, 1.0))
    return _START_CODE.sub(lambda match: b"\0\0\2" if rng.random() < share else match.group(), data)


def add_start_codes(data: bytes, rng: random.Random) -> bytes:
    """A great many units, most of them empty."""
    at = rng.randrange(len(data) + 1)
    codes = b"\0\0\1" * rng.choice((1, 100, 5000)) if rng.random() < 0.5 else b"\0\0\1\x09" * 300
    return data[:at] + codes + data[at:]


def crafted_sets(data: bytes, rng: random.Random) -> bytes:
    """Parameter sets that are well-formed and say strange things."""
    match = _SETS.search(data)
    if match is None:
        return data
    hevc = data[match.end()] in {0x40, 0x42, 0x44}
    try:
        unit = _hevc_sps(rng) if hevc else _h264_sps(rng)
    except AssertionError:  # a value that its field cannot hold
        return data
    return data[: match.start()] + b"\0\0\0\1" + unit + data[match.start() :]


def _big(rng: random.Random) -> int:
    return rng.choice((0, 1, 2, 63, 64, 255, 1 << 15, 1 << 16, (1 << 31) - 1, (1 << 32) - 2))


def _timing(rng: random.Random) -> tuple[int, int]:
    return tuple(rng.choice((0, 1, 2, 1000, (1 << 32) - 1)) for _ in range(2))  # type: ignore[return-value]


def _h264_sps(rng: random.Random) -> bytes:
    return helpers.h264_sps(
        profile=rng.choice((66, 77, 100, 110, 122, 244, 44, 255)),
        chroma=rng.choice((0, 1, 2, 3, _big(rng))),
        separate_planes=rng.random() < 0.3,
        depths=(8 + min(_big(rng), 1 << 20), 8 + rng.randrange(8)),
        reference_frames=_big(rng),
        macroblocks=(1 + _big(rng) // 2, 1 + _big(rng) // 2),
        frame_mbs_only=rng.random() < 0.5,
        crop=(_big(rng), _big(rng), _big(rng), _big(rng)) if rng.random() < 0.5 else None,
        vui=helpers.h264_vui(
            timing=_timing(rng),
            hrds=rng.randrange(3),
            reorder=_big(rng) if rng.random() < 0.7 else None,
            aspect=rng.choice((None, (255, 0, 0), (255, 65535, 1), (200,))),
        ),
    )


def _hevc_sps(rng: random.Random) -> bytes:
    def many_sets(bits: Bits) -> Bits:
        return bits.ue(rng.choice((1, 64, 65, 1 << 20)))

    return helpers.hevc_sps(
        sub_layers=rng.choice((1, 2, 7, 8)),
        chroma=rng.choice((0, 1, 2, 3, _big(rng))),
        size=(_big(rng), _big(rng)),
        window=(_big(rng), _big(rng), _big(rng), _big(rng)) if rng.random() < 0.5 else None,
        depths=(8 + min(_big(rng), 1 << 20), 8 + rng.randrange(8)),
        reorder=tuple(_big(rng) for _ in range(rng.choice((1, 7)))),
        reference_sets=many_sets if rng.random() < 0.3 else None,
        long_term=rng.choice((None, 0, 33)),
        vui=helpers.hevc_vui(timing=_timing(rng), segmentation=rng.choice((None, 4096))),
    )


ALL = (
    damage_sets,
    damage_sets,
    damage_configs,
    damage_units,
    damage_frame_headers,
    damage_frame_headers,
    remove_start_codes,
    add_start_codes,
    crafted_sets,
)
