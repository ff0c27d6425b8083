"""What a client sees, over both faces: the same app, a pipeline that plays a script."""

import asyncio

import pytest

from proxy import admission, errors
from proxy.app import App, Settings
from proxy.errors import (
    CorruptMedia,
    HttpVersionUnsupported,
    Overloaded,
    PlainMp4,
    PlaylistError,
    ProxyError,
    SourceTimeout,
)
from tests.support.client import TIMEOUT_S, Conversation, ask, stream_target
from tests.support.pipelines import PARTS, ScriptedPipeline, ScriptedStream
from tests.support.served import Serve

FAMILY = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ProxyError)
]
TARGET = stream_target()
BAD_QUERIES = {
    "": "`url`",
    "quality=best": "`url`",
    "url=ftp://origin.invalid/a": "`url`",
    "url=http%3A%2F%2Fo%2Fa&url=http%3A%2F%2Fo%2Fb": "`url`",
    "url=http%3A%2F%2Fo%2Fa&quality=huge": "`quality`",
    "url=http%3A%2F%2Fo%2Fa&colour=red": "`colour`",
    "url=http%3A%2F%2Fo%2F%FF": "UTF-8",
    "url=http%3A%2F%2Fo%2F%0d%0aX-Injected:1": "`url`",
}


async def test_stream_answers_with_the_parts(serve: Serve) -> None:
    """A stream is 200, chunked, whole, and tells what the design promises in its headers."""
    pipeline = ScriptedPipeline()
    async with serve(App(pipeline)) as address:
        reply = await ask(address, TARGET)
    assert (reply.status, reply.ended) == (200, "complete")
    assert reply.body == b"".join(PARTS)
    assert reply.header("content-type") == 'video/mp4; codecs="avc1.64001f,mp4a.40.2"'
    assert reply.header("transfer-encoding") == "chunked"
    assert reply.header("accept-ranges") == "none"
    assert reply.header("cache-control") == "no-store"
    assert reply.header("x-accel-buffering") == "no"
    assert reply.header("x-content-type-options") == "nosniff"
    assert reply.header("x-stream-id") == pipeline.streams[0].id
    timing = reply.header("server-timing") or ""
    assert timing.startswith("plan;dur=12.5, fetch;dur=250.0, total;dur=")
    assert reply.header("x-content-duration") == "30.000"
    assert reply.header("x-start-time") is None
    assert pipeline.streams[0].closed.is_set()


async def test_stream_with_range_is_answered_whole(serve: Serve) -> None:
    """A Range header changes nothing: 200 and all of it."""
    async with serve(App(ScriptedPipeline())) as address:
        reply = await ask(address, TARGET, headers=(("Range", "bytes=10-19"),))
    assert (reply.status, reply.body) == (200, b"".join(PARTS))
    assert reply.header("content-range") is None


async def test_head_answers_like_get_and_leaves_nothing_running(serve: Serve) -> None:
    """HEAD has the status and headers of GET, no body, and its stream is closed at once."""
    pipeline = ScriptedPipeline(endless=True)
    app = App(pipeline)
    volatile = {"date", "x-stream-id", "server-timing", "transfer-encoding"}
    async with serve(app) as address:
        head = await ask(address, TARGET, method="HEAD")
        assert pipeline.streams[0].closed.is_set()
        assert app.active == 0
        async with await Conversation.open(address) as conversation:
            conversation.request(TARGET)
            status, headers = await conversation.head()
    assert (head.status, head.body) == (status, b"") == (200, b"")
    assert {k: v for k, v in head.headers if k not in volatile} == {
        k: v for k, v in headers if k not in volatile
    }
    assert head.header("server-timing")


async def test_head_of_a_refused_stream_tells_the_length_of_the_problem(serve: Serve) -> None:
    """HEAD of what fails has the status and the Content-Length of GET."""
    async with serve(App(ScriptedPipeline(refuses=SourceTimeout("late")))) as address:
        get = await ask(address, TARGET)
        head = await ask(address, TARGET, method="HEAD")
    assert (head.status, head.body) == (get.status, b"") == (504, b"")
    assert head.header("content-length") == str(len(get.body))


