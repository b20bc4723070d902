"""Lines of the server's log name the request that they belong to, as long as it is under way."""

import asyncio
import json
import logging
import sys

import pytest
from server_links import in_loop

from openlaunch.server.logs import FORMATTERS, JsonFormatter, Subject, TextFormatter, about, trace_id_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def scope_of(traceparent=f"00-{TRACE}-00f067aa0ba902b7-01"):
    return {"headers": [(b"x-request-id", b"mine"), (b"traceparent", traceparent.encode())]}


def record(message="a line", **extra):
    made = logging.LogRecord("openlaunch.x", logging.WARNING, "f", 1, message, None, None)
    vars(made).update(extra)
    return made


def test_a_line_of_a_request_names_it_and_its_trace():
    with about(scope_of()):
        assert (
            TextFormatter()
            .format(record())
            .endswith(f" WARNING openlaunch.x: a line [request=mine trace={TRACE}]")
        )
        document = json.loads(JsonFormatter().format(record()))
    assert (document["request"], document["trace"], document["level"]) == ("mine", TRACE, "WARNING")
    assert TextFormatter().format(record()).endswith(": a line")


def test_a_traceback_is_part_of_its_line():
    try:
        raise LookupError("two\nlines")
    except LookupError:
        failed = record(exc_info=sys.exc_info(), request_id="req_1")
    text = JsonFormatter().format(failed)
    assert "\n" not in text
    document = json.loads(text)
    assert document["exception"].endswith("LookupError: two\nlines")
    assert document["request"] == "req_1"
    assert "[request=req_1]\n    Traceback" in TextFormatter().format(failed)


FORGED = "bad\r\n2026-01-01 00:00:00,000 ERROR openlaunch.x: forged\x1b[2J\u202eü\tend"


def test_what_a_model_says_begins_no_line_and_controls_no_terminal():
    try:
        raise LookupError(FORGED)
    except LookupError:
        failed = record(FORGED, exc_info=sys.exc_info())
    first, *further = TextFormatter().format(failed).split("\n")
    assert first.endswith(" WARNING openlaunch.x: bad\\r")
    assert all(line.startswith("    ") for line in further)
    assert further[0] == "    2026-01-01 00:00:00,000 ERROR openlaunch.x: forged\\x1b[2J\\u202eü\tend"
    assert further[-1] == further[0]


@in_loop
async def test_what_outlasts_its_request_does_not_name_it():
    asked = asyncio.Event()

    async def line():
        await asked.wait()
        return TextFormatter().format(record())

    with about(scope_of()):
        inside = asyncio.create_task(line())
    subject = Subject(scope_of())
    spawned = asyncio.get_running_loop().create_task(line(), context=subject.context())
    asked.set()
    assert "request=mine" in await spawned
    assert "request=mine" not in await inside


@pytest.mark.parametrize(
    "bad",
    [
        "",
        f"ff-{TRACE}-00f067aa0ba902b7-01",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-00f067aa0ba902b7-01",
        f"00-{TRACE}-00f067aa0ba902b7",
        f"00-{TRACE}-00f067aa0ba902b7-01-more",
    ],
)
def test_a_traceparent_that_is_not_valid_is_ignored(bad):
    assert trace_id_of(scope_of(bad)) is None
    assert trace_id_of({"headers": []}) is None
    assert trace_id_of(scope_of(f"01-{TRACE}-00f067aa0ba902b7-01-more")) == TRACE


def test_there_are_two_formats():
    assert list(FORMATTERS) == ["text", "json"]
