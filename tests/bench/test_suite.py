"""The measurements in a tiny form, with the real contenders: that they work, not what they find."""

import io
import math
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest

from bench import clip as clips
from bench import cpu, memory, paced, report, scale, throughput, tree, ttff, upstream
from bench.client import first_fragment_size
from bench.contenders import ASGI, CONTENDERS, PIPES, RAW, REMUXD, Contender
from bench.figures import figures
from bench.live import WINDOW, live_playlist
from bench.options import Options
from bench.results import Result, p95, surroundings
from tests.conftest import missing

SECONDS = 12


@pytest.fixture(scope="module")
def folder() -> Path:
    """A small clip, encoded once."""
    if shutil.which("ffmpeg") is None:
        missing("the ffmpeg command line")
    if not sys.platform.startswith("linux"):
        missing("/proc")
    return clips.make(SECONDS)


def options(folder: Path, *contenders: Contender) -> Options:
    return Options(folder=folder, contenders=contenders, runs=1, streams=(2,), window_s=0.2)


async def test_upstream_counts_for_every_contender(folder: Path) -> None:
    """Each contender serves a whole stream, and ours asks for each segment once."""
    result = await upstream.run(options(folder, *CONTENDERS))
    assert {row.contender for row in result.rows} == {c.name for c in CONTENDERS}
    for row in result.rows:
        assert 0.9 < row.values["delivered_ratio"][0] < 1.1, row
    for contender in (REMUXD, ASGI):
        for row in result.find(contender.name):
            assert row.values["most_gets_of_one"] == [1]
            assert row.values["variants"] == [1]


async def test_ttff_measures_contenders_and_the_limit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every source is measured cold and warm, and nobody is before a bare client."""
    monkeypatch.setattr(ttff, "USUAL", ((10, 0),))
    result = await ttff.run(options(folder, REMUXD, RAW))
    for source in ("master", "media"):
        for connections in ("cold", "warm"):
            case = {"source": source, "connections": connections}
            limit_ms = result.median(ttff.LIMIT, "first_fragment_ms", **case)
            taken_ms = result.median(REMUXD.name, "first_fragment_ms", **case)
            assert limit_ms is not None
            assert taken_ms is not None
            assert taken_ms > limit_ms > 20  # at least two round trips
    assert result.find(REMUXD.name, source="live", connections="cold")


async def test_throughput_measures_one_and_many(folder: Path) -> None:
    """A clip comes through whole, alone and eight times at once."""
    result = await throughput.run(options(folder, REMUXD, PIPES[0]))
    assert [row.case["streams"] for row in result.find(REMUXD.name)] == [1, 8]
    assert all(row.values["times_real_time"][0] > 0 for row in result.rows)


async def test_paced_runs_answer_memory_cpu_and_scale(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both paces give memory and CPU of the whole tree, and clients at their pace are not late."""
    monkeypatch.setattr(paced, "IDLE_S", 0.1)
    monkeypatch.setattr(paced, "AFTER_S", 0.1)
    found = []
    for contender, pace in ((RAW, "origin"), (REMUXD, "client")):
        found.append(
            await paced.run_once(folder, contender, 2, pace=pace, window_s=0.5, settle_s=0.2)
        )
    held = memory.summarise(found)
    used = cpu.summarise(found, clips.load(folder))
    for contender in (RAW, REMUXD):
        (row,) = held.find(contender.name)
        assert row.values["tree_rss_mb"][0] > row.values["tree_pss_mb"][0] > 1
        assert used.median(contender.name, "whole_cpu_ms_per_mb") is not None
    # The rate of the origin, or that of the clients.
    for one in found:
        assert one.delivered_bytes < 8 * 2 * one.window_s * clips.load(folder).bytes_per_s
    carried = await scale.run(options(folder, RAW))
    (row,) = carried.rows
    assert row.values["carried"] == [1]


async def test_cpu_at_full_speed_measures_one_whole_stream(folder: Path) -> None:
    """One stream that nobody slows down has its cost, and the pipe more than doing nothing."""
    result = Result(question="cpu")
    await cpu.full_speed(options(folder, PIPES[0], RAW), result)
    pipe = result.median(PIPES[0].name, "whole_cpu_ms_per_mb", pace="none")
    raw = result.median(RAW.name, "whole_cpu_ms_per_mb", pace="none")
    assert pipe is not None
    assert raw is not None
    assert pipe > raw


