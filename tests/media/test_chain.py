"""The walker along top-level boxes, however the chunks fall."""

import pytest

from proxy.errors import CorruptMedia
from proxy.media.chain import BoxChain, is_init_section
from tests.support.fmp4 import make_fmp4

LARGE = b"\0\0\0\1mdat" + (26).to_bytes(8, "big") + bytes(10)  # a 64-bit size


def fed(data: bytes, step: int) -> BoxChain:
    walker = BoxChain()
    for at in range(0, len(data), step):
        walker.feed(data[at : at + step])
    return walker


@pytest.mark.parametrize("step", [1, 7, 8, 17, 1 << 20])
def test_is_whole(step: int) -> None:
    """Boxes are whole when the last one has ended, and not a byte before."""
    data = make_fmp4().segments[0] + LARGE
    assert fed(data, step).is_whole
    for missing in (1, 9, 10, 11, 25, 27):
        assert not fed(data[:-missing], step).is_whole, missing


@pytest.mark.parametrize("step", [1, 8, 1 << 20])
@pytest.mark.parametrize(
    "head", [b"\0\0\0\0mdat", b"\0\0\0\7free", b"\0\0\0\1mdat" + (15).to_bytes(8, "big")]
)
def test_feed_no_box(head: bytes, step: int) -> None:
    """A size that no box in front of another has is an error."""
    with pytest.raises(CorruptMedia):
        fed(make_fmp4().segments[0] + head, step)


def test_is_init_section() -> None:
    """Whole boxes with a moov; cut anywhere, or with something behind, it is none."""
    init = make_fmp4().init
    assert is_init_section(init)
    assert is_init_section(init + LARGE)
    assert [cut for cut in range(len(init)) if is_init_section(init[:cut])] == []
    assert not is_init_section(init + b"\0")
    assert not is_init_section(init + bytes(8))
    assert not is_init_section(make_fmp4().segments[0])
