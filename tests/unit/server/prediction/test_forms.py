"""Forms that are made to be slow to read, or whose schema is odd."""

import asyncio
import time

import pytest

from openlaunch.errors import BadRequest, Unprocessable
from openlaunch.server.prediction.forms import (
    FORM,
    MAX_FIELDS_BYTES,
    MAX_PARTS,
    MAX_STEPS,
    STEP_BYTES,
    Fields,
    field_of,
    read_form,
)
from openlaunch.wire.bundles import BINARY

FIELDS = Fields({"properties": {"list": {"type": "array"}, "file": {"type": "string", BINARY: "bytes"}}})


def read(*parts, fields=FIELDS, content_type=f"{FORM}; boundary=b"):
    return asyncio.run(read_form(bytearray(b"".join(parts) + b"--b--\r\n"), content_type, fields))


def part(name, data):
    return b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name, data)


def test_lines_that_only_begin_like_the_end_of_a_part_are_bounded():
    assert read(part(b"file", b"\r\n--bx" * (MAX_STEPS - 1))).files
    with pytest.raises(BadRequest):
        read(part(b"file", b"\r\n--bx" * MAX_STEPS))


def test_others_run_between_parts_that_are_found_at_once():
    body = bytearray(part(b"list", b"1" * 1024 * 1024) * 20 + b"--b--\r\n")

    async def turns_beside():
        turns, reading = 0, asyncio.ensure_future(field_of(body, f"{FORM}; boundary=b", "none"))
        while not reading.done():
            turns += 1
            await asyncio.sleep(0)
        return turns

    assert asyncio.run(turns_beside()) > 20 * 1024 * 1024 // STEP_BYTES - 1


def test_a_form_has_a_bounded_number_of_parts():
    assert len(read(*[part(b"list", b"1")] * MAX_PARTS).args["list"]) == MAX_PARTS
    with pytest.raises(BadRequest, match=f"over {MAX_PARTS} parts"):
        read(*[part(b"list", b"1")] * (MAX_PARTS + 1))


def test_what_is_not_a_file_is_bounded_together():
    half = b"1" * (MAX_FIELDS_BYTES // 2)
    assert len(read(part(b"list", b'"%b"' % half[2:]), part(b"list", half)).args["list"]) == 2
    with pytest.raises(Unprocessable, match=f"over {MAX_FIELDS_BYTES} bytes"):
        read(part(b"list", half), part(b"file", half), part(b"list", half), part(b"list", b"1"))


def test_a_file_where_none_is_taken_is_refused_and_says_where_one_is():
    with pytest.raises(Unprocessable, match="other: it is a file, and the function takes files for 'file'"):
        read(part(b'other"; filename="a', b"1"))
    with pytest.raises(Unprocessable, match="takes files for no parameter"):
        read(part(b'other"; filename="a', b"1"), fields=Fields({}))


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (b"filename*=UTF-8''%e2%82%ac%20/..%2Fa.txt", "€ /../a.txt"),
        (b"filename*=utf-8'en'b.txt; filename=\"plain.txt\"", "plain.txt"),
        (b"filename=plain.txt; filename*=UTF-8''b.txt", "plain.txt"),
        (b"filename*=iso-8859-1''%A3.txt", "£.txt"),
        (b"filename*=utf-9''%A3.txt; filename=a", "a"),
        (b'filename="a\\"b\\\\c.txt"', 'a"b\\c.txt'),
    ],
)
def test_the_name_of_a_file_is_read_as_it_is_meant(given, name):
    [(_, found)] = read(b'--b\r\nContent-Disposition: form-data; name="file"; %b\r\n\r\n1\r\n' % given).files
    assert found.filename == name


def test_what_browsers_send_for_no_file_and_for_a_value():
    assert read(part(b'file"; filename="', b"")) == ({}, [], None)
    head = b'--b\r\nContent-Disposition: form-data; name="list"; filename="blob"\r\nContent-Type: application/json'
    assert read(head + b"\r\n\r\n[1]\r\n").args == {"list": [1]}
    either = {"anyOf": [{"type": "string"}, {"type": "string", BINARY: "file"}]}
    assert read(part(b"file", b"text"), fields=Fields({"properties": {"file": either}})).args == {
        "file": "text"
    }


def test_further_arguments_are_what_their_annotation_says():
    """`**files: bytes` has no parameter with a name."""
    binary = {"type": "string", BINARY: "bytes"}
    taken = Fields({"properties": {"n": {"type": "integer"}}, "additionalProperties": binary})
    form = read(part(b'a"; filename="a', b"1"), part(b"n", b"2"), fields=taken)
    assert [path for path, _ in form.files] == [["a"]]
    assert form.args["n"] == 2
    given = {"a": "file_" + "0" * 20, "n": "file_" + "0" * 20}
    assert [path for path, _ in taken.ids_in(given)] == [["a"]]
    texts = Fields({"properties": {}, "additionalProperties": {"type": "string"}})
    assert read(part(b"word", b"5"), fields=texts).args == {"word": "5"}


def test_a_field_that_is_nested_too_deep_is_refused():
    with pytest.raises(Unprocessable, match="nested too deep"):
        read(part(b"list", b"[" * 100_000))


@pytest.mark.parametrize("parameter", ['a="' + ";" * 60_000, ';a="b"' * 10_000, "; a" * 20_000])
def test_a_content_type_is_read_in_one_pass(parameter):
    started = time.thread_time()
    with pytest.raises(BadRequest, match="no boundary"):
        read(content_type=f"{FORM}; {parameter}")
    assert time.thread_time() - started < 1  # 0.01 s; by email.message it was 3 s


def nested(levels):
    schema = {"type": "string"}
    for _ in range(levels):
        schema = {"anyOf": [schema]}
    return schema


@pytest.mark.parametrize(
    "schema", [{"items": True}, {"anyOf": [True, {"type": "string"}]}, nested(5000), True]
)
def test_any_schema_says_what_its_arguments_are(schema):
    assert read(part(b"odd", b"1"), fields=Fields({"properties": {"odd": schema}})).args in (
        {"odd": 1},
        {"odd": "1"},
    )
