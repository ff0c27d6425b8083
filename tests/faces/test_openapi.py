"""Both faces, asked by schemathesis whatever their description lets one ask, and more."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS as CHECKS_BY_NAME
from schemathesis.checks import load_all_checks

from proxy.app import App, Settings
from proxy.guard import signing
from tests.support.client import ask, stream_target
from tests.support.clips import make_clip
from tests.support.origin import Origin
from tests.support.pipelines import ScriptedPipeline
from tests.support.served import Serve, free_port, running
from tests.support.streams import publish

load_all_checks()
EXAMPLES = 20  # for each operation, of those that keep to the description and of those that do not
CHECKS: Any = CHECKS_BY_NAME.get_by_names(
    [
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
        "unsupported_method",
    ]
)
CONFIG = """\
[server]
port = {port}
base_path = "/media"

[upstream]
allowed_hosts = ["127.0.0.1"]
allowed_ports = []
allow_private_addresses = true

[limits]
streams_per_client = 100

[security]
operator_token = "operator-operator"

[[routes]]
path = "/vod/{{path}}.mp4"
url = "{origin}/{{path}}/media.m3u8"
quality = "best"
"""


AIOHTTP = (("proxy", "serve"), " serves")
UVICORN = (("uvicorn", "--factory", "proxy.faces.asgi:create_app", "--port"), "Uvicorn running")
Command = tuple[tuple[str, ...], str]  # what is started, and its words when it serves


@contextlib.asynccontextmanager
async def served(face: Command, folder: Path) -> AsyncIterator[tuple[Origin, str]]:
    """An origin with a film, and a server in front of it."""
    port = free_port()
    async with Origin() as origin:
        publish(origin, make_clip(), prefix="/film/")
        config = folder / "config.toml"
        config.write_text(CONFIG.format(port=port, origin=origin.url))
        environment = {"REMUXD_CONFIG": str(config)}
        command, words = face
        ports = (str(port),) if command[-1] == "--port" else ()
        async with running(*command, *ports, environment=environment) as run:
            await run.until_said(words)
            yield origin, f"http://127.0.0.1:{port}/media"


faces = pytest.mark.parametrize("face", [AIOHTTP, UVICORN], ids=["aiohttp", "asgi"])


@faces
async def test_answers_are_as_described(face: Command, tmp_path: Path) -> None:
    """Statuses, types, headers and bodies of all answers are those of the document."""
    async with served(face, tmp_path) as (origin, address):
        addresses = itertools.cycle([
            origin.at("/film/media.m3u8"), origin.at("/none.m3u8"), origin.at("/film/0.ts"),
            "http://192.0.2.1/a.m3u8",
        ])  # fmt: skip
        statuses = await asyncio.to_thread(explore, address, addresses)
    assert 500 not in statuses
    assert {200, 204, 400, 401, 403, 404} <= statuses


def explore(address: str, addresses: Iterator[str]) -> set[int]:
    """Ask for everything in the document, and return the statuses that came."""
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    statuses: set[int] = set()
    known: list[str] = []  # ids of streams
    result: Any
    for result in schema.get_all_operations():
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            with contextlib.suppress(Unsatisfiable):  # nothing that could be wrong
                explore_one(result.ok(), mode, addresses, statuses, known)
    return statuses


def explore_one(
    operation: Any,
    mode: GenerationMode,
    addresses: Iterator[str],
    statuses: set[int],
    known: list[str],
) -> None:
    @seed(20)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def judge(case: schemathesis.Case[Any]) -> None:
        headers = {}
        if mode is GenerationMode.POSITIVE:
            headers["Authorization"] = "Bearer operator-operator"
            lead_somewhere(case, addresses, known)
        response = case.call(timeout=20, headers=headers)
        statuses.add(response.status_code)
        if operation.path == "/stream":
            known.append(response.headers["x-stream-id"][0])
        case.validate_response(response, checks=CHECKS)

    judge()


def lead_somewhere(
    case: schemathesis.Case[Any], addresses: Iterator[str], known: list[str]
) -> None:
    """Let what keeps to the description lead to something, now and then."""
    address = next(addresses)
    for name in signing.PARAMETERS:
        case.query.pop(name, None)
    if "url" in case.query:
        case.query["url"] = address
    if "id" in case.path_parameters and address.endswith("/media.m3u8"):
        case.path_parameters["id"] = known[-1]
    if "path" in case.path_parameters and address.endswith("/media.m3u8"):
        case.path_parameters["path"] = "film"


@faces
async def test_report_is_as_described(face: Command, tmp_path: Path) -> None:
    """What /inspect tells of a film, and of a page with one, fits its schema."""
    async with served(face, tmp_path) as (origin, address):
        document = (await ask(address, "/media/openapi.json")).json()
        target = stream_target(origin.at("/film/media.m3u8")).replace("/stream", "/media/inspect")
        report = (await ask(address, target)).json()
        origin.add("/page.html", '<!doctype html><video src="/film.mp4" title="a"></video>')
        page = stream_target(origin.at("/page.html")).replace("/stream", "/media/inspect")
        of_page = (await ask(address, page)).json()
    schema = {"$ref": "#/components/schemas/Report", "components": document["components"]}
    jsonschema.validate(report, schema)
    jsonschema.validate(of_page, schema)
    assert (report["page"], of_page["kind"]) == (None, "mp4")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**report, "segments": "many"}, schema)


async def test_document_is_where_the_app_is_mounted(serve: Serve) -> None:
    """The server in it is the base path."""
    async with serve(App(ScriptedPipeline(), Settings(base_path="/media"))) as address:
        reply = await ask(address, "/media/openapi.json")
    assert reply.header("content-type") == "application/json"
    assert reply.json()["servers"] == [{"url": "/media"}]
