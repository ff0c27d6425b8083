"""Fixtures for lifetimes only: everything else in the tests is a plain function in `support/`."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
REQUIRE_ALL = os.environ.get("REMUXD_TEST_REQUIRE_ALL") == "1"


def missing(what: str) -> None:
    """Skip the test, or fail it where everything is required (as in CI)."""
    if REQUIRE_ALL:
        pytest.fail(f"REMUXD_TEST_REQUIRE_ALL=1, and this is missing: {what}")
    pytest.skip(f"missing: {what}")


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of public test media; absent on a user's machine."""
    folder = Path(os.environ.get("REMUXD_CORPUS", REPOSITORY.parent / "shared" / "corpus"))
    if not (folder / "MANIFEST.json").is_file():
        missing(f"the corpus folder {folder.name} (set REMUXD_CORPUS)")
    return folder
