"""Batch jobs, from the file of inputs to the file of results."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, RootModel
from records import execute
from server_driver import eventually, http, running

from openlaunch import LaunchClient
from openlaunch.errors import BatchJobFailed, NotFound, Unprocessable, WaitTimeout

pytestmark = pytest.mark.slow

LITTLE = {"cpus": 0.1, "memory": "64Mi", "storage": "64Mi"}


def predictor(_):
    def predict(x, seconds=0, padding=None):
        time.sleep(seconds)
        if x == "bad":
            raise ValueError("bad input")
        if x == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return {x} if x == "set" else 2 * x

    return predict


def load():
    return None


class Input(BaseModel):
    x: Any
    seconds: float = 0


class Output(RootModel[Any]):
    pass


@pytest.fixture(scope="module")
def client():
    with running(scale_down_seconds=1) as client:
        bundle(client)
        yield client


def bundle(client, name="doubler", load_model=load):
    client.create_model_bundle_from_callable_v2(
        model_bundle_name=name,
        load_predict_fn=predictor,
        load_model_fn=load_model,
        request_schema=Input,
        response_schema=Output,
    )


def begin(client, inputs, **options):
    return client.batch_async_request(**{"model_bundle": "doubler", **LITTLE, "inputs": inputs, **options})[
        "job_id"
    ]


def run(client, inputs, **options):
    job_id = begin(client, inputs, **options)
    client.wait_for_batch_job(job_id, timeout=60)
    return client.read_batch_results(job_id)


def leftovers(client):
    """What jobs leave beside their results: files in artifacts, and logs."""
    artifacts = client.server.data_dir / "artifacts"
    return [
        path for kind in ("payloads", "results") for path in (artifacts / kind).rglob("*") if path.is_file()
    ]


def test_results_come_in_the_order_of_the_inputs(client):
    inputs = [{"x": number, "seconds": 0.05 if number % 7 == 0 else 0} for number in range(600)]
    results = run(client, inputs, per_worker=8)
    assert [entry["result"] for entry in results] == [2 * number for number in range(600)]


def test_inputs_that_fail_stand_among_the_others(client):
    results = run(client, [{"x": 1}, {"x": "bad"}, {"y": 2}, {"x": 3}])
    assert [entry["status"] for entry in results] == ["SUCCESS", "FAILURE", "FAILURE", "SUCCESS"]
    assert "ValueError: bad input" in results[1]["traceback"]
    assert results[2]["status_code"] == 422
    assert "x" in results[2]["traceback"]
    assert [results[0]["result"], results[3]["result"]] == [2, 6]


def test_an_input_over_the_limit_of_bodies_fails_alone():
    with running(max_body_bytes=1024 * 1024) as client:
        bundle(client)
        large, small = run(client, [{"x": "x" * 2**20}, {"x": 1}])
    assert "1048576 are allowed" in large["traceback"]
    assert small["result"] == 2


def test_an_input_that_kills_its_workers_fails_alone(client):
    results = run(client, [{"x": 1}, {"x": "kill"}, {"x": 3}])
    assert [entry["result"] for entry in results] == [2, None, 6]
    assert "attempt 3 of 3" in results[1]["traceback"]


def test_results_that_are_no_json_come_as_a_pickle(client):
    results = run(client, [{"x": "set"}, {"x": "bad"}, {"x": 4}], serialization_format="pickle")
    assert [entry["result"] for entry in results] == [{"set"}, None, 8]
    assert "ValueError" in results[1]["traceback"]
    eventually(lambda: not leftovers(client))


def test_inputs_may_be_urls(client):
    client.create_model_bundle_from_callable_v2(
        model_bundle_name="length",
        load_predict_fn=lambda _: len,
        load_model_fn=load,
        request_schema=Input,
        response_schema=Output,
    )
    urls = [client.server.url + path for path in ("/healthz", "/nothing-here")]
    job_id = client.batch_async_request(model_bundle="length", urls=urls, **LITTLE)["job_id"]
    client.wait_for_batch_job(job_id, timeout=60)
    good, bad = client.read_batch_results(job_id)
    assert good["status"] == "SUCCESS"
    assert bad["status"] == "FAILURE"
    assert "404" in bad["traceback"]


def test_a_job_shows_its_progress_and_nothing_of_itself_elsewhere(client, raw):
    job_id = begin(client, [{"x": n, "seconds": 0.1} for n in range(60)], max_workers=1, per_worker=3)
    seen = []
    client.wait_for_batch_job(job_id, timeout=60, on_progress=seen.append)
    assert [job["num_tasks_completed"] for job in seen if job["status"] == "RUNNING"]
    assert seen[-1]["num_tasks_completed"] == 60
    assert seen[-1]["num_tasks_pending"] == 0
    assert seen[-1]["duration"].startswith("PT")
    assert client.list_model_endpoints() == []
    assert raw.get("/v1/async-tasks").json()["tasks"] == []
    assert raw.get(f"/v1/model-endpoints/{job_id}").status_code == 404
    assert job_id in [job["job_id"] for job in client.list_batch_jobs()]


def test_a_cancelled_job_keeps_what_was_done(client):
    job_id = begin(client, [{"x": 1}, {"x": 2, "seconds": 600}, {"x": 3}], max_workers=1)
    eventually(lambda: client.get_batch_async_response(job_id)["num_tasks_completed"])
    assert client.cancel_batch_job(job_id)
    assert not client.cancel_batch_job(job_id)
    with pytest.raises(BatchJobFailed, match="CANCELLED: the job was cancelled"):
        client.wait_for_batch_job(job_id, timeout=30)
    eventually(lambda: client.get_batch_async_response(job_id)["result"])
    results = client.read_batch_results(job_id)
    assert [entry["status"] for entry in results] == ["SUCCESS", "FAILURE", "FAILURE"]
    assert "cancelled" in results[1]["traceback"]


def test_a_job_that_takes_too_long_ends_with_what_was_done(client):
    job_id = begin(client, [{"x": 1}, {"x": 2, "seconds": 600}], max_workers=1, timeout_seconds=5)
    with pytest.raises(BatchJobFailed, match="TIMEOUT: the job was not done after 5 s"):
        client.wait_for_batch_job(job_id, timeout=30)
    eventually(lambda: client.get_batch_async_response(job_id)["result"])
    assert [entry["result"] for entry in client.read_batch_results(job_id)] == [2, None]


def test_a_bundle_that_can_not_load_ends_its_job_with_the_reason(client):
    def broken():
        raise RuntimeError("no weights")

    bundle(client, "broken", broken)
    job_id = begin(client, [{"x": 1}], model_bundle="broken")
    with pytest.raises(BatchJobFailed, match=r"FAILURE: .*no weights"):
        client.wait_for_batch_job(job_id, timeout=30)
    with pytest.raises(BatchJobFailed, match="it has no results"):
        client.read_batch_results(job_id)


def test_waiting_gives_up_after_the_timeout_and_the_job_goes_on(client):
    job_id = begin(client, [{"x": 1, "seconds": 2}])
    with pytest.raises(WaitTimeout, match="it keeps running"):
        client.wait_for_batch_job(job_id, timeout=0.2)
    assert client.wait_for_batch_job(job_id, timeout=30)["status"] == "SUCCESS"


def resident_bytes(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
def test_a_large_job_is_not_held_in_memory(tmp_path):
    count, padding = 10_000, "p" * 15_000
    with running(tmp_path) as client:
        bundle(client)
        before = resident_bytes(client.server.pid)
        job_id = begin(client, [{"x": n, "padding": padding} for n in range(count)], per_worker=16)
        seen = []
        client.wait_for_batch_job(
            job_id, timeout=90, on_progress=lambda _: seen.append(resident_bytes(client.server.pid))
        )
    assert seen
    # 86 to 118 MB were seen where the inputs have 150, and none of them is held twice.
    assert max(seen) - before < count * len(padding) * 0.9


# The HTTP API, and files made by hand.


def upload(raw, data):
    where = raw.post("/v1/hosted_inference/batch_task_input_upload", json={}).json()
    assert raw.put(where["signedUrl"], content=data, auth=None).status_code == 200
    return f"s3://{where['bucket']}/{where['key']}"


def body(client, path, **changes):
    return {
        "model_bundle_id": client.get_latest_model_bundle_v2("doubler").id,
        "input_path": path,
        "serialization_format": "JSON",
        "labels": {"team": "a"},
        "resource_requests": LITTLE,
        **changes,
    }


def test_the_files_of_launchs_client_are_read(client, raw):
    path = upload(raw, b'id,args\r\n0,{"x": 1}\r\n1,\'{"x": 5, "seconds": 0}\'\r\n')
    job_id = raw.post("/v1/batch-jobs", json=body(client, path)).json()["job_id"]
    job = raw.get(f"/v1/batch-jobs/{job_id}", params={"wait": 30}).json()
    assert (job["status"], job["labels"]) == ("SUCCESS", {"team": "a"})
    entries = json.loads(raw.get(job["result"], auth=None).content)
    assert [entry["result"] for entry in entries] == [{"result": "2"}, {"result": "10"}]


def test_of_a_key_that_an_input_spells_in_two_ways_the_last_counts(client, raw):
    inputs = b'{"args": {"x": 1}, "\\u0061rgs": {"x": 2}}\n{"\\u0061rgs": {"x": 1}, "args": {"x": 3}}'
    job_id = raw.post("/v1/batch-jobs", json=body(client, upload(raw, inputs))).json()["job_id"]
    client.wait_for_batch_job(job_id, timeout=60)
    assert [entry["result"] for entry in client.read_batch_results(job_id)] == [4, 6]


def test_a_file_that_can_not_be_read_ends_the_job_with_the_reason(client, raw):
    job_id = raw.post("/v1/batch-jobs", json=body(client, upload(raw, b"what is this?"))).json()["job_id"]
    job = raw.get(f"/v1/batch-jobs/{job_id}", params={"wait": 30}).json()
    assert job["status"] == "FAILURE"
    assert "neither JSON nor a CSV" in job["status_reason"]


def test_a_file_without_inputs_gives_no_results(client, raw):
    job_id = raw.post("/v1/batch-jobs", json=body(client, upload(raw, b"[]"))).json()["job_id"]
    job = raw.get(f"/v1/batch-jobs/{job_id}", params={"wait": 30}).json()
    assert (job["status"], job["num_tasks_completed"]) == ("SUCCESS", 0)
    assert raw.get(job["result"], auth=None).json() == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"serialization_format": "XML"}, "serialization_format"),
        ({"resource_requests": {"max_workers": 0}}, "max_workers"),
        ({"resource_requests": {"memory": "much"}}, "memory"),
        ({"resource_requests": {"gpus": 99}}, "GPU"),
        ({"input_path": "s3://elsewhere/inputs.csv"}, "s3://elsewhere/inputs.csv"),
        ({"input_path": "s3://openlaunch/batch-inputs/nobody"}, "nothing was uploaded"),
    ],
)
def test_what_is_not_allowed_is_refused(client, raw, changes, field):
    path = changes.pop("input_path", None) or upload(raw, b"[]")
    answer = raw.post("/v1/batch-jobs", json=body(client, path, **changes))
    assert answer.status_code == 422
    assert field in answer.text


def test_somebody_elses_job_and_inputs_are_not_found(client, raw):
    path = upload(raw, b"[]")
    job_id = raw.post("/v1/batch-jobs", json=body(client, path)).json()["job_id"]
    key = client.create_api_key("other").api_key
    with LaunchClient(key, client.server.url) as other:
        assert other.list_batch_jobs() == []
        for call in (other.get_batch_async_response, other.cancel_batch_job, other.read_batch_results):
            with pytest.raises(NotFound, match="no batch job has the id"):
                call(job_id)
        bundle(other)
    with http(client, key) as theirs:
        mine = theirs.get("/v2/model-bundles").json()["model_bundles"][0]["id"]
        answer = theirs.post("/v1/batch-jobs", json=body(client, path, model_bundle_id=mine))
        assert answer.status_code == 422


def test_wrong_arguments_are_told_before_anything_is_sent(client):
    with pytest.raises(ValueError, match="exactly one of urls and inputs"):
        client.batch_async_request(model_bundle="doubler")
    with pytest.raises(ValueError, match="JSON or PICKLE"):
        begin(client, [{"x": 1}], serialization_format="XML")
    with pytest.raises((ValueError, Unprocessable), match="max_workers"):
        begin(client, [{"x": 1}], max_workers=0)
    with pytest.raises(NotFound, match="no model bundle with the name or id"):
        begin(client, [{"x": 1}], model_bundle="nothing")


# Restarts.


@pytest.mark.parametrize("kill", [True, False])
def test_a_job_goes_on_after_a_restart(tmp_path, kill):
    count = 2000
    with running(tmp_path, drain_seconds=1) as client:
        bundle(client)
        job_id = begin(
            client, [{"x": n, "seconds": 0.004} for n in range(count)], max_workers=1, per_worker=4
        )
        eventually(lambda: (client.get_batch_async_response(job_id)["num_tasks_completed"] or 0) > 100)
        if kill:
            os.kill(client.server.pid, signal.SIGKILL)
    with running(tmp_path) as client:
        assert client.get_batch_async_response(job_id)["status"] == "RUNNING"
        client.wait_for_batch_job(job_id, timeout=60)
        results = client.read_batch_results(job_id)
    assert [entry["result"] for entry in results] == [2 * number for number in range(count)]


def test_old_jobs_and_their_files_are_deleted(tmp_path):
    with running(tmp_path) as client:
        bundle(client)
        run(client, [{"x": 1}])
        # The next server looks at its start, and then not for minutes.
        eventually(lambda: execute(tmp_path, "SELECT cleared FROM batch_jobs") == [(1,)])
    with running(tmp_path, batch_retention_seconds=0.01) as client:
        eventually(lambda: client.list_batch_jobs() == [])
        files = [path for path in (tmp_path / "artifacts").rglob("*job_*") if path.is_file()]
        assert files == []
        inputs = [path for path in (tmp_path / "artifacts" / "batch-inputs").rglob("*") if path.is_file()]
        assert inputs == []


def test_a_small_queue_is_filled_as_often_as_it_takes():
    with running(scale_down_seconds=1, max_queued_tasks=10) as client:
        bundle(client)
        assert [item["result"] for item in run(client, [{"x": n} for n in range(30)])] == [
            2 * n for n in range(30)
        ]
