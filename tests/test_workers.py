"""Several processes on one port: real ones, killed in every way.

Which worker takes a connection is chance; where it matters, the others are stopped meanwhile.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.support.client import TIMEOUT_S, Conversation, Reply, ask, stream_target
from tests.support.clips import hls, make_clip
from tests.support.fidelity import assert_faithful
from tests.support.origin import Gate, Origin
from tests.support.processes import children, stopped, until_gone
from tests.support.served import LOOPBACK, Running, curl, running, until_idle

RESPAWN_S = 10.0  # ten times what is promised


@dataclass
class Server:
    """A server of two workers, and the origin behind it."""

    run: Running
    address: str
    origin: Origin
    gate: Gate  # where all streams stop, some fragments into them
    workers: list[int]
    open: list[Conversation] = field(default_factory=list)

    @property
    def target(self) -> str:
        return stream_target(self.origin.at("/media.m3u8"))

    def tell(self, signum: signal.Signals) -> None:
        self.run.process.send_signal(signum)

    @contextlib.asynccontextmanager
    async def only(self, worker: int) -> AsyncIterator[None]:
        """Meanwhile, connections come to this worker alone."""
        async with stopped(set(self.workers) - {worker}):
            yield

    async def stream(self, worker: int) -> Conversation:
        """Start a stream in one worker; returns when it has begun and stands at the gate."""
        async with self.only(worker):
            conversation = await Conversation.open(self.address)
            self.open.append(conversation)
            conversation.request(self.target)
            await conversation.begun()
            await self.at_gate(len(self.open))
        return conversation

    async def at_gate(self, streams: int) -> None:
        await self.origin.until(lambda: len(self.origin.asked("/segment2.ts")) >= streams)

    async def ask(self, worker: int, target: str = "") -> Reply:
        async with self.only(worker):
            return await ask(self.address, target or self.target)

    async def new_worker(self) -> int:
        """Wait for the worker that takes the place of one that died."""
        async with asyncio.timeout(RESPAWN_S):
            while True:
                for process in children(self.run.process.pid) - set(self.workers):
                    await self.run.until_said(f"process {process} serves")
                    return process
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def serving(**changes: str) -> AsyncIterator[Server]:
    """Serve with two workers; afterwards, whatever happened, no process is left."""
    environment = {**LOOPBACK, "REMUXD_SERVER__WORKERS": "2", **changes}
    async with Origin() as origin:
        for path, body in hls(make_clip(seconds=6)).items():
            origin.add(f"/{path}", body)
        gate = origin.hold("/segment2.ts", after_bytes=5000)
        async with running("proxy", "serve", "--port", "0", environment=environment) as run:
            line = await run.until_said("listening on")
            workers = await both_workers(run)
            server = Server(run, line.rpartition(" ")[2], origin, gate, workers)
            async with contextlib.AsyncExitStack() as stack:
                stack.push_async_callback(close_all, server.open)
                yield server
            gate.open()
        try:
            await until_gone(set(said_to_serve(run)))
        except TimeoutError:
            for process in said_to_serve(run):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            raise


async def close_all(conversations: list[Conversation]) -> None:
    for conversation in conversations:
        conversation.leave()


async def both_workers(run: Running) -> list[int]:
    async with asyncio.timeout(TIMEOUT_S):
        while len(said_to_serve(run)) < 2:  # noqa: ASYNC110 - two lines, in any order
            await asyncio.sleep(0.01)
    return said_to_serve(run)


async def until_written(file: Path) -> None:
    def written() -> bool:
        return file.exists() and file.stat().st_size > 0

    async with asyncio.timeout(TIMEOUT_S):
        while not written():  # noqa: ASYNC110 - by another process
            await asyncio.sleep(0.01)


def said_to_serve(run: Running) -> list[int]:
    return [int(line.split()[-2]) for line in run.said if line.endswith(" serves")]


def assert_whole(reply: Reply) -> None:
    assert (reply.status, reply.ended) == (200, "complete")
    assert_faithful(make_clip(seconds=6).data, reply.body)


# -- one server ------------------------------------------------------------------------------------


async def test_workers_serve_one_port() -> None:
    """Every worker serves whole streams, counts those of the others, and logs under its pid."""
    async with serving() as server:
        streams = [await server.stream(worker) for worker in server.workers]
        for worker in server.workers:
            for path in ("/healthz", "/readyz"):
                assert (await server.ask(worker, path)).json()["streams"] == 2
        server.gate.open()
        for stream, worker in zip(streams, server.workers, strict=True):
            assert_whole(await stream.reply())
            await server.run.until_said(f"[{worker}] INFO proxy.delivery stream")
        await until_idle(server.address)
        server.tell(signal.SIGTERM)
        assert await server.run.ended() == 0


async def test_workers_know_what_comes_back_to_one_of_them() -> None:
    """A request that any worker has sent is refused by every worker: it runs in a circle."""
    async with serving() as server:
        for worker in server.workers:
            await server.stream(worker)
        (via,) = {request.headers["via"] for request in server.origin.requests}
        for worker in server.workers:
            async with server.only(worker):
                reply = await ask(server.address, server.target, headers=(("Via", via),))
            assert (reply.status, reply.json()["code"]) == (508, "loop_detected")


async def test_workers_share_a_unix_socket(tmp_path: Path) -> None:
    """A unix socket serves like a port, and its file goes with the master, not with a worker."""
    path = tmp_path / "socket"
    async with serving(REMUXD_SERVER__UNIX_SOCKET=str(path)) as server:
        first, second = server.workers
        assert server.address == f"unix:{path}"
        os.kill(first, signal.SIGTERM)
        server.workers[0] = await server.new_worker()
        stream = await server.stream(second)
        server.gate.open()
        assert_whole(await stream.reply())
        server.tell(signal.SIGTERM)
        assert await server.run.ended() == 0
    assert not path.exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"REMUXD_UPSTREAM__CA_FILE": str(REPOSITORY / "LICENSE")}, "ca_file"),
        ({"REMUXD_SERVER__UNIX_SOCKET": "/nowhere/socket"}, "server.unix_socket"),
        ({"REMUXD_SERVER__HOST": "nowhere.invalid"}, "server.host"),
    ],
)
async def test_workers_do_not_start_with_a_bad_configuration(
    changes: dict[str, str], named: str
) -> None:
    """What stops the start of one process stops it before there is any worker."""
    environment = {**LOOPBACK, "REMUXD_SERVER__WORKERS": "2", **changes}
    async with running("proxy", "serve", "--port", "0", environment=environment) as run:
        assert await run.ended() == 78
    assert len(run.said) == 1
    assert named in run.said[0]


async def test_workers_that_cannot_serve_end_the_start() -> None:
    """What only a worker can find out is told once, not again and again by new workers."""
    environment = {**LOOPBACK, "REMUXD_SERVER__WORKERS": "2"}
    command = ("tests.support.unable", "serve", "--port", "0")
    async with running(*command, environment=environment) as run:
        assert await run.ended() == 3
    assert sum("RuntimeError: unable to serve" in line for line in run.said) in {1, 2}


async def test_workers_on_a_port_that_is_taken() -> None:
    """One line and exit code 1."""
    environment = {**LOOPBACK, "REMUXD_SERVER__WORKERS": "2"}
    async with Origin() as origin:
        command = ("proxy", "serve", "--port", str(origin.port))
        async with running(*command, environment=environment) as run:
            assert await run.ended() == 1
    assert len(run.said) == 1
    assert "in use" in run.said[0]


# -- a worker dies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "code"), [("--http1.1", 18), ("--http1.0", 56)])
async def test_worker_that_dies_takes_only_its_own_streams(
    tmp_path: Path, version: str, code: int
) -> None:
    """Its client sees a cut, over HTTP/1.0 too, and the other none; it is replaced, and the log
    says so."""
    async with serving() as server:
        dying, other = server.workers
        survivor = await server.stream(other)
        async with server.only(dying):
            victim = asyncio.create_task(
                curl(version, "-N", "-o", str(tmp_path / "out"), server.address + server.target)
            )
            await until_written(tmp_path / "out")
        os.kill(dying, signal.SIGSEGV)
        assert (await victim)[0] == code  # partial file; reset
        server.workers[0] = await server.new_worker()
        await server.run.until_said(f"(pid:{dying}) was sent SIGSEGV")
        await server.run.until_said(f"worker {dying} took 1 streams with it")
        assert (await server.ask(other, "/healthz")).json()["streams"] == 1
        successor = await server.stream(server.workers[0])
        server.gate.open()
        assert_whole(await survivor.reply())
        assert_whole(await successor.reply())


async def test_worker_that_dies_while_draining_is_not_replaced() -> None:
    """A server that ends starts nothing, and ends well."""
    async with serving() as server:
        stream = await server.stream(server.workers[0])
        server.tell(signal.SIGTERM)
        await until_gone([server.workers[1]])
        os.kill(server.workers[0], signal.SIGKILL)
        assert (await stream.reply()).ended == "cut"
        assert await server.run.ended() == 0
        assert len(said_to_serve(server.run)) == 2


# -- the state of streams --------------------------------------------------------------------------

TOKEN = "an-operators-token"
OPERATOR = (("Authorization", f"Bearer {TOKEN}"),)


async def connected(server: Server, worker: int, stack: contextlib.AsyncExitStack) -> Conversation:
    """A connection to this worker, for what needs the others to run."""
    async with server.only(worker):
        conversation = await stack.enter_async_context(await Conversation.open(server.address))
        conversation.request("/healthz")
        await conversation.reply()
    return conversation


async def test_workers_answer_for_the_streams_of_all() -> None:
    """Whoever is asked knows each stream, running or ended, wherever it runs or ran."""
    async with serving(REMUXD_SECURITY__OPERATOR_TOKEN=TOKEN) as server:
        first, second = server.workers
        conversation = await server.stream(first)
        _, headers = await conversation.head()
        target = f"/streams/{dict(headers)['x-stream-id']}"
        for worker in server.workers:  # while the other one does not even run
            state = (await server.ask(worker, target)).json()
            assert (state["phase"], state["outcome"]) == ("streaming", None)
            async with server.only(worker):
                reply = await ask(server.address, "/streams", headers=OPERATOR)
            assert [one["id"] for one in reply.json()["streams"]] == [state["id"]]
        refused = await server.ask(first, "/stream")
        server.gate.open()
        await until_idle(server.address)
        state = (await server.ask(second, target)).json()
        assert (state["phase"], state["segments"]["fetched"]) == ("ended", 3)
        assert state == (await server.ask(first, target)).json()
        state = (await server.ask(second, f"/streams/{refused.header('x-stream-id')}")).json()
        assert (state["phase"], state["outcome"]) == ("ended", "invalid_request")


async def test_workers_stop_the_streams_of_each_other() -> None:
    """DELETE is answered by any of them, when the stream has ended; its events tell that, too."""
    async with (
        serving(REMUXD_SECURITY__OPERATOR_TOKEN=TOKEN) as server,
        contextlib.AsyncExitStack() as stack,
    ):
        first, second = server.workers
        other = await connected(server, second, stack)
        watcher = await connected(server, second, stack)
        stream = await server.stream(first)
        _, headers = await stream.head()
        target = f"/streams/{dict(headers)['x-stream-id']}"
        watcher.request(f"{target}/events")
        await watcher.begun()
        other.request(target, method="DELETE", headers=OPERATOR)
        assert (await other.reply()).status == 204
        other.request(target)
        state = (await other.reply()).json()
        assert (state["phase"], state["outcome"]) == ("ended", "stopped")
        body = (await watcher.reply()).body
        assert body.rpartition(b"event: ")[2].startswith(b"end\n")
        assert (await ask(server.address, "/healthz")).json()["streams"] == 0


def figure(reply: Reply, name: str) -> float:
    """One line of /metrics."""
    (line,) = [one for one in reply.body.decode().splitlines() if one.startswith(f"{name} ")]
    return float(line.rpartition(" ")[2])


async def until_figure(server: Server, name: str, value: float) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while figure(await ask(server.address, "/metrics"), name) != value:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # what another worker holds is told once a second


async def test_workers_add_up_their_figures() -> None:
    """Whichever is scraped tells of all; what has been counted stays when a worker dies, and what
    it held is gone."""
    complete = 'remuxd_streams_total{code="",outcome="complete"}'
    died = 'remuxd_streams_total{code="worker_died",outcome="aborted"}'
    active = 'remuxd_streams_active{phase="streaming"}'
    async with serving() as server:
        first = server.workers[0]
        streams = [await server.stream(worker) for worker in server.workers]
        await until_figure(server, active, 2)
        server.gate.open()
        sent = sum([len((await stream.reply()).body) for stream in streams])
        await until_idle(server.address)
        await until_figure(server, active, 0)
        for worker in server.workers:
            reply = await server.ask(worker, "/metrics")
            assert figure(reply, complete) == 2
            assert figure(reply, "remuxd_segments_fetched_total") == 6
            assert figure(reply, "remuxd_sent_bytes_total") == sent
            assert figure(reply, "remuxd_time_to_first_fragment_seconds_count") == 2
        os.kill(first, signal.SIGKILL)
        server.workers[0] = await server.new_worker()
        for worker in server.workers:
            reply = await server.ask(worker, "/metrics")
            assert (figure(reply, complete), figure(reply, died)) == (2, 0)


async def test_workers_count_the_streams_that_died() -> None:
    """A stream whose process is gone has ended, and no stream is active any more."""
    async with serving() as server:
        dying = server.workers[0]
        await server.stream(dying)
        os.kill(dying, signal.SIGKILL)
        server.workers[0] = await server.new_worker()
        for worker in server.workers:
            reply = await server.ask(worker, "/metrics")
            died = 'remuxd_streams_total{code="worker_died",outcome="aborted"}'
            assert figure(reply, died) == 1
            assert figure(reply, 'remuxd_streams_active{phase="streaming"}') == 0


async def test_workers_tell_of_a_stream_whose_worker_died() -> None:
    """What a dead process has left behind is known as ended, and how."""
    async with serving() as server:
        dying = server.workers[0]
        conversation = await server.stream(dying)
        _, headers = await conversation.head()
        os.kill(dying, signal.SIGKILL)
        server.workers[0] = await server.new_worker()
        for worker in server.workers:
            state = (await server.ask(worker, f"/streams/{dict(headers)['x-stream-id']}")).json()
            assert (state["phase"], state["outcome"]) == ("ended", "worker_died")
            assert state["root_cause"]["layer"] == "proxy"


# -- limits of the whole ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "status", "code"),
    [
        ("REMUXD_LIMITS__STREAMS", 503, "overloaded"),
        ("REMUXD_LIMITS__STREAMS_PER_CLIENT", 429, "rate_limited"),
    ],
)
async def test_limits_count_the_streams_of_all_workers(limit: str, status: int, code: str) -> None:
    """Two streams are two, wherever they run; and one that is over makes room everywhere."""
    async with serving(**{limit: "2"}) as server:
        streams = [await server.stream(worker) for worker in server.workers]
        for worker in server.workers:
            reply = await server.ask(worker)
            assert (reply.status, reply.json()["code"]) == (status, code)
            assert int(reply.header("retry-after") or 0) > 0
        server.gate.open()
        for stream in streams:
            assert_whole(await stream.reply())
        await until_idle(server.address)
        assert_whole(await server.ask(server.workers[0]))


async def test_limits_forget_the_streams_of_a_dead_worker() -> None:
    """Nobody has to wait for places that the dead had."""
    async with serving(REMUXD_LIMITS__STREAMS="1") as server:
        dying, other = server.workers
        await server.stream(dying)
        assert (await server.ask(other)).status == 503
        os.kill(dying, signal.SIGKILL)
        server.workers[0] = await server.new_worker()
        server.gate.open()
        assert_whole(await server.ask(other))


# -- the end ---------------------------------------------------------------------------------------


async def test_sigterm_lets_the_streams_of_all_workers_finish() -> None:
    """Not ready at once, nothing new, running streams come whole, exit code 0."""
    async with serving() as server:
        first, second = server.workers
        stream = await server.stream(first)
        server.tell(signal.SIGTERM)
        await until_gone([second])  # it had nothing to finish
        assert (await ask(server.address, "/readyz")).status == 503
        refused = await ask(server.address, server.target)
        assert (refused.status, refused.json()["code"]) == (503, "overloaded")
        server.gate.open()
        assert_whole(await stream.reply())
        assert await server.run.ended() == 0


async def test_sigterm_to_the_whole_group_is_one_sigterm() -> None:
    """A service manager may tell every process: none takes that for the second time."""
    async with serving() as server:
        stream = await server.stream(server.workers[0])
        for worker in server.workers:
            os.kill(worker, signal.SIGTERM)
        server.tell(signal.SIGTERM)
        await until_gone([server.workers[1]])
        server.gate.open()
        assert_whole(await stream.reply())
        assert await server.run.ended() == 0


async def test_sigterm_cuts_at_the_end_of_the_drain() -> None:
    """What does not end in `drain_s` is cut visibly, and the exit code is still 0."""
    async with serving(REMUXD_SERVER__DRAIN_S="0.1") as server:
        streams = [await server.stream(worker) for worker in server.workers]
        server.tell(signal.SIGTERM)
        assert [(await stream.reply()).ended for stream in streams] == ["cut", "cut"]
        assert await server.run.ended() == 0
        assert sum("outcome=shutdown" in line for line in server.run.said) == 2


@pytest.mark.parametrize("signals", [[signal.SIGTERM, signal.SIGTERM], [signal.SIGINT]])
async def test_second_signal_ends_all_workers_now(signals: list[signal.Signals]) -> None:
    """A second SIGTERM, or Ctrl-C, does not wait."""
    async with serving(REMUXD_SERVER__DRAIN_S="3600") as server:
        streams = [await server.stream(worker) for worker in server.workers]
        for signum in signals:
            server.tell(signum)
            await server.run.until_said("stopping: all workers")
        assert [(await stream.reply()).ended for stream in streams] == ["cut", "cut"]
        assert await server.run.ended() == 0


async def test_workers_do_not_outlive_their_master() -> None:
    """They give the port free at once, let their streams finish, and are gone."""
    async with serving() as server:
        first, second = server.workers
        stream = await server.stream(first)
        server.tell(signal.SIGKILL)
        await until_gone([second])
        await server.run.until_said(f"[{first}] INFO proxy.serving stopping")
        port = server.address.rpartition(":")[2]
        async with running("proxy", "serve", "--port", port) as next_one:
            await next_one.until_said("listening on")
            assert (await ask(server.address, "/readyz")).status == 200
            server.gate.open()
            assert_whole(await stream.reply())
        await until_gone([first])
