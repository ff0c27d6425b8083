"""The intake: which segments begin a section, what is told of it, and what never passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from proxy.errors import CorruptMedia, EncryptedSource, NoPlayableVariant, ProxyError
from proxy.hls.model import InitSection, Segment
from proxy.intake import Holes, Intake
from proxy.media.ring import RingBuffer
from proxy.media.section import Section
from proxy.media.turn import TurnGate
from tests.support import fidelity, ts, ts_edit
from tests.support.clips import Clip, make_clip, pieces
from tests.support.fmp4 import make_fmp4
from tests.support.sources import Script, remuxed


def segment(number: int, **about: object) -> Segment:
    """A segment of a second."""
    told = {"discontinuity_sequence": 0, **about}
    return Segment(uri=f"http://o/{number}", duration_s=1.0, sequence=number, **told)  # type: ignore[arg-type]


@dataclass(slots=True)
class Desk:
    """An intake whose ring is large enough for all, and the init sections it may read."""

    inits: dict[str, bytes] = field(default_factory=dict)
    reads: list[tuple[str, int]] = field(default_factory=list)
    holes: Holes = field(default_factory=Holes)
    ring: RingBuffer = field(init=False)
    intake: Intake = field(init=False)

    def __post_init__(self) -> None:
        self.ring = RingBuffer(1 << 30, TurnGate())
        self.intake = Intake(self.ring, self._read, self.holes)

    async def _read(self, section: InitSection, sequence: int) -> bytes:
        self.reads.append((section.uri, sequence))
        return self.inits[section.uri]

    async def put(self, about: Segment, data: bytes, sizes: int = 1 << 20) -> None:
        """Bring a segment, in chunks."""
        self.holes.next(about)
        await self.intake.begin(about)
        for place in range(0, len(data), sizes):
            await self.intake.write(data[place : place + sizes])
        await self.intake.end(about)

    def sections(self) -> list[tuple[Section, bytes]]:
        """What came out."""
        self.ring.finish()
        out = []
        while (found := self.ring.next_section()) is not None:
            data = b""
            while chunk := self.ring.read(1 << 20):
                data += chunk
            out.append((found, data))
        return out


def cuts(clip: Clip) -> list[bytes]:
    return [piece.data for piece in pieces(clip, 1.0)]


async def sections_of(*told: tuple[Segment, bytes]) -> list[tuple[Section, bytes]]:
    desk = Desk()
    for about, data in told:
        await desk.put(about, data)
    return desk.sections()


# -- where sections begin --------------------------------------------------------------------------


async def test_segments_of_one_clock_are_one_section() -> None:
    """Nothing between them: one demuxer reads them all."""
    data = cuts(make_clip())
    ((about, joined),) = await sections_of(*((segment(n), d) for n, d in enumerate(data)))
    assert about == Section(format="mpegts", discontinuity=True, explicit=True)
    assert joined == b"".join(data)


@pytest.mark.parametrize("size", [1, 7, 188, 4096])
async def test_chunks_of_any_size(size: int) -> None:
    """However the bytes come, the same come out."""
    data = cuts(make_clip(seconds=1.0))[0]
    desk = Desk()
    await desk.put(segment(0), data, size)
    ((about, joined),) = desk.sections()
    assert about.format == "mpegts"
    assert joined == data


async def test_cut_without_regard_to_packets() -> None:
    """Segments that end and begin inside a transport packet: every byte arrives."""
    whole = make_clip().data
    places = [0, 10_001, 20_100, 30_333, len(whole)]
    told = [(segment(n), whole[a:b]) for n, (a, b) in enumerate(pairwise(places))]
    ((_, joined),) = await sections_of(*told)
    assert joined == whole


@pytest.mark.parametrize(
    "tag", [{"discontinuity": True, "discontinuity_sequence": 1}, {"discontinuity_sequence": 1}]
)
async def test_discontinuity_begins_a_section(tag: dict[str, object]) -> None:
    """Told by the tag, or by the number where the tagged segment itself was left out."""
    a, b, *_ = cuts(make_clip())
    found = await sections_of((segment(0), a), (segment(1, **tag), b))
    assert [about.discontinuity for about, _ in found] == [True, True]


async def test_other_pids_begin_a_section() -> None:
    """Other streams in the PMT get a demuxer of their own, on the same clock."""
    clip = make_clip()
    a, b, *_ = cuts(clip)
    pids = {pid: pid + 0x40 for pid in (clip.video_pid, *clip.audio_pids)}
    found = await sections_of((segment(0), a), (segment(1), ts_edit.remap(b, pids)))
    assert [about.discontinuity for about, _ in found] == [True, False]


@pytest.mark.parametrize("size", [1 << 20, 1000])
async def test_other_pids_inside_a_segment(size: int) -> None:
    """Announced in the middle of a segment, they get one too, in the same group."""
    clip = make_clip()
    a, b, c, _ = cuts(clip)
    pids = {pid: pid + 0x40 for pid in (clip.video_pid, *clip.audio_pids)}
    desk = Desk()
    await desk.put(segment(0, discontinuity_sequence=7), a + ts_edit.remap(b, pids), size)
    await desk.put(segment(1, discontinuity_sequence=7), ts_edit.remap(c, pids), size)
    found = desk.sections()
    assert [(about.discontinuity, about.group) for about, _ in found] == [(True, 7), (False, 7)]
    output = remuxed(Script(*found))
    fidelity.assert_faithful(a + b + c, output.data, decode=False)


async def test_hole_begins_a_section() -> None:
    """What was left out is told in seconds; several add up."""
    a, b, c, d = cuts(make_clip())
    desk = Desk()
    await desk.put(segment(0), a)
    desk.holes.leave_out(1.0)
    desk.holes.leave_out(2.5)
    await desk.put(segment(3), b)
    await desk.put(segment(4), c)
    await desk.intake.lost(segment(5))
    await desk.put(segment(6), d)
    told = [(about.discontinuity, about.hole_s) for about, _ in desk.sections()]
    assert told == [(True, 0.0), (False, 3.5), (False, 1.0)]
    assert desk.holes.count == 3


async def test_lost_after_some_of_it_passed() -> None:
    """What has passed of a segment that is lost is marked as broken off; the next one begins anew,
    also where it claims that nothing is missing."""
    a, b, c, _ = cuts(make_clip())
    desk = Desk()
    await desk.put(segment(0), a)
    about = Segment(uri="http://o/1", duration_s=0.0, sequence=1, discontinuity_sequence=0)
    await desk.intake.begin(about)
    await desk.intake.write(b[:10_000])
    await desk.intake.lost(about)
    await desk.put(segment(2), c)
    desk.ring.finish()
    out = []
    while desk.ring.next_section() is not None:
        data = b""
        while chunk := desk.ring.read(1 << 20):
            data += chunk
        out.append((data, desk.ring.broken_off))
    assert out == [(a + b[:10_000], True), (c, False)]


async def test_lost_before_it_was_recognised() -> None:
    """A segment of which nothing has passed leaves a hole and no mark."""
    a, b, c, _ = cuts(make_clip())
    desk = Desk()
    await desk.put(segment(0), a)
    await desk.intake.begin(segment(1))
    await desk.intake.write(b[:100])
    await desk.intake.lost(segment(1))
    await desk.put(segment(2), c)
    assert [data for _, data in desk.sections()] == [a, c]
    assert not desk.ring.broken_off


async def test_init_section_fails_once() -> None:
    """A segment whose init section fails has changed nothing: the next one begins the section."""
    source = make_fmp4()
    one, two = InitSection(uri="a"), InitSection(uri="b")
    desk = Desk(inits={"a": source.init})
    await desk.put(segment(0, init_section=one), source.segments[0])
    about = segment(1, init_section=two)
    with pytest.raises(KeyError):
        await desk.put(about, source.segments[1])
    await desk.intake.lost(about)
    desk.inits["b"] = source.init
    await desk.put(segment(2, init_section=two), source.segments[2])
    found = desk.sections()
    assert [data for _, data in found] == [
        source.init + source.segments[0],
        source.init + source.segments[2],
    ]
    assert [about.hole_s for about, _ in found] == [0.0, 1.0]


async def test_hole_at_the_start() -> None:
    """A hole in front of the first segment is told too."""
    desk = Desk()
    desk.holes.leave_out(4.0)
    await desk.put(segment(1), cuts(make_clip())[0])
    ((about, _),) = desk.sections()
    assert about == Section(discontinuity=True, hole_s=4.0, explicit=True)


async def test_map_in_front_of_each_section() -> None:
    """An init section is read once per section, and again where another one comes."""
    source = make_fmp4()
    one, two = InitSection(uri="a"), InitSection(uri="b")
    desk = Desk(inits={"a": source.init, "b": source.init})
    for number, about in enumerate([one, one, two, two]):
        await desk.put(segment(number, init_section=about), source.segments[number % 4])
    found = desk.sections()
    assert [(about.format, about.discontinuity) for about, _ in found] == [
        ("mp4", True),
        ("mp4", False),
    ]
    assert desk.reads == [("a", 0), ("b", 2)]
    assert found[0][1] == source.init + source.segments[0] + source.segments[1]


@pytest.mark.parametrize("size", [5, 100, 1 << 20])
async def test_moov_in_each_segment(size: int) -> None:
    """Without EXT-X-MAP segments have a moov of their own; another one begins a section, since the
    demuxer of this one would not look at it."""
    source, other = make_fmp4(), make_fmp4(width=320, height=180)
    desk = Desk()
    told = [source.init + source.segments[0], source.init + source.segments[1]]
    told += [source.segments[2], other.init + other.segments[3]]
    for number, data in enumerate(told):
        await desk.put(segment(number), data, size)
    found = desk.sections()
    assert [about.discontinuity for about, _ in found] == [True, False]
    assert [data for _, data in found] == [b"".join(told[:3]), told[3]]


async def test_mp4_sections_are_renewed() -> None:
    """libavformat keeps an index of each sample: a long section of MP4 is begun anew, unseen."""
    source = make_fmp4()
    desk = Desk(inits={"a": source.init})
    for number in range(250):
        await desk.put(segment(number, init_section=InitSection(uri="a")), source.segments[0])
    found = desk.sections()
    assert 1 < len(found) < 6
    assert [about.discontinuity for about, _ in found] == [True, *[False] * (len(found) - 1)]
    assert all(data.startswith(source.init) for _, data in found)


async def test_other_container_begins_a_section() -> None:
    """From TS to packed audio, or to fragmented MP4."""
    clip = make_clip(video=None, seconds=1.0)
    frames = b"".join(pes.payload for pes in ts.read_pes(clip.data, clip.audio_pids[0]))
    found = await sections_of((segment(0), clip.data), (segment(1), frames))
    assert [about.format for about, _ in found] == ["mpegts", "aac"]


# -- what a segment is -----------------------------------------------------------------------------


def id3(clock: int | None) -> bytes:
    """An ID3 tag, with the timestamp of RFC 8216bis section 3.1.4."""
    body = b""
    if clock is not None:
        owner = b"com.apple.streaming.transportStreamTimestamp\0"
        private = owner + clock.to_bytes(8, "big")
        body = b"PRIV" + len(private).to_bytes(4, "big") + b"\0\0" + private
    return b"ID3\x04\0\0" + bytes([0, 0, len(body) >> 7, len(body) & 127]) + body


@pytest.mark.parametrize("clock", [None, 0, 900_000, (1 << 33) - 1])
@pytest.mark.parametrize("codec", ["aac", "ac3", "eac3", "mp3"])
async def test_packed_audio(codec: str, clock: int | None) -> None:
    """Its ID3 tag is taken off, and its timestamp told; of later segments the tag goes too."""
    clip = make_clip(video=None, audio=(codec,), seconds=1.0)
    frames = b"".join(pes.payload for pes in ts.read_pes(clip.data, clip.audio_pids[0]))
    later = None if clock is None else clock + 90_000
    told = [(segment(0), id3(clock) + frames), (segment(1), id3(later) + frames)]
    ((about, data),) = await sections_of(*told)
    assert (about.format, about.clock) == (codec, clock)
    assert data == frames + frames


@pytest.mark.parametrize("junk", [b"\x89PNG\r\n\x1a\n" + bytes(500), bytes(77), b"x" * 10_000])
async def test_ts_behind_something_else(junk: bytes) -> None:
    """A transport stream that does not begin at byte 0."""
    data = cuts(make_clip())[0]
    ((about, passed),) = await sections_of((segment(0), junk + data))
    assert about.format == "mpegts"
    assert passed == data


async def test_name_and_type_do_not_matter() -> None:
    """The content decides: fragments in what is called anything."""
    source = make_fmp4()
    for box in (b"\0\0\0\x10styp" + b"msdh\0\0\0\0", b"\0\0\0\x10emsg" + bytes(8), b""):
        desk = Desk(inits={"a": source.init})
        await desk.put(segment(0, init_section=InitSection(uri="a")), box + source.segments[0])
        assert [about.format for about, _ in desk.sections()] == ["mp4"]


# -- what never passes -----------------------------------------------------------------------------

NO_MEDIA: Sequence[bytes] = [
    b"",
    b"\x47",
    b"<!doctype html><html></html>",
    b"\xef\xbb\xbf\r\n <html>",
    b"#EXTM3U\n",
    b'{"error": 1}',
    b"expired",
    bytes(200_000),
    b"\xff\xd8\xff\xe0" + bytes(1000),
]


@pytest.mark.parametrize("data", NO_MEDIA, ids=range(len(NO_MEDIA)))
@pytest.mark.parametrize("first", [True, False])
async def test_no_media(data: bytes, first: bool) -> None:
    """What is no media never reaches a demuxer, wherever it comes."""
    desk = Desk()
    if not first:
        await desk.put(segment(0), cuts(make_clip())[0])
    before = desk.ring.size
    with pytest.raises(CorruptMedia):
        await desk.put(segment(1), data, 1000)
    assert desk.ring.size == before


@pytest.mark.parametrize("size", [1 << 20, 1_000, 3])
@pytest.mark.parametrize("cut", [-1, -8, -5_000, 9, 3])
async def test_mp4_cut(cut: int, size: int) -> None:
    """A fragment that is not whole would take what follows for its own: it is refused."""
    source = make_fmp4()
    about = InitSection(uri="a")
    desk = Desk(inits={"a": source.init})
    await desk.put(segment(0, init_section=about), source.segments[0], size)
    with pytest.raises(CorruptMedia):
        await desk.put(segment(1, init_section=about), source.segments[1][:cut], size)
    await desk.intake.lost(segment(1, init_section=about))
    await desk.put(segment(2, init_section=about), source.segments[2], size)
    found = desk.sections()
    assert [data.endswith(one) for (_, data), one in zip(found, source.segments[::2], strict=False)]
    assert found[-1][1] == source.init + source.segments[2]


@pytest.mark.parametrize("size", [1 << 20, 5])
async def test_mp4_boxes_of_any_size(size: int) -> None:
    """A box may tell its size in 64 bits; one that tells none, or nonsense, is refused."""
    source = make_fmp4()
    about = InitSection(uri="a")
    large = b"\0\0\0\1free" + (20).to_bytes(8) + bytes(4)
    desk = Desk(inits={"a": source.init})
    await desk.put(segment(0, init_section=about), source.segments[0] + large, size)
    assert desk.ring.size == len(source.init + source.segments[0] + large)
    for head in (b"\0\0\0\0mdat", b"\0\0\0\7free", b"\0\0\0\1free" + bytes(8)):
        with pytest.raises(CorruptMedia):
            await desk.put(segment(1, init_section=about), source.segments[1] + head, size)


async def test_page_is_refused_early() -> None:
    """A page is not read to its end before it is refused."""
    desk = Desk()
    await desk.intake.begin(segment(0))
    with pytest.raises(CorruptMedia):
        await desk.intake.write(b"<!DOCTYPE html><html>")


async def test_text_is_no_video() -> None:
    """WebVTT alone is no presentation that plays."""
    with pytest.raises(NoPlayableVariant):
        await Desk().put(segment(0), b"WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n")


@pytest.mark.parametrize("entry", [b"encv", b"enca"])
@pytest.mark.parametrize("later", [False, True])
async def test_encrypted_sample_entries(entry: bytes, later: bool) -> None:
    """Media that an init section calls encrypted never passes, also where it comes later."""
    source = make_fmp4()
    clear = b"avc1" if entry == b"encv" else b"mp4a"
    place = source.init.index(clear, source.init.index(b"stsd"))
    spoilt = source.init[:place] + entry + source.init[place + 4 :]
    desk = Desk(inits={"a": source.init, "b": spoilt})
    if later:
        await desk.put(segment(0, init_section=InitSection(uri="a")), source.segments[0])
    with pytest.raises(EncryptedSource):
        await desk.put(segment(1, init_section=InitSection(uri="b")), source.segments[1])


@pytest.mark.parametrize("size", [5, 1 << 20])
async def test_encrypted_moov_in_a_segment(size: int) -> None:
    """Nor does it pass where a later segment says so itself."""
    source = make_fmp4()
    place = source.init.index(b"avc1", source.init.index(b"stsd"))
    spoilt = source.init[:place] + b"encv" + source.init[place + 4 :]
    desk = Desk()
    await desk.put(segment(0), source.init + source.segments[0], size)
    with pytest.raises(EncryptedSource):
        await desk.put(segment(1), spoilt + source.segments[1], size)


@pytest.mark.parametrize("spoil", ["cut", "without moov", "empty", "longer"])
async def test_init_section_that_is_broken(spoil: str) -> None:
    """An init section that is no row of whole boxes with a moov never passes, nor does anything
    behind it."""
    source = make_fmp4()
    init = {
        "cut": source.init[:-10],
        "without moov": source.init[: source.init.index(b"moov") - 4],
        "empty": b"",
        "longer": source.init + bytes(5),
    }[spoil]
    desk = Desk(inits={"a": init})
    with pytest.raises(CorruptMedia, match="init section"):
        await desk.put(segment(0, init_section=InitSection(uri="a")), source.segments[0])
    assert desk.sections() == []


async def test_init_section_of_a_transport_stream() -> None:
    """PAT and PMT in an EXT-X-MAP are no boxes, and stand in front of the segment."""
    data = cuts(make_clip())[0]
    desk = Desk(inits={"a": data[:564]})
    await desk.put(segment(0, init_section=InitSection(uri="a")), data)
    assert [passed for _, passed in desk.sections()] == [data[:564] + data]


async def test_init_section_that_cannot_be_had() -> None:
    """Its error is the segment's."""
    source = make_fmp4()

    async def refuse(section: InitSection, sequence: int) -> bytes:
        raise ProxyError("gone")

    about = segment(0, init_section=InitSection(uri="a"))
    intake = Intake(RingBuffer(1 << 20, TurnGate()), refuse, Holes())
    await intake.begin(about)
    with pytest.raises(ProxyError, match="gone"):
        await intake.write(source.segments[0])
