"""Which Variant and which audio Rendition a wish means.  Pure.

A choice is made once, at the start: nothing here adapts to bandwidth.  Only what the Multivariant
Playlist says is known here; what the segments really hold is judged later by who reads them, so
nothing is refused that might turn out well.

`best` is the highest BANDWIDTH, `worst` the lowest.  `720p` is at most that height and `2500k` at
most that BANDWIDTH; where no variant is that small it is the smallest there is, since whoever sets
a limit is better served by a little more than by nothing.  I-frame and image streams are never
chosen (they are no variants in the model), nor are variants of text alone.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from proxy.errors import InvalidRequest, NoPlayableVariant
from proxy.hls.codecs import Copy, copyable, is_audio, is_text, is_video
from proxy.hls.model import MultivariantPlaylist, Rendition, Variant

__all__ = ["Choice", "Quality", "choose", "select_rendition", "select_variant"]

_WORDS: Final[Mapping[str, Literal["best", "worst", "audio"]]] = {
    "best": "best",
    "worst": "worst",
    "audio": "audio",
}
_LIMITED = re.compile(r"([1-9][0-9]{0,8})([pk])")
_SHOWN_NAMES = 20  # an error text is no place for a hundred languages


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """The wish `quality=`."""

    kind: Literal["best", "worst", "audio", "height", "bandwidth"] = "best"
    limit: int | None = None  # `height`: pixels; `bandwidth`: kbit/s

    @classmethod
    def parse(cls, text: str) -> Quality:
        """Read `best`, `worst`, `audio`, `<N>p` or `<N>k`.

        Raises:
            InvalidRequest: anything else; `detail` names the parameter and what it takes.
        """
        if text in _WORDS:
            return cls(kind=_WORDS[text])
        limited = _LIMITED.fullmatch(text)
        if not limited:
            raise InvalidRequest(
                detail="The parameter `quality` must be best, worst, audio, a height such as 720p "
                "or a bandwidth in kbit/s such as 2500k."
            )
        return cls(kind="height" if limited[2] == "p" else "bandwidth", limit=int(limited[1]))

    def __str__(self) -> str:
        unit = {"height": "p", "bandwidth": "k"}.get(self.kind)
        return f"{self.limit}{unit}" if unit else self.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to fetch.

    `rendition` is None or has an address.  With it, audio comes from there and from nowhere else;
    without it, from the variant itself.  With `audio_only` the output has no video: the variant
    is not fetched at all when there is a rendition, and its video is left out when there is none.
    """

    variant: Variant
    rendition: Rendition | None = None
    audio_only: bool = False


def choose(playlist: MultivariantPlaylist, quality: Quality, audio: str | None = None) -> Choice:
    """Return the variant and the rendition that `quality` and `audio` mean.

    Raises:
        NoPlayableVariant: no variant can be put into an MP4; `detail` names the codecs.
        InvalidRequest: there certainly is no such audio; `detail` names what there is.
    """
    variant = select_variant(playlist, quality)
    rendition = select_rendition(playlist, variant, audio)
    return Choice(variant=variant, rendition=rendition, audio_only=quality.kind == "audio")


def select_variant(playlist: MultivariantPlaylist, quality: Quality) -> Variant:
    """Return the variant that `quality` means.

    A variant of codecs that cannot be copied loses to one of unknown codecs, and this one to one
    whose codecs are known or not stated.  One that shows video (RESOLUTION, CODECS) wins over one
    that may be audio alone.

    Raises:
        NoPlayableVariant: none is left; `detail` names the codecs.
    """
    if quality.kind == "audio":
        return _select_audio_variant(playlist)
    candidates = [variant for variant in playlist.variants if not _is_text(variant)]
    candidates = [v for v in candidates if not _is_audio(v)] or candidates
    candidates = _most_copyable(candidates)
    candidates = [v for v in candidates if _shows_video(v)] or candidates
    return _of_quality(candidates, quality)


def select_rendition(
    playlist: MultivariantPlaylist, variant: Variant, audio: str | None
) -> Rendition | None:
    """Return the audio rendition of `variant` to fetch; None: the audio is in the variant itself.

    Without `audio` it is the DEFAULT one of the variant's group.  `audio` is a language range
    (RFC 4647 basic filtering: `en` takes `en-GB`), or else a NAME.

    Raises:
        InvalidRequest: `audio` matches none, and all of them are known.  Where one is inside the
            variant, its segments may hold more languages than the playlist tells: not refused.
    """
    group = [
        rendition
        for rendition in playlist.renditions
        if rendition.type == "AUDIO" and rendition.group_id == variant.audio_group
    ]
    if not group:
        return None
    candidates = group
    if audio is not None:
        wish = audio.casefold()
        candidates = [r for r in group if _speaks(r, wish)]
        candidates = candidates or [r for r in group if r.name.casefold() == wish]
    if not candidates:
        if any(rendition.uri is None for rendition in group):
            return None
        raise InvalidRequest(detail=f"The parameter `audio` matches nothing here: {_names(group)}.")
    chosen = max(candidates, key=_preference)
    # RFC 8216bis 4.4.6.2.1: without URI it is in the variant; some name the variant's own address
    return chosen if chosen.uri not in {None, variant.uri} else None


