"""Tasks that take their worker with them: they end as failures, and nothing else does."""

import ctypes
import os
import signal
import time
from pathlib import Path

import pytest
from server_driver import DEADLINE, SMALL, args, running

from openlaunch import EndpointRequest, LaunchClient, as_completed
from openlaunch.errors import Conflict, NotFound

GOOD = 120
BOUND_SECONDS = 60.0
ENDS = {
    "segfault": "was killed by signal 11 (SIGSEGV)",
    "exit": "exited with code 9",
    "killed": "was killed by signal 9 (SIGKILL)",
}


@pytest.fixture(scope="module")
def client():
    with running(task_max_attempts=3) as client:
        yield client


def work(how):
    time.sleep(0.05)
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "exit":
        os._exit(9)
    elif how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    return how


def test_poison_among_good_tasks_fails_alone(client, record_property):
    endpoint = client.deploy(
        work, name="po-mixed", endpoint_type="async", max_workers=1, per_worker=4, **SMALL
    )
    kinds = ["good"] * GOOD
    for index, how in enumerate([*ENDS] * 2):
        kinds[index * 20 + 3] = how
    began = time.monotonic()
    futures = endpoint.predict_many([args(how=how) for how in kinds])
    responses = {f.async_task_id: f.get() for f in as_completed(futures, BOUND_SECONDS)}
    seconds = time.monotonic() - began
    for how, future in zip(kinds, futures, strict=True):
        response = responses[future.async_task_id]
        if how == "good":
            assert response.value == "good"
        else:
            assert response.status == "FAILURE"
            assert ENDS[how] in response.traceback
            assert "attempt 3 of 3" in response.traceback
    assert endpoint.refresh().model_endpoint.status == "READY"
    text = f"{GOOD - 6} good tasks beside 6 that end their worker, 3 times each: all done in {seconds:.1f} s"
    print(text)
    record_property("figure", text)


def needs(path):
    if not Path(path).exists():
        raise FileNotFoundError(path)
    return "found"


def test_a_failed_task_is_listed_looked_at_and_run_again(client, tmp_path):
    endpoint = client.deploy(needs, name="po-again", endpoint_type="async", **SMALL)
    path = str(tmp_path / "missing")
    failed = endpoint.predict(args(path=path))
    assert failed.get(DEADLINE).status == "FAILURE"
    (listed,) = client.list_tasks("po-again", "FAILURE").tasks
    assert listed == client.get_task_details(failed.async_task_id)
    assert (listed.task_id, listed.attempts, listed.status_code) == (failed.async_task_id, 1, 500)
    assert listed.reason == f"FileNotFoundError: {path}"
    assert client.get_task_payload(failed.async_task_id) == {"args": {"path": path}}
    Path(path).touch()
    again = client.rerun_task(failed.async_task_id)
    assert again.get(DEADLINE).value == "found"
    assert client.get_task(failed.async_task_id).status == "FAILURE"
    with pytest.raises(Conflict, match="is SUCCESS: those that failed or were cancelled can be run again"):
        client.rerun_task(again.async_task_id)
    with pytest.raises(NotFound, match="is not kept"):
        client.get_task_payload(again.async_task_id)


def test_a_cancelled_task_can_be_run_again(client):
    endpoint = client.deploy(work, name="po-cancelled", endpoint_type="async", min_workers=0, **SMALL)
    future = endpoint.predict(args(how="good"))
    if future.cancel():
        assert client.rerun_task(future.async_task_id).get(DEADLINE).value == "good"


def test_the_secrets_of_a_callback_are_not_shown(client, tmp_path):
    endpoint = client.deploy(needs, name="po-secret", endpoint_type="async", **SMALL)
    request = EndpointRequest(
        args={"path": str(tmp_path / "missing")},
        callback_url="http://127.0.0.1:9/",
        callback_auth_kind="basic",
        callback_auth_username="ada",
        callback_auth_password="a-secret",
    )
    failed = endpoint.predict(request)
    failed.get(DEADLINE)
    shown = client.get_task_payload(failed.async_task_id)
    assert shown["callback_auth"] == {"kind": "basic", "username": "ada", "password": "********"}
    assert shown["args"] == request.args


def test_nobody_else_sees_a_payload_or_runs_a_task_again(client, tmp_path):
    endpoint = client.deploy(needs, name="po-mine", endpoint_type="async", **SMALL)
    failed = endpoint.predict(args(path=str(tmp_path / "missing")))
    failed.get(DEADLINE)
    other = client.create_api_key("somebody")
    with LaunchClient(other.api_key, client.server.url) as stranger:
        for look in (stranger.get_task_details, stranger.get_task_payload, stranger.rerun_task):
            with pytest.raises(NotFound, match="no task has the id"):
                look(failed.async_task_id)


def test_a_task_whose_endpoint_is_gone_can_not_be_run_again(client, tmp_path):
    endpoint = client.deploy(needs, name="po-gone", endpoint_type="async", **SMALL)
    failed = endpoint.predict(args(path=str(tmp_path / "missing")))
    failed.get(DEADLINE)
    client.delete_model_endpoint("po-gone")
    with pytest.raises(NotFound, match="endpoint of the task"):
        client.rerun_task(failed.async_task_id)
