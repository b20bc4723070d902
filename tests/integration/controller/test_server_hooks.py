"""health_fn and shutdown_fn of endpoints: a worker that says no is replaced, and no request is lost."""

import os

import pytest
from server_driver import SMALL, args, eventually, http, running

from openlaunch.errors import EndpointFailed

SOON = {**SMALL, "health_interval": 0.1, "max_workers": 1}


@pytest.fixture(scope="module")
def client():
    with running() as client:
        yield client


def text_of(client, path):
    with http(client) as raw:
        return raw.get(path).text


def load():
    return {"asked": 0}


def ask(model):
    model["asked"] += 1
    return f"{os.getcwd()}:{os.getpid()}"


def fresh(model):
    if model["asked"] >= 5:
        raise RuntimeError("it is used up")


def says_goodbye(model):
    print("goodbye after", model["asked"])


def test_a_worker_that_says_no_is_replaced_and_no_request_is_lost(client):
    endpoint = client.deploy(
        ask, name="hooks", load_model_fn=load, health_fn=fresh, shutdown_fn=says_goodbye, **SOON
    )
    seen = set()

    def has_been_replaced():
        seen.add(endpoint.predict(args()).value)
        return len(seen) >= 2

    eventually(has_been_replaced)
    said = "health_fn failed: RuntimeError: it is used up"
    eventually(
        lambda: any(
            each.kind == "worker_unhealthy" and said in each.message
            for each in client.list_endpoint_events("hooks").events
        )
    )
    assert said in endpoint.refresh().model_endpoint.status_reason
    assert 'kind="worker_unhealthy"' in text_of(client, "/metrics")
    eventually(
        lambda: "goodbye after" in text_of(client, f"/v1/model-endpoints/{endpoint.model_endpoint.id}/logs")
    )
    assert endpoint.model_endpoint.deployment_state.health_interval == 0.1


def test_an_endpoint_whose_workers_are_never_healthy_says_why(client):
    with pytest.raises(EndpointFailed, match="health_fn returned False"):
        client.deploy(ask, name="never", load_model_fn=load, health_fn=lambda model: False, **SOON)


def test_hooks_without_a_model_get_no_argument(client):
    def goodbye():
        print("goodbye")

    def who():
        return f"{os.getcwd()}:{os.getpid()}"

    endpoint = client.deploy(who, name="bare", health_fn=lambda: True, shutdown_fn=goodbye, **SOON)
    first = endpoint.predict(args()).value
    client.restart_model_endpoint("bare")
    eventually(lambda: endpoint.predict(args()).value != first)
    eventually(lambda: "goodbye" in text_of(client, f"/v1/model-endpoints/{endpoint.model_endpoint.id}/logs"))
