"""A page as a whole: parsed, every extractor asked, candidates ranked."""

from __future__ import annotations

import re
from dataclasses import replace

from proxy.extract import extractors
from proxy.extract.document import parse
from proxy.extract.model import Candidate, Limits, Page
from proxy.extract.rank import ranked
from proxy.extract.refusal import refusal_of
from proxy.extract.registry import load, registered

__all__ = ["is_page", "read_page"]

load(extractors)

_DRM = re.compile(r"widevine|playready|fairplay|com\.apple\.fps|license_?url", re.IGNORECASE)


def is_page(body: bytes, content_type: str) -> bool:
    """Whether an answer that is no playlist is an HTML page, by its beginning or its type."""
    head = body[:1024].lstrip(b"\xef\xbb\xbf \t\r\n\f").lower()
    if head.startswith((b"<!doctype html", b"<html", b"<!--", b"<head", b"<body")):
        return True
    if head.startswith((b"\xff\xfe<", b"\xfe\xff\0<")):
        return "html" in content_type.lower()
    return "html" in content_type.lower() and head.startswith(b"<")


def read_page(
    body: bytes, *, url: str, content_type: str = "", limits: Limits | None = None
) -> Page:
    """Return what a page says about its video.

    Args:
        body: the page, decoded from its content coding.
        url: where it came from, after redirects.
        content_type: as sent; for its charset.
        limits: how much work it may be.
    """
    limits = limits or Limits()
    document = parse(body, url=url, content_type=content_type, limits=limits)
    found: list[tuple[int, Candidate]] = []
    for one in registered():
        for number, candidate in enumerate(one.extract(document)):
            if number >= 10 * limits.candidates:
                break
            found.append((one.order, replace(candidate, extractor=one.name)))
    candidates = ranked(found, url=url, limits=limits)
    return Page(
        title=document.title,
        candidates=candidates,
        refusal="" if candidates else refusal_of(document),
        drm=any(_DRM.search(script.text) for script in document.scripts),
    )
