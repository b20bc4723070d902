"""The bodies of predictions: what is taken, and what is refused before anything is queued."""

import asyncio
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlaunch.errors import BadRequest, Unprocessable
from openlaunch.server.prediction import checks as checks_module
from openlaunch.server.prediction.checks import PROCESSES, Checks
from openlaunch.server.prediction.compute_process import ProcessApart
from openlaunch.server.prediction.inputs import (
    PredictInput,
    at_index,
    check_document,
    is_http_url,
    parse_json,
    places_of,
)
from openlaunch.server.prediction.schemas import QUICK_BYTES, BundleSchemas
from openlaunch.tasks.callback import Callback
from openlaunch_worker.frames import Flags
from openlaunch_worker.runner import _parse_json as parse_in_worker

BODY = b"the bytes that came"
NO_SCHEMAS = BundleSchemas({})
NUMBER = BundleSchemas({"RequestSchema": {"properties": {"x": {"type": "number"}}, "required": ["x"]}})


def refusal(document: Any) -> Unprocessable:
    with pytest.raises(Unprocessable) as caught:
        check_document(document, BODY, NO_SCHEMAS)
    return caught.value


@pytest.mark.parametrize(
    ("document", "given"),
    [
        ({"args": {}}, PredictInput(BODY, Flags.NONE, None)),
        ({"args": {"x": 1}, "url": None}, PredictInput(BODY, Flags.NONE, None)),
        ({"args": [1, 2]}, PredictInput(BODY, Flags.NONE, None)),
        ({"args": 0}, PredictInput(BODY, Flags.NONE, None)),
        ({"url": "https://example.org/x"}, PredictInput(BODY, Flags.NONE, None)),
        ({"args": {}, "return_pickled": True}, PredictInput(BODY, Flags.PICKLED, None)),
        ({"args": {}, "return_pickled": False}, PredictInput(BODY, Flags.NONE, None)),
        ({"args": {}, "callback_url": "http://h/"}, PredictInput(BODY, callback=Callback("http://h/"))),
        ({"args": {}, "callback_url": None, "priority": -7}, PredictInput(BODY, priority=-7)),
        ({"args": {}, "timeout_seconds": 2}, PredictInput(BODY, Flags.NONE, 2.0)),
        ({"args": {}, "timeout_seconds": 0.5, "unknown": 7}, PredictInput(BODY, Flags.NONE, 0.5)),
    ],
)
def test_what_is_taken(document, given):
    assert check_document(document, BODY, NO_SCHEMAS) == given


def test_both_of_url_and_args():
    error = refusal({"url": "https://example.org/x", "args": {}})
    assert str(error) == "body: both of url and args is given: give exactly one of them"
    assert error.errors[0]["loc"] == ["body"]


@pytest.mark.parametrize("document", [{}, {"args": None}, {"url": None}, {"arguments": {}}])
def test_neither_of_url_and_args(document):
    assert str(refusal(document)).startswith("body: neither of url and args is given")


@pytest.mark.parametrize("document", [None, [], "text", 7, True])
def test_what_is_no_object(document):
    assert type(document).__name__ in str(refusal(document))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("return_pickled", "yes"),
        ("return_pickled", 1),
        ("timeout_seconds", 0),
        ("timeout_seconds", -1),
        ("timeout_seconds", "3"),
        ("timeout_seconds", True),
        ("priority", 101),
        ("priority", "high"),
        ("priority", True),
        ("cloudpickle", "gASV"),
    ],
)
def test_a_field_of_a_wrong_type_is_named(field, value):
    error = refusal({"args": {}, field: value})
    assert str(error).startswith(f"{field}: ")
    assert error.errors[0]["loc"] == ["body", field]


@pytest.mark.parametrize(
    "url", ["http://example.org", "HTTPS://u:p@example.org:8443/a?b=c", "http://[::1]:80/"]
)
def test_what_is_a_url(url):
    assert is_http_url(url)


@pytest.mark.parametrize(
    "url",
    [
        *("", "example.org", "file:///etc/passwd", "ftp://example.org", 7, ["https://x"], "http:///path"),
        *(
            "http://[::1/",
            "http://host:99999/",
            "http://host:port/",
            "http://two words/",
            "http://host/\r\nX: y",
        ),
    ],
)
def test_what_is_no_url(url):
    assert refusal({"url": url}).errors[0]["loc"] == ["body", "url"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"{'args': {}}", b'{"args": NaN}', b"\xff", b"[" * 5000 + b"]" * 5000]
)
def test_what_is_no_json(body):
    with pytest.raises(BadRequest, match="not valid JSON") as caught:
        parse_json(body)
    assert caught.value.code == "invalid_json"


KEYS = st.sampled_from(["args", "url", "priority", "callback_url", "callback_auth"])


@st.composite
def spellings(draw):
    """A JSON object whose keys are spelled in any way, and may stand there several times."""
    fields = draw(st.lists(st.tuples(KEYS, st.integers(0, 9)), max_size=6))
    text = ", ".join(f'"{draw(spelled(key))}": {value}' for key, value in fields)
    return f"{{{text}}}".encode(), dict(fields)


def spelled(text):
    ways = [st.sampled_from([character, f"\\u{ord(character):04x}"]) for character in text]
    return st.tuples(*ways).map("".join)


@given(spellings())
def test_gateway_and_worker_read_the_same_of_escaped_and_repeated_keys(spelling):
    body, meant = spelling
    assert parse_json(body) == parse_in_worker(str(body, "utf-8")) == meant


