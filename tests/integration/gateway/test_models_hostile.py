"""Odd requests for models, and an engine that answers what none should: each is an error with a reason."""

import json
import socket
from pathlib import Path

import pytest
from server_driver import SMALL, eventually, http, running

DATA = Path(__file__).parents[2] / "data"
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def client():
    with running(max_result_bytes=10_000_000, max_answers_bytes=2**22) as client:
        bundle = client.create_model_bundle_from_command(
            model_bundle_name="bad",
            command=["python", "bad_engine/bad_engine.py"],
            base_paths=[str(DATA / "bad_engine")],
            healthcheck_route="/health",
            openai={"routes": [CHAT, "/v1/completions"], "models": ["worse", "bad"]},
        )
        endpoint = client.create_model_endpoint(
            endpoint_name="bad", model_bundle=bundle, endpoint_type="streaming", **SMALL, per_worker=16
        )
        endpoint.wait_until_ready(120)
        yield client


@pytest.fixture(scope="module")
def raw(client):
    with http(client) as raw:
        yield raw


def fault_names():
    source = (DATA / "bad_engine" / "bad_engine.py").read_text()
    return [line.split('"')[1] for line in source.splitlines() if line.startswith('    "')]


PASSED_ON = ("not JSON", "no object")
"""What only clients read: all else of such streams is right."""


@pytest.mark.parametrize(
    "fault", [*(name for name in fault_names() if name not in PASSED_ON), "no end of a line"]
)
@pytest.mark.parametrize("stream", [True, False])
def test_an_engine_that_answers_wrongly_is_an_error_and_serves_the_next_one(raw, fault, stream):
    response = raw.post(CHAT, json={"model": "bad", "fault": fault, "stream": stream})
    assert "data: [DONE]" not in response.text.splitlines()
    error = json.loads(response.text.strip().splitlines()[-1].removeprefix("data: "))["error"]
    assert response.status_code in (200, 502), response.text
    assert "of the command" in error["message"]
    assert raw.post(CHAT, json={"model": "bad", "fault": "said"}).status_code == 200


def said(raw, body):
    """What the engine was sent, or the error."""
    response = raw.post(CHAT, content=body)
    return json.loads(response.json()["text"]) if response.status_code == 200 else response.json()["error"]


def test_of_a_key_that_stands_twice_the_server_and_the_engine_take_the_same_one(raw):
    assert said(raw, b'{"model": "x", "fault": "said", "model": "worse"}')["model"] == "bad"
    assert said(raw, b'{"model": "worse", "fault": "said", "model": "x"}')["code"] == "model_not_found"


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "bad", "fault": "\xff"}',
        b'{"model": "\xed\xa0\x80"}',
        b'{"model": "bad"} {}',
        b'{"model": ' + b"[" * 100_000,
        b'{"model": "bad", "n": ' + b"9" * 5000 + b"}",
        b"\x00",
        b"",
        b'\xef\xbb\xbf{"model": "bad", "fault": "said"}',
        b'{"model": "\\ud800"}',
        b'{"model": "' + b"a" * 100_000 + b'"}',
        b'{"model": "a/b/c:d:e"}',
        b'{"model": "../bad"}',
    ],
)
def test_an_odd_body_is_refused_in_openais_shape_or_passed_on(raw, body):
    response = raw.post(CHAT, content=body)
    assert response.status_code in (200, 400, 404), response.text
    if response.status_code != 200:
        error = response.json()["error"]
        assert error["message"]
        assert error["code"]
        assert len(response.content) < 5000


@pytest.mark.parametrize(
    "more",
    [
        {"n": 10**6},
        {
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
            "tool_choice": "required",
        },
        {"stream_options": 5},
        {"stream_options": None},
        {"stream_options": {"include_usage": "yes", "other": 1}},
        {"stream": "yes"},
        {"max_tokens": -1},
    ],
)
def test_what_only_the_engine_understands_is_passed_on_as_it_is(raw, more):
    sent = {"model": "bad", "fault": "said", **more}
    assert said(raw, json.dumps(sent).encode()) == sent


def test_answers_to_lines_of_a_batch_take_bounded_memory(raw):
    """An engine could answer without end, and nobody reads the answer of a line before that."""

    def line(name, size):
        body = {"model": "bad", "fault": "said", "more": "x" * size}
        return json.dumps({"custom_id": name, "method": "POST", "url": CHAT, "body": body})

    lines = "\n".join((line("small", 200_000), line("large", 3_000_000)))
    file = raw.post("/v1/files", files={"file": ("a", lines.encode())}, data={"purpose": "batch"}).json()
    asked = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"}
    batch = raw.post("/v1/batches", json=asked).json()

    def over():
        found = raw.get(f"/v1/batches/{batch['id']}").json()
        return found["status"] == "completed" and found

    done = eventually(over, 60)
    assert done["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
    assert "too large beside" in raw.get(f"/v1/files/{done['error_file_id']}/content").text


@pytest.mark.parametrize(
    "path", [b"/v1/models/\xff", b"/v1/models/%FF", b"/v1/models/%00", b"/v1/models//", b"/v1/models/a%2Fb"]
)
def test_a_model_with_an_odd_name_is_not_found(client, path):
    host, port = client.server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        key = client.server.api_key.encode()
        connection.sendall(
            b"GET %b HTTP/1.1\r\nHost: x\r\nX-API-Key: %b\r\nConnection: close\r\n\r\n" % (path, key)
        )
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.split()[1] in (b"404", b"400"), answer


@pytest.mark.parametrize("cut", [1, 20, 80, 160, 230])
def test_a_client_may_leave_at_any_stage(client, raw, cut):
    host, port = client.server.url.removeprefix("http://").split(":")
    body = json.dumps({"model": "bad", "fault": "said"}).encode()
    key, size = client.server.api_key, len(body)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Length: {size}\r\n\r\n"
    for _ in range(5):
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall((head.encode() + body)[:cut])
    assert said(raw, body)["fault"] == "said"


def test_two_models_that_name_each_other_are_each_found_by_their_own_name(client, raw):
    ids = [model["id"] for model in raw.get("/v1/models").json()["data"]]
    assert sorted(set(ids)) == ["bad", "worse"]
    assert said(raw, b'{"model": "bad", "fault": "said"}')["model"] == "bad"
    assert said(raw, b'{"model": "worse", "fault": "said"}')["model"] == "bad"


def test_launch_has_another_path_for_chats(raw):
    response = raw.post("/v2/chat/completions", json={"model": "bad", "fault": "said"})
    assert json.loads(response.json()["text"])["model"] == "bad"
    assert raw.post("/v2/completions", json={"model": "bad", "fault": "said"}).status_code == 200
    assert raw.post("/v2/embeddings", json={"model": "bad"}).status_code == 404


@pytest.mark.parametrize("fault", fault_names())
@pytest.mark.parametrize("kind", ["sync", "stream"])
def test_llm_engines_completions_of_such_an_engine_are_errors(raw, fault, kind):
    body = {"prompt": fault, "max_new_tokens": 1, "temperature": 0}
    response = raw.post(f"/v1/llm/completions-{kind}?model_endpoint_name=bad", json=body)
    last = json.loads(response.text.strip().splitlines()[-1].removeprefix("data: "))
    if response.status_code == 200:
        assert last["output"] is None
        assert last["error"]["content"]["error"]
    else:
        assert response.status_code >= 500
        assert last["detail"]
