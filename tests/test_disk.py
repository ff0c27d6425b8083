"""Nothing is written to the disk."""

from tests.support.client import ask, stream_target
from tests.support.clips import hls, make_clip
from tests.support.fidelity import assert_faithful
from tests.support.origin import Origin
from tests.support.served import running


async def test_stream_without_a_disk() -> None:
    """A server that cannot write a byte to any file streams as ever."""
    clip = make_clip(seconds=6)
    async with Origin() as origin:
        for path, body in hls(clip).items():
            origin.add(f"/{path}", body)
        async with running("tests.support.no_disk", "serve", "--port", "0") as run:
            address = (await run.until_said("listening on")).rpartition(" ")[2]
            reply = await ask(address, stream_target(origin.at("/media.m3u8")))
            run.process.terminate()
            assert await run.ended() == 0
    assert (reply.status, reply.ended) == (200, "complete")
    assert_faithful(clip.data, reply.body)
