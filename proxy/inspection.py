"""What `inspect` tells of a source: plain JSON values out of a plan.  Pure.

`copyable` is what its beginning shows.  Behind a splice other media may come, and no playlist says
whether they fit: `unseen_from_s` is where that begins (null: nowhere that it tells), and `splices`
lists all such places of the playlist that leads.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from proxy.errors import ProxyError
from proxy.extract import Candidate
from proxy.guard.redaction import redact
from proxy.hls.model import MediaPlaylist, MultivariantPlaylist, Rendition, Segment, Variant
from proxy.pages import Seen
from proxy.plan import Plan


def describe(plan: Plan, *, codecs: str, reason: ProxyError | None) -> dict[str, Any]:
    """Return the report on a source.

    Args:
        plan: what was found.
        codecs: of the output, as its beginning shows them; empty where it did not begin.
        reason: why it cannot be copied; None: it can.
    """
    media, multivariant = plan.media, plan.multivariant
    variant = plan.choice.variant if plan.choice else None
    rendition = plan.choice.rendition if plan.choice else None
    return {
        "kind": "media" if multivariant is None else "multivariant",
        "live": media.live,
        "duration_s": None if media.live else round(media.duration_s, 3),
        "segments": len(media.segments),
        "target_duration_s": media.target_duration_s,
        "variants": [_variant(v, variant) for v in _variants(multivariant)],
        "renditions": [_rendition(r, rendition) for r in _renditions(multivariant)],
        "encryption": _encryption(media, multivariant),
        "discontinuities": sum(segment.discontinuity for segment in media.segments[1:]),
        "gaps": sum(segment.gap for segment in media.segments),
        "splices": list(_splices(media)),
        "copyable": reason is None,
        "unseen_from_s": _unseen_from_s(plan),
        "codecs": codecs or None,
        "reason": None if reason is None else {"code": reason.code, "detail": reason.detail},
        "page": None if plan.page is None else _page(plan.page),
    }


def describe_mp4(page: Seen, reason: ProxyError) -> dict[str, Any]:
    """Return the report on a page whose video is a file: the same members, most of them empty."""
    return {
        "kind": "mp4",
        "live": False,
        "duration_s": None,
        "segments": 0,
        "target_duration_s": None,
        "variants": [],
        "renditions": [],
        "encryption": [],
        "discontinuities": 0,
        "gaps": 0,
        "splices": [],
        "copyable": False,
        "unseen_from_s": None,
        "codecs": None,
        "reason": {"code": reason.code, "detail": reason.detail},
        "page": _page(page),
    }


def _page(page: Seen) -> dict[str, Any]:
    """What a page offers.  Addresses come without their queries: those may be what signs them, and
    the page may have been fetched with credentials of the operator."""
    return {
        "url": redact(page.url),
        "title": page.title,
        "extractor": page.chosen.extractor if page.chosen else None,
        "candidates": [_candidate(one, page.chosen) for one in page.candidates],
    }


def _candidate(candidate: Candidate, chosen: Candidate | None) -> dict[str, Any]:
    return {
        "url": redact(candidate.url),
        "kind": candidate.kind,
        "width": candidate.width,
        "height": candidate.height,
        "bandwidth": candidate.bandwidth,
        "extractor": candidate.extractor,
        "chosen": chosen is not None and candidate.url == chosen.url,
    }


def _variants(playlist: MultivariantPlaylist | None) -> Iterable[Variant]:
    return () if playlist is None else playlist.variants


def _renditions(playlist: MultivariantPlaylist | None) -> Iterable[Rendition]:
    return () if playlist is None else playlist.renditions


def _variant(variant: Variant, chosen: Variant | None) -> dict[str, Any]:
    return {
        "bandwidth": variant.bandwidth,
        "codecs": list(variant.codecs),
        "width": variant.width,
        "height": variant.height,
        "frame_rate": variant.frame_rate,
        "audio_group": variant.audio_group,
        "chosen": variant is chosen,
    }


def _rendition(rendition: Rendition, chosen: Rendition | None) -> dict[str, Any]:
    return {
        "type": rendition.type,
        "group": rendition.group_id,
        "name": rendition.name,
        "language": rendition.language,
        "default": rendition.default,
        "channels": rendition.channels,
        "own_playlist": rendition.uri is not None,
        "chosen": rendition is chosen,
    }


def _splices(media: MediaPlaylist) -> Iterable[dict[str, Any]]:
    """Where something may change in mid-stream, as far as the playlist tells."""
    time_s = 0.0
    for before, segment in pairwise(media.segments):
        time_s += before.duration_s
        tags = [
            tag
            for tag, changed in (
                ("EXT-X-DISCONTINUITY", segment.discontinuity),
                ("EXT-X-MAP", segment.init_section != before.init_section),
                ("EXT-X-KEY", _method(segment) != _method(before)),
            )
            if changed
        ]
        if tags:
            yield {"time_s": round(time_s, 3), "tags": tags}


def _unseen_from_s(plan: Plan) -> float | None:
    """Where the first splice is behind which media may be others; a key changes none."""
    times_s = (
        splice["time_s"]
        for source in plan.sources
        for splice in _splices(source.playlist)
        if splice["tags"] != ["EXT-X-KEY"]
    )
    return min(times_s, default=None)


def _method(segment: Segment) -> str | None:
    return segment.key.method if segment.key is not None else None


def _encryption(media: MediaPlaylist, multivariant: MultivariantPlaylist | None) -> list[str]:
    def methods(segments: Iterable[Segment]) -> Iterable[str]:
        for segment in segments:
            if segment.key is not None:
                yield segment.key.method

    session = () if multivariant is None else (key.method for key in multivariant.session_keys)
    return list(dict.fromkeys((*session, *methods(media.segments))))
