"""The small ASGI helpers."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlaunch.errors import (
    APIError,
    BadRequest,
    NotFound,
    PayloadTooLarge,
    TooManyRequests,
    Unauthorized,
    Unprocessable,
)
from openlaunch.server.asgi import (
    Disconnected,
    header,
    new_request_id,
    problem_headers,
    query_value,
    read_body,
)
from openlaunch.wire.problems import from_response, to_problem

GONE = {"type": "http.disconnect"}


def pieces(*bodies: bytes) -> list[dict[str, Any]]:
    return [
        {"type": "http.request", "body": body, "more_body": n < len(bodies) - 1}
        for n, body in enumerate(bodies)
    ]


def read(messages: Iterable[dict[str, Any]], limit: int = 10, announced: int | None = None) -> bytes:
    left = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(left)

    headers = [] if announced is None else [(b"content-length", b"%d" % announced)]
    return asyncio.run(read_body({"headers": headers}, receive, limit))


class TestBodies:
    @given(st.lists(st.binary(max_size=5), min_size=1, max_size=5))
    def test_are_put_together(self, bodies):
        assert read(pieces(*bodies), limit=100) == b"".join(bodies)

    def test_a_message_without_a_body_is_an_empty_one(self):
        assert read([{"type": "http.request"}]) == b""

    @pytest.mark.parametrize("bodies", [[b"x" * 11], [b"x" * 10, b"x"], [b"x"] * 11, [b"", b"x" * 11]])
    def test_over_the_limit_are_refused(self, bodies):
        with pytest.raises(PayloadTooLarge, match="10 bytes"):
            read(pieces(*bodies))

    def test_at_the_limit_are_taken(self):
        assert read(pieces(b"x" * 10), announced=10) == b"x" * 10

    def test_announced_over_the_limit_are_refused_unread(self):
        with pytest.raises(PayloadTooLarge, match="11 bytes"):
            read([], announced=11)

    @pytest.mark.parametrize("messages", [[GONE], [*pieces(b"x", b"y")[:1], GONE]])
    def test_of_a_client_that_left(self, messages):
        with pytest.raises(Disconnected):
            read(messages)


def sent(error: APIError) -> tuple[int, dict[str, str], bytes]:
    headers = {name.lower(): value for name, value in problem_headers(error, "req_1").items()}
    return error.status, headers, json.dumps(to_problem(error, "req_1")).encode()


class TestAnswers:
    def test_a_problem_comes_back_as_its_error(self):
        error = TooManyRequests("full", retry_after=7)
        status, headers, body = sent(error)
        there = from_response(status, headers, body)
        assert type(there) is TooManyRequests
        assert (there.message, there.retry_after) == ("full", 7.0)
        assert there.request_id == headers["x-request-id"]

    def test_a_422_has_the_contracts_detail(self):
        fields = [{"loc": ["body", "url"], "msg": "wrong", "type": "value_error"}]
        _, _, body = sent(Unprocessable("wrong", errors=fields))
        assert json.loads(body)["detail"] == fields

    def test_a_401_says_how_to_authenticate(self):
        _, headers, _ = sent(Unauthorized("no key"))
        assert headers["www-authenticate"] == 'Basic realm="openlaunch"'

    @pytest.mark.parametrize(
        ("seconds", "value"), [(0.0, "1"), (0.4, "1"), (2.5, "3"), (3.2, "4"), (60, "60")]
    )
    def test_retry_after_is_in_whole_seconds_and_never_too_early(self, seconds, value):
        _, headers, _ = sent(NotFound("x", retry_after=seconds))
        assert headers["retry-after"] == value


def test_request_ids_are_unique():
    assert len({new_request_id() for _ in range(1000)}) == 1000


def test_the_first_header_of_a_name():
    scope = {"headers": [(b"a", b"1"), (b"b", b"2"), (b"b", b"3")]}
    assert header(scope, b"b") == b"2"
    assert header(scope, b"c") is None


class TestQuery:
    def test_a_value(self):
        assert (
            query_value({"query_string": b"a=1&model_endpoint_id=end_1&b="}, b"model_endpoint_id") == "end_1"
        )

    @pytest.mark.parametrize("query", [b"", b"other=1", b"xmodel_endpoint_id=1", b"model_endpoint_id"])
    def test_a_missing_value_is_named(self, query):
        with pytest.raises(BadRequest, match="model_endpoint_id is missing"):
            query_value({"query_string": query}, b"model_endpoint_id")
