"""Answers that pass through: what is held back, when the server is slowed down, and what counts as the end."""

import json
import time

import pytest

from openlaunch_worker.failures import Refusal
from openlaunch_worker.frames import STREAM_WINDOW
from openlaunch_worker.passing import PassedAnswer, split_request

EVENTS = {"content-type": "text/event-stream; charset=utf-8"}
TOKEN = b'data: {"token": 1}\n\n'
DONE = b"data: [DONE]\n\n"


class Sent:
    """In place of the outbox: what was sent."""

    def __init__(self):
        self.chunks = []
        self.heads = []
        self.flushed = []
        """How many chunks there were at each flush."""

    def chunk(self, request_id, data):
        self.chunks.append(data)

    def control(self, kind, request_id, payload):
        self.heads.append(payload)

    def flush(self):
        self.flushed.append(len(self.chunks))


class Pipe:
    """In place of the connection: what was asked of it."""

    def __init__(self):
        self.asked = []

    def pause(self):
        self.asked.append("pause")

    def resume(self):
        self.asked.append("resume")

    def close(self):
        self.asked.append("close")


def passed(*pieces, headers=EVENTS, status=200, broken=None, most=10**6, route="/v1"):
    """Let an answer go by; return the chunks, and why it is a failure."""

    sent, ends = Sent(), []
    answer = PassedAnswer(1, sent, "the server", most, ends.append)
    answer.begin(Pipe(), route)
    answer.head(status, headers)
    for piece in pieces:
        answer.body(piece)
    answer.broken(broken) if broken else answer.whole()
    [failure] = ends
    return sent.chunks, failure and str(failure)


def test_events_pass_as_they_come():
    assert passed(TOKEN, TOKEN, DONE) == ([TOKEN, TOKEN, DONE], None)
    assert passed(TOKEN + DONE) == ([TOKEN + DONE], None)


@pytest.mark.parametrize(("headers", "flushed"), [(EVENTS, [1]), ({"content-type": "application/json"}, [])])
def test_the_first_event_goes_out_at_once(headers, flushed):
    sent = Sent()
    answer = PassedAnswer(1, sent, "the server", 10**6, print)
    answer.begin(Pipe(), "/v1")
    answer.head(200, headers)
    for piece in (TOKEN[:-2], TOKEN[-2:], TOKEN, DONE):
        answer.body(piece)
    assert sent.flushed == flushed


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_a_part_of_an_event_waits_for_its_rest(newline):
    stream = (TOKEN + TOKEN + DONE).replace(b"\n", newline)
    for cut in range(1, len(stream)):
        chunks, failure = passed(stream[:cut], stream[cut:])
        assert (b"".join(chunks), failure) == (stream, None)
        assert all(chunk.endswith(2 * newline) for chunk in chunks)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_an_event_may_come_byte_by_byte(newline):
    stream = (TOKEN + b":\n\n" + TOKEN + DONE).replace(b"\n", newline)
    chunks, failure = passed(*(stream[i : i + 1] for i in range(len(stream))))
    assert (b"".join(chunks), failure) == (stream, None)


def test_an_error_that_is_null_is_none():
    text = b'data: {"error": null, "token": 1}\n\n'
    assert passed(text, DONE) == ([text, DONE], None)


def test_a_large_event_in_small_pieces_is_searched_once():
    """Each byte is looked at a few times, whatever the size of what is held."""
    pieces = [b"x" * 4096] * 10_000
    began = time.process_time()
    chunks, failure = passed(b"data: ", *pieces, b"\n\n", DONE, most=10**8)
    assert len(chunks[0]) == 40_960_008
    assert failure is None
    assert time.process_time() - began < 5  # 20 times as much as it takes


def test_the_last_event_may_lack_its_empty_line():
    chunks, failure = passed(TOKEN, b"data: [DONE]")
    assert (b"".join(chunks), failure) == (TOKEN + DONE, None)


@pytest.mark.parametrize(
    ("pieces", "broken", "reason"),
    [
        ((TOKEN, TOKEN[:-5]), None, r"without data: \[DONE\]"),
        ((TOKEN,), None, r"without data: \[DONE\]"),
        ((TOKEN, TOKEN[:-5]), "it was cut", "it was cut"),
        ((TOKEN, b'data: {"error": {"message": "full"}}\n\n' + DONE), None, "full"),
        ((TOKEN, b"event: error\ndata: full\n\n"), None, "full"),
        ((TOKEN, b'data: {"type": "error", "message": "full"}\n\n'), None, "full"),
    ],
)
def test_a_stream_that_does_not_end_well_passes_whole_events_and_fails(pieces, broken, reason):
    chunks, failure = passed(*pieces, broken=broken)
    assert chunks == [TOKEN]
    assert reason.replace("\\", "") in failure


