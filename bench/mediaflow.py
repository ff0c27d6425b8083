"""mediaflow-proxy, in an environment of its own: what it depends on is not what we depend on.

    python -m bench.mediaflow

makes that environment beside the clips, once; without it mediaflow-proxy is not measured.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from bench.clip import CACHE

__all__ = ["COMMAND", "installed", "make", "version"]

FOLDER = CACHE / "mediaflow-proxy"
PYTHON = FOLDER / "bin" / "python"
PACKAGES = ("mediaflow-proxy>=2.4.9", "uvloop")  # on the loop that all run on
COMPLETE = FOLDER / "complete"
INSTALL_S = 600
# One process of it, as of all the others.
COMMAND = (
    str(PYTHON), "-m", "uvicorn", "mediaflow_proxy.main:app",
    "--port", "{port}", "--log-level", "warning", "--no-access-log",
    "--timeout-graceful-shutdown", "1",
)  # fmt: skip


def installed() -> bool:
    return COMPLETE.is_file()


def make() -> bool:
    """Install it unless it is there; tell whether it is."""
    if installed():
        return True
    CACHE.mkdir(exist_ok=True)
    pip = (str(PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES)
    try:
        for command in ((sys.executable, "-m", "venv", "--clear", str(FOLDER)), pip):
            subprocess.run(command, check=True, timeout=INSTALL_S)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"mediaflow-proxy cannot be installed, and is left out: {error}", file=sys.stderr)
        shutil.rmtree(FOLDER, ignore_errors=True)
        return False
    COMPLETE.touch()
    return True


def version() -> str | None:
    """Return which one is installed; None for none."""
    found = sorted(Path(FOLDER).glob("lib/*/site-packages/mediaflow_proxy-*.dist-info"))
    return found[0].name.removesuffix(".dist-info").partition("-")[2] if found else None


if __name__ == "__main__":
    sys.exit(not make())
