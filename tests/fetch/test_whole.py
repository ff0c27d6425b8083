"""Where a segment may end: packets and boxes, however the chunks fall."""

import pytest

from proxy.fetch.whole import Ending, is_cut_map
from tests.support.clips import make_clip
from tests.support.fmp4 import make_fmp4

LARGE = b"\0\0\0\1mdat" + (26).to_bytes(8, "big") + bytes(10)  # a 64-bit size


def fed(data: bytes, step: int) -> Ending:
    ending = Ending()
    for at in range(0, len(data), step):
        ending.feed(data[at : at + step])
    return ending


@pytest.mark.parametrize("step", [1, 7, 8, 17, 1000, 1 << 20])
@pytest.mark.parametrize("kind", ["ts", "fmp4", "large box"])
def test_is_cut(kind: str, step: int) -> None:
    """Whole ones are not cut, and each missing byte is seen, up to a packet's or a box's head."""
    data = {
        "ts": make_clip(seconds=1.0).data,
        "fmp4": make_fmp4().segments[0],
        "large box": make_fmp4().segments[0] + LARGE,
    }[kind]
    assert not fed(data, step).is_cut
    for missing in (1, 9, 10, 20, 187):
        assert fed(data[:-missing], step).is_cut, missing


@pytest.mark.parametrize("data", [b"", b"ID3 and then audio", b"\xff\xf1\x50\x80", b"WEBVTT\n"])
def test_is_cut_unknown(data: bytes) -> None:
    """Of what has neither packets nor boxes nothing is said."""
    assert not fed(data, 5).is_cut


def test_is_cut_box_up_to_the_end() -> None:
    """A box of size 0 goes up to the end, wherever that is."""
    assert not fed(make_fmp4().segments[0] + b"\0\0\0\0mdat123", 1000).is_cut


def test_is_cut_no_box() -> None:
    """What has a size that no box has is none: nothing is said, as of all that is unknown."""
    no_box = b"\0\0\0\1mdat" + (15).to_bytes(8, "big")
    assert not fed(make_fmp4().segments[0] + no_box, 1000).is_cut


@pytest.mark.parametrize("first", [b"\x47", b"\0\0\0\x18moof", b"\xff"])
def test_is_cut_encrypted(first: bytes) -> None:
    """Ciphertext is made of blocks, one at least, whatever it looks like."""
    data = first.ljust(160, b"x")
    for size in range(len(data) + 1):
        ending = Ending(encrypted=True)
        ending.feed(data[:size])
        assert ending.is_cut == (not size or size % 16 > 0), size


@pytest.mark.parametrize("kind", ["fmp4", "without ftyp", "ts", "encrypted"])
def test_is_cut_map(kind: str) -> None:
    """An init section is cut as long as its moov, a packet or a block is not complete."""
    init = make_fmp4().init
    data, step = {
        "fmp4": (init, len(init)),
        "without ftyp": (init[init.index(b"moov") - 4 :], len(init)),
        "ts": (make_clip(seconds=1.0).data[: 3 * 188], 188),
        "encrypted": (b"\0\0\0\x18moof" + bytes(56), 16),
    }[kind]
    assert not is_cut_map(data, encrypted=kind == "encrypted")
    for size in range(len(data)):
        cut = is_cut_map(data[:size], encrypted=kind == "encrypted")
        assert cut == (size % step > 0 or not size), size


def test_is_cut_map_unknown() -> None:
    """Of what is neither boxes nor packets nothing is said."""
    assert not is_cut_map(b"ID3 and then audio")
