"""Arguments that are made to take more than they look like: images, arrays, unions, names of files."""

import dataclasses
import datetime as dt
import io
import json
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Set
from enum import Enum, IntEnum
from ipaddress import IPv4Address
from typing import Any, Generic, Literal, NamedTuple, NewType, TypeVar

import numpy as np
import PIL.Image
import pydantic
import pytest
from typing_extensions import TypeAliasType

from openlaunch_worker.arguments import TAKES, Makers, arguments_of
from openlaunch_worker.failures import InvalidInput
from openlaunch_worker.files import MAX_HEAD, File, Scratch, of_data_url, safe_name


@dataclasses.dataclass
class A:
    kids: "list[A | B]"
    a: int


@dataclasses.dataclass
class B:
    made = 0
    kids: "list[A | B]"

    def __post_init__(self) -> None:
        B.made += 1


@dataclasses.dataclass
class Link:
    next: "Link | None" = None


@dataclasses.dataclass
class Started:
    on: dt.date = dataclasses.field(init=False)
    day: dataclasses.InitVar[dt.date]
    text: "dataclasses.InitVar[dt.date | None]" = None

    def __post_init__(self, day: dt.date, text: dt.date | None) -> None:
        self.on = text or day


def make(kind: Any, value: Any) -> Any:
    def predict(x: Any) -> Any:
        return x

    setattr(predict, TAKES, {"x": kind})
    return arguments_of(predict).make({"x": value}, Scratch())["x"]


T = TypeVar("T")
When = NewType("When", dt.date)
DAY = dt.date(2026, 1, 2)


class Color(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


@dataclasses.dataclass
class Box(Generic[T]):
    item: T
    more: list[T]


class Model(pydantic.BaseModel):
    day: dt.date
    more: list[int] = []

    @pydantic.field_validator("day")
    @classmethod
    def _is_new(cls, day: dt.date) -> dt.date:
        if day.year < 2000:
            raise ValueError("too old")
        return day


X = TypeVar("X")
Y = TypeVar("Y")
Swapped = TypeAliasType("Swapped", dict[Y, list[X]], type_params=(X, Y))


class Pair(NamedTuple):
    first: dt.date
    second: int = 2


@pytest.mark.parametrize(
    ("kind", "value", "made"),
    [
        (dict[int, str], {"1": "a", "-2": "b"}, {1: "a", -2: "b"}),
        (dict[float, int], {"1.5": 1}, {1.5: 1}),
        (dict[bool, int], {"true": 1}, {True: 1}),
        (dict[dt.date, When], {"2026-01-02": "2026-01-02"}, {DAY: DAY}),
        (dict[Color, dict[Level, int]], {"red": {"1": 2}}, {Color.RED: {Level.LOW: 2}}),
        (Mapping[str, int], {"1": 1}, {"1": 1}),
        (Pair, ["2026-01-02"], Pair(DAY)),
        (Pair, ["2026-01-02", 3], Pair(DAY, 3)),
        (Box[dt.date], {"item": "2026-01-02", "more": ["2026-01-02"]}, Box(DAY, [DAY])),
        (Iterable[dt.date], ["2026-01-02"], [DAY]),
        (Set[dt.date], ["2026-01-02"], {DAY}),
        (deque[int], [1, 2], deque([1, 2])),
        (Swapped[dt.date, int], {"1": ["2026-01-02"]}, {1: [DAY]}),
        (Literal[Color.RED, "blue"], "red", Color.RED),
        (IPv4Address, "10.0.0.1", IPv4Address("10.0.0.1")),
    ],
)
def test_a_value_is_what_the_annotation_names(kind, value, made):
    found = make(kind, value)
    assert found == made
    assert type(found) is type(made)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="has no `type` statement")
def test_a_type_may_be_within_itself_by_its_name():
    names = {"date": dt.date}
    exec("type Tree[T] = dict[str, Tree[T]] | list[Tree[T]] | T\ntype Json = list[Json] | str", names)
    assert make(names["Tree"][dt.date], {"a": ["2026-01-02"]}) == {"a": [DAY]}
    assert Makers().of(names["Json"]) is None  # it is JSON throughout


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        (dict[int, str], {"one": "a"}, "x.one: it is not int: ValueError: 'one' is not a whole number"),
        (dict[int, str], {"1": "a", "01": "b"}, "x: two of its keys are the same"),
        (dict[Color, int], {"blue": 1}, "x.blue: it is not Color: ValueError: 'blue' is not a valid Color"),
        (Model, {"day": "1999-01-01"}, "x.day: too old$"),
        (Model, {"day": 1.5, "more": 1}, r"x.day: .* \(and 1 more\)$"),
        (Pair, [], "x: it is not Pair: .*missing 1 required positional argument: 'first'"),
    ],
)
def test_a_value_that_its_annotation_does_not_take_is_named(kind, value, reason):
    with pytest.raises(InvalidInput, match=reason):
        make(kind, value)


