"""How far a transport stream is read before its first packet comes out."""

import pytest

from proxy.media.demux import Demuxer
from proxy.media.section import Section
from proxy.media.sniff import EARLY_BYTES, recognise
from tests.support import ts, ts_tables
from tests.support.clips import Clip, make_clip


class Counted:
    """An input of one section that counts what is read of it."""

    broken_off = False

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.place = 0

    def next_section(self) -> Section | None:
        raise AssertionError  # the demuxer is opened within a section

    def read(self, n: int, /) -> bytes:
        piece = self._data[self.place : self.place + min(n, ts.PACKET_BYTES)]
        self.place += len(piece)
        return piece


Packets = list[tuple[int, int | None, int | None, bytes]]


def demuxed(data: bytes, *, explicit: bool) -> tuple[int, Packets]:
    """Return what was read until the demuxer was open, and all packets."""
    source = Counted(data)
    with Demuxer(source, explicit=explicit) as demuxer:
        opened_at = source.place
        packets = [
            (packet.stream_index, packet.pts, packet.dts, bytes(packet))
            for packet in demuxer.packets()
        ]
    return opened_at, packets


@pytest.fixture(scope="module")
def clip() -> Clip:
    return make_clip(seconds=4.0, bitrate=2_000_000, width=640, height=360)


def test_demuxer_explicit_opens_early(clip: Clip) -> None:
    """A stream that says what it holds is open long before thirty pictures have come."""
    early, _ = demuxed(clip.data, explicit=True)
    late, _ = demuxed(clip.data, explicit=False)
    assert early < late / 2


@pytest.mark.parametrize("video", ["h264", "hevc"])
def test_demuxer_explicit_same_packets(video: str) -> None:
    """Nothing is lost or dated otherwise by it."""
    data = make_clip(video=video).data
    assert demuxed(data, explicit=True)[1] == demuxed(data, explicit=False)[1]


def test_demuxer_explicit_late_audio() -> None:
    """Audio that begins behind the first pictures is there, whole."""
    data = make_clip(audio_offset_s=1.5).data
    _, packets = demuxed(data, explicit=True)
    assert packets == demuxed(data, explicit=False)[1]
    assert {packet[0] for packet in packets} == {0, 1}


def announced(*stream_types: int, before: bytes = b"") -> bytes:
    """Tables that announce such streams, and something behind them."""
    streams = tuple(
        ts_tables.Stream(pid=0x100 + n, stream_type=kind) for n, kind in enumerate(stream_types)
    )
    program = ts_tables.Program(streams=streams)
    tables = [
        *ts_tables.section_packets(0, ts_tables.pat([program])),
        *ts_tables.section_packets(program.pmt_pid, ts_tables.pmt(program)),
    ]
    return before + ts.pack(tables) + FILLER * 4


FILLER = b"\x47\x1f\xff\x10" + bytes(184)


@pytest.mark.parametrize(
    ("head", "explicit"),
    [
        (announced(ts_tables.H264, ts_tables.AAC_ADTS), True),
        (announced(ts_tables.HEVC, ts_tables.METADATA_PES, ts_tables.SCTE35), True),
        (announced(ts_tables.H264, ts_tables.MPEG2_AUDIO), False),  # layer II or III
        (announced(ts_tables.H264, ts_tables.PRIVATE_PES), False),
        (announced(ts_tables.H264, ts_tables.DTS_AUDIO), False),
        (announced(ts_tables.H264, before=FILLER * (EARLY_BYTES // 188)), False),
        (FILLER * 8, False),
    ],
    ids=["known", "metadata", "mpeg audio", "private", "dts", "late tables", "no tables"],
)
def test_recognise_explicit(head: bytes, explicit: bool) -> None:
    """Only tables at the beginning that leave nothing open spare a look into the streams."""
    found = recognise(head, complete=True)
    assert found is not None
    assert found.explicit is explicit
