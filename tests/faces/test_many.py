"""Many streams at a time over one server: all make progress, and what breaks breaks alone."""

import asyncio
import random
from typing import Any

from proxy import admission
from proxy.app import Settings
from proxy.pipeline import Settings as PipelineSettings
from tests.support.client import TIMEOUT_S, Conversation, Reply, ask, stream_target
from tests.support.clips import make_clip
from tests.support.figures import report
from tests.support.origin import (
    Fault,
    Garbage,
    Gzip,
    Hangup,
    Origin,
    Raw,
    Redirect,
    Replace,
    Reset,
    SlowHeaders,
    Stall,
    Status,
    Trickle,
    Truncate,
    WrongLength,
)
from tests.support.served import Serve, over_aiohttp, real_app
from tests.support.streams import Resources, own_tasks, publish, resident_bytes, workers

MIB = 1024 * 1024

BREAKING: list[Fault] = [
    Status(403),
    Status(404),
    Status(500),
    Status(503, retry_after=0),
    Reset(2000),
    Reset(),
    Hangup(2000),
    Truncate(2000),
    WrongLength(1),
    Stall(2000),
    Stall(),
    Trickle(drip_bytes=20, every_s=0.1),
    SlowHeaders(0.1),
    Garbage(),
    Replace(b""),
    Replace(b"<!doctype html><title>login</title>"),
    Gzip(cut_bytes=20),
    Raw(b"nonsense\r\n\r\n"),
    Redirect("?again"),
]
# Short enough for a test.
IMPATIENT: dict[str, Any] = {
    "connect_timeout_s": 1.0,
    "tls_timeout_s": 0.0,
    "headers_timeout_s": 2.0,
    "read_timeout_s": 2.0,
    "min_rate_window_s": 0.5,
    "min_rate_grace_s": 0.2,
}
SPOILT = ["media.m3u8", "0.ts", "1.ts", "3.ts"]


def room_for(streams: int) -> Settings:
    return Settings(admission=admission.Settings(streams=streams, streams_per_client=streams))


async def test_eight_drip_fed_streams_all_progress(serve: Serve) -> None:
    """Eight streams from an origin that drips: each gets some of every second, and all of it in the
    end."""
    async with (
        Origin() as origin,
        real_app(room_for(8)) as app,
        serve(app) as address,
    ):
        target = stream_target(publish(origin, make_clip(seconds=6.0)))
        whole = await ask(address, target)
        origin.fault("/*.ts", Trickle(drip_bytes=1000, every_s=0.01))
        arrivals: list[int] = []  # whose bytes came, in order

        async def play(number: int) -> Reply:
            async with await Conversation.open(address) as conversation:
                conversation.request(target)
                return await conversation.reply(on_piece=lambda _: arrivals.append(number))

        async with asyncio.timeout(2 * TIMEOUT_S):
            replies = await asyncio.gather(*(play(number) for number in range(8)))
        assert all(reply.body == whole.body for reply in replies)
        # While the first of them was at its half, the last had come no less far than to a fifth.
        pieces = arrivals.count(0)
        half = next(
            at
            for at in range(len(arrivals))
            if max(arrivals[:at].count(n) for n in range(8)) >= pieces / 2
        )
        assert min(arrivals[:half].count(number) for number in range(8)) >= pieces / 5
    assert workers() == []


async def test_broken_streams_break_alone() -> None:
    """Of 200 streams at once 20 are broken in every way: the other 180 are equal to the byte, and
    memory stays within the budget."""
    count, broken = 200, 20
    chance = random.Random(4)
    settings = PipelineSettings(streams=count)
    async with (
        Origin() as origin,
        real_app(room_for(count), pipeline=settings, **IMPATIENT) as app,
        over_aiohttp(app) as address,
    ):
        clip = make_clip(seconds=4.0)
        sound = stream_target(publish(origin, clip))
        whole = await ask(address, sound)
        targets = [sound] * (count - broken)
        for number in range(broken):
            prefix = f"/broken{number}/"
            targets.append(stream_target(publish(origin, clip, prefix=prefix)))
            fault = BREAKING[number % len(BREAKING)]
            origin.fault(prefix + chance.choice(SPOILT), fault)
        order = chance.sample(range(count), count)
        before = Resources.now()
        watching = asyncio.create_task(_watch(sizes := [before.resident_bytes]))
        began_s = asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(ask(address, targets[n]) for n in order))
        elapsed_s = asyncio.get_running_loop().time() - began_s
        watching.cancel()
        replies = dict(zip(order, answers, strict=True))
        for number in range(count - broken):
            assert (replies[number].status, replies[number].ended) == (200, "complete")
            assert replies[number].body == whole.body
        spoilt = [replies[number] for number in range(count - broken, count)]
        assert all(whole.body.startswith(one.body) for one in spoilt if one.status == 200)
        healed = [one for one in spoilt if one.status == 200 and one.ended == "complete"]
        assert all(one.body == whole.body for one in healed)
        assert len(healed) < broken / 4
        await asyncio.wait_for(app.idle(), TIMEOUT_S)
        assert workers() == []
        await origin.until(lambda: all(request.ended for request in origin.requests))
        assert Resources.now().threads <= before.threads
    assert own_tasks() == set()
    grown_bytes = max(sizes) - before.resident_bytes
    # What is in buffers, what libav needs beside them, and the bodies, which the test holds.
    assert grown_bytes < settings.budget_bytes + count * (2 * MIB + len(whole.body))
    report(
        "many streams", streams=count, broken=broken,
        elapsed_s=round(elapsed_s, 2), grown_mib=round(grown_bytes / MIB, 1),
    )  # fmt: skip


async def _watch(sizes: list[int]) -> None:
    """Note how much memory there is, again and again."""
    while True:
        sizes.append(resident_bytes())
        await asyncio.sleep(0.02)
