"""What is damaged: small clips of every kind that can be copied.

Made by the builders of the tests, so that everybody has them; where the public corpus is there,
segments of it come along, cut to `_HEAD_BYTES`: the damage has to hit something, and a case is to
be quick.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from fuzz.case import Case, Piece
from proxy.media.section import Format
from proxy.media.sniff import recognise
from tests.support import clip_recipes
from tests.support.clips import Clip, make_clip
from tests.support.fmp4 import make_fmp4
from tests.support.ts import read_pes

_HEAD_BYTES = 512 * 188

_CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus"


def _short(video: str | None = "h264", *audio: str) -> Clip:
    return make_clip(video=video, audio=audio, seconds=1.2, gop_s=0.4)


def _packed(codec: Format) -> Piece:
    clip = _short(None, codec)
    payload = b"".join(pes.payload for pes in read_pes(clip.data, clip.audio_pids[0]))
    return Piece(codec, payload)


def _fmp4(
    video: str | None = "h264", audio: str | None = "aac", *, edit_list: bool = True
) -> Piece:
    made = make_fmp4(video=video, audio=audio, seconds=1.2, gop_s=0.4, edit_list=edit_list)
    return Piece("mp4", made.data)


def _ts(clip: Clip) -> Piece:
    return Piece("mpegts", clip.data[:_HEAD_BYTES])


def _two_sections() -> Case:
    first, second = _short("h264", "aac").data, clip_recipes.changed_size().data
    return Case(
        (
            (
                Piece("mpegts", first),
                Piece("mpegts", second[:_HEAD_BYTES]),
                Piece("mpegts", first, discontinuity=False),
            ),
        )
    )


def _apart() -> Case:
    return Case(((_fmp4("h264", None),), (_fmp4(None, "aac"),)))


# Cheap to name, made when they are chosen.
_MADE: dict[str, Callable[[], Case | Piece]] = {
    "h264_aac": lambda: _ts(_short("h264", "aac")),
    "hevc_aac": lambda: _ts(_short("hevc", "aac")),
    "h264_ac3": lambda: _ts(_short("h264", "ac3")),
    "h264_eac3": lambda: _ts(_short("h264", "eac3")),
    "h264_mp3": lambda: _ts(_short("h264", "mp3")),
    "h264_opus": lambda: _ts(_short("h264", "opus")),
    "aac": lambda: _ts(_short(None, "aac")),
    "leading_hevc": lambda: _ts(clip_recipes.leading_pictures()),
    "changed_sets": lambda: _ts(clip_recipes.changed_sets()),
    "changed_size": lambda: _ts(clip_recipes.changed_size()),
    "untimed_audio": lambda: _ts(clip_recipes.untimed_audio()),
    "extra_streams": lambda: _ts(clip_recipes.extra_streams()),
    "second_program": lambda: _ts(clip_recipes.second_program()),
    "two_sections": _two_sections,
    "apart": _apart,
    "packed_aac": lambda: _packed("aac"),
    "packed_ac3": lambda: _packed("ac3"),
    "packed_eac3": lambda: _packed("eac3"),
    "packed_mp3": lambda: _packed("mp3"),
    "fmp4_h264_aac": _fmp4,
    "fmp4_no_edits": lambda: _fmp4(edit_list=False),
    "fmp4_hevc_ac3": lambda: _fmp4("hevc", "ac3"),
    "fmp4_hevc": lambda: _fmp4("hevc", None),
    "fmp4_av1_opus": lambda: _fmp4("av1", "opus"),
    "fmp4_flac": lambda: _fmp4(None, "flac"),
    "fmp4_eac3": lambda: _fmp4(None, "eac3"),
    "fmp4_mp3": lambda: _fmp4("h264", "mp3"),
}


def names(*, corpus: bool) -> list[str]:
    """Return the names of all clips, always in the same order."""
    return [*_MADE, *(_corpus_files() if corpus else ())]


@functools.cache
def make(name: str) -> Case:
    """Return a clip by its name."""
    made = _MADE[name]() if name in _MADE else _corpus_files()[name]()
    return made if isinstance(made, Case) else Case(((made,),))


@functools.cache
def _corpus_files() -> dict[str, Callable[[], Piece]]:
    """The first transport stream or fragment of each presentation of the corpus."""
    folder = Path(os.environ.get("REMUXD_CORPUS", _CORPUS))
    found: dict[str, Callable[[], Piece]] = {}
    for presentation in sorted(one for one in folder.glob("*") if one.is_dir()):
        for path in _media(presentation):
            head = path.read_bytes()[: 64 * 1024]
            recognised = recognise(head, complete=True)
            if recognised is None or (recognised.format == "mp4" and b"moov" not in head):
                continue
            name = f"{presentation.name}/{path.name}"
            found[name] = functools.partial(_read, path, recognised.format, recognised.start)
            break
    return found


def _media(presentation: Path) -> Iterator[Path]:
    for path in sorted(presentation.iterdir()):
        if path.suffix in {".ts", ".mp4", ".aac", ".ac3", ".m4s", ".mp3"}:
            yield path


def _read(path: Path, kind: Format, start: int) -> Piece:
    data = path.read_bytes()[start:]
    if kind == "mp4" and b"moof" not in data:  # an init section: its fragments are beside it
        stem = path.stem.removesuffix("init")
        fragments = sorted(path.parent.glob(f"{stem}*.m4s"))
        data += b"".join(one.read_bytes() for one in fragments[:3])
    return Piece(kind, data[:_HEAD_BYTES])
