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
        "our own work between the requests (of the event loop's time, by py-spy: half for the "
        "three GETs and what checks them, a tenth for parsing playlists, the rest for planning, "
        "the worker's thread and our own answer; as seen on the wire, a quarter of it lies before "
        "the first request, two fifths between a playlist and the next request, a quarter between "
        "the last byte needed and our first one, the rest in the client), and the piece in which "
        "the network brings the end of what is needed. Against the pipe, from a multivariant "
        "playlist, this leaves next to nothing: the limit is next to the bound, by how fast the "
        "pipe's probing was, and raw pass-through, which looks at no packet, lies between the two."
    ),
    "memory": (
        "The whole process tree counts: per stream is (tree - idle tree) / n, and tree / n is what "
        "a machine has to have. Origin-paced, a stream holds a batch of bytes, the fragment that "
        "it is made into, and its thread. Client-paced, a fragment waits in the hands of the "
        "server and a batch of what was read behind it; nothing is fetched or made ahead. The "
        "holes that fragments leave in the heap are given back every two seconds; what comes "
        "between is in here. Larger batches cost less CPU and more of this: their size is the "
        "balance between the two bounds. A source that libavformat has to take apart holds about "
        "1 MB more, of which two buffers for the largest picture are not ours to choose."
    ),
    "cpu": (
        "The figure is that of the whole work: from before the first request until all streams "
        "have ended, everything that was started for them included, per megabyte delivered. A "
        "process for each stream costs most at its start, so the ratio depends on how long a "
        "stream is watched: what it costs once all are under way stands beside it, and from that "
        "and the start what streams of other lengths cost. Raw pass-through is what receiving and "
        "sending alone cost in the same kind of server, piece by piece as the network brings them. "
        "What remuxd costs beyond is told step by step below (where the CPU goes): most of it is "
        "the event loop's own work for each batch, dearer among fifty streams than alone, since "
        "each batch finds the caches cold and worker and event loop hand one interpreter to each "
        "other."
    ),
    "throughput": (
        "Nothing waits here: the total is what event loop and worker take, one interpreter for "
        "both. Receiving and sending are most of it, as for raw pass-through; the remux is a "
        "fifth, and the rest is what the event loop does in Python for each batch, each "
        "fragment and each GET. Without the lock the remux was no faster: the lock then changed "
        "hands four times as often. Eight streams are bound by the same lock, where each stream "
        "of the pipe has a process of its own; `server.workers` lifts it. What raw pass-through "
        "takes differs by a factor of two, even within a run: the C library gives the memory of "
        "each chunk back to the system and takes it again, page by page, or does not, as the "
        "heap happens to lie. It is asked for as a server has it, which the bound is about, and "
        "with a heap that is kept, as remuxd's is: that is the limit. Those whom no figure is "
        "promised about have turns of their own behind the others: some take seconds, in which "
        "caches go cold."
    ),
    "scale": (
        "The origin and the clients run on the same cores; raw pass-through, where it was asked, "
        "shows what the rig carries. A stream is carried as long as no client is two seconds "
        "behind its own time. "
        "remuxd has the memory for as many here; by default it refuses more than 256."
    ),
    "upstream": (
        "One GET for each segment, and none from a variant that nobody plays. The ffmpeg pipe "
        "reads all variants of a multivariant playlist while it probes, and maps one of them."
    ),
    "steps": (
        "Alone, a plain transport stream goes through our own demuxer, and its samples, once they "
        "are steady, from there into fragments without a Python object each: no more than the "
        "demuxer costs when it makes packets. What libavformat has to take apart costs several "
        "times as much: it, PyAV's packet objects, the codec paths, times and fragments, packet by "
        "packet. In the server the same work is done in batches, between others'."
    ),
}
