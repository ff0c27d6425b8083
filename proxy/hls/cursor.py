"""SegmentCursor: which segments of a playlist are new, when to reload it, when it has ended.

Sans-IO, like h11: the caller fetches and keeps the time, the cursor decides.

    cursor = SegmentCursor()
    while not cursor.ended:
        began_s = clock()
        update = cursor.feed(await fetch_and_parse(), began_s)
        ...deliver update.segments...
        await sleep_until(cursor.reload_at_s)

Rules of this file:
1. Each segment is handed out once, and in order; what was missed is counted in `lost`, and
   `is_stale` tells when waiting has no more sense.
2. Media Sequence Numbers tell what is new (RFC 8216bis 6.3.4).  Addresses only help where numbers
   contradict themselves; the same address may come many times (slates, loops), and a different one
   may be the same segment (tokens that change with each reload).  Numbers that fall back are an
   older copy from another server of a CDN, unless they stay there and move on: then an encoder
   began anew, with whatever names.
3. Segments keep the source's `sequence`, since IVs are made of it.  Only those of a delta update
   are changed: they get back the map, the key and the numbers that it left out.
4. Times are seconds of a monotonic clock that the caller reads; positions are sums of EXTINF.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from proxy.errors import StartBeyondEnd
from proxy.hls.model import MediaPlaylist, Segment, Start
from proxy.hls.names import Name, Names

__all__ = ["CursorSettings", "SegmentCursor", "Update"]

# Segments that are remembered, to recognise them under other numbers: more than a sliding window
# has, and few enough to cost little (some hundred KiB).  A greater leap forwards is no gap, either.
MEMORY_SEGMENTS = 1_000

TOLERANCE_S = 1e-6  # sums of EXTINF are floats: 3 x 0.1 is more than 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class CursorSettings:
    """How live playlists are followed."""

    hold_back_targets: float = 3.0  # target durations before the end (RFC 8216bis 6.3.3)
    stale_targets: float = 6.0  # 6.2.1 allows 1.5 between two segments; then it may be late,
    stale_min_s: float = 30.0  # and with short segments an encoder needs time to be restarted
    reload_min_s: float = 1.0  # a target duration of 0.1 s is no reason to hammer a server


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What one load of the playlist brought."""

    segments: tuple[Segment, ...] = ()  # new ones, to be played after all before
    lost: int = 0  # segments that came and went unseen; they belong before `segments`
    restarted: bool = False  # numbers began anew; how much is missing before cannot be known