def test_words_in_a_text_are_neither_an_error_nor_the_end():
    text = b'data: {"text": "event: error data: {\\"error\\""}\n\n'
    assert passed(text, DONE) == ([text, DONE], None)
    text = b'data: {"text": "data: [DONE]"}\n\n'
    assert passed(text)[0] == [text]
    assert "without data: [DONE]" in passed(text)[1]


def test_other_answers_pass_as_they_are():
    json = {"content-type": "application/json"}
    assert passed(b'{"a"', b": 1}", headers=json) == ([b'{"a"', b": 1}"], None)
    assert passed(b"no", headers=json, status=404) == ([b"no"], None)
    chunks, failure = passed(b"broken", headers=json, status=503)
    assert (chunks, failure) == ([b"broken"], "POST /v1 of the server answered 503: broken")
    assert "limit" in passed(b"x" * 20, headers=json, most=10)[1]
    assert "redirect" in passed(headers=json, status=307)[1]
    assert "gzip" in passed(headers={**EVENTS, "content-encoding": "gzip"})[1]


@pytest.mark.parametrize("value", ["a/b\nset-cookie: c=1", "a/b\r", "é/b", "a" * 501, "a\tb"])
@pytest.mark.parametrize("name", ["content-type", "retry-after"])
def test_a_header_that_the_server_would_refuse_is_not_passed_on(name, value):
    assert name in passed(b"{}", headers={name: value})[1]


def test_an_event_has_a_limit():
    assert "event of over 1000 bytes" in passed(TOKEN, b"data: " + b"x" * 1000, most=1000)[1]


def test_the_server_is_slowed_down_by_a_client_that_is_slow():
    pipe = Pipe()
    answer = PassedAnswer(1, Sent(), "the server", 10**6, [].append)
    answer.begin(pipe, "/v1")
    answer.head(200, EVENTS)
    for _ in range(STREAM_WINDOW // 64):
        assert pipe.asked == []
        answer.body(b":\n\n")  # which counts for more than it is
    assert pipe.asked == ["pause"]
    answer.grant(64)
    assert pipe.asked == ["pause", "resume"]


def test_a_request_that_is_stopped_ends_once_and_closes_its_connection():
    pipe, ends, sent = Pipe(), [], Sent()
    answer = PassedAnswer(1, sent, "the server", 10**6, ends.append)
    answer.begin(pipe, "/v1")
    answer.head(200, EVENTS)
    answer.stop()
    answer.body(TOKEN)
    answer.broken("it was cut")
    assert (pipe.asked, ends, sent.chunks) == (["close"], [None], [])


def test_a_request_is_split_without_being_read():
    body = b'{"destination_path": "/v1/x", "args": {"a": 1, "args": 2} }'
    assert split_request(body) == ("/v1/x", "application/json", b'{"a": 1, "args": 2} ')
    form = b'{"destination_path": "/v1/x", "content_type": "multipart/form-data", "args": \xff, "args": }'
    assert split_request(form) == ("/v1/x", "multipart/form-data", b'\xff, "args": ')
    for odd in (b"", b"{}", b'{"args": 1}', b'{"destination_path", "args": 1}'):
        with pytest.raises(Refusal):
            split_request(odd)


ENDS = {
    "/v1/messages": b'event: message_stop\ndata: {"type": "message_stop"}\n\n',
    "/v1/responses": b'event: response.completed\ndata: {"type": "response.completed"}\n\n',
    "/v1/audio/transcriptions": b'data: {"type":"transcript.text.done","text":"a"}\n\n',
    "/v1/audio/speech": b'data: {"usage": {}, "type": "speech.audio.done"}\n\n',
}


@pytest.mark.parametrize("route", ENDS)
def test_a_stream_ends_as_its_route_has_it(route):
    text = json.dumps({"text": "event: message_stop", "says": ENDS[route].decode()}).encode()
    first = b"event: response.created\ndata: %b\n\n" % text
    assert passed(first, ENDS[route], route=route)[1] is None
    assert "ended without" in str(passed(first, route=route)[1])
    assert "ended without" in str(passed(first, ENDS[route])[1])
