"""A function's annotations are its interface: what it takes is checked by them, and made of what comes."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypedDict
from uuid import UUID

import pydantic
import pytest
from server_driver import SMALL, problem

from openlaunch import EndpointRequest


class Kind(enum.Enum):
    FULL = "full"
    THUMB = "thumb"


@dataclass
class Box:
    left: int
    right: int = 5
    parts: list[Box] = field(default_factory=list)


class Options(TypedDict, total=False):
    kinds: list[Kind]


class Wanted(pydantic.BaseModel):
    n: str


def typed(
    n: int,
    /,
    ratio: float = 1.0,
    mode: Literal["a", "b"] = "a",
    size: Annotated[int, pydantic.Field(ge=1)] = 3,
    box: Box | None = None,
    options: Options = None,
    when: dt.datetime | None = None,
    ids: set[UUID] = frozenset(),
    pair: tuple[int, Kind] = (1, Kind.FULL),
    span: dt.timedelta = dt.timedelta(),
    number: complex = 0j,
    anything=None,
) -> dict[str, list[str]]:
    given = (n, ratio, mode, size, box, options, when, ids, pair, span, number, anything)
    return {"repr": [repr(each) for each in given]}


def counted(to: int) -> Iterator[int]:
    yield from range(to)


def by_model(n):
    return n


def annotated(n: int):
    return repr(n)


@pytest.fixture(scope="module")
def endpoints(client):
    client.deploy(typed, name="ty-typed", **SMALL)
    client.deploy(counted, name="ty-counted", **SMALL)
    client.deploy(annotated, name="ty-unchecked", check_types=False, **SMALL)
    client.deploy(annotated, name="ty-explicit", request_schema=Wanted, **SMALL)
    client.deploy(annotated, name="ty-later", endpoint_type="async", **SMALL)
    return client


GIVEN = {
    "n": 1.0,
    "ratio": 2,
    "box": {"left": 1.0, "parts": [{"left": 2}]},
    "options": {"kinds": ["full", "thumb"]},
    "when": "2026-01-02T03:04:05Z",
    "ids": ["12345678-1234-5678-1234-567812345678"],
    "pair": [2.0, "thumb"],
    "span": "P1DT1.5S",
    "number": "1+2j",
    "anything": {"n": 1.0},
}


def test_the_function_gets_what_its_annotations_name(raw, endpoints):
    got = raw.post("/e/ty-typed", json=GIVEN).json()["repr"]
    expected = (
        1,
        2,
        "a",
        3,
        Box(1, 5, [Box(2)]),
        {"kinds": [Kind.FULL, Kind.THUMB]},
        dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
        {UUID(GIVEN["ids"][0])},
        (2, Kind.THUMB),
        dt.timedelta(days=1, seconds=1.5),
        1 + 2j,
        {"n": 1.0},
    )
    assert got == [repr(each) for each in expected]


def test_what_is_left_out_has_the_functions_own_default(raw, endpoints):
    got = raw.post("/e/ty-typed", json={"n": 1}).json()["repr"]
    assert (got[4], got[7:9]) == ("None", ["frozenset()", repr((1, Kind.FULL))])


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"n": "three"}, ["n"]),
        ({"n": 1.5}, ["n"]),
        ({"n": True}, ["n"]),
        ({"n": None}, ["n"]),
        ({}, ["n"]),
        ({"n": 1, "m": 2}, []),
        ({"n": 1, "size": 0}, ["size"]),
        ({"n": 1, "mode": "c"}, ["mode"]),
        ({"n": 1, "pair": [1, "none"]}, ["pair", 1]),
        ({"n": 1, "options": {"kinds": ["none"]}}, ["options", "kinds", 0]),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(raw, endpoints, given, path):
    refused = problem(raw.post("/e/ty-typed", json=given), 422)
    assert [error["loc"] for error in refused["detail"]] == [["body", *path]]
    launch = raw.post("/v1/sync-tasks", params={"model_endpoint_id": "ty-typed"}, json={"args": given})
    assert [error["loc"] for error in problem(launch, 422)["detail"]] == [["body", "args", *path]]


def test_what_only_python_sees_is_refused_too(raw, endpoints):
    refused = problem(
        raw.post("/e/ty-typed", json={"n": 1, "span": "P1DT1S", "when": "2026-13-01T00:00:00Z"}), 422
    )
    assert refused["detail"][0]["loc"] == ["body", "when"]


def test_streams_and_tasks_are_checked(raw, endpoints):
    for name in ("ty-counted", "ty-later"):
        wrong = {"to": "three"} if name == "ty-counted" else {"n": "three"}
        assert problem(raw.post(f"/e/{name}", json=wrong), 422)["code"] == "request_schema"
    asked = {"accept": "application/json"}
    assert raw.post("/e/ty-counted", json={"to": 2.0}, headers=asked).json() == [0, 1]


def test_checks_can_be_turned_off(raw, endpoints):
    assert raw.post("/e/ty-unchecked", json={"n": "three"}).json() == "'three'"
    assert raw.get("/e/ty-unchecked").json()["takes"]["properties"] == {"n": {"type": "integer"}}


def test_an_explicit_model_wins(raw, endpoints):
    assert raw.post("/e/ty-explicit", json={"n": "three"}).json() == "'three'"
    problem(raw.post("/e/ty-explicit", json={"n": 3}), 422)


def test_the_description_and_the_document_have_the_types(raw, endpoints):
    described = raw.get("/e/ty-typed").json()
    assert described["takes"]["properties"]["mode"]["enum"] == ["a", "b"]
    assert described["takes"]["required"] == ["n"]
    assert described["returns"]["type"] == "object"
    assert raw.get("/e/ty-counted").json()["returns"]["type"] == "integer"
    document = raw.get("/e/ty-typed/openapi.json").json()
    request = document["paths"]["/e/admin/ty-typed"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    schema = document["components"]["schemas"][request["$ref"].rpartition("/")[2]]
    assert schema["properties"]["size"] == {"type": "integer", "minimum": 1, "default": 3}


def test_a_batching_function_is_called_with_lists_whatever_its_annotations(client, endpoints):
    def batched(inputs: list[dict[str, int]]) -> list[int]:
        return [each["n"] for each in inputs]

    endpoint = client.deploy(batched, name="ty-batched", max_batch_size=4, **SMALL)
    assert endpoint.predict(EndpointRequest(args={"n": 3})).value == 3
    # The size is kept where the function is deployed again.
    endpoint = client.deploy(lambda inputs: [0 for _ in inputs], name="ty-batched")
    assert endpoint.predict(EndpointRequest(args={"n": 3})).value == 0


def test_a_model_that_is_loaded_comes_first(client, endpoints):
    def scaled(model: Box, n: int) -> int:
        return model.left * n

    endpoint = client.deploy(scaled, load_model_fn=lambda: Box(3), name="ty-scaled", **SMALL)
    assert endpoint.predict(EndpointRequest(args={"n": 2})).value == 6
