"""<video> and its <source>s, with their types (HTML, 4.8.8 and 4.8.2)."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.extract.addresses import absolute, kind_of, kind_of_type
from proxy.extract.document import Document
from proxy.extract.model import Candidate, Standing
from proxy.extract.registry import extractor

__all__ = ["video_element"]

_DECORATION = {"autoplay", "muted", "loop"}  # all three: a moving picture behind the text


@extractor("video_element", order=3)
def video_element(document: Document) -> Iterable[Candidate]:
    for video in document.videos:
        decorates = video.attributes.keys() >= _DECORATION
        for source in video.sources:
            url = absolute(document.base, source.url)
            kind = url and (kind_of_type(source.type) or kind_of(url))
            if url and kind and kind != "page":
                yield Candidate(
                    url=url, kind=kind, standing=Standing.OTHER if decorates else Standing.LIKELY
                )
