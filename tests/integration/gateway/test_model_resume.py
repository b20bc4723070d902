"""Streams of models that are resumed, and requests of models with an `Idempotency-Key`."""

import json
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from openai_driver import ROUTES, mock_engine, python
from server_driver import eventually, http
from tcp_proxy import proxy_to

CHAT, COMPLETIONS = ROUTES[:2]
RESUME = {"Openlaunch-Resume": "true"}


@pytest.fixture(scope="module")
def endpoint(client):
    return mock_engine(client, "resumed", public_inference=True).wait_until_ready(60)


def asks(**more):
    return {"model": "resumed", "stream": True, "max_tokens": 20, **more}


def events(text):
    """The ids and the data of a stream's events, without comments."""
    found = [event.split("\n") for event in text.split("\n\n") if event and not event.startswith(":")]
    return [(int(lines[0].rpartition("-")[2]), lines[-1].removeprefix("data: ")) for lines in found]


@contextmanager
def stream(raw, route=CHAT, headers=RESUME, **more):
    with raw.stream("POST", route, json=asks(**more), headers=headers) as answer:
        yield answer


def some_of(answer, count):
    """The text of a stream up to this many events."""
    text = ""
    for piece in answer.iter_text():
        text += piece
        if text.count("id: ") > count:
            break
    return text.rpartition("\n\n")[0] + "\n\n"


@pytest.mark.parametrize("given", [{}, {"stream_options": {"include_usage": True}}])
def test_a_stream_that_was_cut_continues_without_a_gap_and_without_a_repeat(client, raw, endpoint, given):
    whole = events(raw.post(CHAT, json=asks(**given), headers=RESUME).text)
    assert [number for number, _ in whole] == [*range(1, len(whole) + 1)]
    assert whole[-1][1] == "[DONE]"
    assert ("usage" in whole[-2][1] and '"choices": []' in whole[-2][1]) == bool(given)
    with http(client) as leaves, stream(leaves, **given) as answer:
        stream_id, _, first = answer.headers["last-event-id"].rpartition("-")
        assert first == "0"
        text = some_of(answer, 5)
    seen = events(text)
    last = {"Last-Event-ID": f"{stream_id}-{seen[-1][0]}"}
    rest = raw.post(CHAT, json=asks(**given), headers=last)
    assert rest.headers["last-event-id"] == last["Last-Event-ID"]
    assert [*seen, *events(rest.text)] == whole


def test_what_ended_meanwhile_is_given_again_for_a_while(raw, endpoint):
    answer = raw.post(CHAT, json=asks(), headers=RESUME)
    stream_id = answer.headers["last-event-id"].removesuffix("-0")
    again = raw.post(CHAT, json=asks(), headers={"Last-Event-ID": f"{stream_id}-3"})
    assert events(again.text) == events(answer.text)[3:]


def test_an_engine_that_dies_while_the_client_is_away_is_an_error_to_it(client, raw, endpoint):
    with http(client) as leaves, stream(leaves, fault="error", max_tokens=9) as answer:
        stream_id = answer.headers["last-event-id"].removesuffix("-0")
    eventually(
        lambda: (
            "engine_failed" in raw.post(CHAT, json=asks(), headers={"Last-Event-ID": f"{stream_id}-0"}).text
        )
    )
    text = raw.post(CHAT, json=asks(), headers={"Last-Event-ID": f"{stream_id}-0"}).text
    assert "[DONE]" not in text.replace('data: [DONE]"', "")
    assert [number for number, _ in events(text)] == [1, 2, 3, 4]


def test_the_example_of_the_documentation_works_though_its_connection_is_cut(client, endpoint):
    text = (Path(__file__).parents[3] / "docs/concepts/streams.md").read_text()
    example = text.partition("```text\nfrom openai")[2].partition("```")[0]
    given = '"model": "resumed", "max_tokens": 40'
    with proxy_to(client.server.url) as proxy:
        proxy.cut_after = 3000
        url = f"{proxy.url}/v1"
        example = example.replace("http://127.0.0.1:8000/v1", url).replace('"model": "chat"', given)
        environ = {**os.environ, "OPENAI_API_KEY": client.server.api_key}
        done = subprocess.run(
            [python(), "-c", f"from openai{example}"], capture_output=True, text=True, env=environ
        )
        assert done.stdout == " token" * 40, done.stderr
        assert proxy.connections > 2


def seen(raw):
    answer = raw.post(CHAT, json={"model": "resumed", "seen": True})
    return json.loads(answer.json()["choices"][0]["message"]["content"])["left"]


