"""What each outcome of a stream means, whatever the stream: a table, and nothing else.

Every code of `errors` has a row, and so has every end that is nobody's failure.  `actions` speak to
whom they can help: the client, or (where they say so) the operator of this server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "CALM",
    "CLIENT_GONE",
    "CLIENT_IDLE",
    "COMPLETE",
    "HEAD",
    "INSPECTED",
    "LATER",
    "SEE_UPSTREAM",
    "SHUTDOWN",
    "SIGN_ANEW",
    "SKIP_GAPS",
    "VERDICTS",
    "WORKER_DIED",
    "Layer",
    "Verdict",
]

Layer = Literal["client", "proxy", "origin", "media"]

WORKER_DIED = "worker_died"  # the outcome of a stream whose process is gone

# Ends that are nobody's failure; the others are codes of errors.
COMPLETE, CLIENT_GONE, CLIENT_IDLE = "complete", "client_gone", "client_idle"
HEAD, INSPECTED, SHUTDOWN = "head", "inspected", "shutdown"
CALM = frozenset({COMPLETE, CLIENT_GONE, CLIENT_IDLE, HEAD, INSPECTED, SHUTDOWN})

# Whether the same request may succeed later.
_PERHAPS, _NEVER = True, False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an outcome means, whatever the stream."""

    layer: Layer
    summary: str
    retryable: bool
    actions: tuple[str, ...] = ()


LATER = "Try again in a while."  # of no use where a retry would meet the same
SKIP_GAPS = "Ask for `on_gap=skip` to go on without what cannot be had."  # of segments alone
_ASK_SOURCE = "Ask whoever runs the source; other players will have the same trouble with it."
_TRY_ADDRESS = "Open the address of the source with another player to see whether it is there."
_REPORT = "Operator: look for the log line with the id of this stream, and report what it says."
SIGN_ANEW = "Ask for a link that is signed anew."  # of links alone
SEE_UPSTREAM = "Operator: see whether section `upstream` is meant to keep this source out."
_OTHER_SOURCE = "Choose another source, or have this one packaged again."


def _limit(what: str, key: str) -> tuple[str, ...]:
    return (f"Operator: raise {key} if sources with such {what} are to be read.", _OTHER_SOURCE)


def _too_many(what: str) -> Verdict:
    """What playlists of no real source have: the limit has no key."""
    words = f"A playlist of the source has more {what} than any real one needs."
    return Verdict("origin", words, _NEVER, (_ASK_SOURCE,))


