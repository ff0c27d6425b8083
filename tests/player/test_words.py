"""Every error that the API may tell has words on the page."""

from __future__ import annotations

import json
import re

from proxy import errors, player
from proxy.errors import ProxyError

FAMILY = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ProxyError)
]


def told() -> dict[str, str]:
    """Code → what happened, read from the module's table."""
    text = player.FILES["/player/words.js"].body.decode()
    table = text.partition("export const WORDS = {")[2].partition("\n};")[0]
    literal = r'"(?:[^"\\]|\\.)*"'
    rows = re.findall(rf"^  (\w+): \[\s*({literal}(?: \+\s*{literal})*),\s*\S", table, re.MULTILINE)
    return {
        code: "".join(json.loads(part) for part in re.findall(literal, title))
        for code, title in rows
    }


def test_every_code_has_words() -> None:
    """No code is without words."""
    assert {kind.code for kind in FAMILY} - set(told()) == set()


def test_words_are_those_of_the_errors() -> None:
    """What happened is said as the API says it, so that it is not said twice."""
    words = told()
    assert {kind.code: words[kind.code] for kind in FAMILY} == {
        kind.code: kind.public for kind in FAMILY
    }
