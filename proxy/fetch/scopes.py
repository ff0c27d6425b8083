"""Which headers go to which origin: credentials never leave the scope they were configured for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from proxy.guard.addresses import host_matches

__all__ = ["HeaderScopes"]

_SCOPE = re.compile(
    r"(?:(?P<scheme>https?)://)?"
    r"(?P<host>\*|(?:\*\.)?[^\s:/?#@\[\]*]+|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
)
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    scheme: str | None  # None: any
    host: str  # a pattern
    port: int | None  # None: any

    @classmethod
    def parse(cls, text: str) -> _Scope:
        match = _SCOPE.fullmatch(text)
        if match is None:
            shown = text.rpartition("@")[2]  # what stands before it may be a password
            msg = f"headers: {shown!r} is no host, *.host, host:port or scheme://host"
            raise ValueError(msg)
        scheme = match["scheme"]
        port = int(match["port"]) if match["port"] else _DEFAULT_PORTS.get(scheme or "")
        return cls(scheme=scheme, host=match["host"].strip("[]").lower(), port=port)

    def covers(self, scheme: str, host: str, port: int) -> bool:
        return (
            self.scheme in (None, scheme)
            and self.port in (None, port)
            and host_matches(host, self.host)
        )


class HeaderScopes:
    """`Settings.headers`, ready to be asked.

    A scope is a host, `*.example.org`, `host:port` (any scheme), or `scheme://host[:port]` (that
    origin only).  Where several cover an address, later ones win name by name.
    Raises `ValueError` for a malformed scope.
    """

    def __init__(self, headers: Mapping[str, Mapping[str, str]]) -> None:
        self._scopes = tuple((_Scope.parse(text), dict(own)) for text, own in headers.items())

    def headers_for(self, *, scheme: str, host: str, port: int) -> dict[str, str]:
        """The headers that may be sent to this origin; empty for an origin nobody named."""
        host = host.lower().rstrip(".")
        found: dict[str, tuple[str, str]] = {}
        for scope, own in self._scopes:
            if scope.covers(scheme, host, port):
                found |= {name.lower(): (name, value) for name, value in own.items()}
        return dict(found.values())
