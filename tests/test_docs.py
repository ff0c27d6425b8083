"""What the documentation says about the tests is so."""

import re

import pytest

from tests.conftest import REPOSITORY

RELIABILITY = (REPOSITORY / "docs" / "reliability.md").read_text()


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
