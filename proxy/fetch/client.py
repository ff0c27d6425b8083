"""GET, and nothing else: one shared aiohttp session with deadlines, size caps, a guard and retries.

A `Fetcher` belongs to one event loop (the session is made on first use) and to one address policy:
the guard stands where connections are made, and a pooled connection is not asked again.  It has two
verbs.  `read` brings a whole small body (playlist, page, key, init section), trying again by
itself.  `open` is one attempt at a body of any size, for callers that count attempts themselves.
Both raise errors of `proxy.errors` only; foreign exceptions end in `faults.translate`.

Rules of this file:
1. Every address is checked before it is resolved and at its connect, redirects included; a refused
   address costs no packet, and looks like any other refusal.  Behind `Settings.proxy` the final
   addresses cannot be seen: hosts, ports and literal addresses are still checked here, the rest is
   that proxy's duty.  This server's own ports (`Fetcher.own`) are closed under every policy.
2. Configured headers go to their scope only.  Redirects are followed here, since the client would
   strip three known headers at most; what came over https with such headers never goes on to http.
3. The body that was asked for, or an error: identity coding, exactly the range, all its bytes.
4. Addresses go out byte for byte as they were given, where that is possible: signatures cover them.

Answers reset before their headers are asked for once more by aiohttp itself, at once: a connection
kept alive may have been closed by the other side just then (RFC 9112, 9.3.1).
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal, Self

import aiohttp
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDict
from yarl import URL

from proxy.errors import Forbidden, ProxyError, TooManyRedirects
from proxy.fetch import connection
from proxy.fetch.body import Body
from proxy.fetch.decode import IDENTITY, Decoder
from proxy.fetch.faults import FOREIGN, Unavailable, What, bad_status, too_large, translate
from proxy.fetch.listeners import OwnListeners
from proxy.fetch.ranges import part_of, range_header, validator_of
from proxy.fetch.retry import retrying
from proxy.fetch.scopes import HeaderScopes
from proxy.fetch.settings import Settings
from proxy.guard.redaction import redact
from proxy.hls.model import ByteRange

__all__ = ["Fetcher", "Resource"]

REDIRECTS = frozenset({301, 302, 303, 307, 308})
RESERVED = ("Accept-Encoding", "If-Range", "Range", "Via")  # rule 3 rests on them: never configured
DNS_CACHE_NAMES = 1000  # names kept for `dns_ttl_s`; an unbounded cache was a CVE of 2026

# Refusals of the guard while one request connects, kept by whoever makes the request: several
# addresses may be tried, and aiohttp folds their errors into one.
_refusals: contextvars.ContextVar[list[Forbidden]] = contextvars.ContextVar("refusals")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A small body, whole and decoded."""

    url: str  # after redirects: the base of relative addresses in it
    body: bytes
    content_type: str  # as sent, may be empty
    elapsed_s: float  # of the attempt that succeeded


