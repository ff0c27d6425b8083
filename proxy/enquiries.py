"""What may be asked about streams: all of them, one, its events; and that one be stopped.

Whoever holds the id of a stream may read it.  The list, and stopping one, are the operator's: they
need its token, and where none is configured they are not there.  Runs on the event loop.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from proxy import answers
from proxy.errors import NotFound, Overloaded, Unauthorized
from proxy.feed import Feed
from proxy.guard import bearer
from proxy.message import Request, Response
from proxy.metrics import Metrics
from proxy.register import Register

__all__ = ["Enquiries"]

FEEDS = 200  # clients that watch a stream, at a time and for each process: a socket and a task each

_ONE_STREAM = re.compile(r"/streams/([0-9a-f]{32})(/events)?")


class Enquiries:
    """Answers them out of the register.

    Args:
        register: of the streams.
        metrics: told of whom a token was refused.
        operator_token: empty: nobody is the operator.
    """

    def __init__(self, register: Register, metrics: Metrics, *, operator_token: str) -> None:
        self._register = register
        self._metrics = metrics
        self._operator_token = operator_token
        self.watchers = 0

    @staticmethod
    def about(path: str) -> tuple[str, bool] | None:
        """Return the id of the stream that a path is about, and whether it is that of its events;
        `None`: it is another path."""
        match = _ONE_STREAM.fullmatch(path)
        return match and (match[1], match[2] is not None)

    async def everything(self, request: Request, _stream_id: str) -> Response:
        """Answer with the state of every stream, to the operator."""
        self._check_operator(request)
        return answers.as_json({"streams": self._register.all()})

    async def one(self, request: Request, stream_id: str) -> Response:
        """Answer with the state of a stream; stop it, for the operator."""
        if request.method == "DELETE":
            self._check_operator(request)
            if not await self._register.stop(stream_id):
                raise NotFound
            return Response(status=HTTPStatus.NO_CONTENT, headers=())
        return answers.as_json(self._state(stream_id))

    async def events(self, _request: Request, stream_id: str) -> Response:
        """Answer with what becomes of a stream, until it ends."""
        state = self._state(stream_id)
        if self.watchers >= FEEDS:
            raise Overloaded(f"{FEEDS} clients watch streams")
        self.watchers += 1
        headers = (
            ("Content-Type", "text/event-stream"),
            ("X-Accel-Buffering", "no"),  # nginx would wait for more
        )
        feed = Feed(stream_id, state, self._register, on_close=self._feed_closed)
        return Response(status=HTTPStatus.OK, headers=headers, body=feed)

    def _feed_closed(self) -> None:
        self.watchers -= 1

    def _state(self, stream_id: str) -> dict[str, Any]:
        state = self._register.find(stream_id)
        if state is None:
            raise NotFound
        return state

    def _check_operator(self, request: Request) -> None:
        if not self._operator_token:
            raise NotFound
        try:
            bearer.check(self._operator_token, request.header("authorization"))
        except Unauthorized:
            self._metrics.refused("operator_token")
            raise
