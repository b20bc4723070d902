"""Formats that pydantic's models have: what pydantic reads is taken, and what it does not read is refused."""

import datetime as dt
import ipaddress
import json
import uuid

import pytest
from pydantic import (
    UUID4,
    AnyUrl,
    AwareDatetime,
    Base64Bytes,
    Base64UrlBytes,
    BaseModel,
    HttpUrl,
    IPvAnyAddress,
    PostgresDsn,
    TypeAdapter,
    ValidationError,
)

from openlaunch.client.packing.documents import pack_schemas
from openlaunch.client.packing.interface import interface_of
from openlaunch.errors import Unprocessable
from openlaunch.server.prediction.schema_cost import FORMAT_PARTS
from openlaunch.server.prediction.schemas import MAX_QUICK_WORK, BundleSchemas
from openlaunch_worker.arguments import Makers
from openlaunch_worker.binaries import Misfit

SOME = str(uuid.UUID(int=5, version=4))
CASES = [
    (
        dt.datetime,
        ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05", "2026-01-02 03:04"],
        ["yesterday", ""],
    ),
    (AwareDatetime, ["2026-01-02T03:04:05+02:00"], ["2026-13-02T03:04:05Z"]),
    (dt.date, ["2026-12-31"], ["31.12.2026", "2026-02-30"]),
    (dt.time, ["12:30", "12:30:00.5"], ["25:00"]),
    (dt.timedelta, ["P1D", "PT1H30M", "1 days, 00:00:10", "12:30:00"], ["long", "P"]),
    (uuid.UUID, [SOME, SOME.replace("-", "")], ["not-a-uuid"]),
    (UUID4, [SOME], [str(uuid.UUID(int=5, version=1))]),
    (AnyUrl, ["http://x.y/z", "urn:isbn:0451450523"], ["no url at all"]),
    (HttpUrl, ["https://exämple.org/ü?q=1"], ["http//x"]),
    (PostgresDsn, ["postgres://u:p@h1,h2/d"], ["x"]),
    (ipaddress.IPv4Address, ["10.0.0.0"], ["999.1.1.1", "::1"]),
    (ipaddress.IPv6Address, ["::1"], ["10.0.0.0"]),
    (IPvAnyAddress, ["::1", "10.0.0.0"], ["x"]),
    (ipaddress.IPv4Network, ["10.0.0.0/8"], ["10.0.0.0/99"]),
    (Base64Bytes, ["aGFsbG8="], ["aGFsbG8"]),
    (Base64UrlBytes, ["_-Fs"], ["aGFsbG8"]),
]


def schemas_of(kind, **more):
    schema = TypeAdapter(kind).json_schema() | more
    return BundleSchemas({"RequestSchema": {"type": "object", "properties": {"x": schema}}})


@pytest.mark.parametrize(("kind", "good", "bad"), CASES)
def test_a_text_has_a_format_if_pydantic_reads_it(kind, good, bad):
    schemas = schemas_of(kind)
    for text in good:
        TypeAdapter(kind).validate_python(text)
        schemas.check_request({"x": text}, 40)
    for text in bad:
        with pytest.raises(ValidationError):
            TypeAdapter(kind).validate_python(text)
        with pytest.raises(Unprocessable) as caught:
            schemas.check_request({"x": text}, 40)
        assert caught.value.errors[0]["type"] == "format"


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("email", "a@b.org", "a"),
        ("name-email", "Ada <a@b.org>", "Ada <a>"),
        ("byte", "aGFsbG8=", "***"),
        ("hostname", "a.example", "a b"),
        ("regex", "a+", "("),
        ("zoneinfo", "UTC", "Nowhere/X"),
        ("somebody's own", "x", None),
    ],
)
def test_further_formats(name, good, bad):
    schemas = BundleSchemas({"RequestSchema": {"type": "string", "format": name}})
    schemas.check_request(good, 20)
    if bad is not None:
        with pytest.raises(Unprocessable):
            schemas.check_request(bad, 20)


class Many(BaseModel):
    whens: list[dt.datetime]


def test_a_large_input_with_formats_is_checked_in_a_process_of_its_own():
    schemas = BundleSchemas({"RequestSchema": Many.model_json_schema()})
    assert schemas.quick_bytes < MAX_QUICK_WORK / FORMAT_PARTS


TIMES = [
    (dt.datetime, ["2026-01-02t03:04:05z", "2026-01-02"], ["1700000000", "-1", "1700000000.5"]),
    (dt.date, ["2026-01-02T00:00:00", "2026-01-02T00:00:00Z"], ["19000", "1700006400"]),
    (dt.time, ["12:30z"], ["3600"]),
    (
        dt.timedelta,
        [
            "P1D",
            "PT1H30M",
            "1 days, 00:00:10",
            "12:30:00",
            "-12:30",
            "+01:00",
            "1 day",
            "P1Y",
            "P1M2W",
            "-PT1.5S",
        ],
        ["-1 day, 12:30:00", "90", ""],
    ),
]


@pytest.mark.parametrize(("kind", "good", "bad"), TIMES)
def test_a_worker_reads_the_times_that_are_let_through_as_pydantic_does(kind, good, bad):
    make, schemas = Makers().of(kind), schemas_of(kind)
    for text in good:
        schemas.check_request({"x": text}, 40)
        assert make(text) == TypeAdapter(kind).validate_python(text)
    for text in bad:
        with pytest.raises(Unprocessable):
            schemas.check_request({"x": text}, 40)
        with pytest.raises(Misfit):
            make(text)


def test_text_that_is_no_complex_number_is_refused():
    def predict(x: complex): ...

    schemas = BundleSchemas(json.loads(pack_schemas(interface_of(predict, has_model=False), None)))
    for good in ("1+2j", 3, 1.5):
        schemas.check_request({"x": good}, 40)
    with pytest.raises(Unprocessable):
        schemas.check_request({"x": "1+j2"}, 40)
