"""The schemas that a predict function's annotations give."""

import importlib
import json
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from functools import partial
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    TypedDict,
    TypeVar,
    Unpack,
)

import numpy as np
import numpy.typing as npt
import pydantic
import pytest
import typing_extensions
from typing_extensions import TypeAliasType

from openlaunch.client.packing.documents import pack_schemas
from openlaunch.client.packing.interface import interface_of, made_fields, made_types
from openlaunch_worker.arguments import Arguments
from openlaunch_worker.failures import InvalidInput
from openlaunch_worker.files import Scratch, Shape

if TYPE_CHECKING:
    from nowhere import Unknown


@dataclass
class Point:
    x: int
    y: float = 0.0


@dataclass
class Holder:
    held: "list[Unknown]"


class Options(TypedDict, total=False):
    width: int


class Colour(Enum):
    RED = "red"


class Model(pydantic.BaseModel):
    size: int = 1


def schemas(fn, *, has_model=False, **options):
    interface = interface_of(fn, has_model=has_model)
    return json.loads(pack_schemas(interface, interface, **options))


def properties(fn, **options):
    return schemas(fn, **options)["RequestSchema"]["properties"]


def parameter(kind):
    def fn(x, other): ...

    fn.__annotations__ = {"x": kind, "other": int}
    return properties(fn)["x"]


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (int, {"type": "integer"}),
        ("int", {"type": "integer"}),
        (str | None, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Annotated[int, pydantic.Field(ge=1)], {"type": "integer", "minimum": 1}),
        (list[float], {"type": "array", "items": {"type": "number"}}),
        (dict[str, bool], {"type": "object", "additionalProperties": {"type": "boolean"}}),
        (Point, {"$ref": "#/components/schemas/Point"}),
        ("list[Options]", {"type": "array", "items": {"$ref": "#/components/schemas/Options"}}),
        (Colour, {"$ref": "#/components/schemas/Colour"}),
        (date, {"type": "string", "format": "date"}),
        (Any, {}),
        ("Unknown", {}),
        ("not an annotation", {}),
        (object(), {}),
    ],
)
def test_a_parameter_has_the_schema_of_its_annotation(kind, schema):
    assert parameter(kind) == schema


def test_the_type_of_an_arrays_values_is_in_its_schema():
    def typed(a: npt.NDArray[np.float32], b: list[Annotated[npt.NDArray[np.int8], Shape(2)]]): ...

    found = properties(typed)
    assert found["a"]["x-openlaunch-dtype"] == "float32"
    items = found["b"]["items"]
    assert (items["x-openlaunch-dtype"], items["x-openlaunch-shape"]) == ("int8", [2])


def test_defaults_are_not_required_and_shown_where_they_are_json():
    def fn(a: int, b=Point(1), c: "int" = None, *, e: int = object(), f=1): ...  # noqa: B008, RUF013

    made = schemas(fn)
    assert made["RequestSchema"]["required"] == ["a"]
    shown = made["RequestSchema"]["properties"]
    assert shown["b"] == {"default": {"x": 1, "y": 0.0}}
    assert shown["c"] == {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}
    assert "default" not in shown["e"]
    assert shown["f"] == {"default": 1}


@pytest.mark.parametrize(
    ("kind", "item"),
    [(Iterator[int], "integer"), (AsyncIterator["int"], "integer"), (list[int], "array"), (int, "integer")],
)
def test_the_value_has_the_schema_of_an_item(kind, item):
    def fn(): ...

    fn.__annotations__ = {"return": kind}
    assert schemas(fn)["ResponseSchema"]["type"] == item
    assert "RequestSchema" not in schemas(fn)


class Service:
    def __call__(self, x: int, **more): ...

    def method(self, x: int): ...


@pytest.mark.parametrize(
    ("fn", "is_open"), [(Service(), True), (Service().method, False), (partial(Service().method), False)]
)
def test_objects_methods_and_partials_have_an_interface(fn, is_open):
    request = schemas(fn)["RequestSchema"]
    assert request["properties"] == {"x": {"type": "integer"}}
    assert request["additionalProperties"] is is_open


