"""Program tables: read in pieces, from clean and from damaged streams."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.media.psi import ElementaryStream, Program, ProgramReader, parse_pat, parse_pmt
from tests.support import ts, ts_tables
from tests.support.clips import make_clip
from tests.support.ts_tables import Stream

ONE = ts_tables.Program(
    number=1,
    pmt_pid=0x1000,
    streams=(
        Stream(pid=0x100, stream_type=ts_tables.H264),
        Stream(pid=0x101, stream_type=ts_tables.AAC_ADTS, descriptors=ts_tables.language("deu")),
    ),
)
TWO = ts_tables.Program(
    number=7, pmt_pid=0x1ABC, streams=(Stream(pid=0x1F01, stream_type=ts_tables.HEVC),)
)
FOUND_ONE = Program(
    number=1,
    streams=(
        ElementaryStream(pid=0x100, stream_type=0x1B, codec="h264"),
        ElementaryStream(pid=0x101, stream_type=0x0F, codec="aac", language="deu"),
    ),
)
FOUND_TWO = Program(
    number=7, streams=(ElementaryStream(pid=0x1F01, stream_type=0x24, codec="hevc"),)
)
# What a stream is filled with: no section, no PES packet that anybody asked for.
FILLER = ts.Packet(b"\x47\x1f\xff\x10" + bytes(184))


def stream(*programs: ts_tables.Program) -> bytes:
    """PAT and PMTs, and a packet behind them."""
    tables = ts_tables.section_packets(0, ts_tables.pat(programs))
    for program in programs:
        tables += ts_tables.section_packets(program.pmt_pid, ts_tables.pmt(program))
    return ts.renumber(ts.pack([*tables, FILLER]))


def read(data: bytes, *, step: int | None = None) -> ProgramReader:
    reader = ProgramReader()
    for place in range(0, len(data), step or max(len(data), 1)):
        reader.feed(data[place : place + (step or len(data))])
    return reader


# -- sections --------------------------------------------------------------------------------------


def test_parse_pat() -> None:
    """Programs lead to their PMTs; program 0 is the network's table."""
    section = ts_tables.pat([replace(ONE, number=0, pmt_pid=0x10), ONE, TWO])
    assert parse_pat(section) == {1: 0x1000, 7: 0x1ABC}


def test_parse_pat_cut() -> None:
    """A cut table gives the entries it has."""
    section = ts_tables.pat([ONE, TWO])
    assert parse_pat(section[:13]) == {1: 0x1000}


def test_parse_pmt() -> None:
    """Streams come with PID, type, codec and language, behind the program's own descriptors."""
    section = ts_tables.pmt(replace(ONE, descriptors=ts_tables.registration(b"HDMV")))
    assert parse_pmt(section) == FOUND_ONE


def test_parse_pmt_with_long_descriptors() -> None:
    """Descriptors may be longer than a byte can tell, the program's and each stream's."""
    private = ts_tables.descriptor(0xF0, bytes(250))
    streams = (
        Stream(pid=1, stream_type=6, descriptors=private * 2 + ts_tables.language("eng")),
        Stream(pid=2, stream_type=0x1B),
    )
    section = ts_tables.pmt(replace(ONE, descriptors=private, streams=streams))
    first, second = parse_pmt(section).streams
    assert (first.pid, first.language, second.pid, second.codec) == (1, "eng", 2, "h264")


def test_parse_pmt_cut() -> None:
    """A cut table gives the streams it has, and a cut descriptor none."""
    section = ts_tables.pmt(ONE)
    found = parse_pmt(section[: 12 + 5 + 5 + 3])
    assert [entry.pid for entry in found.streams] == [0x100, 0x101]
    assert found.streams[1].language is None


