"""JSON of foreign origin: decoded without surprises, and walked without recursion."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

__all__ = ["Budget", "Place", "decode", "decode_at", "elsewhere", "places"]

KEY_CHARACTERS = 60  # of a key that is read for what it says
DEPTH = 64  # objects and arrays within each other; states of real pages have some 20

# NaN and the infinities are no JSON; control characters in texts are none either, and common.
_DECODER = json.JSONDecoder(strict=False, parse_constant=lambda _: None)

# Words in a key that lead away from the main video of a page.
_ELSEWHERE = re.compile(
    r"(^|_)(related|recommend(ed|ation|ations)?|suggest(ed|ion|ions)?|similar|sidebar|trending|"
    r"popular|carousel|ads?|advert(s|isement|isements|ising)?|(pre|mid|post)_?roll|promos?|promoted|"
    r"sponsored|teasers?|trailers?|previews?|up_?next|next|more|also|others?|live_(now|channels?|"
    r"streams?|events?)|item_list_element|is_related_to)(_|$)"
)


@dataclass(slots=True)
class Budget:
    """How many values may still be looked at."""

    left: int


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """One object or array, and where it stands."""

    value: dict[str, Any] | list[Any]
    key: str = ""  # under which it stands in an object; empty in an array
    parent: Place | None = None
    depth: int = 0


def decode(text: str) -> Any:
    """Return the value of a JSON text, or None where it is none, or too deep to be read."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):  # numbers of more than 4,300 digits are a ValueError, too
        return None


def decode_at(text: str, start: int) -> tuple[Any, int] | None:
    """Return the value that begins at `start`, and where it ends; None: there is none."""
    try:
        return _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None


def places(root: Any, budget: Budget) -> Iterator[Place]:
    """Yield every object and array of a tree, in the order of the text, until the budget is up."""
    stack = [Place(root)] if isinstance(root, dict | list) else []
    while stack:
        place = stack.pop()
        budget.left -= 1 + len(place.value)
        if budget.left < 0:
            return
        yield place
        if place.depth >= DEPTH:
            continue
        value, depth = place.value, place.depth + 1
        items = value.items() if isinstance(value, dict) else (("", one) for one in value)
        inner = [
            Place(one, key, place, depth) for key, one in items if isinstance(one, dict | list)
        ]
        stack.extend(reversed(inner))


def elsewhere(key: str) -> bool:
    """Whether a key says that what is below it is not the main thing of the page."""
    return bool(key) and len(key) <= KEY_CHARACTERS and _leads_away(key)


@lru_cache(maxsize=4096)
def _leads_away(key: str) -> bool:
    words = re.sub(r"[-. ]", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)).lower()
    return _ELSEWHERE.search(words) is not None
