"""What a robots.txt says (RFC 9309).  Pure.

Protego reads wildcards, the longest match and groups as the RFC has them, which the standard
library's `urllib.robotparser` does not (the first match counts there, `*` in paths is a letter).
"""

from __future__ import annotations

from urllib.parse import urlsplit

from protego import Protego

__all__ = ["MAX_BYTES", "PRODUCT", "Robots", "robots_url"]

MAX_BYTES = 500 * 1024  # RFC 9309, 2.5: the least that must be read; what is behind it is left out
PRODUCT = "remuxd"  # our product token (2.2.1), as at the start of our User-Agent


class Robots:
    """The rules of one origin; of a file that is nothing of the kind, everything is allowed."""

    def __init__(self, body: bytes) -> None:
        text = body[:MAX_BYTES].decode("utf-8", "replace").removeprefix("\ufeff")
        try:
            self._rules: Protego | None = Protego.parse(text)
        except (ValueError, RecursionError):
            self._rules = None

    def allow(self, url: str) -> bool:
        """Whether `url`, of the origin of these rules, may be read by us."""
        return self._rules is None or bool(self._rules.can_fetch(url, PRODUCT))


def robots_url(url: str) -> str:
    """Return the address of the robots.txt that is about `url` (2.3)."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/robots.txt"
