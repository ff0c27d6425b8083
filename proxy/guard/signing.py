"""Signed URLs: a query that only who knows a secret can write, good until it expires.  Pure.

    /stream?expires=1767225600&key_id=a&url=https%3A%2F%2F...&signature=mbXq...

The signature is HMAC-SHA256 over `PURPOSE` and the parameters just as they are written, sorted as
bytes, joined by `&`, all but the signature itself; in base64url without padding.  Rules:

1. It covers the text, not its meaning: no byte is decoded before the signature holds, and another
   spelling of the same parameters is another query.  Only their order is free, since caches in
   between sort queries.
2. A query in which one of the three names occurs, however it is spelled, is a signed one and must
   hold, whether signatures are required or not.
3. The path of /stream and /inspect is not covered: one link is one wish, for GET and HEAD, and for
   both, since /inspect opens the same source and tells less of it.  The path of a route is: it is
   signed as if it were a parameter `path`, which no query may have.
4. Every secret verifies, the first one signs: a new one is put in front, an old one taken out when
   the links that it signed have expired.
5. All refusals read alike but one: a link that did hold may be told that it has expired.
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes

from proxy.errors import Forbidden

__all__ = ["PARAMETERS", "Settings", "Signatures", "sign"]

PARAMETERS = ("expires", "key_id", "signature")
PURPOSE = b"remuxd-url-1\n"  # whatever else a secret may sign is no link, and the other way round
SECRET_BYTES = 32  # as long as the MAC (RFC 2104, section 3)
SKEW_S = 30  # how far the clocks of signer and server may be apart
REFUSED = "This link is not signed, or its signature does not hold."
EXPIRED = "This link has expired."

_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,31}")  # too short for a secret put in the wrong place
_SECONDS = re.compile(rb"[1-9][0-9]{0,11}")
_NAMES = frozenset(name.encode() for name in PARAMETERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A bad value raises `ValueError` that names the key, and shows no secret."""

    keys: Mapping[str, str] = field(default_factory=dict, repr=False)  # id → secret; first signs
    required: bool = False  # whether a query without a signature is refused
    lifetime_s: int = 24 * 60 * 60  # the longest a link may be good for: how long a leak hurts

    def __post_init__(self) -> None:
        for key_id, secret in self.keys.items():
            if not _KEY_ID.fullmatch(key_id):
                raise ValueError("an id must be 1 to 31 of A-Z a-z 0-9 . _ -")
            if len(secret.encode()) < SECRET_BYTES:
                msg = f"the secret of {key_id!r} has fewer than {SECRET_BYTES} bytes"
                raise ValueError(msg)
        if self.required and not self.keys:
            raise ValueError("signatures are required, and there is no key")


def sign(
    parameters: Mapping[str, str],
    *,
    key_id: str,
    secret: str,
    expires: int,
    path: str | None = None,
) -> str:
    """Return the signed query that asks for `parameters` (names and values, not encoded).

    `expires` is in seconds since 1970; servers refuse what is further ahead than they allow.
    `path`: of a route, as in `Signatures.check`; the query holds for that path alone.

    Raises:
        ValueError: `parameters` holds one that signing adds.
    """
    if _NAMES & {name.encode() for name in parameters}:
        raise ValueError(f"{', '.join(PARAMETERS)} are added by signing")
    told = {**parameters, "expires": str(expires), "key_id": key_id}
    parts = [f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in told.items()]
    covered = [part.encode() for part in parts] + _path_parts(path)
    signature = _signature(secret.encode(), covered)
    return "&".join([*sorted(parts), f"signature={signature.decode()}"])


class Signatures:
    """What one server signs and checks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._secrets = {key.encode(): secret.encode() for key, secret in settings.keys.items()}
        self._nobodys = secrets.token_bytes(SECRET_BYTES)  # as slow as any, and never right

    def check(
        self, query: str, *, now_s: float, path: str | None = None, required: bool | None = None
    ) -> None:
        """Let a query pass that is signed as it must be, or is not and need not be.

        Args:
            query: as it came, without the question mark; lone surrogates for what is no UTF-8.
            now_s: seconds since 1970.
            path: of a route, decoded and without base path; None: not covered.
            required: instead of what the settings say.

        Raises:
            Forbidden: with one text for all, but for `EXPIRED`; the message says why.
        """
        parts = query.encode("utf-8", "surrogatepass").split(b"&")
        if not any(_name(part) in _NAMES for part in parts):
            if self._settings.required if required is None else required:
                raise Forbidden("it is not signed", detail=REFUSED, rule="signature")
            return
        key_id, expires = _only(b"key_id=", parts), _only(b"expires=", parts)
        given = _only(b"signature=", parts)
        covered = [part for part in parts if not part.startswith(b"signature=")]
        covered += _path_parts(path)
        expected = _signature(self._secrets.get(key_id, self._nobodys), covered)
        # Both as text: of the many spellings of 32 bytes in base64url only one is equal.
        if not hmac.compare_digest(expected, given):
            raise Forbidden("the signature does not hold", detail=REFUSED, rule="signature")
        if not _SECONDS.fullmatch(expires):
            raise Forbidden("`expires` is no number", detail=REFUSED, rule="signature")
        left_s = int(expires) - now_s
        if left_s < -SKEW_S:
            raise Forbidden("the link has expired", detail=EXPIRED, rule="expired")
        if left_s > self._settings.lifetime_s + SKEW_S:
            raise Forbidden("`expires` is too far ahead", detail=REFUSED, rule="signature")


def _signature(secret: bytes, parts: list[bytes]) -> bytes:
    mac = hmac.digest(secret, PURPOSE + b"&".join(sorted(parts)), "sha256")
    return urlsafe_b64encode(mac).rstrip(b"=")


def _path_parts(path: str | None) -> list[bytes]:
    """What a path adds to the parameters that are signed."""
    if path is None:
        return []
    return [b"path=" + quote(path, safe="", errors="surrogatepass").encode()]


def _name(part: bytes) -> bytes:
    """The name of a parameter as whoever reads the query would decode it."""
    return unquote_to_bytes(part.partition(b"=")[0])


def _only(prefix: bytes, parts: list[bytes]) -> bytes:
    """The value of what occurs exactly once, or nothing."""
    found = [part for part in parts if part.startswith(prefix)]
    return found[0].removeprefix(prefix) if len(found) == 1 else b""
