"""Names: what a segment is recognised by when its playlist is loaded again."""

from __future__ import annotations

import pytest

from proxy.hls.names import Name, Names
from tests.support.playlists import media_text, parse_media


def names_of(*loads: list[str]) -> list[list[Name]]:
    """The names of the segments of several loads of a playlist, as one `Names` sees them."""
    names = Names()
    out: list[list[Name]] = []
    for uris in loads:
        segments = parse_media(media_text(uris)).segments
        names.learn(segments)
        out.append([names.of(segment) for segment in segments])
    return out


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["a.ts?t=1", "b.ts?t=1"], ["b.ts?t=2", "c.ts?t=2"]),  # tokens
        (["a.ts?t=1", "b.ts?t=2"], ["b.ts?t=3", "c.ts?t=4"]),  # signatures, each its own
        (["s.ts?n=1&t=7", "s.ts?n=2&t=7"], ["s.ts?n=2&t=8", "s.ts?n=3&t=8"]),
        (["s.ts?t=7abc&n=1", "s.ts?t=8abc&n=2"], ["s.ts?t=9abc&n=2", "s.ts?t=7def&n=3"]),
        (["s.ts?1", "s.ts?2"], ["s.ts?2", "s.ts?3"]),
        (["s.ts?d=1&n=1", "s.ts?d=1&n=2", "s.ts?d=2&n=1"], ["s.ts?d=2&n=1", "s.ts?d=2&n=2"]),
        (["s.ts?d=1&n=1", "s.ts?n=2&d=1"], ["s.ts?d=1&n=2"]),
    ],
)
def test_of_a_segment_in_two_loads(before: list[str], after: list[str]) -> None:
    """The last segment of a load has the same name in the next one, and no other has it."""
    first, second = names_of(before, after)
    assert first[-1] == second[0]
    assert len(set(first)) == len(first)
    assert first[-1] not in second[1:]


def test_of_the_same_address_again() -> None:
    """What comes twice has one name: a slate, whatever its token."""
    ((one, two, _),) = names_of(["slate.ts?t=1", "slate.ts?t=1", "a.ts?t=1"])
    assert one == two
