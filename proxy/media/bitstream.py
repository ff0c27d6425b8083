"""The path of each codec from an elementary stream into ISO BMFF samples.

A path is fed the packets of one track as the demuxer cuts them (one access unit or audio frame
each), and returns the bytes of the sample, in pieces, or None where there is nothing to keep.  Once
`ready`, it knows the sample entry.

H.264 and HEVC: Annex B becomes length-prefixed.  Parameter sets stay in the samples as they came,
so that sets which change in mid-stream reach the decoder; the first ones also go to avcC and hvcC.
AAC: the ADTS header is taken off.  E-AC-3: syncframes of fewer than six blocks are joined.
AC-3 and MP3 are stored as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Protocol

from proxy.errors import SpliceIncompatible, UnsupportedCodec
from proxy.media import audio, boxes
from proxy.media.nal import LENGTH_SIZE, BitstreamError, split_annexb
from proxy.media.parameters import PictureFormat, parse_h264_sps, parse_hevc_sps

Parts = Sequence[bytes | memoryview]
Sample = tuple[Parts, int]  # the pieces and their size in bytes

# What a picture lasts where neither the parameter sets nor a second picture tell.
_DEFAULT_FRAME_S = Fraction(1, 25)

# Where the sequence parameter set does not say how far pictures are reordered: as much as encoders
# use (x264's default is 2, with a pyramid; broadcast encoders use up to 4).
_USUAL_REORDER_FRAMES = 4


class Path(Protocol):
    """The way of one track's packets."""

    codec: str  # FFmpeg's name
    left_out: int  # packets that nothing can decode
    packets_per_sample: int
    pending: bool  # whether a sample has been begun that more packets belong to

    @property
    def format(self) -> object:
        """What a sample entry says that must not change within a track."""

    @property
    def ready(self) -> bool:
        """Whether the rest can be told: the first decodable packet has been fed."""

    @property
    def rfc6381(self) -> str: ...
    @property
    def picture(self) -> PictureFormat | None:
        """None: audio."""

    def feed(self, data: memoryview, *, keyframe: bool) -> Sample | None:
        """Return the sample that this packet completes.

        Raises:
            SpliceIncompatible: the packet has another configuration than the first one.
            UnsupportedCodec: its flavour of the codec has no place in an MP4.
            BitstreamError: a parameter set is damaged.
        """

    def flush(self) -> Sample | None:
        """Return the sample that was begun, incomplete as it is, at the end of the source."""

    def sample_entry(self) -> bytes: ...
    def frame_duration_s(self) -> Fraction:
        """What one packet lasts where its neighbours do not tell."""

    def reorder_frames(self) -> int: ...


# -- video -----------------------------------------------------------------------------------------


def _sample(units: Sequence[memoryview]) -> Sample:
    parts: list[bytes | memoryview] = []
    size = 0
    for unit in units:
        length = len(unit)
        parts.append(length.to_bytes(LENGTH_SIZE, "big"))
        parts.append(unit)
        size += LENGTH_SIZE + length
    return parts, size


class _VideoPath:
    """What H.264 and HEVC share: waiting for the first random access point."""

    codec: str
    packets_per_sample = 1
    pending = False
    _parameter_sets: tuple[int, ...]  # NAL unit types, in the order of the configuration record

    def __init__(self) -> None:
        self.ready = False
        self.rfc6381 = ""
        self.picture: PictureFormat | None = None
        self.left_out = 0
        self._sets: dict[int, list[bytes]] = {}  # by NAL unit type, the latest of each
        self._entry = b""

    @property
    def format(self) -> object:
        return self.codec  # parameter sets may change: they are in the samples

    def _type(self, unit: memoryview) -> int:
        raise NotImplementedError

    def _configure(self) -> None:
        """Fill in `picture`, `rfc6381` and the sample entry from the parameter sets."""
        raise NotImplementedError

    def _decodable(self, units: Sequence[memoryview], *, keyframe: bool) -> bool:  # noqa: ARG002
        """Whether a picture from the first random access point on can be decoded."""
        return True

    def feed(self, data: memoryview, *, keyframe: bool) -> Sample | None:
        units = split_annexb(data)
        if not self.ready:
            self._collect(units)
            if keyframe and all(kind in self._sets for kind in self._parameter_sets):
                self._configure()
                self.ready = True
        if not units or not self.ready or not self._decodable(units, keyframe=keyframe):
            self.left_out += 1
            return None
        return _sample(units)

    def _collect(self, units: Sequence[memoryview]) -> None:
        fresh: dict[int, list[bytes]] = {}
        for unit in units:
            kind = self._type(unit)
            if kind in self._parameter_sets:
                sets = fresh.setdefault(kind, [])
                if (copy := bytes(unit)) not in sets:
                    sets.append(copy)
        self._sets.update(fresh)

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


class H264Path(_VideoPath):
    """ISO/IEC 14496-15 section 5."""

    codec = "h264"
    _parameter_sets = (7, 8)

    def _type(self, unit: memoryview) -> int:
        return unit[0] & 31

    def _configure(self) -> None:
        sps, pps = (self._sets[kind] for kind in self._parameter_sets)
        self.picture = parse_h264_sps(sps[0])
        self.rfc6381 = f"avc1.{sps[0][1:4].hex()}"
        record = boxes.avcc(sps, pps, self.picture)
        self._entry = boxes.video_entry(b"avc1", boxes.box(b"avcC", record), self.picture)


_RASL = (8, 9)  # nal_unit_type RASL_N, RASL_R: they refer to pictures before their CRA


