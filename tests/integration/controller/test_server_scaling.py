"""Workers follow the load: to and from zero, between minimum and maximum, and across a change of bundle."""

import os
import threading
import time

import pytest
from server_driver import DEADLINE, SMALL, args, eventually, is_alive, running
from threads import Threads

from openlaunch.errors import DeadlineExceeded, EndpointFailed, TooManyRequests

QUIET = 0.5


@pytest.fixture(scope="module")
def client():
    with running(scale_down_seconds=QUIET, max_queued_requests=2, max_queued_tasks=5) as client:
        yield client


def napping(seconds=0.0):
    time.sleep(seconds)
    return f"{os.getcwd()}:{os.getpid()}"


def counting(n=1):
    for _ in range(n):
        yield f"{os.getcwd()}:{os.getpid()}"


def workers(endpoint):
    return endpoint.deployment_state().available_workers


@pytest.mark.parametrize("kind", ["sync", "async", "streaming"])
def test_a_request_wakes_an_endpoint_from_zero_which_then_sleeps_again(client, kind):
    function = counting if kind == "streaming" else napping
    endpoint = client.deploy(function, name=f"sc-zero-{kind}", endpoint_type=kind, min_workers=0, **SMALL)
    assert workers(endpoint) == 0
    prediction = endpoint.predict(args())
    if kind == "sync":
        response = prediction
    elif kind == "async":
        response = prediction.get(DEADLINE)
    else:
        (response,) = prediction
    worker = response.value
    assert workers(endpoint) == 1
    eventually(lambda: workers(endpoint) == 0)
    eventually(lambda: not is_alive(worker))


def test_workers_are_added_up_to_the_maximum_and_taken_away_again(client):
    endpoint = client.deploy(
        napping, name="sc-many", endpoint_type="async", min_workers=1, max_workers=3, per_worker=1, **SMALL
    )
    futures = endpoint.predict_many([args(seconds=1.0) for _ in range(5)])
    eventually(lambda: workers(endpoint) == 3)
    assert len({future.get(DEADLINE).value for future in futures}) == 3
    eventually(lambda: workers(endpoint) == 1)


def test_a_request_does_not_wait_behind_a_busy_worker_while_another_is_free(client):
    endpoint = client.deploy(napping, name="sc-two", min_workers=2, max_workers=2, per_worker=1, **SMALL)
    busy = threading.Thread(target=endpoint.predict, args=(args(seconds=2.0),))
    busy.start()
    began = time.monotonic()
    for _ in range(20):
        endpoint.predict(args())
    assert time.monotonic() - began < 1.0
    busy.join()


def test_as_many_requests_as_per_worker_says_run_at_once_in_one_worker(client):
    endpoint = client.deploy(napping, name="sc-slots", min_workers=1, max_workers=1, per_worker=4, **SMALL)
    began = time.monotonic()
    workers = []
    threads = [
        threading.Thread(target=lambda: workers.append(endpoint.predict(args(seconds=0.5)).value))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(workers)) == 1
    assert len(workers) == 4
    assert time.monotonic() - began < 1.5


def test_a_full_queue_is_refused_at_once_with_the_time_to_come_back(client):
    endpoint = client.deploy(napping, name="sc-full", min_workers=1, max_workers=1, per_worker=1, **SMALL)
    threads = [threading.Thread(target=endpoint.predict, args=(args(seconds=1.5),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: endpoint.refresh().model_endpoint.num_queued_items == 2)
    began = time.monotonic()
    with pytest.raises(TooManyRequests) as caught:
        endpoint.predict(args())
    assert time.monotonic() - began < 0.5
    assert 1 <= caught.value.retry_after <= 60
    for thread in threads:
        thread.join()


def test_a_full_queue_of_tasks_is_refused_and_takes_none_of_a_batch(client):
    endpoint = client.deploy(
        napping, name="sc-full-tasks", endpoint_type="async", max_workers=1, per_worker=1, **SMALL
    )
    running_one = endpoint.predict(args(seconds=1.0))
    eventually(lambda: endpoint.refresh().model_endpoint.num_queued_items == 0)
    with pytest.raises(TooManyRequests) as caught:
        endpoint.predict_many([args() for _ in range(7)])
    assert caught.value.retry_after >= 1
    assert endpoint.refresh().model_endpoint.num_queued_items == 0
    assert running_one.get(DEADLINE).status == "SUCCESS"


def test_a_deadline_that_passes_in_the_worker_ends_the_request(client):
    endpoint = client.deploy(napping, name="sc-late", max_workers=1, per_worker=1, **SMALL)
    with pytest.raises(DeadlineExceeded, match="ran in its worker"):
        endpoint.predict(args(seconds=3.0), timeout=0.3)


def test_a_deadline_that_passes_in_the_queue_ends_the_request(client):
    endpoint = client.deploy(napping, name="sc-later", max_workers=1, per_worker=1, **SMALL)
    busy = threading.Thread(target=endpoint.predict, args=(args(seconds=1.5),))
    busy.start()
    eventually(lambda: workers(endpoint) == 1)
    with pytest.raises(DeadlineExceeded, match="waited for a worker"):
        endpoint.predict(args(), timeout=0.3)
    busy.join()


def test_a_change_of_bundle_fails_no_request(client):
    endpoint = client.deploy(lambda: "old", name="sc-roll", min_workers=2, max_workers=2, **SMALL)
    values = []
    with Threads(*[lambda _: values.append(endpoint.predict(args()).value)] * 3) as traffic:
        eventually(lambda: len(values) > 50)
        client.deploy(lambda: "new", name="sc-roll", min_workers=2, max_workers=2, **SMALL)
        eventually(lambda: values[-1] == "new")
        client.restart_model_endpoint("sc-roll")
        endpoint.wait_until_ready(DEADLINE)
    assert traffic.errors == []
    assert set(values) == {"old", "new"}


def test_a_bundle_that_can_not_load_leaves_the_old_one_serving(client):
    def broken():
        raise RuntimeError("the weights are missing")

    endpoint = client.deploy(lambda: "old", name="sc-keep", **SMALL)
    with pytest.raises(EndpointFailed, match="the weights are missing"):
        client.deploy(lambda model: "new", name="sc-keep", load_model_fn=broken, **SMALL)
    described = endpoint.refresh().model_endpoint
    assert described.status == "UPDATE_FAILED"
    assert "the weights are missing" in described.status_reason
    assert [endpoint.predict(args()).value for _ in range(3)] == ["old"] * 3
    assert "the weights are missing" in client.read_endpoint_creation_logs("sc-keep")
    client.deploy(lambda: "newer", name="sc-keep", **SMALL)
    eventually(lambda: endpoint.predict(args()).value == "newer")
    assert endpoint.refresh().model_endpoint.status_reason is None