@pytest.mark.parametrize(
    ("stream_type", "descriptors", "codec"),
    [
        (0x02, b"", "mpeg2video"),
        (0x0F, b"", "aac"),
        (0x11, b"", "aac_latm"),
        (0x33, b"", "vvc"),
        (0x2D, b"", "mpegh_3d_audio"),
        (0x81, b"", "ac3"),
        (0x87, b"", "eac3"),
        (0x8A, b"", "dts"),
        (0x06, b"", None),
        (0x86, ts_tables.registration(b"CUEI"), None),  # SCTE-35, not DTS
        (0x06, ts_tables.registration(b"AC-4"), "ac4"),
        (0x06, ts_tables.registration(b"Opus"), "opus"),
        (0x06, ts_tables.registration(b"none"), None),
        (0x06, ts_tables.descriptor(0x6A, b"\0"), "ac3"),
        (0x06, ts_tables.descriptor(0x7A, b""), "eac3"),
        (0x06, ts_tables.descriptor(0x7F, b"\x15"), "ac4"),
        (0x06, ts_tables.descriptor(0x7F, b"\x21"), "dts_uhd"),
        (0x06, ts_tables.descriptor(0x7F, b""), None),
        (0x06, ts_tables.descriptor(0x59, b"deu\x10\0\1\0\1"), None),  # subtitles
        (0x06, b"\x05\x08AC-4", None),  # longer than the loop
        (0x1B, ts_tables.registration(b"HEVC"), "h264"),  # the type is the first word
    ],
)
def test_parse_pmt_codecs(stream_type: int, descriptors: bytes, codec: str | None) -> None:
    """Stream types, registrations and DVB's descriptors name the codec."""
    section = ts_tables.pmt(
        ts_tables.Program(
            streams=(Stream(pid=0x55, stream_type=stream_type, descriptors=descriptors),)
        )
    )
    (found,) = parse_pmt(section).streams
    assert (found.codec, found.language) == (codec, None)


def test_parse_pmt_language() -> None:
    """The language stands beside other descriptors; a cut one is none."""
    both = ts_tables.registration(b"AC-3") + ts_tables.descriptor(0x0A, b"FRA\0")
    streams = tuple(
        Stream(pid=pid, stream_type=6, descriptors=descriptors)
        for pid, descriptors in ((1, both), (2, ts_tables.descriptor(0x0A, b"fr")))
    )
    first, second = parse_pmt(ts_tables.pmt(replace(ONE, streams=streams))).streams
    assert (first.codec, first.language) == ("ac3", "fra")
    assert second.language is None


# -- the reader ------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 7, 187, 188, 189, 4096])
def test_program_reader_in_pieces(step: int) -> None:
    """Whatever pieces the bytes come in, all programs are found, in the order of the PAT."""
    reader = read(stream(TWO, ONE), step=step)
    assert reader.complete
    assert reader.programs == (FOUND_TWO, FOUND_ONE)


def test_program_reader_is_complete_early() -> None:
    """It knows that it has everything, and looks no further."""
    reader = ProgramReader()
    data = stream(ONE)
    reader.feed(data[:188])
    assert not reader.complete
    assert reader.programs == ()
    reader.feed(data[188:])
    assert reader.complete
    reader.feed(stream(TWO))
    assert reader.programs == (FOUND_ONE,)


@pytest.mark.parametrize("junk", [b"", bytes(77), b"\x47" * 5, b"GGGG" + bytes(300), b"\x47" * 200])
def test_program_reader_behind_junk(junk: bytes) -> None:
    """Bytes in front of the first packet are passed over, also sync bytes among them."""
    assert read(junk + stream(ONE) * 2).programs == (FOUND_ONE,)


def test_program_reader_of_lost_bytes() -> None:
    """Where bytes are missing, it finds the packets behind."""
    data = stream(ONE)
    reader = read(data[:100] + stream(ONE, TWO))
    assert reader.programs == (FOUND_ONE, FOUND_TWO)


def test_program_reader_of_long_tables() -> None:
    """A table longer than a packet is put together, adaptation fields and all."""
    streams = tuple(
        Stream(pid=0x100 + n, stream_type=0x0F, descriptors=ts_tables.language("eng"))
        for n in range(60)
    )
    program = replace(ONE, streams=streams)
    packets = ts_tables.section_packets(0, ts_tables.pat([program]))
    pmt = b"\0" + ts_tables.pmt(program)
    assert len(pmt) > 3 * 188
    packets += ts.packetize(program.pmt_pid, pmt, fields=[(False, 0), (True, None)])
    # a packet of that PID without payload, in between
    empty = ts.Packet(b"\x47" + packets[1].raw[1:3] + b"\x20\xb7\0" + b"\xff" * 182)
    packets.insert(3, empty.with_pid(program.pmt_pid))
    (found,) = read(ts.pack([*packets, FILLER])).programs
    assert len(found.streams) == 60


