"""The player page: its files as they lie in this folder, read once and served by the app.

Nothing in them names a place of the server: their addresses of each other and of the API are
relative to the page, so that it works below any base path.  No outside hosts, no build.

`HEADERS` say that a browser holds the page to that: scripts, styles and connections are of this
server alone, and nobody frames it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from types import MappingProxyType

__all__ = ["FILES", "HEADERS", "File"]

_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    **{
        f"{name}.js": "text/javascript; charset=utf-8"
        for name in (
            "address",
            "download",
            "feed",
            "figures",
            "panel",
            "player",
            "problem",
            "report",
            "words",
        )
    },
    "icon.svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "media-src 'self' blob:",  # blob: is what a MediaSource is called
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",  # no text ever becomes markup
)
HEADERS = (
    ("Content-Security-Policy", "; ".join(_POLICY)),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-cache"),  # kept, and asked for again by its ETag each time
    ("Cross-Origin-Opener-Policy", "same-origin"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    body: bytes = field(repr=False)
    content_type: str
    etag: str  # strong: the same bytes have the same one in every process


def _read(name: str, content_type: str) -> File:
    body = resources.files(__name__).joinpath(name).read_bytes()
    return File(
        body=body, content_type=content_type, etag=f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    )


# By the path below the base path.
FILES: Mapping[str, File] = MappingProxyType(
    {
        "/" if name == "index.html" else f"/player/{name}": _read(name, kind)
        for name, kind in _TYPES.items()
    }
)
