"""Kubernetes-style quantities."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlaunch.wire.quantities import parse_quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (2, 2.0),
        (0, 0.0),
        (0.5, 0.5),
        ("500m", 0.5),
        ("2", 2.0),
        (" 2 ", 2.0),
        ("1e3", 1000.0),
        ("1k", 1e3),
        ("1.5G", 1.5e9),
        ("8Gi", 8 * 2.0**30),
        ("1Ki", 1024.0),
        ("3Mi", 3 * 2.0**20),
        ("1Ti", 2.0**40),
    ],
)
def test_what_quantities_stand_for(text, number):
    assert parse_quantity(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "Gi", "-1", -1, "8GB", "8 Gi", "1,5", "0x10", "nan", "inf", math.nan, math.inf, "1e999", "two"],
)
def test_what_is_no_quantity_is_named(text):
    with pytest.raises(ValueError, match="quantity") as caught:
        parse_quantity(text)
    assert repr(text) in str(caught.value)


@given(st.floats(min_value=0, allow_infinity=False, allow_nan=False))
def test_every_number_of_zero_or_more_is_a_quantity(number):
    assert parse_quantity(number) == number
