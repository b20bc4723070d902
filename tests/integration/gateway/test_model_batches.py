"""Batches of requests to models, made by the unmodified `openai` package, with an engine that does as it is told."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from openai_driver import ROUTES, mock_engine, openai_client, python
from server_driver import eventually, http

CHAT = ROUTES[0]


@pytest.fixture(scope="module")
def endpoint(client):
    mock_engine(client, "second", routes=ROUTES[:1])
    return mock_engine(client, "chat").wait_until_ready(120)


@pytest.fixture(scope="module")
def call(client, endpoint):
    with openai_client(client.server.url, client.server.api_key) as call:
        yield call


def line(number, model="chat", url=CHAT, **body):
    given = {"model": model, "messages": [{"role": "user", "content": "x"}], **body}
    return json.dumps({"custom_id": f"line-{number}", "method": "POST", "url": url, "body": given})


def uploaded(call, lines):
    return call("files.create", file="\n".join(lines) + "\n", purpose="batch")["answer"]["id"]


def created(call, lines, endpoint=CHAT, **given):
    options = {"completion_window": "24h", **given}
    return call("batches.create", input_file_id=uploaded(call, lines), endpoint=endpoint, **options)["answer"]


def ended(call, batch):
    return eventually(lambda: over(call, batch))


def over(call, batch):
    now = call("batches.retrieve", batch_id=batch["id"])["answer"]
    return now if now["status"] in ("completed", "failed", "expired", "cancelled") else None


def lines_of(call, file_id):
    if file_id is None:
        return []
    return [json.loads(line) for line in call("files.content", file_id=file_id)["answer"].splitlines()]


def test_each_line_of_a_batch_is_answered_once(call):
    lines = [line(n, model="second" if n % 7 == 0 else "chat", max_tokens=1 + n % 3) for n in range(120)]
    batch = created(call, lines, metadata={"kind": "night"})
    assert batch["status"] in ("validating", "in_progress")
    batch = ended(call, batch)
    assert batch["status"] == "completed", batch["errors"]
    assert batch["request_counts"] == {"total": 120, "completed": 120, "failed": 0}
    assert batch["error_file_id"] is None
    sent, made = 120 * 10, sum(1 + n % 3 for n in range(120))
    usage = batch["usage"]
    numbers = [usage[f"{name}_tokens"] for name in ("input", "output", "total")]
    assert (numbers, usage["input_tokens_details"]) == ([sent, made, sent + made], {"cached_tokens": 0})
    assert batch["metadata"] == {"kind": "night"}
    output = lines_of(call, batch["output_file_id"])
    assert sorted(each["custom_id"] for each in output) == sorted(f"line-{n}" for n in range(120))
    for each in output:
        tokens = 1 + int(each["custom_id"].removeprefix("line-")) % 3
        assert each["error"] is None
        assert each["response"]["status_code"] == 200
        assert each["response"]["body"]["usage"]["completion_tokens"] == tokens
        assert each["response"]["body"]["choices"][0]["message"]["content"] == " token" * tokens


def test_the_usage_of_a_batch_has_its_reasoning_and_what_engines_do_not_say(call):
    said = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "completion_tokens_details": {"reasoning_tokens": 40},
    }
    lines = [line(1, says_usage=said), line(2, says_usage=None), line(3, says_usage={"prompt_tokens": -1})]
    batch = ended(call, created(call, lines))
    estimated = [
        each["response"]["usage"]
        for each in lines_of(call, batch["output_file_id"])
        if "usage" in each["response"]
    ]
    assert len(estimated) == 2
    usage = batch["usage"]
    assert usage["output_tokens_details"] == {"reasoning_tokens": 40}
    for kind, of_engine in (("input", 100), ("output", 50)):
        assert all(each[f"{kind}_tokens"] > 0 for each in estimated)
        assert usage[f"{kind}_tokens"] == of_engine + sum(each[f"{kind}_tokens"] for each in estimated)


BAD = {
    "not JSON": "{",
    "a list": "[]",
    "no id": json.dumps({"url": CHAT, "body": {"model": "chat"}}),
    "of another route": line("route", url=ROUTES[1]),
    "a stream": line("stream", stream=True),
    "no model": line("model", model=None),
    "an unknown model": line("unknown", model="chatt"),
    "an id twice": line(0),
    "what the engine refuses": line("refused", fault="status", status=400),
}


def test_lines_that_can_not_be_answered_are_in_the_error_file_and_the_rest_is_done(call):
    batch = ended(call, created(call, [line(0), *BAD.values(), "", line(1)]))
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 11, "completed": 2, "failed": 9}
    assert {each["custom_id"] for each in lines_of(call, batch["output_file_id"])} == {"line-0", "line-1"}
    errors = lines_of(call, batch["error_file_id"])
    assert [each["custom_id"] for each in errors] == [
        *(None, None, None),
        *("line-route", "line-stream", "line-model", "line-unknown", "line-0", "line-refused"),
    ]
    assert [each["error"] and each["error"]["code"] for each in errors] == [
        *["invalid_line"] * 6,
        "invalid_model",
        "invalid_line",
        None,
    ]
    assert "line 2: it is not JSON" in errors[0]["error"]["message"]
    assert "near names: chat" in errors[6]["error"]["message"]
    assert errors[8]["response"]["status_code"] == 400
    assert errors[8]["response"]["body"]["error"]["code"] == "of_engine"


def test_a_batch_that_is_cancelled_has_the_answers_that_there_are(call):
    slow = [line(n, fault="hang") for n in range(150)]
    batch = created(call, [line("first"), *slow])
    eventually(
        lambda: call("batches.retrieve", batch_id=batch["id"])["answer"]["request_counts"]["completed"]
    )
    assert call("batches.cancel", batch_id=batch["id"])["answer"]["status"] in ("cancelling", "cancelled")
    batch = ended(call, batch)
    assert batch["status"] == "cancelled"
    assert [each["custom_id"] for each in lines_of(call, batch["output_file_id"])] == ["line-first"]
    errors = lines_of(call, batch["error_file_id"])
    assert sorted(each["custom_id"] for each in errors) == sorted(f"line-{n}" for n in range(150))
    assert {each["error"]["code"] for each in errors} == {"batch_cancelled"}


def test_a_file_without_a_line_is_no_batch(call, raw):
    made = raw.post("/v1/files", files={"file": ("empty.jsonl", b"")}, data={"purpose": "batch"}).json()
    batch = call("batches.create", input_file_id=made["id"], endpoint=CHAT, completion_window="1h")["answer"]
    batch = ended(call, batch)
    assert batch["status"] == "failed"
    assert "no line" in batch["errors"]["data"][0]["message"]


def test_a_file_of_too_many_lines_is_no_batch(call):
    batch = created(call, ["{}"] * 50_001)
    assert "over 50000 lines" in ended(call, batch)["errors"]["data"][0]["message"]


@pytest.mark.slow
def test_a_file_of_too_many_bytes_is_refused(call, raw):
    file = {"file": ("large.jsonl", bytes(200 * 1024 * 1024 + 1))}
    made = raw.post("/v1/files", files=file, data={"purpose": "batch"}).json()
    error = call("batches.create", input_file_id=made["id"], endpoint=CHAT, completion_window="1h")["error"]
    assert "209715201 bytes, 209715200 are allowed" in error["message"]
    assert call("files.delete", file_id=made["id"])["answer"]["deleted"] is True


def test_a_batch_ends_when_its_window_has_passed(call):
    batch = ended(call, created(call, [line("first"), line("second", fault="hang")], completion_window="2s"))
    assert batch["status"] == "expired"
    errors = lines_of(call, batch["error_file_id"])
    assert {each["error"]["code"] for each in errors} == {"batch_expired"}
    both = [*lines_of(call, batch["output_file_id"]), *errors]  # a busy machine may have answered none
    assert sorted(each["custom_id"] for each in both) == ["line-first", "line-second"]


def test_lines_of_a_model_that_is_deleted_are_errors_under_their_ids(client, call):
    gone = mock_engine(client, "gone").wait_until_ready(120)
    batch = created(call, [line(n, model="gone", fault="hang") for n in range(30)])
    eventually(lambda: call("batches.retrieve", batch_id=batch["id"])["answer"]["status"] == "in_progress")
    client.delete_model_endpoint(gone)
    batch = ended(call, batch)
    assert batch["request_counts"] == {"total": 30, "completed": 0, "failed": 30}
    errors = lines_of(call, batch["error_file_id"])
    assert sorted(each["custom_id"] for each in errors) == sorted(f"line-{n}" for n in range(30))


def test_requests_find_a_free_slot_while_a_batch_runs(call):
    batch = created(call, [line(n, fault="hang") for n in range(40)])
    eventually(lambda: call("batches.retrieve", batch_id=batch["id"])["answer"]["status"] == "in_progress")
    for _ in range(5):
        answer = call("chat.completions.create", model="chat", messages=[], timeout=20)
        assert answer["answer"]["choices"][0]["finish_reason"] == "stop"
    call("batches.cancel", batch_id=batch["id"])
    ended(call, batch)


def test_batches_are_listed_in_pages_and_are_their_owners_alone(client, call):
    made = [created(call, [line(0)])["id"] for _ in range(3)]
    first = call("batches.list", limit=2)["answer"]
    assert [batch["id"] for batch in first["data"]] == made[:0:-1]
    assert first["has_more"] is True
    assert call("batches.list", limit=1, after=made[1])["answer"]["data"][0]["id"] == made[0]
    with http(client, client.create_api_key(owner="b-other").api_key) as other:
        assert other.get(f"/v1/batches/{made[0]}").status_code == 404
        assert other.get("/v1/batches").json()["data"] == []
        assert other.post(f"/v1/batches/{made[0]}/cancel").status_code == 404


def misfit(given):
    """The path of the field that does not fit."""
    [(name, value)] = given.items()
    return (name, *value) if name == "metadata" else (name,)


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"input_file_id": "file_none"}, "NotFoundError", "no file has the id"),
        ({"endpoint": "/v1/images"}, "UnprocessableEntityError", "endpoint"),
        ({"completion_window": "31d"}, "UnprocessableEntityError", "30d"),
        ({"completion_window": "24"}, "UnprocessableEntityError", "does not fit; completion_window: "),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 9}},
            "UnprocessableEntityError",
            "kept until",
        ),
        ({"metadata": {"a": 5}}, "UnprocessableEntityError", "does not fit; metadata.a: "),
    ],
)
def test_what_can_not_be_a_batch_is_refused_in_the_shape_of_openai(call, given, kind, message):
    whole = {"input_file_id": uploaded(call, [line(0)]), "endpoint": CHAT, "completion_window": "24h"}
    error = call("batches.create", **{**whole, **given})["error"]
    assert error["kind"] == kind
    assert message in error["message"]
    assert error["param"] == (None if kind == "NotFoundError" else ".".join(misfit(given)))
    assert call("batches.retrieve", batch_id="batch_none")["error"]["kind"] == "NotFoundError"


def test_files_are_those_of_both_contracts(client, call, raw):
    made = call("files.create", file="{}\n", purpose="batch")["answer"]
    assert (made["object"], made["bytes"], made["filename"]) == ("file", 3, "lines.jsonl")
    found = raw.get(f"/v1/files/{made['id']}").json()
    assert (found["size"], found["purpose"], found["status"]) == (3, "batch", "processed")
    assert call("files.content", file_id=made["id"])["answer"] == "{}\n"
    of_launch = raw.post("/v1/files", files={"file": ("a.txt", b"text")}).json()["id"]
    assert raw.get(f"/v1/files/{of_launch}/content").json() == {"id": of_launch, "content": "text"}
    assert call("files.content", file_id=of_launch)["answer"] == "text"
    listed = call("files.list", purpose="batch")["answer"]["data"]
    assert made["id"] in [file["id"] for file in listed]
    assert of_launch not in [file["id"] for file in listed]
    assert of_launch in [file["id"] for file in raw.get("/v1/files").json()["files"]]
    newest = [file["id"] for file in call("files.list")["answer"]["data"]]
    assert [file["id"] for file in call("files.list", order="asc")["answer"]["data"]] == newest[::-1]
    page = call("files.list", limit=1, after=of_launch, purpose="batch")["answer"]["data"]
    assert [file["id"] for file in page] == [made["id"]]
    assert call("files.list", after="file_none")["error"]["code"] == "file_not_found"
    assert call("batches.list", after="batch_none")["error"]["kind"] == "NotFoundError"
    expires = call(
        "files.create", file="{}\n", purpose="batch", expires_after={"anchor": "created_at", "seconds": 1}
    )
    assert "expires_after: files are kept until" in expires["error"]["message"]
    assert call("files.delete", file_id=made["id"])["answer"]["deleted"] is True
    assert call("files.retrieve", file_id=made["id"])["error"]["code"] == "file_not_found"


def test_the_example_of_the_documentation_works(client, endpoint):
    text = (Path(__file__).parents[3] / "docs/how-to/batch-models.md").read_text()
    example = text.partition("```python\n")[2].partition("```")[0]
    server = {"OPENAI_BASE_URL": f"{client.server.url}/v1", "OPENAI_API_KEY": client.server.api_key}
    done = subprocess.run(
        [python(), "-c", example], capture_output=True, text=True, env={**os.environ, **server}
    )
    assert sorted(done.stdout.splitlines()) == [f"question-{n}  token token token" for n in (0, 1)], (
        done.stderr
    )
