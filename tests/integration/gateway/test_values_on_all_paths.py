"""A value is the same to the model whatever way a request takes: the bytes are passed on, and not written anew."""

import json

import pytest
from pydantic import BaseModel
from server_driver import DEADLINE, SMALL, problem

ODD = '{"n": 1180591620717411303425, "z": -0.0, "f": 0.10, "d": 1, "d": 2, "b": 1e2, "a": 9007199254740993}'
"""Whole numbers over 64 bits and over 53, a key that stands twice, and keys out of order."""

BEYOND = '{"args": {"values": 1e400}}'
HALF = '{"args": {"values": "\\ud800"}}'
SEEN = repr(json.loads(ODD))


class Model(BaseModel):
    """The request schema, which has a default: what it fills in leaves the rest as it is."""

    values: object
    fail: bool = False


def seen(values, fail):
    if fail:
        raise ValueError(repr(values))
    return repr(values)


def seen_in_stream(values, fail):
    yield repr(values)


@pytest.fixture(scope="module")
def queue(client):
    return client.deploy(seen, name="queue", endpoint_type="async", request_schema=Model, **SMALL)


def where(endpoint):
    return {"model_endpoint_id": endpoint.model_endpoint.id}


def value_of(raw, task_id):
    task = raw.get(f"/v1/async-tasks/{task_id}", params={"wait": 30}).json()
    return json.loads(task["result"]["result"]) if task["status"] == "SUCCESS" else task["traceback"]


def test_sync_and_in_a_stream(client, raw):
    body = f'{{"args": {{"values": {ODD}}}}}'
    sync = client.deploy(seen, name="sync", request_schema=Model, **SMALL)
    answer = raw.post("/v1/sync-tasks", params=where(sync), content=body).json()
    assert json.loads(answer["result"]["result"]) == SEEN
    for wrong in (BEYOND, HALF):
        problem(raw.post("/v1/sync-tasks", params=where(sync), content=wrong), 400)
    stream = client.deploy(
        seen_in_stream, name="stream", endpoint_type="streaming", request_schema=Model, **SMALL
    )
    event = raw.post("/v1/streaming-tasks", params=where(stream), content=body).text.splitlines()[0]
    assert json.loads(event.removeprefix("data: "))["result"]["result"] == SEEN


def test_as_a_task_in_bulk_and_run_again(raw, queue):
    body = f'{{"args": {{"values": {ODD}}}}}'
    one = raw.post("/v1/async-tasks", params=where(queue), content=body).json()["task_id"]
    bulk = f'{{"requests": [], "requests" : [ {body} ,{body}]}}'
    many = raw.post("/v1/async-tasks/bulk", params=where(queue), content=bulk).json()["task_ids"]
    assert [value_of(raw, task_id) for task_id in (one, *many)] == [SEEN] * 3
    failing = f'{{"args": {{"values": {ODD}, "fail": true}}, "callback_auth": null}}'
    first = raw.post("/v1/async-tasks", params=where(queue), content=failing).json()["task_id"]
    assert SEEN in value_of(raw, first)
    assert raw.get(f"/v1/async-tasks/{first}/payload").text == failing
    again = raw.post(f"/v1/async-tasks/{first}/rerun").json()["task_id"]
    assert SEEN in value_of(raw, again)
    for wrong in (BEYOND, HALF):
        problem(raw.post("/v1/async-tasks", params=where(queue), content=wrong), 400)
        requests = f'{{"requests": [{wrong}]}}'
        problem(raw.post("/v1/async-tasks/bulk", params=where(queue), content=requests), 400)


def test_in_a_batch_job(client, raw, queue):
    lines = [f'{{"args": {{"values": {ODD}}}}}', BEYOND, HALF]
    where = raw.post("/v1/hosted_inference/batch_task_input_upload", json={}).json()
    raw.put(where["signedUrl"], content="\n".join(lines).encode(), auth=None).raise_for_status()
    body = {
        "model_bundle_id": client.get_latest_model_bundle_v2("queue").id,
        "input_path": f"s3://{where['bucket']}/{where['key']}",
        "serialization_format": "JSON",
        "labels": {},
        "resource_requests": {"memory": "64Mi", "cpus": 0.1},
    }
    job = raw.post("/v1/batch-jobs", json=body).json()
    client.wait_for_batch_job(job["job_id"], timeout=DEADLINE)
    exact, *refused = client.read_batch_results(job["job_id"])
    assert exact["result"] == SEEN
    assert ["not valid JSON" in result["traceback"] for result in refused] == [True, True]
