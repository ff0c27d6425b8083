"""An independent reader of fragmented MP4, written from ISO/IEC 14496-12, to judge output by.

`read` takes a whole file and gives a `Movie`: tracks from the `moov`, fragments from the `moof`s,
samples with their bytes and times.  It is strict: a size that does not add up, data outside the
`mdat`, bytes that no sample claims, a sequence number that does not grow, a decode time that goes
back, a box out of order: each raises `BoxError`, which names the byte.  What a player would forgive
is an error here.  Times are ticks of the track's timescale unless they are named `_s`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from tests.support.box_tree import Box, BoxError, Reader, parse

_BETWEEN = frozenset(["free", "skip", "styp", "sidx", "emsg", "prft"])  # may precede a moof
_CONFIGS = frozenset(["avcC", "hvcC", "av1C", "vpcC", "esds", "dac3", "dec3", "dOps", "dfLa"])


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleEntry:
    """A sample entry of an `stsd`, 8.5.2."""

    kind: str  # avc1, hvc1, mp4a, ...
    config_kind: str  # avcC, hvcC, esds, ...; empty if there is none
    config: bytes = field(repr=False)
    width: int = 0
    height: int = 0
    channels: int = 0
    sample_rate: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """An entry of an `elst`, 8.6.6; `media_time` None is an empty edit."""

    duration: int  # ticks of the movie's timescale; 0 in the last one: up to the end
    media_time: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One `trak`, with its defaults from the `trex`."""

    track_id: int
    handler: str  # vide, soun, ...
    timescale: int
    duration: int  # of the mdhd
    language: str
    entries: tuple[SampleEntry, ...]
    edits: tuple[Edit, ...]
    movie_timescale: int
    defaults: tuple[int, int, int]  # duration, size, flags of a sample

    @property
    def entry(self) -> SampleEntry:
        """The first sample entry."""
        return self.entries[0]

    def seconds(self, composition_time: int) -> Fraction:
        """Return the presentation time of a composition time: the edit list is applied, 8.6.6."""
        delay, begin = Fraction(0), 0
        for edit in self.edits:
            if edit.media_time is None:
                delay += Fraction(edit.duration, self.movie_timescale)
            else:
                begin = edit.media_time
        return delay + Fraction(composition_time - begin, self.timescale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One sample of a fragment."""

    track_id: int
    fragment: int  # the number of its fragment, from 0
    first: bool  # of its track in this fragment
    decode_time: int
    duration: int
    composition_offset: int
    sync: bool  # sample_is_non_sync_sample is not set, 8.8.3.1
    offset: int  # of its bytes, in the file
    data: bytes = field(repr=False)

    @property
    def composition_time(self) -> int:
        return self.decode_time + self.composition_offset


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """One `moof` with its `mdat`."""

    sequence: int
    offset: int  # of the moof, in the file
    size: int  # of both boxes
    samples: tuple[Sample, ...]  # of all tracks, in the order of the runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Movie:
    """A whole file."""

    brands: tuple[str, ...]
    tracks: tuple[Track, ...]
    fragments: tuple[Fragment, ...]
    boxes: tuple[Box, ...]

    def track(self, handler: str) -> Track:
        """The only track with this handler (vide, soun). Raises BoxError unless there is one."""
        found = [track for track in self.tracks if track.handler == handler]
        if len(found) != 1:
            raise BoxError(f"{len(found)} tracks of type {handler}")
        return found[0]

    def samples(self, track: Track) -> list[Sample]:
        """The samples of one track in decoding order."""
        return [
            sample
            for fragment in self.fragments
            for sample in fragment.samples
            if sample.track_id == track.track_id
        ]


# -- the file --------------------------------------------------------------------------------------


def read(data: bytes) -> Movie:
    """Read a fragmented MP4: `ftyp moov (moof mdat)* [mfra]`, with the usual boxes in between.

    Raises:
        BoxError: anything in it is inconsistent.
    """
    boxes = parse(data)
    if not boxes or boxes[0].kind != "ftyp":
        raise BoxError("the file does not begin with ftyp")
    rest = [box for box in boxes[1:] if box.kind not in _BETWEEN]
    if not rest or rest[0].kind != "moov":
        raise BoxError("moov does not follow ftyp")
    tracks = _read_moov(rest[0])
    body = rest[1:]
    if body and body[-1].kind == "mfra":
        _check_mfra(body.pop(), rest)
    fragments: list[Fragment] = []
    clocks: dict[int, int] = {}  # track → decode time of its latest fragment
    for number, (moof, mdat) in enumerate(_pairs(body)):
        fragment = _read_fragment(moof, mdat, tracks, number)
        if fragments and fragment.sequence <= fragments[-1].sequence:
            raise BoxError(f"sequence {fragment.sequence} behind {fragments[-1].sequence}")
        for sample in fragment.samples:
            if sample.first and sample.decode_time < clocks.get(sample.track_id, 0):
                raise BoxError(f"the decode time of track {sample.track_id} goes back")
            clocks[sample.track_id] = sample.decode_time
        fragments.append(fragment)
    ftyp = boxes[0].body
    if len(ftyp) < 8 or len(ftyp) % 4:
        raise BoxError("ftyp has an odd size")
    brands = tuple(ftyp[at : at + 4].decode("latin-1") for at in range(0, len(ftyp), 4) if at != 4)
    return Movie(brands=brands, tracks=tracks, fragments=tuple(fragments), boxes=boxes)


def _pairs(boxes: Sequence[Box]) -> Iterator[tuple[Box, Box]]:
    if len(boxes) % 2:
        raise BoxError(f"{boxes[-1].kind} at byte {boxes[-1].offset} stands alone")
    for moof, mdat in zip(boxes[::2], boxes[1::2], strict=True):
        if (moof.kind, mdat.kind) != ("moof", "mdat"):
            raise BoxError(f"{moof.kind}, {mdat.kind} at byte {moof.offset}, not moof, mdat")
        if mdat.offset != moof.offset + moof.size:
            raise BoxError(f"mdat at byte {mdat.offset} does not follow its moof")
        yield moof, mdat


def _check_mfra(mfra: Box, boxes: Sequence[Box]) -> None:
    """What the random access index points at must be there, 8.8.9 to 8.8.11."""
    moofs = {box.offset for box in boxes if box.kind == "moof"}
    for tfra in mfra.all("tfra"):
        reader = Reader(tfra)
        version, _ = reader.version_and_flags()
        reader.uint(4)
        lengths = reader.uint(4)
        wide = 8 if version == 1 else 4
        for _ in range(reader.uint(4)):
            reader.uint(wide)
            if reader.uint(wide) not in moofs:
                raise BoxError("tfra points at no moof")
            for shift in (4, 2, 0):
                reader.uint((lengths >> shift & 3) + 1)
        reader.end()
    if int.from_bytes(mfra.one("mfro").body[4:8], "big") != mfra.size:
        raise BoxError("mfro tells another size than that of mfra")


# -- moov ------------------------------------------------------------------------------------------


def _read_moov(moov: Box) -> tuple[Track, ...]:
    reader = Reader(moov.one("mvhd"))
    version, _ = reader.version_and_flags()
    reader.take(16 if version == 1 else 8)
    movie_timescale = reader.uint(4)
    defaults: dict[int, tuple[int, int, int]] = {}
    for trex in moov.one("mvex").all("trex"):
        reader = Reader(trex)
        reader.version_and_flags()
        track_id, _ = reader.uint(4), reader.uint(4)
        defaults[track_id] = (reader.uint(4), reader.uint(4), reader.uint(4))
        reader.end()
    tracks = tuple(_read_trak(trak, movie_timescale, defaults) for trak in moov.all("trak"))
    if {track.track_id for track in tracks} != set(defaults) or len(tracks) != len(defaults):
        raise BoxError("tracks and trex boxes do not match")
    return tracks


def _read_trak(trak: Box, movie_timescale: int, defaults: dict[int, tuple[int, int, int]]) -> Track:
    reader = Reader(trak.one("tkhd"))
    version, _ = reader.version_and_flags()
    reader.take(16 if version == 1 else 8)
    track_id = reader.uint(4)
    reader = Reader(trak.one("mdia", "mdhd"))
    version, _ = reader.version_and_flags()
    reader.take(16 if version == 1 else 8)
    timescale, duration = reader.uint(4), reader.uint(8 if version == 1 else 4)
    packed = reader.uint(2)
    if timescale == 0 or track_id == 0 or track_id not in defaults:
        raise BoxError(f"track {track_id} has no timescale, no number or no trex")
    handler = trak.one("mdia", "hdlr").body[8:12].decode("latin-1")
    stbl = trak.one("mdia", "minf", "stbl")
    for kind, at in (("stts", 4), ("stsc", 4), ("stsz", 8), ("stco", 4)):
        if int.from_bytes(stbl.one(kind).body[at : at + 4], "big"):
            raise BoxError(f"{kind} has entries: there are samples outside of the fragments")
    return Track(
        track_id=track_id,
        handler=handler,
        timescale=timescale,
        duration=duration,
        language="".join(chr(0x60 + (packed >> shift & 31)) for shift in (10, 5, 0)),
        entries=tuple(_read_stsd(stbl.one("stsd"), handler)),
        edits=tuple(_read_elst(trak)),
        movie_timescale=movie_timescale,
        defaults=defaults[track_id],
    )


def _read_elst(trak: Box) -> Iterator[Edit]:
    """The edits this reader can apply: empty ones, then one of the media."""
    if not trak.all("edts"):
        return
    reader = Reader(trak.one("edts", "elst"))
    version, _ = reader.version_and_flags()
    wide = 8 if version == 1 else 4
    left = reader.uint(4)
    while left:
        left -= 1
        duration, media_time, rate = reader.uint(wide), reader.signed(wide), reader.uint(4)
        if rate != 0x10000:
            raise BoxError("an edit with another rate than 1")
        if media_time < -1 or (media_time == -1) != (left > 0):
            raise BoxError("an edit list other than empty edits and one of the media")
        if media_time >= 0 and duration:
            raise BoxError("the edit ends, but more fragments follow")
        yield Edit(duration=duration, media_time=None if media_time < 0 else media_time)
    reader.end()


def _read_stsd(stsd: Box, handler: str) -> Iterator[SampleEntry]:
    count = int.from_bytes(stsd.body[4:8], "big")
    entries = parse(stsd.body, offset=8)
    if count == 0 or len(entries) != count:
        raise BoxError(f"stsd says {count} entries and holds {len(entries)}")
    for box in entries:
        reader = Reader(box)
        reader.take(8)  # reserved, data_reference_index
        shape: dict[str, int] = {}
        if handler == "vide":
            reader.take(16)
            shape = {"width": reader.uint(2), "height": reader.uint(2)}
            reader.take(50)
        elif handler == "soun":
            reader.take(8)
            shape = {"channels": reader.uint(2)}
            reader.take(6)
            shape["sample_rate"] = reader.uint(4) >> 16
        inner = parse(reader.rest())
        config = next((child for child in inner if child.kind in _CONFIGS), None)
        yield SampleEntry(
            kind=box.kind,
            config_kind=config.kind if config else "",
            config=config.body if config else b"",
            **shape,
        )


# -- moof ------------------------------------------------------------------------------------------


def _read_fragment(moof: Box, mdat: Box, tracks: Sequence[Track], number: int) -> Fragment:
    reader = Reader(moof.one("mfhd"))
    reader.version_and_flags()
    sequence = reader.uint(4)
    reader.end()
    known = {track.track_id: track for track in tracks}
    samples: list[Sample] = []
    for traf in moof.all("traf"):
        # 8.8.7: without base-data-offset, a later traf begins where the data before it end
        implicit = samples[-1].offset + len(samples[-1].data) if samples else moof.offset
        seen = {sample.track_id for sample in samples}
        samples += _read_traf(traf, moof, mdat, known, implicit, number, seen)
    at = mdat.offset + mdat.size - len(mdat.body)
    for sample in sorted(samples, key=lambda sample: sample.offset):
        if sample.offset != at:
            raise BoxError(f"samples leave or share bytes of the mdat at {at}")
        at += len(sample.data)
    if at != mdat.offset + mdat.size:
        raise BoxError(f"no sample claims the last bytes of the mdat, from {at} on")
    return Fragment(
        sequence=sequence,
        offset=moof.offset,
        size=moof.size + mdat.size,
        samples=tuple(samples),
    )


def _read_traf(
    traf: Box,
    moof: Box,
    mdat: Box,
    known: Mapping[int, Track],
    implicit: int,
    number: int,
    seen: Collection[int],
) -> list[Sample]:
    reader = Reader(traf.one("tfhd"))
    _, flags = reader.version_and_flags()
    track_id = reader.uint(4)
    if track_id not in known:
        raise BoxError(f"traf at byte {traf.offset}: there is no track {track_id}")
    base = moof.offset if flags & 0x02_0000 else implicit
    if flags & 0x01:
        base = reader.uint(8)
    if flags & 0x02:
        index = reader.uint(4)
        if not 0 < index <= len(known[track_id].entries):
            raise BoxError(f"traf at byte {traf.offset}: there is no sample entry {index}")
    duration, size, sample_flags = known[track_id].defaults
    duration = reader.uint(4) if flags & 0x08 else duration
    size = reader.uint(4) if flags & 0x10 else size
    sample_flags = reader.uint(4) if flags & 0x20 else sample_flags
    reader.end()
    reader = Reader(traf.one("tfdt"))
    version, _ = reader.version_and_flags()
    clock = reader.uint(8 if version == 1 else 4)
    reader.end()
    body_at = mdat.offset + mdat.size - len(mdat.body)
    out: list[Sample] = []
    at = base
    for trun in traf.all("trun"):
        reader = Reader(trun)
        version, flags = reader.version_and_flags()
        count = reader.uint(4)
        at = base + reader.signed(4) if flags & 0x01 else at
        first_flags = reader.uint(4) if flags & 0x04 else None
        for index in range(count):
            lasts = reader.uint(4) if flags & 0x100 else duration
            length = reader.uint(4) if flags & 0x200 else size
            own = reader.uint(4) if flags & 0x400 else sample_flags
            if index == 0 and first_flags is not None:
                own = first_flags
            offset = 0
            if flags & 0x800:
                offset = reader.uint(4) if version == 0 else reader.signed(4)
            if at < body_at or at + length > mdat.offset + mdat.size:
                raise BoxError(f"trun at byte {trun.offset}: a sample lies outside of the mdat")
            out.append(
                Sample(
                    track_id=track_id,
                    fragment=number,
                    first=not out and track_id not in seen,
                    decode_time=clock,
                    duration=lasts,
                    composition_offset=offset,
                    sync=not own & 0x01_0000,
                    offset=at,
                    data=mdat.body[at - body_at : at - body_at + length],
                )
            )
            clock += lasts
            at += length
        reader.end()
    return out
