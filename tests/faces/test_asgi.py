"""What the ASGI face does beyond what both faces do, spoken to in ASGI's own words."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import pytest

from proxy.app import App, Settings
from proxy.errors import CorruptMedia, StreamAborted
from proxy.faces.asgi import PIECE_BYTES, SLOW_S, TURN_PARTS, AsgiApp
from tests.support.client import TIMEOUT_S, stream_target
from tests.support.pipelines import PARTS, ScriptedPipeline

Message = MutableMapping[str, Any]


def http_scope(target: str = stream_target(), **changes: Any) -> Message:
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": [(b"host", b"test.invalid")],
        "client": ("192.0.2.1", 12345),
    }
    return {**scope, **changes}


class Server:
    """An ASGI server's side of one scope: what `receive` says, and what `send` was told."""

    def __init__(self, *messages: Message) -> None:
        self.sent: list[Message] = []
        self.told: asyncio.Queue[Message] = asyncio.Queue()
        self.spoken = asyncio.Event()  # something was sent
        self.failure: Exception | None = None  # raised by `send`
        self.stuck = False  # `send` never returns
        for message in messages:
            self.told.put_nowait(message)

    async def receive(self) -> Message:
        return await self.told.get()

    async def send(self, message: Message) -> None:
        if self.failure is not None and message["type"] == "http.response.body":
            raise self.failure
        self.sent.append(message)
        self.spoken.set()
        if self.stuck and message["type"] == "http.response.body":
            await asyncio.Event().wait()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


REQUEST: Message = {"type": "http.request", "body": b"", "more_body": False}
DISCONNECT: Message = {"type": "http.disconnect"}


def asgi(app: App) -> AsgiApp:
    return AsgiApp(lambda: contextlib.nullcontext(app))


async def test_stream_ends_with_an_empty_last_message() -> None:
    """The body is the parts, and more_body is false exactly once, at the end."""
    server = Server(REQUEST)
    await asgi(App(ScriptedPipeline()))(http_scope(), server.receive, server.send)
    start, *bodies = server.sent
    assert (start["type"], start["status"]) == ("http.response.start", 200)
    assert all(name == name.lower() for name, _ in start["headers"])
    assert all(message.get("more_body") for message in bodies[:-1])
    assert bodies[-1] == {"type": "http.response.body", "body": b""}
    assert server.body == b"".join(PARTS)


async def test_stream_that_breaks_raises() -> None:
    """A cut is an exception out of the application, and no last message."""
    server, pipeline = Server(REQUEST), ScriptedPipeline(breaks=CorruptMedia("broken"))
    with pytest.raises(StreamAborted):
        await asgi(App(pipeline))(http_scope(), server.receive, server.send)
    assert all(message.get("more_body") for message in server.sent[1:])
    assert pipeline.streams[0].closed.is_set()


async def test_stream_that_is_stopped_raises() -> None:
    """What the operator ends is a cut like any other, also where the client takes nothing."""
    server, app = Server(REQUEST), App(ScriptedPipeline(endless=True))
    server.stuck = True
    answering = asyncio.ensure_future(asgi(app)(http_scope(), server.receive, server.send))
    while not server.body:
        server.spoken.clear()
        await asyncio.wait_for(server.spoken.wait(), TIMEOUT_S)
    ((_, stream),) = [pair for pair in server.sent[0]["headers"] if pair[0] == b"x-stream-id"]
    assert await app.register.stop(stream.decode())
    with pytest.raises(StreamAborted, match="stopped"):
        await answering
    assert app.active == 0


async def test_disconnect_while_send_waits_closes_the_stream() -> None:
    """A client that left is noticed although `send` never returns."""
    server, pipeline = Server(REQUEST), ScriptedPipeline()
    server.stuck = True
    serving = asyncio.ensure_future(asgi(App(pipeline))(http_scope(), server.receive, server.send))
    await asyncio.wait_for(pipeline.asked.wait(), TIMEOUT_S)
    server.told.put_nowait(DISCONNECT)
    await asyncio.wait_for(serving, TIMEOUT_S)
    assert pipeline.streams[0].closed.is_set()


STARVED_MESSAGES = 20 * TURN_PARTS


