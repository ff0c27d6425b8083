"""The paths of AAC, AC-3, E-AC-3, MP3, Opus and FLAC.

AAC: the ADTS header is taken off.  E-AC-3: syncframes of fewer than six blocks are joined.  The
others are stored as they are.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from proxy.errors import SpliceIncompatible, UnsupportedCodec
from proxy.media import audio, boxes
from proxy.media.aac import aac_format_of
from proxy.media.audio_format import AudioFormat
from proxy.media.nal import BitstreamError
from proxy.media.parameters import PictureFormat
from proxy.media.path import Sample


class _AudioPath:
    """What the audio codecs share: one format for the whole track.

    Args:
        config: the extradata of a container that has it; empty where the frames say everything.
    """

    codec: str
    packets_per_sample = 1
    pending = False
    picture: PictureFormat | None = None
    parameter_sets: Sequence[bytes] = ()
    in_band: Sequence[bytes] = ()
    follows = False
    prefixed = False

    def __init__(self, config: bytes = b"") -> None:
        self.left_out = 0
        self._config = config
        self._format: AudioFormat | None = None
        self._signature: object = None

    @property
    def ready(self) -> bool:
        return self._format is not None

    @property
    def format(self) -> AudioFormat:
        assert self._format is not None
        return self._format

    def fits(self, entry: object) -> bool:
        return isinstance(entry, AudioFormat) and self.format.fits(entry)

    @property
    def sample_rate(self) -> int | None:
        return self.format.sample_rate

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
        return boxes.audio_entry(self.format)

    def frame_duration_s(self) -> Fraction:
        return Fraction(self.format.frame_samples, self.format.sample_rate)

    def reorder_frames(self) -> int:
        return 0


# The first four bytes of an ADTS header, and the one that ends in the number of raw data blocks
# (ISO/IEC 14496-3 section 1.A.2.2); which bits of these a format consists of, private_bit left out.
_ADTS = struct.Struct(">I2xB")
_ADTS_FIXED = 0xFFF6FDC0
_ADTS_UNPROTECTED = 1 << 16


class AacPath(_AudioPath):
    """ADTS frames become raw data blocks; those of an MP4 are such already."""

    codec = "aac"

    def __init__(self, config: bytes = b"") -> None:
        super().__init__(config)
        self._head = -1  # what all frames have in common with those that were looked into
        if config:
            self._format = aac_format_of(config)

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
        if self._config:
            return (data,), len(data)
        head, blocks = _ADTS.unpack_from(data) if len(data) >= 8 else (0, 0)
        if head & _ADTS_FIXED != self._head or blocks & 3:
            if not self._is_same(data):
                return None
            self._head = head & _ADTS_FIXED
        block = data[7:] if head & _ADTS_UNPROTECTED else data[9:]
        return (block,), len(block)

    @property
    def is_settled(self) -> bool:
        return not self._config and self._head >= 0

    def passes(self, data: bytes) -> bool:
        head: int = _ADTS.unpack_from(data)[0]
        return head & _ADTS_FIXED == self._head


_AC3_MIX_BITS = (0, 0, 2, 2, 2, 4, 2, 4)  # cmixlev, surmixlev, dsurmod, by acmod


class Ac3Path(_AudioPath):
    codec = "ac3"

    def _sign(self, data: memoryview) -> object:
        if data[0] != 0x0B or data[1] != 0x77:
            return None
        mode = data[6] >> 5  # acmod, which says how many bits lie before lfeon
        lfe = data[6] >> (4 - _AC3_MIX_BITS[mode]) & 1
        return data[4] >> 6, data[5] >> 3, mode, lfe  # fscod, bsid


class Eac3Path(_AudioPath):
    """A sample holds the syncframes of six blocks, dependent substreams included (annex F.6.1)."""

    codec = "eac3"

    def __init__(self, config: bytes = b"") -> None:
        super().__init__(config)
        self._held: list[memoryview] = []

    def _sign(self, data: memoryview) -> object:
        if data[0] != 0x0B or data[1] != 0x77:
            return None
        if data[2] & 0x38:
            # libavformat hands out each independent substream as if it were a frame of its own.
            raise UnsupportedCodec(
                "several independent substreams of E-AC-3",
                detail="E-AC-3 with several programs in one stream cannot be copied.",
            )
        return data[4] & 0xCF if data[4] < 0xC0 else data[4], data[5] >> 3  # without numblkscod

    def feed(self, data: memoryview, *, keyframe: bool) -> Sample | None:  # noqa: ARG002
        if not self._is_same(data):
            return None
        if not self._held:
            self.packets_per_sample = max(6 // max(audio.eac3_blocks(data), 1), 1)
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


class OpusPath(_AudioPath):
    codec = "opus"

    def __init__(self, config: bytes = b"") -> None:
        super().__init__(config)
        self._format = audio.opus_format(config)
        self._has_begun = False

    def feed(self, data: memoryview, *, keyframe: bool) -> Sample | None:  # noqa: ARG002
        if not self._has_begun:
            # A PES packet holds several packets and one time: how long they last dates the others.
            self._has_begun = True
            self._format = replace(self.format, frame_samples=audio.opus_samples(data))
        return (data,), len(data)


class FlacPath(_AudioPath):
    codec = "flac"

    def __init__(self, config: bytes = b"") -> None:
        super().__init__(config)
        self._format = audio.flac_format(config)

    def feed(self, data: memoryview, *, keyframe: bool) -> Sample | None:  # noqa: ARG002
        return (data,), len(data)
