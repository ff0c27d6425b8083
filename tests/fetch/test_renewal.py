"""Renewed addresses: one load for many, what counts as the same segment, what may be continued."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from proxy.errors import SourceUnavailable
from proxy.fetch import Fetcher, Prefetcher, renewal
from proxy.fetch.renewal import Renewal
from proxy.hls.model import ByteRange, InitSection, Key, MediaPlaylist, Segment
from tests.fetch.helpers import Collector, quick, segment, settled
from tests.support.origin import Hangup, Origin, Status, WrongRange

BODIES = [os.urandom(50_000 + 1000 * number) for number in range(10)]


def playlist(*segments: Segment, live: bool = False) -> MediaPlaylist:
    return MediaPlaylist(
        uri="http://origin.example/media.m3u8",
        segments=segments,
        target_duration_s=4.0,
        ended=not live,
    )


class Loads:
    """A playlist that is loaded again, and how often it was."""

    def __init__(self, *answers: MediaPlaylist | SourceUnavailable) -> None:
        self._answers = list(answers)
        self.count = 0

    async def __call__(self) -> MediaPlaylist:
        self.count += 1
        await asyncio.sleep(0)
        now = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(now, SourceUnavailable):
            raise now
        return now


def begun(load: Callable[[], Awaitable[MediaPlaylist]]) -> Renewal:
    subject = Renewal(load)
    subject.arrived()
    return subject


async def deliver(
    origin: Origin, subject: Renewal, *segments: Segment, parallel: int = 3
) -> Collector:
    """Bring segments through a prefetcher that is wide from the start."""

    async def source() -> AsyncIterator[Segment]:
        for one in segments:
            yield one

    sink = Collector()
    settings = quick(parallel_segments=parallel)
    async with Fetcher(settings) as fetcher:
        prefetcher = Prefetcher(fetcher, allowance=lambda: 1 << 30, renewal=subject)
        prefetcher.widen()
        await prefetcher.deliver(source(), sink)
    return sink


# -- one load --------------------------------------------------------------------------------------


async def test_deliver_many_expired_together() -> None:
    """Ten segments in flight that are refused together cause one load, and all of them come."""
    async with Origin() as origin:
        for number, body in enumerate(BODIES):
            origin.add(f"/{number}.ts", body)
        origin.fault("/*.ts", Status(403), when=lambda request: request.query != "new")
        gate = origin.hold("/*.ts", after_bytes=None)
        old = [segment(origin.at(f"/{n}.ts?old"), n) for n in range(10)]
        loads = Loads(playlist(*[segment(origin.at(f"/{n}.ts?new"), n) for n in range(10)]))
        delivery = asyncio.create_task(deliver(origin, begun(loads), *old, parallel=10))
        await origin.until(lambda: len(origin.requests) == 10)
        gate.open()
        sink = await delivery
        assert sink.body == b"".join(BODIES)
        assert loads.count == 1
        assert [request.status for request in origin.requests] == [403] * 10 + [200] * 10


@pytest.mark.parametrize("fails", [False, True])
async def test_renew_without_help(fails: bool) -> None:
    """A load that changes nothing, or fails, is the only one for all who were refused before it,
    and for who is refused in the time behind it."""
    one, two = segment("http://a.example/0.ts", 0), segment("http://a.example/1.ts", 1)
    loads = Loads(SourceUnavailable("no") if fails else playlist(one, two))
    subject = begun(loads)
    edition = subject.edition
    answers = await asyncio.gather(*[subject.renew(s, edition) for s in (one, two, one)])
    assert answers == [None, None, None]
    assert await subject.renew(two, subject.edition) is None
    assert loads.count == 1


async def test_renew_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was refused with the newest address is given the next one, after a pause."""
    monkeypatch.setattr(renewal, "LEAST_PAUSE_S", 0.05)
    editions = [segment(f"http://a.example/0.ts?{n}", 0) for n in range(3)]
    loads = Loads(*[playlist(edition) for edition in editions[1:]])
    subject = begun(loads)
    loop = asyncio.get_running_loop()
    assert await subject.renew(editions[0], subject.edition) == editions[1]
    began_s = loop.time()
    assert await subject.renew(editions[1], subject.edition) == editions[2]
    assert loop.time() - began_s > 0.04
    assert loads.count == 2


