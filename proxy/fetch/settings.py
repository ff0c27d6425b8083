"""What the fetch room can be told: limits, deadlines and headers, with defaults and reasons."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import proxy as package
from proxy.guard.addresses import AddressPolicy

__all__ = ["Settings"]

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The configuration of one `Fetcher` and of the prefetchers that use it.

    A bad value raises `ValueError` that names the field.
    """

    policy: AddressPolicy = field(default_factory=AddressPolicy)

    # Deadlines.  hls.js waits 10 s for a first byte: we are not slower to give up than a player.
    connect_timeout_s: float = 5.0  # TCP, over all addresses of a name
    tls_timeout_s: float = 5.0  # on top of it for https
    headers_timeout_s: float = 10.0  # on top of both: until the headers of the answer are complete
    read_timeout_s: float = 10.0  # the longest silence, before the headers and within the body

    # A trickle that no read timeout stops.  Counted only while we wait for bytes.
    min_rate_bytes_per_s: int = 16 * KIB  # half of a 256 kbit/s stream
    min_rate_window_s: float = 10.0
    min_rate_grace_s: float = 5.0  # time at the start that asks for nothing
    segment_deadline_s: tuple[float, float] = (20.0, 120.0)  # 4 x EXTINF, at least and at most

    # Sizes.  Those of playlists, pages and keys are given with each `read`.
    segment_bytes: int = 64 * MIB  # 25 Mbit/s x 10 s = 31 MB, twice that
    read_buffer_bytes: int = 48 * KIB  # per connection: not read any more with twice that

    # Retries.  Attempts are counted from 1; a segment's start anew after real progress.
    segment_attempts: int = 3
    playlist_attempts: int = 3  # pages and init sections too
    key_attempts: int = 2
    backoff_s: tuple[float, float] = (0.25, 2.0)  # first and longest pause; doubled in between
    retry_after_limit_s: float = 10.0  # an origin that asks for more is given up at once
    read_budget_s: float = 10.0  # no further attempt of a `read` is begun behind it

    # Connections.  A stream whose client is slow keeps its head-of-line connection for hours, so
    # this must not be below the number of streams that one origin may serve at a time.
    connections_per_host: int = 256
    redirects: int = 5
    dns_ttl_s: int = 10

    parallel_segments: int = 3  # requests in flight per stream, budget permitting (hls.js: 1)
    guessed_segment_bytes: int = 2 * MIB  # until the first length is known

    # What is sent.  `headers` maps a scope to headers that are sent there and nowhere else: a host,
    # `*.example.org`, `host:port`, or a whole origin such as `https://host:8443`.
    headers: Mapping[str, Mapping[str, str]] = field(repr=False, default_factory=dict)
    user_agent: str = field(default_factory=lambda: f"remuxd/{package.__version__}")
    instance: str = field(default_factory=lambda: secrets.token_hex(4))  # our name in Via

    proxy: str | None = field(repr=False, default=None)  # http://[user:password@]host:port
    ca_file: Path | None = None  # PEM; trusted besides the system's authorities

    def __post_init__(self) -> None:
        if self.proxy is not None:
            parts = urlsplit(self.proxy)
            if parts.scheme != "http" or not parts.hostname:
                raise ValueError("proxy: must be http://host:port")
        if self.ca_file is not None and not self.ca_file.is_file():
            msg = f"ca_file: there is no file {self.ca_file}"
            raise ValueError(msg)
        for scope, headers in self.headers.items():
            for name, value in headers.items():
                if not name or any(c in name + value for c in "\r\n\0"):
                    msg = f"headers: malformed header for {scope!r}"
                    raise ValueError(msg)
        for name in ("segment_attempts", "playlist_attempts", "key_attempts", "parallel_segments"):
            if getattr(self, name) < 1:
                msg = f"{name}: must be at least 1"
                raise ValueError(msg)

    @property
    def via(self) -> str:
        """What we put into Via; a request that carries it has come back to us (RFC 9110, 7.6.3)."""
        return f"1.1 remuxd-{self.instance}"
