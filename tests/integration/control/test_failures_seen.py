"""Failed predictions are seen: in the endpoint's log with the request's id, and counted."""

import os
import time

import pytest
from pydantic import RootModel
from server_driver import SMALL, args, eventually, http, running

from openlaunch.errors import WorkerDied

SECRET = "the-payload-of-a-request"


def work(how="", text=""):
    if how == "raise":
        _inner()
    if how == "die":
        os._exit(9)
    if how == "sleep":
        time.sleep(60)
    return how


def _inner():
    raise LookupError("no such row")


def items(how="", text=""):
    yield 1
    if how == "raise":
        _inner()


class Number(RootModel[int]):
    """What `number` promises."""


def number(how="", text=""):
    return how


@pytest.fixture(scope="module")
def client():
    with running(check_responses=True, interrupt_grace_seconds=0.2, task_max_attempts=1) as client:
        yield client


def deployed(client, fn, name, **settings):
    return client.deploy(fn, name=name, max_workers=1, **SMALL, **settings)


@pytest.fixture(scope="module")
def sync(client):
    return deployed(client, work, "sync", public_inference=True)


def log_of(client, endpoint, *texts):
    """The endpoint's log, once it has these texts in it."""
    return eventually(
        lambda: (log := client.read_endpoint_logs(endpoint)) and all(each in log for each in texts) and log
    )


def counts_of(client, name):
    return client.get_model_endpoint(name).model_endpoint.predictions


def predict(raw, endpoint, kind="sync", how="raise", **headers):
    return raw.post(
        f"/v1/{kind}-tasks",
        params={"model_endpoint_id": endpoint.model_endpoint.id},
        json={"args": {"how": how, "text": SECRET}},
        headers=headers,
    )


def test_a_failed_sync_prediction_is_in_the_log_with_the_id_of_its_answer(client, raw, sync):
    before = counts_of(client, "sync").since_deploy
    answer = predict(raw, sync)
    request_id = answer.headers["x-request-id"]
    assert answer.json()["status"] == "FAILURE"
    assert answer.json()["request_id"] == request_id
    log = log_of(client, sync, f"request {request_id} failed: LookupError: no such row", "in _inner")
    assert SECRET not in log
    predict(raw, sync, how="fine")
    after = counts_of(client, "sync")
    assert (after.since_deploy.predictions, after.since_deploy.failures) == (
        before.predictions + 2,
        before.failures + 1,
    )
    assert after.last_5_minutes.failures == after.last_hour.failures == after.since_deploy.failures


def test_a_request_may_bring_its_id(client, raw, sync):
    answer = predict(raw, sync, **{"X-Request-ID": "my-own-1"})
    assert answer.headers["x-request-id"] == "my-own-1"
    log_of(client, sync, "request my-own-1 failed")
    forged = predict(raw, sync, **{"X-Request-ID": 'a "quoted" id'})
    assert forged.headers["x-request-id"].startswith("req_")


def test_a_failed_stream_is_in_the_log_with_the_id_of_its_last_event(client, raw):
    endpoint = deployed(client, items, "stream")
    answer = predict(raw, endpoint, "streaming", **{"X-Request-ID": "stream-1"})
    assert '"request_id": "stream-1"' in answer.text
    log_of(client, endpoint, "stream stream-1 failed: LookupError", "in _inner")
    assert counts_of(client, "stream").since_deploy.failures == 1


def test_a_failed_task_is_in_the_log_with_its_id(client):
    endpoint = deployed(client, work, "async", endpoint_type="async")
    future = endpoint.predict(args(how="raise"))
    assert future.get(timeout=60).status == "FAILURE"
    log_of(client, endpoint, f"task {future.async_task_id} failed: LookupError")
    assert counts_of(client, "async").since_deploy.failures == 1


def test_a_deadline_and_a_death_are_failures_too(client, raw, sync):
    before = counts_of(client, "sync").since_deploy.failures
    late = raw.post(
        "/v1/sync-tasks",
        params={"model_endpoint_id": sync.model_endpoint.id},
        json={"args": {"how": "sleep"}, "timeout_seconds": 0.5},
    )
    assert late.status_code in (200, 504)
    log_of(client, sync, "the deadline")
    with pytest.raises(WorkerDied) as died:
        eventually(lambda: sync.predict(args(how="die")) and False)
    log_of(client, sync, f"request {died.value.request_id} failed: the worker exited with code 9")
    eventually(lambda: counts_of(client, "sync").since_deploy.failures == before + 2)


def test_a_value_that_does_not_fit_its_schema_is_a_failure(client, raw):
    endpoint = deployed(client, number, "misfit", response_schema=Number)
    answer = predict(raw, endpoint, how=SECRET)
    log = log_of(
        client, endpoint, f"request {answer.json()['request_id']} failed: the return value does not fit"
    )
    assert SECRET not in log
    assert counts_of(client, "misfit").since_deploy.failures == 1


def test_of_a_failure_that_a_stranger_caused_the_owner_sees_the_traceback(client, sync):
    key = client.create_api_key("stranger", "predict").api_key
    with http(client, key) as theirs:
        answer = predict(theirs, sync)
    assert "no such row" not in answer.text
    log_of(client, sync, "a request of another owner failed", answer.json()["request_id"])


def test_an_endpoint_that_always_fails_does_not_fill_its_log(client, raw):
    endpoint = deployed(client, work, "flood")
    for _ in range(60):
        predict(raw, endpoint)
    assert counts_of(client, "flood").since_deploy.failures == 60
    assert 20 <= client.read_endpoint_logs(endpoint).count("failed: LookupError") < 60


def test_a_deploy_begins_a_new_count(client, raw, sync):
    predict(raw, sync, how="fine")
    since = counts_of(client, "sync").since
    client.restart_model_endpoint("sync")
    eventually(lambda: counts_of(client, "sync").since > since)
    assert counts_of(client, "sync").since_deploy.predictions == 0
    assert counts_of(client, "sync").last_hour.predictions > 0


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_beginning_and_the_end_of_a_burst_of_failures_are_events(client):
    endpoint = deployed(client, work, "bursts")
    for _ in range(6):
        endpoint.predict(args(how="raise"))

    def seen(kind):
        found = client.list_endpoint_events("bursts").events
        return [event.message for event in found if event.kind == kind]

    eventually(lambda: seen("failures_began"), 60)
    assert "LookupError" in seen("failures_began")[0]
    assert seen("failures_ended") == []
    eventually(lambda: seen("failures_ended"), 180)
    assert len(seen("failures_began")) == len(seen("failures_ended")) == 1
