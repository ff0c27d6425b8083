"""A sink that does without what is unfit: `on_gap=skip` for what arrives and is no media.

A segment that the origin answers with a page, with nothing or with rubbish is as missing as one
that it refuses.  Runs on the event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable

from proxy.errors import (
    CorruptMedia,
    SourceNotFound,
    SourceTimeout,
    SourceTooLarge,
    SourceUnavailable,
)
from proxy.fetch.prefetch import Sink
from proxy.hls.model import Segment

__all__ = ["ForgivingSink"]

logger = logging.getLogger(__name__)

# What makes a segment count as missing: it is no media, or its init section cannot be had.  A
# refusal of ours never does, nor a key that cannot be had.
_UNFIT = (CorruptMedia, SourceNotFound, SourceUnavailable, SourceTimeout, SourceTooLarge)


class ForgivingSink:
    """A `Sink` in front of another: what that one cannot take, it is told to be `lost`."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._segment: Segment | None = None  # that is taken; None: what comes is dropped
        self._refused: Segment | None = None  # the last one of those

    async def begin(self, segment: Segment) -> None:
        self._segment = segment
        await self._attempt(segment, self._sink.begin(segment))

    async def write(self, chunk: bytes) -> None:
        if self._segment is not None:
            await self._attempt(self._segment, self._sink.write(chunk))

    async def end(self, segment: Segment) -> None:
        if self._segment is not None:
            await self._attempt(segment, self._sink.end(segment))

    async def lost(self, segment: Segment) -> None:
        if self._refused != segment:  # it was told when it was refused
            await self._sink.lost(segment)

    async def _attempt(self, segment: Segment, taking: Awaitable[None]) -> None:
        try:
            await taking
        except _UNFIT as error:
            logger.info("a segment is left out: %s", error)
            self._segment, self._refused = None, segment
            await self._sink.lost(segment)
