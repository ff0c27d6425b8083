"""What is built from the repository has all that runs, and runs without a compiler too."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Literal

from tests.conftest import REPOSITORY, missing

SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "proxy", "tests")
MADE = shutil.ignore_patterns("*.so", "*.c", "__pycache__")
COMPILED = sorted(file.stem for file in (REPOSITORY / "proxy").rglob("*.pyx"))
WITHOUT = "import proxy.media.plain as p; print(p.compiled(), p.__file__)"


def build(kind: Literal["wheel", "sdist"], folder: Path, **environment: str) -> Path:
    """Build what pip would, from a copy of the sources."""
    if importlib.util.find_spec("Cython") is None:
        missing("Cython")
    clone = folder / "clone"
    for name in SOURCES:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, clone / name, ignore=MADE)
        else:
            clone.mkdir(exist_ok=True)
            shutil.copy(source, clone)
    done = subprocess.run(
        [sys.executable, "-c", f"from setuptools import build_meta; build_meta.build_{kind}('..')"],
        cwd=clone, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("remuxd-*")
    return built


def test_wheel_has_what_runs(tmp_path: Path) -> None:
    """The package with all files beside its modules, and what was compiled; nothing else."""
    with zipfile.ZipFile(build("wheel", tmp_path)) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    package = tmp_path / "clone" / "proxy"
    sources = {
        str(file.relative_to(package.parent))
        for file in package.rglob("*")
        if file.is_file() and file.suffix not in {".pyx", ".pxd", ".c"}
    }
    assert {"proxy/py.typed", "proxy/player/index.html", "proxy/media/transport.pyi"} <= sources
    assert sources <= set(names)
    made = sorted(set(names) - sources)
    assert [name.partition(".")[0] for name in made] == [f"proxy/media/{c}" for c in COMPILED]
    assert all(name.endswith(".so") for name in made)


def test_wheel_without_a_compiler(tmp_path: Path) -> None:
    """It is built all the same, and knows that nothing is compiled."""
    wheel = build("wheel", tmp_path, CC="/bin/false")
    with zipfile.ZipFile(wheel) as archive:
        assert [name for name in archive.namelist() if name.endswith(".so")] == []
    said = subprocess.run(
        [sys.executable, "-c", WITHOUT], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(wheel)},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert said.startswith(f"False {wheel}")


def test_sdist_has_what_is_compiled(tmp_path: Path) -> None:
    """The sources of what is compiled, and what compiles them, not what Cython makes of them."""
    with tarfile.open(build("sdist", tmp_path)) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {
        "setup.py",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "proxy/player/index.html",
    } <= names
    assert {f"proxy/media/{name}.pyx" for name in COMPILED} <= names
    assert [name for name in names if name.endswith((".c", ".so"))] == []