async def test_renew_while_loaded_for_another_reason() -> None:
    """A load that was begun before the refused request says nothing of what holds since."""
    old, new = segment("http://a.example/0.ts?1", 0), segment("http://a.example/0.ts?2", 0)
    answers = [playlist(old), playlist(new)]
    gate = asyncio.Event()

    async def load() -> MediaPlaylist:
        answer = answers.pop(0)
        await gate.wait()
        return answer

    subject = begun(load)
    reload = asyncio.create_task(subject.load())
    await settled()
    edition = subject.edition  # the request is begun, and refused, while that is under way
    gate.set()
    await reload
    assert await subject.renew(old, edition) == new
    assert answers == []


async def test_renew_from_load_for_another_reason() -> None:
    """A load that was begun after it, for whatever reason, is enough."""
    old, new = segment("http://a.example/0.ts?1", 0), segment("http://a.example/0.ts?2", 0)
    loads = Loads(playlist(new))
    subject = begun(loads)
    edition = subject.edition
    await subject.load()
    assert await subject.renew(old, edition) == new
    assert loads.count == 1


async def test_renew_refused_while_loading() -> None:
    """Who is refused while the playlist is being loaded takes what that brings."""
    pairs = [[segment(f"http://a.example/{n}.ts?{t}", n) for n in (0, 1)] for t in (1, 2)]
    loads = Loads(playlist(*pairs[1]))
    subject = begun(loads)
    first = asyncio.create_task(subject.renew(pairs[0][0], subject.edition))
    while not loads.count:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0)
    assert await subject.renew(pairs[0][1], subject.edition) == pairs[1][1]
    assert await first == pairs[1][0]
    assert loads.count == 1


async def test_renew_cancelled() -> None:
    """Who leaves while the playlist is loaded does not keep the others from it."""
    old, new = segment("http://a.example/0.ts?1", 0), segment("http://a.example/0.ts?2", 0)
    hanging = asyncio.Event()
    calls = 0

    async def load() -> MediaPlaylist:
        nonlocal calls
        calls += 1
        if calls == 1:
            await hanging.wait()
        return playlist(new)

    subject = begun(load)
    first = asyncio.create_task(subject.renew(old, 0))
    second = asyncio.create_task(subject.renew(old, 0))
    while not calls:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0)
    first.cancel()
    assert await asyncio.wait_for(second, 10) == new


async def test_renew_before_anything_came() -> None:
    """At the start of a stream the playlist is not loaded a second time."""
    old, new = segment("http://a.example/0.ts?1", 0), segment("http://a.example/0.ts?2", 0)
    loads = Loads(playlist(new))
    assert await Renewal(loads).renew(old, 0) is None
    assert loads.count == 0


# -- the same segment ------------------------------------------------------------------------------

KEY = Key(method="AES-128", uri="http://a.example/key?1", iv=bytes(16))
MAP = InitSection(uri="http://a.example/init.mp4?1")
KNOWN = replace(
    segment("http://a.example/7.ts?1", 7, byte_range=ByteRange(length=10, offset=5)),
    key=KEY,
    init_section=MAP,
)
LISTED = replace(
    KNOWN,
    uri="http://b.example/x/7.ts?2",
    key=replace(KEY, uri="http://b.example/key?2"),
    init_section=replace(MAP, uri="http://b.example/init.mp4?2"),
)


async def test_renew_all_addresses() -> None:
    """Segment, key and map get new addresses, and keep what else was said of them."""
    known = replace(KNOWN, discontinuity=True, title="mine")
    loads = Loads(playlist(replace(LISTED, sequence=6), LISTED))
    assert await begun(loads).renew(known, 0) == replace(LISTED, discontinuity=True, title="mine")


