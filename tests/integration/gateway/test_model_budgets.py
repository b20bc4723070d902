"""Tokens: measured of every request of a model, paid for by keys and owners, who have limits of them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from openai_driver import ROUTES, mock_engine, openai_client
from server_driver import eventually, http

CHAT = ROUTES[0]


@pytest.fixture(scope="module")
def endpoint(client):
    return mock_engine(client, "chat", public_inference=True).wait_until_ready(120)


@pytest.fixture(scope="module")
def call(client, endpoint):
    with openai_client(client.server.url, client.server.api_key) as call:
        yield call


def ask(raw, **body):
    return raw.post(CHAT, json={"model": "chat", "messages": [], **body})


def today(client, key):
    return next(found.tokens_today for found in client.list_api_keys() if found.id == key.id)


def spent(client, key, tokens):
    return eventually(lambda: today(client, key) == tokens)


def test_tokens_are_measured_whether_the_caller_asks_or_not(client, call, endpoint):
    key = client.create_api_key(owner="measured")
    counted = client.get_endpoint_metrics("chat").since_start.tokens
    with http(client, key.api_key) as raw:
        assert ask(raw, max_tokens=5).json()["usage"]["total_tokens"] == 15
        assert "usage" not in ask(raw, max_tokens=5, stream=True).text
        asked = ask(raw, max_tokens=5, stream=True, stream_options={"include_usage": True})
        assert '"total_tokens": 15' in asked.text
        assert asked.text.endswith("data: [DONE]\n\n")
        spent(client, key, 45)
        raw.post("/v1/embeddings", json={"model": "chat", "input": "x"})
        spent(client, key, 58)
    after = client.get_endpoint_metrics("chat").since_start.tokens
    assert {name: after[name] - counted[name] for name in after} == {"input": 40, "output": 18, "cached": 0}
    streamed = call("chat.completions.create", model="chat", messages=[], stream=True)
    assert streamed["error"] is None
    assert [chunk["usage"] for chunk in streamed["chunks"]] == [None] * 4
    with http(client) as raw:
        metrics = raw.get("/metrics").text
    assert (
        'openlaunch_gen_ai_tokens_total{endpoint="chat",owner="admin",gen_ai_token_type="output"}' in metrics
    )
    for measured in ("server_request_duration_seconds", "client_token_usage"):
        assert re.search(rf'gen_ai_{measured}_count.*gen_ai_operation_name="embeddings"', metrics)
    for measured in ("server_time_to_first_token_seconds", "server_time_per_output_token_seconds"):
        assert re.search(rf'gen_ai_{measured}_count.*gen_ai_operation_name="chat"', metrics)


def test_a_stream_that_is_left_is_paid_for(client, endpoint):
    key = client.create_api_key(owner="leaver")
    with http(client, key.api_key) as raw:
        body = {"model": "chat", "messages": [], "stream": True, "max_tokens": 10**6}
        with raw.stream("POST", CHAT, json=body) as answer:
            for _ in zip(range(20), answer.iter_raw(), strict=False):
                pass
    eventually(lambda: today(client, key) >= 20)


def test_a_key_with_a_limit_can_not_ask_a_model_where_tokens_are_not_counted(client, endpoint):
    key = client.create_api_key(owner="around", tokens_per_day=10**6)
    args = {"model": "chat", "stream": True}
    with http(client, key.api_key) as raw:
        answers = [
            raw.post(
                f"/v1/streaming-tasks?model_endpoint_id={endpoint.model_endpoint.id}", json={"args": args}
            ),
            raw.post("/e/admin/chat", json=args),
        ]
        assert ask(raw).status_code == 200
    assert [answer.status_code for answer in answers] == [403, 403]
    assert "POST /v1/chat/completions" in answers[0].json()["detail"]
    with http(client, client.create_api_key(owner="free").api_key) as raw:
        assert raw.post("/e/admin/chat", json=args).status_code == 200


LIES = [None, {}, [1], {"prompt_tokens": -5, "completion_tokens": 2**60}, {"completion_tokens": 1.5}]


def test_an_engine_that_says_no_number_of_tokens_or_none_that_can_be_costs_an_estimate(client, endpoint):
    """It is alike for all ways to ask: a quarter of the bytes of the request, or a token for each event."""
    key = client.create_api_key(owner="lied-to")
    with http(client, key.api_key) as raw:
        known = 0
        for said in LIES:
            for stream in (False, True):
                assert ask(raw, prompt="x" * 4000, says_usage=said, stream=stream).status_code == 200
                known = eventually(
                    lambda before=known: 1000 < today(client, key) - before < 1300 and today(client, key)
                )
        line = {"custom_id": "a", "body": {"model": "chat", "prompt": "x" * 4000, "says_usage": None}}
        given = {"files": {"file": ("a.jsonl", json.dumps(line).encode())}, "data": {"purpose": "batch"}}
        file = raw.post("/v1/files", **given).json()["id"]
        raw.post("/v1/batches", json={"input_file_id": file, "endpoint": CHAT})
        eventually(lambda: 1000 < today(client, key) - known < 1300)


def test_a_request_that_is_left_before_its_answer_pays_for_what_it_asked(client, endpoint):
    key = client.create_api_key(owner="hasty")
    body = {"model": "chat", "messages": [], "prompt": "x" * 4000, "fault": "hang"}
    with http(client, key.api_key) as raw, pytest.raises(httpx2.TimeoutException):
        raw.post(CHAT, json=body, timeout=1)
    eventually(lambda: today(client, key) > 1000)


def test_a_key_with_nothing_left_is_refused_as_clients_expect(client, call, endpoint):
    key = client.create_api_key(owner="poor", tokens_per_minute=100)
    with http(client, key.api_key) as raw:
        first = ask(raw, max_tokens=200)
        assert first.headers["x-ratelimit-limit-tokens"] == "100"
        assert first.headers["x-ratelimit-remaining-tokens"] == "100"
        refused = ask(raw)
        assert refused.status_code == 429
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert 1 <= int(refused.headers["retry-after"]) <= 70
        assert refused.headers["x-ratelimit-remaining-tokens"] == "0"
    error = call("chat.completions.create", model="chat", messages=[], key=key.api_key)["error"]
    assert (error["kind"], error["code"]) == ("RateLimitError", "rate_limited")
    client.update_api_key(key.id, tokens_per_minute=0)
    with http(client, key.api_key) as raw:
        assert ask(raw).status_code == 200
        assert "x-ratelimit-limit-tokens" not in ask(raw).headers


def test_a_key_whose_requests_are_used_up_is_told_so_in_headers_too(client, endpoint):
    key = client.create_api_key(owner="often", requests_per_day=1)
    with http(client, key.api_key) as raw:
        assert ask(raw).headers["x-ratelimit-remaining-requests"] == "0"
        refused = ask(raw)
        assert refused.status_code == 429
        assert refused.headers["x-ratelimit-limit-requests"] == "1"
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"


def test_an_owners_keys_share_its_budget_and_batches_pay_too(client, endpoint):
    keys = [client.create_api_key(owner="shared") for _ in range(2)]
    with http(client, keys[0].api_key) as raw:
        line = {"custom_id": "a", "body": {"model": "chat", "max_tokens": 90}}
        given = {"files": {"file": ("a.jsonl", json.dumps(line).encode())}, "data": {"purpose": "batch"}}
        file = raw.post("/v1/files", **given).json()["id"]
        raw.post("/v1/batches", json={"input_file_id": file, "endpoint": CHAT})
        spent(client, keys[0], 100)
    client.set_quotas("shared", tokens_per_day=100)
    for key in keys:
        with http(client, key.api_key) as raw:
            refused = ask(raw)
            assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
    (quotas,) = client.list_quotas("shared")
    assert (quotas.used.tokens_per_day, quotas.allowed.tokens_per_day) == (100, 100)
    client.set_quotas("shared", tokens_per_day="unlimited")


def test_a_batch_waits_for_its_owners_budget(client, endpoint):
    key = client.create_api_key(owner="waits", tokens_per_day=1000)
    with http(client, key.api_key) as raw:
        lines = [{"custom_id": str(n), "body": {"model": "chat", "max_tokens": 90}} for n in range(600)]
        text = "\n".join(map(json.dumps, lines)).encode()
        given = {"files": {"file": ("a.jsonl", text)}, "data": {"purpose": "batch"}}
        file = raw.post("/v1/files", **given).json()["id"]
        batch = raw.post("/v1/batches", json={"input_file_id": file, "endpoint": CHAT}).json()["id"]
        eventually(lambda: ask(raw).status_code == 429)

        def counts():
            return raw.get(f"/v1/batches/{batch}").json()["request_counts"]

        eventually(lambda: counts()["completed"] == 256)  # what was in the queue when nothing was left
        client.update_api_key(key.id, tokens_per_day=0)
        eventually(lambda: counts()["completed"] == 600)


@pytest.mark.slow
def test_the_commands_of_the_documentation_do_what_they_say(client, endpoint):
    client.create_api_key(owner="ada")
    text = (Path(__file__).parents[3] / "docs/how-to/limit-tokens.md").read_text()
    environ = {"OPENLAUNCH_URL": client.server.url, "OPENLAUNCH_API_KEY": client.server.api_key}
    printed = ""
    for line in re.findall(r"^(openlaunch .*)$", text, re.MULTILINE):
        done = subprocess.run(
            [sys.executable, "-m", "openlaunch.cli", *line.split()[1:]],
            capture_output=True,
            text=True,
            env={**os.environ, **environ},
        )
        assert done.returncode == 0, done.stderr
        printed += done.stdout
    assert "0 of 2000000 tokens/day" in printed
    assert "0/5000000" in printed
