"""What a model's caller sees while it waits, and of an answer that comes after the stream was opened."""

import json

import pytest

from openlaunch.errors import Unavailable
from openlaunch.server.access.tokens import Account
from openlaunch.server.gateway.heartbeats import HEARTBEAT, SILENT_TICKS
from openlaunch.server.gateway.model_calls import ModelCall
from openlaunch_worker.frames import FrameError, Outcome


class Streams:
    """In place of what all streams share."""

    deadlines = None


class Payer:
    """In place of who pays, and of the counts."""

    account = Account("key", "me")

    def pay(self, work, usage):
        pass


class Exchange:
    """In place of the client's connection: what was answered."""

    request_id = "req_1"
    route = engine_route = "/v1/chat/completions"
    limits = {}  # noqa: RUF012 -- nothing adds to it
    started = False
    write_paused = False

    def __init__(self):
        self.sent, self.whole, self.error = b"", None, None

    def write(self, data, headers):
        self.started = True
        self.sent += data

    end = write

    def respond_as_is(self, status, headers, body):
        self.whole = status, headers["content-type"], bytes(body)

    def fail(self, error):
        self.error = error

    def collect(self, size):
        return True


@pytest.fixture
def exchange():
    return Exchange()


@pytest.fixture
def call(exchange):
    return ModelCall(Streams(), exchange, Payer(), b"{}", 0.0, False)


def head(status, kind="application/json"):
    return json.dumps({"status": status, "headers": {"content-type": kind}}).encode()


def wait_long(call):
    for _ in range(SILENT_TICKS):
        assert call.tick()


def test_a_long_wait_has_comments_and_then_the_stream(call, exchange):
    wait_long(call)
    wait_long(call)
    assert exchange.sent == 2 * HEARTBEAT
    call.head(head(200, "text/event-stream"))
    call._streams.flush_soon = lambda flush: flush()
    call.piece(b"data: 1\n\n")
    call.answered(Outcome.SUCCESS, b"")
    assert exchange.sent == 2 * HEARTBEAT + b"data: 1\n\n"


@pytest.mark.parametrize(("status", "end"), [(400, b""), (200, b"data: [DONE]\n\n")])
def test_what_is_answered_whole_after_a_comment_is_an_event(call, exchange, status, end):
    wait_long(call)
    call.head(head(status))
    call.piece(b'{"error":\n')
    call.piece(b"{}}")
    call.answered(Outcome.SUCCESS, b"")
    assert exchange.sent == HEARTBEAT + b'data: {"error": {}}\n\n' + end


def test_what_fails_after_a_comment_is_an_error_event(call, exchange):
    wait_long(call)
    call.failed(Unavailable("no worker"))
    event = json.loads(exchange.sent.removeprefix(HEARTBEAT + b"data: "))
    assert event["error"]["message"] == "no worker"
    assert event["error"]["type"] == "server_error"


def test_an_answer_that_is_cut_short_is_an_error_and_not_a_part(call, exchange):
    call.head(head(200))
    call.piece(b'{"choices": [')
    failure = {"status": "FAILURE", "traceback": "it was cut", "status_code": 502}
    call.answered(Outcome.FAILURE, b"data: " + json.dumps(failure).encode())
    assert exchange.whole is None
    assert (exchange.error.status, exchange.error.message) == (502, "it was cut")


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b"[]",
        head(99),
        head(600),
        head(200, "text/html\r\nset-cookie: a=b"),
        b'{"status": 200, "headers": {"set-cookie": "a=b"}}',
        b'{"status": 200, "headers": {"content-type": 1}}',
    ],
)
def test_a_head_that_no_worker_of_ours_sends_is_refused(call, payload):
    with pytest.raises(FrameError):
        call.head(payload)
