cdef struct Sample:
    long long dts
    int offset
    unsigned int size
    bint sync


cdef struct Track:
    bint video
    int track_id
    long long timescale
    # Its timeline: see `timeline.TrackTimeline`.
    long long filled
    long long anchor
    long long since_anchor
    long long frame
    long long frame_denominator
    long long last_step
    long long longest_delay
    long long jump_ahead
    long long reserve
    long long shift
    long long placed
    long long shown
    long long copied
    # Its samples that have not left: see `fragment.Fragmenter`.
    Sample *samples
    size_t count
    size_t capacity
    unsigned char *data
    size_t size
    size_t room


cdef class Flow:
    cdef Track tracks[2]
    cdef int count
    cdef int leader
    cdef int video  # which track that is; -1: there is none
    cdef int audio
    cdef double target_s
    cdef size_t most_bytes
    cdef size_t bytes
    cdef long long sequence
    cdef readonly bint active
    cdef readonly long long taken  # samples, in all
    cdef object _fragmenter
    cdef list _lanes
    cdef list _done
    cdef unsigned char *take(
        self, int index, long long pts, long long dts, bint sync, size_t size
    ) except? NULL
    cdef long long _lasting(self, Track *track, long long packets) noexcept
    cdef long long _frame_ticks(self, Track *track) noexcept
    cdef unsigned char *_append(
        self, Track *track, long long dts, int offset, bint sync, size_t size
    ) except NULL
    cdef unsigned char *_write_run(
        self, Track *track, size_t count, long long following, unsigned int data_offset,
        unsigned char *out
    ) noexcept
    cdef bint _time(self, Track *track, long long *pts, long long *dts) noexcept
    cdef bint _is_full(self, Track *track, int index, long long dts, bint sync) noexcept
    cdef int _cut(self, int arriving, long long dts) except -1
    cpdef deliver(self)
    cpdef leave(self)
