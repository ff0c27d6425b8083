"""The paths of H.264, HEVC and AV1.

H.264 and HEVC: Annex B becomes length-prefixed; a sample of an MP4 is length-prefixed already.
Parameter sets stay in the samples as they came, so that sets which change in mid-stream reach the
decoder; the first ones also go to avcC and hvcC, all of those that are in force then.  AV1 is
stored as an MP4 source has it.

Leading pictures stay, since what the source sends comes before what a player makes of it: H.264 has
no name for those that refer to what is gone, and HEVC's RADL pictures need nothing.  Only the RASL
pictures of the CRA that opens a section are left out and counted, as in a clip those of its first
one: they are not decodable, and no decoder outputs them (ITU-T H.265 section 8.1.3).  No end of
sequence is put in front of such a CRA either: behind a discontinuity a decoder may find its picture
order counts taken (ffmpeg: "Duplicate POC") and lose those few pictures; times are not touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from proxy.media import boxes
from proxy.media.nal import (
    LENGTH_SIZE,
    BitstreamError,
    join_length_prefixed,
    length_prefixed,
    split_length_prefixed,
)
from proxy.media.parameter_sets import ParameterSets
from proxy.media.parameters import PictureFormat, parse_h264_sps, parse_hevc_sps
from proxy.media.path import Sample

# What a picture lasts where neither the parameter sets nor a second picture tell.
_DEFAULT_FRAME_S = Fraction(1, 25)

# Where the sequence parameter set does not say how far pictures are reordered: as much as encoders
# use (x264's default is 2, with a pyramid; broadcast encoders use up to 4).
_USUAL_REORDER_FRAMES = 4


def _sample(units: Sequence[memoryview]) -> Sample:
    data = join_length_prefixed(units)
    return (data,), len(data)


class _NalPath:
    """What H.264 and HEVC share: NAL units, and waiting for the first random access point.

    Args:
        config: the configuration record of an MP4 source; empty for Annex B.
    """

    codec: str
    packets_per_sample = 1
    pending = False
    sample_rate = None
    _parameter_sets: tuple[int, ...]  # NAL unit types, in the order of the configuration record

    def __init__(self, config: bytes = b"") -> None:
        self.ready = False
        self.rfc6381 = ""
        self.picture: PictureFormat | None = None
        self.left_out = 0
        self.in_band: Sequence[bytes] = ()  # sets to repeat before each random access point
        self.follows = False  # whether the sample entry is that of another section
        self.prefixed = False  # whether the demuxer has made of Annex B what a sample holds
        self._length_size = 0  # of an MP4 source; 0: it is none
        self._sets = ParameterSets(self._parameter_sets)
        self._entry = b""
        if config[:1] == b"\x01":
            self._length_size, sets = self._read_record(config)
            self._sets.add([memoryview(unit) for unit in sets])

    @property
    def format(self) -> object:
        return self.codec  # parameter sets may change: they are in the samples

    def fits(self, entry: object) -> bool:
        return self.format == entry

    @property
    def parameter_sets(self) -> Sequence[bytes]:
        """The sets in force at the first random access point."""
        return self._sets.all

    def _read_record(self, config: bytes) -> tuple[int, list[bytes]]:
        """Return the length size and the parameter sets of a configuration record."""
        raise NotImplementedError

    def _type(self, unit: memoryview) -> int:
        raise NotImplementedError

    def _configure(self, units: Sequence[memoryview]) -> None:
        """Fill in `picture`, `rfc6381` and the sample entry from the parameter sets.

        Args:
            units: of the first random access point.
        """
        raise NotImplementedError

    @property
    def _settled(self) -> bool:
        """Whether every further picture can be decoded, whatever its units are."""
        return self.ready

    def _decodable(self, units: Sequence[memoryview], *, keyframe: bool) -> bool:  # noqa: ARG002
        """Whether a picture from the first random access point on can be decoded."""
        return True

    def feed(self, data: memoryview, *, keyframe: bool) -> Sample | None:
        if self._length_size:
            units = split_length_prefixed(data, self._length_size)
        else:
            sample = data if self.prefixed else length_prefixed(data)
            if self._settled and len(sample) and not (keyframe and self.in_band):
                return (sample,), len(sample)
            units = split_length_prefixed(sample, LENGTH_SIZE)
        early: list[bytes] = []
        if not self.ready:
            self._sets.add(units)
            if keyframe and self._sets.complete:
                self._configure(units)
                self.ready = True
                if self.follows and not self.in_band:  # sets that came before: the entry lacks them
                    early = [unit for unit in self._sets.all if unit not in units]
        if not units or not self.ready or not self._decodable(units, keyframe=keyframe):
            self.left_out += 1
            return None
        if keyframe and (ahead := self.in_band or early):
            units = [*(memoryview(unit) for unit in ahead), *units]
        return _sample(units)

    @property
    def is_settled(self) -> bool:
        return self.prefixed and self._settled and not self.in_band

    def passes(self, data: bytes) -> bool:  # noqa: ARG002
        return False

    def begin_here(self) -> None:
        pass

    def flush(self) -> Sample | None:
        return None

    def sample_entry(self) -> bytes:
        return self._entry

    def frame_duration_s(self) -> Fraction:
        if self.picture is not None and self.picture.frame_duration is not None:
            duration = Fraction(*self.picture.frame_duration)
            if Fraction(1, 1000) <= duration <= 10:
                return duration
        return _DEFAULT_FRAME_S

    def reorder_frames(self) -> int:
        said = self.picture.reorder_frames if self.picture is not None else None
        return _USUAL_REORDER_FRAMES if said is None else said


class _RecordReader:
    """Reads the arrays of parameter sets of a configuration record."""

    def __init__(self, record: bytes, place: int) -> None:
        self._record = record
        self._place = place

    def _bytes(self, size: int) -> bytes:
        data = self._record[self._place : self._place + size]
        if len(data) < size:
            raise BitstreamError("a configuration record ends too early")
        self._place += size
        return data

    def number(self, size: int) -> int:
        return int.from_bytes(self._bytes(size), "big")

    def units(self, count: int) -> list[bytes]:
        return [unit for unit in (self._bytes(self.number(2)) for _ in range(count)) if unit]


class H264Path(_NalPath):
    """ISO/IEC 14496-15 section 5."""

    codec = "h264"
    _parameter_sets = (7, 8)

    def _read_record(self, config: bytes) -> tuple[int, list[bytes]]:
        reader = _RecordReader(config, 5)
        sets = reader.units(reader.number(1) & 31)
        return (config[4] & 3) + 1, sets + reader.units(reader.number(1))

    def _type(self, unit: memoryview) -> int:
        return unit[0] & 31

    def _configure(self, units: Sequence[memoryview]) -> None:
        sps, pps = self._sets.sequence_sets(units), self._sets.of(8)
        self.picture = parse_h264_sps(sps[0])
        self.rfc6381 = f"avc1.{sps[0][1:4].hex()}"
        record = boxes.avcc(sps, pps, self.picture)
        self._entry = boxes.video_entry(b"avc1", boxes.box(b"avcC", record), self.picture)


_RADL = (6, 7)  # nal_unit_type RADL_N, RADL_R: leading pictures that refer to none before
_RASL = (8, 9)  # RASL_N, RASL_R: they refer to pictures before their CRA


class HevcPath(_NalPath):
    """ISO/IEC 14496-15 section 8.  The sample entry is `hvc1`, since Apple's players refuse `hev1`;
    the sets in the samples stay, which every decoder that was tried follows."""

    codec = "hevc"
    _parameter_sets = (32, 33, 34)

    def __init__(self, config: bytes = b"") -> None:
        super().__init__(config)
        self._begun = False  # whether the first random access point has come
        self._behind = False  # whether a picture has that RASL pictures of it cannot follow

    def _read_record(self, config: bytes) -> tuple[int, list[bytes]]:
        reader = _RecordReader(config, 22)
        sets: list[bytes] = []
        for _ in range(reader.number(1)):
            kind = reader.number(1) & 63
            units = reader.units(reader.number(2))
            sets += units if kind in self._parameter_sets else []
        return (config[21] & 3) + 1, sets

    def _type(self, unit: memoryview) -> int:
        return (unit[0] >> 1) & 63

    @property
    def _settled(self) -> bool:
        return self.ready and self._behind

    def _decodable(self, units: Sequence[memoryview], *, keyframe: bool) -> bool:
        if self._behind:
            return True
        kind = next((t for t in map(self._type, units) if t < 32), None)
        if kind in _RASL:
            return False
        # RASL pictures come before all trailing ones (ITU-T H.265 section 7.4.2.2); those of the
        # second random access point have what they refer to.
        self._behind = self._begun if keyframe else kind is not None and kind not in _RADL
        self._begun = True
        return True

    def begin_here(self) -> None:
        self._behind = False

    def _configure(self, units: Sequence[memoryview]) -> None:
        vps, sps, pps = self._sets.of(32), self._sets.sequence_sets(units), self._sets.of(34)
        sequence = parse_hevc_sps(sps[0])
        self.picture = sequence.picture
        self.rfc6381 = _hevc_rfc6381(sequence.profile_tier_level)
        record = boxes.hvcc(vps, sps, pps, sequence)
        self._entry = boxes.video_entry(b"hvc1", boxes.box(b"hvcC", record), self.picture)


def _hevc_rfc6381(profile_tier_level: bytes) -> str:
    """ISO/IEC 14496-15 annex E.3."""
    head, level = profile_tier_level[0], profile_tier_level[11]
    compatibility = int.from_bytes(profile_tier_level[1:5], "big")
    reversed_bits = int(f"{compatibility:032b}"[::-1], 2)
    fields = [
        f"{('', 'A', 'B', 'C')[head >> 6]}{head & 31}",
        f"{reversed_bits:X}",
        f"{'H' if head & 0x20 else 'L'}{level}",
    ]
    constraints = profile_tier_level[5:11].rstrip(b"\0")
    return ".".join(["hvc1", *fields, *(f"{byte:X}" for byte in constraints)])


class Av1Path:
    """AV1 Codec ISO Media File Format Binding: samples and `av1C` stay as they are.

    Args:
        config: `av1C` of an MP4 source.
    """

    codec = "av1"
    packets_per_sample = 1
    pending = False
    sample_rate = None
    parameter_sets: Sequence[bytes] = ()
    in_band: Sequence[bytes] = ()
    follows = False
    prefixed = False

    def __init__(self, config: bytes = b"") -> None:
        if len(config) < 4 or config[0] != 0x81:
            raise BitstreamError("no AV1CodecConfigurationRecord")
        self.ready = False
        self.left_out = 0
        self.size = (0, 0)  # of the picture, as the source's sample entry says it
        self._config = config

    @property
    def format(self) -> object:
        return self.codec, self._config[:4]

    def fits(self, entry: object) -> bool:
        return self.format == entry

    @property
    def picture(self) -> PictureFormat | None:
        return PictureFormat(width=self.size[0], height=self.size[1])

    @property
    def rfc6381(self) -> str:
        """The short form of section 5 of the binding: profile, level, tier and bit depth."""
        flags = self._config[2]
        depth = (12 if flags & 0x20 else 10) if flags & 0x40 else 8
        tier = "H" if flags & 0x80 else "M"
        return f"av01.{self._config[1] >> 5}.{self._config[1] & 31:02d}{tier}.{depth:02d}"

    def feed(self, data: memoryview, *, keyframe: bool) -> Sample | None:
        self.ready = self.ready or keyframe
        if not self.ready:
            self.left_out += 1
            return None
        return (data,), len(data)

    @property
    def is_settled(self) -> bool:
        return False

    def passes(self, data: bytes) -> bool:  # noqa: ARG002
        return False

    def begin_here(self) -> None:
        pass

    def flush(self) -> Sample | None:
        return None

    def sample_entry(self) -> bytes:
        picture = PictureFormat(width=self.size[0], height=self.size[1])
        return boxes.video_entry(b"av01", boxes.box(b"av1C", self._config), picture)

    def frame_duration_s(self) -> Fraction:
        return _DEFAULT_FRAME_S

    def reorder_frames(self) -> int:
        return 0  # an AV1 temporal unit is one shown picture
