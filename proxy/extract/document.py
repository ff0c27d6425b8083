"""HTML as a flat record: the few elements that say something about video, in document order.

The parser is libxml2's, as a source of events without a tree: with a tree, its time grows with the
square of the number of attributes (and that of lexbor, which is faster otherwise, with the square
of the depth: minutes for a page of 2 MiB), and its memory with the number of elements.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lxml import etree

from proxy.extract.addresses import absolute
from proxy.extract.model import Limits

__all__ = ["Document", "Script", "Video", "VideoSource", "parse"]

STEP_BYTES = 64 * 1024
TEXT_CHARACTERS = 300  # of a title
ENTRIES = 1000  # of metas, of videos, and of sources of one video
_SNIFFED_BYTES = 1024  # in which a page must say its encoding (HTML, 4.2.5.4)
_CHARSET = re.compile(
    rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([A-Za-z0-9_-]{2,20})""", re.IGNORECASE
)
# Only text encodings that are read in linear time: Python has others, such as idna.
_ENCODING = re.compile(
    r"utf-?8|utf-?16(-?[lb]e)?|us-ascii|iso-?8859-\d{1,2}|latin-?1|windows-125\d|cp125\d|koi8-[ru]|"
    r"shift[_-]jis|euc-(jp|kr)|gb2312|gbk|gb18030|big5",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    type: str  # in lower case, without parameters
    id: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSource:
    url: str = field(repr=False)  # as it is written
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """A <video> with its own address and those of its <source>s, in order."""

    attributes: Mapping[str, str] = field(repr=False)
    sources: tuple[VideoSource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    url: str = field(repr=False)  # where it came from, after redirects
    base: str = field(repr=False)  # of the relative addresses in it
    title: str
    canonical: str = field(repr=False)  # empty: it names none
    metas: tuple[tuple[str, str], ...] = field(repr=False)  # property or name, content
    scripts: tuple[Script, ...]
    videos: tuple[Video, ...]
    password_field: bool
    limits: Limits


def parse(body: bytes, *, url: str, content_type: str = "", limits: Limits) -> Document:
    """Read a page; whatever it is, there is a document."""
    target = _Target(limits)
    parser = etree.HTMLParser(target=target, encoding="utf-8", recover=True, huge_tree=False)
    data = _decoded(body[: limits.page_bytes], content_type).encode("utf-8", "replace")
    try:
        for start in range(0, len(data), STEP_BYTES):
            parser.feed(data[start : start + STEP_BYTES])
        parser.close()
    except etree.LxmlError:  # nothing but comments, or nothing at all
        pass
    target.close()
    base = absolute(url, target.base) if target.base else None
    return Document(
        url=url,
        base=base or url,
        title=target.title_text(),
        canonical=absolute(base or url, target.canonical) or "",
        metas=tuple(target.metas),
        scripts=tuple(target.scripts),
        videos=tuple(target.videos),
        password_field=target.password_field,
        limits=limits,
    )


def _decoded(body: bytes, content_type: str) -> str:
    """By its byte order mark, the header, what it says itself, or else as UTF-8."""
    for mark, name in ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"),
                       (codecs.BOM_UTF16_BE, "utf-16-be")):  # fmt: skip
        if body.startswith(mark):
            return body[len(mark) :].decode(name, "replace")
    told = re.search(r"charset\s*=\s*[\"']?([\w-]{2,20})", content_type, re.IGNORECASE)
    name = told[1] if told else ""
    if not told and (meta := _CHARSET.search(body[:_SNIFFED_BYTES])):
        name = meta[1].decode("ascii")
        if name.lower().startswith("utf-16"):  # it could not be read then (HTML, 13.2.3.3)
            name = "utf-8"
    if _ENCODING.fullmatch(name):
        try:
            return body.decode(name, "replace")
        except LookupError:  # iso-8859-12
            pass
    return body.decode("utf-8", "replace")


class _Target:
    """Takes the events of the parser."""

    def __init__(self, limits: Limits) -> None:
        self.base = ""
        self.canonical = ""
        self.metas: list[tuple[str, str]] = []
        self.scripts: list[Script] = []
        self.videos: list[Video] = []
        self.password_field = False
        self._limits = limits
        self._title: list[str] = []
        self._text: list[str] | None = None  # of the script or title that is open
        self._script: Mapping[str, str] = {}
        self._video: Mapping[str, str] | None = None
        self._sources: list[VideoSource] = []

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        match tag:
            case "script":
                self._text, self._script = [], dict(attributes)
            case "title" if not self._title:
                self._text = self._title
            case "meta" if len(self.metas) < ENTRIES:
                name = attributes.get("property") or attributes.get("name") or ""
                self.metas.append((name.strip().lower(), attributes.get("content", "")))
            case "base" if not self.base:
                self.base = attributes.get("href", "")
            case "link" if not self.canonical and attributes.get("rel", "").lower() == "canonical":
                self.canonical = attributes.get("href", "")
            case "video":
                self._end_video()
                self._video = dict(attributes)
                self._add_source(attributes)
            case "source" if self._video is not None:
                self._add_source(attributes)
            case "input" if attributes.get("type", "").strip().lower() == "password":
                self.password_field = True
            case _:
                pass

    def end(self, tag: str) -> None:
        if tag == "script" and self._text is not None:
            if len(self.scripts) < self._limits.scripts:
                self.scripts.append(
                    Script(
                        type=self._script.get("type", "").partition(";")[0].strip().lower(),
                        id=self._script.get("id", ""),
                        text="".join(self._text),
                    )
                )
            self._text = None
        elif tag == "title":
            self._text = None
        elif tag == "video":
            self._end_video()

    def data(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)

    def comment(self, text: str) -> None:
        pass

    def close(self) -> None:
        self._end_video()

    def title_text(self) -> str:
        """One short line, without anything that a terminal would obey."""
        words = "".join(self._title)[: 2 * TEXT_CHARACTERS].split()
        return "".join(c for c in " ".join(words) if c.isprintable())[:TEXT_CHARACTERS]

    def _add_source(self, attributes: Mapping[str, str]) -> None:
        url = attributes.get("src", "")
        if url and len(self._sources) < ENTRIES:
            self._sources.append(VideoSource(url=url, type=attributes.get("type", "")))

    def _end_video(self) -> None:
        if self._video is not None and len(self.videos) < ENTRIES:
            self.videos.append(Video(attributes=self._video, sources=tuple(self._sources)))
        self._video, self._sources = None, []
