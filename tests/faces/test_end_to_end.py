"""The real app over both faces, in front of a real origin: what becomes of its faults."""

import asyncio
import threading

import pytest

from tests.support.client import TIMEOUT_S, Conversation, ask, stream_target
from tests.support.clips import hls, make_clip
from tests.support.faults import Fault, Garbage, Replace, Stall, Status, Truncate
from tests.support.fidelity import assert_faithful
from tests.support.origin import Origin, unused_port
from tests.support.served import Serve, real_app

PAGE = Replace(b"<!doctype html><title>no video</title>")


def clip_origin() -> Origin:
    origin = Origin()
    for path, body in hls(make_clip(seconds=6)).items():
        origin.add(f"/{path}", body)
    origin.add("/main.m3u8", b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nmedia.m3u8\n")
    return origin


def workers() -> list[str]:
    """The worker threads that are left; one that has just told its end gets the time to return."""
    threads = [one for one in threading.enumerate() if one.name.startswith("remuxd")]
    for thread in threads:
        thread.join(0.5)
    return [thread.name for thread in threads if thread.is_alive()]


async def test_stream_is_the_source(serve: Serve) -> None:
    """What a client gets over HTTP is every packet of the source."""
    async with clip_origin() as origin, real_app() as app, serve(app) as address:
        reply = await ask(address, stream_target(origin.at("/media.m3u8")))
        await asyncio.wait_for(app.idle(), TIMEOUT_S)
        assert (reply.status, reply.ended) == (200, "complete")
        assert_faithful(make_clip(seconds=6).data, reply.body)
        assert [len(origin.asked(f"/segment{n}.ts")) for n in range(3)] == [1, 1, 1]
    assert workers() == []


async def test_head_fetches_a_beginning_and_leaves_nothing(serve: Serve) -> None:
    """HEAD tells the codecs of the real media, and the worker is gone when it is answered."""
    async with clip_origin() as origin, real_app() as app, serve(app) as address:
        head = await ask(address, stream_target(origin.at("/media.m3u8")), method="HEAD")
        assert workers() == []
        assert head.status == 200
        assert (head.header("content-type") or "").startswith('video/mp4; codecs="avc1.')


async def test_inspect_tells_of_the_source(serve: Serve) -> None:
    """/inspect says what is there, and that it can be copied."""
    async with clip_origin() as origin, real_app() as app, serve(app) as address:
        target = stream_target(origin.at("/main.m3u8")).replace("/stream", "/inspect")
        report = (await ask(address, target)).json()
    assert (report["kind"], report["live"], report["copyable"]) == ("multivariant", False, True)
    assert report["duration_s"] == pytest.approx(6, abs=0.1)


@pytest.mark.parametrize(
    ("path", "fault", "status", "code"),
    [
        ("/main.m3u8", Status(404), 404, "source_not_found"),
        ("/main.m3u8", Status(410), 404, "source_not_found"),
        ("/main.m3u8", Status(401), 502, "source_unavailable"),
        ("/main.m3u8", Status(403), 502, "source_unavailable"),
        ("/main.m3u8", Status(500), 502, "source_unavailable"),
        ("/main.m3u8", Truncate(10), 502, "source_unavailable"),
        ("/main.m3u8", PAGE, 422, "no_video_found"),
        ("/main.m3u8", Replace(b""), 502, "playlist_error"),
        ("/media.m3u8", PAGE, 502, "not_a_playlist"),
        ("/media.m3u8", Replace(b""), 502, "not_a_playlist"),
        ("/segment0.ts", Replace(b""), 502, "corrupt_media"),
        ("/segment0.ts", PAGE, 502, "corrupt_media"),
        ("/segment0.ts", Garbage(), 502, "corrupt_media"),
        ("/segment0.ts", Status(404), 502, "source_unavailable"),
    ],
)
async def test_fault_before_the_first_byte_is_a_status(
    serve: Serve, path: str, fault: Fault, status: int, code: str
) -> None:
    """Nothing is promised before the first fragment, so each fault has its status."""
    async with clip_origin() as origin, real_app() as app, serve(app) as address:
        origin.fault(path, fault)
        reply = await ask(address, stream_target(origin.at("/main.m3u8")))
    assert (reply.status, reply.json()["code"]) == (status, code)
    assert workers() == []


async def test_refused_connection_is_502(serve: Serve) -> None:
    """Nobody listens there."""
    async with real_app() as app, serve(app) as address:
        reply = await ask(address, stream_target(f"http://127.0.0.1:{unused_port()}/a.m3u8"))
    assert (reply.status, reply.json()["code"]) == (502, "source_unavailable")


async def test_host_that_is_not_allowed_is_403(serve: Serve) -> None:
    """A host outside the list is refused without a packet."""
    async with clip_origin() as origin, real_app() as app, serve(app) as address:
        url = origin.at("/media.m3u8").replace("127.0.0.1", "localhost")
        reply = await ask(address, stream_target(url))
        assert (reply.status, reply.json()["code"]) == (403, "forbidden")
        assert origin.connections == []


async def test_fault_after_the_first_byte_cuts(serve: Serve) -> None:
    """A segment that stays broken in mid-stream ends it without the final chunk."""
    async with clip_origin() as origin, real_app() as app, serve(app) as address:
        origin.fault("/segment2.ts", Truncate(5000))
        reply = await ask(address, stream_target(origin.at("/media.m3u8")))
        await asyncio.wait_for(app.idle(), TIMEOUT_S)
    assert (reply.status, reply.ended) == (200, "cut")
    assert reply.body.startswith(b"\0\0\0")
    assert workers() == []


async def test_client_leaves_in_a_stall(serve: Serve) -> None:
    """When the client leaves, the connection to the origin is closed and the worker ends."""
    async with clip_origin() as origin, real_app() as app, serve(app) as address:
        origin.fault("/segment2.ts", Stall(5000))
        async with await Conversation.open(address) as conversation:
            conversation.request(stream_target(origin.at("/media.m3u8")))
            await conversation.head()
            await origin.until(lambda: bool(origin.asked("/segment2.ts")))
            conversation.leave()
        await asyncio.wait_for(app.idle(), TIMEOUT_S)
        assert workers() == []
        (stalled, *_) = origin.asked("/segment2.ts")
        await origin.until(lambda: stalled.ended)
