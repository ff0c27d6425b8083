"""Every fault of an origin, at every kind of resource, as often as may be healed, and always:
what becomes of it for a client over HTTP.

Before the first byte a fault that lasts is a status; after it the connection is cut behind whole
fragments; one that heals within the attempts leaves the payload as it is.  Each test plays all
faults of one place side by side, and names every one that ended otherwise.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy import admission
from proxy.app import Settings
from tests.support import boxes
from tests.support.box_tree import BoxError
from tests.support.client import TIMEOUT_S, Reply, ask, stream_target
from tests.support.clips import make_clip, pieces
from tests.support.crypt import encrypted
from tests.support.fmp4 import make_fmp4
from tests.support.origin import (
    CloseDelimited,
    Fault,
    Garbage,
    Gzip,
    Hangup,
    IgnoreRange,
    NoFinalChunk,
    Origin,
    Raw,
    Redirect,
    Reset,
    SlowHeaders,
    Stall,
    Status,
    Trickle,
    Truncate,
    WrongLength,
    WrongRange,
)
from tests.support.playlists import Entry, multivariant_text, variant_lines
from tests.support.served import over_aiohttp, real_app
from tests.support.streams import publish, publish_playlist, workers
from tests.support.tls import Authority, Identity

# Against an origin that is slow: short, and yet longer than a busy machine makes us wait.
IMPATIENT: dict[str, Any] = {
    "read_timeout_s": 0.5,
    "connect_timeout_s": 0.5,
    "tls_timeout_s": 0.0,
    "headers_timeout_s": 0.3,
    "min_rate_window_s": 0.4,
    "min_rate_grace_s": 0.1,
}
ATTEMPTS = {"key": 2}  # of everything else 3, the defaults of `fetch.Settings`

# What a client saw: WHOLE, CUT, or status and code.
WHOLE = "whole"  # complete, and to the byte what comes without a fault
CUT = "cut"  # without an end, behind whole fragments of what comes without a fault
NOT_FOUND = "404 source_not_found"
UNAVAILABLE = "502 source_unavailable"
KEY = "502 key_unavailable"
CORRUPT = "502 corrupt_media"
TIMEOUT = "504 source_timeout"
HEADERS = "504 headers_timeout"
REDIRECTS = "502 too_many_redirects"

FAULTS: dict[str, Fault] = {
    "403": Status(403),
    "404": Status(404),
    "410": Status(410),
    "429": Status(429, retry_after=0),
    "500": Status(500),
    "503": Status(503, retry_after=0),
    "refused": Redirect("http://127.0.0.1:1/"),  # where nobody ever listens
    "redirect loop": Redirect("?again"),
    "reset": Reset(10),
    "reset before the headers": Reset(),
    "hang-up": Hangup(10),
    "truncated": Truncate(10),
    "length too large": WrongLength(10),
    "no final chunk": NoFinalChunk(),
    "malformed HTTP": Raw(b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n"),
    "stall": Stall(10),
    "stall before the headers": Stall(),
    "slow headers": SlowHeaders(0.05),
    "trickle": Trickle(drip_bytes=1, every_s=0.02),
    "gzip cut short": Gzip(cut_bytes=20),
    "gzip": Gzip(),
    "garbage": Garbage(),
    "closed early": CloseDelimited(cut_bytes=10),
    "wrong range": WrongRange(shift_bytes=188),
    "short range": WrongRange(short_bytes=188),
    "short range that lies": WrongRange(short_bytes=188, lie=True),
    "range ignored": IgnoreRange(),
}
SLOW = {"stall", "stall before the headers", "slow headers", "trickle"}
REFUSING = {"403", "404", "410"}
OF_RANGES = {"wrong range", "short range", "short range that lies", "range ignored"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a fault strikes: a presentation, and the path in it."""

    publish: Callable[[Origin, str], str]  # takes a prefix, gives the address
    path: str
    late: bool = False  # behind the first byte


def plain(origin: Origin, prefix: str) -> str:
    publish(origin, make_clip(seconds=4.0), prefix=prefix)
    return origin.add(f"{prefix}main.m3u8", multivariant_text(variant_lines("media.m3u8")))


