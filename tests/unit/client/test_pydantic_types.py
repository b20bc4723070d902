"""Annotations with types and validators of pydantic's, from the schema to what the function gets."""

import json
import re
from collections.abc import Callable
from datetime import date
from enum import Flag, IntFlag
from fractions import Fraction
from ipaddress import IPv4Address
from typing import Annotated, Any, Generic, Literal, TypeVar

import cloudpickle
import numpy as np
import pytest
import typing_extensions
from pydantic import (
    AfterValidator,
    AliasChoices,
    Base64Bytes,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Discriminator,
    Field,
    HttpUrl,
    Json,
    PastDate,
    PlainValidator,
    RootModel,
    SecretStr,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)

from openlaunch import File
from openlaunch.client.packing.documents import pack_schemas, without_json
from openlaunch.client.packing.interface import interface_of, made_fields, made_types
from openlaunch.errors import Unprocessable
from openlaunch.server.prediction.schemas import BundleSchemas
from openlaunch_worker.arguments import Arguments
from openlaunch_worker.failures import InvalidInput
from openlaunch_worker.files import DType, Scratch, Shape

FILE = "data:text/plain;name=a.txt;base64,YWI="
DAY = date(2026, 1, 2)
T = TypeVar("T")


def even(number: int) -> int:
    if number % 2:
        raise ValueError("must be even")
    return number


class Bits(Flag):
    A = 1
    B = 2


class IntBits(IntFlag):
    A = 1
    B = 2


