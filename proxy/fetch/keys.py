"""The keys of one stream: each fetched once, checked, remembered, and never shown.

A `KeyRing` belongs to one stream on the event loop.  Rules of this file:
1. One GET per address, however many ask at a time; it outlives an asker that is cancelled, and ends
   with the ring (`aclose`).  A failure is told to all who wait; who asks later tries anew.
2. The road is that of every other small body (`Fetcher.read`): guard, header scopes, limits and
   retries hold for keys too.
3. Exactly 16 bytes (RFC 8216bis, 5.1): a login page or a hexadecimal text is no key.
4. Key bytes are in no repr, message or task result; addresses are redacted.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Self
from urllib.parse import unquote_to_bytes

from proxy.errors import EncryptedSource, Forbidden, KeyUnavailable, ProxyError
from proxy.fetch.client import Fetcher
from proxy.guard.redaction import redact
from proxy.hls.model import Key

__all__ = ["KeyRing", "check_supported"]

KEY_BYTES = 16
RESPONSE_BYTES = 1024  # enough for any mistake to be measured in the message
REMEMBERED_KEYS = 1000  # as many as one playlist may name; a live stream forgets the oldest
DATA_SCHEME = "data:"
DATA_URI_CHARS = 256  # a key in base64 has 24; the rest is for a media type


def check_supported(key: Key) -> None:
    """Refuse what a key from the playlist's own origin does not open.

    Raises `EncryptedSource` for a METHOD other than AES-128, or a KEYFORMAT other than identity.
    """
    if key.method != "AES-128":
        raise EncryptedSource(detail=f"EXT-X-KEY: METHOD={key.method[:40]}.")
    if key.key_format != "identity":
        raise EncryptedSource(detail=f"EXT-X-KEY: KEYFORMAT={key.key_format[:80]}.")


class KeyRing:
    """The keys of one stream; an async context manager.

    `capacity` keys are remembered, the one used longest ago is forgotten first.
    """

    def __init__(self, fetcher: Fetcher, *, capacity: int = REMEMBERED_KEYS) -> None:
        self._fetcher = fetcher
        self._capacity = capacity
        self._keys: dict[str, bytes] = {}  # by address, the one used longest ago first
        self._flights: dict[str, asyncio.Task[ProxyError | None]] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<KeyRing {len(self._keys)} keys, {len(self._flights)} on their way>"

    async def get(self, key: Key) -> bytes:
        """Return the 16 bytes that `key` stands for.

        Raises `EncryptedSource` (see `check_supported`), `KeyUnavailable` with the reason as its
        cause, or `Forbidden` by our own guard.
        """
        check_supported(key)
        if key.uri is None:
            raise KeyUnavailable("EXT-X-KEY has no URI")
        if _is_inline(key.uri):
            return _inline_key(key.uri)
        while (known := self._recall(key.uri)) is None:
            flight = self._flight(key.uri)
            await asyncio.wait([flight])  # unlike awaiting it, does not pass a cancellation on
            if flight.cancelled():
                raise _closed()
            if error := flight.result():
                raise error
        return known

    def expect(self, key: Key) -> None:
        """Begin to fetch a key that will be asked for soon, beside the media that it opens.

        Should that fail, `get` tries again.  Raises `EncryptedSource` as `get` does.
        """
        check_supported(key)
        if key.uri is not None and not _is_inline(key.uri) and key.uri not in self._keys:
            self._flight(key.uri)

    def knows(self, key: Key) -> bool:
        """Whether `get` has it without asking anybody."""
        return key.uri is not None and (_is_inline(key.uri) or key.uri in self._keys)

    async def aclose(self) -> None:
        """Stop what is being fetched and forget every key.  Idempotent."""
        self._closed = True
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        if flights:
            await asyncio.wait(flights)
        self._flights.clear()
        self._keys.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # -- one fetch for all who ask -----------------------------------------------------------------

    def _recall(self, uri: str) -> bytes | None:
        known = self._keys.pop(uri, None)
        if known is not None:
            self._keys[uri] = known  # the one used last now
        return known

    def _flight(self, uri: str) -> asyncio.Task[ProxyError | None]:
        if self._closed:
            raise _closed()
        flight = self._flights.get(uri)
        if flight is None:
            flight = self._flights[uri] = asyncio.create_task(self._fetch(uri))
        return flight

    async def _fetch(self, uri: str) -> ProxyError | None:
        """Bring a key into the ring.  The error is returned: perhaps nobody waits for it."""
        try:
            found = await self._read(uri)
        except ProxyError as error:
            return error
        finally:
            self._flights.pop(uri, None)
        self._keys[uri] = found
        while len(self._keys) > self._capacity:
            del self._keys[next(iter(self._keys))]
        return None

    async def _read(self, uri: str) -> bytes:
        try:
            found = await self._fetcher.read(uri, max_bytes=RESPONSE_BYTES, what="key")
        except (Forbidden, KeyUnavailable):  # the guard's refusals read alike, whatever it was for
            raise
        except ProxyError as error:
            failure = KeyUnavailable(str(error), retry_after_s=error.retry_after_s)
            failure.upstream_status = error.upstream_status
            raise failure from error
        return _checked(found.body, redact(uri))


def _closed() -> RuntimeError:
    return RuntimeError("the key ring is closed")


def _checked(body: bytes, name: str) -> bytes:
    if len(body) != KEY_BYTES:
        raise KeyUnavailable(f"key {name}: {len(body)} bytes came instead of {KEY_BYTES}")
    return body


def _is_inline(uri: str) -> bool:
    return uri[: len(DATA_SCHEME)].lower() == DATA_SCHEME


def _inline_key(uri: str) -> bytes:
    """Read a key that stands in the playlist itself (RFC 2397): packagers do write them so.

    There is nothing to fetch, hence nothing to guard.  Only base64; its padding may be missing, as
    browsers have it.
    """
    header, comma, text = uri[len(DATA_SCHEME) :].partition(",")
    if len(uri) > DATA_URI_CHARS or not comma or not header.lower().endswith(";base64"):
        raise KeyUnavailable("key: a data: address that holds no short text in base64")
    raw = unquote_to_bytes(text)
    try:
        body = base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise KeyUnavailable("key: a data: address with malformed base64") from None
    return _checked(body, "in a data: address")