class SegmentCursor:
    """Follows one Media Playlist from a start position to its end.

    `start_s` is where to start: seconds from the beginning of the first playlist fed, negative
    seconds before its end.  The playlist's timeline counts, which is sums of EXTINF, however much
    the media differ from them; `earlier` is by how many segments to begin before that one.
    Without `start_s`, EXT-X-START counts while the playlist grows (`start` is
    the one of the Multivariant Playlist); a live playlist starts three target durations before its
    end (6.3.3), an EVENT at its beginning, and so does a VOD, EXT-X-START or not: that is where a
    player would open it, not what it consists of.
    """

    def __init__(
        self,
        *,
        start_s: float | None = None,
        start: Start | None = None,
        earlier: int = 0,
        settings: CursorSettings | None = None,
    ) -> None:
        self._start_s = start_s
        self._earlier = earlier
        self._start = start
        self._settings = settings or CursorSettings()
        # our numbers: the source's sequence + shift, which changes when the source numbers anew
        self._shift = 0
        self._next = 0  # the first one not seen yet
        self._first = 0  # the furthest that a window has begun
        self._doubted = False  # whether the last playlist seemed to begin anew
        # what the last playlist listed (first, end), where that lay before all that is new
        self._fallen: tuple[int, int] | None = None
        # before the last new beginning: the shift, and the number that would have followed
        self._former: tuple[int, int] | None = None
        self._names = Names()
        self._last: Segment | None = None  # the newest one seen; None: nothing opened yet
        self._identities: dict[int, Name] = {}  # by our number, oldest first
        self._numbers: dict[Name, list[int]] = {}
        self._progress_at_s: float | None = None
        self._target_duration_s = 0.0
        self._reload_at_s = 0.0
        self._ended = False
        self._skipped_s = 0.0
        self._run_up = 0

    def __repr__(self) -> str:
        state = "ended" if self._ended else f"reload at {self._reload_at_s:.1f} s"
        return f"<SegmentCursor next={self._next} {state}>"

    @property
    def ended(self) -> bool:
        """Whether all segments have been handed out and none will come."""
        return self._ended

    @property
    def reload_at_s(self) -> float:
        """The earliest time at which to load again; no meaning once `ended`."""
        return self._reload_at_s

    @property
    def skipped_s(self) -> float:
        """How much of the first playlist lies before the start, in seconds of EXTINF."""
        return self._skipped_s

    @property
    def run_up(self) -> int:
        """How many segments before the first one handed out can help to decode it: those behind the
        last discontinuity or gap."""
        return self._run_up

    def is_stale(self, now_s: float) -> bool:
        """Return whether no segment has come for so long that none can be expected any more.

        Loads that failed count as loads without news: ask before each, also after a failure.
        """
        if self._ended or self._progress_at_s is None:
            return False
        patience_s = max(
            self._settings.stale_targets * self._target_duration_s, self._settings.stale_min_s
        )
        return now_s - self._progress_at_s > patience_s

    def feed(self, playlist: MediaPlaylist, began_s: float) -> Update:
        """Take the playlist as a fetch that began at `began_s` brought it; return what is new.

        Raises:
            StartBeyondEnd: `start_s` lies behind the last segment of the first playlist.
        """
        self._target_duration_s = playlist.target_duration_s
        update = self._open(playlist) if self._last is None else self._follow(playlist)
        progress = bool(update.segments) or update.lost > 0
        if progress or self._progress_at_s is None:
            self._progress_at_s = began_s
        # 6.3.4: the target duration after a change, half of it after none
        pause_s = playlist.target_duration_s * (1.0 if progress else 0.5)
        self._reload_at_s = began_s + max(pause_s, self._settings.reload_min_s)
        self._ended = not playlist.live
        return update

    # -- the first playlist ------------------------------------------------------------------------

    def _open(self, playlist: MediaPlaylist) -> Update:
        if not playlist.segments:  # a live stream that is about to begin
            return Update()
        index = max(0, self._start_index(playlist) - self._earlier)
        self._run_up = _run_up(playlist.segments[: index + 1])
        self._names.learn(playlist.segments)
        self._skipped_s = sum(segment.duration_s for segment in playlist.segments[:index])
        self._first = playlist.segments[0].sequence
        self._remember(playlist.segments)
        # a delta update that nobody asked for (4.4.5.2) leaves out what comes first
        wanted = index == 0 and not _is_sliding(playlist)
        return Update(
            segments=playlist.segments[index:], lost=playlist.skipped_segments if wanted else 0
        )

    def _start_index(self, playlist: MediaPlaylist) -> int:
        """Return the index of the segment to start with: the last that begins by the start."""
        position_s = self._start_position_s(playlist)
        if position_s <= 0:
            return 0
        ends_s = 0.0
        for index, segment in enumerate(playlist.segments):
            ends_s += segment.duration_s
            if position_s < ends_s - TOLERANCE_S:
                return index
        return len(playlist.segments) - 1

    def _start_position_s(self, playlist: MediaPlaylist) -> float:
        """Return the start in seconds from the beginning of the playlist."""
        duration_s = playlist.duration_s
        hold_back_s = self._settings.hold_back_targets * playlist.target_duration_s
        start = playlist.start or self._start
        if self._start_s is not None:
            if self._start_s >= max(duration_s, TOLERANCE_S):
                raise StartBeyondEnd(
                    f"start {self._start_s:.3f} s, but the playlist has {duration_s:.3f} s"
                )
            return self._start_s + (duration_s if self._start_s < 0 else 0.0)
        if start is not None and playlist.live:
            offset_s = start.time_offset_s
            position_s = offset_s + (duration_s if offset_s < 0 else 0.0)
            # 4.4.2.2: should not be within three target durations of the end
            return min(position_s, duration_s - hold_back_s)
        return duration_s - hold_back_s if _is_sliding(playlist) else 0.0

    # -- later ones --------------------------------------------------------------------------------

    def _follow(self, playlist: MediaPlaylist) -> Update:
        if not playlist.segments:  # says nothing, not even what its numbers are
            return Update()
        listed_first = playlist.media_sequence + playlist.skipped_segments
        self._names.learn(playlist.segments)
        shift = self._shift_of(playlist, listed_first)
        if shift is None:
            self._fallen = None
            if playlist.live and not self._doubted:
                self._doubted = True  # an old copy will pass; what stays there is believed
                return Update()
        elif self._falls_back(listed_first + shift, len(playlist.segments)):
            before = self._fallen
            self._doubted = False
            self._fallen = (listed_first + shift, listed_first + shift + len(playlist.segments))
            # It moved on there, as a new beginning does and a forgotten copy does not; or came to
            # its end there, which no copy has.
            if playlist.live and (before is None or self._fallen[1] <= before[1]):
                return Update()
            shift = None
        restarted = shift is None
        self._doubted, self._fallen = False, None
        if shift is None:
            self._former = self._shift, self._next
            self._shift = self._next - listed_first
        else:
            self._shift = shift
        first = listed_first + self._shift
        lost = max(0, first - self._next)
        new = playlist.segments[max(0, self._next - first) :]
        if playlist.skipped_segments and not restarted and not lost:
            new = self._completed(new, playlist, first)
        self._first = max(self._first, first)
        self._remember(new)
        return Update(segments=new, lost=lost, restarted=restarted)

    def _falls_back(self, first: int, count: int) -> bool:
        """Whether a playlist lies wholly before the newest window, which is older than one server
        usually is behind another; or has grown from one that did."""
        if self._fallen is not None and first == self._fallen[0]:
            return first + count < self._next
        return first + count <= self._first

    def _shift_of(self, playlist: MediaPlaylist, listed_first: int) -> int | None:
        """Return what to add to the playlist's numbers to get ours; None: they began anew.

        Numbers that are all new are believed, within reason.  Otherwise what is listed decides:
        segments known under these numbers (as it should be, or an older copy from another server of
        a CDN), segments known under others (EXT-X-MEDIA-SEQUENCE is missing, or was reset), or
        unknown ones (lost before; tokens in the paths; or an encoder that was restarted).
        """
        first = listed_first + self._shift
        if first > self._next and self._former is not None and self._is_former(playlist):
            return self._former[0]
        if first >= self._next:
            return self._shift if first - self._next <= MEMORY_SEGMENTS else None
        shifts: list[int] = []
        contradicted = False
        for segment in playlist.segments:
            identity = self._names.of(segment)
            known = self._identities.get(segment.sequence + self._shift)
            if known == identity:
                return self._shift
            contradicted = contradicted or known is not None
            numbers = self._numbers.get(identity, ())
            if len(numbers) == 1:  # one that came several times, like a slate, proves nothing
                shifts.append(numbers[0] - segment.sequence)
        if shifts:
            return shifts[0]  # the surest: behind the overlap old names may be used again
        were_lost = not contradicted and first >= next(iter(self._identities))
        return self._shift if first >= self._first or were_lost else None

    def _is_former(self, playlist: MediaPlaylist) -> bool:
        """Whether it is an older copy still: the end of what was before the last new beginning."""
        assert self._former is not None
        shift, following = self._former
        segments = playlist.segments
        return segments[-1].sequence + shift >= following - len(segments) and all(
            self._identities.get(segment.sequence + shift) == self._names.of(segment)
            for segment in segments
        )

    def _completed(
        self, new: tuple[Segment, ...], playlist: MediaPlaylist, first: int
    ) -> tuple[Segment, ...]:
        """Give the segments of a delta update what was said before them (6.2.5.1).

        The tags of the segments left out are left out as well: a map and a key still hold from the
        last segment handed out, and its Discontinuity Sequence Number is counted on.
        """
        last = self._last
        if last is None or not new:
            return new
        before = self._next - 1 - first  # where the last one handed out is listed, if it is
        listed = (
            playlist.segments[before].discontinuity_sequence
            if before >= 0
            else new[0].discontinuity_sequence - new[0].discontinuity
        )
        uncounted = last.discontinuity_sequence - listed
        return tuple(
            replace(
                segment,
                discontinuity_sequence=segment.discontinuity_sequence + uncounted,
                init_section=segment.init_section or last.init_section,
                key=segment.key or last.key,
            )
            for segment in new
        )

    def _remember(self, segments: Sequence[Segment]) -> None:
        """Note segments as seen: never again new, and known by their addresses for a while."""
        if not segments:
            return
        self._last = segments[-1]
        self._next = self._last.sequence + self._shift + 1
        for segment in segments[-MEMORY_SEGMENTS:]:
            number = segment.sequence + self._shift
            name = self._identities[number] = self._names.of(segment)
            self._numbers.setdefault(name, []).append(number)
        while len(self._identities) > MEMORY_SEGMENTS:
            identity = self._identities.pop(next(iter(self._identities)))
            self._numbers[identity].pop(0)  # both are in the order in which they were seen
            if not self._numbers[identity]:
                del self._numbers[identity]


def _is_sliding(playlist: MediaPlaylist) -> bool:
    """Whether segments leave it at the front: live, and no EVENT (4.4.3.5)."""
    return playlist.live and playlist.playlist_type is None


def _run_up(segments: Sequence[Segment]) -> int:
    """Return how many of the segments before the last one it goes on from."""
    count = 0
    for before, segment in reversed(list(pairwise(segments))):
        apart = segment.discontinuity_sequence != before.discontinuity_sequence
        if apart or segment.discontinuity or segment.gap or before.gap:
            break
        count += 1
    return count
