"""The limit: the same bytes through the same kind of server, and nothing done to them.

    python -m bench.passthrough

serves `/stream?url=…`: the segments of the best variant, one after the other, each chunk written
as it comes.  What it costs is what receiving and sending cost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urljoin

import aiohttp
from aiohttp import web

from bench.live import LIVE_EDGE
from bench.service import serve_stream

__all__ = ["SESSION", "entries", "pool", "segments"]


def entries(text: str) -> list[str]:
    """Return the addresses of a playlist; of a live one, those from where one begins."""
    listed = [line for line in text.splitlines() if line and not line.startswith("#")]
    ends = "#EXT-X-ENDLIST" in text or "#EXT-X-STREAM-INF" in text
    return listed if ends else listed[LIVE_EDGE:]


async def segments(session: aiohttp.ClientSession, url: str) -> list[str]:
    """Return the addresses of the segments; the first variant of a master is the best here."""
    while True:
        async with session.get(url, raise_for_status=True) as answer:
            text = await answer.text()
        addresses = [urljoin(url, entry) for entry in entries(text)]
        if "#EXT-X-STREAM-INF" not in text:
            return addresses
        url = addresses[0]


SESSION = web.AppKey("SESSION", aiohttp.ClientSession)


async def pool(app: web.Application) -> AsyncIterator[None]:
    """One pool of connections for all, as a server has it."""
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        app[SESSION] = session
        yield


async def stream(request: web.Request) -> web.StreamResponse:
    session = request.app[SESSION]
    addresses = await segments(session, request.query["url"])
    response = web.StreamResponse(headers={"Content-Type": "video/mp2t"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    for address in addresses:
        async with session.get(address, raise_for_status=True) as answer:
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
    return response


if __name__ == "__main__":
    serve_stream(stream, pool)
