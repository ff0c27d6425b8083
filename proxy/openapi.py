"""The API described: OpenAPI 3.1, out of what the app knows.  Pure.

`document` is asked with the paths that the app answers and the owner's routes; parameters are those
of `query`, errors those of `errors`, and what is not there is not described.  Addresses of sources
are not in it: a route is shown by its path alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from proxy import __version__, errors, query
from proxy.errors import ProxyError
from proxy.guard import signing
from proxy.request import TEXT_CHARACTERS, URL_CHARACTERS
from proxy.routes import Route
from proxy.schemas import HEADERS, SCHEMAS, STREAM_ID, reference

__all__ = ["PATH", "document"]

PATH = "/openapi.json"

_EVERY = ("X-Stream-Id", "Cache-Control", "X-Content-Type-Options")
_OF_STREAM = (
    "Accept-Ranges", "X-Accel-Buffering", "Server-Timing", "X-Content-Duration", "X-Start-Time",
    "Content-Disposition",
)  # fmt: skip
_SECONDS = {"type": "string", "pattern": r"^-?[0-9]{1,9}(\.[0-9]{1,9})?$", "examples": ["12.5"]}
_TEXT = {"type": "string", "minLength": 1, "maxLength": TEXT_CHARACTERS}
_TROUBLE = {"type": "string", "enum": ["abort", "skip"], "default": "abort"}

# What a parameter means, and what it looks like; the names are those of `query`.
_PARAMETERS: dict[str, tuple[str, dict[str, Any]]] = {
    "url": (
        "Address of an HLS playlist or of a page with one: http or https, percent-encoded whole.",
        {"type": "string", "maxLength": URL_CHARACTERS, "pattern": r"^https?://[^/?#\s\\@]+"},
    ),
    "quality": (
        "`best`, `worst`, `audio` alone, at most a height (`720p`) or a rate in kbit/s (`2500k`).",
        {
            "type": "string",
            "pattern": "^(best|worst|audio|[1-9][0-9]{0,8}[pk])$",
            "default": "best",
            "examples": ["best", "720p", "2500k"],
        },
    ),
    "audio": ("Language tag, or name of an audio rendition.", _TEXT),
    "start": ("Seconds into the presentation; negative: back from its end.", _SECONDS),
    "end": ("Seconds into the presentation, which must have an end.", _SECONDS),
    "on_gap": ("What to do without a segment that cannot be had.", _TROUBLE),
    "on_splice": ("What to do with sections that do not fit.", _TROUBLE),
    "filename": ("Makes it a download of this name.", _TEXT),
    "expires": (
        "Of a signed link: seconds since 1970.",
        {"type": "string", "pattern": "^[1-9][0-9]{0,11}$"},
    ),
    "key_id": (
        "Of a signed link: which secret signed it.",
        {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,31}$"},
    ),
    "signature": (
        "Of a signed link: HMAC-SHA256 in base64url.",
        {"type": "string", "pattern": "^[A-Za-z0-9_-]{43}$"},
    ),
}

# Errors that are no answer to a request for a stream, or that only some answers can be.
_NEVER = frozenset({"not_found", "method_not_allowed", "stream_too_long", "unauthorized"})


def document(
    *,
    base: str,
    paths: Collection[str],
    routes: Iterable[Route] = (),
    relay: bool = True,
    signed: bool = False,
) -> dict[str, Any]:
    """Return the description of an app.

    Args:
        base: the base path, below which everything is.
        paths: of our own, as the app has them.
        routes: those of the owner.
        relay: whether /stream and /inspect open what a client names; else they always refuse.
        signed: whether /stream and /inspect need signatures.
    """
    described = _own(paths, signed=signed) if relay else _own(set(paths) - {"/stream", "/inspect"})
    described |= {route.path: _route(route, signed=signed) for route in routes}
    components: dict[str, Any] = {
        "schemas": SCHEMAS,
        "headers": HEADERS,
        "parameters": {name: _parameter(name) for name in query.PARAMETERS},
        "responses": {
            f"Source{status}": answer for status, answer in _by_status(_of_sources()).items()
        },
    }
    if "/streams" in described:
        components["securitySchemes"] = {
            "operator": {
                "type": "http",
                "scheme": "bearer",
                "description": "security.operator_token; without one these paths are not there.",
            }
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "remuxd",
            "summary": "HLS in, one continuous fragmented MP4 out.",
            "description": (
                "Until the first fragment of a stream is in hand a failure is a status with a "
                "problem (RFC 9457).  Behind the first byte it is a connection that is cut: "
                "a body that ended well is whole."
            ),
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": base or "/"}],
        "paths": described,
        "components": components,
    }


# -- paths -----------------------------------------------------------------------------------------


def _own(paths: Collection[str], *, signed: bool = False) -> dict[str, Any]:
    asked = [reference(name, "parameters") for name in query.PARAMETERS]
    if signed:
        asked = [_parameter(name, required=True) if _is_signing(name) else one
                 for name, one in zip(query.PARAMETERS, asked, strict=True)]  # fmt: skip
    found: dict[str, Any] = {
        "/": _get("page", "The player page.", {200: _other("text/html", "The page."), 304: _EMPTY}),
        "/stream": _get("stream", "A source as one MP4.", _stream_answers(), asked),
        "/inspect": _get(
            "inspect",
            "What is behind an address.",
            {200: _json("Report", "A report."), **_source_problems(besides={416, 505})},
            asked,
        ),
        "/healthz": _get("health", "Whether it runs.", {200: _json("Health", "It does.")}),
        "/readyz": _get(
            "readiness",
            "Whether it takes new streams.",
            {200: _json("Health", "It does."), **_problems({"overloaded"})},
        ),
        "/metrics": _get(
            "metrics", "Figures for Prometheus.", {200: _other("text/plain", "Figures.")}
        ),
        PATH: _get("description", "This.", {200: _other("application/json", "OpenAPI 3.1.")}),
    }
    shown = {path: item for path, item in found.items() if path in paths}
    return shown | (_streams() if "/streams" in paths else {})


def _streams() -> dict[str, Any]:
    """The state of streams, of which everything but reading one is the operator's."""
    one = {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "The X-Stream-Id of its answer.",
        "schema": {"type": "string", "pattern": f"^{STREAM_ID}$"},
    }
    missing = _problems({"not_found"})
    operator = {**_problems({"not_found", "unauthorized"}), 400: _problems(set())[400]}
    listed = _get("streams", "All streams.", {200: _json("Streams", "All."), **operator})
    state = _get("state", "The state of one.", {200: _json("Stream", "It."), **missing}, [one])
    state["delete"] = {
        "operationId": "stop",
        "summary": "End a stream.",
        "parameters": [one],
        "responses": _sorted({204: {**_EMPTY, "description": "It has ended."}, **operator}),
    }
    for operation in (*listed.values(), state["delete"]):
        operation["security"] = [{"operator": []}]
    events = _other("text/event-stream", "`event: state` with the state, last `event: end`.")
    return {
        "/streams": listed,
        "/streams/{id}": state,
        "/streams/{id}/events": _get(
            "events",
            "The state of one as it changes.",
            {200: events, **_problems({"not_found", "overloaded"})},
            [one],
        ),
    }