@pytest.mark.parametrize(
    "listed",
    [
        replace(LISTED, duration_s=3.9),
        replace(LISTED, byte_range=ByteRange(length=10, offset=6)),
        replace(LISTED, byte_range=None),
        replace(LISTED, discontinuity_sequence=1),
        replace(LISTED, key=None),
        replace(LISTED, key=replace(KEY, iv=b"1" * 16)),
        replace(LISTED, init_section=None),
        replace(LISTED, init_section=replace(MAP, key=KEY)),
        replace(LISTED, gap=True),
        replace(LISTED, sequence=8),
    ],
    ids=range(10),
)
async def test_renew_another_segment(listed: Segment) -> None:
    """What differs in more than addresses is another segment, and is not taken."""
    assert await begun(Loads(playlist(listed))).renew(KNOWN, 0) is None


@pytest.mark.parametrize(("live", "taken"), [(True, False), (False, True)])
async def test_renew_another_file_name(live: bool, taken: bool) -> None:
    """Numbers of a live playlist may begin anew: another file name means another segment."""
    listed = replace(LISTED, uri="http://b.example/x/other.ts?2")
    found = await begun(Loads(playlist(listed, live=live))).renew(KNOWN, 0)
    assert (found is not None) is taken


# -- what may be continued -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("validator", "path", "complete"),
    [
        ("etag", "/1.ts", True),  # the same place: If-Range
        ("date", "/1.ts", True),
        ("none", "/1.ts", True),  # read again, compared by hash
        ("etag", "/moved/1.ts", True),  # another place with the same strong ETag
        ("none", "/moved/1.ts", True),
        ("date", "/moved/1.ts", False),  # a date proves nothing about another place
    ],
)
async def test_deliver_rest_from_new_address(validator: str, path: str, complete: bool) -> None:
    """A segment that was partly delivered goes on elsewhere only if it is proved to be the same."""
    async with Origin() as origin:
        origin.add("/1.ts", BODIES[0], validator=validator)  # type: ignore[arg-type]
        if path != "/1.ts":
            origin.add(path, BODIES[0], validator=validator)  # type: ignore[arg-type]
        origin.fault("/1.ts", Hangup(after_bytes=20_000), times=1)
        origin.fault("/1.ts", Status(403), when=lambda request: request.query != "new")
        loads = Loads(playlist(segment(origin.at(f"{path}?new"), 0)))
        delivery = deliver(origin, begun(loads), segment(origin.at("/1.ts?old"), 0))
        if complete:
            assert (await delivery).body == BODIES[0]
        else:
            with pytest.raises(SourceUnavailable, match=r"cannot be proved|length"):
                await delivery


@pytest.mark.parametrize("validator", ["etag", "date", "none"])
async def test_deliver_rest_of_another_resource(validator: str) -> None:
    """Another resource at the new address is noticed before a byte of it is delivered."""
    async with Origin() as origin:
        origin.add("/1.ts", BODIES[0], validator=validator)  # type: ignore[arg-type]
        origin.add("/2.ts", BODIES[1], validator=validator)  # type: ignore[arg-type]
        origin.fault("/1.ts", Hangup(after_bytes=20_000), times=1)
        origin.fault("/1.ts", Status(403))
        loads = Loads(playlist(segment(origin.at("/2.ts"), 0)))
        with pytest.raises(SourceUnavailable, match=r"cannot be proved|length"):
            await deliver(origin, begun(loads), segment(origin.at("/1.ts"), 0))


async def test_deliver_rest_without_a_word_on_what_it_is() -> None:
    """A part from another place that does not say what it is a part of is not believed."""
    async with Origin() as origin:
        origin.add("/1.ts", BODIES[0])
        origin.add("/2.ts", os.urandom(len(BODIES[0])), validator="none")
        origin.fault("/1.ts", Hangup(after_bytes=20_000), times=1)
        origin.fault("/1.ts", Status(403))
        origin.fault("/2.ts", WrongRange())  # 206, whatever If-Range says
        loads = Loads(playlist(segment(origin.at("/2.ts"), 0)))
        with pytest.raises(SourceUnavailable, match=r"cannot be proved|length"):
            await deliver(origin, begun(loads), segment(origin.at("/1.ts"), 0))
        assert origin.asked("/2.ts")[0].status == 206
