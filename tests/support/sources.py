"""Inputs for `remux` without rings and threads, and a judge of what comes of several sections.

    output = remuxed(Script(clip.data))                              # one section
    output = attempt(Script(a, again(b)), Script(c), wish=Wish(...)) # keeps the error it ended with
    one, two = stretches([expect(a), expect(b)], output.data)
    assert two.shift_s == smallest_shift(one, expect(b))

A `Script` hands out what it is told in pieces of any size, and breaks where it is told to.
`stretches` asserts that the packets of all sections are there, in order, and that those of one
section were moved by one shift; which one, it returns.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from proxy.errors import ProxyError
from proxy.media.fragment import Fragment, InitSegment, Part
from proxy.media.remux import remux
from proxy.media.section import Format, Section
from proxy.media.wish import Counts, Wish
from tests.conftest import missing
from tests.support import boxes
from tests.support.clips import WRAP_S
from tests.support.expected import Expected, Packet, found

TICK_S = Fraction(1, 90_000)
TOLERANCE_S = Fraction(1, 1000)
_WRAP = Fraction(1 << 33, 90_000)
assert abs(float(_WRAP) - WRAP_S) < 1e-6


# -- inputs ----------------------------------------------------------------------------------------

Told = tuple[Section, bytes]


def section(
    data: bytes,
    *,
    format: Format = "mpegts",  # noqa: A002 - the field's word
    discontinuity: bool = True,
    hole_s: float = 0.0,
    clock: int | None = None,
) -> Told:
    """Describe a section and its bytes."""
    about = Section(format=format, discontinuity=discontinuity, hole_s=hole_s, clock=clock)
    return about, data


def goes_on(data: bytes, *, hole_s: float = 0.0) -> Told:
    """A section on the clock of the one before."""
    return section(data, discontinuity=False, hole_s=hole_s)


class Script:
    """An `Input` that plays sections; bare bytes are one behind a discontinuity.

    Those whose numbers are in `broken_off` are not whole.
    `sizes` are those of the pieces that `read` returns at most, over and over; `breaks` is raised
    when `after_bytes` have been read (all of them by default), and then comes the end.
    """

    def __init__(
        self,
        *told: Told | bytes,
        sizes: Sequence[int] = (1 << 30,),
        breaks: Exception | None = None,
        after_bytes: int | None = None,
        broken_off: Collection[int] = (),
    ) -> None:
        self._broken_off = broken_off
        self._told = [one if isinstance(one, tuple) else section(one) for one in told]
        self._sizes = itertools.cycle(sizes)
        self._breaks = breaks
        total = sum(len(data) for _, data in self._told)
        self._after_bytes = total if after_bytes is None else after_bytes
        self._number = -1
        self._place = 0
        self.read_bytes = 0  # so far

    def next_section(self) -> Section | None:
        self._number += 1
        self._place = 0
        if self._number < len(self._told):
            return self._told[self._number][0]
        self._break()
        return None

    @property
    def broken_off(self) -> bool:
        return self._number in self._broken_off

    def read(self, n: int, /) -> bytes:
        if self._number >= len(self._told):
            return b""
        data = self._told[self._number][1]
        size = min(n, next(self._sizes), len(data) - self._place)
        if self._breaks is not None:
            size = min(size, self._after_bytes - self.read_bytes)
            if size == 0 and self._place < len(data):
                self._number = len(self._told)
                self._break()
                return b""
        piece = data[self._place : self._place + size]
        self._place += size
        self.read_bytes += size
        return piece

    def _break(self) -> None:
        error, self._breaks = self._breaks, None
        if error is not None:
            raise error


# -- running ---------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Output:
    """What came out of a remux."""

    parts: list[Part] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    error: Exception | None = None  # what it ended with

    @property
    def data(self) -> bytes:
        return b"".join(part.data for part in self.parts)

    @property
    def init(self) -> InitSegment:
        first = self.parts[0]
        assert isinstance(first, InitSegment)
        return first

    @property
    def fragments(self) -> list[Fragment]:
        return [part for part in self.parts if isinstance(part, Fragment)]

    @property
    def movie(self) -> boxes.Movie:
        return boxes.read(self.data)

    def times_s(self, handler: str) -> list[Fraction]:
        """The presentation times of a track (vide, soun), in decoding order."""
        movie = self.movie
        track = movie.track(handler)
        return [track.seconds(sample.composition_time) for sample in movie.samples(track)]


def attempt(
    *inputs: Script | bytes,
    wish: Wish | None = None,
    on_part: Callable[[Part], None] | None = None,
) -> Output:
    """Remux; what it raises is in the output, with all that came before.

    `on_part` sees each part when it is there, and may raise.
    """
    output = Output()

    def emit(part: Part) -> None:
        if on_part is not None:
            on_part(part)
        output.parts.append(part)

    scripts = [one if isinstance(one, Script) else Script(one) for one in inputs]
    try:
        remux(scripts, emit, wish, output.counts)
    except Exception as error:  # noqa: BLE001 - for the test to look at
        output.error = error
    return output


def remuxed(*inputs: Script | bytes, wish: Wish | None = None) -> Output:
    """Remux; raises what it raises."""
    output = attempt(*inputs, wish=wish)
    if output.error is not None:
        raise output.error
    return output


def failure(*inputs: Script | bytes, wish: Wish | None = None) -> ProxyError:
    """Remux what must fail, with an error of the family."""
    error = attempt(*inputs, wish=wish).error
    assert isinstance(error, ProxyError), error
    return error


# -- judging ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What became of one section, in seconds of the output's presentation."""

    shift_s: Fraction  # output minus source, for every packet of every track (modulo the wrap)
    begins_s: Mapping[str, Fraction]  # by kind
    ends_s: Mapping[str, Fraction]  # by kind: the last presentation's end


