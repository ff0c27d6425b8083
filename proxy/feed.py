"""The state of one stream as server-sent events, until it ends (WHATWG HTML, section 9.2).

    event: state        at once, and then at most each second while something changes
    event: end          once, last: the state with which the stream has ended

A comment goes out when there was nothing else for a while, so that a client that is gone is noticed
and nothing on the way takes the connection for dead.

A `Feed` is a body as a `Delivery` is one: a face iterates it and awaits `aclose` in a `finally`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from proxy.register import Register

__all__ = ["Feed"]

PACE_S = 1.0
SILENCE_S = 15.0  # proxies give up after 30 s and more; section 9.2.7 recommends 15


class Feed:
    """Async iterator of the events of one stream.

    Args:
        stream: its id.
        state: what is known of it now.
        register: asked for the rest.
        on_close: called once, when the client has gone or all is told.
    """

    def __init__(
        self,
        stream: str,
        state: dict[str, Any],
        register: Register,
        *,
        on_close: Callable[[], None],
    ) -> None:
        self._stream = stream
        self._state = state
        self._register = register
        self._on_close: Callable[[], None] | None = on_close
        self._told: dict[str, Any] | None = None  # the last state that went out
        self._told_s = 0.0
        self._ended = False

    def __aiter__(self) -> Feed:
        return self

    async def __anext__(self) -> bytes:
        """Return the next event, or a comment."""
        if self._told is None:
            return self._event("state")
        if self._ended:
            raise StopAsyncIteration
        while True:
            if self._state["phase"] == "ended":
                self._ended = True
                return self._event("end")
            await self._register.change(self._stream, PACE_S)
            state = self._register.find(self._stream)
            if state is None:  # it has ended, and is forgotten: nothing more will be known
                raise StopAsyncIteration
            self._state = state
            if state["phase"] != "ended":
                if _but_time(state) != _but_time(self._told):
                    return self._event("state")
                if time.monotonic() - self._told_s >= SILENCE_S:
                    self._told_s = time.monotonic()
                    return b": still here\n\n"

    def give_up(self, outcome: str) -> None:
        """A face is about to end it; there is nothing to note."""

    async def aclose(self) -> None:
        """Give the place back; idempotent."""
        if self._on_close is not None:
            self._on_close()
            self._on_close = None

    def _event(self, name: str) -> bytes:
        self._told, self._told_s = self._state, time.monotonic()
        data = json.dumps(self._state, ensure_ascii=False, separators=(",", ":"))
        return f"event: {name}\ndata: {data}\n\n".encode()


def _but_time(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key != "elapsed_s"}
