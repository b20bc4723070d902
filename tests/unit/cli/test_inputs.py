"""JSON objects that commands are given."""

import pytest
import typer

from openlaunch.cli.inputs import arguments, json_object


@pytest.mark.parametrize("number", ["NaN", "[-Infinity]", "1e400", "[-1e999]"])
def test_numbers_that_can_not_be_sent_are_named_with_where_they_stand(number):
    with pytest.raises(
        typer.BadParameter, match=r"^line 2 is not JSON: -?\w+ is (not a JSON|too large for a) number"
    ):
        json_object(f'{{"x": {number}}}', "line 2")


def test_other_numbers_are_as_they_are_written():
    assert json_object('{"x": [18446744073709551617, 1e308, 0.1]}', "it") == {"x": [2**64 + 1, 1e308, 0.1]}
    assert arguments(["x=1e400", "y=1e3"]) == {"x": "1e400", "y": 1000.0}
