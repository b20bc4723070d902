"""The tokens that engines say a request took, in the bytes of their answers."""

import json
import time

import orjson
import pytest

from openlaunch.server.prediction.inputs import ModelInput, with_usage
from openlaunch.server.prediction.usage import (
    MARK,
    NOTHING,
    TokenUsage,
    estimate,
    usage_in,
    without_usage_event,
)

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
OF_MESSAGES = {"input_tokens": 7, "output_tokens": 3, "cache_read_input_tokens": 2}


def event(**document):
    return b"data: " + json.dumps(document).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("data", "usage"),
    [
        (json.dumps({"usage": USAGE, "text": '"usage": {"prompt_tokens": 99}'}).encode(), (7, 3, 0)),
        (orjson.dumps({"usage": USAGE | {"prompt_tokens_details": {"cached_tokens": 5}}}), (7, 3, 5)),
        (orjson.dumps({"usage": USAGE | {"prompt_tokens_details": None}}), (7, 3, 0)),
        (
            orjson.dumps({"usage": USAGE | {"completion_tokens_details": {"reasoning_tokens": 2}}}),
            (7, 3, 0, 2),
        ),
        (
            orjson.dumps({"usage": OF_MESSAGES | {"output_tokens_details": {"reasoning_tokens": 1}}}),
            (9, 3, 2, 1),
        ),
        (event(type="message_delta", usage=OF_MESSAGES), (9, 3, 2)),
        (orjson.dumps({"usage": OF_MESSAGES | {"cache_creation_input_tokens": 4}}), (13, 3, 2)),
        (orjson.dumps({"usage": USAGE | {"cache_read_input_tokens": 2}}), (7, 3, 2)),
        (event(response={"usage": {"input_tokens": 1, "output_tokens": 2}}), (1, 2, 0)),
        (event(usage=None, choices=[]), (0, 0, 0)),
        (b'{"usage": {"prompt_tokens": ', (0, 0, 0)),
        (orjson.dumps({"usage": {"prompt_tokens": "7", "completion_tokens": -1}}), (0, 0, 0)),
        (orjson.dumps({"usage": {"prompt_tokens": 2**24 + 1, "completion_tokens": 2**24}}), (0, 2**24, 0)),
        (b'{"usage": {"prompt_tokens": 1e400, "completion_tokens": 7.5}}', (0, 0, 0)),
        (b'{"usage": {"prompt_tokens": true, "completion_tokens": [1]}}', (0, 0, 0)),
    ],
)
def test_the_usage_of_an_answer(data, usage):
    assert usage_in(data) == TokenUsage(*usage)
    assert usage_in(bytearray(data)) == TokenUsage(*usage)


def test_what_an_engine_does_not_say_is_estimated_where_it_is_text():
    assert estimate("/v1/chat/completions", 400, 40) == TokenUsage(100, 10)
    assert estimate("/v1/embeddings", 400, 40_000) == TokenUsage(100)
    assert estimate("/v1/audio/transcriptions", 400, 40) == NOTHING


def test_an_event_that_the_caller_did_not_ask_for_is_left_out():
    text = event(choices=[{"delta": {"content": 'a "total_tokens" of 1'}}])
    last, done = event(choices=[], usage=USAGE), b"data: [DONE]\n\n"
    assert text.find(MARK) < 0
    assert without_usage_event(text + last + done) == text + done
    assert without_usage_event(last) == b""
    kept = event(choices=[{"delta": {}}], usage=USAGE)
    assert without_usage_event(kept + done) == kept + done
    assert usage_in(kept).most(NOTHING).total == 10


@pytest.mark.parametrize(
    ("body", "options"),
    [
        (b'{"model": "m", "stream": true}', None),
        (b' {"model":"m"}', None),
        (b'{"model": "m", "stream_options": null, "seed": 1}', {}),
        (b'{"stream_options": {"include_usage": false, "x": [1]}, "model": "m"}', {"x": [1]}),
    ],
)
def test_a_stream_is_asked_for_its_usage_and_stays_as_it_is(body, options):
    asked = orjson.loads(with_usage(ModelInput(body, "m", True, options)))
    assert asked.pop("stream_options") == {**(options or {}), "include_usage": True}
    before = orjson.loads(body)
    before.pop("stream_options", None)
    assert asked == before


@pytest.mark.parametrize("part", [b'"usage": {', b'"usage": 1, ', b'"usage"  '])
def test_an_answer_of_many_usages_takes_no_time(part):
    data = bytearray(part * (16 * 1024 * 1024 // len(part)))
    begun = time.process_time()
    assert usage_in(data) == NOTHING
    assert time.process_time() - begun < 0.2
