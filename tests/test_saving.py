"""The file that a stream is saved to; `test_cli` has the rest."""

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.saving import Target


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("", "is a directory"),
        ("new/", "is a directory"),
        ("nowhere/out.mp4", "no directory"),
        ("taken.mp4", "taken.mp4.part is a directory"),
        ("link.mp4", "is a directory"),
    ],
)
def test_target_where_no_file_can_be(tmp_path: Path, output: str, told: str) -> None:
    """What cannot be written is found out at once, and nothing is made."""
    (tmp_path / "taken.mp4.part").mkdir()
    (tmp_path / "link.mp4").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=told):
        Target(f"{tmp_path}/{output}")
    assert {file.name for file in tmp_path.iterdir()} == {"taken.mp4.part", "link.mp4"}


@pytest.mark.parametrize("output", ["/", ".", ""])
def test_target_without_a_name(output: str) -> None:
    """A path that ends in no name is a directory, too."""
    with pytest.raises(ValueError, match="directory"):
        Target(output)


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Root may write everywhere, so it is somebody else meanwhile."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_target_that_is_not_ours() -> None:
    """A directory that may not be written to."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        with nobody(), pytest.raises(ValueError, match="cannot be written"):
            Target(f"{folder}/out.mp4")


def test_target_takes_its_name_at_the_end(tmp_path: Path) -> None:
    """Until it is whole the file has another name; an older one stays as long."""
    file = tmp_path / "out.mp4"
    file.write_bytes(b"older")
    with Target(str(file)) as target:
        target.write(b"new")
        assert file.read_bytes() == b"older"
    assert file.read_bytes() == b"new"
    assert [one.name for one in tmp_path.iterdir()] == ["out.mp4"]


def test_target_that_is_no_file(tmp_path: Path) -> None:
    """A pipe or a device is written to, and not replaced by a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    came: list[bytes] = []
    reading = threading.Thread(target=lambda: came.append(pipe.read_bytes()))
    reading.start()
    with Target(str(pipe)) as target:
        assert target.part is None
        target.write(b"all of it")
    reading.join()
    assert came == [b"all of it"]
    assert pipe.is_fifo()
