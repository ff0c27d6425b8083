"""libav's own voice: its log routed into ours, and which libraries these are; also whether our own
demuxer stands beside them.

PyAV silences libav unless it is told otherwise: nothing of it reaches stderr.  `listen` lets it
speak through Python's `logging`, where a handler of ours takes it on to `proxy.media.libav`: a
level lower than libav thinks, since a damaged source is no trouble of this process, and no more
than `_BURST` lines at a time, since who sends the source decides how many there are.  The last
line of a thread is kept for the error that the remux on it may end with.

Why that is safe, though PyAV warns of threads: its callback takes the GIL wherever libav speaks.
(1) We have libav open, read and parse only, which PyAV does without the GIL; the decoders that
probing may open are those of audio, which run on the calling thread.  So nobody who holds a lock of
libav waits for the GIL while its owner waits for that lock.  (2) The lock inside the callback is
not reentrant, and a collection of garbage that begins under it may make libav speak again: what
allocates under it is the counting of repeated lines, which is switched off.
`tests/media/test_libav.py` has many threads shout at once.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable

import av
import av.logging

from proxy.media.plain import compiled

_log = logging.getLogger("proxy.media.libav")

# Lines that may be written at a time, and seconds after which one more may be.
_BURST = 20
_REFILL_S = 1.0

# As PyAV hands libav's levels on → as we log them.
_LEVELS = {logging.CRITICAL: logging.ERROR, logging.ERROR: logging.WARNING}

# The first release of FFmpeg in which the published holes are closed that a demuxer or muxer of
# ours might meet: CVE-2026-107697 (the HLS demuxer opens what it should not) and CVE-2026-75141 (a
# heap overflow in the writer of hvcC).
_FLOOR = (8, 1, 3)

# What libav complains of in every healthy stream: that we open no decoder for pictures.
_OURS = "not on whitelist"

_said = threading.local()


class _Router(logging.Handler):
    """Takes libav's records on to our log."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._tokens = float(_BURST)
        self._filled_s = clock()
        self._left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        name = record.name.removeprefix("libav.")
        text = f"{name}: {record.getMessage()}"
        if _OURS in text:
            return
        _said.last = text
        level = _LEVELS.get(record.levelno, logging.INFO)
        if not _log.isEnabledFor(level):
            return
        now_s = self._clock()
        self._tokens = min(self._tokens + (now_s - self._filled_s) / _REFILL_S, _BURST)
        self._filled_s = now_s
        if self._tokens < 1:
            self._left_out += 1
            return
        self._tokens -= 1
        if self._left_out:
            text += f" ({self._left_out} lines before it were left out)"
            self._left_out = 0
        _log.log(level, "%s", text)


def listen(clock: Callable[[], float] = time.monotonic) -> None:
    """Route libav's log into ours, for the whole process; again: begin anew.

    Args:
        clock: seconds, for the bound on lines.
    """
    logger = logging.getLogger("libav")
    for handler in logger.handlers[:]:
        if isinstance(handler, _Router):
            logger.removeHandler(handler)
    logger.addHandler(_Router(clock))
    logger.propagate = False
    av.logging.set_skip_repeated(False)
    av.logging.set_level(av.logging.ERROR)


def forget() -> None:
    """Forget what libav said on this thread."""
    _said.last = None


def last_words() -> str | None:
    """Return what libav said last on this thread since `forget`; None without `listen`."""
    last: str | None = getattr(_said, "last", None)
    return last


def versions() -> str:
    """Return the versions of PyAV and of the libraries in it, for the log."""
    names = ("libavformat", "libavcodec", "libavutil")
    libraries = ", ".join(
        f"{name} {'.'.join(map(str, av.library_versions[name]))}" for name in names
    )
    return f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info} ({libraries})"


def warning() -> str | None:
    """Return what to tell the operator about these libraries, if anything."""
    version = _release(av.ffmpeg_version_info)
    if version is None or version >= _FLOOR:
        return None
    floor = ".".join(map(str, _FLOOR))
    return (
        f"FFmpeg {av.ffmpeg_version_info} has published holes (CVE-2026-107697, CVE-2026-75141). "
        "This program comes to neither: it never lets FFmpeg open a playlist, and it writes MP4 "
        f"itself. Still, update PyAV as soon as a wheel with FFmpeg {floor} or newer is out, or "
        "build it against one."
    )


@functools.cache
def introduce() -> None:
    """Log which libraries these are, and warn of old ones, and if what of ours is compiled is not
    there; once in a process."""
    _log.info("%s", versions())
    if compiled():
        _log.info("plain transport streams go through the compiled demuxer")
    else:
        _log.warning(
            "There is no compiled demuxer: plain transport streams go through libavformat too, "
            "which takes more CPU and memory. Install remuxd anew where a C compiler and the "
            "headers of Python are."
        )
    text = warning()
    if text is not None:
        _log.warning("%s", text)


def _release(text: str) -> tuple[int, ...] | None:
    """Return the numbers of a release; None for a build from between releases."""
    try:
        return tuple(int(part) for part in text.lstrip("n").split("-")[0].split("."))
    except ValueError:
        return None
