"""The parameter sets of H.264 and HEVC that are in force, by type and id.

A set replaces the one of its type and id and no other (ITU-T H.264 section 7.4.1.2.1, H.265 section
7.4.2.4.2): x264 numbers picture parameter sets of its own for weighted prediction, and broadcasters
send a second sequence parameter set beside the one in use.  Which one a picture takes stands in its
slices; `active` follows them.  Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from proxy.media.nal import BitReader, BitstreamError
from proxy.media.parameters import skip_sub_layers

# Bytes from which the id can be told: of a set behind all profiles of sub-layers (H.265 section
# 7.3.3: at most 12 + 2 + 7 * 12), and of a slice.
_HEAD_BYTES = 160

_H264_SLICES = frozenset({1, 2, 5})  # H.264 table 7-1; 2: data partition A
_HEVC_PICTURES = range(32)  # H.265 table 7-1: VCL NAL units
_HEVC_IRAP = range(16, 24)


class ParameterSets:
    """The sets in force, of the types of one codec.

    Args:
        kinds: NAL unit types, in the order of the configuration record.
    """

    def __init__(self, kinds: Sequence[int]) -> None:
        self._kinds = kinds
        self._sets: dict[int, dict[int, bytes]] = {kind: {} for kind in kinds}
        self._damaged: dict[int, bytes] = {}  # the latest that has no id, by type
        self._kind = _h264_kind if 7 in kinds else _hevc_kind
        self._id = _h264_id if 7 in kinds else _hevc_id
        self._sequence_of = _h264_sequence if 7 in kinds else _hevc_sequence

    def add(self, units: Sequence[memoryview]) -> None:
        """Take the sets among the units of an access unit; those that are damaged only count as
        long as there are no others."""
        for unit in units:
            kind = self._kind(unit)
            if kind not in self._sets:
                continue
            try:
                number = self._id(kind, bytes(unit[:_HEAD_BYTES]))
            except BitstreamError:
                self._damaged[kind] = bytes(unit)
            else:
                self._sets[kind][number] = bytes(unit)

    def of(self, kind: int) -> list[bytes]:
        """Return the sets of a type, in the order in which their ids came."""
        if self._sets[kind]:
            return list(self._sets[kind].values())
        return [self._damaged[kind]] if kind in self._damaged else []

    @property
    def all(self) -> list[bytes]:
        """The sets of all types."""
        return [unit for kind in self._kinds for unit in self.of(kind)]

    @property
    def complete(self) -> bool:
        """Whether there are some of each type."""
        return all(self.of(kind) for kind in self._kinds)

    def sequence_sets(self, units: Sequence[memoryview]) -> list[bytes]:
        """Return the sequence parameter sets, the one that this picture takes in front."""
        kind, of_pictures = self._kinds[-2:]
        sets = self.of(kind)
        with suppress(BitstreamError, KeyError):  # a decoder will find out
            active = self._sets[kind][self._sequence_of(units, self._sets[of_pictures])]
            sets.remove(active)
            sets.insert(0, active)
        return sets


def _within(number: int, most: int) -> int:
    if number > most:
        raise BitstreamError(f"a parameter set of id {number}")
    return number


# -- H.264 -----------------------------------------------------------------------------------------


def _h264_kind(unit: memoryview) -> int:
    return unit[0] & 31


def _h264_id(kind: int, unit: bytes) -> int:
    """ITU-T H.264 sections 7.3.2.1.1 and 7.3.2.2."""
    r = BitReader.of_nal(unit, 1)
    if kind == 7:
        r.skip(24)  # profile_idc, constraint flags, level_idc
        return _within(r.ue(), 31)
    return _within(r.ue(), 255)


def _h264_sequence(units: Sequence[memoryview], of_pictures: dict[int, bytes]) -> int:
    """The id of the sequence parameter set of a picture (section 7.3.3)."""
    r = BitReader.of_nal(_first(units, lambda unit: _h264_kind(unit) in _H264_SLICES), 1)
    r.ue()  # first_mb_in_slice
    r.ue()  # slice_type
    r = BitReader.of_nal(of_pictures[r.ue()], 1)
    r.ue()  # pic_parameter_set_id
    return r.ue()


# -- HEVC ------------------------------------------------------------------------------------------


def _hevc_kind(unit: memoryview) -> int:
    return (unit[0] >> 1) & 63


def _hevc_id(kind: int, unit: bytes) -> int:
    """ITU-T H.265 sections 7.3.2.1 to 7.3.2.3."""
    r = BitReader.of_nal(unit, 2)
    if kind == 32:
        return r.u(4)
    if kind == 33:
        r.skip(4)  # sps_video_parameter_set_id
        sub_layers = r.u(3)
        r.skip(1 + 96)
        skip_sub_layers(r, sub_layers)
        return _within(r.ue(), 15)
    return _within(r.ue(), 63)


def _hevc_sequence(units: Sequence[memoryview], of_pictures: dict[int, bytes]) -> int:
    """The id of the sequence parameter set of a picture (section 7.3.6.1)."""
    unit = _first(units, lambda unit: _hevc_kind(unit) in _HEVC_PICTURES)
    r = BitReader.of_nal(unit, 2)
    r.skip(1)  # first_slice_segment_in_pic_flag
    if _hevc_kind(memoryview(unit)) in _HEVC_IRAP:
        r.skip(1)  # no_output_of_prior_pics_flag
    r = BitReader.of_nal(of_pictures[r.ue()], 2)
    r.ue()  # pps_pic_parameter_set_id
    return r.ue()


def _first(units: Sequence[memoryview], wanted: Callable[[memoryview], bool]) -> bytes:
    unit = next((unit for unit in units if wanted(unit)), None)
    if unit is None:
        raise BitstreamError("no slice")
    return bytes(unit[:_HEAD_BYTES])
