"""The state that pages carry for their scripts, cut out of the texts of <script>.

    <script type="application/json">{...}</script>      the whole text (__NEXT_DATA__, __PWS_DATA__)
    window.__INITIAL_STATE__ = {...};   f({...})         what JSON's own decoder reads there
    x = JSON.parse("{\\"a\\": ...}")                       the same, within a text
    self.__next_f.push([1, "5:{...}\\n"])                 pieces of lines: a value after a colon

No script is run: a literal of JavaScript that is no JSON is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from proxy.extract.document import Document, Script
from proxy.extract.tree import decode, decode_at

__all__ = ["MEDIA_HINT", "states"]

MEDIA_HINT = re.compile(r"m3u8|\.mpd|\.mp4|\.m4v|\.mov|\.webm|hls|mpegurl", re.IGNORECASE)

_CODE = frozenset({"", "text/javascript", "application/javascript", "module"})
_BEGINNING = re.compile(
    r"JSON\.parse\(\s{0,20}(?P<text>[\"'])|(?P<push>__next_f\.push)?[=(]\s{0,20}(?=[\[{])"
)
_SINGLE_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL)


def states(document: Document) -> Iterator[Any]:
    """Yield the values that may name media, in the order of the page."""
    flight: list[str] = []
    for script in document.scripts:
        if script.type.endswith("ld+json") or not MEDIA_HINT.search(script.text):
            if "__next_f" in script.text:  # an address may be cut in two between pieces
                list(_cut(script, flight, document.limits.failed_cuts))
            continue
        if script.type.endswith("json"):
            yield decode(script.text.strip())
        elif script.type in _CODE:
            yield from _cut(script, flight, document.limits.failed_cuts)
    for line in "".join(flight).split("\n"):
        value = line.partition(":")[2]
        if value[:1] in {"{", "["} and MEDIA_HINT.search(value):
            yield decode(value)


def _cut(script: Script, flight: list[str], failures: int) -> Iterator[Any]:
    """Yield what is JSON in a script, and keep the pieces of a flight."""
    text, at = script.text, 0
    while failures > 0 and (match := _BEGINNING.search(text, at)):
        at = match.end()
        found = _text_at(text, at - 1) if match["text"] else decode_at(text, at)
        if found is None:
            failures -= 1
            continue
        value, at = found
        if match["text"]:
            yield decode(value)
        elif match["push"] and isinstance(value, list):
            flight += [one for one in value[1:2] if isinstance(one, str)]
        else:
            yield value


def _text_at(text: str, start: int) -> tuple[Any, int] | None:
    """Read the literal of a text; what differs from JSON in it is made JSON."""
    if text[start] == '"':
        return decode_at(text, start)
    match = _SINGLE_QUOTED.match(text, start)
    if match is None:
        return None
    inner = re.sub(r"\\x([0-9a-fA-F]{2})", r"\\u00\1", match[1])
    inner = inner.replace("\\'", "'").replace('\\"', '"').replace('"', '\\"')
    value = decode(f'"{inner}"')
    return None if value is None else (value, match.end())
