"""What a segment is: told by its first bytes, and never wrongly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.media.boxes import box
from proxy.media.sniff import (
    SNIFF_BYTES,
    Recognition,
    is_hopeless,
    is_text,
    recognise,
    sample_entries,
)
from tests.media.helpers import ac3_frame, adts_frame, eac3_frame, movie_init, mp3_frame
from tests.support import ts, ts_tables
from tests.support.clips import make_clip

OWNER = b"com.apple.streaming.transportStreamTimestamp\0"
FILLER = b"\x47\x1f\xff\x10" + bytes(184)
PROGRAM = ts_tables.Program(streams=(ts_tables.Stream(pid=0x100, stream_type=0x1B),))
TABLES = ts.pack(
    [
        *ts_tables.section_packets(0, ts_tables.pat([PROGRAM])),
        *ts_tables.section_packets(PROGRAM.pmt_pid, ts_tables.pmt(PROGRAM)),
    ]
)
STREAM = TABLES + FILLER * 4


def synchsafe(size: int) -> bytes:
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def id3(*frames: bytes, footer: bool = False, padding: int = 0) -> bytes:
    """An ID3v2.4 tag."""
    body = b"".join(frames) + bytes(padding)
    tag = b"ID3\x04\0" + (b"\x10" if footer else b"\0") + synchsafe(len(body)) + body
    return tag + (b"3DI\x04\0\x10" + synchsafe(len(body)) if footer else b"")


def private(owner: bytes, data: bytes) -> bytes:
    """An ID3 PRIV frame."""
    body = owner + data
    return b"PRIV" + synchsafe(len(body)) + b"\0\0" + body


# -- transport streams -----------------------------------------------------------------------------


def test_recognise_a_transport_stream() -> None:
    """A stream is told by its sync bytes, with the programs it announces."""
    clip = make_clip()
    found = recognise(clip.data[: 16 * 1024], complete=False)
    assert found is not None
    assert (found.format, found.start, found.clock) == ("mpegts", 0, None)
    (program,) = found.programs
    assert [entry.pid for entry in program.streams] == [s.pid for s in clip.program.streams]


@pytest.mark.parametrize(
    "junk",
    [b"", b"\0" * 77, b"GIF89a" + bytes(300), b"\x89PNG\r\n\x1a\n" + b"G" * 150, STREAM[100:188]],
)
def test_recognise_a_transport_stream_behind_something(junk: bytes) -> None:
    """An image, or the rest of a packet, may stand in front."""
    found = recognise(junk + STREAM, complete=False)
    assert found is not None
    assert (found.format, found.start) == ("mpegts", len(junk))
    assert len(found.programs) == 1


@pytest.mark.parametrize("size", [0, 1, 7, 100, 188, 3 * 188])
def test_recognise_needs_more(size: int) -> None:
    """As long as more may come, four sync bytes in a row are waited for."""
    assert recognise(STREAM[:size], complete=False) is None


def test_recognise_waits_for_the_programs() -> None:
    """The tables are waited for, but not for ever."""
    assert recognise(FILLER * 80, complete=False) is None
    late = recognise(FILLER * 100, complete=False)
    assert late == Recognition(format="mpegts")
    assert recognise(FILLER * 10, complete=True) == late


@pytest.mark.parametrize("packets", [1, 2, 3])
def test_recognise_a_short_transport_stream(packets: int) -> None:
    """A complete segment may be as short as a packet, and cut behind it."""
    for more in (b"", FILLER[:100]):
        found = recognise(FILLER * packets + more, complete=True)
        assert found == Recognition(format="mpegts")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"G",
        b"Gone",
        b"Gateway timeout",
        b"The page was not found. Go away.",
        b"x" * 500 + b"G" + b"x" * 100,
        FILLER[:187],
        FILLER + b"x" * 188,
        b"\0" * 1000,
    ],
)
def test_recognise_no_media(body: bytes) -> None:
    """Text with a letter G in it, zeros, and less than a packet are nothing."""
    assert recognise(body, complete=True) is None


# -- the others ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [b"ftyp", b"styp", b"moof", b"moov", b"sidx", b"emsg", b"prft", b"mdat"]
)
def test_recognise_mp4(kind: bytes) -> None:
    """A fragmented MP4 begins with one of a few boxes."""
    found = recognise(box(kind, b"body"), complete=True)
    assert found is not None
    assert found.format == "mp4"


def test_recognise_mp4_with_moov() -> None:
    """Up to the first fragment a moov may come: it is told, and waited for until it is whole."""
    movie = box(b"moov", box(b"mvhd", b"about"))
    front = box(b"styp", b"iso6") + box(b"sidx", b"index")
    head = front + movie + box(b"moof", b"fragment")
    for end in range(8, len(front + movie)):
        assert recognise(head[:end], complete=False) is None
    told = Recognition(format="mp4", movie=movie)
    assert recognise(front + movie, complete=False) == told
    assert recognise(head, complete=True) == told
    plain = front + box(b"moof", b"fragment")
    assert recognise(plain[: len(front) + 8], complete=False) == Recognition(format="mp4")
    assert recognise(box(b"mdat", b"media")[:8], complete=False) == Recognition(format="mp4")


def test_recognise_mp4_with_long_moov() -> None:
    """What it is must be known by `SNIFF_BYTES`."""
    head = box(b"ftyp", b"iso6") + box(b"moov", bytes(2 * SNIFF_BYTES))
    assert recognise(head[: SNIFF_BYTES - 1], complete=False) is None
    found = recognise(head[:SNIFF_BYTES], complete=False)
    assert found is not None
    assert found.movie == head[12:SNIFF_BYTES]


@pytest.mark.parametrize("tag", [b"", id3(private(OWNER, (1 << 33 | 900_000).to_bytes(8, "big")))])
@pytest.mark.parametrize(
    ("frame", "format_"),
    [
        (adts_frame(b"\x21" * 20), "aac"),
        (adts_frame(b"\x21" * 20, crc=True), "aac"),
        (mp3_frame(), "mp3"),
        (mp3_frame(version=2, rate=1), "mp3"),
        (mp3_frame(rate=2), "mp3"),
        (mp3_frame(layer=2), "mp3"),  # layer II: refused by name, further on
        (ac3_frame(), "ac3"),
        (ac3_frame(version=10), "ac3"),
        (eac3_frame(), "eac3"),
        (eac3_frame(version=11), "eac3"),
    ],
)
def test_recognise_packed_audio(tag: bytes, frame: bytes, format_: str) -> None:
    """Audio is told by its frame header, and its clock by the ID3 tag in front: 33 bits of it."""
    assert recognise(tag + frame, complete=False) == Recognition(
        format=format_,  # type: ignore[arg-type]
        start=len(tag),
        clock=900_000 if tag else None,
    )


@pytest.mark.parametrize(
    "tag",
    [
        id3(),
        id3(private(b"somebody.else\0", bytes(8))),
        id3(private(OWNER, b"\0\0\0\1")),  # cut short
        id3(padding=300),
        id3(footer=True),
        id3() + id3(),
    ],
)
def test_recognise_packed_audio_without_clock(tag: bytes) -> None:
    """Tags without the timestamp, with padding or a footer, and several of them are passed over."""
    found = recognise(tag + adts_frame(b"\x21" * 20), complete=True)
    assert found == Recognition(format="aac", start=len(tag))


def test_recognise_packed_audio_behind_two_tags() -> None:
    """The timestamp may stand in any of the tags."""
    clock = private(OWNER, (77).to_bytes(8, "big"))
    for tags in (id3(clock) + id3(), id3() + id3(clock), id3(private(b"x\0", b"y"), clock)):
        found = recognise(tags + mp3_frame(), complete=True)
        assert found == Recognition(format="mp3", start=len(tags), clock=77)


@pytest.mark.parametrize("size", [3, 9, 12, 40, 75])
def test_recognise_cut_tag(size: int) -> None:
    """A tag that has not come whole tells nothing yet."""
    whole = id3(private(OWNER, bytes(8))) + adts_frame(b"\x21" * 20)
    assert recognise(whole[:size], complete=False) is None


def test_recognise_tag_before_nothing() -> None:
    """A tag in front of no audio is no segment."""
    assert recognise(id3() + b"x" * 100, complete=True) is None


@pytest.mark.parametrize(
    "head",
    [
        "text in UTF-16".encode("utf-16-le"),
        b"\xff\xfe" + "#EXTM3U".encode("utf-16-le"),
        b"\xff\xfe<\0h\0t\0m\0l\0",
        b"\xff\xd8\xff\xe0\0\x10JFIF",
        b"\xff\xff\xff\xff\xff\xff",
        adts_frame(b"\x21", rate=14),
        mp3_frame(version=1),
        mp3_frame(layer=3),
        mp3_frame(rate=3),
        mp3_frame(bitrate=15),
        b"\x0b\x77\0\0",
        b"\xff",
        b"\xff\xf1",
    ],
)
def test_recognise_no_audio(head: bytes) -> None:
    """Byte order marks, images and impossible headers are no audio frames."""
    assert recognise(head, complete=True) is None


@given(st.binary(max_size=2_000), st.booleans())
def test_recognise_anything(head: bytes, complete: bool) -> None:
    """Whatever comes, nothing is raised, and what is told begins within what came."""
    for data in (head, b"ID3" + head, b"\x47" + head):
        found = recognise(data, complete=complete)
        assert found is None or 0 <= found.start <= len(data)


# -- what is not media -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [b"<!DOCTYPE html>", b" \r\n<HTML>", b"\xef\xbb\xbf#EXTM3U", b'{"error":1}', b"WEBVTT\n"],
)
def test_is_hopeless_of_text(head: bytes) -> None:
    """Pages, playlists, JSON and subtitles never become media."""
    assert is_hopeless(head)


def test_is_hopeless_of_too_much() -> None:
    """Anything else may become media, up to the bytes that are looked at."""
    assert not is_hopeless(b"")
    assert not is_hopeless(b"\x89PNG")
    assert not is_hopeless(bytes(SNIFF_BYTES - 1))
    assert is_hopeless(bytes(SNIFF_BYTES))


def test_is_text() -> None:
    """WebVTT is told by its magic, behind a byte order mark or without."""
    assert is_text(b"WEBVTT\n")
    assert is_text(b"\xef\xbb\xbfWEBVTT")
    assert not is_text(b"WEBV")
    assert not is_text(STREAM)


# -- init sections ---------------------------------------------------------------------------------


def init_section(*entries: bytes) -> bytes:
    """An init section of one track for each entry."""
    tracks = b""
    for kind in entries:
        table = box(b"stsd", bytes(4) + (1).to_bytes(4, "big"), box(kind, bytes(20)))
        media = box(b"mdia", box(b"mdhd"), box(b"minf", box(b"stbl", table, box(b"stts"))))
        tracks += box(b"trak", box(b"tkhd"), media)
    return box(b"ftyp", b"iso6") + box(b"moov", box(b"mvhd"), tracks)


def test_sample_entries() -> None:
    """Every track's sample entry is found, encrypted ones by their own names."""
    assert sample_entries(init_section(b"encv", b"mp4a")) == [b"encv", b"mp4a"]
    assert sample_entries(init_section()) == []
    assert sample_entries(STREAM) == []


