"""The import table of the house, read from the sources: which room may know which.

A new module needs a row in `ROOMS` before it may exist.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "proxy"
JOINERS = (
    "pipeline", "stream", "request", "plan", "clip", "supply", "follow", "forgiving", "intake",
    "inspection", "pages", "robots",
)  # fmt: skip
APP = (
    "app", "message", "answers", "enquiries", "query", "routes", "openapi", "schemas", "admission",
    "delivery", "feed", "register", "tracing",
)  # fmt: skip
NEVER_PURE = {"asyncio", "threading", "time", "socket", "io", "os", "random", "datetime"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a room may import: of this package by prefix, and of others by name."""

    proxy: tuple[str, ...] = ()  # "*": everything
    foreign: tuple[str, ...] = ()  # packages that are not in the standard library
    never: frozenset[str] = frozenset()  # of the standard library


ROOMS = {
    "": Room(proxy=("errors", "wiring")),  # __init__: wiring when it is asked for
    "errors": Room(never=frozenset(sys.stdlib_module_names)),
    "hls": Room(proxy=("errors", "hls"), never=frozenset(NEVER_PURE)),
    "hls.parse": Room(
        proxy=("errors", "hls"), foreign=("m3u8",), never=frozenset(NEVER_PURE)
    ),
    "media": Room(
        proxy=("errors", "media"), foreign=("av",), never=frozenset({"asyncio", "socket"})
    ),
    "media.ring": Room(proxy=("errors", "media")),
    "media.outlet": Room(proxy=("errors", "media")),
    "fetch": Room(
        # media.chain: the one walker along boxes, pure, tells fetch too whether all of them came.
        proxy=("", "errors", "events", "fetch", "hls.model", "guard", "media.chain"),
        foreign=("aiohttp", "yarl", "multidict", "tenacity", "cryptography", "xxhash"),
    ),
    **{
        pure: Room(proxy=("errors", pure), foreign=("cryptography",))
        for pure in ("guard", "state", "events")
    },
    "extract": Room(
        proxy=("errors", "extract"), foreign=("lxml", "protego"), never=frozenset(NEVER_PURE)
    ),
    **{
        joiner: Room(
            proxy=("errors", "hls", "media", "fetch", "extract", "events", "guard.redaction",
                   *JOINERS)
        )
        for joiner in JOINERS
    },
    **{
        part: Room(
            proxy=(
                "errors", "pipeline", "request", "guard", "state", "events", "diagnosis", "player",
                "verdicts", "metrics", *APP,
            )
        )
        for part in APP
    },
    "openapi": Room(proxy=("", "errors", "query", "request", "routes", "schemas", "guard")),
    "schemas": Room(),
    "tracing": Room(),
    "verdicts": Room(),
    "metrics": Room(
        proxy=("", "events", "state.sums", "verdicts"), foreign=("prometheus_client",)
    ),
    "diagnosis": Room(
        proxy=("events", "verdicts"), never=frozenset(NEVER_PURE - {"datetime"})
    ),
    "faces": Room(proxy=("app", "errors", "faces"), foreign=("aiohttp",)),
    "faces.asgi": Room(
        proxy=("app", "errors", "faces.patience", "faces.queue", "wiring", "memory")
    ),
    "faces.address": Room(),
    "faces.patience": Room(),
    "faces.queue": Room(),
    "player": Room(),
    "logs": Room(),
    "memory": Room(),
    "saving": Room(),
    "health": Room(),
    "config": Room(
        proxy=("errors", "logs", "app", "routes", "admission", "pipeline", "register",
               "fetch.settings", "guard.addresses", "guard.bearer", "guard.signing", "hls.lines"),
        foreign=("pydantic", "pydantic_settings"),
    ),
    "wiring": Room(proxy=("*",)),
    "serving": Room(proxy=("*",), foreign=("uvloop",)),
    "workers": Room(proxy=("*",), foreign=("gunicorn",)),
    "cli": Room(proxy=("*",), foreign=("click", "rich")),
    "demo": Room(proxy=("*",), foreign=("av", "aiohttp", "rich")),
    "__main__": Room(proxy=("cli",)),
}  # fmt: skip
CONFIG_READERS = {"wiring", "serving", "workers", "cli", "demo.show"}


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def room_of(module: str) -> Room | None:
    """The row for a module: its own, or that of the room it stands in."""
    while module and module not in ROOMS:
        module = module.rpartition(".")[0]
    return ROOMS.get(module) if module or "" in ROOMS else None


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere in a source, by its full name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                inside = full.removeprefix("proxy.")
                yield full if full.startswith("proxy.") and inside in MODULES else node.module


def violations(module: str, tree: ast.AST) -> Iterator[str]:
    room = room_of(module)
    assert room is not None
    for name in imports(tree):
        top, _, inside = name.partition(".")
        if top == "proxy":
            allowed = "*" in room.proxy or any(
                inside == prefix or (prefix and inside.startswith(f"{prefix}."))
                for prefix in room.proxy
            )
        elif top in sys.stdlib_module_names:
            allowed = top not in room.never
        else:
            allowed = top in room.foreign
        if not allowed:
            yield f"{module or '__init__'} imports {name}"


def test_every_module_has_a_row() -> None:
    """Nothing stands outside the table."""
    rooms = {name.partition(".")[0] for name in MODULES}
    assert rooms - {name.partition(".")[0] for name in ROOMS} == set()


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_what_its_room_may(module: str) -> None:
    """Each module keeps to its row."""
    tree = ast.parse(MODULES[module].read_text())
    assert list(violations(module, tree)) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("hls.cursor", "import time"),
        ("hls.select", "import m3u8"),
        ("extract.page", "import time"),
        ("extract.page", "from proxy.fetch.client import Fetcher"),
        ("media.remux", "from proxy.hls.model import Segment"),
        ("media.remux", "def f():\n    import asyncio"),
        ("fetch.client", "import av"),
        ("fetch.client", "from proxy.media.boxes import box"),
        ("pipeline", "from proxy import app"),
        ("pipeline", "import aiohttp"),
        ("app", "from proxy.config import Config"),
        ("app", "from proxy.fetch.client import Fetcher"),
        ("faces.server", "from proxy import pipeline"),
        ("config", "from proxy.faces.server import listen"),
        ("errors", "import enum"),
    ],
)
def test_table_notices(module: str, source: str) -> None:
    """The rules are able to fail."""
    assert list(violations(module, ast.parse(source)))


def test_only_the_wiring_knows_the_configuration() -> None:
    """Rooms take their own settings; nobody but wiring and cli reads the configuration."""
    readers = {
        module
        for module, file in MODULES.items()
        if "proxy.config" in set(imports(ast.parse(file.read_text())))
    }
    assert readers <= CONFIG_READERS


def test_aiohttp_has_one_room_for_each_side() -> None:
    """The client is known in fetch, the server in the face (and in the demo's origin)."""
    for module, file in MODULES.items():
        text = file.read_text()
        if module.startswith("fetch"):
            assert "aiohttp.web" not in text
            assert "import web" not in text
        elif "aiohttp" in {name.partition(".")[0] for name in imports(ast.parse(text))}:
            assert "ClientSession" not in text, module


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import proxy", {"click", "rich", "av", "aiohttp", "pydantic", "m3u8"}),
        ("import proxy; proxy.open_stream", {"click", "rich"}),
        ("import proxy.faces.asgi", {"click", "rich", "uvicorn"}),
    ],
)
def test_import_pulls_in_no_more_than_it_needs(statement: str, unwanted: set[str]) -> None:
    """A library brings no command line along."""
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & unwanted == set()
