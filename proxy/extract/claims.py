"""What a page says that it is about: by that, its main video is known among others in its state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from proxy.extract.addresses import absolute, tokens
from proxy.extract.document import Document
from proxy.extract.linked_data import texts, video_objects

__all__ = ["Claims", "claims_of"]

_TITLE_CHARACTERS = 4  # of a title that tells anything
_MEDIA_CHARACTERS = 8  # of a part of an address that two resources of one video share
_IDS = ("id", "entityId", "videoId", "video_id", "uuid", "guid", "shortcode", "code", "slug", "pk",
        "mediaId", "media_id", "contentId", "content_id", "key", "hash", "hashid")  # fmt: skip
_TITLES = ("title", "name", "headline", "caption")
_ADDRESSES = ("url", "permalink", "link", "canonicalUrl", "canonical_url", "shareUrl", "webUrl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    ids: frozenset[str] = field(repr=False)  # parts of the page's address
    titles: frozenset[str] = field(repr=False)
    addresses: frozenset[str] = field(repr=False)  # of the page
    media: frozenset[str] = field(repr=False)  # parts of the addresses of the video it names
    base: str = field(repr=False)

    def names(self, values: dict[str, Any]) -> bool:
        """Whether an object of the state is what the page is about."""
        return (
            any(_text(values.get(key)) in self.ids for key in _IDS)
            or any(_folded(values.get(key)) in self.titles for key in _TITLES)
            or any(
                isinstance(values.get(key), str)
                and (absolute(self.base, values[key]) or "").rstrip("/") in self.addresses
                for key in _ADDRESSES
            )
        )

    def shares(self, url: str) -> bool:
        """Whether a resource has a part of its address in common with the video of the page."""
        return bool(self.media) and not self.media.isdisjoint(tokens(url))


def claims_of(document: Document) -> Claims:
    metas = dict(reversed(document.metas))  # the first of each name
    videos = [one.values for one in video_objects(document) if one.named or not one.listed][:1]
    addresses = [document.url, document.canonical, metas.get("og:url", "")]
    ids = frozenset[str]().union(*(tokens(one) for one in addresses))
    titles = {_folded(metas.get("og:title"))}
    media = [content for name, content in document.metas if name in {
        "og:video", "og:video:url", "og:video:secure_url", "og:image", "twitter:player:stream",
    }]  # fmt: skip
    for values in videos:
        titles |= {_folded(one) for one in texts(values.get("name"))}
        for key in ("contentUrl", "embedUrl", "thumbnailUrl"):
            media += texts(values.get(key))
    parts = frozenset[str]().union(*(tokens(one) for one in media))
    return Claims(
        ids=ids,
        titles=frozenset(title for title in titles if len(title) >= _TITLE_CHARACTERS),
        addresses=frozenset(one.rstrip("/") for one in addresses if one),
        media=frozenset(part for part in parts if len(part) >= _MEDIA_CHARACTERS),
        base=document.base,
    )


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**18
    return str(value) if whole else ""


def _folded(value: Any) -> str:
    return " ".join(value[:500].split()).casefold() if isinstance(value, str) else ""