def test_sample_entries_of_libavformat() -> None:
    """They are found in what libavformat writes, too."""
    assert sample_entries(movie_init()) == [b"avc1", b"mp4a"]


@pytest.mark.parametrize("size", [0, 7, 8, 30, 100, 150])
def test_sample_entries_cut(size: int) -> None:
    """What is cut gives what it has."""
    assert sample_entries(init_section(b"avc1")[:size]) in ([], [b"avc1"])


@pytest.mark.parametrize("bad", [b"\0\0\0\0moov", b"\0\0\0\7moov", b"\0\0\0\1moov" + bytes(8)])
def test_sample_entries_of_impossible_sizes(bad: bytes) -> None:
    """A box of an impossible size ends the search."""
    assert sample_entries(bad + init_section(b"encv")) == []


def test_sample_entries_nested_without_end() -> None:
    """Boxes inside boxes inside boxes are not followed."""
    data = init_section(b"encv")
    for kind in (b"moov", b"trak", b"stbl") * 2_000:
        data = box(kind, data)
    assert sample_entries(data) == []


@given(st.binary(max_size=300))
def test_sample_entries_of_anything(data: bytes) -> None:
    """Whatever an init section holds, nothing is raised."""
    sample_entries(data)
    sample_entries(box(b"moov", box(b"trak", data)))
