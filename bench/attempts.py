"""Asks the contenders, and lets none of them stop the others.

What goes wrong is noted with the case it went wrong in.  Who failed twice in a question is not
asked again there: a server that hangs costs minutes each time.
"""

from __future__ import annotations

import contextlib
import http.client
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack

from bench.contenders import Contender
from bench.processes import Serving, serving
from bench.results import Case, Result

__all__ = ["ERRORS", "Attempts"]

ERRORS = (OSError, RuntimeError, http.client.HTTPException)  # TimeoutError is an OSError
PATIENCE = 2


class Attempts:
    """The attempts of one question."""

    def __init__(self, result: Result) -> None:
        self.result = result
        self._failed: Counter[str] = Counter()

    def able(self, contender: Contender) -> bool:
        """Tell whether a contender is still asked."""
        return self._failed[contender.name] < PATIENCE

    @contextlib.contextmanager
    def of(self, contender: Contender, case: Case) -> Iterator[None]:
        """Note what goes wrong within the context, and go on behind it."""
        try:
            yield
        except ERRORS as error:
            self._failed[contender.name] += 1
            self.result.fail(contender.name, case, error)

    async def started(
        self, stack: AsyncExitStack, contenders: Sequence[Contender]
    ) -> list[Serving]:
        """Start contenders for as long as the stack is open; returns those that run."""
        running = []
        for contender in contenders:
            with self.of(contender, {"start": 1}):
                running.append(await stack.enter_async_context(serving(contender)))
        return running
