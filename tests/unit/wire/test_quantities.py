"""Cores, and sizes in bytes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from openlaunch.wire.quantities import MAX_QUANTITY, Bytes, Size, parse_cores, parse_size, size_text


@pytest.mark.parametrize(
    ("text", "number"),
    [(2, 2.0), (0, 0.0), (0.5, 0.5), ("500m", 0.5), ("2", 2.0), (" 2 ", 2.0), ("1e3", 1000.0)],
)
def test_what_cores_stand_for(text, number):
    assert parse_cores(text) == number


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (1048576, 2**20),
        ("64MB", 64_000_000),
        ("8GB", 8 * 10**9),
        ("8gb", 8 * 10**9),
        ("8 GB", 8 * 10**9),
        ("8G", 8 * 10**9),
        ("8Gi", 8 * 2**30),
        ("8GiB", 8 * 2**30),
        ("1.5G", 1_500_000_000),
        ("1k", 1000),
        ("1Ki", 1024),
        ("512B", 512),
        ("1e9", 10**9),
    ],
)
def test_what_sizes_stand_for(text, size):
    assert parse_size(text) == size


WRONG = ["", "-1", -1, "1,5", "0x10", "nan", "inf", math.nan, math.inf, "1e999", "two"]


@pytest.mark.parametrize("text", [*WRONG, "8G", "1k"])
def test_what_is_no_number_of_cores_is_named(text):
    with pytest.raises(ValueError, match=r"cores|machine") as caught:
        parse_cores(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", [*WRONG, "Gi", "500m", "8 cores", "8GiBi", True])
def test_what_is_no_size_is_named(text):
    with pytest.raises(ValueError, match=r"size|machine") as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", [8, "8", 0.5, "8k", 1048575])
def test_memory_without_its_unit_is_refused(text):
    with pytest.raises(ValidationError, match="less than 1Mi: give a unit, such as 8Gi"):
        TypeAdapter(Size).validate_python(text)


def test_a_checked_size_keeps_its_spelling():
    assert TypeAdapter(Size).validate_python("8GB") == "8GB"
    assert TypeAdapter(Size).validate_python(0) == 0
    assert TypeAdapter(Bytes).validate_python("64MiB") == 2**26
    assert TypeAdapter(Bytes).validate_python(1024) == 1024


@given(st.floats(min_value=0, max_value=MAX_QUANTITY))
def test_every_number_of_zero_or_more_is_a_quantity(number):
    assert parse_cores(number) == number
    assert parse_size(number) == int(number)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (2**20, "1 MiB"), (1.5 * 2**30, "1.5 GiB"), (2**60, "1048576 TiB")],
)
def test_sizes_are_shown_in_their_unit(count, text):
    assert size_text(count) == text
