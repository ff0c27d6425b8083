"""schema.org in JSON-LD: the VideoObjects of a page, alone, in arrays, in @graph, or in others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from proxy.extract.addresses import absolute
from proxy.extract.document import Document
from proxy.extract.tree import Budget, Place, decode, elsewhere, places

__all__ = ["VideoObject", "texts", "video_objects"]

_TYPE = "application/ld+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoObject:
    values: dict[str, Any] = field(repr=False)
    listed: bool  # in a list, or below a key that leads elsewhere
    named: bool  # whether it says that this page is about it


def video_objects(document: Document) -> Iterator[VideoObject]:
    """Yield them in the order of the page."""
    budget = Budget(document.limits.state_values)
    for script in document.scripts:
        if script.type != _TYPE or "VideoObject" not in script.text:
            continue
        root = decode(script.text.strip(" \t\r\n;"))
        for place in places(root, budget):
            value = place.value
            if isinstance(value, dict) and _is_video(value.get("@type")):
                listed, named = _is_listed(place), _is_named(value, document)
                yield VideoObject(values=value, listed=listed, named=named)


def texts(value: Any) -> list[str]:
    """Return the texts of a property, which may have one value or several."""
    several = value[:10] if isinstance(value, list) else [value]
    return [one for one in several if isinstance(one, str)]


def _is_video(kind: Any) -> bool:
    return any(one.rpartition("/")[2].rpartition(":")[2] == "VideoObject" for one in texts(kind))


def _is_listed(place: Place | None) -> bool:
    while place is not None:
        if elsewhere(place.key):
            return True
        place = place.parent
    return False


def _is_named(values: dict[str, Any], document: Document) -> bool:
    page = {one.rstrip("/") for one in (document.url, document.canonical) if one}
    about = values.get("mainEntityOfPage")
    about = about.get("@id") if isinstance(about, dict) else about
    told = [*texts(values.get("url")), *texts(values.get("@id")), *texts(about)]
    return any((absolute(document.base, one) or "").rstrip("/") in page for one in told[:10])
