"""The measurements in a tiny form, with the real contenders: that they work, not what they find."""

import asyncio
import io
import math
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import av
import pytest

from bench import clip as clips
from bench import (
    cpu,
    memory,
    paced,
    processes,
    readme,
    report,
    scale,
    steps,
    throughput,
    tree,
    ttff,
    upstream,
)
from bench.client import first_fragment_size
from bench.contenders import ASGI, CONTENDERS, PIPES, RAW, REMUXD, Contender
from bench.figures import figures
from bench.live import WINDOW, live_playlist
from bench.options import Options
from bench.passthrough import entries
from bench.results import Case, Result, commit, p95, surroundings
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
    return Options(
        folder=folder, contenders=contenders, runs=1, streams=(2,), seconds=0.5, window_s=0.2
    )


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
    monkeypatch.setattr(paced, "SETTLE_S", 0.2)
    found = []
    async with paced.pacing_origin(folder) as source:
        for contender, pace in ((RAW, "origin"), (PIPES[0], "client"), (REMUXD, "client")):
            one = await paced.run_once(
                folder, contender, 2, source=source, pace=pace, seconds=1.0, window_s=0.5
            )
            found.append(one)
    held = memory.summarise(found)
    used = cpu.summarise(found)
    # The processes of the pipe have ended, and their work counts.
    assert used.rows[1].values["whole_cpu_ms_per_mb"] > used.rows[0].values["whole_cpu_ms_per_mb"]
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


def broken(*code: str) -> Contender:
    """A contender that runs some code instead of serving."""
    return Contender(name="broken", command=(sys.executable, "-c", "; ".join(code)))


async def test_contender_that_does_not_start_stops_nobody(folder: Path) -> None:
    """Who fails is noted with the reason, and the others are measured."""
    result = await upstream.run(options(folder, broken("raise SystemExit(3)"), RAW))
    assert {row.contender for row in result.rows} == {RAW.name}
    (failure,) = result.failures
    assert (failure.contender, failure.case) == ("broken", {"start": 1})
    assert "ended with 3" in failure.reason


