"""The app without a face: what it hands to one, and the line it logs for each stream."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest

from proxy.app import App, Delivery, Request, Response, Settings
from proxy.delivery import Outcome
from proxy.errors import CorruptMedia, SourceTimeout, StreamAborted
from tests.support.pipelines import PARTS, ScriptedPipeline

QUERY = "url=http%3A%2F%2Forigin.invalid%2Fa.m3u8%3Ftoken%3Dsecret"


def request(path: str = "/stream", query_string: str = QUERY, method: str = "GET") -> Request:
    return Request(
        method=method, path=path, query_string=query_string, headers=(), peer="192.0.2.1"
    )


def delivery(response: Response) -> Delivery:
    assert isinstance(response.body, Delivery)
    return response.body


@pytest.fixture
def outcomes(caplog: pytest.LogCaptureFixture) -> Iterator[list[Outcome]]:
    """The outcomes logged in this test; filled while it runs."""
    found: list[Outcome] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert isinstance(record.args, tuple)
            outcome = record.args[0]
            assert isinstance(outcome, Outcome)
            found.append(outcome)

    caplog.set_level(logging.INFO, "proxy")
    logger, handler = logging.getLogger("proxy.delivery"), Keep()
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


async def test_outcome_of_a_stream_that_ran_for_too_long(outcomes: list[Outcome]) -> None:
    """It is cut for a reason with a code of its own."""
    app = App(ScriptedPipeline(endless=True), Settings(stream_s=0.001))
    body = delivery(await app.handle(request()))
    with pytest.raises(StreamAborted) as aborted:
        async for _ in body:
            pass
    await body.aclose()
    assert aborted.value.cause.code == outcomes[0].outcome == "stream_too_long"


async def test_outcome_of_a_complete_stream(outcomes: list[Outcome]) -> None:
    """One line: complete, all bytes, the time to the first; no query in it."""
    app = App(ScriptedPipeline())
    body = delivery(await app.handle(request()))
    assert b"".join([part async for part in body]) == b"".join(PARTS)
    await body.aclose()
    await body.aclose()
    (outcome,) = outcomes
    assert (outcome.outcome, outcome.status) == ("complete", 200)
    assert outcome.bytes == sum(map(len, PARTS))
    assert outcome.ttfb_s is not None
    assert outcome.elapsed_s >= outcome.ttfb_s
    assert (outcome.client, outcome.url) == ("192.0.2.1", "http://origin.invalid/a.m3u8")
    assert outcome.left_out == {"other_streams": 12}
    assert "left_out={'other_streams': 12}" in str(outcome)
    assert "secret" not in str(outcome)
    assert app.active == 0


async def test_outcome_names_the_trace(
    outcomes: list[Outcome], caplog: pytest.LogCaptureFixture
) -> None:
    """A valid traceparent stands in the log line, whatever became of the stream; else nothing."""
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    app = App(ScriptedPipeline(refuses=SourceTimeout("late")))
    for header in (f"00-{trace}-{span}-01", f"00-{trace}-{span}", None):
        headers = (("traceparent", header),) if header else ()
        await app.handle(replace(request(), headers=headers))
    assert (outcomes[0].trace_id, outcomes[0].span_id) == (trace, span)
    assert f"trace_id={trace} span_id={span}" in str(outcomes[0])
    fields = [vars(record)["fields"] for record in caplog.records]
    assert (fields[0]["trace_id"], fields[0]["span_id"]) == (trace, span)
    for outcome, told in zip(outcomes[1:], fields[1:], strict=True):
        assert "trace" not in str(outcome)
        assert not {"trace_id", "span_id"} & told.keys()


async def test_outcome_of_a_refused_stream(
    outcomes: list[Outcome], caplog: pytest.LogCaptureFixture
) -> None:
    """A failure before the first byte is one line with its code, status and reason."""
    app = App(ScriptedPipeline(refuses=SourceTimeout("no answer in 10 s")))
    response = await app.handle(request())
    assert response.status == 504
    (outcome,) = outcomes
    assert (outcome.outcome, outcome.status, outcome.bytes) == ("source_timeout", 504, 0)
    assert outcome.reason == "no answer in 10 s"
    assert outcome.ttfb_s is None
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.WARNING


async def test_outcome_of_a_broken_stream(outcomes: list[Outcome]) -> None:
    """A failure after the first byte keeps the status that was sent, and tells the code."""
    app = App(ScriptedPipeline(breaks=CorruptMedia("lost sync")))
    body = delivery(await app.handle(request()))
    with pytest.raises(StreamAborted):
        async for _ in body:
            pass
    await body.aclose()
    (outcome,) = outcomes
    assert (outcome.outcome, outcome.status) == ("corrupt_media", 200)
    assert outcome.bytes == sum(map(len, PARTS))


async def test_outcome_of_a_client_that_left(outcomes: list[Outcome]) -> None:
    """A stream that is closed before its end was left by its client: no failure."""
    body = delivery(await App(ScriptedPipeline()).handle(request()))
    assert await anext(body) == PARTS[0]
    await body.aclose()
    (outcome,) = outcomes
    assert (outcome.outcome, outcome.bytes) == ("client_gone", len(PARTS[0]))


async def test_outcome_of_a_client_that_left_early(outcomes: list[Outcome]) -> None:
    """A request cancelled while its stream is opened has status 0: nobody was answered."""
    pipeline = ScriptedPipeline(opening=asyncio.Event())
    app = App(pipeline)
    handling = asyncio.ensure_future(app.handle(request()))
    await pipeline.asked.wait()
    handling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handling
    (outcome,) = outcomes
    assert (outcome.outcome, outcome.status) == ("client_gone", 0)
    assert app.active == 0


async def test_aclose_goes_on_when_its_caller_is_cancelled() -> None:
    """A handler that is cancelled twice still closes its stream and frees its slot."""
    pipeline, gate = ScriptedPipeline(), asyncio.Event()
    app = App(pipeline)
    body = delivery(await app.handle(request()))
    stream = pipeline.streams[0]
    close = stream.aclose

    async def slowly() -> None:
        await gate.wait()
        await close()

    stream.aclose = slowly  # type: ignore[method-assign]
    closing = asyncio.ensure_future(body.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert app.active == 1
    gate.set()
    await asyncio.wait_for(app.idle(), 1)
    assert stream.closed.is_set()


async def test_head_is_logged_as_such(outcomes: list[Outcome]) -> None:
    """HEAD is no client that left."""
    response = await App(ScriptedPipeline()).handle(request(method="HEAD"))
    assert response.body == b""
    assert outcomes[0].outcome == "head"


async def test_log_line_reads_as_pairs(outcomes: list[Outcome]) -> None:
    """The line for people is `name=value`, reasons quoted."""
    app = App(ScriptedPipeline(refuses=SourceTimeout('say "when"\nforged')))
    await app.handle(request())
    line = str(outcomes[0])
    assert line.startswith("stream stream=")
    assert r'reason="say \"when\"\nforged"' in line