def test_report_shows_what_was_measured_and_what_was_not(folder: Path, tmp_path: Path) -> None:
    """A figure is computed from the rows, against the better pipe, and none is made up."""
    result = Result(question="throughput")
    for contender, total_ms in ((REMUXD, 300), (PIPES[0], 1000), (PIPES[1], 800), (RAW, 200)):
        result.add(contender.name, {"streams": 1}, total_ms=total_ms, mb_per_s=1)
    result.about = surroundings(clips.load(folder), {})
    result.write(tmp_path)
    text = report.write(tmp_path, tmp_path / "out").read_text()
    (pipe,) = [line for line in text.splitlines() if "total time / ffmpeg pipe" in line]
    assert pipe.split("|")[2:5] == [" <= 0.5 ", " 0.38 ", " kept "]
    (ttff_line, *_) = [line for line in text.splitlines() if "first fragment / limit" in line]
    assert "not measured" in ttff_line
    assert clips.load(folder).sha256[:16] in text
    assert (tmp_path / "out" / "plots" / "throughput.png").stat().st_size > 1000


def test_figures_of_nothing_have_no_value() -> None:
    """Without results there is neither a kept nor a missed bound."""
    found = figures({})
    assert len(found) > 15
    assert {one.kept for one in found} == {None}


def test_result_is_read_as_it_was_written(folder: Path, tmp_path: Path) -> None:
    """The file keeps each value of each run."""
    result = Result(question="cpu", about=surroundings(clips.load(folder), {"runs": 2}))
    result.add("somebody", {"streams": 1}, cpu_ms_per_mb=2.0)
    result.add("somebody", {"streams": 1}, cpu_ms_per_mb=4.0)
    again = Result.read(result.write(tmp_path))
    assert again == result
    assert again.median("somebody", "cpu_ms_per_mb", streams=1) == 3.0
    assert again.median("somebody", "cpu_ms_per_mb", streams=2) is None


def test_p95_is_a_measured_value() -> None:
    """The percentile is one of the values, and the largest of a few."""
    assert p95([3.0, 1.0, 2.0]) == 3.0
    assert p95([float(one) for one in range(101)]) == 95.0


def test_tree_counts_children_that_have_ended() -> None:
    """CPU of a process that has been waited for is not lost."""
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    parent = (
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', {busy!r}])\n"
        "print('ended', flush=True)\n"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", parent]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stdout.readline() == b"ended\n"
        assert tree.pids(running.pid) == {running.pid}
        assert tree.cpu_s(running.pid) >= 0.29
        assert tree.memory(running.pid).processes == 1
        running.stdin.close()


def test_first_bytes_hold_the_first_picture_and_sound(folder: Path) -> None:
    """Cut there, a segment gives pictures and audio; some packets sooner, one is missing."""
    clip = clips.load(folder)
    segment = clip.files[clip.segments()[0]]
    size = clips.first_bytes(segment)

    def kinds(data: bytes) -> set[str]:
        with av.open(io.BytesIO(data), "r", format="mpegts") as container:
            return {packet.stream.type for packet in container.demux() if packet.size}

    assert kinds(segment[:size]) == {"video", "audio"}
    assert len(kinds(segment[: size - 20 * clips.PACKET_BYTES])) == 1


def test_first_fragment_size_needs_the_whole_mdat() -> None:
    """Only a `moof` with all of its `mdat` counts."""
    boxes = b"".join(
        (8 + size).to_bytes(4, "big") + kind + bytes(size)
        for kind, size in ((b"ftyp", 4), (b"moov", 20), (b"moof", 12), (b"mdat", 100))
    )
    assert first_fragment_size(boxes + b"more") == len(boxes)
    assert first_fragment_size(boxes[:-1]) is None
    assert first_fragment_size(boxes[:56]) is None


def test_live_playlist_moves_on(folder: Path) -> None:
    """The window begins a segment later after each segment's length, and never ends."""
    whole = b"#EXTM3U\n" + b"".join(b"#EXTINF:4,\n%03d.ts\n" % n for n in range(20))
    first = live_playlist(whole, 0).decode()
    later = live_playlist(whole, 2.5 * clips.SEGMENT_S).decode()
    assert first.count("#EXTINF") == later.count("#EXTINF") == WINDOW
    assert "#EXT-X-MEDIA-SEQUENCE:2\n" in later
    assert "002.ts" in later
    assert "001.ts" not in later
    assert "ENDLIST" not in later
    assert math.isclose(clips.load(folder).seconds, SECONDS)