def test_a_client_that_will_not_come_back_frees_the_engine_at_once(client, raw, endpoint):
    before = seen(raw)
    with http(client) as leaves, stream(leaves, max_tokens=10**6) as answer:
        stream_id = answer.headers["last-event-id"].removesuffix("-0")
    where = f"/v1/streaming-tasks?model_endpoint_id={endpoint.model_endpoint.id}"
    last = {"Last-Event-ID": f"{stream_id}-1"}
    assert raw.request("DELETE", where, headers=last).json() == {"cancelled": True}
    eventually(lambda: seen(raw) == before + 1)
    assert raw.post(CHAT, json=asks(), headers=last).json()["code"] == "stream_not_found"


def test_a_stream_is_resumed_by_its_owner_where_it_began(client, raw, endpoint):
    answer = raw.post(CHAT, json=asks(), headers=RESUME)
    last = {"Last-Event-ID": answer.headers["last-event-id"]}
    with http(client, client.create_api_key(owner="r-other", role="predict").api_key) as other:
        refused = other.post(CHAT, json=asks(), headers=last)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "stream_not_found")
    elsewhere = raw.post(COMPLETIONS, json=asks(), headers=last)
    assert (elsewhere.status_code, "POST /v1/chat/completions" in elsewhere.json()["detail"]) == (400, True)
    of_tasks = raw.post(
        f"/v1/streaming-tasks?model_endpoint_id={endpoint.model_endpoint.id}", json={}, headers=last
    )
    assert of_tasks.status_code == 400
    wrong = raw.post(CHAT, json=asks(), headers={"Openlaunch-Resume": "yes"})
    assert (wrong.status_code, "send 'true'" in wrong.json()["error"]["message"]) == (400, True)


def test_what_the_engine_answers_as_a_whole_is_no_stream(raw, endpoint):
    answer = raw.post(CHAT, json=asks(fault="json"), headers=RESUME)
    assert answer.headers["content-type"] == "application/json"
    assert "last-event-id" not in answer.headers
    refused = raw.post(CHAT, json=asks(fault="status", status=400), headers=RESUME)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "of_engine")


def requests_of(raw):
    answer = raw.post(CHAT, json={"model": "resumed", "seen": True})
    return json.loads(answer.json()["choices"][0]["message"]["content"])["requests"]


def test_a_request_with_a_key_runs_once(client, raw, endpoint):
    body = {"model": "resumed", "max_tokens": 4, "messages": []}
    key = {"Idempotency-Key": "once"}
    before = requests_of(raw)
    answers = [raw.post(CHAT, json=body, headers=key) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert {answer.headers["content-type"] for answer in answers} == {"application/json"}
    assert requests_of(raw) == before + 2  # the one request, and this one
    other_body = raw.post(CHAT, json={**body, "max_tokens": 5}, headers=key)
    assert (other_body.status_code, other_body.json()["error"]["code"]) == (422, "idempotency_key_reused")
    other_route = raw.post(COMPLETIONS, json=body, headers=key)
    assert other_route.json()["error"]["code"] == "idempotency_key_reused"
    with http(client, client.create_api_key(owner="k-other", role="predict").api_key) as other:
        assert other.post(CHAT, json=body, headers=key).status_code == 200


def test_what_is_not_an_answer_is_not_kept_under_a_key(raw, endpoint):
    body = {"model": "resumed", "fault": "status", "status": 429}
    before = requests_of(raw)
    for _ in range(2):
        assert raw.post(CHAT, json=body, headers={"Idempotency-Key": "refused"}).status_code == 429
    assert requests_of(raw) == before + 3
    missing = raw.post(CHAT, json={"model": "resume"}, headers={"Idempotency-Key": "unknown"})
    assert missing.status_code == 404


def test_a_stream_can_have_no_key(raw, endpoint):
    refused = raw.post(CHAT, json=asks(), headers={"Idempotency-Key": "stream"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "idempotency_of_stream")


def test_a_request_with_a_key_may_be_sent_again_by_a_client_that_left(client, raw, endpoint):
    key, body = {"Idempotency-Key": "left"}, {"model": "resumed", "fault": "hang"}
    with http(client) as leaves, pytest.raises(httpx2.ReadTimeout):
        leaves.post(CHAT, json=body, headers=key, timeout=0.5)
    with http(client) as leaves, pytest.raises(httpx2.ReadTimeout):
        leaves.post(CHAT, json=body, headers=key, timeout=0.5)  # runs again, and waits for nobody
    assert client.get_model_endpoint("resumed").status() == "READY"


def test_a_completion_of_llm_engine_with_a_key_runs_once(raw, endpoint):
    path = "/v1/llm/completions-sync?model_endpoint_name=resumed"
    body = {"prompt": "hello", "max_new_tokens": 4, "temperature": 0.1}
    before = requests_of(raw)
    answers = [raw.post(path, json=body, headers={"Idempotency-Key": "engine"}) for _ in range(2)]
    assert [answer.json()["output"]["text"] for answer in answers] == [" token" * 4] * 2
    assert requests_of(raw) == before + 2
