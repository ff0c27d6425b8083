"""One case through the remux, and the verdict on it.

What counts as good: it is finished, or refused with an error of the family that does not say "our
own fault".  Whatever came out until then has to be what a finished stream is made of: whole boxes
that add up, decode times that grow, samples that hold something, and not much more bytes than went
in.  `boxes`, which judges that, shares no code with the remux.
"""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from fuzz.case import Case
from proxy.errors import ProxyError, RemuxFailed
from proxy.media.fragment import Fragment, InitSegment
from proxy.media.section import Format
from proxy.media.sniff import is_hopeless, is_text, recognise, sample_entries
from tests.support import boxes
from tests.support.box_tree import BoxError
from tests.support.sources import Output, attempt

# What `read` hands out at most, over and over: chunks of a network, and their odd ends.
_READ_SIZES = (32768, 1448, 188, 7, 4096)

# Output per input: every sample may be a byte long, and costs 16 bytes in its `trun`; what a GOP
# repeats (parameter sets of another section) comes on top.
_MOST_GROWTH = 20
_HEADERS_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a case."""

    outcome: str  # `finished`, or the code of the error
    fault: Literal[
        "", "our_fault", "foreign_error", "bad_output", "memory", "hang", "crash", "noise"
    ]
    text: str = ""
    output_bytes: int = 0
    cpu_s: float = 0.0
    memory_bytes: int = 0  # peak of the resident set above what it was before

    def document(self) -> dict[str, Any]:
        return asdict(self)


def judge(case: Case, *, budget_bytes: int) -> Verdict:
    """Run a case and judge it.

    Args:
        case: what is played.
        budget_bytes: of memory that it may take.
    """
    before = _resident_bytes(reset=True)
    began_s = time.process_time()
    outcome, fault, text, size = _run(case)
    cpu_s = time.process_time() - began_s
    memory = max(_resident_bytes(reset=False) - before, 0)
    if not fault and memory > budget_bytes:
        fault, text = "memory", f"{memory >> 20} MiB"
    return Verdict(
        outcome=outcome,
        fault=fault,
        text=text,
        output_bytes=size,
        cpu_s=cpu_s,
        memory_bytes=memory,
    )


def _run(case: Case) -> tuple[str, Any, str, int]:
    try:
        for pieces in case.inputs:
            for piece in pieces:
                _sniff(piece.data)
    except Exception as odd:  # noqa: BLE001 - that is what is looked for
        return "sniff", "foreign_error", repr(odd), 0
    output = attempt(*case.scripts(_READ_SIZES), wish=case.wish)
    error = output.error
    outcome = "finished" if error is None else getattr(error, "code", type(error).__name__)
    text = f"{error}" if error is not None else ""
    size = sum(len(part.data) for part in output.parts)
    if any(isinstance(one, MemoryError) for one in _causes(error)):
        return outcome, "memory", text, size
    if isinstance(error, RemuxFailed):
        return outcome, "our_fault", text, size
    if error is not None and not isinstance(error, ProxyError):
        return outcome, "foreign_error", repr(error), size
    try:
        _check(output, case.size)
    except (BoxError, AssertionError) as wrong:
        return outcome, "bad_output", f"{type(wrong).__name__}: {wrong}", size
    return outcome, "", text, size


def _sniff(data: bytes) -> None:
    """As the intake looks at segments before they reach the remux."""
    for head, complete in ((data[:700], False), (data[:65536], True)):
        found = recognise(head, complete=complete)
        if found is not None:
            kind: Format = found.format
            assert kind
            assert 0 <= found.start <= len(head)
        is_hopeless(head)
        is_text(head)
        sample_entries(head)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _check(output: Output, input_bytes: int) -> None:
    if not output.parts:
        return
    assert isinstance(output.parts[0], InitSegment), "the first part is no init segment"
    assert output.parts[0].codecs, "no codecs"
    for part in output.parts[1:]:
        assert isinstance(part, Fragment), "a second init segment"
    data = output.data
    most = input_bytes * _MOST_GROWTH + _HEADERS_BYTES
    assert len(data) <= most, f"{len(data)} bytes out of {input_bytes}"
    movie = boxes.read(data)
    assert movie.tracks, "no track"
    assert len(movie.fragments) == len(output.fragments), "a part is no fragment"
    for track in movie.tracks:
        assert 0 < track.timescale < 1 << 32
        _check_times(track, movie.samples(track))


def _check_times(track: boxes.Track, samples: Sequence[boxes.Sample]) -> None:
    for before, behind in pairwise(samples):
        assert before.decode_time < behind.decode_time, (
            f"{track.handler}: decode time {behind.decode_time} behind {before.decode_time}"
        )
        if before.fragment == behind.fragment:
            assert before.duration > 0
    longest = max((abs(one.composition_offset) for one in samples), default=0)
    assert longest <= 60 * track.timescale, f"{track.handler}: offset of {longest} ticks"
    assert all(sample.data for sample in samples), f"{track.handler}: an empty sample"


def _resident_bytes(*, reset: bool) -> int:
    """Return the peak of the resident set since it was last reset."""
    if reset:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5)
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