@pytest.mark.parametrize("fn", [lambda x: x, len, print, partial(lambda x, y: x, 1)])
def test_what_has_no_annotations_has_no_schema(fn):
    assert schemas(fn) == {}


def test_the_model_is_no_parameter():
    def fn(model: Point, x: int): ...

    assert list(properties(fn, has_model=True)) == ["x"]


def test_two_models_of_one_name_have_two_schemas():
    class Model(pydantic.BaseModel):
        other: str

    def fn(a: Model) -> globals()["Model"]: ...

    made = schemas(fn)
    assert list(made["ResponseSchema"]["properties"]) == ["size"]
    name = made["RequestSchema"]["properties"]["a"]["$ref"].rpartition("/")[2]
    assert list(made[name]["properties"]) == ["other"]


def test_a_worker_makes_what_json_does_not_have():
    def fn(
        a: int, b: str, c: "Point", d: list[Colour] | None, e: dict[str, float], f: "Unknown", g: date
    ): ...

    assert list(made_types(interface_of(fn, has_model=False))) == ["a", "c", "d", "g"]


def test_an_annotation_that_gives_the_function_nothing_is_named():
    def fn(model: "Unknown", a: int, b: "Unknown", c: list[Holder], d: Point, **others: date): ...

    assert [why.partition(":")[0] for why in interface_of(fn, has_model=True).unread] == ["b", "c"]


@pytest.mark.parametrize("kind", [int, str, Any, "list[Any]", dict[str, Point]])
def test_an_annotation_that_is_applied_or_says_what_json_has_is_not(kind):
    def fn(x, **others: str): ...

    fn.__annotations__["x"] = kind
    assert interface_of(fn, has_model=False).unread == ()


class Number(Enum):
    ONE = 1
    TWO = "two"


class Marked(TypedDict, total=False):
    given: "Required[int]"
    other: str


class Others(TypedDict):
    left_out: "NotRequired[int]"
    other: "Annotated[str, 1]"


@pytest.mark.parametrize(("kind", "required"), [(Marked, ["given"]), (Others, ["other"])])
def test_fields_are_required_as_their_annotations_say_where_these_are_texts(kind, required):
    def fn(x: kind): ...

    assert schemas(fn)[kind.__name__]["required"] == required


def test_keys_of_an_enum_are_the_texts_of_its_values():
    def fn(x: dict[Number, int], y: Number): ...

    assert properties(fn)["x"]["propertyNames"] == {"enum": ["1", "two"]}
    assert schemas(fn)["Number"]["enum"] == [1, "two"]


def test_further_arguments_by_name_have_the_schema_of_their_annotation():
    def fn(x: int, **others: int): ...

    assert schemas(fn)["RequestSchema"]["additionalProperties"] == {"type": "integer"}


def test_further_arguments_alone_have_a_schema():
    def fn(**others: date): ...

    assert schemas(fn)["RequestSchema"]["additionalProperties"] == {"type": "string", "format": "date"}


class Given(TypedDict, total=False):
    when: Required[date]
    width: "NotRequired[Annotated[int, pydantic.Field(ge=1)]]"


@pytest.mark.parametrize("unpack", [Unpack, typing_extensions.Unpack])
def test_arguments_of_an_unpacked_typed_dict_are_parameters(unpack):
    def fn(x: int, **given): ...

    fn.__annotations__["given"] = unpack[Given]
    request = schemas(fn)["RequestSchema"]
    assert request["required"] == ["x", "when"]
    assert request["properties"]["width"] == {"type": "integer", "minimum": 1}
    assert request["additionalProperties"] is False
    assert made_types(interface_of(fn, has_model=False)) == {
        "x": int,
        "when": date,
        "width": int,
    }


def test_a_worker_makes_what_further_arguments_are_of_and_leaves_those_with_a_name():
    def fn(x: str, y: int, **others: date): ...

    makes = Arguments(made_types(interface_of(fn, has_model=False)), {})
    given = {"x": "2024-01-01", "y": 2.0, "a": "2024-01-02", "**": "2024-01-03"}
    made = {"x": "2024-01-01", "y": 2, "a": date(2024, 1, 2), "**": date(2024, 1, 3)}
    assert makes.make(given, Scratch()) == made
    with pytest.raises(InvalidInput, match=r"^b: it is not date"):
        makes.make(given | {"b": "soon"}, Scratch())


