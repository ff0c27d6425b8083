"""The flow does what timeline and fragmenter do: the same fragments, to the byte.

Every test remuxes the same bytes twice, with a flow that takes what it can and without one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import CorruptMedia
from proxy.media import plain
from proxy.media.fragment import FRAGMENT_S, Fragment, Part
from proxy.media.remux import _Remux, remux
from proxy.media.ring import BridgeClosed
from proxy.media.section import Section
from proxy.media.timeline import TrackTimeline
from proxy.media.wish import Counts, Wish
from tests.conftest import missing
from tests.support import clip_recipes, ts_edit
from tests.support.clips import Audio, Clip, make_clip

WRAP_S = (1 << 33) / 90000


@pytest.fixture(autouse=True)
def compiled() -> None:
    if not plain.compiled():
        missing("the compiled modules (a C compiler, when the package was installed)")


class Sections:
    """An input of sections that are there already, in chunks of a size."""

    broken_off = False

    def __init__(self, *datas: bytes, size: int = 50_000) -> None:
        self._datas = list(datas)
        self._size = size
        self._rest = b""

    def next_section(self) -> Section | None:
        if not self._datas:
            return None
        self._rest = self._datas.pop(0)
        return Section(explicit=True)

    def read(self, n: int, /) -> bytes:
        size = min(n, self._size)
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


@dataclass(slots=True, kw_only=True)
class Remuxed:
    """What became of an input."""

    parts: list[Part] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    flows: int = 0  # that were begun
    error: Exception | None = None

    @property
    def bytes(self) -> list[bytes]:
        return [part.data for part in self.parts]


def remuxed(
    *datas: bytes,
    flows: bool,
    size: int = 50_000,
    wish: Wish | None = None,
    emit: Callable[[Part], None] = lambda _part: None,
) -> Remuxed:
    """Remux sections, with flows or without."""
    result = Remuxed()
    settle = _Remux._settle

    def counted(state: _Remux) -> plain.Flow | None:
        flow = settle(state) if flows else None
        result.flows += flow is not None
        return flow

    def take(part: Part) -> None:
        result.parts.append(part)
        emit(part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Remux, "_settle", counted)
        try:
            remux([Sections(*datas, size=size)], take, wish, result.counts)
        except (CorruptMedia, BridgeClosed) as error:
            result.error = error
    return result


def assert_alike(*datas: bytes, size: int = 50_000, wish: Wish | None = None) -> Remuxed:
    """Remux both ways and compare; returns what the flow gave."""
    ours = remuxed(*datas, flows=True, size=size, wish=wish)
    theirs = remuxed(*datas, flows=False, size=size, wish=wish)
    assert ours.bytes == theirs.bytes
    assert ours.parts == theirs.parts
    assert (ours.counts.packets, ours.counts.left_out) == (
        theirs.counts.packets,
        theirs.counts.left_out,
    )
    assert repr(ours.error) == repr(theirs.error)
    return ours


@functools.cache
def usual() -> Clip:
    return make_clip(seconds=12.0)


CLIPS: dict[str, Callable[[], Clip]] = {
    "usual": usual,
    "29.97": lambda: make_clip(seconds=10.0, fps=Fraction(30000, 1001)),
    "23.976": lambda: make_clip(seconds=10.0, fps=Fraction(24000, 1001)),
    "50": lambda: make_clip(seconds=8.0, fps=50, bitrate=600_000),
    "no B-frames": lambda: make_clip(seconds=8.0, b_frames=0),
    "open GOP": lambda: make_clip(seconds=8.0, open_gop=True),
    "hevc": lambda: make_clip(seconds=8.0, video="hevc"),
    "44.1 kHz": lambda: make_clip(seconds=10.0, audio=(Audio(sample_rate=44_100),)),
    "16 kHz": lambda: make_clip(seconds=10.0, audio=(Audio(sample_rate=16_000, channels=1),)),
    "audio alone": lambda: make_clip(seconds=12.0, video=None),
    "video alone": lambda: make_clip(seconds=8.0, audio=()),
    "wraps": lambda: make_clip(seconds=10.0, start_s=WRAP_S - 5),
    "late audio": lambda: make_clip(seconds=8.0, audio_offset_s=0.7),
    "large fragments": lambda: make_clip(
        seconds=4.0, width=640, height=360, bitrate=12_000_000, encoder="nal-hrd=cbr"
    ),
}


@pytest.mark.parametrize("name", CLIPS)
def test_flow_gives_what_timeline_and_fragmenter_give(name: str) -> None:
    """A steady stream goes through a flow, and comes out as without one."""
    ours = assert_alike(CLIPS[name]().data)
    assert ours.error is None
    assert ours.flows >= 1


@settings(deadline=None, max_examples=25)
@given(size=st.integers(188, 120_000))
def test_flow_with_chunks_of_any_size(size: int) -> None:
    """Where chunks end makes no difference."""
    assert_alike(usual().data, size=size)


def test_flow_takes_nearly_everything() -> None:
    """Of a usual stream, timeline and fragmenter see the beginning only."""
    seen = 0
    fill = TrackTimeline.fill

    def counted(self: TrackTimeline, pts: int | None, dts: int | None) -> tuple[int, int]:
        nonlocal seen
        seen += 1
        return fill(self, pts, dts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrackTimeline, "fill", counted)
        ours = remuxed(usual().data, flows=True, size=10_000)
    assert ours.flows == 1
    assert seen < sum(ours.counts.packets.values()) / 4


RECIPES: dict[str, Callable[[], bytes]] = {
    "missing pictures": lambda: clip_recipes.missing_pictures().data,
    "without DTS": lambda: clip_recipes.without_dts().data,
    "frozen DTS": lambda: clip_recipes.frozen_dts().data,
    "backward DTS": lambda: clip_recipes.backward_dts().data,
    "PTS below DTS": lambda: clip_recipes.pts_below_dts().data,
    "untimed audio": lambda: clip_recipes.untimed_audio().data,
    "changed size": lambda: clip_recipes.changed_size().data,
    "changed sets": lambda: clip_recipes.changed_sets().data,
    "leading pictures": lambda: clip_recipes.leading_pictures().data,
}


@pytest.mark.parametrize("name", RECIPES)
def test_flow_where_times_need_a_look(name: str) -> None:
    """What is out of the ordinary is left to those who know what to do."""
    data = RECIPES[name]()
    for size in (3_000, 50_000):
        assert_alike(data, size=size)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_flow_with_times_spoilt_anywhere(data: st.DataObject) -> None:
    """PES packets in the middle lose their times, move or go: the same comes out."""
    clip = usual()
    spoilt = clip.data
    for _ in range(data.draw(st.integers(1, 3))):
        pid = data.draw(st.sampled_from([clip.video_pid, *clip.audio_pids]))
        number = data.draw(st.integers(20, 250 if pid == clip.video_pid else 90))
        how = data.draw(st.sampled_from(["untimed", "undated", "gone", "moved", "jumped"]))
        if how == "untimed":
            spoilt = ts_edit.without_times(spoilt, pid, [number])
        elif how == "undated" and pid == clip.video_pid:
            spoilt = ts_edit.without_dts(spoilt, pid, [number])
        elif how == "gone":
            spoilt = ts_edit.drop_pes(spoilt, pid, range(number, number + 3))
        elif how == "moved":
            ticks = data.draw(st.integers(-4000, 4000))
            spoilt = ts_edit.move(spoilt, pid, ticks, [number])
        else:
            spoilt = ts_edit.move(spoilt, pid, 20 * 90_000, range(number, 10_000))
    assert_alike(spoilt, size=data.draw(st.sampled_from([1_000, 7_777, 60_000])))


def test_flow_ends_with_its_section() -> None:
    """Behind a discontinuity another flow begins, on the new clock."""
    ours = assert_alike(usual().data, make_clip(seconds=6.0, start_s=500.0).data)
    assert ours.flows == 2


def test_flow_leaves_a_damaged_place_to_libavformat() -> None:
    """Bytes that are no packet end the flow, and nothing is lost or twice."""
    data = usual().data
    place = len(data) // 2 // 188 * 188
    ours = assert_alike(data[:place] + b"\0" * 100 + data[place:])
    assert ours.flows == 1


@pytest.mark.parametrize("wish", [Wish(end_s=6.0), Wish(start_s=3.0, end_s=9.0)])
def test_flow_is_not_for_clips_with_an_end(wish: Wish) -> None:
    """Where an end is wished, every sample is looked at."""
    assert assert_alike(usual().data, wish=wish).flows == 0


def test_flow_behind_a_wished_start() -> None:
    """A clip that begins later and goes on to the end flows from there."""
    assert assert_alike(usual().data, wish=Wish(start_s=3.0)).flows == 1


def test_flow_whose_client_leaves() -> None:
    """An error of `emit` comes out, and what was copied until then is counted."""

    def leave(part: Part) -> None:
        if isinstance(part, Fragment) and part.sequence == 12:
            raise BridgeClosed

    ours = remuxed(usual().data, flows=True, emit=leave, size=5_000)
    assert isinstance(ours.error, BridgeClosed)
    assert len(ours.parts) == 13
    played_s = sum(part.duration_s for part in ours.parts if isinstance(part, Fragment))
    assert played_s - 0.1 <= ours.counts.packets["video"] / 25 <= played_s + 2 * FRAGMENT_S
