"""Completions, made by the unmodified `scale-llm-engine` package, with an engine that does as it is told."""

import json

import pytest
from llm_engine_driver import llm_engine
from openai_driver import ROUTES, mock_engine
from server_driver import http

BODY = {"prompt": "x", "max_new_tokens": 3, "temperature": 0.5}
SYNC, STREAM = "/v1/llm/completions-sync", "/v1/llm/completions-stream"


@pytest.fixture(scope="module")
def call(client):
    mock_engine(client, "chat", routes=ROUTES[:2]).wait_until_ready(120)
    mock_engine(client, "full", routes=ROUTES[:2], env={"STATUS": "503"}).wait_until_ready(120)
    with llm_engine(client.server.url, client.server.api_key) as call:
        yield call


@pytest.fixture(scope="module")
def raw(client, call):
    with http(client) as raw:
        yield raw


def complete(call, model="chat", **given):
    options = {"prompt": "x", "max_new_tokens": 3, "temperature": 0.5, **given}
    return call("Completion", "create", model=model, **options)


def test_a_prompt_is_completed(call):
    answer = complete(call)["answer"]
    assert answer["request_id"]
    output = answer["output"]
    assert (output["text"], output["num_prompt_tokens"], output["num_completion_tokens"]) == (
        " token" * 3,
        10,
        3,
    )


def test_a_stream_ends_with_its_usage(call):
    pieces = complete(call, stream=True)["answer"]
    outputs = [piece["output"] for piece in pieces]
    assert "".join(each["text"] for each in outputs) == " token" * 3
    assert [each["finished"] for each in outputs] == [False, False, False, True]
    assert [each["num_completion_tokens"] for each in outputs] == [1, 2, 3, 3]
    assert [each["num_prompt_tokens"] for each in outputs] == [None, None, None, 10]


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"model": "chatt"}, "NotFoundError", "near names: chat"),
        ({"model": "full"}, "", "overloaded"),
    ],
)
def test_what_is_refused_says_why(call, given, kind, words):
    got = complete(call, **given)
    assert words in got["error"]
    assert kind in got["kind"]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (SYNC, BODY, "the query has no model_endpoint_name"),
        (f"{SYNC}?model_endpoint_name=chat", {**BODY, "temperature": 2}, "temperature: "),
        (f"{STREAM}?model_endpoint_name=chat", {"prompt": 1}, "max_new_tokens: Field required"),
        (f"{STREAM}?model_endpoint_name=chat", [], "the body: "),
    ],
)
def test_a_request_that_is_not_one_is_400(raw, path, body, words):
    response = raw.post(path, json=body)
    assert response.status_code == 400
    assert words in response.json()["detail"]


def test_no_event_of_a_stream_is_without_json(raw):
    """The client parses each line with data, and has no use for `[DONE]`."""
    response = raw.post(f"{STREAM}?model_endpoint_name=chat", json=BODY)
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data:")]
    assert all(json.loads(line)["request_id"] for line in lines)