class Files(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    file: File = Field(alias="theFile")
    array: Annotated[np.ndarray, Shape(2), DType("int64")]
    data: bytes = b""
    more: dict[str, list[File]] = {}


class Boxed(BaseModel, Generic[T]):
    item: T


class Root(RootModel[list[File]]):
    pass


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    first: int = Field(alias="firstName")
    second: int = Field(default=2, validation_alias=AliasChoices("second", "zweite"))


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    when: date


class Split(BaseModel):
    tags: list[str]

    @field_validator("tags", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        return {"kind": "dog"} if value == {"kind": "dog", "name": "Rex"} else value


class Event(typing_extensions.TypedDict):
    at: date
    raw: typing_extensions.NotRequired[bytes]
    parts: "list[Event]"


def taken(kind: Any, value: Any) -> Any:
    """Return what a function gets for a value; raise what refuses it."""

    def fn(x): ...

    fn.__annotations__["x"] = kind
    interface = interface_of(fn, has_model=False)
    schemas = BundleSchemas(json.loads(pack_schemas(interface, interface)), apart=True)
    schemas.check_request({"x": value}, 10)
    takes = made_types(interface)
    sent = cloudpickle.loads(cloudpickle.dumps((takes, made_fields(takes))))
    return Arguments(*sent).make({"x": value}, Scratch())["x"]


@pytest.mark.parametrize(
    ("kind", "value", "made"),
    [
        (Annotated[int, AfterValidator(even)], 2, 2),
        (list[Annotated[int, AfterValidator(even)]], [2, 4], [2, 4]),
        (Annotated[int, BeforeValidator(int)], "5", 5),
        (Annotated[int, PlainValidator(lambda value: -value)], 5, -5),
        (Annotated[str, StringConstraints(strip_whitespace=True, to_upper=True)], " a ", "A"),
        (Annotated[bytes, AfterValidator(len)], FILE, 2),
        (SecretStr, "a", SecretStr("a")),
        (dict[str, SecretStr], {"a": "b"}, {"a": SecretStr("b")}),
        (HttpUrl, "https://a.b/c", HttpUrl("https://a.b/c")),
        (Json[list[int]], "[1, 2]", [1, 2]),
        (Base64Bytes, "YWI=", b"ab"),
        (ByteSize, "1KiB", ByteSize(1024)),
        (PastDate, "2020-01-02", date(2020, 1, 2)),
        (re.Pattern[str], "a+", re.compile("a+")),
        (Fraction, "1/3", Fraction(1, 3)),
        (Bits, 3, Bits.A | Bits.B),
        (IntBits, 3, IntBits.A | IntBits.B),
        (Boxed[list[Boxed[date]]], {"item": [{"item": "2026-01-02"}]}, None),
        (Aliased, {"first": 1, "zweite": 3}, Aliased(first=1, second=3)),
        (Aliased, {"firstName": 1}, Aliased(first=1)),
        (Strict, {"when": "2026-01-02"}, Strict(when=date(2026, 1, 2))),
        (Split, {"tags": "a,b"}, Split(tags=["a", "b"])),
        (Annotated[Cat | Dog, Field(discriminator="kind")], {"kind": "dog"}, Dog(kind="dog")),
        (
            Annotated[Cat | Dog, Field(discriminator="kind")],
            {"kind": "cat", "lives": 1},
            Cat(kind="cat", lives=1),
        ),
        (
            Annotated[
                Annotated[int, Tag("n")] | Annotated[list[int], Tag("list")],
                Discriminator(lambda value: "list" if isinstance(value, list) else "n"),
            ],
            [1],
            [1],
        ),
        (Event, {"at": "2026-01-02", "raw": FILE, "parts": []}, {"at": DAY, "raw": b"ab", "parts": []}),
        (
            list[Event],
            [{"at": "2026-01-02", "parts": [{"at": "2026-01-02", "parts": []}]}],
            [{"at": DAY, "parts": [{"at": DAY, "parts": []}]}],
        ),
        (bytes | int, 5, 5),
        (bytes | int, FILE, b"ab"),
    ],
)
def test_a_function_gets_what_pydantic_makes(kind, value, made):
    found = taken(kind, value)
    if made is None:
        made = kind.model_validate(value)
    assert found == made
    assert type(found) is type(made)


def test_files_and_arrays_in_models_are_made():
    given = {"theFile": FILE, "array": [1, 2], "data": FILE, "more": {"a": [FILE]}}
    found = taken(Files, given)
    assert (found.file.name, found.file.read(), found.data, found.array.tolist()) == (
        "a.txt",
        b"ab",
        b"ab",
        [1, 2],
    )
    assert found.more["a"][0].read() == b"ab"
    # What pydantic makes of a text, it makes as before.
    assert taken(Files, {**given, "data": "text"}).data == b"text"
    assert taken(list[Files], [given])[0].file.read() == b"ab"
    assert taken(Root, [FILE]).root[0].read() == b"ab"
    assert taken(Boxed[list[Boxed[bytes]]], {"item": [{"item": FILE}]}).item[0].item == b"ab"


@pytest.mark.parametrize(
    ("kind", "value", "path", "reason"),
    [
        (Annotated[int, AfterValidator(even)], 3, "x", "must be even"),
        (list[Annotated[int, AfterValidator(even)]], [2, 3], "x.1", "must be even"),
        (Annotated[int, BeforeValidator(int)], "a", "x", "invalid literal"),
        (Annotated[int, AfterValidator(even)], "a", "x", "not of type"),
        (PastDate, "2999-01-01", "x", "in the past"),
        (Json[list[int]], '["a"]', "x.0", "valid integer"),
        (HttpUrl, "ftp://a.b", "x", "scheme"),
        (Bits, 4, "x", "maximum of 3"),
        (Aliased, {}, "x", "a required property"),
        (Aliased, {"first": "a"}, "x.first", "not of type"),
        (Split, {"tags": 5}, "x.tags", "valid array"),
        (Event, {"at": "a", "parts": []}, "x.at", "date"),
        (Event, {"at": "2026-01-02", "raw": "a", "parts": []}, "x.raw", "a file is needed"),
        (Files, {"theFile": "a", "array": [1, 2]}, "x.theFile", "a file is needed"),
        (Files, {"theFile": FILE, "array": [1]}, "x.array", "shape"),
        (Root, [FILE, "a"], "x.1", "a file is needed"),
        (bytes | int, "a", "x", "a file is needed"),
        (Annotated[Cat | Dog, Field(discriminator="kind")], {"kind": "cow"}, "x.kind", "should be"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(kind, value, path, reason):
    with pytest.raises((InvalidInput, Unprocessable)) as refused:
        taken(kind, value)
    error = refused.value
    if isinstance(error, Unprocessable):
        found = ".".join(map(str, error.errors[0]["loc"][2:])), error.errors[0]["msg"]
    else:
        found = str(error).split(": ", 1)
    assert found[0].startswith(path)
    assert reason in found[1]


def test_types_of_which_json_has_no_values_are_named():
    class Own:
        pass

    def fn(a: Own, b: Callable[[int], int], c: IPv4Address, d: Any, e: object, f: int, g: SecretStr): ...

    found = without_json(interface_of(fn, has_model=False))
    assert [why.partition(":")[0] for why in found] == ["a", "b"]
    assert "no value of Own can be written in JSON" in found[0]
