"""What stands in JSON for values that are none of its types."""

import base64
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import io
import ipaddress
import json
import subprocess
import sys
import types
import uuid
import zoneinfo

import numpy as np
import PIL.Image
import pydantic
import pytest

from openlaunch_worker import answers
from openlaunch_worker.failures import Refusal
from openlaunch_worker.frames import Flags

MANY = 1 << 30
NPY = int(Flags.NPY)
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
UTC = dt.UTC


class Colour(enum.Enum):
    RED = "red"
    ODD = dt.date(2026, 1, 2)


@dataclasses.dataclass
class Point:
    x: float
    when: dt.date
    inner: "Point | None" = None


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    when: dt.datetime
    amount: decimal.Decimal = pydantic.Field(alias="Amount")


class Arrays(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    scores: np.ndarray
    image: bytes = b"\xff\x00"


def written(value):
    text = json.loads(answers.success(value, MANY))["result"]["result"]
    event = json.loads(answers.event(value, MANY)[6:])["result"]["result"]
    assert json.loads(text) == event
    return event


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.bool_(True), True),
        (np.array([[1, 2], [3, 4]], dtype=np.uint8), [[1, 2], [3, 4]]),
        (np.array(2.5), 2.5),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.datetime64("2026-01-02T03:04:05.000000006"), "2026-01-02T03:04:05"),
        (np.array(["2026-01-02", "NaT"], dtype="datetime64[ns]"), ["2026-01-02T00:00:00", None]),
        (np.timedelta64(1_500_000_000, "ns"), "P0DT1.5S"),
        (np.array([Point(1.0, dt.date(2026, 1, 2))]), [{"x": 1.0, "when": "2026-01-02", "inner": None}]),
        (dt.datetime(2026, 1, 2, 3, 4, 5, 6, UTC), "2026-01-02T03:04:05.000006+00:00"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.time(3, 4), "03:04:00"),
        (dt.timedelta(days=-1, hours=-1), "-P1DT3600S"),
        (decimal.Decimal("1.10"), "1.10"),
        (ID, str(ID)),
        (Colour.RED, "red"),
        (Colour.ODD, "2026-01-02"),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        (collections.deque([1, 2]), [1, 2]),
        ({"b": 1, "a": 2}.keys(), ["b", "a"]),
        ({"b": 1, "a": 2}.items(), [["b", 1], ["a", 2]]),
        ({"a": 1}.values(), [1]),
        (types.MappingProxyType({"a": ID}), {"a": str(ID)}),
        (collections.namedtuple("Pair", "a b")(1, ID), [1, str(ID)]),
        (b"\x00\xff", "data:application/octet-stream;type=bytes;base64,AP8="),
        (bytearray(b"a"), "data:application/octet-stream;type=bytes;base64,YQ=="),
        (memoryview(b"a"), "data:application/octet-stream;type=bytes;base64,YQ=="),
        (
            Model(when="2026-01-02T03:04:05Z", Amount="1.10"),
            {"when": "2026-01-02T03:04:05Z", "Amount": "1.10"},
        ),
        (
            Arrays(scores=np.array([1.5])),
            {"scores": [1.5], "image": "data:application/octet-stream;type=bytes;base64,/wA="},
        ),
        (
            Point(1.0, dt.date(2026, 1, 2), Point(2.0, dt.date(2026, 1, 3))),
            {
                "x": 1.0,
                "when": "2026-01-02",
                "inner": {"x": 2.0, "when": "2026-01-03", "inner": None},
            },
        ),
        ({"a": [np.int8(1), {2}]}, {"a": [1, [2]]}),
        (np.longdouble(0.5), 0.5),
        (np.array([0.5], np.longdouble), [0.5]),
        (np.float16(0.5), 0.5),
        (np.ma.array([1, 2], mask=[False, True]), [1, None]),
        (range(2), [0, 1]),
        (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
        (zoneinfo.ZoneInfo("Asia/Tokyo"), "Asia/Tokyo"),
        ({np.int64(1): "a", Colour.RED: "b", ID: "c"}, {"1": "a", "red": "b", str(ID): "c"}),
        ([{"n": {dt.date(2026, 1, 2): np.arange(2)}}], [{"n": {"2026-01-02": [0, 1]}}]),
    ],
)
def test_a_value_is_written_as_the_rules_say(value, expected):
    assert written(value) == expected


def test_what_pandas_misses_is_null():
    pandas = pytest.importorskip("pandas")
    assert written([pandas.NaT, pandas.NA, pandas.Series([1, None], dtype="Int64")]) == [
        None,
        None,
        [1, None],
    ]


def test_an_array_is_answered_in_a_format_that_has_all_of_its_values():
    assert answers.binary(np.ma.array([1, 2], mask=[False, True]), MANY, NPY) is None
    kinds = pytest.importorskip("ml_dtypes")
    data = answers.binary(np.array([1.5], kinds.bfloat16), MANY, NPY)
    array = np.lib.format.read_array(io.BytesIO(data))
    assert (array.dtype, array.tolist()) == (np.float32, [1.5])


def test_an_image_has_its_media_type():
    image = PIL.Image.new("RGB", (2, 1), (255, 0, 0))
    head, _, data = written({"image": image})["image"].partition(",")
    assert head == "data:image/png;type=image;base64"
    assert PIL.Image.open(io.BytesIO(base64.b64decode(data))).getpixel((1, 0)) == (255, 0, 0)
    file = io.BytesIO()
    image.save(file, "JPEG")
    assert written(PIL.Image.open(file)).startswith("data:image/jpeg;type=image;base64,")


@pytest.mark.parametrize("mode", ["F", "CMYK"])
def test_an_image_of_a_mode_that_png_does_not_have_is_tiff(mode):
    head, data = written(PIL.Image.new(mode, (2, 1))).split(",")
    assert head == "data:image/tiff;type=image;base64"
    assert PIL.Image.open(io.BytesIO(base64.b64decode(data))).mode == mode


class Tensor:
    """As torch's: it knows how to be a list."""

    def tolist(self):
        return [[1.0]]


def test_what_knows_how_to_be_a_list_is_one():
    assert written(Tensor()) == [[1.0]]


@pytest.mark.parametrize("value", [np.array([1.0, np.nan]), np.float32("inf"), {"a": [np.float64("nan")]}])
def test_nan_in_an_array_is_named(value):
    with pytest.raises(Refusal, match="holds NaN or Infinity"):
        answers.success(value, MANY)


@pytest.mark.parametrize(
    "value", [{(1, 2): 3}, {ID: 1, str(ID): 2}, {np.int64(1): 2, "1": 3}, {frozenset({1}): 1}, np.array([1j])]
)
def test_what_nothing_stands_for_is_refused(value):
    with pytest.raises(Refusal):
        answers.success(value, MANY)


def test_no_library_is_imported_for_it():
    code = "import sys, openlaunch_worker.answers as a; a.success({1}, 99); print(list(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not [name for name in ("numpy", "PIL", "pydantic", "decimal", "uuid") if f"'{name}'" in loaded]


@pytest.mark.parametrize(("mode", "read"), [("HSV", "RGB"), ("La", "LA"), ("RGBa", "RGBA")])
def test_an_image_of_a_mode_that_no_format_has_is_converted(mode, read):
    image = PIL.Image.new(read, (2, 1), (200, 100, 50, 255)[: len(read)]).convert(mode)
    head, data = written(image).split(",")
    assert head == "data:image/png;type=image;base64"
    came = PIL.Image.open(io.BytesIO(base64.b64decode(data)))
    assert (came.mode, came.tobytes()) == (read, image.convert(read).tobytes())