class HevcPath(_VideoPath):
    """ISO/IEC 14496-15 section 8.  The sample entry is `hvc1`, since Apple's players refuse `hev1`;
    the sets in the samples stay, which every decoder that was tried follows."""

    codec = "hevc"
    _parameter_sets = (32, 33, 34)

    def __init__(self) -> None:
        super().__init__()
        self._leading = True  # nothing but the first random access point has come

    def _type(self, unit: memoryview) -> int:
        return (unit[0] >> 1) & 63

    def _decodable(self, units: Sequence[memoryview], *, keyframe: bool) -> bool:
        if not self._leading:
            return True
        kind = next((t for t in map(self._type, units) if t < 32), None)
        if kind in _RASL:
            return False
        # RASL pictures come before all trailing ones (ITU-T H.265 section 7.4.2.2).
        self._leading = keyframe or kind is None or kind in {6, 7}
        return True

    def _configure(self) -> None:
        vps, sps, pps = (self._sets[kind] for kind in self._parameter_sets)
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


# -- audio -----------------------------------------------------------------------------------------


class _AudioPath:
    """What the audio codecs share: one format for the whole track."""

    codec: str
    packets_per_sample = 1
    pending = False
    picture: PictureFormat | None = None

    def __init__(self) -> None:
        self.left_out = 0
        self._format: audio.AudioFormat | None = None
        self._signature: object = None

    @property
    def ready(self) -> bool:
        return self._format is not None

    @property
    def format(self) -> audio.AudioFormat:
        assert self._format is not None
        return self._format

    @property
    def rfc6381(self) -> str:
        return self.format.rfc6381

    def _sign(self, data: memoryview) -> object:
        """Return what must stay the same throughout a track, or None where no frame begins."""
        raise NotImplementedError

    def _is_same(self, data: memoryview) -> bool:
        """Check a frame against the first one.  False: it is no frame, and nothing can decode it.

        Raises:
            SpliceIncompatible: it has another format, which one sample entry cannot tell.
        """
        signature = self._sign(data) if len(data) >= 8 else None
        if signature is None:
            self.left_out += 1
            return False
        if self._format is None:
            try:
                self._format = audio.parse_frame(self.codec, bytes(data))
            except BitstreamError:
                self.left_out += 1
                return False
            self._signature = signature
        elif signature != self._signature:
            message = f"the {self.codec} configuration changes in mid-stream"
            raise SpliceIncompatible(message)
        return True

    def feed(self, data: memoryview, *, keyframe: bool) -> Sample | None:  # noqa: ARG002
        return ((data,), len(data)) if self._is_same(data) else None

    def flush(self) -> Sample | None:
        return None

    def sample_entry(self) -> bytes:
        return boxes.audio_entry(self.format)

    def frame_duration_s(self) -> Fraction:
        return Fraction(self.format.frame_samples, self.format.sample_rate)

    def reorder_frames(self) -> int:
        return 0


class AacPath(_AudioPath):
    """ADTS frames become raw data blocks."""

    codec = "aac"

    def _sign(self, data: memoryview) -> object:
        if data[0] != 0xFF or data[1] & 0xF6 != 0xF0:
            return None
        if data[6] & 3:
            # Each raw data block would need its own sample, and only their CRCs tell where they
            # begin; no encoder is known that writes them.
            raise UnsupportedCodec(
                "several raw data blocks in one ADTS frame",
                detail="AAC with several raw data blocks per ADTS frame cannot be copied.",
            )
        return data[2] & 0xFD, data[3] & 0xC0  # without private_bit

    def feed(self, data: memoryview, *, keyframe: bool) -> Sample | None:  # noqa: ARG002
        if not self._is_same(data):
            return None
        block = data[7:] if data[1] & 1 else data[9:]
        return (block,), len(block)


class Ac3Path(_AudioPath):
    codec = "ac3"

    def _sign(self, data: memoryview) -> object:
        if data[0] != 0x0B or data[1] != 0x77:
            return None
        return data[4] >> 6, data[5] >> 3, data[6] >> 5  # fscod, bsid, acmod


class Eac3Path(_AudioPath):
    """A sample holds the syncframes of six blocks, dependent substreams included (annex F.6.1)."""

    codec = "eac3"

    def __init__(self) -> None:
        super().__init__()
        self._held: list[memoryview] = []

    def _sign(self, data: memoryview) -> object:
        if data[0] != 0x0B or data[1] != 0x77:
            return None
        return data[4] & 0xCF if data[4] < 0xC0 else data[4], data[5] >> 3  # without numblkscod

    def feed(self, data: memoryview, *, keyframe: bool) -> Sample | None:  # noqa: ARG002
        if not self._is_same(data):
            return None
        if not self._held:
            self.packets_per_sample = 6 // audio.eac3_blocks(bytes(data[:96]))
        self._held.append(data)
        self.pending = len(self._held) < self.packets_per_sample
        return None if self.pending else self.flush()

    def flush(self) -> Sample | None:
        parts, self._held, self.pending = self._held, [], False
        return (parts, sum(map(len, parts))) if parts else None


class Mp3Path(_AudioPath):
    codec = "mp3"

    def _sign(self, data: memoryview) -> object:
        if data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
            return None
        return data[1] & 0x1E, data[2] & 0x0C, data[3] >> 6 == 3  # version, layer, rate, mono


_PATHS: dict[str, Callable[[], Path]] = {
    "h264": H264Path,
    "hevc": HevcPath,
    "aac": AacPath,
    "ac3": Ac3Path,
    "eac3": Eac3Path,
    "mp3": Mp3Path,
}
COPYABLE = frozenset(_PATHS)


def path_for(codec: str, config: bytes = b"") -> Path:  # noqa: ARG001 - for MP4 sources
    """Return a fresh path for a codec in `COPYABLE` (FFmpeg's name)."""
    return _PATHS[codec]()