class NeverWaitingServer(Server):
    """A server whose `send` waits for nothing, takes its time now and then, and keeps nothing."""

    def __init__(self, slow_every: int) -> None:
        super().__init__(REQUEST, DISCONNECT)
        self.slow_every = slow_every
        self.messages = 0

    async def send(self, message: Message) -> None:
        self.messages += 1
        if self.slow_every and self.messages % self.slow_every == 0:
            time.sleep(1.1 * SLOW_S)  # noqa: ASYNC251 - the event loop is not to have a turn
        if self.messages == STARVED_MESSAGES:
            raise OSError("the event loop has no turn")


@pytest.mark.parametrize("slow_every", [0, TURN_PARTS - 1])
async def test_disconnect_is_noticed_although_send_waits_for_nothing(slow_every: int) -> None:
    """A client that left is noticed where `send` never waits and there is always a part."""
    server, pipeline = NeverWaitingServer(slow_every), ScriptedPipeline(endless=True)
    await asgi(App(pipeline))(http_scope(), server.receive, server.send)
    assert server.messages < STARVED_MESSAGES
    assert pipeline.streams[0].closed.is_set()


async def test_os_error_from_send_closes_the_stream() -> None:
    """Servers of ASGI 2.4 raise where others are silent: a client that left is no failure."""
    server, pipeline = Server(REQUEST), ScriptedPipeline(endless=True)
    server.failure = OSError("client disconnected")
    await asgi(App(pipeline))(http_scope(), server.receive, server.send)
    assert pipeline.streams[0].closed.is_set()


async def test_idle_client_raises() -> None:
    """A `send` that does not return in time is cut by raising."""
    server, pipeline = Server(REQUEST), ScriptedPipeline()
    server.stuck = True
    app = App(pipeline, Settings(idle_client_s=0.01))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asgi(app)(http_scope(), server.receive, server.send), TIMEOUT_S)
    assert pipeline.streams[0].closed.is_set()


@pytest.mark.parametrize(
    ("root_path", "base_path", "path", "status"),
    [
        ("/media", "", "/media/healthz", 200),
        ("/media", "", "/healthz", 200),  # a server that takes it off itself
        ("/media", "/other", "/media/healthz", 200),
        ("", "/media", "/media/healthz", 200),
        ("", "/media", "/healthz", 404),
    ],
)
async def test_root_path_is_taken_off(
    root_path: str, base_path: str, path: str, status: int
) -> None:
    """What the server mounts us under counts, before the configured base path."""
    server = Server(REQUEST)
    app = App(ScriptedPipeline(), Settings(base_path=base_path))
    scope = http_scope(path, root_path=root_path)
    await asgi(app)(scope, server.receive, server.send)
    assert server.sent[0]["status"] == status


async def test_large_part_is_sent_in_pieces() -> None:
    """No single message is so large that a slow client looks idle."""
    server, part = Server(REQUEST), bytes(1_000_000)
    await asgi(App(ScriptedPipeline(parts=(part,))))(http_scope(), server.receive, server.send)
    assert server.body == part
    assert max(len(message.get("body", b"")) for message in server.sent) <= PIECE_BYTES


