"""Numbers beside an address: width, height, bits per second, in the many ways they are written."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Facts", "facts_of", "grade_of", "height_in", "number"]

LARGEST = 10**10  # 10 Gbit/s; what is more is no bandwidth
_LEAST_BITS = 30_000  # a lesser bit rate is in kbit/s: nobody makes pictures of 30 kbit/s
_BANDWIDTHS = (
    "bandwidth",
    "bitrate",
    "bit_rate",
    "bitRate",
    "averageBitrate",
    "tbr",
    "peakBitrate",
)
_LABELS = ("quality", "label", "resolution", "format", "name", "profile", "definition", "res")
_SIZE = re.compile(r"\b([1-9]\d{1,4})[x\u00d7]([1-9]\d{1,4})\b", re.ASCII)
_LINES = re.compile(r"(?<![0-9a-z])([1-9]\d{2,3})p", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    width: int | None = None
    height: int | None = None
    bandwidth: int | None = None  # bits per second

    def or_else(self, other: Facts) -> Facts:
        """These, and for what is not known the other ones."""
        return Facts(
            width=self.width or other.width,
            height=self.height or other.height,
            bandwidth=self.bandwidth or other.bandwidth,
        )


def number(value: Any) -> int | None:
    """Return a positive whole number out of a number or a text that begins with one."""
    if isinstance(value, str):
        match = re.match(r"\s*(\d{1,12})(\.\d+)?", value[:40], re.ASCII)
        value = int(match[1]) if match else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return int(value) if 0 < value < LARGEST and int(value) else None


def facts_of(values: Mapping[str, Any]) -> Facts:
    """Return what the members of an object say of the media it describes."""
    width, height = number(values.get("width")), number(values.get("height"))
    bandwidth = next((n for key in _BANDWIDTHS if (n := number(values.get(key)))), None)
    if bandwidth is not None and bandwidth < _LEAST_BITS:
        bandwidth *= 1000
    if height is None:
        for key in _LABELS:
            label = values.get(key)
            if not isinstance(label, str) or len(label) > 40:
                continue
            if size := _SIZE.search(label):
                width, height = int(size[1]), int(size[2])
            else:
                height = height_in(label)
            if height:
                break
    return Facts(width=width, height=height, bandwidth=bandwidth)


def height_in(text: str) -> int | None:
    """Return 720 for `V_720P` and the like."""
    match = _LINES.search(text[-40:])
    return int(match[1]) if match else None


def grade_of(key: str) -> int:
    """Return how good a key says that its address is: V_HLSV4 more than V_HLSV3_MOBILE."""
    words = key[-40:].lower()
    version = re.search(r"v(\d)(?!\d)", words, re.ASCII)
    grade = 2 * int(version[1]) if version else 0
    grade += 10 * bool(re.search(r"(^|[_-])(best|high|hd|master|original)([_-]|$)", words))
    return grade - 10 * bool(re.search(r"mobile|low|small|preview", words))
