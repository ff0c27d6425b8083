"""Content codings: bounded, and never cut short in silence."""

import gzip
import zlib

import pytest

from proxy.errors import SourceTooLarge, SourceUnavailable
from proxy.fetch.decode import Decoder

TEXT = b"".join(b"#EXTINF:4,\nsegment-%d.ts\n" % number for number in range(500))


def decoded(coding: str, data: bytes, *, step: int = 1000, max_bytes: int = 1_000_000) -> bytes:
    decoder = Decoder(coding, max_bytes=max_bytes, what="playlist", name="playlist")
    for at in range(0, len(data), step):
        decoder.feed(data[at : at + step])
    return decoder.finish()


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("step", [1, 7, 1000, 100_000])
@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("", TEXT),
        ("identity", TEXT),
        ("gzip", gzip.compress(TEXT)),
        ("x-gzip", gzip.compress(TEXT)),
        ("gzip", gzip.compress(TEXT[:5000]) + gzip.compress(TEXT[5000:])),
        ("gzip", gzip.compress(TEXT) + bytes(9)),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", raw_deflate(TEXT)),
    ],
)
def test_decode_good(coding: str, data: bytes, step: int) -> None:
    """Every coding gives the text back, however it is cut into chunks."""
    assert decoded(coding, data, step=step) == TEXT


@pytest.mark.parametrize("coding", ["", "gzip", "deflate"])
def test_decode_empty(coding: str) -> None:
    """An empty body is an empty body."""
    assert decoded(coding, b"") == b""


@pytest.mark.parametrize("missing", [1, 4, 8, 9, 100])
@pytest.mark.parametrize(
    ("coding", "data"),
    [("gzip", gzip.compress(TEXT)), ("deflate", zlib.compress(TEXT))],
)
def test_decode_cut(coding: str, data: bytes, missing: int) -> None:
    """A stream that ends before its trailer is an error, even if all of the text is there."""
    with pytest.raises(SourceUnavailable, match="cut short"):
        decoded(coding, data[:-missing])


def test_decode_damaged() -> None:
    """A wrong checksum and plain text are errors."""
    data = bytearray(gzip.compress(TEXT))
    data[-5] ^= 1
    for bad in (bytes(data), TEXT):
        with pytest.raises(SourceUnavailable, match="damaged"):
            decoded("gzip", bad)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "nonsense"])
def test_decode_unknown_coding(coding: str) -> None:
    """What cannot be read is refused before a byte of it is."""
    with pytest.raises(SourceUnavailable, match="content coding"):
        Decoder(coding, max_bytes=1, what="playlist", name="playlist")


def test_decode_bomb() -> None:
    """Unpacking stops one byte above the limit, in the middle of a chunk."""
    bomb = gzip.compress(bytes(50_000_000))
    decoder = Decoder("gzip", max_bytes=100_000, what="playlist", name="playlist")
    with pytest.raises(SourceTooLarge):
        decoder.feed(bomb)


def test_decode_exactly_the_limit() -> None:
    """A body of just the limit passes, one byte more does not."""
    data = gzip.compress(TEXT)
    assert decoded("gzip", data, max_bytes=len(TEXT)) == TEXT
    with pytest.raises(SourceTooLarge):
        decoded("gzip", data, max_bytes=len(TEXT) - 1)