async def test_failure_before_the_first_byte_is_a_problem(serve: Serve) -> None:
    """Whatever opening a stream raises becomes its status and an RFC 9457 body; no secret leaks."""
    pipeline = ScriptedPipeline()
    app = App(pipeline)
    async with serve(app) as address:
        for kind in FAMILY:
            pipeline.refuses = kind("see http://origin.invalid/?token=secret")
            reply = await ask(address, TARGET)
            assert app.active == 0
            assert (reply.status, reply.ended) == (kind.status, "complete"), kind
            assert reply.header("content-type") == "application/problem+json"
            assert reply.header("cache-control") == "no-store"
            assert (reply.header("retry-after") is not None) == issubclass(kind, Overloaded), kind
            problem = reply.json()
            own = {"file"} if kind is PlainMp4 else set()
            assert problem.keys() == {*own, "type", "title", "status", "detail", "code", "stream"}
            assert (problem["status"], problem["code"]) == (kind.status, kind.code)
            assert problem["stream"] == reply.header("x-stream-id")
            if not issubclass(kind, PlaylistError):  # shows its message: it names lines and tags
                assert b"secret" not in reply.body, kind


async def test_failure_that_nobody_foresaw_is_500(serve: Serve) -> None:
    """An exception outside the family says nothing about itself."""
    async with serve(App(ScriptedPipeline(refuses=ValueError("secret")))) as address:
        reply = await ask(address, TARGET)
    assert (reply.status, reply.json()["code"]) == (500, "internal_error")
    assert b"secret" not in reply.body


@pytest.mark.parametrize("error", [CorruptMedia("broken"), ValueError("unforeseen")])
async def test_failure_after_the_first_byte_cuts(serve: Serve, error: Exception) -> None:
    """A stream that breaks ends without the final chunk, behind the whole parts sent before."""
    pipeline = ScriptedPipeline(breaks=error)
    async with serve(App(pipeline)) as address:
        reply = await ask(address, TARGET)
        await asyncio.wait_for(pipeline.streams[0].closed.wait(), TIMEOUT_S)
    assert (reply.status, reply.ended) == (200, "cut")
    assert reply.body == b"".join(PARTS)


async def test_stream_that_runs_for_too_long_is_cut(serve: Serve) -> None:
    """Behind `stream_s` a stream without end is cut like any that breaks, and 0 is no limit."""
    app = App(ScriptedPipeline(endless=True), Settings(stream_s=0.05))
    async with serve(app) as address:
        reply = await ask(address, TARGET)
        assert (reply.status, reply.ended) == (200, "cut")
        assert reply.body.startswith(b"".join(PARTS))
    async with serve(App(ScriptedPipeline(), Settings(stream_s=0))) as address:
        assert (await ask(address, TARGET)).ended == "complete"


async def test_client_leaves_in_mid_stream(serve: Serve) -> None:
    """The stream of a client that left is closed, although nothing was being sent."""
    pipeline = ScriptedPipeline(stall=asyncio.Event())
    app = App(pipeline)
    async with serve(app) as address:
        async with await Conversation.open(address) as conversation:
            conversation.request(TARGET)
            await conversation.head()
            await conversation.read(len(PARTS[0]))
            conversation.leave()
        await asyncio.wait_for(pipeline.streams[0].closed.wait(), TIMEOUT_S)
        await asyncio.wait_for(app.idle(), TIMEOUT_S)


async def test_client_leaves_while_the_stream_is_opened(serve: Serve) -> None:
    """Opening a stream is cancelled when its client leaves, and its slot is free again."""
    pipeline = ScriptedPipeline(opening=asyncio.Event())
    app = App(pipeline)
    async with serve(app) as address:
        async with await Conversation.open(address) as conversation:
            conversation.request(TARGET)
            await asyncio.wait_for(pipeline.asked.wait(), TIMEOUT_S)
            assert app.active == 1
            conversation.leave()
        await asyncio.wait_for(pipeline.cancelled.wait(), TIMEOUT_S)
        await asyncio.wait_for(app.idle(), TIMEOUT_S)


