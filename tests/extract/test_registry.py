"""Adding a site: one file with one function."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.extract import extractors, registry
from tests.extract.helpers import first, read

SITE = """
from collections.abc import Iterable
from proxy.extract.document import Document
from proxy.extract.model import Candidate, Standing
from proxy.extract.registry import extractor

@extractor("example_site")
def example_site(document: Document) -> Iterable[Candidate]:
    if "site.example" in document.url:
        yield Candidate(url="https://m.example/site.m3u8", kind="hls", standing=Standing.MAIN)
"""


@pytest.fixture
def clean() -> Iterator[None]:
    """The registry as it was."""
    known, paths = dict(registry._extractors), list(extractors.__path__)
    yield
    registry._extractors.clear()
    registry._extractors.update(known)
    extractors.__path__[:] = paths
    sys.modules.pop("proxy.extract.extractors.example_site", None)


@pytest.mark.usefixtures("clean")
def test_file_in_the_folder_is_an_extractor(tmp_path: Path) -> None:
    """Its import registers it, and it is believed before the general ones."""
    (tmp_path / "example_site.py").write_text(SITE)
    extractors.__path__.append(str(tmp_path))
    registry.load(extractors)
    one = first(read("<video src=https://m.example/general.m3u8></video>"))
    assert (one.url, one.extractor) == ("https://m.example/site.m3u8", "example_site")


@pytest.mark.usefixtures("clean")
def test_name_that_is_taken_is_refused() -> None:
    """Two extractors of one name would hide each other."""
    with pytest.raises(ValueError, match="json_ld"):
        registry.extractor("json_ld")(lambda _: ())
