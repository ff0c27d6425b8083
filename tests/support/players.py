"""Programs that play or read a stream, each asked what it got and whether it noticed a cut.

    got = await PLAYERS["mpv"](address, folder)
    assert (got.pictures, got.told) == (150, False)

Everything is counted by the client itself, behind its own decoders where it has some.  None of them
needs a screen or a sound card, and those that can do it play as fast as they can.  They run in
processes of their own, since the stream they read is served by the loop of the test.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import missing
from tests.support import boxes
from tests.support.client import TIMEOUT_S

__all__ = ["PLAYERS", "READERS", "SAMPLE_RATE", "Got", "run"]

SAMPLE_RATE = 48_000  # of the clips that are played here: stereo, 160 x 90
_FLOAT_STEREO_BYTES = 2 * 4
_I420_BYTES = 160 * 90 * 3 // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """What a client got of a stream."""

    pictures: int
    sound_end_s: float  # where its sound ends
    told: bool  # whether it said, by its exit code or in words, that something went wrong
    data: bytes = field(default=b"", repr=False)  # of those that keep the bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A command that has ended."""

    code: int
    out: bytes
    err: str


async def run(*command: str, environment: Mapping[str, str] | None = None) -> Ran:
    """Run a program to its end; skips the test where there is none of that name."""
    if shutil.which(command[0]) is None:
        missing(f"the command {command[0]}")
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **(environment or {})}, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ran(code=process.returncode, out=out, err=err.decode(errors="replace"))


# -- players ---------------------------------------------------------------------------------------


async def ffprobe(address: str, _folder: Path) -> Got:
    """Decode every frame and count it."""
    entries = "stream=codec_type,nb_read_frames,start_time"
    ran = await run(
        "ffprobe", "-v", "error", "-count_frames", "-show_entries", entries, "-of", "json", address
    )
    streams = {one["codec_type"]: one for one in json.loads(ran.out)["streams"]}
    sound_s = int(streams["audio"]["nb_read_frames"]) * 1024 / SAMPLE_RATE  # an AAC frame
    return Got(
        pictures=int(streams["video"]["nb_read_frames"]),
        sound_end_s=float(streams["audio"]["start_time"]) + sound_s,
        told=ran.code != 0 or ran.err != "",
    )


async def ffplay(address: str, _folder: Path) -> Got:
    """Play in real time, to no screen and no sound card."""
    ran = await run(
        "ffplay", "-hide_banner", "-noframedrop", "-autoexit", "-vf", "showinfo",
        "-af", "ashowinfo", address,
        environment={"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"},
    )  # fmt: skip
    return _shown(ran.err, told=ran.code != 0 or "rror" in ran.err)


async def mpv(address: str, _folder: Path) -> Got:
    """Play as fast as it goes."""
    ran = await run(
        "mpv", "--no-config", "--vo=null", "--ao=null", "--ao-null-untimed=yes", "--untimed",
        "--framedrop=no", "--vf=lavfi=[showinfo]", "--af=lavfi=[ashowinfo]",
        "--msg-level=all=warn,ffmpeg=v,cplayer=info", address,
    )  # fmt: skip
    said = ran.out.decode(errors="replace") + ran.err
    assert "End of file" in said, said
    return _shown(said, told=ran.code != 0 or "rror" in said)


def _shown(log: str, *, told: bool) -> Got:
    """Read the log of FFmpeg's filters that tell of each frame that passes."""
    pictures = re.findall(r"Parsed_showinfo_0\b.* n: *\d+ ", log)
    sound = re.findall(r"Parsed_ashowinfo_0\b.*pts_time:([\d.]+).*nb_samples:(\d+)", log)
    assert sound, log
    at_s, samples = sound[-1]
    end_s = float(at_s) + int(samples) / SAMPLE_RATE
    return Got(pictures=len(pictures), sound_end_s=end_s, told=told)


async def gst_pipeline(address: str, folder: Path) -> Got:
    """GStreamer, its parts put together by hand."""
    return await _gst(
        folder, "souphttpsrc", f"location={address}", "!", "qtdemux", "name=demux",
        "demux.video_0", "!", "queue", "!", "avdec_h264", "!", "filesink", f"location={folder}/v",
        "demux.audio_0", "!", "queue", "!", "avdec_aac", "!", "filesink", f"location={folder}/a",
    )  # fmt: skip


async def gst_playbin(address: str, folder: Path) -> Got:
    """GStreamer as its players use it: it chooses the parts."""
    return await _gst(
        folder, "playbin", f"uri={address}", f"video-sink=filesink location={folder}/v",
        f"audio-sink=filesink location={folder}/a",
    )  # fmt: skip


async def _gst(folder: Path, *pipeline: str) -> Got:
    ran = await run("gst-launch-1.0", *pipeline)
    said = ran.out.decode(errors="replace") + ran.err
    if "no element" in said:
        missing(f"a part of GStreamer: {said}")
    assert "Got EOS" in said or ran.code != 0, said
    pictures, rest = divmod((folder / "v").stat().st_size, _I420_BYTES)
    assert rest == 0
    samples = (folder / "a").stat().st_size // _FLOAT_STEREO_BYTES
    return Got(pictures=pictures, sound_end_s=samples / SAMPLE_RATE, told=ran.code != 0)


# -- readers ---------------------------------------------------------------------------------------


async def curl(address: str, folder: Path) -> Got:
    ran = await run("curl", "--fail", "--silent", "--show-error", "-o", f"{folder}/out", address)
    return _kept((folder / "out").read_bytes(), told=ran.code != 0)


async def requests(address: str, folder: Path) -> Got:
    """Python's `requests`, reading as its documentation does for large bodies."""
    script = (
        "import sys, requests\n"
        "with requests.get(sys.argv[1], stream=True, timeout=20) as answer:\n"
        "    answer.raise_for_status()\n"
        "    with open(sys.argv[2], 'wb') as file:\n"
        "        for chunk in answer.iter_content(65536):\n"
        "            file.write(chunk)\n"
    )
    ran = await run(sys.executable, "-c", script, address, f"{folder}/out")
    assert ran.code == 0 or "ChunkedEncodingError" in ran.err, ran.err
    return _kept((folder / "out").read_bytes(), told=ran.code != 0)


def _kept(data: bytes, *, told: bool) -> Got:
    movie = boxes.read(data)
    video, audio = movie.track("vide"), movie.track("soun")
    last = movie.samples(audio)[-1]
    return Got(
        pictures=len(movie.samples(video)),
        sound_end_s=float(audio.seconds(last.composition_time + last.duration)),
        told=told,
        data=data,
    )


Client = Callable[[str, Path], Awaitable[Got]]
PLAYERS: dict[str, Client] = {
    "ffprobe": ffprobe,
    "ffplay": ffplay,
    "mpv": mpv,
    "gst-launch-1.0": gst_pipeline,
    "GStreamer playbin": gst_playbin,
}
READERS: dict[str, Client] = {"curl": curl, "Python requests": requests}
