"""remuxd: HLS in, one continuous fragmented MP4 out, while it is still downloading.

The flow: six rooms in a straight line, two bounded bridges, one family of errors.

    request ─ faces ─ app ─ pipeline.open_stream
                              │ pages      page → playlist address                         (extract)
                              │ plan       text → playlist → variant → segments            (hls)
                              │ fetch      several segments in flight, delivered in order  (fetch)
                              ▼ ring       event loop → worker thread                      bridge 1
                                remux      demux → timeline → codec path → fragments       (media)
                              ▲ outlet     worker thread → event loop                      bridge 2
                              │ MediaStream: an async iterator of whole parts
    response ─ faces ─ app.Response(status, headers, body)

The rooms:

    errors      one family of errors; each carries its status
    hls         pure: playlists into frozen values, and choices among them
    extract     pure: what an HTML page says about its video, and what a robots.txt means
    fetch       the outgoing network: deadlines, limits, retries, prefetch
    guard       pure: which hosts and addresses may be fetched from, signed URLs, what may be logged
    media       blocking, on a worker thread: segments into fragments; the only room that knows PyAV
                and has compiled modules
    pipeline    joins hls, fetch, extract and media, and knows no server; with it request (what a
                client asks for), pages and robots (from a page to its playlist), plan (which
                playlists), clip (where to begin and end), stream (one that runs), supply (one
                playlist on its way into a ring), follow (segments as they come), intake (what each
                one is), forgiving (on_gap=skip) and inspection
    app         who answers what; with it message (our own Request and Response), answers (all that
                are no streams), query (parameters), routes (the owner's paths), admission (who may
                start a stream now), delivery (a stream on its way to one client, and its log line),
                register (those that run or have ended), enquiries (what may be asked about them),
                feed (their events), tracing, openapi and schemas
    events      what happens to a stream; with it diagnosis and verdicts (why it ended) and metrics
    player      the page at /
    state       who is running streams: in this process, or in all workers together
    faces       translate app to aiohttp (server, address) and to ASGI 3 (asgi)
    serving, workers    one process that serves, or several of them under gunicorn's arbiter
    config, logs, wiring, cli, demo    put it all together

As a library: `async with proxy.open_stream(url) as stream: async for part in stream: ...`
"""

from typing import TYPE_CHECKING, Any

from proxy.errors import ProxyError, StreamAborted

if TYPE_CHECKING:
    from proxy.wiring import open_stream

__all__ = ["ProxyError", "StreamAborted", "__version__", "open_stream"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Lazily, because it brings PyAV and aiohttp along, and the errors alone need neither.
    if name == "open_stream":
        from proxy.wiring import open_stream  # noqa: PLC0415

        return open_stream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
