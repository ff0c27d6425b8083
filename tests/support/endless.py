"""A live stream without end, built segment by segment: tiny, exact, and from any time on.

Each segment is 8.192 s of one key picture every 2.048 s and AAC frames of 0.128 s (8 kHz, mono),
which are whole numbers of ticks: what comes out can be checked to the tick, for days.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

from tests.support import elementary, ts, ts_tables
from tests.support.clips import Audio, make_clip
from tests.support.playlists import Entry, media_text
from tests.support.ts import WRAP, Pes

FRAME_TICKS = 11_520  # 1,024 samples at 8 kHz
PICTURE_TICKS = 16 * FRAME_TICKS
PICTURES, FRAMES = 4, 64  # of a segment
SEGMENT_TICKS = PICTURES * PICTURE_TICKS
SEGMENT_S = SEGMENT_TICKS / ts.TICKS_PER_S


@functools.cache
def _material() -> tuple[ts_tables.Program, Pes, Pes]:
    """A program, a key picture and an audio frame."""
    clip = make_clip(
        audio=(Audio(sample_rate=8_000, channels=1, bitrate=8_000),),
        seconds=1.0,
        width=32,
        height=32,
        b_frames=0,
    )
    picture = clip.pictures()[0]
    sound = ts.read_pes(clip.data, clip.audio_pids[0])[0]
    size = len(elementary.split_adts(sound.payload)[0][1]) + 7
    return clip.program, picture, replace(sound, payload=sound.payload[:size])


def segment(number: int, begin_ticks: int) -> bytes:
    """Build the segment of this number; the first one begins at `begin_ticks`."""
    program, picture, sound = _material()
    begin = begin_ticks + number * SEGMENT_TICKS
    parts = [
        replace(picture, pts=(begin + n * PICTURE_TICKS) % WRAP, dts=None, pcr=None)
        for n in range(PICTURES)
    ]
    sounds = [replace(sound, pts=(begin + n * FRAME_TICKS) % WRAP) for n in range(FRAMES)]
    mixed: list[Pes] = []
    for n in range(FRAMES):
        if n % (FRAMES // PICTURES) == 0:
            mixed.append(parts[n * PICTURES // FRAMES])
        mixed.append(sounds[n])
    return ts_tables.mux(program, mixed)


@dataclass(slots=True, kw_only=True)
class Channel:
    """A playlist that slides: `text(n)` when `n` segments have been made of `total`."""

    total: int
    window: int = 6

    def text(self, made: int) -> str:
        made = min(made, self.total)
        first = max(0, made - self.window)
        entries = [Entry(uri=f"{n}.ts", duration_s=SEGMENT_S) for n in range(first, made)]
        return media_text(
            entries, target_duration_s=9, media_sequence=first, ended=made == self.total
        )
