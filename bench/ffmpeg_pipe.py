"""The usual way: an aiohttp server that pipes `ffmpeg -c copy` into a response.

    python -m bench.ffmpeg_pipe --movflags empty_moov

serves `/stream?url=…` and kills the process when the client leaves.  The command lines are the
fair ones: with the AAC filter that ffmpeg needs to work at all.  `empty_moov` sends its header
before the first media and loses the offset between audio and video; `delay_moov` keeps it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from asyncio.subprocess import PIPE

from aiohttp import web

COPY_BYTES = 64 * 1024


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--movflags", choices=["empty_moov", "delay_moov"], required=True)
    options = parser.parse_args()

    async def stream(request: web.Request) -> web.StreamResponse:
        process = await asyncio.create_subprocess_exec(
            "ffmpeg", "-nostdin", "-v", "error", "-i", request.query["url"],
            "-c", "copy", "-bsf:a", "aac_adtstoasc",
            "-movflags", f"frag_keyframe+{options.movflags}+default_base_moof",
            "-f", "mp4", "pipe:1",
            stdout=PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        response = web.StreamResponse(headers={"Content-Type": "video/mp4"})
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

    app = web.Application()
    app.router.add_get("/stream", stream)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
