"""The fault origin: a real HTTP/1.1 server on a loopback port that does wrong what it is told to.

    async with Origin() as origin:
        address = origin.add("/a.ts", clip)                  # bytes, text, a file, or a function
        origin.fault("/a.ts", Status(503, retry_after=1), times=2)
        origin.fault("/*.ts", Delay(0.02))                   # always, where nothing else is due
        gate = origin.hold("/b.ts", after_bytes=1000)        # stops there until gate.open()
        await gate.reached()
        ...
        assert [r.status for r in origin.asked("/a.ts")] == [503, 503, 200]
        await origin.until(lambda: origin.open_connections == 0)

It runs on the loop of the test, as a protocol of its own below any HTTP library, so that answers
may be malformed and bytes are counted when the kernel took them.  An answer in progress ends when
its client leaves.  `until` waits for anything the origin can see: no test needs a sleep.  A path
that nobody added answers 404 and is kept in `unknown`.  The faults themselves are in `faults.py`
(and come with this module), what they make of an answer in `answers.py`.
"""

import asyncio
import fnmatch
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.support.answers import Answer, Content, Framing, Request, Resource, Validator, spoil
from tests.support.faults import (
    CloseDelimited,
    Delay,
    Endless,
    Fault,
    Garbage,
    Gzip,
    GzipBomb,
    Hangup,
    IgnoreRange,
    NoFinalChunk,
    Raw,
    Redirect,
    Refuse,
    Replace,
    Reset,
    SlowHeaders,
    Stall,
    Status,
    Trickle,
    Truncate,
    WrongLength,
    WrongRange,
)

__all__ = [
    "CloseDelimited",
    "Connection",
    "Delay",
    "Endless",
    "Fault",
    "Garbage",
    "Gate",
    "Gzip",
    "GzipBomb",
    "Hangup",
    "IgnoreRange",
    "NoFinalChunk",
    "Origin",
    "Raw",
    "Redirect",
    "Refuse",
    "Replace",
    "Request",
    "Reset",
    "SlowHeaders",
    "Stall",
    "Status",
    "Trickle",
    "Truncate",
    "WrongLength",
    "WrongRange",
    "unused_port",
]

PIECE_BYTES = 64 * 1024
CONTENT_TYPES = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".ts": "video/mp2t",
    ".mp4": "video/mp4",
    ".m4s": "video/iso.segment",
    ".aac": "audio/aac",
    ".html": "text/html; charset=utf-8",
}


@dataclass(slots=True)
class Connection:
    """One accepted TCP connection; times are of the loop's clock."""

    number: int
    opened_at: float
    closed_at: float | None = None


class Gate:
    """A place where answers stop until the test opens it."""

    def __init__(self, path: str, after_bytes: int | None) -> None:
        self.path = path
        self.after_bytes = after_bytes
        self._reached = asyncio.Event()
        self._opened = asyncio.Event()

    async def reached(self, timeout_s: float = 10.0) -> None:
        """Wait until an answer stands here."""
        async with asyncio.timeout(timeout_s):
            await self._reached.wait()

    def open(self) -> None:
        """Let pass whatever stands here or comes later."""
        self._opened.set()

    async def pass_through(self) -> None:
        if not self._opened.is_set():
            self._reached.set()
            await self._opened.wait()


@dataclass(slots=True)
class _Due:
    """A fault that is to be done."""

    path: str
    fault: Fault
    left: int | None  # None: always
    when: Callable[[Request], bool] | None

    def strikes(self, request: Request) -> bool:
        """Whether it is this request's turn; counts it."""
        if self.left == 0 or not fnmatch.fnmatchcase(request.path, self.path):
            return False
        if self.when is not None and not self.when(request):
            return False
        if self.left is not None:
            self.left -= 1
        return True


