"""A request and an answer to it, in types of our own: what both faces translate to and from."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.delivery import Delivery
from proxy.feed import Feed

__all__ = ["Headers", "Request", "Response"]

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, whatever server it came through."""

    method: str
    path: str  # percent-decoded
    query_string: str = field(
        repr=False
    )  # raw, without the question mark; surrogates for non-UTF-8
    headers: Headers = field(repr=False)  # names in lower case
    peer: str  # address of the other end of the connection; `admission.LOCAL` for a unix socket
    base: str = ""  # the start of `path` that is not ours (base path, ASGI root_path)
    port: int | None = None  # of ours, at which it came in; None: a unix socket
    abortable: bool = True  # whether the face can show this client a cut as a cut

    def header(self, name: str) -> str:
        """Return the values of `name` (lower case), joined by commas; empty where there is none."""
        return ", ".join(value for key, value in self.headers if key == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    status: int
    headers: Headers
    body: bytes | Delivery | Feed = b""
