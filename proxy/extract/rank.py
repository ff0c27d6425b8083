"""Which candidate comes first.  Plain, and the same for all extractors:

1. Standing: what the page says of itself, then what is merely there, then what looks like another
   video.
2. Kind: HLS, then a player page, then a plain MP4, then DASH.
3. The order of the extractor: what knows the site, JSON-LD, Open Graph, <video>, embedded state.
4. Bandwidth, then height and width, then the grade of its key: the most first.
5. The order of the page.

So an MP4 that the page calls its video stands before an HLS resource that lies somewhere in its
state, unless that shares its name; and a player page before the MP4 beside it, for its HLS.
"""

from __future__ import annotations

from collections.abc import Iterable

from proxy.extract.model import Candidate, Limits

__all__ = ["ranked"]

_KINDS = ("hls", "page", "mp4", "dash")


def ranked(
    found: Iterable[tuple[int, Candidate]], *, url: str, limits: Limits
) -> tuple[Candidate, ...]:
    """Put candidates, each with the order of its extractor, into their order, each address once.
    `url` is the page's own, which leads nowhere new."""
    order = sorted(found, key=_key)  # stable: rule 5
    once: dict[str, Candidate] = {}
    for _, candidate in order:
        if candidate.url != url:
            once.setdefault(candidate.url, candidate)
    return tuple(once.values())[: limits.candidates]


def _key(pair: tuple[int, Candidate]) -> tuple[int, ...]:
    order, one = pair
    return (
        one.standing,
        _KINDS.index(one.kind),
        order,
        -(one.bandwidth or 0),
        -(one.height or 0),
        -(one.width or 0),
        -one.grade,
    )
