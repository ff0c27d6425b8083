"""What our JSON looks like: JSON Schema (2020-12, as OpenAPI 3.1 has it) for each kind of answer.

Plain tables, for `openapi`.  Each object lists what is always there; more may be added to it.  The
tests hold real answers against these.
"""

from __future__ import annotations

from typing import Any

__all__ = ["HEADERS", "SCHEMAS", "STREAM_ID", "reference"]

Schema = dict[str, Any]

STREAM_ID = "[0-9a-f]{32}"
_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_FLAG: Schema = {"type": "boolean"}
_SECONDS: Schema = {"type": "number", "minimum": 0}
_TEXTS: Schema = {"type": "array", "items": _TEXT}


def reference(name: str, kind: str = "schemas") -> Schema:
    """Return the reference to a component of the document."""
    return {"$ref": f"#/components/{kind}/{name}"}


def _or_null(schema: Schema, why: str) -> Schema:
    """Add null to what a value may be."""
    if isinstance(schema.get("type"), str):
        return {**schema, "type": [schema["type"], "null"], "description": why}
    return {"oneOf": [schema, {"type": "null"}], "description": why}


def _told(schema: Schema, what: str) -> Schema:
    return {**schema, "description": what}


def _object(properties: dict[str, Schema], what: str = "", **more: Any) -> Schema:
    """Return the schema of an object that has all of these."""
    told = {"description": what} if what else {}
    return {
        "type": "object", **told, "required": list(properties), "properties": properties, **more
    }  # fmt: skip


def _list(item: Schema) -> Schema:
    return {"type": "array", "items": item}


_PROBLEM = _object(
    {
        "type": {"const": "about:blank"},
        "title": _told(_TEXT, "Phrase of the status."),
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": _told(_TEXT, "For people; holds no address."),
        "code": _told(_TEXT, "For programs; does not change."),
        "stream": _told({**_TEXT, "pattern": f"^{STREAM_ID}$"}, "As X-Stream-Id."),
    },
    "What went wrong (RFC 9457).",
)
_PROBLEM["properties"]["file"] = _told(_TEXT, "Of `plain_file`: its address, without the query.")

_REASON = _object({"code": _TEXT, "detail": _TEXT})

_PAGE = _object(
    {
        "url": _TEXT,
        "title": _TEXT,
        "extractor": {"type": ["string", "null"]},
        "candidates": _list(
            _object(
                {
                    "url": _TEXT,
                    "kind": _told(_TEXT, "hls, mp4, dash or page."),
                    "width": {"type": ["integer", "null"]},
                    "height": {"type": ["integer", "null"]},
                    "bandwidth": {"type": ["integer", "null"]},
                    "extractor": _TEXT,
                    "chosen": _FLAG,
                }
            )
        ),
    },
)

_REPORT = _object(
    {
        "kind": _told(_TEXT, "media or multivariant; mp4: a page whose video is a file."),
        "live": _FLAG,
        "duration_s": _or_null(_SECONDS, "Null: live."),
        "segments": _COUNT,
        "target_duration_s": {"type": ["number", "null"]},
        "variants": _list(
            _object(
                {
                    "bandwidth": {"type": ["integer", "null"]},
                    "codecs": _TEXTS,
                    "width": {"type": ["integer", "null"]},
                    "height": {"type": ["integer", "null"]},
                    "frame_rate": {"type": ["number", "null"]},
                    "audio_group": {"type": ["string", "null"]},
                    "chosen": _FLAG,
                }
            )
        ),
        "renditions": _list(
            _object(
                {
                    "type": _TEXT,
                    "group": _TEXT,
                    "name": _TEXT,
                    "language": {"type": ["string", "null"]},
                    "default": _FLAG,
                    "channels": {"type": ["string", "null"]},
                    "own_playlist": _FLAG,
                    "chosen": _FLAG,
                }
            )
        ),
        "encryption": _told(_TEXTS, "Methods of EXT-X-KEY and EXT-X-SESSION-KEY."),
        "discontinuities": _COUNT,
        "gaps": _COUNT,
        "splices": _list(_object({"time_s": _SECONDS, "tags": _TEXTS})),
        "copyable": _told(_FLAG, "Whether its beginning can be copied into an MP4."),
        "unseen_from_s": _or_null(_SECONDS, "Where other media may begin; null: nowhere."),
        "codecs": _or_null(_TEXT, "Of the output (RFC 6381)."),
        "reason": _or_null(_REASON, "Why it is not copyable."),
        "page": _or_null(_PAGE, "What the page at the address offers; addresses without query."),
    },
    "What is behind an address.",
)

