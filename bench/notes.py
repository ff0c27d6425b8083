"""What is said in words in the report: a paragraph for each question on what bounds it now.

Figures do not belong here: they come from the results.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["HOW", "NOTES"]

HOW = (
    "Ratios are of medians within one run, in which the contenders take turns; where the ffmpeg "
    "pipe is the other side, it is the better of its two command lines. Origin, contender and "
    "clients share the machine; only the contender's processes are counted."
)
NOTES: Mapping[str, str] = {
    "ttff": (
        "The limit is a bare client that makes the same requests one after the other, until the "
        "first picture and the first audio frame have arrived; nobody can be before it. remuxd "
        "needs no byte more than that of a transport stream whose PMT tells all codecs: the "
        "fragment leaves with the chunk that holds its first audio frame. What is left on top is "
        "our own work between the requests (checking addresses, parsing playlists, a worker "
        "thread), and the piece in which the network brings the end of what is needed."
    ),
    "memory": (
        "The whole process tree counts: per stream is (tree - idle tree) / n, and tree / n is what "
        "a machine has to have. Origin-paced, a stream holds what libavformat, its thread and one "
        "batch of bytes take; of that, a buffer of libavformat for the largest picture and another "
        "of its parser are not ours to choose. Client-paced, a fragment waits in the hands of the "
        "server and the next one behind it, and a batch of what was read before them; nothing is "
        "fetched or made ahead. uvicorn copies what it is given, and the kernel's queue, which an "
        "ASGI application cannot keep short, lets all streams run at once for a while at their "
        "start: the heap has been larger, and does not give all of that back."
    ),
    "cpu": (
        "The figure is that of the whole work: from before the first request until all streams "
        "have ended, everything that was started for them included, per megabyte delivered. A "
        "process for each stream costs most at its start, so the ratio depends on how long a "
        "stream is watched: what it costs once all are under way stands beside it, and from that "
        "and the start what streams of other lengths cost. Raw pass-through is what receiving and "
        "sending alone cost in the same kind of server. What remuxd costs beyond is told step by "
        "step below (where the CPU goes): nearly all of it is Python's and PyAV's work for each "
        "packet, twice as dear among fifty streams as alone, since each batch finds the caches "
        "cold and worker and event loop hand one interpreter to each other. Larger batches help, "
        "and cost memory; what would help much is a demuxer that hands out packets by the batch, "
        "or an interpreter without the lock."
    ),
    "throughput": (
        "Nothing waits here, and nothing overlaps but what leaves the interpreter: the total is "
        "nearly the sum of what event loop and worker take. Alone, the remux is faster than the "
        "pipe; half of it is libavformat and the search for NAL units, which no change of ours in "
        "Python makes shorter. Eight streams are bound by the same lock; `server.workers` lifts it."
    ),
    "scale": (
        "The origin and the clients run on the same cores, so raw pass-through shows what the rig "
        "carries. A stream is carried as long as no client is two seconds behind its own time."
    ),
    "upstream": (
        "One GET for each segment, and none from a variant that nobody plays. The ffmpeg pipe "
        "reads all variants of a multivariant playlist while it probes, and maps one of them."
    ),
    "steps": (
        "Alone, the steps add up: demuxing (libavformat, PyAV's packet objects, our fences), then "
        "the codec paths (NAL units, ADTS headers), then times and fragments. In the server the "
        "same work is done in batches, between others'."
    ),
}
