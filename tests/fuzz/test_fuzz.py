"""The fuzzer in small: a fixed run of it, what it has found so far, and that it can find things."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fuzz import seeds
from fuzz.case import Case, Piece, load
from fuzz.judge import judge
from fuzz.mutate import damaged
from fuzz.runner import REPOSITORY, Summary, failing, replay, run
from proxy.media import remux as remuxing
from proxy.media.fragment import Fragmenter
from proxy.media.wish import Wish

CRASHERS = sorted((REPOSITORY / "fuzz" / "crashers").glob("*.json"))
BUDGET_BYTES = 64 << 20


def test_damaged_clips() -> None:
    """Two hundred damaged clips are finished or refused: no crash, no hang, no memory beyond the
    budget, nothing on stderr, and no output that does not add up."""
    summary = Summary()
    for result in run(1, 0, 200, corpus=True):
        summary.add(result)
    assert sum(summary.outcomes.values()) == 200
    assert not summary.failures, summary.text()
    assert summary.outcomes["finished"] > 50, "the damage lets nothing through"
    assert summary.outcomes["corrupt_media"] > 20, "the damage does nothing"


@pytest.mark.parametrize("file", CRASHERS, ids=lambda file: str(file.stem))
def test_kept_case(file: Path) -> None:
    """What once made the remux fail is finished or refused now."""
    verdict = replay(file)
    assert not verdict.fault, verdict


@pytest.mark.parametrize("name", seeds.names(corpus=False))
def test_undamaged_clips(name: str) -> None:
    """Every clip is finished as long as it is whole: what fails later is the damage."""
    verdict = judge(seeds.make(name), budget_bytes=BUDGET_BYTES)
    assert (verdict.outcome, verdict.fault) == ("finished", ""), verdict


def test_damaged_alike() -> None:
    """The same numbers damage a clip in the same way."""
    case = seeds.make("h264_aac")
    one, other, third = (damaged(case, random.Random(seed)) for seed in (7, 7, 8))
    assert one == other
    assert one != third


def test_case_file() -> None:
    """A case comes out of its file as it went in."""
    piece = Piece("mp4", bytes(range(256)), discontinuity=False)
    case = Case(
        ((Piece("mpegts", b"G" * 188), piece), (Piece("aac", b""),)), "a b", Wish(start_s=1.5)
    )
    assert load(case.dump()) == case


@pytest.mark.parametrize("how", ["crash", "hang", "noise"])
def test_failing_child_seen(how: str) -> None:
    """A child that dies, computes for ever, or writes to stderr is a failure of its case."""
    assert failing(how).fault == how


def test_memory_seen() -> None:
    """A child that takes all it can get is a failure of its case."""
    assert failing("memory").fault in {"crash", "memory"}


def test_own_fault_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign exception inside the remux is a failure."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(remuxing, "align", broken)
    verdict = judge(seeds.make("aac"), budget_bytes=BUDGET_BYTES)
    assert verdict.fault == "our_fault"


def test_bad_output_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode times that stand still are a failure."""
    real = Fragmenter.add

    def add(self: Fragmenter, index: int, pts: int, dts: int, *rest: object) -> None:
        real(self, index, pts, dts // 4096 * 4096, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Fragmenter, "add", add)
    verdict = judge(seeds.make("packed_aac"), budget_bytes=BUDGET_BYTES)
    assert verdict.fault == "bad_output"


def test_budget_seen() -> None:
    """More memory than the budget is a failure."""
    verdict = judge(seeds.make("changed_size"), budget_bytes=-1)
    assert verdict.fault == "memory"