def test_what_is_a_users_is_not_in_the_repr():
    document = {"args": {}, "callback_url": "http://h/?token=secret"}
    assert "secret" not in repr(check_document(document, b"secret", NO_SCHEMAS))


def test_args_are_held_against_the_schema():
    assert check_document({"args": {"x": 1}}, BODY, NUMBER) == PredictInput(BODY, Flags.NONE, None)
    with pytest.raises(Unprocessable) as caught:
        check_document({"args": {"x": "one"}}, BODY, NUMBER)
    assert caught.value.errors[0]["loc"] == ["body", "args", "x"]


def test_bytes_behind_a_url_are_held_against_no_schema():
    assert check_document({"url": "https://example.org/x"}, BODY, NUMBER) == PredictInput(
        BODY, Flags.NONE, None
    )


def in_checks(check):
    """What a check gives, of those that may take a process of their own."""

    async def run():
        checks = Checks()
        try:
            return await check(checks)
        finally:
            await checks.stop()

    return asyncio.run(run())


@pytest.mark.parametrize("size", [10, QUICK_BYTES * 2])
def test_small_and_large_bodies_are_checked_alike(size):
    good = orjson.dumps({"args": {"x": 1, "pad": "x" * size}})
    bad = orjson.dumps({"args": {"x": "one", "pad": "x" * size}})
    assert in_checks(lambda checks: checks.one("me", good, NUMBER)) == PredictInput(good)
    with pytest.raises(Unprocessable, match="do not fit"):
        in_checks(lambda checks: checks.one("me", bad, NUMBER))
    with pytest.raises(BadRequest):
        in_checks(lambda checks: checks.one("me", good[:-1], NUMBER))


def test_checks_that_are_cancelled_twice_leave_processes_that_work():
    body = orjson.dumps({"args": {"x": 1, "pad": "x" * 2 * QUICK_BYTES}})

    async def check(checks):
        await asyncio.gather(*(checks.one("me", body, NUMBER) for _ in range(2 * PROCESSES)))
        calls = [asyncio.create_task(checks.one("me", body, NUMBER)) for _ in range(PROCESSES)]
        for _ in range(3):
            await asyncio.sleep(0)
            for call in calls:
                call.cancel()
        return await asyncio.gather(
            *calls, *(checks.one("me", body, NUMBER) for _ in range(4)), return_exceptions=True
        )

    *cancelled, first, second, third, fourth = in_checks(check)
    assert [type(error) for error in cancelled] == [asyncio.CancelledError] * PROCESSES
    assert [each.body for each in (first, second, third, fourth)] == [body] * 4


def test_a_process_that_gives_its_memory_back_is_kept_for_the_next_large_body():
    process = ProcessApart("openlaunch.server.prediction.check_process")
    try:
        channels = set()
        for _ in range(2):
            process.call("args", b'"%b"' % (b"x" * 9 * 1024 * 1024), b"{}")
            channels.add(process.channel())
        assert len(channels) == 1
    finally:
        process.stop()


def test_a_process_that_is_killed_after_its_last_answer_does_not_fail_the_next_call():
    process = ProcessApart("openlaunch.server.prediction.check_process")
    try:
        for _ in range(3):
            assert process.call("args", b"1", b"{}") == PredictInput(b"")
            process.kill()
    finally:
        process.stop()


def test_another_model_is_named_in_another_process_where_the_body_is_large(monkeypatch):
    body = b'{"model": "a/b", "model" : "c", "n": [{"model": 1e400}], "pad": "%b"}'
    named = b'{"model": "d", "model" : "d", "n": [{"model": 1e400}], "pad": "%b"}'
    assert in_checks(lambda checks: checks.with_value("me", body % b"", "model", "d")) == named % b""
    monkeypatch.setattr(checks_module, "with_value", None)
    pad = b"x" * QUICK_BYTES
    assert in_checks(lambda checks: checks.with_value("me", body % pad, "model", "d")) == named % pad


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["args", "url", "return_pickled", "timeout_seconds", "cloudpickle", "priority"]
                ),
                inner,
            )
        ),
        max_leaves=8,
    )
)
def test_whatever_comes_is_taken_or_refused(document):
    with suppress(Unprocessable):
        check_document(document, BODY, NO_SCHEMAS)


def test_an_error_of_one_of_several_requests_says_which():
    error = at_index(refusal({"args": {}, "timeout_seconds": 0}), 3)
    assert type(error) is Unprocessable
    assert str(error).startswith("request 3: timeout_seconds: ")
    assert error.errors[0]["loc"] == ["body", "requests", 3, "timeout_seconds"]
    assert at_index(BadRequest("odd", code="invalid_json"), 0).code == "invalid_json"


def test_a_url_has_a_limit():
    assert is_http_url("http://x/" + "y" * 2000)
    assert not is_http_url("http://x/" + "y" * 1_000_000)


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_the_requests_of_a_bulk_submit_are_found_by_their_bytes(kind):
    """Characters of one to four bytes, before, in and between them."""
    one, two, three = (f'{{"args": {{"x": "{text}"}}}}' for text in ("é", "z😀", "\u0800\\u00e9"))
    body = f'{{"ü": "😀", "requests": [ {one} ,\n{two},{three}], "€": 1}}'.encode()
    found = [bytes(kind(body)[start:end]) for start, end in places_of(kind(body))]
    assert found == [one.encode(), two.encode(), three.encode()]
