"""Answers that are not streams: JSON, problems, what CORS wants; and the headers that all have.

Values in, `Response` out, but for `without_body`, which ends the stream that nobody is to get.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from proxy.errors import InvalidRequest, MethodNotAllowed, PlainMp4, ProxyError, Unauthorized
from proxy.guard import bearer
from proxy.message import Headers, Request, Response
from proxy.verdicts import HEAD

EXPOSED = (
    "X-Stream-Id, X-Start-Time, X-Content-Duration, Server-Timing, Retry-After, Content-Disposition"
)
PREFLIGHT_MAX_AGE_S = 7200  # Chromium keeps no preflight for longer


def malformed() -> Response:
    """Return the answer to what never became a request."""
    stream_id = new_id()
    error = InvalidRequest(detail="This is no well-formed HTTP request.")
    return with_headers(problem(error, stream_id), *common(stream_id))


def new_id() -> str:
    """Return 128 random bits as hex: whoever holds the id of a stream may ask about it."""
    return secrets.token_hex(16)


def common(stream_id: str) -> Headers:
    return (
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Stream-Id", stream_id),
    )


def with_headers(response: Response, *headers: tuple[str, str]) -> Response:
    return replace(response, headers=(*response.headers, *headers))


def with_missing(response: Response, *headers: tuple[str, str]) -> Response:
    told = {name for name, _ in response.headers}
    return with_headers(response, *(header for header in headers if header[0] not in told))


async def without_body(response: Response) -> Response:
    """Turn the answer to a GET into that to a HEAD; leaves nothing running."""
    if not isinstance(response.body, bytes):
        response.body.give_up(HEAD)
        await response.body.aclose()
    return replace(response, body=b"")


def as_json(
    document: Mapping[str, Any], *, status: int = HTTPStatus.OK, kind: str = "json"
) -> Response:
    body = json.dumps(document, ensure_ascii=False, indent=2).encode() + b"\n"
    headers = (("Content-Type", f"application/{kind}"), ("Content-Length", str(len(body))))
    return Response(status=status, headers=headers, body=body)


def problem(error: ProxyError, stream_id: str) -> Response:
    """Return the answer that tells `error`, as of RFC 9457.

    `code`, `stream` and `file` are extension members.  The type is about:blank, since `code` tells
    kinds apart, and so `title` is the phrase of the status (section 4.2.1).
    """
    document = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "stream": stream_id,
    }
    if isinstance(error, PlainMp4):
        document["file"] = error.file
    response = as_json(document, status=error.status, kind="problem+json")
    if error.retry_after_s is not None:
        response = with_headers(response, ("Retry-After", str(error.retry_after_s)))
    if isinstance(error, MethodNotAllowed):  # RFC 9110, section 15.5.6
        response = with_headers(response, ("Allow", ", ".join(error.allow)))
    if isinstance(error, Unauthorized):
        response = with_headers(response, ("WWW-Authenticate", bearer.CHALLENGE))
    return response


def server_timing(*timings: tuple[str, float]) -> str:
    return ", ".join(f"{name};dur={seconds * 1000:.1f}" for name, seconds in timings)


def cors(request: Request, allowed: tuple[str, ...]) -> Headers:
    if not allowed:
        return ()
    origin = request.header("origin")
    vary: Headers = (("Vary", "Origin"),)
    if "*" in allowed:
        origin, vary = "*", ()
    elif origin not in allowed:
        return vary
    return (
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Expose-Headers", EXPOSED),
        ("Timing-Allow-Origin", origin),  # or Server-Timing stays hidden from scripts
        *vary,
    )


def preflight(methods: tuple[str, ...]) -> Response:
    # No credentials are involved, so that `*` is any header but Authorization, which must be named
    # (Fetch, section 4.9): the operator's token is sent in it.
    headers = (
        ("Access-Control-Allow-Methods", ", ".join(methods)),
        ("Access-Control-Allow-Headers", "*, Authorization"),
        ("Access-Control-Max-Age", str(PREFLIGHT_MAX_AGE_S)),
    )
    return Response(status=HTTPStatus.NO_CONTENT, headers=headers)
