"""The command line of a server in which no process can serve: `python -m tests.support.unable`."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from proxy import wiring
from proxy.cli import main


@contextlib.asynccontextmanager
async def running_app(*_: Any, **__: Any) -> AsyncIterator[None]:
    """Fail as late as can be."""
    raise RuntimeError("unable to serve")
    yield


if __name__ == "__main__":
    wiring.running_app = running_app  # type: ignore[assignment]
    main()
