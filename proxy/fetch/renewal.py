"""Addresses that have expired, exchanged for those that the playlist has now.

Signed addresses live for minutes or hours, a VOD's playlist is loaded once: in the middle of it the
origin begins to answer 401, 403 or 410.  Loaded again, the playlist names the same segments, keys
and maps under new addresses.  A `Renewal` belongs to one playlist of a stream, on the event loop.
Rules of this file:
1. One load at a time, however many ask: it answers for every request that was begun before it.
   What the playlist is loaded for otherwise, as it grows, helps where it brings another address,
   but proves nothing where it does not: it may have been written just before the old one expired.
2. Between two loads lies `LEAST_PAUSE_S`, which is waited for.  A load that changed nothing is
   believed for `BELIEF_S`: until then, what is refused stays refused.
3. At the start of a stream the playlist is fresh, and who refuses is believed: see `arrived`.
4. The same segment is the one with the same Media Sequence Number, and it must agree in all that
   is no address.  While a playlist grows its numbers may begin anew; there the file's name counts,
   too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from proxy.errors import ProxyError
from proxy.hls.model import InitSection, Key, MediaPlaylist, Segment

__all__ = ["Renewal", "is_expired"]

Known = TypeVar("Known", Segment, InitSection)

logger = logging.getLogger(__name__)

# What origins answer to a token that was good: nginx' secure_link 410, most others 403.  Not 404:
# that is an edge that lags behind, and the playlist would have nothing else to say.
EXPIRED = frozenset({401, 403, 410})

LEAST_PAUSE_S = 1.0  # as fast as a live playlist may be reloaded
BELIEF_S = 30.0  # a stream that skips what it cannot have would ask anew for each segment


def is_expired(error: BaseException) -> bool:
    """Whether the origin answered that the address is not, or no longer, good."""
    told = (error, error.__cause__)  # a `KeyUnavailable` has what happened as its cause
    return any(getattr(one, "upstream_status", None) in EXPIRED for one in told)


class Renewal:
    """Knows the newest addresses of one playlist.

    `load` brings the playlist as it is now, or raises `ProxyError`.
    """

    def __init__(self, load: Callable[[], Awaitable[MediaPlaylist]]) -> None:
        self._load = load
        self._playlist: MediaPlaylist | None = None  # None: not loaded again yet
        self._grows = False
        self._loading = asyncio.Lock()
        self._loaded_at_s: float | None = None
        self._helped = True
        self._began = False
        self._loads = 0  # begun, for whatever reason
        self._newest = 0  # the one that `_playlist` came with
        self.edition = 0  # loads begun because something was refused
        self._completed = 0  # the last of those that has ended

    def arrived(self) -> None:
        """A segment has come: from now on the playlist is loaded again where that may help."""
        self._began = True

    async def load(self) -> MediaPlaylist:
        """Load the playlist, for whatever reason, and know its addresses from then on."""
        self._loads += 1
        number = self._loads
        playlist = await self._load()
        if number > self._newest:
            self._newest, self._playlist = number, playlist
            self._grows = self._grows or playlist.live  # also when it has ended since
        return playlist

    def current(self, segment: Segment) -> Segment:
        """Return `segment` with the newest addresses that are known."""
        listed = self._listed(segment.sequence)
        if listed is None or not _is_same(segment, listed):
            return segment
        if self._grows and _file_name(segment.uri) != _file_name(listed.uri):
            return segment
        return replace(segment, uri=listed.uri, key=listed.key, init_section=listed.init_section)

    async def renew(self, segment: Segment, edition: int) -> Segment | None:
        """Return `segment` with addresses other than those that were refused.

        `edition` is what `self.edition` was when the refused request was begun.  `None`: there are
        none, or they could not be had.
        """
        return await self._renewed(segment, self.current, edition)

    async def renew_map(
        self, section: InitSection, sequence: int, edition: int
    ) -> InitSection | None:
        """As `renew`, for the EXT-X-MAP of the segment with that Media Sequence Number."""
        return await self._renewed(section, lambda old: self._current_map(old, sequence), edition)

    async def _renewed(
        self, known: Known, look: Callable[[Known], Known], edition: int
    ) -> Known | None:
        fresh = look(known)
        if fresh != known:
            return fresh
        async with self._loading:
            fresh = look(known)  # again: who held the lock has changed it, perhaps
            if fresh == known and edition >= self._completed and await self._may_load():
                await self._load_again()
                fresh = look(known)
                self._helped = fresh != known
        return None if fresh == known else fresh

    def _current_map(self, section: InitSection, sequence: int) -> InitSection:
        listed = self._listed(sequence)
        fresh = None if listed is None else listed.init_section
        return fresh if fresh is not None and _is_same_map(section, fresh) else section

    def _listed(self, sequence: int) -> Segment | None:
        """The segment of that number in the newest playlist; its numbers are consecutive."""
        if self._playlist is None or not self._playlist.segments:
            return None
        segments = self._playlist.segments
        index = sequence - segments[0].sequence
        return segments[index] if 0 <= index < len(segments) else None

    async def _may_load(self) -> bool:
        if not self._began:
            return False
        if self._loaded_at_s is None:
            return True
        age_s = asyncio.get_running_loop().time() - self._loaded_at_s
        if not self._helped and age_s < BELIEF_S:
            return False
        await asyncio.sleep(LEAST_PAUSE_S - age_s)  # not at all, if that is negative
        return True

    async def _load_again(self) -> None:
        self.edition += 1
        began_s = asyncio.get_running_loop().time()
        try:
            await self.load()
        except ProxyError as error:
            logger.info("the playlist could not be loaded for its addresses: %s", error)
        self._completed, self._loaded_at_s, self._helped = self.edition, began_s, False


def _is_same(known: Segment, listed: Segment) -> bool:
    return (
        (known.duration_s, known.byte_range, known.discontinuity_sequence)
        == (listed.duration_s, listed.byte_range, listed.discontinuity_sequence)
        and not listed.gap
        and _is_same_key(known.key, listed.key)
        and _is_same_map(known.init_section, listed.init_section)
    )


def _is_same_map(known: InitSection | None, listed: InitSection | None) -> bool:
    if known is None or listed is None:
        return known is listed
    return known.byte_range == listed.byte_range and _is_same_key(known.key, listed.key)


def _is_same_key(known: Key | None, listed: Key | None) -> bool:
    if known is None or listed is None:
        return known is listed
    return replace(known, uri=None) == replace(listed, uri=None)


def _file_name(uri: str) -> str:
    return uri.partition("?")[0].rpartition("/")[2]
