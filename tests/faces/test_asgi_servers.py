"""The ASGI application under real servers, in processes of their own, asked by curl and by us."""

import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from tests.support.client import Conversation, ask, stream_target
from tests.support.clips import hls, make_clip
from tests.support.faults import Stall, Truncate
from tests.support.fidelity import assert_faithful
from tests.support.origin import Origin
from tests.support.served import LOOPBACK, curl, free_port, running, until_healthy, until_idle

FACTORY = "proxy.faces.asgi:create_app"
CURL_PARTIAL_FILE = 18  # "transfer closed with outstanding read data remaining"


def uvicorn(port: int) -> tuple[str, ...]:
    return ("uvicorn", "--factory", FACTORY, "--port", str(port), "--log-level", "error")


def uvicorn_h11(port: int) -> tuple[str, ...]:
    return (*uvicorn(port), "--http", "h11", "--lifespan", "off")


def granian(port: int) -> tuple[str, ...]:
    return ("granian", "--interface", "asgi", "--factory", FACTORY, "--port", str(port),
            "--host", "127.0.0.1", "--no-ws", "--log-level", "critical")  # fmt: skip


SERVERS = [uvicorn, uvicorn_h11, granian]


@contextlib.asynccontextmanager
async def served(command: Callable[[int], tuple[str, ...]]) -> AsyncIterator[tuple[Origin, str]]:
    """An origin with a clip of 6 s, and a server in front of it."""
    port = free_port()
    async with Origin() as origin, running(*command(port)):
        for path, body in hls(make_clip(seconds=6)).items():
            origin.add(f"/{path}", body)
        address = f"http://127.0.0.1:{port}"
        await until_healthy(address)
        yield origin, address


@pytest.mark.parametrize("command", SERVERS)
async def test_server_streams_cuts_and_notices_who_leaves(
    command: Callable[[int], tuple[str, ...]],
) -> None:
    """Whole streams arrive whole, broken ones make curl fail, abandoned ones end."""
    async with served(command) as (origin, address):
        target = stream_target(origin.at("/media.m3u8"))
        code, body = await curl(address + target)
        assert code == 0
        assert_faithful(make_clip(seconds=6).data, body)

        reply = await ask(address, target, version="1.0")
        assert (reply.status, reply.json()["code"]) == (505, "http_version_unsupported")

        origin.fault("/segment2.ts", Truncate(5000), times=3)  # as often as it is tried
        code, body = await curl(address + target)
        assert code == CURL_PARTIAL_FILE
        assert body

        origin.fault("/segment2.ts", Stall(5000))
        async with await Conversation.open(address) as conversation:
            conversation.request(target)
            await conversation.head()
            await origin.until(lambda: len(origin.asked("/segment2.ts")) == 5)
            conversation.leave()
        await origin.until(lambda: origin.asked("/segment2.ts")[-1].ended)
        await until_idle(address)


async def test_server_with_a_bad_configuration_does_not_start() -> None:
    """The factory refuses what `remuxd serve` refuses, naming the keys, with exit code 78."""
    async with running(*uvicorn(free_port()), environment={}) as run:
        assert await run.ended() == 78
        await run.until_said("upstream.allowed_hosts")
    environment = {**LOOPBACK, "REMUXD_SERVER__PROT": "1"}
    async with running(*uvicorn(free_port()), environment=environment) as run:
        assert await run.ended() == 78
        await run.until_said("server.prot: unknown key")
