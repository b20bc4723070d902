"""What an endpoint's settings do, and what is told of it."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from server_driver import DEADLINE, SMALL, args, eventually, running

from openlaunch.errors import NotFound

ONE = {**SMALL, "max_workers": 1, "per_worker": 1}
SETTINGS = {
    "metadata": {"a": {"b": 1}},
    "labels": {"team": "a"},
    "post_inference_hooks": ["callback"],
    "default_callback_url": "http://127.0.0.1:9/",
    "public_inference": True,
    "task_expires_seconds": 60,
    "queue_message_timeout_seconds": 50,
}
DEPLOYMENT = {
    "min_workers": 0,
    "max_workers": 3,
    "per_worker": 4,
    "concurrent_requests_per_worker": 6,
    "forwarder_max_concurrency": 5,
}
RESOURCES = {"cpus": "100m", "gpus": 0, "memory": "64Mi", "storage": "1Gi", "optimize_costs": False}
IGNORED = {"high_priority": False, "prewarm": False, "billing_tags": {"a": "b"}}


def napping(seconds=0.0):
    time.sleep(seconds)
    return seconds


@pytest.fixture(scope="module")
def client():
    with running() as client:
        client.deploy(napping, name="se-bundle", min_workers=0, **SMALL)
        yield client


async def napping_softly(seconds=0.0):
    await asyncio.sleep(seconds)
    return seconds


def create(raw, client, name, **changes):
    body = {
        "name": name,
        "model_bundle_id": client.get_latest_model_bundle_v2("se-bundle").id,
        "endpoint_type": "async",
        "metadata": {},
        "labels": {},
        **DEPLOYMENT,
        **RESOURCES,
        **changes,
    }
    response = raw.post("/v1/model-endpoints", json=body)
    assert response.status_code == 200, response.text
    return response.json()["endpoint_creation_task_id"]


def described(raw, endpoint_id):
    return raw.get(f"/v1/model-endpoints/{endpoint_id}").json()


def test_every_setting_is_told_as_it_was_given_and_changed(raw, client):
    endpoint_id = create(raw, client, "se-all", **SETTINGS, **IGNORED)
    told = described(raw, endpoint_id)
    assert told.items() >= SETTINGS.items()
    assert told["deployment_state"].items() >= DEPLOYMENT.items()
    assert told["resource_state"].items() >= RESOURCES.items()
    changes = {
        "metadata": {"c": 2},
        "labels": {"team": "b"},
        "post_inference_hooks": [],
        "public_inference": False,
        "task_expires_seconds": 61,
        "queue_message_timeout_seconds": 51,
    }
    resized = {"max_workers": 4, "per_worker": 5, "forwarder_max_concurrency": 4}
    body = {**changes, **resized, "cpus": 0.2, "memory": "96Mi", "storage": "2Gi"}
    assert raw.put(f"/v1/model-endpoints/{endpoint_id}", json=body).status_code == 200
    told = described(raw, endpoint_id)
    assert told.items() >= changes.items()
    assert told["default_callback_url"] == SETTINGS["default_callback_url"]
    assert told["deployment_state"].items() >= resized.items()
    assert (told["resource_state"]["cpus"], told["resource_state"]["memory"]) == (0.2, "96Mi")
    assert told["last_updated_at"] > told["created_at"]


def test_endpoints_are_listed_by_name_and_in_order(raw, client):
    for name in ("se-order-b", "se-order-a"):
        create(raw, client, name)

    def listed(**query):
        found = raw.get("/v1/model-endpoints", params=query).json()["model_endpoints"]
        return [e["name"] for e in found if e["name"].startswith("se-order")]

    assert listed() == listed(order_by="newest") == ["se-order-a", "se-order-b"]
    assert listed(order_by="oldest") == ["se-order-b", "se-order-a"]
    assert listed(order_by="alphabetical") == ["se-order-a", "se-order-b"]
    assert listed(name="se-order-a") == ["se-order-a"]
    assert listed(name="se-order") == []
    assert raw.get("/v1/model-endpoints", params={"order_by": "size"}).status_code == 422


def test_a_task_that_waits_longer_than_the_endpoint_lets_it_has_expired(client):
    endpoint = client.deploy(napping, name="se-expires", endpoint_type="async", task_expires_seconds=1, **ONE)
    first, second = endpoint.predict_many([args(seconds=2.5), args()])
    response = second.get(DEADLINE)
    assert response.status == "FAILURE"
    assert "the task expired: it waited 1 s" in response.traceback
    assert first.get(DEADLINE).value == 2.5


def test_a_task_that_runs_longer_than_the_endpoint_lets_it_is_ended(client):
    endpoint = client.deploy(
        napping_softly, name="se-too-long", endpoint_type="async", queue_message_timeout_seconds=1, **ONE
    )
    response = endpoint.predict(args(seconds=600)).get(DEADLINE)
    assert (response.status, response.status_code) == ("FAILURE", 504)
    assert client.edit_model_endpoint(model_endpoint="se-too-long", queue_message_timeout_seconds=60)
    assert endpoint.predict(args(seconds=1.5)).get(DEADLINE).value == 1.5


def test_workers_that_load_are_unavailable(client, tmp_path):
    go_on = tmp_path / "go-on"

    def load():
        while not Path(go_on).exists():
            time.sleep(0.01)

    settings = {"load_model_fn": load, "min_workers": 2, "max_workers": 2, "wait": False, **SMALL}
    endpoint = client.deploy(lambda model: 1, name="se-loads", **settings)

    def told():
        state = endpoint.deployment_state()
        return state.available_workers, state.unavailable_workers

    eventually(lambda: told() == (0, 2))
    go_on.touch()
    eventually(lambda: told() == (2, 0))


def test_what_runs_when_an_endpoint_is_deleted_may_end(client, tmp_path):
    def touch_and_nap(path):
        Path(path).touch()
        time.sleep(0.5)
        return "done"

    begun = tmp_path / "begun"
    endpoint = client.deploy(touch_and_nap, name="se-deleted", **ONE)
    with ThreadPoolExecutor() as threads:
        running_one = threads.submit(endpoint.predict, args(path=str(begun)))
        eventually(begun.exists)
        client.delete_model_endpoint("se-deleted")
        assert running_one.result(DEADLINE).value == "done"
    with pytest.raises(NotFound):
        endpoint.predict(args(path=str(begun)))


def test_what_an_update_of_an_existing_endpoint_does_not_give_stays(client):
    settings = {"name": "se-again", "min_workers": 0, **SMALL}
    client.deploy(napping, labels={"team": "a"}, task_expires_seconds=9, **settings)
    told = client.deploy(napping, **settings).model_endpoint
    assert (told.labels, told.task_expires_seconds) == ({"team": "a"}, 9)
