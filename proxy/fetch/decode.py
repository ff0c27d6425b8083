"""Content codings of small bodies: many origins send gzip whatever they were asked for.

Bounded: not a byte more than `max_bytes` is ever unpacked.  A stream that ends before its trailer
is an error, which the HTTP client would pass over in silence.
"""

from __future__ import annotations

import zlib

from proxy.fetch.faults import Unavailable, What, too_large

__all__ = ["IDENTITY", "Decoder"]

IDENTITY = frozenset({"", "identity"})
# What is unpacked at a time: deflate makes at most 1,032 bytes out of one, and zlib needs room for
# twice what it gives in one piece.
STEP_BYTES = 1024
_KNOWN = frozenset({"gzip", "x-gzip", "deflate"})


class Decoder:
    """Unpack one body by RFC 9110 section 8.4.1; `feed` chunks, then `finish`.

    `coding` is the Content-Encoding in lower case.  Raises `SourceUnavailable` for a coding that is
    not known here and for damaged data, `faults.too_large` beyond `max_bytes`.
    """

    def __init__(self, coding: str, *, max_bytes: int, what: What, name: str) -> None:
        if coding not in IDENTITY | _KNOWN:
            raise Unavailable(f"{name}: it came in a content coding we do not read")
        self._plain = coding in IDENTITY
        self._deflate = coding == "deflate"
        self._max_bytes = max_bytes
        self._what = what
        self._name = name
        self._parts: list[bytes] = []
        self._size = 0
        self._unpacker: zlib._Decompress | None = None  # of the gzip member that has begun
        self._members = 0  # that are complete

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk of the body."""
        if self._plain:
            self._keep(chunk)
            return
        for start in range(0, len(chunk), STEP_BYTES):
            self._unpack(chunk[start : start + STEP_BYTES])

    def _unpack(self, chunk: bytes) -> None:
        while chunk:
            if self._unpacker is None:  # the first member, or one more (RFC 1952, 2.2)
                if self._members:
                    chunk = chunk.lstrip(b"\0")  # padding, as gzip(1) has it
                    if not chunk or self._deflate:
                        return
                self._unpacker = zlib.decompressobj(self._wbits(chunk[0]))
            try:
                room = self._max_bytes - self._size + 1
                self._keep(self._unpacker.decompress(chunk, room))
            except zlib.error:
                raise Unavailable(f"{self._name}: its content coding is damaged") from None
            if self._unpacker.eof:
                chunk, self._unpacker = self._unpacker.unused_data, None
                self._members += 1
            else:
                chunk = self._unpacker.unconsumed_tail

    def finish(self) -> bytes:
        """The whole body."""
        if self._unpacker is not None:
            raise Unavailable(f"{self._name}: its content coding is cut short")
        return b"".join(self._parts)

    def _wbits(self, first: int) -> int:
        if not self._deflate:
            return zlib.MAX_WBITS | 16
        # "deflate" means zlib (RFC 1950), and some send it raw (RFC 1951): CM = 8 tells.
        return zlib.MAX_WBITS if first & 0x0F == 8 else -zlib.MAX_WBITS

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._max_bytes:
            raise too_large(self._what, f"{self._name} is larger than {self._max_bytes} bytes")
        self._parts.append(part)
