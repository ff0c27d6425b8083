"""Clean paths to playlists: what the owner of a server has written under `[[routes]]`.  Pure.

    path = "/vod/{path}.mp4"       url = "https://origin.internal/{path}/index.m3u8"

Rules of this file:
1. `{name}` stands for one or more characters of the path, slashes included, and for as few as the
   rest of the pattern allows: of "/{tenant}/{path}.mp4" the tenant has no slash.  Finding them
   looks at each character once, whatever a client sends: no regular expression, no backtracking.
2. What it stands for is text, percent-decoded once by the server.  It is encoded anew into the path
   or the query of `url`, where no character but the slash (in the path) keeps a meaning.  Scheme,
   host and port are the owner's words; a placeholder there is an error of the configuration.
3. A captured path has no empty and no dot segments, no backslash, no control character and nothing
   that is not UTF-8, also for an origin that decodes twice.  Else it is `InvalidRequest`.
4. The first route that matches counts.  One that could never be reached, because of one before it
   or of a path of our own, is an error of the configuration.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes, urlsplit

from proxy import query
from proxy.errors import InvalidRequest
from proxy.request import URL_CHARACTERS, check_url

__all__ = ["OWN_PATHS", "Match", "Route", "Routes"]

# What is answered here whatever is configured.  With a slash at its end: everything below it.
OWN_PATHS = (
    "/", "/healthz", "/inspect", "/metrics", "/openapi.json", "/player/", "/readyz", "/stream",
    "/streams", "/streams/",
)  # fmt: skip

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_STAND_IN = "\x01"  # for what a placeholder may be; no path holds it
_UNCLEAN = "The path holds an empty segment, a dot segment, a backslash or a control character."
FIXED = ("quality", "audio", "on_gap", "on_splice", "filename")  # what a route may say
OPEN = ("start", "end", "quality", "audio", "filename")  # what a client may say, of a route


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route.  A bad value raises `ValueError` that begins with the name of its key."""

    path: str  # pattern, as text: not percent-encoded
    url: str = field(repr=False)  # where the playlist is, as it goes over the wire
    fixed: Mapping[str, str] = field(default_factory=dict)  # parameters, of `FIXED`
    require_signature: bool | None = None  # None: as for /stream
    upstream: str = ""  # the name of the way that its requests take, see `StreamRequest`
    _texts: tuple[str, ...] = field(init=False, repr=False, compare=False)
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)  # of the placeholders

    def __post_init__(self) -> None:
        parts = _PLACEHOLDER.split(self.path)
        texts, names = tuple(parts[::2]), tuple(parts[1::2])
        _check_path(texts, names)
        _check_template(self.url, names)
        _check_fixed(self.fixed, names)
        object.__setattr__(self, "_texts", texts)
        object.__setattr__(self, "names", names)

    @property
    def open_parameters(self) -> tuple[str, ...]:
        """What a client may say in the query."""
        return tuple(name for name in OPEN if name not in self.fixed)

    def captures(self, path: str) -> dict[str, str] | None:
        """Return what each placeholder stands for in a decoded path; `None`: it does not match."""
        first, *others = self._texts
        if not others:
            return {} if path == first else None
        if not path.startswith(first):
            return None
        at, found = len(first), []
        for text in others[:-1]:
            end = path.find(text, at + 1)
            if end < 0:
                return None
            found.append(path[at:end])
            at = end + len(text)
        end = len(path) - len(others[-1])
        if end <= at or not path.endswith(others[-1]):
            return None
        return dict(zip(self.names, [*found, path[at:end]], strict=True))

    def covers(self, other: Route) -> bool:
        """Whether every path of `other` is one of this, too."""
        return self.captures(_STAND_IN.join(other._texts)) is not None

    def shadows(self, own: str) -> bool:
        """Whether it would answer for a path of our own."""
        if own != "/" and own.endswith("/"):
            return self._texts[0].startswith(own) or self.captures(own + _STAND_IN) is not None
        return self.captures(own) is not None

    def address(self, captures: Mapping[str, str]) -> str:
        """Return the address of the playlist.

        Raises:
            InvalidRequest: what was captured is not clean, or too long.
        """
        for text in captures.values():
            _check_capture(text)
        path, mark, asked = self.url.partition("?")
        url = _filled(path, captures, safe="/") + mark + _filled(asked, captures, safe="")
        if any(_is_dots(segment) for segment in urlsplit(url).path.split("/")):
            raise InvalidRequest(detail=_UNCLEAN)
        if len(url) > URL_CHARACTERS:
            raise InvalidRequest(detail="The path is too long.")
        return url


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A path that a route answers for."""

    route: Route
    path: str  # decoded, without base path
    captures: Mapping[str, str]

    @property
    def shown(self) -> str:
        """The path as it may stand in a log line."""
        return quote(self.path, safe="/!$&'()*+,;=:@~", errors="replace")[:200]

    def wish(self, query_string: str) -> query.Wish:
        """Return what is asked for, of a raw query.

        Raises:
            InvalidRequest: naming a parameter, or saying that it is the path.
        """
        url = self.route.address(self.captures)
        fixed = dict(self.route.fixed)
        if "filename" in fixed:
            last = {name: text.rpartition("/")[2] for name, text in self.captures.items()}
            fixed["filename"] = _PLACEHOLDER.sub(lambda found: last[found[1]], fixed["filename"])
        return query.parse(
            query_string,
            allowed=self.route.open_parameters,
            told={**fixed, "url": url},
            upstream=self.route.upstream,
        )


class Routes:
    """All of them, in order.

    Raises:
        ValueError: one can never be reached; the message names it, from 0, as `0.path: ...`.
    """

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self.all = tuple(routes)
        for number, route in enumerate(self.all):
            for own in OWN_PATHS:
                if route.shadows(own):
                    raise ValueError(f"{number}.path: {own} is a path of our own")
            for before, other in enumerate(self.all[:number]):
                if other.covers(route):
                    raise ValueError(f"{number}.path: routes.{before} takes all of it")

    def find(self, path: str) -> Match | None:
        """Return the first route that a decoded path, without base path, matches."""
        for route in self.all:
            captures = route.captures(path)
            if captures is not None:
                return Match(route=route, path=path, captures=captures)
        return None


# -- the configuration -----------------------------------------------------------------------------


def _check_path(texts: tuple[str, ...], names: tuple[str, ...]) -> None:
    if not texts[0].startswith("/"):
        raise ValueError("path: must begin with a slash")
    if any(set("{}") & set(text) for text in texts):
        raise ValueError("path: a brace without its other half")
    if not all(_NAME.fullmatch(name) for name in names):
        raise ValueError("path: a placeholder is {name}, of a-z, 0-9 and _")
    if len(set(names)) < len(names):
        raise ValueError("path: a placeholder stands there twice")
    if not all(texts[1:-1]):
        raise ValueError("path: nothing stands between two placeholders")
    plain = _STAND_IN.join(texts)
    if set(plain) & set("%?#\\") or any(_is_control(c) for text in texts for c in text):
        raise ValueError("path: is plain text, without % ? # \\ and control characters")
    segments = plain[1:].split("/")
    if {".", ".."} & set(segments) or (plain != "/" and "" in segments):
        raise ValueError("path: holds an empty segment or a dot segment")


def _check_template(url: str, names: tuple[str, ...]) -> None:
    parts = _PLACEHOLDER.split(url)
    unknown = sorted(set(parts[1::2]) - set(names))
    if unknown:
        raise ValueError(f"url: path has no placeholder {{{unknown[0]}}}")
    bare = "".join(parts[::2])
    if set(bare) & set("{}#") or not bare.isascii():
        raise ValueError("url: must be percent-encoded, without fragment")
    try:
        check_url("a".join(parts[::2]))
        whole = urlsplit(url)
    except (InvalidRequest, ValueError) as error:
        told = str(error).removeprefix("The parameter `url` ").removesuffix(".")
        raise ValueError(f"url: {told}") from None
    if set("{}") & set(whole.scheme + whole.netloc):
        raise ValueError("url: placeholders stand in the path or in the query only")
    if not whole.path.startswith("/"):
        raise ValueError("url: needs a path")
    if any(_is_dots(segment) for segment in whole.path.split("/")):
        raise ValueError("url: holds a dot segment")


def _check_fixed(fixed: Mapping[str, str], names: tuple[str, ...]) -> None:
    for name, value in fixed.items():
        if name not in FIXED:
            raise ValueError(f"{name}: a route cannot say that")
        text = value
        if name == "filename":
            used = _PLACEHOLDER.findall(value)
            if unknown := sorted(set(used) - set(names)):
                raise ValueError(f"filename: path has no placeholder {{{unknown[0]}}}")
            text = _PLACEHOLDER.sub("a", value)
        try:
            query.parse("", allowed=(), told={"url": "http://a/", name: text})
        except InvalidRequest as error:
            told = str(error).removeprefix(f"The parameter `{name}` ").removesuffix(".")
            raise ValueError(f"{name}: {told}") from None


# -- what a client sends ---------------------------------------------------------------------------


def _check_capture(text: str) -> None:
    try:
        # Twice decoded, as some origins do it.  Lone surrogates and U+FFFD are what servers make
        # of bytes that are no UTF-8.
        again = unquote_to_bytes(text).decode()
    except UnicodeError:
        raise InvalidRequest(detail="The path is not percent-encoded UTF-8.") from None
    for said in (text, again):
        if "\ufffd" in said:
            raise InvalidRequest(detail="The path is not percent-encoded UTF-8.")
        segments = said.split("/")
        if "" in segments or any(map(_is_dots, segments)):
            raise InvalidRequest(detail=_UNCLEAN)
        if "\\" in said or any(map(_is_control, said)):
            raise InvalidRequest(detail=_UNCLEAN)


def _filled(template: str, captures: Mapping[str, str], *, safe: str) -> str:
    return _PLACEHOLDER.sub(lambda found: quote(captures[found[1]], safe=safe), template)


def _is_dots(segment: str) -> bool:
    """Whether a segment of a path is `.` or `..` to anybody, path parameters left out."""
    return unquote_to_bytes(segment.partition(";")[0]) in {b".", b".."}


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Zl", "Zp", "Cs"}
