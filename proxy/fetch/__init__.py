"""The outgoing network: one guarded HTTP client, and segments prefetched in order within a budget.

`client.py` GETs, `body.py` counts and paces what comes, `prefetch.py` keeps several segments in
flight.  Errors leave this room as `proxy.errors` only.
"""

from proxy.events import (
    FetchEvent,
    SegmentDone,
    SegmentFailed,
    SegmentRetried,
    SegmentStarted,
)
from proxy.fetch.body import Body
from proxy.fetch.client import Fetcher, Resource
from proxy.fetch.prefetch import Prefetcher, Sink
from proxy.fetch.settings import Settings

__all__ = [
    "Body",
    "FetchEvent",
    "Fetcher",
    "Prefetcher",
    "Resource",
    "SegmentDone",
    "SegmentFailed",
    "SegmentRetried",
    "SegmentStarted",
    "Settings",
    "Sink",
]
