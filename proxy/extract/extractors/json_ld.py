"""VideoObject of schema.org in JSON-LD: contentUrl, and embedUrl as a player page."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.extract.addresses import absolute, kind_of, kind_of_type
from proxy.extract.document import Document
from proxy.extract.facts import facts_of
from proxy.extract.linked_data import texts, video_objects
from proxy.extract.model import Candidate, Standing
from proxy.extract.registry import extractor

__all__ = ["json_ld"]


@extractor("json_ld", order=1)
def json_ld(document: Document) -> Iterable[Candidate]:
    """The main one is the one that names this page, or else the first that is in no list."""
    found = list(video_objects(document))
    main = next((one for one in found if one.named), None)
    main = main or next((one for one in found if not one.listed), None)
    for one in found:
        facts = facts_of(one.values)
        told = kind_of_type(next(iter(texts(one.values.get("encodingFormat"))), None))
        for name in ("contentUrl", "embedUrl"):
            for written in texts(one.values.get(name)):
                url = absolute(document.base, written)
                if url is None:
                    continue
                kind = kind_of(url) or (told if name == "contentUrl" else None) or "page"
                yield Candidate(
                    url=url,
                    kind=kind,
                    standing=Standing.MAIN if one is main else Standing.OTHER,
                    width=facts.width,
                    height=facts.height,
                    bandwidth=facts.bandwidth,
                )
