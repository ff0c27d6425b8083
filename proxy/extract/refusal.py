"""Whether a page is the one that was asked for, or one that stands in its place.

Told only where no video was found: a page with a video is a page, whatever else is on it.  Known
signs only: a page that is none of them is simply one without a video.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from proxy.extract.document import Document

__all__ = ["refusal_of"]

_CHALLENGE_TITLES = re.compile(
    r"just a moment|attention required|access denied|verify(ing)? (that )?you are (a )?human|"
    r"are you (a )?(robot|human)|robot check|security check|checking your browser|"
    r"pardon our interruption|unusual traffic|too many requests|human verification",
    re.IGNORECASE,
)
_CHALLENGE_MARKS = ("_cf_chl_opt", "captcha-delivery.com", "px-captcha", "_Incapsula_Resource")
_LOGIN = re.compile(
    r"\b(log[ _-]?in|sign[ _-]?in|anmelden|einloggen|connexion|iniciar sesi|sso|auth)",
    re.IGNORECASE,
)


def refusal_of(document: Document) -> str:
    """Return in a few words what stands in the place of the page; empty: it is the page."""
    if _CHALLENGE_TITLES.search(document.title):
        return "a challenge or a block"
    if any(mark in script.text for script in document.scripts for mark in _CHALLENGE_MARKS):
        return "a challenge"
    if document.password_field and _LOGIN.search(f"{document.title} {urlsplit(document.url).path}"):
        return "a login"
    return ""
