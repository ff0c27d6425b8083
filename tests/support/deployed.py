"""The proxies in front, as the files in `deploy/` have them: only their addresses are others.

async with deployed_nginx(address, folder) as front:
    code, body = await curl(front.address + target)
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.conftest import REPOSITORY
from tests.support.envoy import running_envoy
from tests.support.nginx import running_nginx
from tests.support.served import Running, free_port

DEPLOY = REPOSITORY / "deploy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """A proxy that runs in front of something."""

    address: str
    run: Running


MakeFront = Callable[[str, Path], AbstractAsyncContextManager[Front]]


@contextlib.asynccontextmanager
async def deployed_nginx(upstream: str, folder: Path) -> AsyncIterator[Front]:
    """Run nginx by `deploy/nginx.conf` in front of `upstream` (`http://host:port`)."""
    port = free_port()
    changes = {
        "server 127.0.0.1:8080;": f"server {urlsplit(upstream).netloc};",
        "listen 80;": f"listen 127.0.0.1:{port};",
    }
    site = with_addresses((DEPLOY / "nginx.conf").read_text(), changes)
    async with running_nginx(site, folder) as run:
        yield Front(address=f"http://127.0.0.1:{port}", run=run)


@contextlib.asynccontextmanager
async def deployed_envoy(upstream: str, folder: Path) -> AsyncIterator[Front]:
    """Run Envoy by `deploy/envoy.yaml` in front of `upstream` (`http://host:port`)."""
    port, behind = free_port(), urlsplit(upstream)
    changes = {
        "{ address: 0.0.0.0, port_value: 8000 }": f"{{ address: 127.0.0.1, port_value: {port} }}",
        "{ address: 127.0.0.1, port_value: 8080 }": (
            f"{{ address: {behind.hostname}, port_value: {behind.port} }}"
        ),
    }
    config = folder / "envoy.yaml"
    config.write_text(with_addresses((DEPLOY / "envoy.yaml").read_text(), changes))
    async with running_envoy(config, port) as run:
        yield Front(address=f"http://127.0.0.1:{port}", run=run)


def with_addresses(text: str, changes: Mapping[str, str]) -> str:
    """Change these addresses in a file, each of which stands there once, and nothing else."""
    changed = text
    for old, new in changes.items():
        assert changed.count(old) == 1, f"{old} does not stand there once"
        changed = changed.replace(old, new)
    differ = [a for a, b in zip(text.splitlines(), changed.splitlines(), strict=True) if a != b]
    assert len(differ) == len(changes)
    return changed
