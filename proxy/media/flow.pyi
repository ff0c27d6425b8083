# What flow.pyx gives: see there.

from collections.abc import Sequence
from typing import final

from proxy.media.fragment import Fragmenter
from proxy.media.lane import Lane

@final
class Flow:
    def __init__(
        self, fragmenter: Fragmenter, lanes: Sequence[Lane], *, target_s: float, most_bytes: int
    ) -> None: ...
    @property
    def active(self) -> bool: ...
    @property
    def taken(self) -> int: ...
    @property
    def took(self) -> bool: ...
    def deliver(self) -> None: ...
    def leave(self) -> None: ...