def _preference(rendition: Rendition) -> tuple[bool, bool, bool]:
    described = any("describes-video" in trait for trait in rendition.characteristics)
    return rendition.default, not described, rendition.autoselect


def _speaks(rendition: Rendition, language_range: str) -> bool:
    """Whether the rendition's LANGUAGE is in the range (RFC 4647 section 3.3.1)."""
    if rendition.language is None:
        return False
    language = rendition.language.casefold()
    return language_range in {"*", language} or language.startswith(f"{language_range}-")


def _names(group: Sequence[Rendition]) -> str:
    names = dict.fromkeys(rendition.language or rendition.name for rendition in group)
    return ", ".join(_shown(name) for name in list(names)[:_SHOWN_NAMES])


def _shown(text: str) -> str:
    """Return a word of the playlist as it may stand in an error that anyone reads."""
    return "".join(c if c.isprintable() else "?" for c in text[:40])


# -- quality ---------------------------------------------------------------------------------------


def _of_quality(candidates: Sequence[Variant], quality: Quality) -> Variant:
    """Return the one of `candidates` (at least one) that the wish means; the first of equals."""
    match quality.kind:
        case "worst":
            return min(candidates, key=_by_bandwidth)
        case "height":
            return _at_most(candidates, quality.limit or 0, _by_height)
        case "bandwidth":
            return _at_most(candidates, (quality.limit or 0) * 1000, _by_bandwidth)
        case _:
            return max(candidates, key=_by_bandwidth)


def _at_most(
    candidates: Sequence[Variant], limit: int, size: Callable[[Variant], tuple[int, int]]
) -> Variant:
    fitting = [variant for variant in candidates if size(variant)[0] <= limit]
    return max(fitting, key=size) if fitting else min(candidates, key=size)


def _by_bandwidth(variant: Variant) -> tuple[int, int]:
    return variant.bandwidth, variant.height or 0


def _by_height(variant: Variant) -> tuple[int, int]:
    """Sort key; a height that is not stated fits under no limit."""
    return sys.maxsize if variant.height is None else variant.height, variant.bandwidth


def _select_audio_variant(playlist: MultivariantPlaylist) -> Variant:
    """Return the variant whose audio to take, dearest first but without paying for video.

    One of audio alone; else the best one whose audio has an address of its own; else the cheapest,
    since its video is fetched only to be left out.
    """
    groups = {r.group_id for r in playlist.renditions if r.type == "AUDIO" and r.uri}
    variants = [variant for variant in playlist.variants if not _is_text(variant)]
    candidates = [v for v in variants if v.audio_group in groups or _may_hold_audio(v)]
    candidates = _most_copyable(candidates, audio_only=True)
    alone = [variant for variant in candidates if _is_audio(variant)]
    apart = [variant for variant in candidates if variant.audio_group in groups]
    if alone or apart:
        return max(alone or apart, key=_by_bandwidth)
    return min(candidates, key=_by_bandwidth)


# -- codecs ----------------------------------------------------------------------------------------


def _most_copyable(candidates: Sequence[Variant], *, audio_only: bool = False) -> list[Variant]:
    """Return those of `candidates` whose worst codec is the best to be had.

    With `audio_only` the video codecs do not count.  Without CODECS a variant is taken at its word.
    """

    def worst(variant: Variant) -> Copy:
        codecs = [c for c in variant.codecs if not (audio_only and is_video(c))]
        return min((copyable(codec) for codec in codecs), default=Copy.YES)

    best = max((worst(variant) for variant in candidates), default=Copy.NO)
    if best is Copy.NO:
        raise NoPlayableVariant(detail=_why_none(candidates))
    return [variant for variant in candidates if worst(variant) is best]


def _why_none(candidates: Sequence[Variant]) -> str:
    codecs = dict.fromkeys(codec for variant in candidates for codec in variant.codecs)
    refused = [_shown(codec) for codec in codecs if copyable(codec) is Copy.NO][:_SHOWN_NAMES]
    if not refused:
        return "This presentation has no variant with video or audio of its own."
    return f"No variant can be put into an MP4; players of MP4 do not take {', '.join(refused)}."


def _is_text(variant: Variant) -> bool:
    return bool(variant.codecs) and all(is_text(codec) for codec in variant.codecs)


def _is_audio(variant: Variant) -> bool:
    """Whether it is audio alone, so far as it tells; text beside it is left out anyway."""
    codecs = [codec for codec in variant.codecs if not is_text(codec)]
    return bool(codecs) and all(is_audio(codec) for codec in codecs) and variant.height is None


def _may_hold_audio(variant: Variant) -> bool:
    codecs = [codec for codec in variant.codecs if not is_text(codec)]
    return not codecs or not all(is_video(codec) for codec in codecs)


def _shows_video(variant: Variant) -> bool:
    return variant.height is not None or any(is_video(codec) for codec in variant.codecs)
