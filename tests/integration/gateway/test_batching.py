"""Batching from the client to the worker and back."""

import asyncio
import os
import threading

import pytest
from pydantic import BaseModel
from server_driver import SMALL, args, http

from openlaunch import EndpointRequest, aio
from openlaunch.errors import EndpointFailed, Unprocessable, WorkerDied

BATCHED = {**SMALL, "max_batch_size": 4, "max_batch_wait": 2.0}


class Input(BaseModel):
    x: int


def double(inputs):
    if any(one["x"] == 13 for one in inputs):
        raise ValueError("13 is not liked")
    return [[2 * one["x"], len(inputs)] for one in inputs]


@pytest.fixture(scope="module")
def endpoint(client):
    return client.deploy(double, name="double", request_schema=Input, **BATCHED)


@pytest.fixture(scope="module")
def queue(client):
    return client.deploy(double, name="double-queue", endpoint_type="async", **BATCHED)


def at_once(endpoint, requests):
    """The responses to requests that are sent at the same time."""
    responses = [None] * len(requests)

    def ask(index):
        responses[index] = endpoint.predict(requests[index])

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return responses


def test_requests_of_several_clients_are_one_call(client, endpoint):
    responses = at_once(endpoint, [args(x=i) for i in range(4)])
    assert [response.value for response in responses] == [[2 * i, 4] for i in range(4)]
    counted = client.get_endpoint_metrics("double").since_start.batches
    assert (counted.count, counted.mean_size) == (1, 4)
    with http(client) as raw:
        assert 'openlaunch_batch_predictions_bucket{endpoint="double",owner="admin",le="4.0"} 1' in (
            raw.get("/metrics").text
        )


def test_each_request_is_checked_by_itself(endpoint):
    with pytest.raises(Unprocessable, match=r"x: .*integer"):
        endpoint.predict(args(x="one"))
    pickled, *rest = at_once(
        endpoint,
        [EndpointRequest(args={"x": 7}, return_pickled=True), *(args(x=i) for i in range(3))],
    )
    assert pickled.result_url is not None
    assert pickled.value == [14, 4]
    assert [response.value for response in rest] == [[2 * i, 4] for i in range(3)]


def test_an_exception_is_each_ones_failure(endpoint):
    for response in at_once(endpoint, [args(x=13), *(args(x=i) for i in range(3))]):
        assert response.status == "FAILURE"
        assert "ValueError: 13 is not liked" in response.traceback


def test_tasks_are_run_together(queue):
    futures = queue.predict_many([args(x=i) for i in range(8)])
    assert [future.get(timeout=30).value for future in futures] == [[2 * i, 4] for i in range(8)]


def test_a_batch_job_runs_its_inputs_together(client):
    client.deploy(double, name="job", min_workers=0, **SMALL)
    job = client.batch_async_request(
        model_bundle="job",
        inputs=[{"x": i} for i in range(8)],
        cpus=0.1,
        memory="64Mi",
        max_batch_size=4,
        max_batch_wait=2.0,
    )
    client.wait_for_batch_job(job["job_id"], timeout=60)
    entries = client.read_batch_results(job["job_id"])
    assert [entry["result"] for entry in entries] == [[2 * i, 4] for i in range(8)]


def test_the_settings_are_shown_changed_and_ended(client):
    endpoint = client.deploy(double, name="changing", max_batch_size=4, **SMALL)
    state = endpoint.worker_settings()
    assert (state.max_batch_size, state.max_batch_wait) == (4, 0.005)
    with http(client) as raw:
        (listed,) = raw.get("/v1/model-endpoints?name=changing").json()["model_endpoints"]
        assert listed["deployment_state"]["max_batch_size"] == 4

    client.edit_model_endpoint(model_endpoint="changing", max_batch_size=2).wait_until_ready(60)
    responses = at_once(endpoint, [args(x=i) for i in range(2)])
    assert [response.value[0] for response in responses] == [0, 2]
    assert endpoint.worker_settings().max_batch_size == 2

    single = client.deploy(lambda x: 3 * x, name="changing", max_batch_size=0)
    assert single.predict(args(x=1)).value == 3
    assert single.worker_settings().max_batch_size is None


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"max_batch_size": -1}, "max_batch_size is -1"),
        ({"max_batch_size": 5001}, "max_batch_size is 5001"),
        ({"max_batch_size": 4, "max_batch_wait": -0.1}, "max_batch_wait is -0.1"),
        ({"max_batch_size": 4, "max_batch_wait": 11}, "max_batch_wait is 11"),
        ({"max_batch_wait": 0.1}, "there is nothing to wait for: give max_batch_size, too"),
        ({"max_batch_size": 4, "endpoint_type": "streaming"}, "a stream is of one request"),
    ],
)
def test_what_is_not_allowed_is_told(client, settings, told):
    with pytest.raises(Unprocessable, match=told):
        client.deploy(double, name="refused", **SMALL, **settings)


def test_a_command_batches_by_itself(client):
    client.create_model_bundle_from_command(model_bundle_name="command", command=["python", "serve.py"])
    with pytest.raises(
        Unprocessable, match="'command' is a command, whose server gets each request separately"
    ):
        client.create_model_endpoint(
            endpoint_name="command", model_bundle="command", max_batch_size=4, **SMALL
        )
    with pytest.raises(Unprocessable, match="whose server gets each request separately"):
        client.batch_async_request(model_bundle="command", inputs=[{}], max_batch_size=4)
    client.deploy(double, name="to-command", min_workers=0, max_batch_size=4, **SMALL)
    with pytest.raises(Unprocessable, match="whose server gets each request separately"):
        client.edit_model_endpoint(model_endpoint="to-command", model_bundle="command")


def test_the_awaitable_client_has_the_settings(client):
    async def main():
        async with aio.LaunchClient(client.server.api_key, client.url) as twin:
            endpoint = await twin.deploy(double, name="awaited", **BATCHED)
            responses = await asyncio.gather(*(endpoint.predict(args(x=i)) for i in range(4)))
            assert [response.value for response in responses] == [[2 * i, 4] for i in range(4)]

    asyncio.run(main())


def test_a_bundle_that_goes_on_because_a_new_one_fails_keeps_its_batching(client):
    def broken():
        raise RuntimeError("the weights are missing")

    def double_or_end(inputs):
        if inputs[0]["x"] == 0:
            os._exit(1)
        return double(inputs)

    endpoint = client.deploy(double_or_end, name="keeps", **BATCHED)
    with pytest.raises(EndpointFailed, match="the weights are missing"):
        client.deploy(lambda model, x: x, name="keeps", load_model_fn=broken, **SMALL, max_batch_size=1)
    with pytest.raises(WorkerDied):
        endpoint.predict(args(x=0))
    responses = at_once(endpoint, [args(x=i) for i in range(1, 5)])
    assert [response.value for response in responses] == [[2 * i, 4] for i in range(1, 5)]