@pytest.mark.parametrize("size", [1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES + 1])
async def test_pieces_are_alike(size: int) -> None:
    """A part comes in as few pieces as can be, none of them a mere rest."""
    server, part = Server(REQUEST), bytes(size)
    await asgi(App(ScriptedPipeline(parts=(part,))))(http_scope(), server.receive, server.send)
    sizes = [len(message["body"]) for message in server.sent[1:-1] if message["body"]]
    assert sum(sizes) == size
    assert len(sizes) == -(-size // PIECE_BYTES)
    assert max(sizes) - min(sizes) < len(sizes)


class BufferingServer(Server):
    """A server that takes anything at once, and waits for the client only before it takes more."""

    def __init__(self, *messages: Message) -> None:
        super().__init__(*messages)
        self.full = asyncio.Event()  # something waits, and something more was to be sent
        self.taken = asyncio.Event()  # by the client

    async def send(self, message: Message) -> None:
        if self.body and not self.taken.is_set():
            self.full.set()
            await self.taken.wait()
        await super().send(message)


async def test_nothing_is_asked_for_while_the_client_takes() -> None:
    """A server that has taken a part at once holds that one, and we no other, until the client has
    it."""
    server, pipeline = BufferingServer(REQUEST), ScriptedPipeline()
    answering = asyncio.ensure_future(
        asgi(App(pipeline))(http_scope(), server.receive, server.send)
    )
    await asyncio.wait_for(server.full.wait(), TIMEOUT_S)
    assert pipeline.streams[0].taken == 1
    server.taken.set()
    await asyncio.wait_for(answering, TIMEOUT_S)
    assert server.body == b"".join(PARTS)


async def test_fast_client_is_not_waited_for() -> None:
    """Who has taken a part at once is sent nothing empty behind the ones that follow."""
    server = Server(REQUEST)
    await asgi(App(ScriptedPipeline()))(http_scope(), server.receive, server.send)
    assert [message["body"] for message in server.sent[1:-1]] == [PARTS[0], b"", *PARTS[1:]]


async def test_client_without_address_is_local() -> None:
    """Over a unix socket servers give no client; that is no error."""
    server = Server(REQUEST)
    await asgi(App(ScriptedPipeline()))(http_scope(client=None), server.receive, server.send)
    assert server.sent[0]["status"] == 200


class Lifetime:
    """Counts how often an app is made and let go."""

    def __init__(self) -> None:
        self.made = self.ended = 0

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[App]:
        self.made += 1
        await asyncio.sleep(0)
        yield App(ScriptedPipeline())
        self.ended += 1


async def test_lifespan_makes_the_app_and_lets_it_go() -> None:
    """What the app needs exists from startup to shutdown."""
    lifetime = Lifetime()
    application = AsgiApp(lifetime.connect)
    server = Server({"type": "lifespan.startup"})
    living = asyncio.ensure_future(application({"type": "lifespan"}, server.receive, server.send))
    await asyncio.wait_for(server.spoken.wait(), TIMEOUT_S)
    assert server.sent == [{"type": "lifespan.startup.complete"}]
    request = Server(REQUEST)
    await application(http_scope("/healthz"), request.receive, request.send)
    assert (lifetime.made, lifetime.ended) == (1, 0)
    server.told.put_nowait({"type": "lifespan.shutdown"})
    await asyncio.wait_for(living, TIMEOUT_S)
    assert server.sent[-1] == {"type": "lifespan.shutdown.complete"}
    assert lifetime.ended == 1


async def test_lifespan_of_a_host_makes_the_app_and_lets_it_go() -> None:
    """An application that mounts this one, and hands it no lifespan, runs it as its own."""
    lifetime = Lifetime()
    mounted = AsgiApp(lifetime.connect)
    async with mounted.lifespan(object()):
        for _ in range(2):
            request = Server(REQUEST)
            await mounted(http_scope("/healthz"), request.receive, request.send)
            assert request.sent[0]["status"] == 200
        assert (lifetime.made, lifetime.ended) == (1, 0)
    assert (lifetime.made, lifetime.ended) == (1, 1)


async def test_lifespan_that_fails_says_why() -> None:
    """A server is told that it must not start."""

    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[App]:
        raise ValueError("ca_file: unreadable")
        yield App(ScriptedPipeline())

    server = Server({"type": "lifespan.startup"})
    with pytest.raises(ValueError, match="unreadable"):
        await AsgiApp(connect)({"type": "lifespan"}, server.receive, server.send)
    (failed,) = server.sent
    assert failed == {"type": "lifespan.startup.failed", "message": "ca_file: unreadable"}


async def test_without_lifespan_the_first_request_makes_the_app_once() -> None:
    """Requests that come together share one app."""
    lifetime = Lifetime()
    application = AsgiApp(lifetime.connect)
    servers = [Server(REQUEST), Server(REQUEST)]
    async with asyncio.TaskGroup() as group:
        for server in servers:
            group.create_task(application(http_scope("/healthz"), server.receive, server.send))
    assert [server.sent[0]["status"] for server in servers] == [200, 200]
    assert lifetime.made == 1


async def test_websocket_is_closed() -> None:
    """There is nothing to talk about over a websocket."""
    server = Server({"type": "websocket.connect"})
    await asgi(App(ScriptedPipeline()))({"type": "websocket"}, server.receive, server.send)
    assert server.sent == [{"type": "websocket.close"}]
