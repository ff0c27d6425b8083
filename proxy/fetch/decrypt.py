"""AES-128: ciphertext in, media out, while it arrives (RFC 8216bis, 4.4.4.4 and 5.2).

METHOD=AES-128 is AES in CBC mode with PKCS#7 padding over a whole resource, or over the byte range
that a segment is; CBC starts anew with each.  The last block is held back until the end is known,
since it ends in padding.  A wrong key, a cut body and damage at the end show there: `CorruptMedia`.
(Damage in the middle cannot show: CBC is no checksum.)

All of it runs on the event loop, in the chunks in which the network brings them: 0.2 ms per MiB,
12 us for a chunk of 64 KiB, padding included (measured on one core with AES instructions,
cryptography 50; a first chunk costs 10 us more).  OpenSSL works without the GIL, but a thread would
cost more than it frees.
"""

from __future__ import annotations

from functools import partial

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from proxy.errors import CorruptMedia, KeyUnavailable, ProxyError
from proxy.fetch.client import Fetcher
from proxy.fetch.keys import KeyRing
from proxy.fetch.prefetch import Sink
from proxy.fetch.renewal import Renewal, is_expired
from proxy.fetch.whole import is_cut_map
from proxy.hls.model import InitSection, Key, Segment

__all__ = ["DecryptingSink", "Decryptor", "iv_for", "read_init_section"]

BLOCK_BYTES = 16


def iv_for(key: Key, sequence: int) -> bytes:
    """Return the IV of `key`, or the Media Sequence Number in its place (RFC 8216bis, 5.2)."""
    return sequence.to_bytes(BLOCK_BYTES, "big") if key.iv is None else key.iv


class Decryptor:
    """Decrypt one resource: `update` with each chunk, then `finish`.

    `key` and `iv` are 16 bytes each, or `ValueError` is raised; neither is kept in an attribute.
    `name` stands in messages.
    """

    def __init__(self, key: bytes, iv: bytes, *, name: str = "media") -> None:
        self._cipher = Cipher(AES128(key), CBC(iv)).decryptor()
        self._unpadder = PKCS7(8 * BLOCK_BYTES).unpadder()
        self._name = name
        self._unopened = (
            f"{name[:1].upper()}{name[1:]} does not decrypt: its key is another, or it is damaged."
        )
        self._received_bytes = 0

    def update(self, chunk: bytes) -> bytes:
        """Return what can be told so far: all whole blocks but the last, perhaps nothing."""
        self._received_bytes += len(chunk)
        return self._unpadder.update(self._cipher.update(chunk))

    def finish(self) -> bytes:
        """Return the rest without its padding, at most 15 bytes; call it once.

        Raises `CorruptMedia` where there was nothing, no whole number of blocks, or no padding.
        """
        if not self._received_bytes or self._received_bytes % BLOCK_BYTES:
            raise CorruptMedia(
                f"{self._name}: {self._received_bytes} encrypted bytes are no whole blocks",
                detail=self._unopened,
            )
        try:
            return self._unpadder.finalize()
        except ValueError:
            raise CorruptMedia(
                f"{self._name}: bad padding: a wrong key, or cut or damaged", detail=self._unopened
            ) from None


class DecryptingSink:
    """A `Sink` in front of another: it opens the segments that have a key, the others pass.

    The key comes before `begin` is passed on, so that a segment whose key cannot be had is never
    begun.  One whose address has expired is asked for once more, if `renewal` knows a newer one.
    Raises what `KeyRing.get` does, and `CorruptMedia` from `end`: by then most of the segment has
    been passed on.
    """

    def __init__(self, sink: Sink, keys: KeyRing, *, renewal: Renewal | None = None) -> None:
        self._sink = sink
        self._keys = keys
        self._renewal = renewal
        self._decryptor: Decryptor | None = None  # of the segment that has begun, if it has a key

    async def begin(self, segment: Segment) -> None:
        self._decryptor = None
        if segment.key is not None:
            name = f"segment {segment.sequence}"
            iv = iv_for(segment.key, segment.sequence)
            self._decryptor = Decryptor(await self._key_of(segment, segment.key), iv, name=name)
        await self._sink.begin(segment)

    async def _key_of(self, segment: Segment, key: Key) -> bytes:
        edition = 0 if self._renewal is None else self._renewal.edition
        try:
            return await self._keys.get(key)
        except KeyUnavailable as error:
            if self._renewal is None or not is_expired(error):
                raise
            fresh = await self._renewal.renew(segment, edition)
            if fresh is None or fresh.key is None or fresh.key == key:
                raise
        return await self._keys.get(fresh.key)

    async def write(self, chunk: bytes) -> None:
        if self._decryptor is not None:
            chunk = self._decryptor.update(chunk)
        if chunk:
            await self._sink.write(chunk)

    async def end(self, segment: Segment) -> None:
        if self._decryptor is not None:
            rest = self._decryptor.finish()
            self._decryptor = None
            if rest:
                await self._sink.write(rest)
        await self._sink.end(segment)

    async def lost(self, segment: Segment) -> None:
        self._decryptor = None
        await self._sink.lost(segment)


async def read_init_section(
    fetcher: Fetcher,
    keys: KeyRing,
    section: InitSection,
    sequence: int,
    max_bytes: int,
    *,
    renewal: Renewal | None = None,
) -> bytes:
    """Fetch an EXT-X-MAP, or its byte range, and decrypt it where a key applies to it.

    `sequence`: Media Sequence Number of the segment that it is read for; it stands in for a missing
    IV, although RFC 8216bis section 4.4.4.5 demands one here.  `max_bytes`: as fetched.
    `renewal`: asked for newer addresses where those of section or key have expired.

    Raises what `Fetcher.read` and `KeyRing.get` do, and `CorruptMedia`.
    """
    edition = 0 if renewal is None else renewal.edition
    try:
        return await _read_init_section(fetcher, keys, section, sequence, max_bytes)
    except ProxyError as error:
        if renewal is None or not is_expired(error):
            raise
        fresh = await renewal.renew_map(section, sequence, edition)
        if fresh is None:
            raise
    return await _read_init_section(fetcher, keys, fresh, sequence, max_bytes)


async def _read_init_section(
    fetcher: Fetcher, keys: KeyRing, section: InitSection, sequence: int, max_bytes: int
) -> bytes:
    key = section.key
    if key is not None:
        keys.expect(key)  # side by side with the section
    found = await fetcher.read(
        section.uri,
        max_bytes=max_bytes,
        what="map",
        byte_range=section.byte_range,
        is_cut=partial(is_cut_map, encrypted=key is not None),
    )
    if key is None:
        return found.body
    decryptor = Decryptor(await keys.get(key), iv_for(key, sequence), name="init section")
    return decryptor.update(found.body) + decryptor.finish()
