"""The log: one record, one line, nothing forged."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from proxy.logs import HumanFormatter, JsonFormatter, Settings, configure


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    logger = logging.getLogger("proxy")
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield
    logger.handlers[:], logger.level, logger.propagate = before


def record(message: str, **more: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "proxy.test", "levelno": 20, "levelname": "INFO"})
    made.msg, made.args = "%s", (message,)
    vars(made).update(more)
    return made


@pytest.mark.parametrize("character", ["\n", "\r", "\0", "\x1b", "\x85", "\u2028"])
def test_formats_escape_control_characters(character: str) -> None:
    """What comes from outside cannot begin a line or colour a terminal."""
    for formatter in (HumanFormatter(), JsonFormatter()):
        line = formatter.format(record(f"a{character}b"))
        assert len(line.splitlines()) == 1
        assert character not in line


def test_human_format_reads_well() -> None:
    """Time, level, logger, message."""
    line = HumanFormatter().format(record("hello", created=0.0))
    assert line == "1970-01-01T00:00:00.000Z INFO proxy.test hello"


def test_formats_name_the_process() -> None:
    """Where several processes write to one stderr, each line tells whose it is."""
    one = record("hello", created=0.0, process=1234)
    line = HumanFormatter(process=True).format(one)
    assert line == "1970-01-01T00:00:00.000Z [1234] INFO proxy.test hello"
    assert json.loads(JsonFormatter().format(one))["process"] == 1234


def test_json_format_carries_the_fields() -> None:
    """One object per record, with its fields beside the message."""
    line = JsonFormatter().format(record("hello", fields={"bytes": 3}))
    document = json.loads(line)
    assert document["message"] == "hello"
    assert (document["bytes"], document["level"]) == (3, "info")


def test_formats_show_tracebacks() -> None:
    """An exception is told whole."""
    error = ValueError("broken")
    failed = record("hello", exc_info=(ValueError, error, None))
    assert "ValueError: broken" in HumanFormatter().format(failed)
    assert "ValueError: broken" in json.loads(JsonFormatter().format(failed))["traceback"]


def test_configure_again_replaces_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records come once, in the format told last, from the level on."""
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    configure(Settings())
    configure(Settings(level="warning", format="json"))
    logger = logging.getLogger("proxy.somewhere")
    logger.info("quiet")
    logger.warning("loud")
    assert [json.loads(line)["message"] for line in stderr.getvalue().splitlines()] == ["loud"]