def _route(route: Route, *, signed: bool) -> dict[str, Any]:
    needed = signed if route.require_signature is None else route.require_signature
    captured = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": "One character or more; a slash is one of them.",
            "schema": {"type": "string", "minLength": 1},
        }
        for name in route.names
    ]
    names = (*route.open_parameters, *signing.PARAMETERS)
    asked = [
        _parameter(name, required=True)
        if needed and _is_signing(name)
        else reference(name, "parameters")
        for name in names
    ]
    name = "".join(c if c.isalnum() else "_" for c in route.path)
    return _get(f"route{name}", "A stream.", _stream_answers(), [*captured, *asked])


def _get(
    name: str,
    summary: str,
    responses: dict[int, Any],
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """GET, and the HEAD that has the same status and headers."""
    told = {"parameters": parameters or [], "responses": _sorted(responses)}
    return {
        "get": {"operationId": name, "summary": summary, **told},
        "head": {"operationId": f"{name}_head", "summary": f"{summary} No body.", **told},
    }


def _sorted(responses: dict[int, Any]) -> dict[str, Any]:
    return {str(status): responses[status] for status in sorted(responses)}


# -- parameters ------------------------------------------------------------------------------------


def _parameter(name: str, *, required: bool | None = None) -> dict[str, Any]:
    description, schema = _PARAMETERS[name]
    return {
        "name": name,
        "in": "query",
        "required": name == "url" if required is None else required,
        "description": description,
        "schema": schema,
    }


def _is_signing(name: str) -> bool:
    return name in signing.PARAMETERS


# -- answers ---------------------------------------------------------------------------------------


def _headers(*names: str) -> dict[str, Any]:
    return {name: reference(name, "headers") for name in (*_EVERY, *names)}


_EMPTY = {"description": "Nothing has changed.", "headers": _headers()}


def _json(schema: str, what: str) -> dict[str, Any]:
    return {
        "description": what,
        "headers": _headers(),
        "content": {"application/json": {"schema": reference(schema)}},
    }


def _other(content_type: str, what: str) -> dict[str, Any]:
    return {"description": what, "headers": _headers(), "content": {content_type: {}}}


def _stream_answers() -> dict[int, Any]:
    whole = {
        "description": "Fragmented MP4 while it is downloading, for HEAD the headers alone.",
        "headers": _headers(*_OF_STREAM),
        "content": {"video/mp4": {}},
    }
    return {200: whole, **_source_problems()}


def _source_problems(*, besides: Collection[int] = ()) -> dict[int, Any]:
    """References to what may happen to a request for a source, but for some statuses."""
    statuses = {kind.status for kind in _of_sources()} - set(besides)
    return {status: reference(f"Source{status}", "responses") for status in statuses}


def _problems(codes: Collection[str]) -> dict[int, Any]:
    """The answers that tell these errors, by status; those of every request among them."""
    every = {*codes, ProxyError.code, "invalid_request"}
    return _by_status(kind for kind in _family(ProxyError) if kind.code in every)


def _by_status(kinds: Iterable[type[ProxyError]]) -> dict[int, Any]:
    found = defaultdict(list)
    for kind in kinds:
        found[kind.status].append(kind)
    return {status: _problem(kinds) for status, kinds in found.items()}


def _problem(kinds: list[type[ProxyError]]) -> dict[str, Any]:
    told = "\n".join(f"* `{kind.code}`: {kind.public}" for kind in kinds)
    narrow = {
        "properties": {
            "status": {"const": kinds[0].status},
            "code": {"enum": [kind.code for kind in kinds]},
        }
    }
    schema = {"allOf": [reference("Problem"), narrow]}
    more = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}
    return {
        "description": told,
        "headers": _headers(*more.get(kinds[0].status, ())),
        "content": {"application/problem+json": {"schema": schema}},
    }


def _of_sources() -> list[type[ProxyError]]:
    """Everything that may happen to a request for a source."""
    return [kind for kind in _family(ProxyError) if kind.code not in _NEVER]


def _family(kind: type[ProxyError]) -> Iterator[type[ProxyError]]:
    """A class and all below it; kinds made elsewhere are their parents to a client."""
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _family(child)
