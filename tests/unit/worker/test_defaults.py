"""What a request leaves out is filled in as pydantic would, of whose models most request schemas are made."""

import datetime as dt
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel

from openlaunch.server.prediction.schemas import document_of
from openlaunch_worker.defaults import filler, parameters_of


class Inner(BaseModel):
    k: int = 3
    tags: list[str] = ["a"]


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str] = []


class Node(BaseModel):
    """Refers to itself."""

    name: str = "node"
    children: "list[Node]" = []


class Request(BaseModel):
    """Defaults at all places where a schema can have them."""

    text: str
    times: int = 2
    day: dt.date = dt.date(2026, 1, 2)
    nothing: str | None = None
    inner: Inner = Inner()
    maybe: Inner | None = None
    many: list[Inner] = []
    pair: tuple[Inner, int] | None = None
    named: dict[str, Inner] = {}
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] = Cat()
    one_of: Dog | Inner = Inner()
    tree: Node = Node()
    with_alias: int = Field(default=5, alias="withAlias")


def filled(model, value):
    fill = filler(document_of({"RequestSchema": model.model_json_schema()}, "RequestSchema"))
    if fill is not None:
        fill(value)
    return value


INNER = st.fixed_dictionaries({}, optional={"k": st.integers(), "tags": st.just(["b"])})
DOG = st.fixed_dictionaries({"kind": st.just("dog")}, optional={"tricks": st.just(["sit"])})
CAT = st.fixed_dictionaries({"kind": st.just("cat")}, optional={"lives": st.integers(0, 9)})
NODE = st.recursive(
    st.fixed_dictionaries({}, optional={"name": st.just("n")}),
    lambda inner: st.fixed_dictionaries({}, optional={"children": st.lists(inner, max_size=2)}),
    max_leaves=4,
)
VALUES = st.fixed_dictionaries(
    {"text": st.just("t")},
    optional={
        "times": st.integers(),
        "nothing": st.none() | st.just("x"),
        "inner": INNER,
        "maybe": st.none() | INNER,
        "many": st.lists(INNER, max_size=2),
        "pair": st.none() | st.tuples(INNER, st.just(1)).map(list),
        "named": st.dictionaries(st.sampled_from("xy"), INNER, max_size=2),
        "pet": CAT | DOG,
        "one_of": DOG | INNER.filter(bool),
        "tree": NODE,
        "withAlias": st.integers(),
    },
)


@given(VALUES)
@settings(max_examples=150)
def test_it_is_what_pydantic_makes_of_it(value):
    expected = Request.model_validate(value).model_dump(mode="json", by_alias=True)
    assert filled(Request, value) == expected


def test_each_request_has_a_list_of_its_own():
    one, other = filled(Request, {"text": "t"}), filled(Request, {"text": "t"})
    one["inner"]["tags"].append("b")
    assert other["inner"]["tags"] == ["a"]


class NoDefaults(BaseModel):
    text: str
    inner: dict[str, list[int]]


@pytest.mark.parametrize("model", [NoDefaults, RootModel[list[int]]])
def test_a_schema_without_defaults_costs_nothing(model):
    assert filler(document_of({"RequestSchema": model.model_json_schema()}, "RequestSchema")) is None


@pytest.mark.parametrize(
    "value", [[1], "x", None, {"inner": 3, "many": {}, "pair": [], "tree": {"children": 1}}]
)
def test_what_does_not_fit_is_left_as_it_is(value):
    filled(Request, value)


def test_a_function_gets_the_defaults_of_what_it_names():
    def named(text, times, *, inner, **rest):
        raise AssertionError

    document = document_of({"RequestSchema": Request.model_json_schema()}, "RequestSchema")
    value = {"text": "t", "maybe": {}}
    fill = filler(document, parameters_of(named))
    assert fill is not None
    fill(value)
    assert value == {
        "text": "t",
        "maybe": {"k": 3, "tags": ["a"]},
        "times": 2,
        "inner": {"k": 3, "tags": ["a"]},
    }


@pytest.mark.parametrize("function", [lambda **a: a, lambda *a: a, dict])
def test_a_function_that_names_nothing_gets_what_was_sent(function):
    value = {"text": "t"}
    fill = filler(
        document_of({"RequestSchema": Request.model_json_schema()}, "RequestSchema"), parameters_of(function)
    )
    assert fill is not None
    fill(value)
    assert value == {"text": "t"}