def npy(version: int, shape: str, data: bytes = b"", descr: str = "'<f8'") -> File:
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    size = len(head).to_bytes(2 if version == 1 else 4, "little")
    return File(b"\x93NUMPY" + bytes((version, 0)) + size + head + data)


def test_arrays_in_both_forms_of_the_head_are_read():
    for version in (1, 2):
        assert make(np.ndarray, npy(version, "(2,)", np.arange(2.0).tobytes())).tolist() == [0, 1]


@pytest.mark.parametrize(
    "file",
    [
        *(npy(version, "(1000000000000,)") for version in (1, 2, 3)),
        npy(2, "(1000000000,)", descr="'|V0'"),
        npy(1, "(1,)", b"x" * 8, descr="'|O'"),
        npy(1, "(1,)", b"x" * 16, descr="[('a', '|O'), ('b', '<f8')]"),
        npy(1, "((((("),
        npy(9, "(1,)"),
    ],
)
def test_an_array_is_no_larger_than_its_file_and_holds_no_objects(file):
    with pytest.raises(InvalidInput, match="an array is needed"):
        make(np.ndarray, file)


def test_texts_that_numpy_would_pad_are_bounded():
    assert make(np.ndarray, [["a"], ["bc"]]).tolist() == [["a"], ["bc"]]
    with pytest.raises(InvalidInput, match="8004000000 bytes"):
        make(np.ndarray, ["a" * 1_000_000, *["b"] * 2000])


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_of_too_many_pixels_is_not_loaded(monkeypatch):
    file = io.BytesIO()
    PIL.Image.new("1", (100, 100)).save(file, "PNG")
    assert make(PIL.Image.Image, File(file.getvalue())).size == (100, 100)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 9_999)
    with pytest.raises(InvalidInput, match=r"100 x 100 pixels, and PIL\.Image\.MAX_IMAGE_PIXELS"):
        make(PIL.Image.Image, File(file.getvalue()))


def test_what_another_program_would_run_is_not_an_image():
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(InvalidInput, match="EPS, which is not a type of images"):
        make(PIL.Image.Image, File(eps))


def nested(levels: int) -> Any:
    value: Any = {"kids": []}
    for _ in range(levels):
        value = {"kids": [value]}
    return value


def test_a_value_of_a_union_is_made_once_at_each_level():
    B.made = 0
    made = make(B, nested(40))
    assert B.made <= 2 * 41  # once for what A takes, and once for what B does
    assert type(made.kids[0]) is B
    with pytest.raises(InvalidInput, match="needed for B"):
        make(A | B, {"kids": [nested(39), "x"]})


def test_what_is_nested_too_deep_is_refused():
    value: Any = {}
    for _ in range(5000):
        value = {"next": value}
    with pytest.raises(InvalidInput, match="nested too deep"):
        make(Link, value)


@pytest.mark.parametrize(
    "name", ["字" * 90 + ".png", "a\udce9.txt", "\U0001f600" * 300, "é" * 99 + "." + "é" * 99]
)
def test_a_name_fits_every_system_of_files(name):
    safe = safe_name(name)
    assert 1 <= len(safe.encode()) <= 200
    assert Scratch().put(File(b"x", name=name)).name == safe
    assert name[-4:].isascii() <= safe.endswith(name[-4:])


def test_the_head_of_a_data_url_is_bounded():
    file = of_data_url("Data:text/plain;charset=utf-8;name=a%20b.txt;BASE64,aGk=")
    assert (file.read(), file.name, file.media_type) == (b"hi", "a b.txt", "text/plain")
    assert of_data_url("data:,a%20b,c").read() == b"a b,c"
    for head in (";a" * MAX_HEAD, ";base64" * MAX_HEAD, "a" * MAX_HEAD):
        with pytest.raises(ValueError, match="not a data: URL"):
            of_data_url(f"data:{head},x")


def test_json_of_a_request_is_what_is_made_here():
    assert make(Link, json.loads('{"next": {"next": null}}')) == Link(Link(None))


@pytest.mark.parametrize("value", [{"day": "2026-01-02"}, {"day": "2020-01-01", "text": "2026-01-02"}])
def test_what_a_dataclass_takes_and_does_not_keep_is_made_too(value: Any) -> None:
    assert make(Started, value).on == DAY