def test_annotations_name_own_modules_that_are_imported_for_type_checkers(tmp_path, monkeypatch):
    (tmp_path / "own_types.py").write_text(
        "from dataclasses import dataclass\n@dataclass\nclass Given:\n    a: int\n"
    )
    (tmp_path / "of_checkers.py").write_text(
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n"
        "    import nowhere\n    from datetime import date as day\n    from own_types import Given, Missing\n"
        "    from own_types import Given\n    import own_types as own\n"
        "def fn(a: Given, b: list[own.Given], c: day, d: nowhere.Thing): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("of_checkers")
    interface = interface_of(module.fn, has_model=False)
    given = importlib.import_module("own_types").Given
    assert made_types(interface) == {"a": given, "b": list[given], "c": date}
    assert [why.partition(":")[0] for why in interface.unread] == ["d"]


ScalarT = TypeVar("ScalarT", bound=np.generic)
Array = TypeAliasType("Array", np.ndarray[Any, np.dtype[ScalarT]], type_params=(ScalarT,))
Place = TypeAliasType("Place", Path)


def test_what_a_type_statement_names_is_what_is_meant():
    """`numpy.typing.NDArray` is such a name since NumPy 2.5, where Python has them."""

    def named(a: Array[np.float32], b: list[Place]): ...

    found = properties(named)
    assert (found["a"]["x-openlaunch-binary"], found["a"]["x-openlaunch-dtype"]) == ("array", "float32")
    assert found["b"]["items"]["x-openlaunch-binary"] == "file"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="has no `type` statement")
def test_a_type_that_is_within_itself_by_its_name_has_a_schema():
    names = {}
    exec("type Json = dict[str, Json] | list[Json] | str", names)

    def recursive(x): ...

    recursive.__annotations__ = {"x": names["Json"]}
    assert made_fields(made_types(interface_of(recursive, has_model=False))) == {}
    assert schemas(recursive)["Json"]["anyOf"][1]["items"] == {"$ref": "#/components/schemas/Json"}


class Row(TypedDict):
    pixels: Annotated[np.ndarray, Shape(None, 3)]
    name: NotRequired[str]


@dataclass
class Picture:
    pixels: np.ndarray
    least: float = 0.5
    tags: list[str] = field(default_factory=list)


def batch(inputs, returns=list[Any]):
    def batched(rows): ...

    batched.__annotations__ = {"rows": inputs, "return": returns}
    interface = interface_of(batched, has_model=False, batches=True)
    return interface, json.loads(pack_schemas(interface, interface))


def test_a_list_of_arrays_is_one_argument_under_its_name():
    interface, made = batch(list[np.ndarray], list[np.ndarray | ValueError])
    assert made["RequestSchema"]["properties"]["rows"]["x-openlaunch-binary"] == "array"
    assert made["RequestSchema"]["required"] == ["rows"]
    assert made["ResponseSchema"]["x-openlaunch-binary"] == "array"
    assert (interface.item, made_types(interface)) == ("rows", {"rows": np.ndarray})


def test_a_list_of_records_has_their_fields_as_arguments():
    interface, made = batch(list[Row])
    request = made["RequestSchema"]
    assert (request["properties"].keys(), request["required"]) == ({"pixels", "name"}, ["pixels"])
    assert request["properties"]["pixels"]["x-openlaunch-shape"] == [None, 3]
    assert interface.item is Row
    request = batch(list[Picture])[1]["RequestSchema"]
    assert (request["required"], request["properties"]["least"]["default"]) == (["pixels"], 0.5)
    assert "default" not in request["properties"]["tags"]


def test_an_array_of_results_has_one_in_each_row():
    _, made = batch(list[bytes], Annotated[np.ndarray, Shape(None, 4)])
    assert made["ResponseSchema"]["x-openlaunch-shape"] == [4]


@pytest.mark.parametrize("inputs", [list[dict[str, float]], list[int], list, np.ndarray, list[Any]])
def test_other_batches_take_what_comes(inputs):
    interface, made = batch(inputs, list[float])
    assert (interface.parameters, interface.item, made) == (None, None, {})