async def test_slow_client_holds_the_stream_back(serve: Serve) -> None:
    """Parts are taken from the stream as the client takes them, not faster."""
    part = bytes(100_000)
    pipeline = ScriptedPipeline(parts=(part,), endless=True)
    async with serve(App(pipeline)) as address:
        async with await Conversation.open(address, slow=True) as conversation:
            conversation.request(TARGET)
            await conversation.head()
            stream = pipeline.streams[0]
            before = await _standstill(stream)
            assert before < 200  # the two socket buffers hold a few megabytes
            await conversation.read(len(part) * (before + 1))
            assert await _standstill(stream) > before
        await asyncio.wait_for(stream.closed.wait(), TIMEOUT_S)


async def _standstill(stream: ScriptedStream) -> int:
    """Return how many parts were taken when no more of them are."""
    before = -1
    while before != stream.taken:
        before = stream.taken
        for _ in range(200):
            await asyncio.sleep(0)
    return before


async def test_idle_client_is_cut(serve: Serve) -> None:
    """A client that takes nothing for `idle_client_s` loses its stream."""
    pipeline = ScriptedPipeline(parts=(bytes(100_000),), endless=True)
    app = App(pipeline, Settings(idle_client_s=0.2))
    async with (
        serve(app) as address,
        await Conversation.open(address, slow=True) as conversation,
    ):
        conversation.request(TARGET)
        await conversation.head()
        await asyncio.wait_for(pipeline.streams[0].closed.wait(), TIMEOUT_S)
        await asyncio.wait_for(app.idle(), TIMEOUT_S)
        await conversation.until_closed()


async def test_one_stream_too_many_is_503(serve: Serve) -> None:
    """Beyond `streams` there is Overloaded with Retry-After; admitted ones go on."""
    gate = asyncio.Event()
    pipeline = ScriptedPipeline(stall=gate)
    app = App(pipeline, Settings(admission=admission.Settings(streams=1)))
    async with serve(app) as address:
        async with await Conversation.open(address) as conversation:
            conversation.request(TARGET)
            await conversation.head()
            refused = await ask(address, TARGET)
            assert (refused.status, refused.json()["code"]) == (503, "overloaded")
            assert int(refused.header("retry-after") or 0) in range(2, 6)
            gate.set()
        await asyncio.wait_for(app.idle(), TIMEOUT_S)
        assert (await ask(address, TARGET)).status == 200


async def test_one_stream_too_many_of_a_client_is_429(serve: Serve) -> None:
    """Beyond `streams_per_client` one client gets RateLimited, and another one does not."""
    gate = asyncio.Event()
    settings = Settings(
        admission=admission.Settings(streams_per_client=1, trusted_proxies=("127.0.0.0/8",))
    )
    async with (
        serve(App(ScriptedPipeline(stall=gate), settings)) as address,
        await Conversation.open(address) as conversation,
    ):
        conversation.request(TARGET, headers=(("X-Forwarded-For", "192.0.2.1"),))
        await conversation.head()
        same = await ask(address, TARGET, headers=(("X-Forwarded-For", "192.0.2.1"),))
        assert (same.status, same.json()["code"]) == (429, "rate_limited")
        assert same.header("retry-after")
        gate.set()
        other = await ask(address, TARGET, headers=(("X-Forwarded-For", "192.0.2.2"),))
        assert other.status == 200


