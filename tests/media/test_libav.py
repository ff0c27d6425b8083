"""What libav says reaches our log, bounded, and never stderr; and which libraries these are."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
import threading
from collections.abc import Iterator

import av
import av.logging
import pytest

from proxy.errors import CorruptMedia
from proxy.media import libav
from tests.conftest import REPOSITORY
from tests.support.clips import make_clip
from tests.support.sources import Script, attempt, failure, section

LOG = "proxy.media.libav"


class Clock:
    """Stands still until it is moved."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Iterator[Clock]:
    """Libav routed into our log, and silenced again."""
    clock = Clock()
    libav.listen(clock)
    yield clock
    av.logging.set_level(None)
    av.logging.set_skip_repeated(True)
    logger = logging.getLogger("libav")
    logger.handlers.clear()
    logger.propagate = True
    libav.forget()


def damaged(seed: int = 1) -> bytes:
    """A transport stream that libav complains of: every hundredth byte of its payload is noise."""
    rng = random.Random(seed)
    data = bytearray(make_clip().data)
    for place in range(2000, len(data), 100):
        if place % 188 > 20:
            data[place] = rng.randrange(256)
    return bytes(data)


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """Level and text of our records; caplog hears those of libav's own logger too."""
    return [(one.levelno, one.getMessage()) for one in caplog.records if one.name == LOG]


# An MP4 of which libav says why it is none.
BROKEN = b"\x00\x00\x00\x10ftypisom\0\0\0\0" + b"\x00\x00\x00\x20mdat" + bytes(24)


# -- the log ---------------------------------------------------------------------------------------


