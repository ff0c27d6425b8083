"""What is told to Prometheus: over both faces, in its grammar, and what is written about it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import runpy
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy import delivery
from proxy.app import App, Settings
from proxy.errors import CorruptMedia, Forbidden
from proxy.events import Ended
from proxy.fetch.client import Fetcher
from proxy.fetch.settings import Settings as FetchSettings
from proxy.guard import signing
from proxy.guard.addresses import AddressPolicy
from proxy.metrics import CELLS, FAMILIES, HELD, RULES, Metrics
from proxy.pipeline import Pipeline
from proxy.state.sums import SharedSums
from proxy.verdicts import VERDICTS
from tests.conftest import REPOSITORY
from tests.faces.test_streams import OPERATOR, TARGET, begin
from tests.support.client import TIMEOUT_S, Conversation, ask, stream_target
from tests.support.clips import make_clip, pieces
from tests.support.origin import Origin, Status
from tests.support.pipelines import PARTS, ScriptedPipeline
from tests.support.served import Serve, over_aiohttp, over_asgi, real_app
from tests.support.streams import publish

Figures = dict[tuple[str, ...], float]  # name and the values of its labels


@pytest.fixture(params=[over_aiohttp, over_asgi], ids=["aiohttp", "asgi"])
def serve(request: pytest.FixtureRequest) -> Serve:
    face: Serve = request.param
    return face


def read(text: str) -> Figures:
    """Read the text with the library's own parser."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scrape(address: str) -> Figures:
    reply = await ask(address, "/metrics")
    assert reply.status == 200
    assert (reply.header("content-type") or "").startswith("text/plain; version=0.0.4")
    return read(reply.body.decode())


async def test_figures_of_real_streams(serve: Serve) -> None:
    """Segments, bytes, the first fragment and the end of each stream are counted."""
    clip = make_clip(seconds=3)
    sizes = [len(piece.data) for piece in pieces(clip, 1.0)]
    async with Origin() as origin, real_app() as app, serve(app) as address:
        url = publish(origin, clip)
        origin.fault("/1.ts", Status(503), times=1)
        whole = await ask(address, stream_target(url))
        origin.fault("/1.ts", Status(404), times=9)
        holed = await ask(address, stream_target(url, on_gap="skip"))
        await asyncio.wait_for(app.idle(), TIMEOUT_S)
        found = await scrape(address)
    assert found["remuxd_streams_total", "", "complete"] == 2
    assert found["remuxd_segments_fetched_total",] == 5
    assert found["remuxd_segments_retried_total",] >= 1
    assert found["remuxd_segments_skipped_total",] == 1
    assert found["remuxd_received_bytes_total",] == 2 * sum(sizes) - sizes[1]
    assert found["remuxd_sent_bytes_total",] == len(whole.body) + len(holed.body)
    assert found["remuxd_time_to_first_fragment_seconds_count",] == 2
    assert found["remuxd_time_to_first_fragment_seconds_bucket", "+Inf"] == 2
    assert 0 < found["remuxd_time_to_first_fragment_seconds_sum",] < 2 * TIMEOUT_S


async def test_figures_of_a_running_stream(serve: Serve) -> None:
    """What streams hold and have sent is told while they run, and is gone with them."""
    gate = asyncio.Event()
    app = App(ScriptedPipeline(stall=gate), metrics=Metrics(budget_bytes=64_000_000))
    async with serve(app) as address:
        async with await Conversation.open(address) as conversation:
            await begin(conversation)
            running = await scrape(address)
            gate.set()
        await asyncio.wait_for(app.idle(), TIMEOUT_S)
        after = await scrape(address)
    assert running["remuxd_streams_active", "streaming"] == 1
    assert running["remuxd_ring_bytes",] == 300
    assert running["remuxd_ring_capacity_bytes",] == 1000
    assert running["remuxd_memory_used_bytes",] == 1000
    assert running["remuxd_memory_budget_bytes",] == 64_000_000
    assert running["remuxd_sent_bytes_total",] >= len(PARTS[0])
    assert after["remuxd_sent_bytes_total",] == sum(map(len, PARTS))
    for name in ("remuxd_ring_bytes", "remuxd_ring_capacity_bytes", "remuxd_memory_used_bytes"):
        assert after[name,] == 0
    assert after["remuxd_streams_active", "streaming"] == 0


