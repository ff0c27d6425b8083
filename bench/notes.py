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
        "first picture and the first audio frame have arrived; nobody can be before it. What comes "
        "on top is what the origin's rate takes to send what the media library wants to have read "
        "before it names the tracks, and the start of a worker."
    ),
    "memory": (
        "The whole process tree counts: per stream is (tree - idle tree) / n, and tree / n is what "
        "a machine has to have. Origin-paced, a stream holds what its demuxer and its muxer hold; "
        "client-paced, its buffers are full too, and their sum is bounded by one budget."
    ),
    "cpu": (
        "The figure is that of the whole work: from before the first request until all streams "
        "have ended, everything that was started for them included, per megabyte delivered. A "
        "process for each stream costs most at its start, so the ratio depends on how long a "
        "stream is watched: what it costs once all are under way stands beside it, and from that "
        "and the start what streams of other lengths cost. The ffmpeg pipe is C with a copy "
        "through an OS pipe; raw pass-through is what receiving and sending alone cost in the same "
        "kind of server. The difference between it and remuxd is the remux itself and the way of "
        "the bytes between event loop and worker thread."
    ),
    "throughput": (
        "Nothing waits here: what bounds a lone stream is how well fetching, remuxing and sending "
        "overlap, and eight of them are bound by what one interpreter can do at a time."
    ),
    "scale": (
        "The origin and the clients run on the same cores, so raw pass-through shows what the rig "
        "carries. A stream is carried as long as no client is two seconds behind its own time."
    ),
    "upstream": (
        "One GET for each segment, and none from a variant that nobody plays. The ffmpeg pipe "
        "reads all variants of a multivariant playlist while it probes, and maps one of them."
    ),
}
