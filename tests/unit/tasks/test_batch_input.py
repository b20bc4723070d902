"""Reading the inputs of a batch job."""

import csv
import io
import json

import pytest

from openlaunch.tasks import batch_input
from openlaunch.tasks.batch_input import BadRow, InputError, rows

VALUES = [
    {"x": 1, "y": "hello, it's me"},
    {"x": 2, "y": 'a "quoted" word\nand a line'},
    {"x": 3, "y": "grüße"},
]


def read(data, piece=5):
    pieces = (data[start : start + piece] for start in range(0, len(data), piece))
    return [row.reason if isinstance(row, BadRow) else json.loads(row) for row in rows(pieces)]


def launch_csv(values, quotechar="'", column="args"):
    """A file as Launch's client writes it."""
    file = io.StringIO()
    writer = csv.DictWriter(file, fieldnames=["id", column], quotechar=quotechar)
    writer.writeheader()
    for number, value in enumerate(values):
        writer.writerow({"id": number, column: json.dumps(value) if column == "args" else value})
    return file.getvalue().encode()


@pytest.mark.parametrize("piece", [1, 7, 10_000])
@pytest.mark.parametrize(
    "data",
    [
        launch_csv(VALUES),
        "\n".join(json.dumps({"args": value}) for value in VALUES).encode(),
        "\r\n\r\n".join(json.dumps({"args": value, "id": 7}) for value in VALUES).encode() + b"\n",
        json.dumps([{"args": value} for value in VALUES], indent=1).encode(),
        b"\xef\xbb\xbf \n" + json.dumps([{"args": value} for value in VALUES]).encode() + b"\n",
    ],
    ids=["csv", "lines", "spaced lines", "array", "array with a byte order mark"],
)
def test_every_format_gives_the_same_inputs(data, piece):
    assert read(data, piece) == [{"args": value} for value in VALUES]


NUMBERS = '{"n": 1180591620717411303425, "z": -0.0, "f": 0.10, "d": 1, "d": 2, "a": 1e2}'


@pytest.mark.parametrize(
    "data",
    [
        f"id,args\n0,'{NUMBERS}'\n",
        f'{{"id": 1, "args": 3, "args": {NUMBERS}}}\n',
        f'[ {{"args" : {NUMBERS} , "id": 1}} ,{{"id": {{}}, "args": {NUMBERS}}}]',
    ],
    ids=["csv", "lines", "array"],
)
def test_values_are_passed_on_as_they_came(data):
    assert set(rows(iter([data.encode()]))) == {f'{{"args": {NUMBERS}}}'}


def test_urls_come_from_csv_and_from_json():
    urls = ["https://example.com/a?x=1,2", 'https://example.com/"']
    expected = [{"url": url} for url in urls]
    assert read(launch_csv(urls, '"', "url")) == expected
    assert read(json.dumps(expected).encode()) == expected


@pytest.mark.parametrize("data", [b"[]", b" [ ] ", b"id,url\r\n", b"id,args\n"])
def test_a_file_may_have_no_inputs(data):
    assert read(data) == []


@pytest.mark.parametrize(
    ("data", "place", "reason"),
    [
        (b'{"args": 1}\nnope\n{"args": 2}', 1, "the line is not JSON"),
        (b'{"args": 1}\n[1]\n', 1, "it is list, an object with args or url is needed"),
        (b'[{"args": 1}, null, {"args": 2}]', 1, "it is NoneType"),
        (b"id,args\n0,{}\n1,nope\n", 1, "args is not JSON"),
        (b'id,args\n0,{"x": 1, "y": 2}\n', 0, "the row has 3 values, the header names 2 columns"),
        (b'{"args": ' + b"[" * 100_000 + b"\n", 0, "the line is not JSON"),
    ],
)
def test_one_bad_input_leaves_the_others(data, place, reason):
    found = read(data, 1000)
    assert found[place].startswith(reason)
    assert all(isinstance(row, dict) for index, row in enumerate(found) if index != place)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "neither JSON nor a CSV with a column 'url' or 'args'"),
        (b"name,value\n1,2\n", "it begins with 'name,value"),
        (b'{"args": "\xff"}\n', "not UTF-8 text"),
        (b'[{"args": 1}', "element 0 of the JSON array can't be read"),
        (b'[{"args": 1},]', "element 1 of the JSON array can't be read"),
        (b"[1 2]", "element 0 of the JSON array can't be read: '2]' follows it"),
        (b"[" * 100_000, "element 0 of the JSON array can't be read"),
        (b"id,args\n0,'{}\n1,{}\n", "of the CSV can't be read"),
    ],
)
def test_a_file_that_can_not_be_read_says_why(data, reason):
    with pytest.raises(InputError) as raised:
        read(data, 1000)
    assert reason in str(raised.value)


@pytest.mark.parametrize("data", [b'{"args": "%s"}', b'[{"args": "%s"}]', b"id,args\n0,'\"%s\"'"])
def test_an_input_over_the_limit_is_refused(data, monkeypatch):
    monkeypatch.setattr(batch_input, "MAX_INPUT_CHARS", 1000)
    monkeypatch.setattr(batch_input, "_PIECE_CHARS", 100)
    with pytest.raises(InputError, match=r"limit|can't be read"):
        read(data % (b"x" * 5000))