async def test_figures_of_what_failed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused and aborted streams by their code, guard refusals by rule, stalls."""
    monkeypatch.setattr(delivery, "CLIENT_STALL_S", 0.0)
    monkeypatch.setattr(delivery, "ORIGIN_STALL_S", 0.0)
    pipeline = ScriptedPipeline(breaks=CorruptMedia("broken"))
    settings = Settings(
        signing=signing.Settings(keys={"k": "s" * 32}), operator_token="an-operators-tokem"
    )
    app = App(pipeline, settings)
    async with serve(app) as address:
        await ask(address, TARGET)
        pipeline.refuses = Forbidden("no", rule="address")
        await ask(address, TARGET)
        await ask(address, f"{TARGET}&signature=x")
        await ask(address, "/streams", headers=OPERATOR)
        await asyncio.wait_for(app.idle(), TIMEOUT_S)
        found = await scrape(address)
    assert found["remuxd_streams_total", "corrupt_media", "aborted"] == 1
    assert found["remuxd_streams_total", "forbidden", "refused"] == 2
    for rule in ("address", "signature", "operator_token"):
        assert found["remuxd_guard_refusals_total", rule] == 1
    assert found["remuxd_client_stalls_total",] > 0
    assert found["remuxd_origin_stalls_total",] > 0


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://other.invalid/a", "host"),
        ("http://127.0.0.1:1/a", "port"),
        ("http://127.0.0.1/a", "address"),
    ],
)
async def test_refusals_name_the_rule(url: str, rule: str) -> None:
    """The guard's word reaches the figures, by whichever way it was refused."""
    policy = AddressPolicy(allowed_hosts=("127.0.0.1",), allowed_ports=(80,))
    async with Fetcher(FetchSettings(policy=policy)) as fetcher, Pipeline(fetcher) as pipeline:
        async with over_aiohttp(App(pipeline)) as address:
            assert (await ask(address, stream_target(url))).status == 403
            found = await scrape(address)
    assert {r: found["remuxd_guard_refusals_total", r] for r in RULES if r != rule} == {
        r: 0 for r in RULES if r != rule
    }
    assert found["remuxd_guard_refusals_total", rule] == 1


@pytest.mark.parametrize("code", sorted(VERDICTS))
def test_every_outcome_has_a_figure(code: str) -> None:
    """Whatever a stream ends in is counted, once."""
    metrics = Metrics()
    metrics.note(Ended(outcome=code, status=200, elapsed_s=1.0))
    found = read(metrics.text()[1].decode())
    ended = [labels for labels, value in found.items() if "streams_total" in labels[0] and value]
    assert len(ended) == 1
    assert code in ended[0]


def test_shared_sums_keep_what_was_counted() -> None:
    """A forgotten process holds nothing, and its row goes on counting for the next one."""
    sums = SharedSums(CELLS, 2, held=HELD)
    first, second = sums.own(), sums.own()
    first[0], first[HELD], second[HELD] = 1.0, 5.0, 7.0
    assert (sums.totals()[0], sums.totals()[HELD]) == (1.0, 12.0)
    sums.forget(os.getpid())
    assert (sums.totals()[0], sums.totals()[HELD]) == (0.0, 12.0)
    third = sums.own()
    third[HELD] += 1
    assert sums.totals()[HELD] == 13.0
    del first, second, third


# -- what is written about them --------------------------------------------------------------------


def test_names_are_those_of_prometheus() -> None:
    """Base units, one prefix, help for each; and the text tells exactly the families there are."""
    found = {name for name, *_ in read(Metrics().text()[1].decode())}
    for family in FAMILIES:
        assert re.fullmatch(r"remuxd(_[a-z]+)+", family.name)
        assert family.help.endswith(".")
        suffixes = ("_bucket", "_count", "_sum") if family.kind == "histogram" else ("",)
        for suffix in suffixes:
            found.remove(family.exposed + suffix)
    assert not found


def test_document_is_what_the_code_says() -> None:
    """docs/metrics.md lists every metric, as made by docs/generate.py."""
    made = runpy.run_path(str(REPOSITORY / "docs" / "generate.py"))
    assert (REPOSITORY / "docs" / "metrics.md").read_text() == made["metrics_table"]()


def expressions(value: Any) -> Iterator[str]:
    """All queries of a dashboard."""
    if isinstance(value, dict):
        for key, one in value.items():
            if key in {"expr", "query"} and isinstance(one, str) and "(" in one:
                yield one
            else:
                yield from expressions(one)
    elif isinstance(value, list):
        for one in value:
            yield from expressions(one)


def test_dashboard_asks_for_what_there_is() -> None:
    """Every name in a query of deploy/grafana.json is one that is told, and each is asked for."""
    dashboard = json.loads((REPOSITORY / "deploy" / "grafana.json").read_text())
    asked = {name for query in expressions(dashboard) for name in re.findall(r"remuxd\w*", query)}
    told = {name for name, *_ in read(Metrics().text()[1].decode())}
    assert asked <= told
    for family in FAMILIES:
        assert [name for name in asked if name.startswith(family.exposed)], family.name
    places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)