def test_program_reader_of_sections_that_share_packets() -> None:
    """Sections may follow each other in a packet, and begin behind the end of another one."""
    shared = replace(TWO, pmt_pid=ONE.pmt_pid)
    third = replace(TWO, number=9, pmt_pid=ONE.pmt_pid)
    long = replace(
        ONE,
        streams=tuple(Stream(pid=0x100 + n, stream_type=0x1B) for n in range(40)),
    )
    first, rest = ts_tables.pmt(long), ts_tables.pmt(shared) + ts_tables.pmt(third)
    head, tail = first[:183], first[183:]
    packets = ts_tables.section_packets(0, ts_tables.pat([long, shared, third]))
    packets += ts.packetize(ONE.pmt_pid, b"\0" + head)
    packets += ts.packetize(ONE.pmt_pid, (bytes([len(tail)]) + tail + rest).ljust(184, b"\xff"))
    reader = read(ts.pack([*packets, FILLER]))
    assert [program.number for program in reader.programs] == [1, 7, 9]
    assert len(reader.programs[0].streams) == 40
    assert reader.complete


def test_program_reader_of_other_tables() -> None:
    """Other tables on the PIDs of the PAT and the PMT are no PAT and no PMT."""
    other = ts_tables.section(0x40, 1, bytes(8))
    packets = ts_tables.section_packets(0, other)
    packets += ts_tables.section_packets(0, ts_tables.pat([ONE]))
    packets += ts_tables.section_packets(ONE.pmt_pid, other)
    packets += ts_tables.section_packets(ONE.pmt_pid, ts_tables.pmt(ONE))
    assert read(ts.pack([*packets, FILLER])).programs == (FOUND_ONE,)


def test_program_reader_of_short_sections() -> None:
    """A section too short to be a table is passed over, and does not stop what follows."""
    packets = ts_tables.section_packets(0, b"\x72\xb0\x03abc" + ts_tables.pat([ONE]))
    packets += ts_tables.section_packets(ONE.pmt_pid, ts_tables.pmt(ONE))
    assert read(ts.pack([*packets, FILLER])).programs == (FOUND_ONE,)


def test_program_reader_of_a_missing_table() -> None:
    """A program without a PMT keeps it looking, up to a mebibyte, and no further."""
    data = stream(ONE, TWO)
    tables = [packet for packet in ts.packets(data) if packet.pid != TWO.pmt_pid]
    reader = read(ts.pack(tables))
    assert not reader.complete
    reader.feed(FILLER.raw * 1000)
    assert reader.programs == (FOUND_ONE,)
    reader.feed(FILLER.raw * ((1 << 20) // 188 + 1))
    assert reader.complete
    reader.feed(data)
    assert reader.programs == (FOUND_ONE,)


def test_program_reader_without_tables() -> None:
    """What is no transport stream has no programs, however long it is."""
    assert read(b"").programs == ()
    reader = read(bytes((1 << 20) + 1))
    assert reader.complete
    assert reader.programs == ()


def test_program_reader_of_real_streams() -> None:
    """libavformat's tables are read like an independent reader does."""
    clip = make_clip(audio=("aac", "ac3"), languages=("deu", "eng"))
    (found,) = read(clip.data, step=1000).programs
    told = [(entry.pid, entry.stream_type, entry.language) for entry in found.streams]
    assert told == [(s.pid, s.stream_type, s.language) for s in clip.program.streams]
    assert [entry.codec for entry in found.streams] == ["h264", "aac", "ac3"]


@given(
    st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=184), st.booleans()), max_size=12)
)
def test_program_reader_of_anything(parts: list[tuple[int, bytes, bool]]) -> None:
    """Whatever the packets of its PIDs hold, nothing is raised."""
    pids = (0, ONE.pmt_pid)
    packets = [
        ts.Packet(
            b"\x47"
            + ((0x4000 if starts else 0) | pids[number % 2]).to_bytes(2, "big")
            + bytes([0x10 | (number & 2) << 4])
            + payload.ljust(184, b"\xff")
        )
        for number, payload, starts in parts
    ]
    tables = ts_tables.section_packets(0, ts_tables.pat([ONE]))
    read(ts.pack([*tables, *packets, FILLER]))
