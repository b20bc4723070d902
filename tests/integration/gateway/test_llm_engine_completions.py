"""Completions, made by the unmodified `scale-llm-engine` package, with an engine that does as it is told."""

import json
from pathlib import Path

import pytest
from llm_engine_driver import llm_engine
from openai_driver import ROUTES, mock_engine
from records import execute
from server_driver import SMALL, eventually, http, processor_seconds

DATA = Path(__file__).parents[2] / "data"
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
        (f"{STREAM}?model_endpoint_name=chat", {"prompt": 1}, "max_new_tokens: it is missing"),
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


@pytest.fixture(scope="module")
def costly(client, raw):
    bundle = client.create_model_bundle_from_command(
        model_bundle_name="costly",
        command=["python", "costly_engine/costly_engine.py"],
        base_paths=[str(DATA / "costly_engine")],
        healthcheck_route="/health",
        openai={"routes": ROUTES[:2]},
    )
    made = client.create_model_endpoint(
        endpoint_name="costly", model_bundle=bundle, endpoint_type="streaming", **{**SMALL, "memory": "1Gi"}
    )
    made.wait_until_ready(120)

    def complete(path, prompt, **more):
        before = processor_seconds(client.server.pid)
        body = {**BODY, "prompt": prompt, **more}
        response = raw.post(f"{path}?model_endpoint_name=costly", content=json.dumps(body).encode())
        return response, processor_seconds(client.server.pid) - before

    return complete


@pytest.mark.parametrize(
    ("path", "prompt", "status", "said"),
    [
        (SYNC, "large", 200, '"text":"x"'),
        (SYNC, "large refusal", 400, "[], [], []"),
        (SYNC, "deep", 500, "the engine's answer is not a completion"),
        (STREAM, "large event", 200, "a piece of the engine's stream is too large"),
        (STREAM, "deep event", 200, "is not a piece of a completion"),
        (STREAM, "comments", 200, "a piece of the engine's stream is too large"),
    ],
)
def test_what_an_engine_answers_holds_nobody_up(costly, path, prompt, status, said):
    response, seconds = costly(path, prompt)
    assert response.status_code == status
    assert said in response.text
    assert seconds < SOON


def test_a_costly_request_holds_nobody_up(costly):
    """Of 8 MiB, which the engine gets."""
    nested = json.loads("[" + "[]," * 2**21 + "[]]")
    response, seconds = costly(SYNC, "deep", guided_json={"a": nested})
    assert response.json()["error"]["message"] == "the engine's answer is not a completion"
    assert seconds < SOON


def test_a_costly_file_of_a_batch_holds_nobody_up(client, raw, costly):
    content = (
        b'{"prompts": ["deep"], "max_new_tokens": 1, "temperature": 0, "more": [' + b"[]," * 2**22 + b"1]}"
    )
    file = raw.post("/v1/files", files={"file": ("a", content)}).json()["id"]
    body = {"model_config": {"model": "costly"}, "input_data_path": file, "output_data_path": "a"}
    before = processor_seconds(client.server.pid)
    answer = raw.post("/v1/llm/batch-completions", json=body)
    assert answer.status_code in (200, 422)  # the latter where the machine is so busy that it takes too long
    assert processor_seconds(client.server.pid) - before < SOON


def test_a_costly_answer_of_a_batch_holds_nobody_up(client, raw, costly):
    content = {"prompts": ["large", "large"], "max_new_tokens": 1, "temperature": 0}
    body = {"model_config": {"model": "costly"}, "content": content, "output_data_path": "a"}
    before = processor_seconds(client.server.pid)
    job = raw.post("/v1/llm/batch-completions", json=body).json()["job_id"]

    # Beside the server, which answers hundreds of questions in the time that a busy machine takes for the batch.
    query = f"SELECT 1 FROM model_batches WHERE id = '{job}' AND output_file_id IS NOT NULL"
    eventually(lambda: execute(Path(client.server.data_dir), query), 120)
    assert processor_seconds(client.server.pid) - before < 0.9  # half of what reading takes
    done = raw.get(f"/v2/batch-completions/{job}").json()["job"]
    answers = raw.get(f"/v1/files/{done['output_data_path']}/content").json()["content"]
    assert [each["text"] for each in json.loads(answers)] == ["x", "x"]


SOON = 0.3
"""Seconds of the server's processor time, a fraction of what reading takes."""
