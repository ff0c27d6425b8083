"""Names: what a segment is recognised by when its playlist is loaded again.

Usually that is its path and, for ranges of one resource, its first byte: the query is where tokens
are, and they change.  Where a path alone is not enough (`segment.ts?n=12`, `segment.ts?n=13`), a
parameter that tells its segments apart belongs to the name.  Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import parse_qsl

from proxy.hls.model import Segment

__all__ = ["Name", "Names"]

Name = tuple[str, int, tuple[str | None, ...]]  # path, first byte, what the parameters say

_Query = Mapping[str, str]

# Paths whose parameters are remembered: a source has one, or a few.
_MEMORY_PATHS = 1_000


class Names:
    """Knows which parameters of which path belong to the name."""

    def __init__(self) -> None:
        self._parameters: dict[str, tuple[str, ...]] = {}  # by path

    def learn(self, segments: Iterable[Segment]) -> None:
        """Look which paths of a playlist several segments have.  What was learnt once stays."""
        shared: dict[tuple[str, int], list[str]] = defaultdict(list)
        for segment in segments:
            path, _, query = segment.uri.partition("?")
            shared[path, _first_byte(segment)].append(query)
        for (path, _), queries in shared.items():
            if len(queries) > 1 and path not in self._parameters:
                parameters = _telling([_parsed(query) for query in queries])
                if parameters and len(self._parameters) < _MEMORY_PATHS:
                    self._parameters[path] = parameters

    def of(self, segment: Segment) -> Name:
        """Return the name of a segment."""
        path, _, query = segment.uri.partition("?")
        parameters = self._parameters.get(path, ())
        said = _parsed(query) if parameters else {}
        return path, _first_byte(segment), tuple(said.get(name) for name in parameters)


def _first_byte(segment: Segment) -> int:
    return segment.byte_range.offset if segment.byte_range else 0


def _parsed(query: str) -> _Query:
    if "=" not in query:
        return {"": query}
    return dict(parse_qsl(query, keep_blank_values=True))


def _telling(queries: Sequence[_Query]) -> tuple[str, ...]:
    """Return the parameters that tell queries apart: one, if one does; and then the shortest, since
    signatures also differ from segment to segment, and change with each load."""

    def distinct(*names: str) -> int:
        return len({tuple(query.get(name) for name in names) for query in queries})

    names = list(dict.fromkeys(name for query in queries for name in query))
    varying = [name for name in names if distinct(name) > 1]
    most = distinct(*varying)
    enough = [name for name in varying if distinct(name) == most]
    if not enough:
        return tuple(varying)
    return (min(enough, key=lambda name: sum(len(query.get(name, "")) for query in queries)),)
