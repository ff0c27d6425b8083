"""The description of the API is one, and tells what is there."""

from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from proxy import errors, openapi, query
from proxy.errors import ProxyError
from proxy.openapi import document
from proxy.routes import Route, Routes
from proxy.schemas import HEADERS
from tests.conftest import REPOSITORY

OWN = ("/stream", "/inspect", "/healthz", "/readyz", openapi.PATH)
ALL = (*OWN, "/", "/streams", "/metrics")
ROUTE = Route(
    path="/vod/{path}.mp4",
    url="https://origin.internal/{path}.m3u8?token=canary",
    fixed={"quality": "720p"},
)


def parameters(operation: dict[str, Any], whole: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The parameters of an operation by name, references followed."""
    shared = whole["components"]["parameters"]
    found = [
        shared[one["$ref"].rpartition("/")[2]] if "$ref" in one else one
        for one in operation["parameters"]
    ]
    return {one["name"]: one for one in found}


@pytest.mark.parametrize("paths", [OWN, ALL])
@pytest.mark.parametrize("relay", [True, False])
@pytest.mark.parametrize("signed", [True, False])
def test_document_is_valid(paths: tuple[str, ...], *, relay: bool, signed: bool) -> None:
    """Whatever there is and whatever is configured: it is OpenAPI 3.1."""
    whole = document(base="/media", paths=paths, routes=[ROUTE], relay=relay, signed=signed)
    assert list(OpenAPIV31SpecValidator(whole).iter_errors()) == []
    assert whole["openapi"] == "3.1.0"
    assert whole["servers"] == [{"url": "/media"}]


def test_document_that_is_broken_is_noticed() -> None:
    """The validator is able to object."""
    whole = document(base="", paths=OWN)
    del whole["info"]["title"]
    assert list(OpenAPIV31SpecValidator(whole).iter_errors())


def test_document_has_what_the_app_has() -> None:
    """What is not there is not described, and what is there is."""
    assert set(document(base="", paths=OWN)["paths"]) == set(OWN)
    streams = {"/streams", "/streams/{id}", "/streams/{id}/events"}
    assert set(document(base="", paths=ALL)["paths"]) == {*ALL, *streams}
    shut = document(base="", paths=OWN, routes=[ROUTE], relay=False)["paths"]
    assert set(shut) == {*OWN, ROUTE.path} - {"/stream", "/inspect"}


def test_document_has_the_parameters_of_the_query() -> None:
    """Each parameter of `query` is described, for both paths that take them, and no other."""
    whole = document(base="", paths=OWN)
    for path in ("/stream", "/inspect"):
        for method in ("get", "head"):
            assert set(parameters(whole["paths"][path][method], whole)) == set(query.PARAMETERS)
    assert parameters(whole["paths"]["/stream"]["get"], whole)["url"]["required"]


def test_document_has_routes_with_what_they_leave_open() -> None:
    """A route has its placeholders and what it takes, and does not tell where it leads."""
    whole = document(base="", paths=OWN, routes=[ROUTE])
    shown = parameters(whole["paths"][ROUTE.path]["get"], whole)
    signing = {"expires", "key_id", "signature"}
    assert set(shown) == {"path", "start", "end", "audio", "filename", *signing}
    assert shown["path"]["in"] == "path"
    assert "canary" not in repr(whole)
    assert "origin.internal" not in repr(whole)


@pytest.mark.parametrize("signed", [True, False])
def test_document_says_where_signatures_are_needed(*, signed: bool) -> None:
    """The three parameters of a signed link are required where a link must be signed."""
    open_route = Route(path="/open", url="https://o.example/a", require_signature=False)
    whole = document(base="", paths=OWN, routes=[ROUTE, open_route], signed=signed)
    for path, needed in (("/stream", signed), (ROUTE.path, signed), ("/open", False)):
        told = parameters(whole["paths"][path]["get"], whole)
        assert {told[name]["required"] for name in ("expires", "key_id", "signature")} == {needed}


def test_document_has_every_error_of_a_stream() -> None:
    """Each code that a request for a stream can be answered with is listed under its status."""
    whole = document(base="", paths=OWN)
    answers = whole["paths"]["/stream"]["get"]["responses"]
    listed = {
        (int(status), code)
        for status, answer in answers.items()
        if "$ref" in answer
        for code in whole["components"]["responses"][answer["$ref"].rpartition("/")[2]]["content"][
            "application/problem+json"
        ]["schema"]["allOf"][1]["properties"]["code"]["enum"]
    }
    family = {
        (kind.status, kind.code)
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, ProxyError)
    }
    never = {"not_found", "method_not_allowed", "stream_too_long", "unauthorized"}
    assert listed == {(status, code) for status, code in family if code not in never}


def test_operator_is_asked_for_a_token() -> None:
    """The list of streams and ending one need it; the state of one does not."""
    whole = document(base="", paths=ALL)["paths"]
    assert whole["/streams"]["get"]["security"] == [{"operator": []}]
    assert whole["/streams/{id}"]["delete"]["security"] == [{"operator": []}]
    assert "security" not in whole["/streams/{id}"]["get"]


def test_paths_that_are_described_are_our_own() -> None:
    """No route can stand where something is described."""
    for path in document(base="", paths=ALL)["paths"]:
        with pytest.raises(ValueError, match="is a path of our own"):
            Routes([Route(path=path, url="https://o.example/a")])


def test_headers_are_those_of_the_app() -> None:
    """Nothing is described as a header that no answer has."""
    text = "".join((REPOSITORY / "proxy" / f"{name}.py").read_text() for name in ("app", "answers"))
    assert [name for name in HEADERS if f'"{name}"' not in text] == []
