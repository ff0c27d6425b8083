"""The operator's token: who may see all streams and end one (RFC 6750).  Pure."""

from __future__ import annotations

import hmac
import re

from proxy.errors import Unauthorized

__all__ = ["CHALLENGE", "SHORTEST", "check", "is_token"]

CHALLENGE = 'Bearer realm="remuxd"'
SHORTEST = 16  # characters: 80 bits and more where they are random

_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # b64token, RFC 6750 section 2.1


def is_token(text: str) -> bool:
    """Whether `text` can be sent as a bearer token."""
    return _TOKEN.fullmatch(text) is not None


def check(token: str, authorization: str) -> None:
    """Make sure that the header `authorization` brings `token`, in a time that tells nothing of it.

    Raises:
        Unauthorized: it does not.
    """
    scheme, _, given = authorization.partition(" ")
    right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())
    if scheme.lower() != "bearer" or not right:
        raise Unauthorized("no operator's token" if not authorization else "a wrong one")