def test_listen_lines(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """What libav says is logged under our name, one level lower, with who said it."""
    caplog.set_level(logging.DEBUG)
    av.logging.log(av.logging.ERROR, "mpegts", "something is wrong\n")
    assert logged(caplog) == [(logging.WARNING, "mpegts: something is wrong")]


def test_listen_levels(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Its chatter is not logged, and nothing of it is an error of ours but what it calls fatal."""
    caplog.set_level(logging.DEBUG)
    for level in (av.logging.DEBUG, av.logging.INFO, av.logging.WARNING, av.logging.FATAL):
        av.logging.log(level, "h264", "x")
    assert logged(caplog) == [(logging.ERROR, "h264: x")]


def test_listen_bounded(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """A thousand lines at once are twenty; one more a second later tells how many were left out."""
    caplog.set_level(logging.INFO)
    for _ in range(1000):
        av.logging.log(av.logging.ERROR, "h264", "again")
    assert len(logged(caplog)) == 20
    clock.now_s += 1
    av.logging.log(av.logging.ERROR, "h264", "later")
    assert logged(caplog)[20:] == [
        (logging.WARNING, "h264: later (980 lines before it were left out)")
    ]


def test_listen_healthy_silent(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Of a healthy stream there is nothing to say: that no decoder is opened is our own wish."""
    caplog.set_level(logging.DEBUG)
    for clip in (make_clip(), make_clip(video="hevc", audio=("ac3",))):
        assert attempt(clip.data).error is None
    assert not logged(caplog)


# -- the error -------------------------------------------------------------------------------------


def test_last_words_in_error(clock: Clock) -> None:
    """The reason of a failure ends with what libav said last; what is public says nothing of it."""
    error = failure(Script(section(BROKEN, format="mp4")))
    assert isinstance(error, CorruptMedia)
    assert "; mov,mp4,m4a,3gp,3g2,mj2: " in str(error)
    assert error.detail == CorruptMedia.public


def test_last_words_of_own_thread(clock: Clock) -> None:
    """What libav said on another thread, or of an earlier stream, is no reason of this one."""
    av.logging.log(av.logging.ERROR, "mpegts", "earlier")
    ready, go = threading.Event(), threading.Event()

    def shout() -> None:
        ready.set()
        go.wait(20)
        av.logging.log(av.logging.ERROR, "mpegts", "elsewhere")

    other = threading.Thread(target=shout)
    other.start()
    ready.wait(20)

    class Shouted(Script):
        def read(self, n: int, /) -> bytes:
            go.set()
            other.join(20)
            return super().read(n)

    error = failure(Shouted(b"\x47" + bytes(187)))
    assert "earlier" not in str(error)
    assert "elsewhere" not in str(error)


def test_last_words_without_listening() -> None:
    """Who uses us as a library has libav as it was: silent, and errors without its words."""
    assert av.logging.get_level() is None
    failure(Script(section(BROKEN, format="mp4")))
    assert libav.last_words() is None


def test_many_threads_shout(clock: Clock) -> None:
    """Many threads in libav that all log at once do not wait for each other for ever."""
    data = damaged()
    done: list[int] = []

    def work(number: int) -> None:
        for _ in range(30):
            attempt(data)
            attempt(Script(section(BROKEN, format="mp4")))
        done.append(number)

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == list(range(8))


# -- stderr ----------------------------------------------------------------------------------------

CHILD = """
import sys
from proxy import logs
from proxy.media import libav
from tests.media.test_libav import BROKEN, damaged
from tests.support.sources import Script, attempt, section
if sys.argv[1] != "library":
    logs.configure(logs.Settings(level=sys.argv[1]))
    libav.listen()
for seed in range(20):
    attempt(damaged(seed))
error = attempt(Script(section(BROKEN, format="mp4"))).error
print(error)
"""


@pytest.mark.parametrize("level", ["library", "error", "warning"])
def test_stderr(level: str) -> None:
    """A corrupt stream prints nothing on stderr but lines of our log."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, level], cwd=REPOSITORY, capture_output=True, timeout=60,
        check=True, text=True,
    )  # fmt: skip
    lines = done.stderr.splitlines()
    assert "Invalid data" in done.stdout
    assert bool(lines) == (level == "warning")
    assert all(f"Z WARNING {LOG} " in line for line in lines), lines


# -- versions --------------------------------------------------------------------------------------


def test_versions() -> None:
    """The versions name PyAV, FFmpeg and its libraries."""
    text = libav.versions()
    assert av.__version__ in text
    assert av.ffmpeg_version_info in text
    assert f"libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}" in text


@pytest.mark.parametrize(
    ("version", "warns"),
    [
        ("8.1.2", True),
        ("7.1.5", True),
        ("n8.1.2-12-gabcdef", True),
        ("8.1.3", False),
        ("8.2", False),
        ("9.0.1", False),
        ("N-121000-g1234567", False),
    ],
)
def test_warning(monkeypatch: pytest.MonkeyPatch, version: str, warns: bool) -> None:
    """A release below the floor is warned of, with what to do; a build without a number is not."""
    monkeypatch.setattr(av, "ffmpeg_version_info", version)
    text = libav.warning()
    assert (text is not None) == warns
    if text is not None:
        assert version in text
        assert "update PyAV" in text
        assert "CVE-2026-75141" in text


def test_introduce_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It is told once in a process."""
    caplog.set_level(logging.INFO)
    libav.introduce.cache_clear()
    monkeypatch.setattr(av, "ffmpeg_version_info", "8.1.2")
    libav.introduce()
    libav.introduce()
    assert [level for level, text in logged(caplog) if "demuxer" not in text] == [
        logging.INFO,
        logging.WARNING,
    ]
    assert logged(caplog)[0][1].startswith("PyAV ")


@pytest.mark.parametrize(("there", "level"), [(True, logging.INFO), (False, logging.WARNING)])
def test_introduce_compiled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, there: bool, level: int
) -> None:
    """The log says whether the compiled demuxer is there; that it is not is no error."""
    caplog.set_level(logging.INFO)
    libav.introduce.cache_clear()
    monkeypatch.setattr(libav, "compiled", lambda: there)
    libav.introduce()
    assert [level for level, text in logged(caplog) if "compiled demuxer" in text] == [level]
