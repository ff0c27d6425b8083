"""Addresses as they may stand in a log: what could be a secret is left out.  Pure."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

__all__ = ["redact"]

REDACTED_LENGTH = 200  # characters of an address that are enough to find it in a playlist


def redact(url: str) -> str:
    """Shorten an address for the log: no userinfo, no query, no fragment, no control characters."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return "<malformed address>"
    host = f"[{host}]" if ":" in host else quote(host, safe="")
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~")
    return f"{quote(parts.scheme)}://{host}{port}{path}"[:REDACTED_LENGTH]