async def test_contender_that_breaks_a_stream_stops_nobody(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that is refused or cut is a failure of that contender alone, in every question."""
    monkeypatch.setattr(ttff, "USUAL", ((0, 0),))
    monkeypatch.setattr(paced, "IDLE_S", 0.1)
    monkeypatch.setattr(paced, "AFTER_S", 0.1)
    refusing = replace(RAW, name="refusing", target="/nothing?url={url}")
    asked = options(folder, refusing, RAW)
    for question in (ttff, throughput):
        result = await question.run(asked)
        assert {one.contender for one in result.failures} == {"refusing"}
        assert result.find(RAW.name)
        assert not result.find("refusing")
    found = await paced.collect(
        folder, asked.contenders, streams=(1,), runs=1, paces=("client",), seconds=0.5, window_s=0.2
    )
    assert [one.contender for one in found.runs] == [RAW.name]
    assert [one.contender for one in found.failures] == ["refusing"]


async def test_process_leaves_no_child_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a contender has started is gone with it, even if it does not end by itself."""
    monkeypatch.setattr(processes, "END_S", 0.2)
    child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    code = (
        "import subprocess, sys, time; "
        f"print(subprocess.Popen([sys.executable, '-c', {child!r}]).pid, flush=True); "
        "time.sleep(60)"
    )
    async with processes.process((sys.executable, "-c", code)) as running:
        assert running.stdout is not None
        started = int(await running.stdout.readline())
        assert alive(started)
    assert await asyncio.to_thread(gone, running.pid, started)


def gone(*pids: int) -> bool:
    """Tell whether processes end; what has been killed is not gone at once."""
    until_s = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < until_s:
        time.sleep(0.01)
    return not any(map(alive, pids))


def alive(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_interrupted_run_leaves_nothing(folder: Path) -> None:
    """Told to end in the middle, it puts everything away that it has started."""
    code = (
        "from bench import clip, paced, processes, contenders\n"
        f"folder = clip.make({SECONDS})\n"
        "async def main():\n"
        "    async with paced.pacing_origin(folder) as source:\n"
        "        async with processes.serving(contenders.PIPES[0]) as server:\n"
        "            print(server.pid, source.port, flush=True)\n"
        "            await paced.run_once(folder, contenders.PIPES[0], 2, source=source,\n"
        "                                 pace='origin', seconds=60, window_s=1)\n"
        "processes.run(main())\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline()
        # Its origin, two servers, and at last a process for each stream.
        deadline_s = time.monotonic() + 60
        while len(started := tree.pids(running.pid)) < 6 and time.monotonic() < deadline_s:
            time.sleep(0.05)
        assert len(started) >= 6
        running.terminate()
        running.communicate(timeout=60)
    assert running.returncode != 0
    assert gone(*started)


async def test_cpu_at_full_speed_measures_one_whole_stream(folder: Path) -> None:
    """One stream that nobody slows down has its cost, and the pipe more than doing nothing."""
    result = Result(question="cpu")
    await cpu.full_speed(options(folder, PIPES[0], RAW), result)
    pipe = result.median(PIPES[0].name, "whole_cpu_ms_per_mb", pace="none")
    raw = result.median(RAW.name, "whole_cpu_ms_per_mb", pace="none")
    assert pipe is not None
    assert raw is not None
    assert pipe > raw


async def test_steps_are_measured_and_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A remux by libavformat costs more than its demuxer, and than one of a plain transport stream;
    the report has all of them."""
    monkeypatch.setattr(steps, "SECONDS", 1.0)
    monkeypatch.setattr(steps, "STREAMS", 2)
    result = await steps.run(options(folder))
    demux_general, remux_general, demux, remux = (
        result.median(name, "cpu_ms_per_mb", how="alone") or 0.0 for name in steps.ALONE
    )
    assert 0 < demux_general < remux_general
    assert 0 < demux < demux_general
    assert 0 < remux < remux_general
    result.about = surroundings(clips.load(folder), {})
    result.write(tmp_path)
    text = report.write(tmp_path, tmp_path / "out").read_text()
    for how in ("alone", "1 stream, full speed", "2 streams, origin-paced"):
        assert f"\n\n{how}\n\n| step | CPU, ms/MB |" in text


def test_report_shows_what_was_measured_and_what_was_not(folder: Path, tmp_path: Path) -> None:
    """A figure is computed from the rows, against the better pipe, and none is made up."""
    result = Result(question="throughput")
    for contender, total_ms in ((REMUXD, 300), (PIPES[0], 1000), (PIPES[1], 800), (RAW, 200)):
        result.add(contender.name, {"streams": 1}, total_ms=total_ms, mb_per_s=1)
    result.about = surroundings(clips.load(folder), {})
    result.write(tmp_path)
    text = report.write(tmp_path, tmp_path / "out").read_text()
    assert commit() in text
    (pipe,) = [line for line in text.splitlines() if "total time / ffmpeg pipe" in line]
    assert pipe.split("|")[2:5] == [" <= 0.5 ", " 0.375 ", " kept "]
    (ttff_line, *_) = [line for line in text.splitlines() if "first fragment / limit" in line]
    assert "not measured" in ttff_line
    assert clips.load(folder).sha256[:16] in text
    assert "](../throughput.png)" in text
    assert (tmp_path / "throughput.png").stat().st_size > 1000


def test_report_says_what_went_wrong(folder: Path, tmp_path: Path) -> None:
    """Requests in excess, media that is missing and failed runs are said, each once."""
    result = Result(question="upstream")
    values = {"playlists": 1.0, "bytes_ratio": 1.0, "mp4": 1.0}
    for contender, gets, delivered in ((REMUXD, 1, 1.0), (PIPES[0], 1.5, 0.5)):
        result.add(
            contender.name,
            {"source": "master"},
            **values,
            gets=gets * 6,
            gets_per_segment=gets,
            most_gets_of_one=2,
            variants=1,
            delivered_ratio=delivered,
        )
    for _ in range(2):
        result.fail("somebody", {"source": "media"}, OSError("no answer"))
    result.about = surroundings(clips.load(folder), {})
    result.write(tmp_path)
    text = report.write(tmp_path, tmp_path).read_text()
    wrong = text.partition("### What went wrong")[2].partition("\n## ")[0]
    assert f"{PIPES[0].name}, master playlist: 9 GETs of segments, 1.50 for each" in wrong
    assert "only 50% of the media" in wrong
    assert "somebody, upstream, source media: failed 2 times: OSError: no answer" in wrong
    assert f"- {REMUXD.name}" not in wrong


def test_readme_is_filled_between_its_markers(folder: Path, tmp_path: Path) -> None:
    """Only what stands between the markers is written, again and again; without them, nothing."""
    case: Case = {"connections": "cold", "delay_ms": 20, "rate_mbit": 50, "source": "master"}
    result = Result(question="ttff", about=surroundings(clips.load(folder), {}))
    result.add(REMUXD.name, case, first_byte_ms=140.0, first_fragment_ms=141.0)
    result.add(PIPES[0].name, case, first_byte_ms=460.0, first_fragment_ms=480.0)
    result.write(tmp_path / "results")
    file = tmp_path / "README.md"
    file.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    for _ in range(2):
        report.write(tmp_path / "results", tmp_path, tmp_path)
    text = file.read_text()
    assert text.startswith(f"before\n{readme.BEGIN}\n")
    assert text.endswith(f"{readme.END}\nafter\n")
    assert "old" not in text
    assert "(results/first-fragment.png)" in text
    assert "**140 ms** (ffmpeg pipe: 460 ms)" in text
    assert commit() in text
    file.write_text("nothing of it\n")
    report.write(tmp_path / "results", tmp_path, tmp_path)
    assert file.read_text() == "nothing of it\n"


def test_eight_at_a_time_are_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many blocking clients run at once as a question asks for, on however few cores."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the tests keep theirs
    together = threading.Barrier(8)

    async def many() -> None:
        await asyncio.gather(*(asyncio.to_thread(together.wait, 10) for _ in range(8)))

    processes.run(many())


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
    result.fail("nobody", {"streams": 1}, TimeoutError("no answer"))
    again = Result.read(result.write(tmp_path))
    assert again == result
    assert again.failures[0].reason == "TimeoutError: no answer"
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
    assert entries(first) == ["003.ts", "004.ts", "005.ts"]
    assert entries(whole.decode() + "#EXT-X-ENDLIST\n")[0] == "000.ts"
    assert first.count("#EXTINF") == later.count("#EXTINF") == WINDOW
    assert "#EXT-X-MEDIA-SEQUENCE:2\n" in later
    assert "002.ts" in later
    assert "001.ts" not in later
    assert "ENDLIST" not in later
    assert math.isclose(clips.load(folder).seconds, SECONDS)
