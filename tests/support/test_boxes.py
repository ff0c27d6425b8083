"""The box reader agrees with PyAV on good files, and refuses each inconsistency."""

from __future__ import annotations

import functools
import io
from fractions import Fraction

import av
import pytest

from tests.support import boxes
from tests.support.box_tree import Box, BoxError, parse
from tests.support.boxes import Edit, Movie, read
from tests.support.clips import make_clip

MOVFLAGS = "frag_keyframe+delay_moov+default_base_moof"


@functools.cache
def movie_bytes(movflags: str = MOVFLAGS, audio_offset_s: float = 0.0) -> bytes:
    """Remux a clip of H.264 and AC-3 with PyAV, time beginning at 0."""
    clip = make_clip(audio=("ac3",), audio_offset_s=audio_offset_s)
    sink = io.BytesIO()
    options = {"movflags": movflags} if movflags else {}
    with (
        av.open(io.BytesIO(clip.data), "r", format="mpegts") as source,
        av.open(sink, "w", format="mp4", options=options) as target,
    ):
        streams = [target.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if not packet.size:
                continue
            assert packet.pts is not None
            assert packet.dts is not None
            packet.pts -= round(1.4 * 90_000)
            packet.dts -= round(1.4 * 90_000)
            packet.stream = streams[packet.stream.index]
            target.mux(packet)
    return sink.getvalue()


def offset(data: bytes, *path: str, number: int = 0) -> int:
    """Return where the body of a box begins; `number` counts the first of the path."""
    found = [box for box in parse(data) if box.kind == path[0]][number]
    for kind in path[1:]:
        found = found.all(kind)[0]
    return found.offset + found.size - len(found.body)


def patched(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


# -- what is good ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "movflags",
    [
        MOVFLAGS,
        "frag_keyframe+delay_moov",
        "frag_every_frame+delay_moov+default_base_moof",
        "frag_keyframe+delay_moov+omit_tfhd_offset",
    ],
)
def test_read_agrees_with_pyav(movflags: str) -> None:
    """Samples, times, flags: all as PyAV finds them, however the fragments are written."""
    data = movie_bytes(movflags)
    movie = read(data)
    assert [track.handler for track in movie.tracks] == ["vide", "soun"]
    theirs = []
    with av.open(io.BytesIO(data), "r", format="mp4") as container:
        for packet in container.demux():
            if packet.size:
                assert packet.pts is not None
                time_s = packet.pts * packet.time_base
                theirs.append((packet.stream.index, bytes(packet), packet.is_keyframe, time_s))
    for index, track in enumerate(movie.tracks):
        samples = movie.samples(track)
        assert len(samples) == (100, 125)[index]
        assert [
            (index, sample.data, sample.sync, track.seconds(sample.composition_time))
            for sample in samples
        ] == [one for one in theirs if one[0] == index]


def test_read_tracks() -> None:
    """What the moov says of a track."""
    video, audio = read(movie_bytes()).tracks
    assert (video.entry.kind, video.entry.config_kind) == ("avc1", "avcC")
    assert (video.entry.width, video.entry.height, video.timescale) == (160, 90, 90_000)
    assert (audio.entry.kind, audio.entry.config_kind) == ("ac-3", "dac3")
    assert (audio.entry.channels, audio.entry.sample_rate) == (2, 48_000)
    assert (video.language, video.duration) == ("und", 0)
    assert video.edits == (Edit(duration=0, media_time=7200),)
    assert "iso5" in read(movie_bytes()).brands


def test_read_empty_edit() -> None:
    """A track that begins late has an empty edit, which moves its samples."""
    movie = read(movie_bytes(audio_offset_s=1.5))
    audio = movie.track("soun")
    assert audio.edits == (Edit(duration=1500, media_time=None), Edit(duration=0, media_time=0))
    assert audio.seconds(movie.samples(audio)[0].composition_time) == Fraction(3, 2)


def test_read_negative_composition_offsets() -> None:
    """Offsets of version 1 are signed.  (FFmpeg's reader shifts such a track by its delay.)"""
    movie = read(movie_bytes(f"{MOVFLAGS}+negative_cts_offsets"))
    video = movie.track("vide")
    times = [video.seconds(sample.composition_time) for sample in movie.samples(video)]
    assert times[:4] == [0, Fraction(4, 25), Fraction(2, 25), Fraction(1, 25)]
    assert sorted(times) == [Fraction(number, 25) for number in range(100)]


def test_read_fragments() -> None:
    """Fragments tell their place, their number and the first sample of each track in them."""
    data = movie_bytes()
    movie = read(data)
    assert [fragment.sequence for fragment in movie.fragments] == [1, 2, 3, 4]
    for fragment in movie.fragments:
        assert data[fragment.offset + 4 : fragment.offset + 8] == b"moof"
        firsts = [sample for sample in fragment.samples if sample.first]
        assert [sample.track_id for sample in firsts] == [1, 2]
        assert firsts[0].sync
    last = movie.fragments[-1]
    assert data[last.offset + last.size + 4 : last.offset + last.size + 8] == b"mfra"
    video = movie.samples(movie.track("vide"))
    assert data[video[30].offset :].startswith(video[30].data)


def test_read_boxes_between_fragments() -> None:
    """Boxes that may stand in front of a moof are passed over."""
    data = movie_bytes()
    at = read(data).fragments[2].offset
    mfra = next(box for box in parse(data) if box.kind == "mfra")
    styp = (16).to_bytes(4, "big") + b"stypmsdh\0\0\0\0"
    assert len(read(data[:at] + styp + data[at : mfra.offset]).fragments) == 4


def test_read_large_size() -> None:
    """A box with a size of 64 bits is read."""
    data = movie_bytes()
    mfra = next(box for box in parse(data) if box.kind == "mfra")
    large = (1).to_bytes(4, "big") + b"free" + (20).to_bytes(8, "big") + bytes(4)
    assert parse(data[: mfra.offset] + large)[-1].size == 20


def test_movie_track_missing() -> None:
    """Asking for the only track of a kind fails unless there is one."""
    with pytest.raises(BoxError, match="0 tracks of type meta"):
        read(movie_bytes()).track("meta")


# -- what is refused -------------------------------------------------------------------------------


def test_read_truncated_anywhere() -> None:
    """A file that is cut is refused wherever it is cut, but for the places between its parts."""
    data = movie_bytes()
    tops = parse(data)
    whole = {box.offset for box in tops if box.kind in ("moof", "mfra")}
    for end in [*range(0, len(data), 997), *(len(data) - back for back in range(1, 20))]:
        if end not in whole:
            with pytest.raises(BoxError):
                read(data[:end])
    for end in whole:
        assert len(read(data[:end]).fragments) == sum(
            box.kind == "moof" and box.offset < end for box in tops
        )


def test_read_wrong_order() -> None:
    """Top-level boxes out of their order are refused."""
    data = movie_bytes()
    tops: list[Box] = list(parse(data))
    parts = [data[box.offset : box.offset + box.size] for box in tops]
    ftyp, moov, moof, mdat = parts[:4]
    for wrong, says in (
        ([moov, ftyp], "begin with ftyp"),
        ([ftyp, moof, mdat], "moov does not follow"),
        ([ftyp, moov, mdat, moof], "not moof, mdat"),
        ([ftyp, moov, moof], "stands alone"),
        ([ftyp, moov, moof, moof], "not moof, mdat"),
        ([ftyp, moov, moof, b"\0\0\0\x08free", mdat], "does not follow its moof"),
        ([ftyp, moov, moov], "stands alone"),
        ([ftyp, moov, b"\0\0\0\x08abcd"], "stands alone"),
        ([*parts, moof, mdat], "stands alone"),
        ([*parts, moof], "not moof, mdat"),
        ([ftyp, moov, moof, mdat, moof, mdat], "sequence 1 behind 1"),
    ):
        with pytest.raises(BoxError, match=says):
            read(b"".join(wrong))


def test_read_sequence_back() -> None:
    """A sequence number that does not grow is refused."""
    data = movie_bytes()
    at = offset(data, "moof", "mfhd", number=2) + 4
    with pytest.raises(BoxError, match="sequence 1 behind 2"):
        read(patched(data, at, (1).to_bytes(4, "big")))


def test_read_decode_time_back() -> None:
    """A decode time that goes back is refused."""
    data = movie_bytes()
    at = offset(data, "moof", "traf", "tfdt", number=2)
    size = 8 if data[at] == 1 else 4
    with pytest.raises(BoxError, match="decode time of track 1 goes back"):
        read(patched(data, at + 4, (3600).to_bytes(size, "big")))


@pytest.mark.parametrize("by", [-1, 1, 100_000])
def test_read_data_offset_wrong(by: int) -> None:
    """Data that lie outside of the mdat, or that are not those of their sample, are refused."""
    data = movie_bytes()
    at = offset(data, "moof", "traf", "trun", number=1) + 8
    value = int.from_bytes(data[at : at + 4], "big") + by
    with pytest.raises(BoxError, match=r"outside of the mdat|leave or share"):
        read(patched(data, at, value.to_bytes(4, "big")))


def test_read_sample_size_wrong() -> None:
    """A sample that is shorter than its bytes leaves some that nobody claims."""
    data = movie_bytes()
    at = offset(data, "moof", "traf", "trun", number=1) + 16
    size = int.from_bytes(data[at : at + 4], "big")
    assert size == len(boxes.read(data).fragments[1].samples[0].data)
    with pytest.raises(BoxError, match="leave or share"):
        read(patched(data, at, (size - 1).to_bytes(4, "big")))


def test_read_unclaimed_bytes() -> None:
    """Bytes at the end of an mdat that no sample claims are refused."""
    data = movie_bytes()
    tops = parse(data)
    mdat = [box for box in tops if box.kind == "mdat"][-1]
    longer = (mdat.size + 4).to_bytes(4, "big") + b"mdat" + mdat.body + bytes(4)
    with pytest.raises(BoxError, match="no sample claims"):
        read(data[: mdat.offset] + longer)


@pytest.mark.parametrize(
    ("path", "at", "value", "says"),
    [
        (("moov", "trak", "tkhd"), 12, 9, "track 9 has no"),
        (("moov", "mvex", "trex"), 4, 9, "no trex"),
        (("moov", "trak", "mdia", "mdhd"), 12, 0, "no timescale"),
        (("moov", "trak", "mdia", "minf", "stbl", "stts"), 4, 1, "samples outside"),
        (("moov", "trak", "mdia", "minf", "stbl", "stsz"), 8, 1, "samples outside"),
        (("moov", "trak", "mdia", "minf", "stbl", "stsd"), 4, 2, "says 2 entries"),
        (("moov", "trak", "edts", "elst"), 16, 0x20000, "another rate"),
        (("moov", "trak", "edts", "elst"), 8, 5000, "the edit ends"),
        (("moov", "trak", "edts", "elst"), 12, 0xFFFFFFFF, "empty edits and one"),
        (("moof", "traf", "tfhd"), 4, 9, "no track 9"),
        (("moof", "traf", "trun"), 4, 10_000, "outside of the mdat|too short"),
        (("moof", "traf", "trun"), 4, 3, "bytes too many"),
        (("mfra", "tfra"), 28, 5, "no moof"),
        (("mfra", "mfro"), 4, 5, "mfro tells another size"),
    ],
)
def test_read_inconsistent(path: tuple[str, ...], at: int, value: int, says: str) -> None:
    """Each field that contradicts another is refused."""
    data = movie_bytes()
    place = offset(data, *path) + at
    assert data[offset(data, *path)] == (1 if path[-1] == "tfra" else 0), "the version patched here"
    with pytest.raises(BoxError, match=says):
        read(patched(data, place, value.to_bytes(4, "big")))


def test_read_samples_in_moov() -> None:
    """A first fragment inside the moov, as `frag_keyframe` alone makes it, is refused."""
    with pytest.raises(BoxError):
        read(movie_bytes("frag_keyframe"))


def test_read_unfragmented() -> None:
    """A file without fragments is no fragmented MP4."""
    with pytest.raises(BoxError):
        read(movie_bytes(""))


def test_movie_is_a_value() -> None:
    """Two readings of the same bytes are equal."""
    first: Movie = read(movie_bytes())
    assert first == read(movie_bytes())
