"""Batch completions, made by the unmodified `scale-llm-engine` package, with an engine that does as it is told."""

import json
import subprocess
from pathlib import Path

import pytest
from llm_engine_driver import environ_for, llm_engine, python
from openai_driver import ROUTES, mock_engine
from server_driver import eventually, http

MODEL = {"model": "chat"}
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def call(client):
    mock_engine(client, "chat", routes=ROUTES[:2]).wait_until_ready(120)
    with llm_engine(client.server.url, client.server.api_key) as call:
        yield call


def create(call, **given):
    return call(
        "Completion", "batch_create", output_data_path="answers.json", **{"model_config": MODEL, **given}
    )


def ended(call, made):
    return eventually(lambda: over(call, made["answer"]["job_id"]))


def over(call, job_id):
    """Return a job that has ended, or None."""
    job = call("Completion", "get_batch_completion", job_id=job_id)["answer"]["job"]
    return None if job["status"] in ("queued", "running") else job


def answers(call, job):
    return json.loads(call("File", "download", file_id=job["output_data_path"])["answer"]["content"])


def test_prompts_of_the_first_version_are_completed_in_their_order(call):
    content = {"prompts": ["a", "b", "c"], "max_new_tokens": 2, "temperature": 0.0}
    job = ended(call, create(call, content=content))
    assert job["status"] == "completed"
    expected = {"text": " token token", "num_prompt_tokens": 10, "num_completion_tokens": 2}
    assert answers(call, job) == [expected] * 3
    assert call("File", "get", file_id=job["output_data_path"])["answer"]["filename"] == "answers.json"


def test_chats_of_the_second_version_are_answered(call):
    content = [{"messages": HELLO, "max_tokens": 1}, {"messages": HELLO, "max_tokens": 3}]
    labels = {"team": "night"}
    made = create(call, content=content, use_v2=True, labels=labels, max_runtime_sec=3600)
    assert (made["answer"]["status"], made["answer"]["model_config"]["model"]) == ("queued", "chat")
    job = ended(call, made)
    assert (job["status"], job["metadata"]) == ("completed", labels)
    texts = [each["choices"][0]["message"]["content"] for each in answers(call, job)]
    assert texts == [" token", " token token token"]


def test_a_file_has_the_content_in_place_of_the_request(call, tmp_path):
    path = tmp_path / "content.json"
    path.write_text(json.dumps([{"prompt": "a", "max_tokens": 1}]))
    sent = call("File", "upload", file=str(path))["answer"]["id"]
    job = ended(call, create(call, input_data_path=sent, use_v2=True))
    assert answers(call, job)[0]["choices"][0]["text"] == " token"
    path.write_text("[{]")
    sent = call("File", "upload", file=str(path))["answer"]["id"]
    assert "the file is not JSON" in create(call, input_data_path=sent, use_v2=True)["error"]


def test_a_request_that_fails_is_null_among_the_answers(call, client):
    content = [{"messages": HELLO, "max_tokens": 1}, {"messages": HELLO, "fault": "status", "status": 400}]
    body = {"model_config": MODEL, "output_data_path": "a", "content": content}
    with http(client) as raw:
        made = raw.post("/v2/batch-completions", json=body).json()
    job = ended(call, {"answer": made})
    first, second = answers(call, job)
    assert first["choices"]
    assert second is None


def test_a_job_is_cancelled(call, client):
    content = [{"messages": HELLO, "fault": "hang"}]
    body = {"model_config": MODEL, "output_data_path": "a", "content": content}
    with http(client) as raw:
        job_id = raw.post("/v2/batch-completions", json=body).json()["job_id"]
    done = [call("Completion", "cancel_batch_completion", job_id=job_id)["answer"] for _ in range(2)]
    assert done == [{"success": True}, {"success": False}]
    assert eventually(lambda: over(call, job_id))["status"] == "cancelled"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"gpus": 2}, "'gpus'], 'msg': 'the endpoint that"),
        ({"labels": {f"label-{n}": "x" for n in range(17)}}, "labels"),
        ({"priority": "high"}, "'priority'], 'msg': 'the endpoint that"),
        ({"data_parallelism": 2}, "data_parallelism"),
        (
            {"model_config": {**MODEL, "checkpoint_path": "s3://b/w"}},
            "'checkpoint_path'], 'msg': 'the endpoint that",
        ),
        ({"output_data_path": "s3://bucket/key"}, "it is a URL, a name is needed"),
        ({"content": None}, "'content'], 'msg': 'give it, or input_data_path"),
        ({"content": None, "input_data_path": "file_none"}, "no file has the id"),
        ({"content": [{"prompt": "a", "stream": True}]}, "nobody listens to a batch"),
    ],
)
def test_what_can_not_be_honoured_is_refused_with_what_to_do(call, given, words):
    usual = {"output_data_path": "a", "model_config": MODEL, "content": [{"prompt": "a"}], "use_v2": True}
    assert words in call("Completion", "batch_create", **{**usual, **given})["error"]


def test_a_model_that_does_not_exist_has_its_reason_in_the_file_of_errors(call):
    job = ended(call, create(call, content=[{"prompt": "a"}], use_v2=True, model_config={"model": "chatt"}))
    assert answers(call, job) == [None]
    errors = job["output_data_path"].replace("_output", "_error")
    assert "near names: chat" in call("File", "download", file_id=errors)["answer"]["content"]


def test_the_example_of_the_documentation_works(call, client):
    text = (Path(__file__).parents[3] / "docs/how-to/from-llm-engine.md").read_text()
    example = text.partition("```python\n")[2].partition("```")[0]
    environ = environ_for(client.server.url, client.server.api_key)
    done = subprocess.run([python(), "-c", example], capture_output=True, text=True, env=environ)
    assert done.stdout.splitlines() == [" token token token"] * 2, done.stderr
