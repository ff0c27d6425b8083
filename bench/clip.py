"""The clip of the measurements: an HLS presentation of three variants, the best at 4 Mbit/s.

H.264 with B-frames and AAC in MPEG-TS, segments of 4 s with two GOPs each, as they are common.
Made by the ffmpeg command line, which the measurements need anyway, and kept in a folder of its
own: the same arguments give the same bytes, and `Clip.sha256` says so in every result.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["BEST", "MASTER", "MEDIA", "SEGMENT_S", "VARIANTS", "Clip", "Variant", "load", "make"]

MASTER = "master.m3u8"
SEGMENT_S = 4
FPS = 25
GOP_S = 2
AUDIO_BIT_PER_S = 128_000
PACKET_BYTES = 188  # ISO/IEC 13818-1, 2.4.3.2
CACHE = Path(tempfile.gettempdir()) / "remuxd-bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    width: int
    height: int
    video_bit_per_s: int

    @property
    def name(self) -> str:
        return f"{self.height}p"


VARIANTS = (
    Variant(width=1280, height=720, video_bit_per_s=3_720_000),  # with audio and TS: 4 Mbit/s
    Variant(width=640, height=360, video_bit_per_s=1_000_000),
    Variant(width=320, height=180, video_bit_per_s=300_000),
)
BEST = VARIANTS[0].name
MEDIA = f"{BEST}/index.m3u8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """An HLS presentation; `files` has the playlists and segments by their path."""

    seconds: int
    files: dict[str, bytes] = field(repr=False)

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for path in sorted(self.files):
            digest.update(path.encode() + b"\0" + self.files[path])
        return digest.hexdigest()

    def segments(self, variant: str = BEST) -> list[str]:
        """Return the paths of a variant's segments, in order."""
        return sorted(p for p in self.files if p.startswith(f"{variant}/") and p.endswith(".ts"))

    @property
    def best_bytes(self) -> int:
        """Bytes of all the best variant's segments."""
        return sum(len(self.files[path]) for path in self.segments())

    @property
    def bytes_per_s(self) -> float:
        """What the best variant plays in a second."""
        return self.best_bytes / self.seconds


def make(seconds: int) -> Path:
    """Return the folder of a clip of `seconds`, encoding it when it is not there yet.

    Raises:
        FileNotFoundError: there is no ffmpeg.
        subprocess.CalledProcessError: it failed.
    """
    command = _command(seconds)
    key = hashlib.sha256(repr(command).encode()).hexdigest()[:12]
    folder = CACHE / f"{seconds}s-{key}"
    if not folder.is_dir():
        CACHE.mkdir(exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=CACHE))
        try:
            for variant in VARIANTS:
                (work / variant.name).mkdir()
            subprocess.run(command, cwd=work, check=True)
            (work / MASTER).write_text(_master())
            work.chmod(0o755)
            try:
                work.rename(folder)
            except OSError:
                if not folder.is_dir():  # otherwise somebody else was quicker
                    raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder


@functools.cache
def load(folder: Path) -> Clip:
    """Read a clip into memory."""
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    text = files[MEDIA].decode()
    seconds = sum(
        float(line.removeprefix("#EXTINF:").rstrip(","))
        for line in text.splitlines()
        if line.startswith("#EXTINF:")
    )
    return Clip(seconds=round(seconds), files=files)


def first_bytes(segment: bytes) -> int:
    """Return how many bytes of a segment hold its first picture and its first audio frame.

    That is up to where the first PES packet of every elementary stream is complete, which is the
    packet in front of the one that begins the second (ISO/IEC 13818-1, 2.4.3.3).
    """
    begun: set[int] = set()
    last: dict[int, int] = {}  # of an elementary stream's first PES packet: where its end is
    done: set[int] = set()
    for place in range(0, len(segment), PACKET_BYTES):
        packet = segment[place : place + PACKET_BYTES]
        pid = (packet[1] & 0x1F) << 8 | packet[2]
        starts = bool(packet[1] & 0x40)
        header = 4 + (packet[4] + 1 if packet[3] & 0x20 else 0)
        if starts and packet[header : header + 3] == b"\0\0\1":
            if pid in begun:
                done.add(pid)
            begun.add(pid)
        if pid in begun and pid not in done:
            last[pid] = place + PACKET_BYTES
        if len(done) == 2:
            break
    return max(last[pid] for pid in done)


def _master() -> str:
    lines = ["#EXTM3U", "#EXT-X-VERSION:3"]
    for variant in VARIANTS:
        attributes = (
            f"BANDWIDTH={round(variant.video_bit_per_s * 1.2)}",
            f"RESOLUTION={variant.width}x{variant.height}",
            f"FRAME-RATE={FPS}.000",
            'CODECS="avc1.64001f,mp4a.40.2"',
        )
        lines += [f"#EXT-X-STREAM-INF:{','.join(attributes)}", f"{variant.name}/index.m3u8"]
    return "\n".join([*lines, ""])


def _command(seconds: int) -> tuple[str, ...]:
    best = VARIANTS[0]
    # The noise makes the encoder need the bits that it is given.
    picture = f"testsrc2=size={best.width}x{best.height}:rate={FPS},noise=alls=12:allf=t"
    names = [f"[v{index}]" for index in range(len(VARIANTS))]
    scaled = [
        f"[s{index}]scale={variant.width}:{variant.height}{name}"
        for index, (variant, name) in enumerate(zip(VARIANTS, names, strict=True))
    ]
    split = "".join(f"[s{index}]" for index in range(len(VARIANTS)))
    graph = ";".join([f"[0:v]split={len(VARIANTS)}{split}", *scaled])
    command = [
        "ffmpeg", "-nostdin", "-v", "error", "-y",
        "-f", "lavfi", "-i", picture,
        "-f", "lavfi", "-i", "sine=frequency=440:beep_factor=4:sample_rate=48000",
        "-filter_complex", graph,
    ]  # fmt: skip
    for variant, name in zip(VARIANTS, names, strict=True):
        rate = str(variant.video_bit_per_s)
        command += [
            "-map", name, "-map", "1:a", "-t", str(seconds),
            "-c:v", "libx264", "-preset", "superfast", "-bf", "3", "-pix_fmt", "yuv420p",
            "-b:v", rate, "-maxrate", rate, "-bufsize", rate,
            "-x264-params", f"keyint={FPS * GOP_S}:scenecut=0",
            "-c:a", "aac", "-b:a", str(AUDIO_BIT_PER_S), "-ac", "2",
            "-flags", "+bitexact", "-fflags", "+bitexact",
            "-f", "hls", "-hls_time", str(SEGMENT_S), "-hls_playlist_type", "vod",
            "-hls_flags", "independent_segments",
            "-hls_segment_filename", f"{variant.name}/%03d.ts", f"{variant.name}/index.m3u8",
        ]  # fmt: skip
    return tuple(command)