VERDICTS: dict[str, Verdict] = {
    # -- ends that are nobody's failure
    "complete": Verdict(
        "origin", "The source came to its end, and all of it was delivered.", _NEVER
    ),
    "client_gone": Verdict("client", "The client closed the connection.", _PERHAPS),
    "client_idle": Verdict(
        "client",
        "The client took nothing for so long that it was cut.",
        _PERHAPS,
        (
            "Read the response as it comes; a player that pauses must ask again with `start`.",
            "Operator: raise limits.idle_client_s if such clients are to be waited for.",
        ),
    ),
    "head": Verdict("client", "The client asked for the headers alone, and has them.", _NEVER),
    "inspected": Verdict("client", "The client asked what the source is, and was told.", _NEVER),
    "shutdown": Verdict(
        "proxy",
        "The server was shut down while the stream was running.",
        _PERHAPS,
        ("Try again: another server answers.", "Operator: raise server.drain_s for more patience."),
    ),
    "stopped": Verdict("proxy", "The operator has stopped the stream.", _PERHAPS),
    WORKER_DIED: Verdict(
        "proxy",
        "The process that ran the stream died, and the stream with it.",
        _PERHAPS,
        ("Try again: another process has taken its place.", _REPORT),
    ),
    # -- the request
    "internal_error": Verdict(
        "proxy", "The proxy failed in a way that nobody foresaw.", _NEVER, (_REPORT,)
    ),
    "invalid_request": Verdict(
        "client",
        "The request is malformed.",
        _NEVER,
        ("Correct what the answer names; see the list of parameters.",),
    ),
    "unauthorized": Verdict(
        "client", "The operator's token is missing or wrong.", _NEVER, ("Send the right token.",)
    ),
    "forbidden": Verdict(
        "proxy",
        "The proxy may not fetch this, or the link is not signed as it must be.",
        _NEVER,
        (SIGN_ANEW, SEE_UPSTREAM),
    ),
    "not_found": Verdict(
        "client", "There is nothing at this path.", _NEVER, ("Correct the path.",)
    ),
    "method_not_allowed": Verdict(
        "client", "The path is there, but not for this method.", _NEVER, ("See the header Allow.",)
    ),
    "start_beyond_end": Verdict(
        "client",
        "`start` lies beyond the end of the presentation.",
        _NEVER,
        ("Ask /inspect how long it is, and for a start before that.",),
    ),
    "rate_limited": Verdict(
        "client",
        "This client has as many streams as it may have.",
        _PERHAPS,
        (
            "Close a stream first, or try again after the time in Retry-After.",
            "Operator: raise limits.streams_per_client.",
            "Operator: behind a reverse proxy set server.trusted_proxies: clients look like one.",
        ),
    ),
    "overloaded": Verdict(
        "proxy",
        "The server has no place for a further stream, or is being shut down.",
        _PERHAPS,
        (
            "Try again after the time in Retry-After.",
            "Operator: raise limits.streams and memory.budget_bytes, or add a server.",
        ),
    ),
    "http_version_unsupported": Verdict(
        "client",
        "Over HTTP/1.0 this server could not show a broken stream.",
        _NEVER,
        ("Use HTTP/1.1; for nginx that is `proxy_http_version 1.1`.",),
    ),
    "loop_detected": Verdict(
        "proxy",
        "The request came back to the proxy that sent it.",
        _NEVER,
        ("Ask for the source itself.", "Operator: look for a route that leads here again."),
    ),
    # -- the source
    "source_not_found": Verdict(
        "origin",
        "The source says that there is no such playlist or segment.",
        _NEVER,
        ("Correct the address.", _TRY_ADDRESS),
    ),
    "source_unavailable": Verdict(
        "origin",
        "The source could not be read.",
        _PERHAPS,
        (LATER, _TRY_ADDRESS, SKIP_GAPS),
    ),
    "source_timeout": Verdict(
        "origin",
        "The source took too long, or stands still.",
        _PERHAPS,
        (LATER, _TRY_ADDRESS, "Ask for a lower quality if the way to it is slow."),
    ),
    "headers_timeout": Verdict(
        "origin", "The source took too long to begin its answer.", _PERHAPS, (LATER, _TRY_ADDRESS)
    ),
    "too_many_redirects": Verdict(
        "origin",
        "The source leads from one address to the next, and to none in the end.",
        _NEVER,
        (_TRY_ADDRESS, "It may want a cookie or a login, which the proxy does not do."),
    ),
    "source_too_large": Verdict(
        "origin",
        "The source is larger than the proxy reads.",
        _NEVER,
        ("Make sure that the address leads to a playlist.",),
    ),
    "playlist_too_large": Verdict(
        "origin",
        "A playlist of the source has more bytes than the proxy reads.",
        _NEVER,
        _limit("playlists", "limits.playlist_bytes"),
    ),
    "segment_too_large": Verdict(
        "origin",
        "A segment of the source has more bytes than the proxy reads.",
        _NEVER,
        _limit("segments", "limits.segment_bytes"),
    ),
    "init_section_too_large": Verdict(
        "origin", "An init section of the source is too large to be one.", _NEVER, (_OTHER_SOURCE,)
    ),
    "key_unavailable": Verdict(
        "origin",
        "The key that opens the source could not be had.",
        _PERHAPS,
        (
            LATER,
            "Operator: if the host of the keys wants credentials, set upstream.headers.",
        ),
    ),
    "key_too_large": Verdict(
        "origin",
        "What should be the key of the source is none.",
        _NEVER,
        ("The address of the key may lead to a page, such as a login.", _ASK_SOURCE),
    ),
    # -- the playlist
    "playlist_error": Verdict(
        "origin", "A playlist of the source is malformed or empty.", _NEVER, (_ASK_SOURCE,)
    ),
    "not_a_playlist": Verdict(
        "origin",
        "An address in the playlist does not lead to a playlist.",
        _NEVER,
        ("It may lead to a page, such as a login or a notice.", _ASK_SOURCE),
    ),
    "nested_playlist": Verdict(
        "origin", "A multivariant playlist leads to another one.", _NEVER, (_ASK_SOURCE,)
    ),
    "line_too_long": Verdict(
        "origin", "A line of the playlist is too long to be meant.", _NEVER, (_ASK_SOURCE,)
    ),
    "too_many_lines": _too_many("lines"),
    "too_many_segments": Verdict(
        "origin",
        "The playlist has more segments than the proxy reads.",
        _NEVER,
        _limit("playlists", "limits.segments"),
    ),
    "too_many_variants": _too_many("variants"),
    "too_many_renditions": _too_many("renditions"),
    "too_many_keys": _too_many("keys"),
    "too_many_init_sections": _too_many("init sections"),
    "too_many_attributes": _too_many("attributes"),
    "playlist_expands_too_far": Verdict(
        "origin",
        "The addresses and variables of the playlist grow too long when written out.",
        _NEVER,
        (_ASK_SOURCE,),
    ),
    "no_video_found": Verdict(
        "origin",
        "The address is a page, and no HLS address was found in it.",
        _NEVER,
        ("Ask for the address of the playlist itself (.m3u8).",),
    ),
    "plain_file": Verdict(
        "origin",
        "The video of the page is a plain MP4, which needs no proxy.",
        _NEVER,
        ("Fetch the file directly: it is `file` in the answer, and in what /inspect tells.",),
    ),
    "page_refused": Verdict(
        "origin",
        "The site does not give this page to programs.",
        _NEVER,
        ("Use the site's official API, or the address of the playlist where you may have it.",),
    ),
    # -- the media
    "no_playable_variant": Verdict(
        "media",
        "No variant of this presentation can be put into an MP4.",
        _NEVER,
        ("Ask /inspect what there is, and choose another quality or audio.", _OTHER_SOURCE),
    ),
    "encrypted_source": Verdict(
        "media",
        "The source is encrypted in a way that the proxy does not open.",
        _NEVER,
        ("It needs a player that has a licence for it; DRM is not opened here.",),
    ),
    "unsupported_codec": Verdict(
        "media",
        "The source uses a codec that players of MP4 do not take.",
        _NEVER,
        ("Ask /inspect for a variant with another codec.", _OTHER_SOURCE),
    ),
    "corrupt_media": Verdict(
        "media",
        "The media of the source is damaged, or is no media.",
        _NEVER,
        (
            "Ask for `on_gap=skip` to go on without damaged segments.",
            "Ask for another quality: the damage may be in this one alone.",
            _ASK_SOURCE,
        ),
    ),
    "splice_incompatible": Verdict(
        "media",
        "The source changes its audio or its codec in mid-stream.",
        _NEVER,
        (
            "Ask for `on_splice=skip` to leave out what does not fit.",
            "Ask for the part behind the change with `start`; /inspect lists such places.",
        ),
    ),
    "remux_failed": Verdict("proxy", "The proxy failed to remux the source.", _NEVER, (_REPORT,)),
    "stream_too_long": Verdict(
        "proxy",
        "The stream has been running for longer than the proxy lets one run.",
        _PERHAPS,
        (
            "Ask again; for a source on demand with `start` where this one ended.",
            "Operator: raise limits.stream_s.",
        ),
    ),
}
