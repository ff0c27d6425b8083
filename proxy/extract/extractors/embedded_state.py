"""Media in the state that a page carries for its scripts, however deep, whatever its schema.

A text that is an address of media is a candidate; width, height and bandwidth are read beside it or
in what it stands in.  Which of several videos is the page's: one that the page's address, title or
declared video names (`claims`), and then no other.  What lies below a key such as `related`, or is
one of several videos in a list, is taken for another video.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from proxy.extract.addresses import URL_CHARACTERS, absolute, kind_of, kind_of_type
from proxy.extract.claims import Claims, claims_of
from proxy.extract.document import Document
from proxy.extract.facts import Facts, facts_of, grade_of, height_in
from proxy.extract.model import Candidate, Kind, Standing
from proxy.extract.registry import extractor
from proxy.extract.state import MEDIA_HINT, states
from proxy.extract.tree import Budget, Place, decode, elsewhere, places

__all__ = ["embedded_state"]

PARENTS = 2  # objects around an address that may tell its size
FINDS = 2000  # addresses that are looked at: a list of so many is no main video
_TYPES = ("type", "mimeType", "mime_type", "contentType", "content_type", "format", "protocol",
          "container", "ext", "kind", "delivery")  # fmt: skip
_ADDRESS_KEYS = frozenset({"url", "src", "file", "href", "uri", "source", "playbackurl", "playurl"})
_TITLES = frozenset({"title", "headline", "caption", "description", "thumbnail", "thumbnailUrl"})
_IDS = frozenset({"id", "entityId", "videoId", "video_id", "uuid", "guid", "shortcode", "slug"})
_NO_MEDIA = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".svg", ".json", ".js", ".css", ".vtt",
             ".srt", ".html", ".mp3", ".key", ".xml", ".ico")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Find:
    candidate: Candidate
    shelf: Place | None  # the list of videos in which its own may be one
    item: Place | None  # the object that is its video


@extractor("embedded_state", order=4)
def embedded_state(document: Document) -> Iterable[Candidate]:
    claims = claims_of(document)
    budget = Budget(document.limits.state_values)
    finds: list[_Find] = []
    for state in states(document):
        for find in _finds(state, document, claims, budget):
            finds.append(find)
            if len(finds) >= FINDS:
                break
    items: dict[int, set[int]] = defaultdict(set)  # of each shelf
    for find in finds:
        if find.shelf is not None and find.item is not None:
            items[id(find.shelf.value)].add(id(find.item.value))
    knows_main = any(find.candidate.standing is Standing.MAIN for find in finds)
    for find in finds:
        one = find.candidate
        several = find.shelf is not None and len(items[id(find.shelf.value)]) > 1
        if one.standing is Standing.LIKELY and (knows_main or several):
            one = replace(one, standing=Standing.OTHER)
        yield one


def _finds(
    root: Any, document: Document, claims: Claims, budget: Budget, depth: int = 0
) -> Iterator[_Find]:
    for place in places(root, budget):
        value = place.value
        members = value.items() if isinstance(value, dict) else (("", one) for one in value)
        for key, text in members:
            if not isinstance(text, str) or len(text) < 5:
                continue
            if text[0] in "{[" and depth < document.limits.nested_texts and MEDIA_HINT.search(text):
                yield from _finds(decode(text), document, claims, budget, depth + 1)
            elif kind := _kind(key, text, place):
                url = absolute(document.base, text)
                if url is not None:
                    yield _find(url, kind, key, place, claims)


def _kind(key: str, text: str, place: Place) -> Kind | None:
    """What a text is an address of; None: of nothing that is played, or it is no address."""
    if len(text) > URL_CHARACTERS or " " in text or "<" in text:
        return None
    web = text.startswith(("http://", "https://", "//"))
    if kind := kind_of(text):
        return kind if web or text.startswith(("/", "./")) or kind == "hls" else None
    if not web or text.partition("?")[0].lower().endswith(_NO_MEDIA):
        return None
    if "hls" in key.lower():
        return "hls"
    if key and key.lower() not in _ADDRESS_KEYS:
        return None
    if "hls" in place.key.lower():
        return "hls"
    if isinstance(place.value, dict):
        for name in _TYPES:
            told = kind_of_type(place.value.get(name))
            if told in {"hls", "dash"} or (told == "mp4" and "/" in str(place.value[name])[:40]):
                return told
    return None


def _find(url: str, kind: Kind, key: str, place: Place, claims: Claims) -> _Find:
    facts = _facts(key, place)
    standing, shelf, item = _standing(url, key, place, claims)
    candidate = Candidate(
        url=url,
        kind=kind,
        standing=standing,
        width=facts.width,
        height=facts.height,
        bandwidth=facts.bandwidth,
        grade=grade_of(f"{place.key}.{key}"),
    )
    return _Find(candidate=candidate, shelf=shelf, item=item)


def _facts(key: str, place: Place) -> Facts:
    facts = Facts()
    at: Place | None = place
    objects = 0
    while at is not None and objects <= PARENTS:
        if isinstance(at.value, dict):
            facts = facts.or_else(facts_of(at.value))
            objects += 1
        if at is place and facts.height is None:
            facts = facts.or_else(Facts(height=height_in(key) or height_in(place.key)))
        at = at.parent
    return facts


def _standing(
    url: str, key: str, place: Place, claims: Claims
) -> tuple[Standing, Place | None, Place | None]:
    """Climb from an address to the root, and see what its surroundings say."""
    item: Place | None = None
    shelf: Place | None = None
    main = claims.shares(url)
    edge, at = key, place
    while True:
        if elsewhere(edge):
            return (Standing.MAIN if claims.shares(url) else Standing.OTHER), None, None
        if isinstance(at.value, dict):
            if shelf is None:
                main = main or claims.names(at.value) or at.key in claims.ids
                if item is None and _is_item(at.value, holds_address=at is place):
                    item = at
                elif item is not None and _is_map(at.value):
                    shelf = at
        elif item is not None and shelf is None:
            shelf = at
        if at.parent is None:
            break
        edge, at = at.key, at.parent
    return (Standing.MAIN if main else Standing.LIKELY), shelf, item


def _is_item(values: dict[str, Any], *, holds_address: bool) -> bool:
    """Whether an object is a video, and not one of its files, which have ids at most."""
    return not _TITLES.isdisjoint(values) or (not holds_address and not _IDS.isdisjoint(values))


def _is_map(values: dict[str, Any]) -> bool:
    """Whether an object is a list by ids."""
    if len(values) < 2:
        return False
    keys = list(values)[:20]
    return all(isinstance(values[key], dict) and any(c.isdigit() for c in key) for key in keys)
