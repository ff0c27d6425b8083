"""Open Graph video (ogp.me) and the player card of Twitter, out of <meta>."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from proxy.extract.addresses import absolute, kind_of, kind_of_type
from proxy.extract.document import Document
from proxy.extract.facts import number
from proxy.extract.model import Candidate, Standing
from proxy.extract.registry import extractor

__all__ = ["open_graph"]

_ADDRESSES = {"og:video", "og:video:url", "og:video:secure_url", "twitter:player:stream"}
_FACTS = {
    "og:video:type": "type",
    "og:video:width": "width",
    "og:video:height": "height",
    "twitter:player:stream:content_type": "type",
}
_FLASH = "application/x-shockwave-flash"


@extractor("open_graph", order=2)
def open_graph(document: Document) -> Iterable[Candidate]:
    """A property belongs to the last address before it; several addresses before it are one video
    in several places."""
    group: dict[str, Any] = {}
    for name, content in document.metas:
        if name in _ADDRESSES:
            if group.keys() & {"type", "width", "height"}:
                yield from _candidates(group, document.base)
                group = {}
            group.setdefault("urls", []).append(content)
        elif name in _FACTS:
            group[_FACTS[name]] = content
    yield from _candidates(group, document.base)
    for name, content in document.metas:
        url = absolute(document.base, content) if name == "twitter:player" else None
        if url:
            yield Candidate(url=url, kind=kind_of(url) or "page", standing=Standing.MAIN)


def _candidates(group: dict[str, Any], base: str) -> Iterable[Candidate]:
    if str(group.get("type", "")).strip().lower() == _FLASH:
        return
    for written in group.get("urls", ()):
        url = absolute(base, written)
        if url:
            yield Candidate(
                url=url,
                kind=kind_of(url) or kind_of_type(group.get("type")) or "page",
                standing=Standing.MAIN,
                width=number(group.get("width")),
                height=number(group.get("height")),
            )