class Fetcher:
    """The outgoing side of the proxy; an async context manager.

    `resolver` replaces the system's, for tests and for special networks.
    Raises `ValueError` that names the setting where `settings` cannot be used.
    """

    def __init__(
        self, settings: Settings | None = None, *, resolver: AbstractResolver | None = None
    ) -> None:
        self.settings = settings or Settings()
        self.own = OwnListeners()
        self._resolver = resolver
        self._scopes = HeaderScopes(self.settings.headers)
        self._tls = _tls_context(self.settings)
        self._lazy: aiohttp.ClientSession | None = None
        self._closed = False

    async def read(
        self,
        url: str,
        *,
        max_bytes: int,
        what: Literal["playlist", "page", "key", "map"],
        byte_range: ByteRange | None = None,
        is_cut: Callable[[bytes], bool] | None = None,
        page_bytes: int | None = None,
    ) -> Resource:
        """Fetch a whole body of at most `max_bytes`, retrying what may pass.

        `page_bytes`: instead of `max_bytes`, where what comes is an HTML page by its type.

        `is_cut`: asked of a body that only the close of the connection ended, which looks whole
        wherever that was (RFC 9112 section 6.3); one that is cut is a failed attempt.

        Raises `SourceNotFound` (404 and 410 of a playlist or page), `SourceUnavailable`,
        `SourceTimeout`, `Forbidden`, or what `faults.too_large` gives.
        """
        settings = self.settings
        attempts = settings.key_attempts if what == "key" else settings.playlist_attempts
        async for attempt in retrying(settings, attempts=attempts, budget_s=settings.read_budget_s):
            with attempt:
                return await self._read_once(
                    url, max_bytes, what, byte_range, is_cut=is_cut, page_bytes=page_bytes
                )
        raise AssertionError  # the last attempt returns or raises

    async def read_beginning(self, url: str, *, max_bytes: int) -> bytes:
        """Fetch the first `max_bytes` of a text, or all of it where it is shorter; as `read`."""
        settings, taken = self.settings, b""
        async for attempt in retrying(
            settings, attempts=settings.playlist_attempts, budget_s=settings.read_budget_s
        ):
            with attempt:
                taken = b""
                async with self.open(url, what="page") as body:
                    name = f"page {redact(url)}"
                    decoder = Decoder(
                        body.content_encoding, max_bytes=4 * max_bytes, what="page", name=name
                    )
                    while body.received < max_bytes and (chunk := await body.read()):
                        decoder.feed(chunk)
                    taken = decoder.finish()[:max_bytes]
        return taken

    @asynccontextmanager
    async def open(
        self,
        url: str,
        *,
        what: What = "segment",
        byte_range: ByteRange | None = None,
        offset: int = 0,
        validator: str | None = None,
        max_bytes: int | None = None,
        deadline_s: float | None = None,
    ) -> AsyncIterator[Body]:
        """Make one GET and give its `Body`; leaving the context lets go of the connection.

        `byte_range`: that part of the resource only.  `offset` with `validator`: go on there, if
        the resource is still the one that had this validator; the body tells whether it does.
        `max_bytes`: instead of `Settings.segment_bytes`.  `deadline_s`: time of waiting for it.

        Raises as `read` does, at the entry and from `Body.read`.
        """
        if self._closed:
            raise RuntimeError("the fetcher is closed")
        if max_bytes is None:
            max_bytes = self.settings.segment_bytes
        if byte_range is not None and byte_range.length > max_bytes:
            raise too_large(what, f"{what} {redact(url)}: a range of {byte_range.length} bytes")
        headers = range_header(byte_range, offset=offset, validator=validator)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        response = await self._request(url, headers, what, offset=offset)
        try:
            part = part_of(response, url, what=what, byte_range=byte_range, offset=offset)
            coding = response.headers.get("Content-Encoding", "").strip().lower()
            if coding not in IDENTITY and (what in {"segment", "map"} or "Range" in headers):
                raise Unavailable(f"{what} {redact(url)}: it came in a content coding")
            if what == "playlist" and _is_html(response.headers.get("Content-Type", "")):
                what = "page"
            if max(part.skip + (part.length or 0), part.total or 0) > max_bytes:
                raise too_large(what, f"{what} {redact(url)} is larger than {max_bytes} bytes")
            body = Body(
                response,
                loop=loop,
                settings=self.settings,
                what=what,
                max_bytes=max_bytes,
                deadline_s=deadline_s,
                ttfb_s=loop.time() - began_s,
                part=part,
                validator=validator_of(response),
            )
            try:
                yield body
            finally:
                body.close()
        finally:
            response.close()  # gives a connection that was read to its end back, closes any other

    async def aclose(self) -> None:
        """Close every connection; bodies that are being read fail.  Idempotent."""
        self._closed = True
        session, self._lazy = self._lazy, None
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # -- one attempt -------------------------------------------------------------------------------

    async def _read_once(
        self,
        url: str,
        max_bytes: int,
        what: What,
        byte_range: ByteRange | None,
        *,
        is_cut: Callable[[bytes], bool] | None,
        page_bytes: int | None,
    ) -> Resource:
        began_s = time.monotonic()
        async with self.open(url, what=what, byte_range=byte_range, max_bytes=max_bytes) as body:
            name = f"{what} {redact(url)}"
            chunk = await body.read()
            if page_bytes is not None and _is_html(body.content_type) and not _is_m3u(chunk):
                what, max_bytes = "page", min(page_bytes, max_bytes)
            decoder = Decoder(body.content_encoding, max_bytes=max_bytes, what=what, name=name)
            while chunk:
                decoder.feed(chunk)
                chunk = await body.read()
            whole = decoder.finish()
            unsure = body.framing == "close" and body.length is None
            if unsure and is_cut is not None and is_cut(whole):
                raise Unavailable(f"{name}: the connection ended within it")
            return Resource(
                url=body.url,
                body=whole,
                content_type=body.content_type,
                elapsed_s=time.monotonic() - began_s,
            )

    async def _request(
        self, url: str, headers: dict[str, str], what: What, *, offset: int
    ) -> aiohttp.ClientResponse:
        """Follow redirects to an answer of 200 or 206, or 416 where the rest may be nothing."""
        settings = self.settings
        refusals: list[Forbidden] = []
        token = _refusals.set(refusals)
        limit_s = settings.connect_timeout_s + settings.tls_timeout_s + settings.headers_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                response = await self._follow(url, headers, what)
        except (ProxyError, *FOREIGN) as error:
            if refusals:
                refusal = refusals[0]
                raise Forbidden(f"{what} {redact(url)}: {refusal}", rule=refusal.rule) from None
            raise translate(error, url, what=what, before_headers=True) from None
        finally:
            _refusals.reset(token)
        if response.status not in {200, 206} and not (response.status == 416 and offset):
            response.close()
            raise bad_status(
                response.status,
                url,
                what=what,
                retry_after=response.headers.get("Retry-After"),
                headers=response.headers,
            )
        return response

    async def _follow(
        self, url: str, headers: dict[str, str], what: What
    ) -> aiohttp.ClientResponse:
        settings = self.settings
        session = self._session()
        target = _parsed(url, what=what)
        guarded = False  # whether configured headers went over https on the way here
        for _ in range(settings.redirects + 1):
            own = self._checked(target, what)
            sent = CIMultiDict(own)
            for name in RESERVED:
                sent.popall(name, None)
            sent.update(headers)
            sent.update({"Accept-Encoding": "identity", "Via": settings.via})
            if guarded and target.scheme == "http":
                message = f"{what} {redact(url)}: redirected to http, with credentials in play"
                raise Unavailable(message, retryable=False)
            guarded = guarded or (bool(own) and target.scheme == "https")
            tls_s = settings.tls_timeout_s if target.scheme == "https" else 0.0
            response = await session.get(
                target,
                headers=sent,
                allow_redirects=False,
                proxy=settings.proxy,
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    sock_connect=settings.connect_timeout_s + tls_s,
                    sock_read=settings.read_timeout_s,
                ),
            )
            if response.connection is not None and response.connection.protocol is not None:
                response.connection.protocol.read_timeout = None  # `Body` has its own: see there
            location = response.headers.get("Location")
            if response.status not in REDIRECTS or location is None:
                return response
            response.close()
            target = target.join(_parsed(location, what=what))
        raise TooManyRedirects(f"{what} {redact(url)}: more than {settings.redirects} redirects")

    def _checked(self, target: URL, what: What) -> dict[str, str]:
        """Check an address before anything is done for it; give the headers of its scope."""
        host, port = target.raw_host, target.port
        userinfo = target.raw_user is not None or target.raw_password is not None
        try:
            self.settings.policy.check_target(
                scheme=target.scheme, host=host, port=port, userinfo=userinfo
            )
        except Forbidden as error:
            told = f"{what} {redact(str(target))}: {error}"
            raise Forbidden(told, rule=error.rule) from None
        assert host is not None
        assert port is not None
        if self.own.covers(host, port):
            raise Forbidden(f"{what} {redact(str(target))}: the address is our own", rule="own")
        return self._scopes.headers_for(scheme=target.scheme, host=host, port=port)

    # -- the session -------------------------------------------------------------------------------

    def _session(self) -> aiohttp.ClientSession:
        if self._lazy is None:
            settings = self.settings
            connector = aiohttp.TCPConnector(
                ssl=self._tls or True,
                limit=0,
                limit_per_host=settings.connections_per_host,
                ttl_dns_cache=settings.dns_ttl_s,
                dns_cache_max_size=DNS_CACHE_NAMES,
                resolver=self._resolver,
                socket_factory=self._socket if settings.proxy is None else None,
            )
            connection.use(connector)
            self._lazy = aiohttp.ClientSession(
                connector=connector,
                headers={"User-Agent": settings.user_agent},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                read_bufsize=settings.read_buffer_bytes,
            )
        return self._lazy

    def _socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """The guard at the connect: no socket for an address that is not allowed.

        aiohttp tries the next address after an `OSError` (any other exception breaks it), and fails
        with the last; so what was refused is also noted for the request.
        """
        family, kind, protocol, _, address = info
        try:
            host, port = str(address[0]), int(address[1])
            self.settings.policy.check_address(host, port)
            if self.own.covers(host, port):
                raise Forbidden("the address is our own", rule="own")  # noqa: TRY301 - noted like the others
        except Forbidden as error:
            _refusals.get().append(error)
            raise PermissionError(errno.EACCES, "the address is not allowed") from None
        return socket.socket(family, kind, protocol)


def _parsed(url: str, *, what: What) -> URL:
    """Read an address; as it stands where it is clean ASCII, else with the rest quoted."""
    try:
        if any(character < " " or character == "\x7f" for character in url):
            raise ValueError  # noqa: TRY301 - the same refusal as the parser's
        parsed = URL(url, encoded=url.isascii() and " " not in url)
        parsed.port  # noqa: B018 - host and port are read only now, and may be malformed
    except ValueError:
        raise Forbidden(f"{what} {redact(url)}: malformed address") from None
    return parsed


def _is_html(content_type: str) -> bool:
    return "html" in content_type.lower()


def _is_m3u(beginning: bytes) -> bool:
    """Whether a body is a playlist all the same, whatever its type says."""
    return beginning.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"#EXTM3U")


def _tls_context(settings: Settings) -> ssl.SSLContext | None:
    """The system's authorities and `ca_file`; `None`: aiohttp's own default."""
    if settings.ca_file is None:
        return None
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        msg = f"ca_file: {settings.ca_file} holds no certificates in PEM"
        raise ValueError(msg) from error
    context.set_alpn_protocols(["http/1.1"])
    return context