def keyed(origin: Origin, prefix: str) -> str:
    """Four segments under two keys."""
    entries = []
    for number, piece in enumerate(pieces(make_clip(seconds=4.0), 1.0)):
        name = "ab"[number // 2]
        data = encrypted(piece.data, name.encode() * 16, number.to_bytes(16, "big"))
        origin.add(f"{prefix}{number}.ts", data)
        origin.add(f"{prefix}{name}.key", name.encode() * 16)
        tag = f'#EXT-X-KEY:METHOD=AES-128,URI="{name}.key"'
        entries.append(Entry(uri=f"{number}.ts", duration_s=1, tags=(tag,)))
    return publish_playlist(origin, entries, prefix=prefix)


def mapped(origin: Origin, prefix: str) -> str:
    """A fragmented MP4 twice, with a discontinuity and another EXT-X-MAP in between."""
    source = make_fmp4(seconds=3.0)
    entries = []
    for name in ("a", "b"):
        origin.add(f"{prefix}{name}.mp4", source.init)
        tags: tuple[str, ...] = ("#EXT-X-DISCONTINUITY", f'#EXT-X-MAP:URI="{name}.mp4"')
        for number, segment in enumerate(source.segments):
            origin.add(f"{prefix}{name}{number}.m4s", segment)
            entries.append(Entry(uri=f"{name}{number}.m4s", duration_s=1, tags=tags))
            tags = ()
    return publish_playlist(origin, entries, prefix=prefix)


def ranged(origin: Origin, prefix: str) -> str:
    """Segments that are ranges of two files."""
    parts = pieces(make_clip(seconds=4.0), 1.0)
    entries = []
    for name, group in (("a", parts[:2]), ("b", parts[2:])):
        origin.add(f"{prefix}{name}.ts", b"".join(piece.data for piece in group))
        at = 0
        for piece in group:
            tag = f"#EXT-X-BYTERANGE:{len(piece.data)}@{at}"
            entries.append(Entry(uri=f"{name}.ts", duration_s=1, tags=(tag,)))
            at += len(piece.data)
    return publish_playlist(origin, entries, prefix=prefix)


PLACES = {
    "multivariant playlist": Place(publish=plain, path="main.m3u8"),
    "media playlist": Place(publish=plain, path="media.m3u8"),
    "segment, first": Place(publish=plain, path="0.ts"),
    "segment, middle": Place(publish=plain, path="2.ts", late=True),
    "segment, last": Place(publish=plain, path="3.ts", late=True),
    "segment of fMP4, first": Place(publish=mapped, path="a0.m4s"),
    "segment of fMP4, last": Place(publish=mapped, path="b2.m4s", late=True),
    "segment, encrypted": Place(publish=keyed, path="3.ts", late=True),
    "segment, a range": Place(publish=ranged, path="a.ts"),
    "segment, a late range": Place(publish=ranged, path="b.ts", late=True),
    "key, first": Place(publish=keyed, path="a.key"),
    "key, late": Place(publish=keyed, path="b.key", late=True),
    "map, first": Place(publish=mapped, path="a.mp4"),
    "map, late": Place(publish=mapped, path="b.mp4", late=True),
}


def lasting(name: str, fault: str) -> str:
    """What becomes of a fault that does not pass."""
    if PLACES[name].late:
        return CUT
    if name.startswith("key"):
        return "502 key_too_large" if fault == "garbage" else KEY
    if fault == "redirect loop":
        return REDIRECTS
    if fault == "garbage" and "range" not in name:
        special = {"multivariant playlist": "502 playlist_error",
                   "media playlist": "502 not_a_playlist"}  # fmt: skip
        return special.get(name, CORRUPT)
    if fault in SLOW:
        return HEADERS if fault in {"stall before the headers", "slow headers"} else TIMEOUT
    return NOT_FOUND if fault in {"404", "410"} and "playlist" in name else UNAVAILABLE


def allowed(name: str, fault: str, *, always: bool) -> set[str]:
    """What may become of a fault: one thing, but where the right one is a matter of luck."""
    segment = name.startswith("segment")
    match fault:
        case "no final chunk" if segment:  # all of it came, and that can be proved
            return {WHOLE}
        case "range ignored":  # the part is cut out of the whole
            return {WHOLE}
        case "gzip" if "playlist" in name or "key" in name:  # unpacked, asked for or not
            return {WHOLE}
        case "length too large" if segment and "range" not in name:  # likewise
            return {WHOLE}
        case "closed early" if name == "map, first" and always:  # nothing of it was used
            return {UNAVAILABLE}
        case "closed early" if "first" in name and always:  # the first fragment is out
            return {CUT}
        case "garbage" if not always and "key" not in name and "range" not in name:
            return {lasting(name, fault)}  # it came without a fault
    if always:
        return {lasting(name, fault)}
    if fault in REFUSING and not (segment and PLACES[name].late):
        # Believed, where nothing of the stream has come yet that would speak against it.
        return {WHOLE, lasting(name, fault)}
    return {WHOLE}


def strikes(name: str, fault: str) -> bool:
    """Whether a fault means anything there."""
    segment = name.startswith("segment")
    match fault:
        case "trickle":  # what is small comes in time all the same
            return segment
        case "closed early":  # a text or a key without a length: nothing tells it was cut
            return (segment and "range" not in name) or name.startswith("map")
        case "garbage":
            return "late" not in name or "key" not in name
        case _:
            return "range" in name or fault not in OF_RANGES


def seen(reply: Reply, whole: bytes) -> str:
    if reply.status != 200:
        return f"{reply.status} {reply.json()['code']}"
    if reply.ended == "complete":
        return WHOLE if reply.body == whole else "complete, and different"
    if not whole.startswith(reply.body):
        return "cut, and different before"
    try:
        boxes.read(reply.body)
    except BoxError as error:
        return f"cut, and broken: {error}"
    return reply.ended


def many_streams() -> Settings:
    return Settings(admission=admission.Settings(streams=1000, streams_per_client=1000))


async def outcomes_that_are_wrong(
    name: str, faults: Iterable[str], healing: int, **fetching: Any
) -> dict[tuple[str, int | None], str]:
    """Play each fault at this place, `healing` times and always; return what else became of it than
    is allowed."""
    place = PLACES[name]
    cases = [(fault, times) for fault in faults for times in (healing, None)]
    async with (
        Origin() as origin,
        real_app(many_streams(), **fetching) as app,
        over_aiohttp(app) as address,
    ):
        whole = await ask(address, stream_target(place.publish(origin, "/whole/")))
        assert whole.ended == "complete"

        async def play(number: int, fault: str, times: int | None) -> str:
            url = place.publish(origin, f"/{number}/")
            origin.fault(f"/{number}/{place.path}", FAULTS[fault], times=times)
            return seen(await ask(address, stream_target(url)), whole.body)

        outcomes = await asyncio.gather(
            *(play(number, fault, times) for number, (fault, times) in enumerate(cases))
        )
        await asyncio.wait_for(app.idle(), TIMEOUT_S)
    assert workers() == []
    return {
        (fault, times): outcome
        for (fault, times), outcome in zip(cases, outcomes, strict=True)
        if outcome not in allowed(name, fault, always=times is None)
    }


@pytest.mark.parametrize("name", PLACES)
async def test_faults(name: str) -> None:
    """Each fault at this place has the end that is promised, as often as may be healed, and always;
    and nothing is left."""
    most = ATTEMPTS.get(name.partition(",")[0], 3) - 1
    faults = [fault for fault in FAULTS if strikes(name, fault) and fault not in SLOW]
    assert await outcomes_that_are_wrong(name, faults, most) == {}


@pytest.mark.parametrize("name", PLACES)
async def test_slow_faults(name: str) -> None:
    """The same of what takes its time, once and always."""
    faults = [fault for fault in FAULTS if strikes(name, fault) and fault in SLOW]
    assert await outcomes_that_are_wrong(name, faults, 1, **IMPATIENT) == {}


IDENTITIES: tuple[Identity, ...] = ("good", "expired", "wrong-host", "self-signed")


@pytest.mark.parametrize("identity", IDENTITIES)
async def test_tls(identity: Identity, tmp_path: Path) -> None:
    """Who cannot be trusted is not listened to: 502 before the first byte, a cut behind it."""
    authority = Authority(tmp_path)
    clip = make_clip(seconds=4.0)
    async with (
        Origin() as plainly,
        Origin(tls=authority.server(identity)) as origin,
        real_app(ca_file=authority.ca_file) as app,
        over_aiohttp(app) as address,
    ):
        whole = await ask(address, stream_target(publish(plainly, clip)))
        secure = publish(origin, clip)
        entries = [Entry(uri=f"{n}.ts", duration_s=1) for n in range(3)]
        late = Entry(uri=origin.at("/3.ts"), duration_s=1)
        mixed = publish_playlist(plainly, [*entries, late], prefix="/")
        outcomes = [seen(await ask(address, stream_target(u)), whole.body) for u in (secure, mixed)]
        assert outcomes == ([WHOLE, WHOLE] if identity == "good" else [UNAVAILABLE, CUT])
        assert bool(origin.requests) == (identity == "good")


async def test_retry_after_is_honoured() -> None:
    """An origin that asks for a second gets it, and the payload is whole; one that asks for more
    than is ours to wait is given up at once."""
    async with Origin() as origin, real_app() as app, over_aiohttp(app) as address:
        target = stream_target(publish(origin, make_clip(seconds=4.0)))
        whole = await ask(address, target)
        loop = asyncio.get_running_loop()
        for status in (429, 503):
            origin.heal()
            origin.requests.clear()
            origin.fault("/2.ts", Status(status, retry_after=1), times=1)
            began_s = loop.time()
            assert seen(await ask(address, target), whole.body) == WHOLE
            assert loop.time() - began_s >= 1
            assert len(origin.asked("/2.ts")) == 2
            origin.heal()
            origin.fault("/2.ts", Status(status, retry_after=3600), times=1)
            assert seen(await ask(address, target), whole.body) == CUT
            assert len(origin.asked("/2.ts")) == 3