_CAUSE = _object(
    {
        "code": _TEXT,
        "layer": {"enum": ["client", "proxy", "origin", "media"]},
        "summary": _TEXT,
        "retryable": _FLAG,
        "evidence": _list(_object({"time": {}, "event": _TEXT, "detail": _TEXT})),
        "actions": _TEXTS,
    },
    "Why a stream ended.",
)

_STREAM = _object(
    {
        "id": {**_TEXT, "pattern": f"^{STREAM_ID}$"},
        "phase": {"enum": ["opening", "streaming", "ended"]},
        "outcome": _or_null(_TEXT, "complete, client_gone, ..., or the code of an error."),
        "status": _told(_COUNT, "What the client was answered; 0: nothing yet."),
        "url": _told(_TEXT, "Without query and userinfo."),
        "started_at": {**_TEXT, "format": "date-time"},
        "elapsed_s": _SECONDS,
        "ttfb_s": _or_null(_SECONDS, "Until the first fragment was in hand."),
        "live": {"type": ["boolean", "null"]},
        "duration_s": _or_null(_SECONDS, "Null: live, or not known."),
        "codecs": {"type": ["string", "null"]},
        "bytes_in": _COUNT,
        "bytes_out": _COUNT,
        "media_s": _told(_SECONDS, "Time of the media that was handed out."),
        "segments": _object({"fetched": _COUNT, "retried": _COUNT, "skipped": _COUNT}),
        "buffer": _object({"bytes": _COUNT, "capacity_bytes": _COUNT}),
        "client_stalls": _COUNT,
        "left_out": {"type": "object", "additionalProperties": _COUNT},
        "root_cause": {"oneOf": [reference("RootCause"), {"type": "null"}]},
    },
    "The state of one stream.",
)

SCHEMAS: dict[str, Schema] = {
    "Problem": _PROBLEM,
    "Report": _REPORT,
    "RootCause": _CAUSE,
    "Stream": _STREAM,
    "Streams": _object({"streams": _list(reference("Stream"))}),
    "Health": _object({"status": {"enum": ["ok", "ready"]}, "streams": _COUNT}),
}

# Of answers, by name; those of every answer first.
HEADERS: dict[str, Schema] = {
    "X-Stream-Id": {
        "description": "128 random bits: who holds them may ask about this request.",
        "required": True,
        "schema": {**_TEXT, "pattern": f"^{STREAM_ID}$"},
    },
    "Cache-Control": {  # the files of the page are kept, and asked for again each time
        "required": True,
        "schema": {"enum": ["no-store", "no-cache"]},
    },
    "X-Content-Type-Options": {"required": True, "schema": {"const": "nosniff"}},
    "Accept-Ranges": {
        "description": "Range is answered 200 with the whole.",
        "required": True,
        "schema": {"const": "none"},
    },
    "X-Accel-Buffering": {"required": True, "schema": {"const": "no"}},
    "Server-Timing": {
        "description": "What it took to open the stream, in ms.",
        "required": True,
        "schema": _TEXT,
    },
    "X-Content-Duration": {
        "description": "Seconds of the whole output; a live stream has none.",
        "schema": {**_TEXT, "pattern": r"^\d+\.\d{3}$"},
    },
    "X-Start-Time": {
        "description": "Where it really begins, in seconds: `start`, or a picture before it.",
        "schema": {**_TEXT, "pattern": r"^\d+\.\d{3}$"},
    },
    "Content-Disposition": {"description": "With `filename`.", "schema": _TEXT},
    "WWW-Authenticate": {
        "description": "On 401: that the operator's token is wanted, as `Bearer`.",
        "required": True,
        "schema": _TEXT,
    },
    "Retry-After": {
        "description": "Seconds after which trying again may help.",
        "schema": {**_TEXT, "pattern": r"^\d+$"},
    },
}