async def test_draining_refuses_new_streams_and_lets_others_go_on(serve: Serve) -> None:
    """From the first moment of a shutdown /readyz and new streams are 503; /healthz stays 200."""
    gate = asyncio.Event()
    app = App(ScriptedPipeline(stall=gate))
    async with serve(app) as address:
        assert (await ask(address, "/readyz")).status == 200
        async with await Conversation.open(address) as conversation:
            conversation.request(TARGET)
            await conversation.head()
            app.drain()
            assert (await ask(address, "/readyz")).status == 503
            assert (await ask(address, "/healthz")).json() == {"status": "ok", "streams": 1}
            refused = await ask(address, TARGET)
            assert (refused.status, refused.json()["code"]) == (503, "overloaded")
            gate.set()
            body = await conversation.read(1)
            assert body
        await asyncio.wait_for(app.idle(), TIMEOUT_S)


async def test_inspect_answers_json(serve: Serve) -> None:
    """/inspect is what the pipeline tells, as JSON in UTF-8."""
    async with serve(App(ScriptedPipeline())) as address:
        reply = await ask(address, TARGET.replace("/stream", "/inspect"))
    assert reply.status == 200
    assert reply.header("content-type") == "application/json"
    assert reply.json() == {"kind": "multivariant", "live": False, "name": "Füße"}
    assert len(reply.header("x-stream-id") or "") == 32


async def test_unknown_path_is_404(serve: Serve) -> None:
    """There is nothing beside the routes."""
    async with serve(App(ScriptedPipeline())) as address:
        for target in ("/player/", "/streams", "/stream/", "/Stream", "/stream%2f", "//stream"):
            reply = await ask(address, target)
            assert (reply.status, reply.json()["code"]) == (404, "not_found"), target


async def test_other_method_is_405(serve: Serve) -> None:
    """Only GET and HEAD are answered, and the answer says so."""
    async with serve(App(ScriptedPipeline())) as address:
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            reply = await ask(address, TARGET, method=method)
            assert (reply.status, reply.json()["code"]) == (405, "method_not_allowed"), method
            assert reply.header("allow") == "GET, HEAD"


async def test_request_with_a_body_is_400(serve: Serve) -> None:
    """A body is refused without being waited for."""
    pipeline = ScriptedPipeline()
    async with serve(App(pipeline)) as address:
        for framing in (("Content-Length", "5"), ("Transfer-Encoding", "chunked")):
            assert (await ask(address, TARGET, headers=(framing,))).status == 400
    assert not pipeline.requests


async def test_bad_parameter_is_400_naming_it(serve: Serve) -> None:
    """What is wrong with the query is named, and nothing is opened."""
    pipeline = ScriptedPipeline()
    async with serve(App(pipeline)) as address:
        for query, named in BAD_QUERIES.items():
            reply = await ask(address, f"/stream?{query}")
            assert (reply.status, reply.json()["code"]) == (400, "invalid_request"), query
            assert named in reply.json()["detail"]
    assert not pipeline.requests


async def test_url_arrives_as_it_was_meant(serve: Serve) -> None:
    """A percent-encoded address keeps its own query, plus signs and letters of any language."""
    url = "https://origin.invalid/ä b%20c.m3u8?token=a+b&x=%2B".replace(" ", "%20")
    pipeline = ScriptedPipeline()
    async with serve(App(pipeline)) as address:
        reply = await ask(address, stream_target(url))
    assert reply.status == 200
    assert pipeline.requests[0].url == url


async def test_start_is_answered_with_the_true_start(serve: Serve) -> None:
    """X-Start-Time tells where a clip really begins."""
    pipeline = ScriptedPipeline()
    async with serve(App(pipeline)) as address:
        reply = await ask(address, stream_target(start="9.5", end="12"))
    assert reply.header("x-start-time") == "8.000"
    assert (pipeline.requests[0].start_s, pipeline.requests[0].end_s) == (9.5, 12.0)


async def test_filename_becomes_a_download(serve: Serve) -> None:
    """`filename` adds a Content-Disposition that holds whatever letters it has."""
    async with serve(App(ScriptedPipeline())) as address:
        reply = await ask(address, stream_target(filename='Füße "1".mp4'))
    assert reply.header("content-disposition") == (
        "attachment; filename=\"F__e _1_.mp4\"; filename*=UTF-8''F%C3%BC%C3%9Fe%20%221%22.mp4"
    )


