import json

import pytest
from canned_server import endpoint_document
from flows import VirtualTime

from openlaunch.client.effects import Response
from openlaunch.client.models import ModelEndpoint
from openlaunch.client.operations.endpoints import (
    create_model_endpoint,
    edit_model_endpoint,
    wait_until_ready,
)
from openlaunch.errors import Conflict, EndpointFailed, NotFound, Unprocessable, WaitTimeout


def endpoint(status="READY", reason=None, kind="sync"):
    return endpoint_document(kind) | {"status": status, "status_reason": reason}


class World(VirtualTime):
    """Answers requests by route and lets time pass virtually. A list of answers is used one by one, to its last."""

    def __init__(self, **routes):
        super().__init__()
        self.routes = routes

    def clock(self):
        return self.now

    def answer(self, request):
        kind = "bundle" if "bundles" in request.url else request.method
        answers = self.routes[kind]
        document = answers[0] if len(answers) == 1 else answers.pop(0)
        if isinstance(document, Exception):
            return document
        return Response(200, {}, json.dumps(document).encode())


BUNDLE = {
    "id": "bun_1",
    "name": "double",
    "metadata": {},
    "created_at": "2026-01-01T00:00:00Z",
    "model_artifact_ids": [],
    "flavor": {
        "flavor": "cloudpickle_artifact",
        "requirements": [],
        "framework": {"framework_type": "pytorch", "pytorch_image_tag": "1"},
        "location": "s3://b/k",
        "load_predict_fn": "f",
        "load_model_fn": "g",
    },
}


def wait(world, timeout=60, **options):
    start = ModelEndpoint.model_validate(endpoint("UPDATE_PENDING"))
    return world.run(wait_until_ready(start, timeout, clock=world.clock, **options))


def test_waiting_ends_when_the_endpoint_is_ready():
    world = World(GET=[endpoint("UPDATE_PENDING"), endpoint("UPDATE_IN_PROGRESS"), endpoint("READY")])
    assert wait(world).status == "READY"


def test_each_change_is_told_once():
    seen = []
    world = World(
        GET=[
            endpoint("UPDATE_PENDING"),
            endpoint("UPDATE_PENDING"),
            endpoint("UPDATE_IN_PROGRESS", "building the environment"),
            endpoint("UPDATE_IN_PROGRESS", "starting workers"),
            endpoint("READY"),
        ]
    )
    wait(world, on_status=lambda e: seen.append((e.status.value, e.status_reason)))
    assert seen == [
        ("UPDATE_PENDING", None),
        ("UPDATE_IN_PROGRESS", "building the environment"),
        ("UPDATE_IN_PROGRESS", "starting workers"),
        ("READY", None),
    ]


def test_a_failed_endpoint_says_why():
    world = World(GET=[endpoint("UPDATE_FAILED", "No module named 'nowhere'")])
    with pytest.raises(EndpointFailed, match="UPDATE_FAILED: No module named 'nowhere'"):
        wait(world)


def test_a_deleted_endpoint_is_not_waited_for():
    with pytest.raises(EndpointFailed, match="is being deleted"):
        wait(World(GET=[endpoint("DELETE_IN_PROGRESS")]))


def test_waiting_has_a_bound_and_asks_ever_less_often():
    world = World(GET=[endpoint("UPDATE_IN_PROGRESS", "starting workers")])
    with pytest.raises(WaitTimeout, match="is UPDATE_IN_PROGRESS after 60 seconds: starting workers"):
        wait(world)
    assert world.now == 60
    assert len(world.requests) < 75


def create(**options):
    return create_model_endpoint(endpoint_name="double", model_bundle="double", **options)


def test_an_endpoint_is_made_of_the_newest_bundle_of_a_name():
    world = World(bundle=[BUNDLE], POST=[{}], GET=[{"model_endpoints": [endpoint()]}])
    assert world.run(create(min_workers=0, per_worker=4)).id == "end_1"
    (post,) = [r for r in world.requests if r.method == "POST"]
    body = json.loads(post.body)
    assert (body["model_bundle_id"], body["min_workers"], body["per_worker"]) == ("bun_1", 0, 4)
    assert "concurrent_requests_per_worker" not in body


def test_an_unknown_bundle_is_named():
    world = World(bundle=[NotFound("none")])
    with pytest.raises(NotFound, match="no model bundle with the name or id 'double'"):
        world.run(create())


def test_an_endpoint_that_exists_is_changed_when_asked_to():
    world = World(bundle=[BUNDLE], PUT=[{}], GET=[{"model_endpoints": [endpoint()]}, endpoint()])
    world.run(create(update_if_exists=True, max_workers=3))
    (put,) = [r for r in world.requests if r.method == "PUT"]
    body = json.loads(put.body)
    assert body == {"model_bundle_id": "bun_1", "max_workers": 3}


def test_a_minimum_alone_raises_the_maximum():
    world = World(bundle=[BUNDLE], POST=[{}], GET=[{"model_endpoints": [endpoint()]}])
    world.run(create(min_workers=2))
    (post,) = [r for r in world.requests if r.method == "POST"]
    assert json.loads(post.body)["max_workers"] == 2


def test_an_endpoint_does_not_change_its_type():
    world = World(bundle=[BUNDLE], GET=[{"model_endpoints": [endpoint(kind="async")]}])
    with pytest.raises(Conflict, match="is of type 'async' and can't become 'sync'"):
        world.run(create(update_if_exists=True))


def test_only_what_is_given_changes():
    world = World(PUT=[{}], GET=[{"model_endpoints": [endpoint()]}, endpoint()])
    world.run(edit_model_endpoint(model_endpoint="double", max_workers=5))
    (put,) = [r for r in world.requests if r.method == "PUT"]
    assert json.loads(put.body) == {"max_workers": 5}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"gpus": -1}, "gpus is -1"),
        ({"per_worker": 0}, "per_worker is 0"),
        ({"endpoint_type": "batch"}, "endpoint_type is 'batch'.*'async', 'sync' or 'streaming'"),
        ({"gpu_type": "abacus"}, "gpu_type is 'abacus'"),
    ],
)
def test_bad_settings_are_named_before_anything_is_sent(setting, message):
    world = World()
    with pytest.raises(Unprocessable, match=message) as caught:
        world.run(create(**setting))
    assert caught.value.errors[0]["loc"] == (next(iter(setting)),)
    assert world.requests == []
