# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: cdivision=True
"""The steady middle of a stream, compiled: from samples to fragments without a Python object each.

A stream that has begun, and of which nothing special is asked, is nearly all like this: every sample
follows the one before it as `TrackTimeline.fill` expects, and goes where `Fragmenter.add` puts it.
A `Flow` takes over their state (`steady_state`), does the same for as long as that holds, and gives
it back (`leave`) in front of the first sample that needs a closer look.  What it does is theirs:
tests/media/test_flow.py holds it against them, to the byte.

Rules of this file:
1. It decides nothing: where `fill` would go on into `_fill`, it stops.
2. A sample is taken as a whole, or not at all.

Runs on the worker thread.  Specification: ISO/IEC 14496-12 section 8.8.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from libc.string cimport memcpy, memmove

from proxy.media.fragment import Fragment

ctypedef unsigned char byte

cdef enum:
    HOLE_FRAMES = 4  # as in `timeline`
    LONGEST_DELAY_FRAMES = 17  # as there
    KEPT = 64 * 1024  # bytes of a buffer whose samples have left
    SYNC_FLAGS = 0x02000000  # as in `boxes`
    DEPENDENT_FLAGS = 0x01010000

cdef long long MODULUS = 1LL << 33  # ISO/IEC 13818-1 section 2.4.3.6
# Decode times that have run away from presentation, over many steps back, are left to `Lane`, which
# knows when that is too much for the field that says it (2**31).
cdef long long FARTHEST = 1LL << 30
cdef size_t MOST_BYTES = 1 << 30  # of a sample, far below what its field can say


cdef inline byte *put(byte *out, unsigned int number) noexcept:
    out[0], out[1] = number >> 24, number >> 16 & 255
    out[2], out[3] = number >> 8 & 255, number & 255
    return out + 4


cdef inline byte *put_long(byte *out, unsigned long long number) noexcept:
    return put(put(out, number >> 32), number & 0xFFFFFFFF)


cdef inline byte *put_box(byte *out, unsigned int size, const char *kind) noexcept:
    out = put(out, size)
    memcpy(out, kind, 4)
    return out + 4


cdef long long near(long long value, long long reference) noexcept:
    """Return the number that equals `value` modulo 2**33 and lies nearest to `reference`."""
    while 2 * (value - reference) <= -MODULUS:
        value += MODULUS
    while 2 * (value - reference) >= MODULUS:
        value -= MODULUS
    return value


cdef class Flow:
    """Takes samples of all tracks in the middle of a stream.

    Args:
        fragmenter: where they would go; past its short first fragments.
        lanes: of its tracks, in its order; nothing of theirs waits.
        target_s: seconds of media per fragment.
        most_bytes: of samples per fragment.
    """

    def __cinit__(self, fragmenter, list lanes, *, double target_s, size_t most_bytes):
        cdef Track *track
        self._fragmenter, self._lanes, self._done = fragmenter, lanes, []
        self.target_s, self.most_bytes = target_s, most_bytes
        if not 1 <= len(lanes) <= 2:
            raise ValueError("a flow has one track or two")
        self.count = len(lanes)
        self.sequence, pending, self.leader = fragmenter.steady_state()
        self.video = self.audio = -1
        for index, (lane, (track_id, timescale, video, samples)) in enumerate(zip(lanes, pending)):
            track = &self.tracks[index]
            if video:
                self.video = index
            else:
                self.audio = index
            track.track_id, track.timescale, track.video = track_id, timescale, video
            (
                track.filled, track.anchor, track.since_anchor, track.frame,
                track.frame_denominator, track.last_step, track.longest_delay,
                track.reserve, track.shift, track.placed, track.shown, track.jump_ahead,
            ) = lane.steady_state()
            for dts, offset, size, sync, parts in samples:
                data = b"".join(parts)
                if len(data) != size:
                    raise ValueError("a sample of another size than it says")
                memcpy(
                    self._append(track, dts, offset, sync, size), PyBytes_AS_STRING(data), size
                )
        self.active = True

    def __dealloc__(self):
        for index in range(2):
            PyMem_RawFree(self.tracks[index].samples)
            PyMem_RawFree(self.tracks[index].data)

    cdef byte *take(
        self, int index, long long pts, long long dts, bint sync, size_t size
    ) except? NULL:
        """Take a sample, and return where its bytes are to be written; NULL: it has to be looked
        into, and so has all that follows it.  A time that is not stated is negative."""
        cdef Track *track
        cdef long long shown
        if index < 0 or not self.active or not size or size > MOST_BYTES:
            self.active = False
            return NULL
        track = &self.tracks[index]
        if track.placed - track.shown > FARTHEST or not self._time(track, &pts, &dts):
            self.active = False
            return NULL
        # As `TrackTimeline.place`.
        dts = dts - track.reserve + track.shift
        pts += track.shift
        if dts > pts:
            dts = pts
        if dts <= track.placed:
            dts = track.placed + 1
        track.placed = dts
        shown = pts + self._frame_ticks(track)
        if shown > track.shown:
            track.shown = shown
        track.copied += 1
        self.taken += 1
        if track.count and self._is_full(track, index, dts, sync):
            self._cut(index, dts)
        return self._append(track, dts, pts - dts, sync, size)

    cdef bint _time(self, Track *track, long long *pts, long long *dts) noexcept:
        """As `TrackTimeline.fill` where nothing is to be found out; False: something is."""
        cdef long long step, delay, ahead
        if not track.video:
            if pts[0] < 0:
                if dts[0] >= 0:
                    return False
                pts[0] = dts[0] = track.anchor + self._lasting(track, track.since_anchor)
                track.since_anchor += 1
            else:
                pts[0] = near(pts[0], track.filled)
                if dts[0] >= 0 and near(dts[0], track.filled) != pts[0]:
                    return False
                if not 0 < pts[0] - track.filled <= track.jump_ahead:
                    return False
                dts[0] = track.anchor = pts[0]
                track.since_anchor = 1
            track.filled = dts[0]
            return True
        if pts[0] < 0 or dts[0] < 0:
            return False
        pts[0], dts[0] = near(pts[0], track.filled), near(dts[0], track.filled)
        step, delay = dts[0] - track.filled, pts[0] - dts[0]
        if not 0 < step <= track.jump_ahead:
            return False
        if not 0 <= delay <= track.longest_delay:
            return False
        if delay == 0 and track.longest_delay:
            # Perhaps no decode time is stated: as `TrackTimeline._is_undecided`.
            ahead = dts[0] - track.anchor - self._lasting(track, track.since_anchor)
            if (
                0 < ahead <= track.longest_delay
                and ahead * track.frame_denominator <= LONGEST_DELAY_FRAMES * track.frame
            ):
                return False
        if step * track.frame_denominator != track.frame:
            if (
                step * track.frame_denominator > HOLE_FRAMES * track.frame
                and step != track.last_step
            ):
                return False  # perhaps a hole
            track.frame, track.frame_denominator = step, 1
            track.last_step = step
        track.filled = track.anchor = dts[0]
        track.since_anchor = 1
        return True

    cdef long long _lasting(self, Track *track, long long packets) noexcept:
        """As `TrackTimeline._lasting`."""
        cdef long long ticks = packets * track.frame
        cdef long long whole = ticks // track.frame_denominator
        cdef long long twice = 2 * (ticks % track.frame_denominator) - track.frame_denominator
        return whole + (1 if twice > 0 or (twice == 0 and whole % 2 == 1) else 0)

    cdef long long _frame_ticks(self, Track *track) noexcept:
        cdef long long ticks = self._lasting(track, 1)
        return ticks if ticks > 1 else 1

    # -- fragments ---------------------------------------------------------------------------------

    cdef bint _is_full(self, Track *track, int index, long long dts, bint sync) noexcept:
        """As `Fragmenter.add` and `_is_full` tell it."""
        cdef long long lasting = dts - track.samples[0].dts
        cdef long long target = <long long>(self.target_s * track.timescale + 0.5)
        if index == self.leader:
            if track.video and sync:
                return True
            return lasting >= target or self.bytes >= self.most_bytes
        return lasting >= 2 * target + track.timescale // 2 or self.bytes >= 2 * self.most_bytes

    cdef byte *_append(
        self, Track *track, long long dts, int offset, bint sync, size_t size
    ) except NULL:
        cdef Sample *samples
        cdef byte *data
        cdef size_t room = track.room or KEPT
        if track.count == track.capacity:
            samples = <Sample *>PyMem_RawRealloc(
                track.samples, (track.capacity * 2 or 32) * sizeof(Sample)
            )
            if samples == NULL:
                raise MemoryError
            track.samples, track.capacity = samples, track.capacity * 2 or 32
        while room < track.size + size:
            room *= 2
        if room != track.room:
            data = <byte *>PyMem_RawRealloc(track.data, room)
            if data == NULL:
                raise MemoryError
            track.data, track.room = data, room
        samples = &track.samples[track.count]
        samples.dts, samples.offset, samples.size, samples.sync = dts, offset, size, sync
        track.count += 1
        track.size += size
        self.bytes += size
        return track.data + track.size - size

    cdef int _cut(self, int arriving, long long dts) except -1:
        """As `Fragmenter._cut`: what is complete becomes a fragment; of a track to which no sample
        arrives, the last one waits for its successor."""
        cdef Track *track
        cdef size_t taken[2]
        cdef size_t payload[2]
        cdef size_t size = 8 + 16, held, index, i
        cdef long long lasting = 0, following
        cdef bint key = False
        cdef bytes fragment
        cdef byte *out
        cdef byte *data
        for index in range(self.count):
            track = &self.tracks[index]
            taken[index] = track.count - (0 if <int>index == arriving or not track.count else 1)
            payload[index] = track.size
            if taken[index] < track.count:
                payload[index] -= track.samples[track.count - 1].size
            if taken[index]:
                size += 8 + 20 + 20 + 20 + taken[index] * (16 if track.video else 8)
        held = size + 8
        for index in range(self.count):
            held += payload[index]
        fragment = PyBytes_FromStringAndSize(NULL, held)
        out = <byte *>PyBytes_AS_STRING(fragment)
        self.sequence += 1
        out = put_box(out, size, b"moof")
        out = put(put(put_box(out, 16, b"mfhd"), 0), self.sequence & 0xFFFFFFFF)
        held = size + 8
        for index in range(self.count):
            track = &self.tracks[index]
            if not taken[index]:
                continue
            following = dts if <int>index == arriving else track.samples[track.count - 1].dts
            out = self._write_run(track, taken[index], following, held, out)
            if <int>index == self.leader:
                lasting = following - track.samples[0].dts
                key = not track.video or track.samples[0].sync
            held += payload[index]
        out = put_box(out, held - size, b"mdat")
        self.bytes = 0
        for index in range(self.count):
            track = &self.tracks[index]
            memcpy(out, track.data, payload[index])
            out += payload[index]
            track.size -= payload[index]
            memmove(track.data, track.data + payload[index], track.size)
            for i in range(taken[index], track.count):
                track.samples[i - taken[index]] = track.samples[i]
            track.count -= taken[index]
            self.bytes += track.size
            if track.room > KEPT and track.size <= KEPT:
                # It may be long until the client has taken this, and the next one is begun.
                data = <byte *>PyMem_RawRealloc(track.data, KEPT)
                if data != NULL:
                    track.data, track.room = data, KEPT
        self._done.append(
            Fragment(
                data=fragment,
                sequence=self.sequence,
                duration_s=lasting / <double>self.tracks[self.leader].timescale,
                starts_with_keyframe=bool(key),
            )
        )
        return 0

    cdef byte *_write_run(
        self, Track *track, size_t count, long long following, unsigned int data_offset, byte *out
    ) noexcept:
        """Write the `traf` of the first samples of a track: see `boxes.movie_fragment`."""
        cdef size_t rows = count * (16 if track.video else 8), i
        cdef long long later
        cdef Sample *sample
        out = put_box(out, 8 + 20 + 20 + 20 + rows, b"traf")
        out = put(put_box(out, 20, b"tfhd"), 0x020020)
        out = put(put(out, track.track_id), DEPENDENT_FLAGS if track.video else SYNC_FLAGS)
        out = put(put_box(out, 20, b"tfdt"), 1 << 24)
        out = put_long(out, track.samples[0].dts)
        out = put(put_box(out, 20 + rows, b"trun"), 0x01000F01 if track.video else 0x01000301)
        out = put(put(out, count), data_offset)
        for i in range(count):
            sample = &track.samples[i]
            later = track.samples[i + 1].dts if i + 1 < count else following
            out = put(put(out, later - sample.dts), sample.size)
            if track.video:
                out = put(out, SYNC_FLAGS if sample.sync else DEPENDENT_FLAGS)
                out = put(out, sample.offset)
        return out

    # -- the Python side ---------------------------------------------------------------------------

    @property
    def took(self):
        """Whether it has taken anything since the last time it delivered."""
        return self.tracks[0].copied > 0 or self.tracks[1].copied > 0

    cpdef deliver(self):
        """Emit what is complete; may block."""
        for index in range(self.count):
            self._lanes[index].note_copied(self.tracks[index].copied)
            self.tracks[index].copied = 0
        while self._done:
            self._fragmenter.emit(self._done.pop(0))

    cpdef leave(self):
        """Give everything back; the flow is over."""
        cdef Track *track
        cdef size_t place
        self.active = False
        self.deliver()
        pending = []
        for index in range(self.count):
            track = &self.tracks[index]
            samples, place = [], 0
            for i in range(track.count):
                data = track.data[place : place + track.samples[i].size]
                samples.append(
                    (track.samples[i].dts, track.samples[i].offset, track.samples[i].size,
                     bool(track.samples[i].sync), (data,))
                )
                place += track.samples[i].size
            pending.append((samples, self._frame_ticks(track)))
            self._lanes[index].go_on(
                filled=track.filled, anchor=track.anchor, since_anchor=track.since_anchor,
                frame=track.frame, frame_denominator=track.frame_denominator,
                last_step=track.last_step, placed=track.placed, shown=track.shown,
            )
        self._fragmenter.go_on(self.sequence, pending)