class Origin:
    """A faulty origin server on 127.0.0.1 and a port of its own; an async context manager.

    `tls`: a server context (`tests.support.tls`).  `delay_s`: before each answer.
    `rate_bytes_per_s`: pace of each connection.  `send_buffer_bytes`: SO_SNDBUF of accepted
    sockets, small where backpressure is counted.  `keep_alive=False`: one request per connection.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        delay_s: float = 0.0,
        rate_bytes_per_s: int | None = None,
        send_buffer_bytes: int | None = None,
        keep_alive: bool = True,
        host: str = "127.0.0.1",
    ) -> None:
        self.tls = tls
        self.delay_s = delay_s
        self.rate_bytes_per_s = rate_bytes_per_s
        self.send_buffer_bytes = send_buffer_bytes
        self.keep_alive = keep_alive
        self.host = host
        self.port = 0
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self.unknown: list[str] = []
        self._resources: dict[str, Resource] = {}
        self._faults: list[_Due] = []
        self._gates: list[Gate] = []
        self._live: set[_Protocol] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._returns: list[asyncio.Task[None]] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._server: asyncio.Server | None = None

    # -- what it serves ----------------------------------------------------------------------------

    def add(
        self,
        path: str,
        content: Content,
        *,
        content_type: str | None = None,
        framing: Framing = "length",
        validator: Validator = "etag",
        ranges: bool = True,
        headers: dict[str, str] | None = None,
    ) -> str:
        """Serve `content` at `path`; a function is asked anew for each request.

        Returns the address.  `ranges=False`: Range is ignored.  `validator`: what answers carry.
        """
        guessed = CONTENT_TYPES.get(Path(path).suffix.lower(), "application/octet-stream")
        self._resources[path] = Resource(
            content=content,
            content_type=content_type or guessed,
            framing=framing,
            validator=validator,
            ranges=ranges,
            headers=headers or {},
        )
        return self.at(path)

    def add_folder(self, folder: Path, prefix: str = "/") -> str:
        """Serve every file below `folder` under `prefix`; return the address of the prefix."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.add(prefix + file.relative_to(folder).as_posix(), file)
        return self.at(prefix)

    def remove(self, path: str) -> None:
        """Forget `path`: it answers 404 from now on."""
        del self._resources[path]

    def at(self, path: str) -> str:
        """The address of `path`."""
        return f"{self.url}{path}"

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    # -- what it does wrong ------------------------------------------------------------------------

    def fault(
        self,
        path: str,
        fault: Fault,
        *,
        times: int | None = None,
        when: Callable[[Request], bool] | None = None,
    ) -> None:
        """Do `fault` to the next `times` requests of `path` (`None`: always; `*` matches anything).

        `when`: only to requests of which it says so, such as those with an old token.
        Faults of one path come one after another, in the order in which they were given.
        """
        self._faults.append(_Due(path, fault, times, when))

    def heal(self, path: str | None = None) -> None:
        """Forget the faults given for `path`, or all."""
        self._faults = [due for due in self._faults if path not in (None, due.path)]

    def hold(self, path: str, *, after_bytes: int | None = 0) -> Gate:
        """Stop answers of `path` behind `after_bytes` of the body; `None`: before the headers."""
        gate = Gate(path, after_bytes)
        self._gates.append(gate)
        return gate

    async def refuse(self, for_s: float | None = None) -> None:
        """Stop listening: connects are refused, for a while or for good.  Open connections stay."""
        if self._server is not None:
            self._server.close()
            self._server = None
            await asyncio.sleep(0)  # the loop forgets the listener
            if for_s is not None:
                self._returns.append(asyncio.create_task(self._return(for_s)))

    async def _return(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        if not self.listening:
            await self.listen()
            self._happened()

    async def listen(self) -> None:
        """Listen, on the same port as before."""
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        # With its protocol named, asyncio sets TCP_NODELAY; else small answers take 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.send_buffer_bytes is not None:  # accepted sockets inherit it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer_bytes)
        listener.bind((self.host, self.port))
        self.port = listener.getsockname()[1]
        self._server = await loop.create_server(
            lambda: _Protocol(self), sock=listener, ssl=self.tls, backlog=1000
        )

    # -- what it saw -------------------------------------------------------------------------------

    def asked(self, path: str) -> list[Request]:
        """The requests for `path`, in order."""
        return [request for request in self.requests if request.path == path]

    @property
    def listening(self) -> bool:
        """Whether connects are accepted."""
        return self._server is not None

    @property
    def sent_bytes(self) -> int:
        """Bytes of bodies that the kernel took."""
        return sum(request.sent_bytes for request in self.requests)

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return len(self._live)

    async def until(self, condition: Callable[[], bool], *, timeout_s: float = 10.0) -> None:
        """Wait until `condition()` holds; it is asked again after whatever happens here."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                waiter = asyncio.get_running_loop().create_future()
                self._waiters.append(waiter)
                await waiter

    async def standstill(self, *, quiet_s: float = 0.1) -> int:
        """Wait until no byte of a body has left for `quiet_s`; return how many have in all.

        The one place with a clock: that nothing happens any more cannot be waited for otherwise.
        """
        sent = -1
        while sent != self.sent_bytes:
            sent = self.sent_bytes
            await asyncio.sleep(quiet_s)
        return sent

    # -- lifetime ----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        for task in self._returns:
            task.cancel()
        for protocol in tuple(self._live):
            protocol.abort()
        await self.until(lambda: not self._live)
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):  # of a function that was to make a content
                raise outcome

    # -- inside ------------------------------------------------------------------------------------

    def _happened(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _due(self, request: Request) -> Fault | None:
        """The fault that is next for this request; those of its path come before patterns."""
        for due in sorted(self._faults, key=lambda due: due.path != request.path):
            if due.strikes(request):
                return due.fault
        return None

    def _answer(self, request: Request) -> Answer:
        resource = self._resources.get(request.path)
        if resource is not None:
            answer = resource.answer(request)
        else:
            answer = Answer(status=404, headers={"Content-Type": "text/plain"}, body=b"not found\n")
            if request.fault is None:
                self.unknown.append(request.path)
        spoil(answer, request, resource)
        return answer


class _Protocol(asyncio.Protocol):
    """One connection; each answer is a task that ends when the connection is lost."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._buffer = b""
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._transport.set_write_buffer_limits(high=1)  # 0 never resumes over TLS
        self._writable.set()
        origin = self._origin
        now = asyncio.get_running_loop().time()
        self._record = Connection(number=len(origin.connections), opened_at=now)
        origin.connections.append(self._record)
        origin._live.add(self)
        origin._happened()

    def connection_lost(self, exc: Exception | None) -> None:
        self._record.closed_at = asyncio.get_running_loop().time()
        self._origin._live.discard(self)
        if self._task is not None:
            self._task.cancel()
        self._origin._happened()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._task is None:
            self._next()

    def abort(self) -> None:
        self._transport.abort()

    def _next(self) -> None:
        """Answer the next request, if all of it is here."""
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if found and not self._transport.is_closing():
            self._buffer = rest
            request = Request.parse(head, connection=self._record.number)
            self._origin.requests.append(request)
            self._task = asyncio.create_task(self._serve(request))
            self._origin._tasks.add(self._task)
            self._task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            self._origin._tasks.discard(task)
        else:
            self.abort()

    async def _serve(self, request: Request) -> None:
        origin = self._origin
        request.fault = origin._due(request)
        origin._happened()
        try:
            pause_s = origin.delay_s
            if isinstance(request.fault, Delay):
                pause_s += request.fault.seconds
            if pause_s:
                await asyncio.sleep(pause_s)
            await self._pass_gates(request, None)
            if isinstance(request.fault, Raw):
                await self._write(request.fault.data)
                self._transport.close()
            else:
                await self._send(request, origin._answer(request))
            request.complete = True
        finally:
            request.ended = True
            self._task = None
            origin._happened()
        self._next()

    async def _send(self, request: Request, answer: Answer) -> None:
        if isinstance(request.fault, Refuse):
            await self._origin.refuse(request.fault.for_s)
        if answer.before_headers:
            await self._end(answer)
            return
        keep = self._origin.keep_alive and request.headers.get("connection", "") != "close"
        keep = keep and answer.ending == "finish" and answer.framing != "close"
        head = answer.head(keep_alive=keep)
        request.status = answer.status
        if answer.header_every_s:
            for at in range(len(head)):
                await self._write(head[at : at + 1])
                await asyncio.sleep(answer.header_every_s)
        else:
            await self._write(head)
        if request.method != "HEAD":
            await self._send_body(request, answer)
        if answer.ending == "finish" and not keep:
            answer.ending = "close"
        await self._end(answer)

    async def _send_body(self, request: Request, answer: Answer) -> None:
        chunked = answer.framing == "chunked"
        while answer.endless:
            await self._write(_chunk(answer.endless))
            request.sent_bytes += len(answer.endless)
            self._origin._happened()
        end = len(answer.body) if answer.stop_at is None else answer.stop_at
        at = 0
        while at < end:
            await self._pass_gates(request, at)
            stop = min([end, at + PIECE_BYTES, *self._gates_behind(request, at)])
            if answer.drip is not None:
                dry = at < answer.drip.after_bytes
                stop = min(stop, answer.drip.after_bytes if dry else at + answer.drip.drip_bytes)
                if not dry:
                    await asyncio.sleep(answer.drip.every_s)
            if rate := self._origin.rate_bytes_per_s:
                stop = min(stop, at + max(1, rate // 50))
                await asyncio.sleep((stop - at) / rate)
            piece = answer.body[at:stop]
            await self._write(_chunk(piece) if chunked else piece)
            at = stop
            request.sent_bytes += len(piece)
            self._origin._happened()
        await self._pass_gates(request, at)
        if chunked and answer.ending == "finish":
            await self._write(b"0\r\n\r\n")

    async def _end(self, answer: Answer) -> None:
        if answer.ending == "stall":
            await asyncio.get_running_loop().create_future()  # until the client leaves
        elif answer.ending == "reset":
            linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, linger
            )
            self._transport.abort()
        elif answer.ending == "close":
            self._transport.close()

    async def _write(self, data: bytes) -> None:
        if self._transport.is_closing():  # an answer without end must let its cancellation arrive
            await asyncio.sleep(0)
        self._transport.write(data)
        await self._writable.wait()

    async def _pass_gates(self, request: Request, at: int | None) -> None:
        for gate in self._origin._gates:
            if gate.after_bytes == at and fnmatch.fnmatchcase(request.path, gate.path):
                await gate.pass_through()

    def _gates_behind(self, request: Request, at: int) -> list[int]:
        return [
            gate.after_bytes
            for gate in self._origin._gates
            if gate.after_bytes is not None
            and gate.after_bytes > at
            and fnmatch.fnmatchcase(request.path, gate.path)
        ]


def unused_port() -> int:
    """A port of 127.0.0.1 on which nobody listens: an address there is refused."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)
