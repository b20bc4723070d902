"""What carries the context of a span through the JSON of a prediction, and which requests are traced."""

import json
import subprocess
import sys

import pytest

from openlaunch.server.spans import Trace, traceparent_in, with_traceparent

ONE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TWO = b"00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"
BODY = b'{"args": {"x": 1}}'


def test_the_context_is_a_member_of_the_json_and_is_replaced():
    once = with_traceparent(BODY, ONE)
    assert json.loads(once) == {"traceparent": ONE.decode(), "args": {"x": 1}}
    assert traceparent_in(once) == ONE
    assert json.loads(with_traceparent(once, TWO)) == {"traceparent": TWO.decode(), "args": {"x": 1}}


@pytest.mark.parametrize(
    "body",
    [
        BODY,
        b'{"traceparent":"x","args":{}}',
        b'{"traceparent":"' + b"y" * 200,
        b'{"traceparent":"' + ONE,
        b"[1]",
        b"",
    ],
)
def test_what_a_caller_has_written_is_left_as_it_is(body):
    assert traceparent_in(body) is None
    assert with_traceparent(body, ONE).endswith(body[1:])


@pytest.mark.parametrize(
    "given",
    [
        None,
        b"",
        b"nonsense",
        ONE[:-2] + b"00",
        b"ff" + ONE[2:],
        ONE.replace(b"0af7651916cd43dd8448eb211c80319c", b"0" * 32),
        ONE.replace(b"b7ad6b7169203331", b"0" * 16),
    ],
)
def test_a_parent_that_is_none_or_not_sampled_is_not_followed(given):
    assert Trace.of(given) is None


def test_a_span_within_another_has_its_trace_and_an_id_of_its_own():
    trace = Trace.of(ONE)
    assert trace is not None
    assert trace.traceparent[:36] == ONE[:36]
    assert len({trace.traceparent, trace.traceparent_of_work, ONE}) == 3


def test_without_a_receiver_nothing_of_opentelemetrys_sdk_is_imported():
    program = """
import sys
from openlaunch.server import serve
import openlaunch_worker.runner
sys.exit(any(name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")) for name in sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=110).returncode == 0
