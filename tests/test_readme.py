"""What the README shows works as it is shown."""

import functools
import re
from pathlib import Path

import pytest

import proxy
from bench.readme import BEGIN, END
from proxy.cli import main
from tests.conftest import REPOSITORY
from tests.support.clips import hls, make_clip
from tests.support.fidelity import assert_faithful
from tests.support.origin import Origin

TEXT = (REPOSITORY / "README.md").read_text()


async def test_library_example_saves_a_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Python block runs as it stands (but for the test's origin, which is on loopback)."""
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    open_stream = functools.partial(proxy.open_stream, allow_private_addresses=True)
    monkeypatch.setattr(proxy, "open_stream", open_stream, raising=False)
    namespace: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), namespace)
    save = namespace["save"]
    assert callable(save)
    async with Origin() as origin:
        for path, body in hls(make_clip()).items():
            origin.add(f"/{path}", body)
        await save(origin.at("/media.m3u8"), str(tmp_path / "out.mp4"))
    assert_faithful(make_clip().data, (tmp_path / "out.mp4").read_bytes())


def test_commands_of_the_readme_exist() -> None:
    """Every `make` target and every subcommand that is shown is there."""
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = re.findall(r"^make (\w+)", TEXT, flags=re.MULTILINE)
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
    commands = re.findall(r"bin/remuxd (\w+)", TEXT)
    assert commands
    assert set(commands) <= set(main.commands)


def test_files_of_the_readme_exist() -> None:
    """Links and files that are named are there."""
    for name in re.findall(r"\]\(([^)#:]+)\)|`(tests/\w+\.py)`", TEXT):
        assert (REPOSITORY / (name[0] or name[1])).exists(), name


def test_keys_of_the_readme_exist() -> None:
    """Variables that are shown are those of real keys."""
    config = (REPOSITORY / "config.toml").read_text()
    for section, key in re.findall(r"REMUXD_([A-Z]+)__([A-Z_]+)", TEXT):
        assert re.search(rf"^\[{section.lower()}\]", config, flags=re.MULTILINE)
        assert re.search(rf"^{key.lower()} = ", config, flags=re.MULTILINE)


def test_readme_has_a_place_for_the_measurements() -> None:
    """`make bench` finds its two markers, once each and in order."""
    assert (TEXT.count(BEGIN), TEXT.count(END)) == (1, 1)
    assert TEXT.index(BEGIN) < TEXT.index(END)