async def test_cors_is_silent_by_default(serve: Serve) -> None:
    """Without `cors_origins` no CORS header is sent."""
    async with serve(App(ScriptedPipeline())) as address:
        reply = await ask(address, TARGET, headers=(("Origin", "https://a.invalid"),))
    assert not [name for name, _ in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize("refuses", [None, SourceTimeout("late")])
async def test_cors_tells_the_allowed_origin(serve: Serve, refuses: ProxyError | None) -> None:
    """Pages of a listed origin may read streams and problems, and their headers; others may not."""
    app = App(ScriptedPipeline(refuses=refuses), Settings(cors_origins=("https://a.invalid",)))
    async with serve(app) as address:
        listed = await ask(address, TARGET, headers=(("Origin", "https://a.invalid"),))
        other = await ask(address, TARGET, headers=(("Origin", "https://b.invalid"),))
    assert listed.header("access-control-allow-origin") == "https://a.invalid"
    assert "X-Stream-Id" in (listed.header("access-control-expose-headers") or "")
    assert listed.header("vary") == other.header("vary") == "Origin"
    assert other.header("access-control-allow-origin") is None


async def test_cors_preflight_is_answered(serve: Serve) -> None:
    """A preflight allows GET and HEAD with any header."""
    app = App(ScriptedPipeline(), Settings(cors_origins=("*",)))
    headers = (("Origin", "https://a.invalid"), ("Access-Control-Request-Method", "GET"))
    async with serve(app) as address:
        reply = await ask(address, TARGET, method="OPTIONS", headers=headers)
    assert (reply.status, reply.body) == (204, b"")
    assert reply.header("access-control-allow-origin") == "*"
    assert reply.header("access-control-allow-methods") == "GET, HEAD"
    assert reply.header("access-control-allow-headers") == "*, Authorization"


async def test_base_path_is_taken_off(serve: Serve) -> None:
    """Below a base path everything is there, and nothing beside it."""
    app = App(ScriptedPipeline(), Settings(base_path="/media"))
    async with serve(app) as address:
        assert (await ask(address, f"/media{TARGET}")).status == 200
        assert (await ask(address, TARGET)).status == 404
        assert (await ask(address, "/mediastream")).status == 404


async def test_request_that_came_back_is_508(serve: Serve) -> None:
    """A request that carries our own Via, behind others, has gone in a circle."""
    app = App(ScriptedPipeline(), Settings(via="1.1 remuxd-0a1b"))
    async with serve(app) as address:
        reply = await ask(address, TARGET, headers=(("Via", "1.1 cdn, 1.1 remuxd-0a1b"),))
        assert (reply.status, reply.json()["code"]) == (508, "loop_detected")
        other = await ask(address, TARGET, headers=(("Via", "1.1 remuxd-ffff"),))
        assert other.status == 200


async def test_connection_is_kept_for_the_next_request(serve: Serve) -> None:
    """After a whole answer the connection serves the next request."""
    async with (
        serve(App(ScriptedPipeline())) as address,
        await Conversation.open(address) as conversation,
    ):
        for target in ("/healthz", TARGET, "/nothing", TARGET):
            conversation.request(target)
            assert (await conversation.reply()).ended == "complete"


async def test_http_1_0_is_answered_where_a_cut_can_be_shown(serve: Serve) -> None:
    """HTTP/1.0 gets the stream unframed over our own server and 505 over ASGI; health from both."""
    async with serve(App(ScriptedPipeline())) as address:
        reply = await ask(address, TARGET, version="1.0")
        assert (await ask(address, "/healthz", version="1.0")).status == 200
    if reply.status == HttpVersionUnsupported.status:
        assert serve.__name__ == "over_asgi"
        assert reply.json()["code"] == HttpVersionUnsupported.code
    else:
        assert (reply.status, reply.ended) == (200, "closed")
        assert reply.body == b"".join(PARTS)
        assert reply.header("transfer-encoding") is None
