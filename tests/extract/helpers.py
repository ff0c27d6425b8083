"""Pages for tests: the golden ones, and such as say one thing."""

import json
from pathlib import Path
from typing import Any

from proxy.extract import Candidate, Page, read_page

PAGES = Path(__file__).with_name("pages")
URL = "https://site.example/watch/1"


def golden(name: str, url: str = URL) -> Page:
    return read_page((PAGES / f"{name}.html").read_bytes(), url=url, content_type="text/html")


def read(html: str | bytes, url: str = URL, content_type: str = "text/html") -> Page:
    body = html.encode() if isinstance(html, str) else html
    return read_page(body, url=url, content_type=content_type)


def state_page(state: Any) -> str:
    """A page with a state of this value."""
    return f'<!doctype html><script type="application/json">{json.dumps(state)}</script>'


def linked(*values: Any) -> str:
    """A page with JSON-LD of these values."""
    text = json.dumps(values[0] if len(values) == 1 else values)
    return f'<!doctype html><script type="application/ld+json">{text}</script>'


def told(page: Page) -> list[tuple[str, str]]:
    """Kind and address of each candidate, in order."""
    return [(one.kind, one.url) for one in page.candidates]


def first(page: Page) -> Candidate:
    return page.candidates[0]
