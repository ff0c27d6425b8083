"""The usual way: an aiohttp server that pipes `ffmpeg -c copy` into a response.

    python -m bench.ffmpeg_pipe --movflags empty_moov

serves `/stream?url=…` and kills the process when the client leaves.  The command lines are the
fair ones: with the AAC filter that ffmpeg needs to work at all.  `empty_moov` sends its header
before the first media and loses the offset between audio and video; `delay_moov` keeps it.
"""

from __future__ import annotations

import argparse
import asyncio
from asyncio.subprocess import DEVNULL, PIPE

from aiohttp import web

from bench.service import serve_stream

COPY_BYTES = 64 * 1024


async def piped(request: web.Request, *command: str, content_type: str) -> web.StreamResponse:
    """Answer with what a command prints; it is killed when the client leaves."""
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE)
    assert process.stdout is not None
    response = web.StreamResponse(headers={"Content-Type": content_type})
    response.enable_chunked_encoding()
    try:
        await response.prepare(request)
        while chunk := await process.stdout.read(COPY_BYTES):
            await response.write(chunk)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    return response


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--movflags", choices=["empty_moov", "delay_moov"], required=True)
    options = parser.parse_args()

    async def stream(request: web.Request) -> web.StreamResponse:
        return await piped(
            request,
            "ffmpeg", "-nostdin", "-v", "error", "-i", request.query["url"],
            "-c", "copy", "-bsf:a", "aac_adtstoasc",
            "-movflags", f"frag_keyframe+{options.movflags}+default_base_moof",
            "-f", "mp4", "pipe:1",
            content_type="video/mp4",
        )  # fmt: skip

    serve_stream(stream)


if __name__ == "__main__":
    main()