def stretches(
    sections: Sequence[Sequence[Expected]],
    output: bytes,
    *,
    lasts_s: Mapping[str, Fraction] | None = None,
) -> list[Stretch]:
    """Assert that the output holds all packets of these sections, in order, each section moved as
    one, with decode times that grow; return where each of them went.

    `lasts_s` says by kind what a packet lasts, where too few are left to see it.
    """
    movie = boxes.read(output)
    kinds = {"vide": "video", "soun": "audio"}
    got: dict[str, list[Packet]] = {}
    for track in movie.tracks:
        kind = kinds[track.handler]
        samples = movie.samples(track)
        for before, behind in itertools.pairwise(samples):
            assert before.decode_time < behind.decode_time, f"{kind}: decode times stand still"
        assert all(sample.composition_offset >= 0 for sample in samples), f"{kind}: PTS below DTS"
        codec = next(one for part in sections for one in part if one.kind == kind)
        got[kind] = found(codec, track, samples)
    taken = dict.fromkeys(got, 0)
    out = []
    for number, tracks in enumerate(sections):
        pairs: dict[str, list[tuple[Packet, Packet]]] = {}
        for one in tracks:
            begin = taken[one.kind]
            taken[one.kind] += len(one.packets)
            theirs = got[one.kind][begin : taken[one.kind]]
            ours = [packet.payload for packet in one.packets]
            where = f"section {number}, {one.kind}"
            assert [packet.payload for packet in theirs] == ours, f"{where}: other packets"
            pairs[one.kind] = list(zip(one.packets, theirs, strict=True))
        out.append(_stretch(number, pairs, lasts_s or {}))
    left = {kind: len(packets) - taken[kind] for kind, packets in got.items()}
    assert not any(left.values()), f"packets that no section has: {left}"
    return out


def _stretch(
    number: int,
    pairs: Mapping[str, Sequence[tuple[Packet, Packet]]],
    lasts_s: Mapping[str, Fraction],
) -> Stretch:
    shift_s: Fraction | None = None
    for kind, packets in pairs.items():
        for n, (wanted, there) in enumerate(packets):
            if wanted.time_s is None:
                continue
            moved = _time(there) - wanted.time_s
            shift_s = moved if shift_s is None else shift_s
            apart = unwrapped(moved - shift_s)
            text = f"section {number}, {kind} packet {n}: {float(apart) * 1000:.3f} ms off"
            assert abs(apart) <= TOLERANCE_S, text
    assert shift_s is not None
    times = {kind: [_time(there) for _, there in packets] for kind, packets in pairs.items()}
    return Stretch(
        shift_s=shift_s,
        begins_s={kind: min(each) for kind, each in times.items()},
        ends_s={kind: max(each) + lasts_s.get(kind, _step(each)) for kind, each in times.items()},
    )


def _time(packet: Packet) -> Fraction:
    assert packet.time_s is not None
    return packet.time_s


def _step(times: Sequence[Fraction]) -> Fraction:
    """The usual distance of presentation times, and not a hole: what the last one lasts."""
    steps = Counter(b - a for a, b in itertools.pairwise(sorted(times)))
    return min(steps, key=lambda step: (-steps[step], step), default=Fraction(0))


def unwrapped(difference_s: Fraction) -> Fraction:
    """Return what equals a difference of times modulo the 33-bit wrap and is nearest to 0."""
    return difference_s - round(difference_s / _WRAP) * _WRAP


def smallest_shift(before: Stretch, behind: Sequence[Expected], *, hole_s: float = 0) -> Fraction:
    """Return the smallest shift with which no track of `behind` overlaps itself."""
    hole = Fraction(hole_s).limit_denominator(90_000)
    return hole + max(
        before.ends_s[track.kind] - min(_times(track)) for track in behind if track.packets
    )


def _times(track: Expected) -> Iterator[Fraction]:
    return (packet.time_s for packet in track.packets if packet.time_s is not None)


def assert_decodes(output: Output, pictures: int) -> None:
    """The ffmpeg command decodes every picture, and all sound, and has nothing to say."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        missing("ffmpeg")
        return
    command = [ffmpeg, "-v", "error", "-i", "pipe:0", "-map", "0:v", "-map", "0:a?"]
    command += ["-fps_mode", "passthrough", "-f", "framecrc", "-"]
    done = subprocess.run(command, input=output.data, capture_output=True, check=False, timeout=60)
    assert done.stderr == b""
    lines = [line for line in done.stdout.splitlines() if line.startswith(b"0,")]
    assert len(lines) == pictures
