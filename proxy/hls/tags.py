"""What the tags of both kinds of playlist share (RFC 8216bis 4.2, 4.3, 4.4.1, 4.4.2).

`TagReader` walks over the lines and hands each to the method for its tag; its two children,
`multivariant.py` and `segments.py`, add theirs.  Here are attribute lists, variables, addresses and
keys, and the budgets that keep them from growing: a reader is made for one text and used once.
Pure; the only error is `PlaylistError`, and it names the line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urljoin, urlsplit

from proxy.errors import PlaylistError, PlaylistExpandsTooFar, TooManyAttributes, TooManyKeys
from proxy.hls.lines import Limits, Line, decimal_number, whole_number
from proxy.hls.model import Key, Start

__all__ = ["Context", "TagReader", "is_yes", "malformed"]

MAX_START_OFFSET_S = 1e8  # three years of EVENT
_REFERENCE = re.compile(r"\{\$([A-Za-z0-9_-]+)\}")  # 4.3
_VARIABLE_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_HEXADECIMAL_128 = re.compile(r"0[xX]([0-9A-Fa-f]{1,32})")
_PLAIN = re.compile(  # neither dot segments nor anything else that resolving would change
    r"(https?://[\w.-]+(?::[0-9]{1,5})?/)?"
    r"(?:[\w~%-][\w.~%!$&'()*+,=@-]*/)*[\w~%-][\w.~%!$&'()*+,=@-]*(?:\?[!$-~]+)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a reader is told besides the lines."""

    base_url: str  # where the playlist came from, redirects followed
    imports: Mapping[str, str]  # the variables of the Multivariant Playlist
    limits: Limits
    split_attributes: Callable[[str], Sequence[tuple[str, str]]]  # attribute list → names, values


class TagReader:
    """What both kinds of playlist share: attribute lists, variables, addresses, keys (4.4.1, 2)."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._folder = urljoin(context.base_url, ".")
        self._variables: dict[str, str] = {}
        self._attributes_left = context.limits.attributes
        self._expanded_chars_left = context.limits.expanded_chars
        self._keys: dict[str, Key | None] = {}  # by the attribute list they were read from
        self._version = 1
        self._independent_segments = False
        self._start: Start | None = None
        self._handlers: dict[str, Callable[[Line], None]] = {
            "EXT-X-DEFINE": self._on_define,
            "EXT-X-INDEPENDENT-SEGMENTS": self._on_independent_segments,
            "EXT-X-START": self._on_start,
            "EXT-X-VERSION": self._on_version,
        }

    def _walk(self, lines: list[Line]) -> None:
        """Hand each line to the method for its tag; unknown tags are ignored (6.3.1)."""
        for line in lines:
            handler = self._handlers.get(line.tag)
            if handler is not None:
                handler(line)

    def _on_version(self, line: Line) -> None:
        self._version = whole_number(line.value) or 1

    def _on_independent_segments(self, _line: Line) -> None:
        self._independent_segments = True

    def _on_start(self, line: Line) -> None:
        attributes = self._attributes(line)
        offset_s = decimal_number(
            attributes.get("time_offset", ""),
            lowest=-MAX_START_OFFSET_S,
            highest=MAX_START_OFFSET_S,
        )
        if offset_s is not None:
            precise = is_yes(attributes, "precise")
            self._start = Start(time_offset_s=offset_s, precise=precise)

    def _on_define(self, line: Line) -> None:
        """Read EXT-X-DEFINE (4.4.2.3); what it cannot define must fail the whole playlist."""
        attributes = self._attributes(line)
        sources = [source for source in ("name", "import", "queryparam") if source in attributes]
        if len(sources) != 1:
            raise malformed(line, "needs one of NAME, IMPORT and QUERYPARAM")
        name = attributes[sources[0]]
        if not _VARIABLE_NAME.fullmatch(name):
            raise malformed(line, "has a malformed variable name")
        if name in self._variables:
            raise malformed(line, f"defines {name[:40]} a second time")
        value: str | None
        if sources[0] == "name":
            value = attributes.get("value")
        elif sources[0] == "import":
            value = self._context.imports.get(name)
        else:
            value = _query_parameter(self._context.base_url, name) or None
        if value is None:
            raise malformed(line, f"has no value for {name[:40]}")
        self._variables[name] = value

    def _attributes(self, line: Line) -> dict[str, str]:
        """Read an attribute list (4.2): names as in `group_id`, values unquoted."""
        items = self._context.split_attributes(line.value)
        self._attributes_left -= len(items)
        if self._attributes_left < 0:
            limit = self._context.limits.attributes
            raise TooManyAttributes(f"more than {limit}", line=line.number)
        return {name: self._substitute(value, line) for name, value in items}

    def _substitute(self, text: str, line: Line) -> str:
        """Replace the variable references in `text` (4.3)."""
        if "{$" not in text:
            return text

        def value(match: re.Match[str]) -> str:
            found = self._variables.get(match[1])
            if found is None:
                raise malformed(line, f"uses {match[1][:40]}, which is not defined before it")
            self._spend(len(found), line)
            return found

        return _REFERENCE.sub(value, text)

    def _address(self, uri: str, line: Line) -> str:
        """Resolve a URI against the playlist's own address (4.1)."""
        plain = _PLAIN.fullmatch(uri)
        if plain:  # most are, and urljoin would take half of the whole time
            address = uri if plain[1] else self._folder + uri
        else:
            try:
                address = urljoin(self._context.base_url, uri)
            except ValueError:
                raise malformed(line, "has an address that cannot be read") from None
        self._spend(len(address), line)
        return address

    def _spend(self, chars: int, line: Line) -> None:
        self._expanded_chars_left -= chars
        if self._expanded_chars_left < 0:
            limit = self._context.limits.expanded_chars
            raise PlaylistExpandsTooFar(f"more than {limit} characters", line=line.number)

    def _key(self, line: Line) -> Key | None:
        """Read EXT-X-KEY (4.4.4.4) or EXT-X-SESSION-KEY; None for METHOD=NONE.

        An IV that cannot be read is refused: with another one the first block of every segment
        would decrypt to noise, and nothing would notice.
        """
        if line.value in self._keys:
            return self._keys[line.value]
        if len(self._keys) >= self._context.limits.keys:
            raise TooManyKeys(f"more than {self._context.limits.keys}", line=line.number)
        attributes = self._attributes(line)
        method = attributes.get("method", "").upper()
        if not method:
            raise malformed(line, "has no METHOD")
        key = None
        if method != "NONE":
            uri = attributes.get("uri")
            if method == "AES-128" and not uri:
                raise malformed(line, "has no URI")
            iv = _HEXADECIMAL_128.fullmatch(attributes.get("iv", "0x0"))
            if not iv:
                raise malformed(line, "has an IV that is no hexadecimal number of 128 bits")
            key = Key(
                method=method,
                uri=self._address(uri, line) if uri else None,
                iv=int(iv[1], 16).to_bytes(16, "big") if "iv" in attributes else None,
                key_format=attributes.get("keyformat") or "identity",
            )
        self._keys[line.value] = key
        return key


def malformed(line: Line, what: str) -> PlaylistError:
    """Return the error for `line`; it never shows the text, which may hold tokens."""
    return PlaylistError(f"{line.tag or 'the URI line'} {what}", line=line.number)


def is_yes(attributes: Mapping[str, str], name: str) -> bool:
    return attributes.get(name, "").upper() == "YES"


def _query_parameter(url: str, name: str) -> str | None:
    for item in urlsplit(url).query.split("&"):
        key, _, value = item.partition("=")
        if unquote(key) == name:
            return unquote(value)
    return None
