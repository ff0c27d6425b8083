"""The path of one codec from an elementary stream into ISO BMFF samples, as a protocol.

A path is fed the packets of one track as the demuxer cuts them (one access unit or audio frame
each), and returns the bytes of the sample, in pieces, or None where there is nothing to keep.
`video_path` and `audio_path` hold the paths, `bitstream` knows which codec takes which.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Protocol

from proxy.media.parameters import PictureFormat

Parts = Sequence[bytes | memoryview]
Sample = tuple[Parts, int]  # the pieces and their size in bytes


class Path(Protocol):
    """The way of one track's packets."""

    codec: str  # FFmpeg's name
    left_out: int  # packets that nothing can decode
    packets_per_sample: int
    pending: bool  # whether a sample has been begun that more packets belong to
    in_band: Sequence[bytes]  # parameter sets to repeat before each random access point
    follows: bool  # whether the sample entry is that of another section
    prefixed: bool  # whether NAL units come behind their lengths, which Annex B has not

    @property
    def parameter_sets(self) -> Sequence[bytes]:
        """Those that the sample entry repeats."""

    @property
    def sample_rate(self) -> int | None:
        """Hz; None: video."""

    @property
    def format(self) -> object:
        """What a sample entry says of the track."""

    def fits(self, entry: object) -> bool:
        """Whether its samples can stand behind a sample entry of this `format`."""

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

    @property
    def is_settled(self) -> bool:
        """Whether all that its packets hold goes into the samples, and nothing is to be found out:
        of NAL units behind their lengths, and of ADTS frames with one header."""

    def passes(self, data: bytes) -> bool:
        """Whether frames with the header of this one pass without being looked into: those of AAC
        lose it, and nothing else."""

    def begin_here(self) -> None:
        """Say that the output begins with the sample fed last: nothing before it can be referred
        to."""

    def flush(self) -> Sample | None:
        """Return the sample that was begun, incomplete as it is, at the end of the source."""

    def sample_entry(self) -> bytes: ...
    def frame_duration_s(self) -> Fraction:
        """What one packet lasts where its neighbours do not tell."""

    def reorder_frames(self) -> int: ...
