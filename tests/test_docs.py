"""The documentation is what the code says, its links lead somewhere, and what it says about the
tests is so.  That its examples work is in `test_docs_examples.py`.
"""

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from proxy import query
from proxy.cli import main
from proxy.routes import OWN_PATHS
from proxy.schemas import SCHEMAS
from tests.conftest import REPOSITORY, missing

DOCS = REPOSITORY / "docs"
GENERATED = runpy.run_path(str(DOCS / "generate.py"))["PAGES"]

RELIABILITY = (DOCS / "reliability.md").read_text()


def named_tests() -> list[tuple[str, str]]:
    """The files that are named, each with the functions in it that are."""
    named, file = [], ""
    for path, function in re.findall(r"`(tests/[\w/]+\.py)?(?:::(\w+))?`", RELIABILITY):
        file = path or file
        if path or function:
            named.append((file, function))
    return named


@pytest.mark.parametrize(("file", "function"), named_tests())
def test_reliability_names_tests_that_exist(file: str, function: str) -> None:
    """A promise stands on a test that is there."""
    text = (REPOSITORY / file).read_text()
    assert not function or re.search(rf"^(?:async )?def {function}\(", text, re.MULTILINE)


def test_reliability_names_tests() -> None:
    """The table is read at all."""
    assert len(named_tests()) > 20


@pytest.mark.parametrize("page", GENERATED)
def test_generated_page_is_what_the_code_says(page: str) -> None:
    """A page of the reference is up to date (`python docs/generate.py` makes it so)."""
    assert (DOCS / page).read_text() == GENERATED[page]()


def test_configuration_page_has_every_key() -> None:
    """Each key of `config.toml` has a heading, and text below it."""
    keys = re.findall(r"^(?:# )?(\w+) = ", (REPOSITORY / "config.toml").read_text(), re.MULTILINE)
    sections = re.split(r"^### ", (DOCS / "configuration.md").read_text(), flags=re.MULTILINE)[1:]
    assert [section.split()[0].partition(".")[2] for section in sections] == keys
    assert all(
        re.search(r"^(?:default|for example) `.+\n\n\S.+", one, re.MULTILINE) for one in sections
    )


def test_cli_page_has_every_command() -> None:
    """Each command has a heading."""
    found = re.findall(r"^## remuxd (\w+)$", (DOCS / "cli.md").read_text(), re.MULTILINE)
    assert sorted(found) == sorted(main.commands)


def test_http_page_has_every_path_and_parameter() -> None:
    """What can be asked for, with which parameters, and what the state of a stream has."""
    text = (DOCS / "http.md").read_text()
    assert [path for path in OWN_PATHS if not path.endswith("/") and f" {path}`" not in text] == []
    members = SCHEMAS["Stream"]["properties"]
    assert [name for name in members if f"`{name}`" not in text] == []
    assert [name for name in query.PARAMETERS if f"`{name}`" not in text] == []


def test_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """Every page is in the navigation, and every link and every anchor is there."""
    if importlib.util.find_spec("material") is None:
        missing("mkdocs-material")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)]
    ran = subprocess.run(
        build, cwd=REPOSITORY, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    outside = re.compile(r"""<(?:script|img|iframe|link(?=[^>]*stylesheet))[^>]*["']https?://""")
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 10
    assert [page.name for page in pages if outside.search(page.read_text())] == []


def test_documentation_names_no_place_of_a_machine() -> None:
    """Paths are those of a clone, whoever's machine it is on."""
    place = re.compile(r"(?<![\w.-])/(?:work|home|root|tmp)/")
    pages = [REPOSITORY / "README.md", *DOCS.rglob("*.md")]
    assert [page.name for page in pages if place.search(page.read_text())] == []
