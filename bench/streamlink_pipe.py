"""Another way: an aiohttp server that pipes `streamlink --stdout` into a response.

    python -m bench.streamlink_pipe

serves `/stream?url=…`.  What comes is the transport stream as it was, not MP4: streamlink remuxes
only where audio is separate.  So no browser plays it, and for everything here it does less than the
others; it is killed when the client leaves.
"""

from __future__ import annotations

import sys

from aiohttp import web

from bench.ffmpeg_pipe import piped
from bench.service import serve_stream


async def stream(request: web.Request) -> web.StreamResponse:
    return await piped(
        request,
        sys.executable, "-m", "streamlink", "--no-config", "--loglevel", "none", "--stdout",
        f"hls://{request.query['url']}", "best",
        content_type="video/mp2t",
    )  # fmt: skip


if __name__ == "__main__":
    serve_stream(stream)
