"""NAL units and bits: cutting Annex B and length-prefixed data, and reading payloads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.media.nal import (
    BitReader,
    BitstreamError,
    split_annexb,
    split_length_prefixed,
)
from tests.media.helpers import Bits, escape


def units_of(data: bytes) -> list[bytes]:
    return [bytes(unit) for unit in split_annexb(data)]


# a NAL unit: emulation prevention keeps start codes out of it, and it ends in a byte that is not 0
nal_units = st.binary(min_size=1, max_size=40).map(
    lambda body: escape(b"\x67" + body).rstrip(b"\0") or b"\x67"
)


@given(st.lists(st.tuples(st.sampled_from([3, 4]), nal_units, st.integers(0, 3))))
def test_split_annexb_of_any_stream(parts: list[tuple[int, bytes, int]]) -> None:
    """Start codes of 3 and 4 bytes and trailing zeros are told from the units between them."""
    data = b"".join(
        b"\0\0\1".rjust(size, b"\0") + unit + bytes(zeros) for size, unit, zeros in parts
    )
    assert units_of(data) == [unit for _, unit, _ in parts]


def test_split_annexb_without_start_code() -> None:
    """Bytes without a start code hold no unit."""
    assert units_of(b"") == []
    assert units_of(b"\0\0\0\0") == []
    assert units_of(b"no start code \0\0") == []


def test_split_annexb_behind_junk() -> None:
    """Bytes in front of the first start code are no unit."""
    assert units_of(b"junk\0\0\1\x09\xf0") == [b"\x09\xf0"]


def test_split_annexb_with_empty_units() -> None:
    """Start codes that follow each other at once hold no unit between them."""
    assert units_of(b"\0\0\1\0\0\1\0\0\0\1\x68\xee\0\0\1") == [b"\x68\xee"]


def test_split_annexb_gives_views() -> None:
    """The units are views of the packet, so that samples are not copied."""
    data = memoryview(b"\0\0\1\x65\x88\x84")
    (unit,) = split_annexb(data)
    assert unit.obj is data.obj


@given(st.lists(nal_units), st.sampled_from([1, 2, 4]))
def test_split_length_prefixed_of_any_sample(units: list[bytes], size: int) -> None:
    """Units behind lengths of any size are found again; empty ones are left out."""
    data = b"".join(len(unit).to_bytes(size, "big") + unit for unit in [*units, b""])
    assert [bytes(unit) for unit in split_length_prefixed(memoryview(data), size)] == units


@pytest.mark.parametrize("data", [b"\0\0\0\5\x65\x88", b"\0\0\0\1\x65\0\0\0\1"])
def test_split_length_prefixed_beyond_the_end(data: bytes) -> None:
    """A length that reaches beyond the sample is refused."""
    with pytest.raises(BitstreamError):
        split_length_prefixed(memoryview(data), 4)


# -- bits ------------------------------------------------------------------------------------------

_fields = st.one_of(
    st.tuples(st.just("u"), st.integers(0, 32), st.integers(0, (1 << 32) - 1)).map(
        lambda field: (field[0], field[1], field[2] & ((1 << field[1]) - 1))
    ),
    st.tuples(st.just("ue"), st.just(0), st.integers(0, (1 << 32) - 2)),
    st.tuples(st.just("se"), st.just(0), st.integers(-(1 << 31) + 1, (1 << 31) - 1)),
)


@given(st.lists(_fields, max_size=30))
def test_bit_reader_reads_what_was_written(fields: list[tuple[str, int, int]]) -> None:
    """Fixed fields and Exp-Golomb codes of both kinds come back, through emulation prevention."""
    bits = Bits()
    for kind, width, value in fields:
        if kind == "u":
            bits.u(width, value)
        else:
            getattr(bits, kind)(value)
    reader = BitReader.of_nal(b"\x67" + bits.rbsp(), 1)
    for kind, width, value in fields:
        found = reader.u(width) if kind == "u" else getattr(reader, kind)()
        assert found == value
    assert reader.flag()  # rbsp_stop_one_bit
    assert reader.left < 8
    assert reader.u(reader.left) == 0


@pytest.mark.parametrize(("code", "value"), [(0, 0), (1, 1), (2, -1), (3, 2), (4, -2)])
def test_se_by_the_table(code: int, value: int) -> None:
    """Signed codes map as table 9-3 of H.264 says."""
    assert BitReader(Bits().ue(code).pack()).se() == value


def test_bit_reader_beyond_the_end() -> None:
    """Reading or skipping behind the last bit is an error, not zeros."""
    reader = BitReader(b"\xa0")
    reader.skip(6)
    assert reader.left == 2
    with pytest.raises(BitstreamError):
        reader.u(3)
    with pytest.raises(BitstreamError):
        BitReader(b"").flag()


def test_ue_too_long() -> None:
    """A code with more than 32 zeros in front is no code of the specification."""
    assert BitReader(Bits().u(32, 0).u(1, 1).u(32, 0).pack()).ue() == (1 << 32) - 1
    with pytest.raises(BitstreamError, match="Exp-Golomb"):
        BitReader(Bits().u(33, 0).u(1, 1).u(33, 0).pack()).ue()
    with pytest.raises(BitstreamError, match="Exp-Golomb"):
        BitReader(bytes(5) + b"\xff" * 10).ue()


def test_of_nal_takes_emulation_prevention_out() -> None:
    """Each 03 behind two zeros goes, also several in a row, and no other byte does."""
    reader = BitReader.of_nal(b"\x67\0\0\3\0\0\3\3\3\0\3", 1)
    assert [reader.u(8) for _ in range(reader.left // 8)] == [0, 0, 0, 0, 3, 3, 0, 3]
