"""`AudioFormat`: one audio configuration, and whether another one can share its sample entry."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioFormat:
    """One audio configuration, as a sample entry tells it."""

    codec: str  # FFmpeg's name
    sample_rate: int  # Hz, of the frames as they are coded (HE-AAC: of the core)
    channels: int
    frame_samples: int  # samples of one frame, at sample_rate
    config: bytes  # AudioSpecificConfig, the body of dac3, dec3, dOps or dfLa; empty for MP3
    rfc6381: str  # the codec as the MIME parameter `codecs` names it
    # What a decoder is set up for, besides rate and channels; and more, if it is told (not None).
    fixed: tuple[object, ...] = field(default=(), compare=False, repr=False)
    told: tuple[object, ...] = field(default=(), compare=False, repr=False)

    def fits(self, entry: AudioFormat) -> bool:
        """Whether frames of this format can stand behind a sample entry of another.

        Not by the bytes of `config`: one thing is written in several ways, and bit rates, which
        every frame tells anew, are in it as well.  But a decoder does not look for another sample
        rate; it plays at the wrong pitch, and no error is seen anywhere.
        """
        return (
            (self.codec, self.sample_rate, self.channels, self.fixed)
            == (entry.codec, entry.sample_rate, entry.channels, entry.fixed)
        ) and all(
            mine is None or theirs is None or mine == theirs
            for mine, theirs in zip(self.told, entry.told, strict=True)
        )
