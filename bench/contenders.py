"""Who is measured: each contender is a server in a process of its own that answers
`/stream?url=…` (or what its `target` says) with the media of an HLS address.

`bench.processes` runs them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec

from bench import mediaflow
from proxy.memory import MMAP_THRESHOLD_BYTES, TRIM_THRESHOLD_BYTES

__all__ = [
    "ASGI", "BUFFERED", "CONTENDERS", "MEDIAFLOW", "MEDIAFLOW_MP4", "MODULE", "PIPES", "RAW",
    "RAW_KEPT", "REMUXD", "REMUXD_2", "STREAMLINK", "Contender", "by_name", "everybody",
    "place",
]  # fmt: skip

MODULE = (sys.executable, "-m")
SETTINGS = {
    "REMUXD_SERVER__PORT": "{port}",
    "REMUXD_SERVER__DRAIN_S": "0",
    "REMUXD_UPSTREAM__ALLOWED_HOSTS": '["*"]',
    "REMUXD_UPSTREAM__ALLOWED_PORTS": "[]",
    "REMUXD_UPSTREAM__ALLOW_PRIVATE_ADDRESSES": "true",
    "REMUXD_SECURITY__OPEN_RELAY": "true",
    # All the clients here have one address.  What is about memory and speed has its default.
    "REMUXD_LIMITS__STREAMS": "2000",
    "REMUXD_LIMITS__STREAMS_PER_CLIENT": "2000",
    "REMUXD_LOG__LEVEL": "warning",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A command that serves; `{port}` is replaced in it, unless it says its port itself."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    says_port: bool = False  # on its first line, as JSON
    fragments: bool = True  # answers with fragmented MP4; otherwise with the bytes of the source
    waits: bool = False  # answers when it has got everything: not for live, and not paced
    target: str = "/stream?url={url}"
    playlist: bool = False  # answers with a playlist of its own: the client is a player of HLS
    wrong: str = ""  # what is known to be wrong with it and no question shows; for the report

    @property
    def streams(self) -> bool:
        """Whether it can be asked for many streams that are watched."""
        return not self.waits and not self.playlist


REMUXD = Contender(name="remuxd", command=(*MODULE, "proxy", "serve"), environment=SETTINGS)
REMUXD_2 = Contender(
    name="remuxd, 2 workers",
    command=REMUXD.command,
    environment={**SETTINGS, "REMUXD_SERVER__WORKERS": "2"},
)
ASGI = Contender(
    name="remuxd, ASGI",
    command=(
        *MODULE, "uvicorn", "--factory", "proxy.faces.asgi:create_app",
        "--port", "{port}", "--log-level", "warning", "--no-access-log",
        "--timeout-graceful-shutdown", "1",
    ),
    environment=SETTINGS,
)  # fmt: skip
PIPES = tuple(
    Contender(
        name=f"ffmpeg pipe, {movflags}",
        command=(*MODULE, "bench.ffmpeg_pipe", "--movflags", movflags),
        says_port=True,
    )
    for movflags in ("empty_moov", "delay_moov")
)
BUFFERED = Contender(
    name="buffered",
    command=(*MODULE, "bench.buffered"),
    says_port=True,
    fragments=False,
    waits=True,
)
RAW = Contender(
    name="raw pass-through",
    command=(*MODULE, "bench.passthrough"),
    says_port=True,
    fragments=False,
)
# The same with the thresholds that remuxd sets, below which the C library keeps what was freed.
# With its own it may or may not, by how the heap happens to lie; then page faults are half of the
# CPU.
RAW_KEPT = replace(
    RAW,
    name="raw pass-through, heap kept",
    environment={
        "MALLOC_MMAP_THRESHOLD_": str(MMAP_THRESHOLD_BYTES),
        "MALLOC_TRIM_THRESHOLD_": str(TRIM_THRESHOLD_BYTES),
    },
)
STREAMLINK = Contender(
    name="streamlink pipe (TS out)",
    command=(*MODULE, "bench.streamlink_pipe"),
    says_port=True,
    fragments=False,
    wrong="What comes is a transport stream, which no browser plays.",
)
MEDIAFLOW = Contender(
    name="mediaflow-proxy (HLS out)",
    command=mediaflow.COMMAND,
    environment={"LOG_LEVEL": "WARNING"},
    target="/proxy/hls/manifest.m3u8?d={url}",
    fragments=False,
    playlist=True,
    wrong="What comes is a playlist and the segments as they were, for players that know HLS.",
)
# The same work as ours, as far as it gets: only asked what it delivers, and what that costs.
MEDIAFLOW_MP4 = Contender(
    name="mediaflow-proxy (MP4 out)",
    command=mediaflow.COMMAND,
    environment={"LOG_LEVEL": "WARNING"},
    target="/proxy/stream?transcode=true&d={url}",
)
CONTENDERS = (REMUXD, ASGI, *PIPES, BUFFERED, RAW)  # whom the promised figures are about
_SHOWN = [one.name for one in (*CONTENDERS, RAW_KEPT)]


def place(name: str) -> int:
    """Return where who is called so stands in tables and pictures, however turns were taken."""
    return _SHOWN.index(name) if name in _SHOWN else len(_SHOWN)


def everybody() -> tuple[Contender, ...]:
    """Return all contenders that are installed."""
    streamlink = (STREAMLINK,) if find_spec("streamlink") else ()
    flows = (MEDIAFLOW,) if mediaflow.installed() else ()
    return (*CONTENDERS, *streamlink, *flows)


def by_name(names: Sequence[str]) -> tuple[Contender, ...]:
    """Return the contenders of these names, the usual ones for none.

    Raises:
        KeyError: there is none of that name.
    """
    known = {contender.name: contender for contender in (*everybody(), RAW_KEPT, REMUXD_2)}
    return tuple(known[name] for name in names) or CONTENDERS
