"""The family of errors as a whole: one list of codes, and nothing in it that never happens."""

import ast
import re
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from proxy import errors
from proxy.errors import ProxyError
from tests.conftest import REPOSITORY

FAMILY = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ProxyError)
]


def made(tree: ast.AST) -> Iterator[str]:
    """Names of classes that are raised, called, given children, or kept in a table to be called;
    not those that are only imported, caught, or asked about."""
    for node in ast.walk(tree):
        found: list[ast.expr | None] = []
        if isinstance(node, ast.Raise):
            found = [node.exc]
        elif isinstance(node, ast.Call):
            found = [node.func]
        elif isinstance(node, ast.ClassDef):
            found = list(node.bases)
        elif isinstance(node, ast.Dict):
            found = list(node.values)
        yield from (name.id for name in found if isinstance(name, ast.Name))


def test_errors_md_has_a_row_for_each_class() -> None:
    """Each class with its status and its code, once."""
    text = (REPOSITORY / "docs" / "errors.md").read_text()
    rows = re.findall(r"^\| (?:&emsp;)*`(\w+)` \| (\d+) \| `(\w+)` \| (.+) \|$", text, re.MULTILINE)
    expected = [(kind.__name__, str(kind.status), kind.code, kind.public) for kind in FAMILY]
    assert sorted(rows) == sorted(expected)


@pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.__name__)
def test_error_says_what_is_promised(kind: type[ProxyError]) -> None:
    """A status that is an error, a stable code of its own, a whole sentence for anyone."""
    assert HTTPStatus(kind.status) >= 400
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code)
    assert re.fullmatch(r"[A-Z`].*\.", kind.public)
    assert [other for other in FAMILY if other.code == kind.code] == [kind]
    assert kind().detail == kind.public
    assert kind("for the log").status == kind.status


def test_every_error_is_raised_somewhere() -> None:
    """No code stands in the list that no request can get."""
    sources = [file for file in (REPOSITORY / "proxy").rglob("*.py") if file.name != "errors.py"]
    found = {name for file in sources for name in made(ast.parse(file.read_text()))}
    assert [kind.__name__ for kind in FAMILY if kind.__name__ not in found] == []
