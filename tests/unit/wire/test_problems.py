"""Errors as problem documents and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlaunch import errors
from openlaunch.errors import APIError, BadRequest, NotFound, ServerError, TooManyRequests, Unprocessable
from openlaunch.wire.problems import from_response, to_problem

CLASSES = [cls for cls in APIError.__subclasses__() if cls.__module__ == errors.__name__]


def travel(error: APIError, request_id: str = "req_1", **headers: str) -> APIError:
    """The error as the other side sees it."""
    body = json.dumps(to_problem(error, request_id)).encode()
    return from_response(error.status, headers, body)


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_comes_back_as_itself(cls):
    there = travel(cls("no such thing: 'x'", code="a_code"), **{"retry-after": "7"})
    assert type(there) is cls
    assert (there.message, there.code, there.request_id) == ("no such thing: 'x'", "a_code", "req_1")
    assert (there.retry_after, there.errors) == (7.0, [])


def test_a_422_comes_back_with_its_fields_and_names_them():
    fields = [
        {"loc": ["body", "args", "items", 0], "msg": "'a' is not a number", "type": "type"},
        {"loc": [], "msg": "too much", "type": "value_error"},
    ]
    there = travel(Unprocessable("the args do not fit", code="request_schema", errors=fields))
    assert there.errors == fields
    assert there.message == "body.args.items.0: 'a' is not a number; too much"
    assert there.code == "request_schema"


def test_the_document_has_the_members_of_the_rfc():
    problem = to_problem(NotFound("no endpoint 'x'", code="endpoint_not_found"), "req_1")
    assert problem == {
        "type": "about:blank",
        "title": "Not found",
        "status": 404,
        "detail": "no endpoint 'x'",
        "code": "endpoint_not_found",
        "request_id": "req_1",
    }


def test_the_detail_of_a_422_is_the_contracts_list():
    fields = [{"loc": ["body", "name"], "msg": "too long", "type": "string_too_long"}]
    problem = to_problem(Unprocessable("the request does not fit", errors=fields), None)
    assert problem["detail"] == fields
    assert problem["title"] == "the request does not fit"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"detail": "upstream is gone"}', "upstream is gone"),
        (b'{"detail": [{"loc": null, "msg": "odd"}]}', "odd"),
        (b'{"detail": ["odd"]}', "['odd']"),
        (b'{"detail": null}', "the server answered 502 without a reason"),
    ],
)
def test_a_problem_document_is_read_whatever_its_detail_is(body, message):
    assert from_response(502, {}, body).message == message


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "it is empty"),
        (b"<html>Bad gateway</html>", "<html>Bad gateway</html>"),
        (b"[1, 2]", "[1, 2]"),
        (b'{"message": "no detail"}', '{"message": "no detail"}'),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"[" * 100_000, "[" * 500),
    ],
)
def test_answers_of_others_are_errors_that_say_so(body, text):
    error = from_response(502, {}, body)
    assert type(error) is errors.WorkerDied
    assert error.message == (
        "the answer has the status 502, and is not one of an Openlaunch server (is the URL right, and is there a "
        f"proxy on the way?): {text}"
    )


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        ("0.5", 0.5),
        ("0", 0.0),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("9" * 400, None),
        ("\u00b2", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_retry_after(value, seconds):
    error = from_response(429, {"retry-after": value}, b"{}")
    assert type(error) is TooManyRequests
    assert error.retry_after == seconds


def test_a_code_that_is_no_text_is_not_taken():
    error = from_response(400, {"x-request-id": "req_9"}, b'{"code": 7, "request_id": 8, "detail": "no"}')
    assert type(error) is BadRequest
    assert (error.code, error.request_id) == ("bad_request", "req_9")


@given(status=st.integers(400, 599), body=st.binary(max_size=200))
def test_whatever_comes_is_an_error_with_a_message(status, body):
    error = from_response(status, {}, body)
    assert isinstance(error, BadRequest if 400 <= status < 500 and type(error) is BadRequest else APIError)
    assert error.message.strip() == error.message


@given(
    document=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["detail", "code", "request_id", "loc", "msg"]), inner)
        ),
        max_leaves=10,
    )
)
def test_whatever_json_comes_is_an_error(document):
    assert isinstance(from_response(500, {}, json.dumps(document).encode()), ServerError)
