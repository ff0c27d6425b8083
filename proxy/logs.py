"""How the log looks: one line per record on stderr, for people or as JSON.

No record can forge another: control characters inside a message are escaped.  Addresses are
redacted where they are logged, not here.  Only the logger `proxy` is configured; the root logger
belongs to whoever runs the process.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

__all__ = ["HumanFormatter", "JsonFormatter", "Settings", "configure"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["human", "json"] = "human"
    process: bool = False  # whether each line names its process: several write to one stderr


class HumanFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO proxy.app message`; a traceback follows on further lines.

    With `process`, `[1234]` stands before the level.
    """

    def __init__(self, *, process: bool = False) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        message = _CONTROL.sub(_escaped, record.getMessage())
        process = f"[{record.process}] " if self._process else ""
        line = f"{_time(record)} {process}{record.levelname} {record.name} {message}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object per record; what is given as `extra={"fields": {...}}` stands beside it."""

    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            document |= fields
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)  # ASCII only, so U+2028 and the like are escaped


def configure(settings: Settings) -> None:
    """Send the records of `proxy` to stderr as told; calling it again replaces what was there."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter() if settings.format == "json" else HumanFormatter(process=settings.process)
    )
    logger = logging.getLogger("proxy")
    for old in logger.handlers[:]:
        logger.removeHandler(old)
    logger.addHandler(handler)
    logger.setLevel(settings.level.upper())
    logger.propagate = False


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _escaped(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode()
