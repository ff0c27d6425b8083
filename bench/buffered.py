"""The way before the pipe: download everything, convert it, then answer.

    python -m bench.buffered

serves `/stream?url=…`: the segments of the best variant go into a temporary file one after the
other, ffmpeg makes an MP4 of it, and the response is that file.  A client waits for all of it.
"""

from __future__ import annotations

import asyncio
import tempfile
from asyncio.subprocess import DEVNULL
from pathlib import Path

from aiohttp import web

from bench.passthrough import SESSION, pool, segments
from bench.service import serve_stream

COPY_BYTES = 256 * 1024


async def stream(request: web.Request) -> web.StreamResponse:
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "whole.ts", Path(folder) / "whole.mp4"
        session = request.app[SESSION]
        with source.open("wb") as file:
            for address in await segments(session, request.query["url"]):
                async with session.get(address, raise_for_status=True) as answer:
                    async for chunk in answer.content.iter_any():
                        file.write(chunk)
        process = await asyncio.create_subprocess_exec(
            "ffmpeg", "-nostdin", "-v", "error", "-i", str(source),
            "-c", "copy", "-bsf:a", "aac_adtstoasc", "-movflags", "+faststart", str(result),
            stdin=DEVNULL,
        )  # fmt: skip
        try:
            if await process.wait():
                raise web.HTTPBadGateway
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        response = web.StreamResponse(headers={"Content-Type": "video/mp4"})
        response.content_length = result.stat().st_size
        await response.prepare(request)
        with result.open("rb") as file:
            while chunk := file.read(COPY_BYTES):
                await response.write(chunk)
        return response


if __name__ == "__main__":
    serve_stream(stream, pool)
