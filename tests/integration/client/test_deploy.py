"""What `deploy` makes by default, and what it keeps of an endpoint that exists."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from both_clients import FLAVOURS, Both
from server_driver import SMALL, args, eventually

from openlaunch.errors import Conflict, EndpointFailed, Unprocessable

IDLE = {**SMALL, "min_workers": 0}
"""No worker is needed to see the settings."""
SETTINGS = {
    "max_workers": 3,
    "per_worker": 2,
    "concurrent_requests_per_worker": 4,
    "timeout_seconds": 7.5,
    "task_expires_seconds": 60,
    "queue_message_timeout_seconds": 30,
    "labels": {"team": "vision"},
    "post_inference_hooks": ["callback"],
    "default_callback_url": "http://127.0.0.1:9/done",
    "default_callback_auth_kind": "basic",
    "default_callback_auth_username": "me",
    "default_callback_auth_password": "secret",
    "public_inference": True,
    "rollback_after_failures": 3,
    "probation_requests": 10,
    "max_batch_size": 8,
    "max_batch_wait": 0.5,
}


class Scratch:
    """A model that keeps the input of a call in an attribute."""


def uses_scratch(model, x):
    model.x = x
    time.sleep(0.02)
    return model.x


def same(x):
    return x


def other(x):
    return [x]


async def shares_a_loop(x):
    return x


def items(n):
    yield from range(n)


def described(client, name):
    """The endpoint without what changes by itself."""
    document = client.get_model_endpoint(name).model_endpoint.model_dump()
    for varying in ("last_updated_at", "status", "status_reason", "num_queued_items", "predictions"):
        del document[varying]
    for varying in ("available_workers", "unavailable_workers"):
        del document["deployment_state"][varying]
    return document


def bundle_ids(client, name):
    return [bundle.id for bundle in client.list_model_bundles_v2(name).model_bundles]


def test_a_model_is_used_by_one_call_at_a_time(client):
    endpoint = client.deploy(uses_scratch, name="scratch", load_model_fn=Scratch, max_workers=2, **SMALL)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda x: endpoint.predict(args(x=x)).value, range(40)))
    assert answers == list(range(40))


@pytest.mark.parametrize(("function", "per_worker"), [(same, 1), (items, 1), (shares_a_loop, 10)])
def test_only_calls_on_a_loop_share_a_worker_by_default(client, function, per_worker):
    endpoint = client.deploy(function, name=f"default-{function.__name__}", wait=False, min_workers=0)
    workers, resources = endpoint.worker_settings(), endpoint.resource_settings()
    assert (workers.per_worker, workers.concurrent_requests_per_worker) == (per_worker, per_worker)
    assert (workers.max_workers, resources.cpus, resources.memory) == (10, 0.25, "4Gi")


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_what_is_not_given_stays(client, flavour):
    name = f"stays-{flavour}"
    client.deploy(same, name=name, endpoint_type="async", requirements=["cloudpickle>=3"], **SETTINGS, **IDLE)
    before = described(client, name)
    with closing(Both(flavour, client.url, client.server.api_key)) as both:
        endpoint = both.call(both.client.deploy, other, name=name)
    assert endpoint.changes == ["code"]
    after = described(client, name)
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {"bundle_id", "serving_bundle_id"}
    assert client.get_model_bundle(name).requirements == ["cloudpickle>=3"]


def test_the_same_again_changes_nothing(client):
    first = client.deploy(same, name="again", app_config={"a": 1}, load_model_fn=dict, **SMALL)
    # An event is stored a moment after the state that it tells of.
    eventually(lambda: client.list_endpoint_events("again").events[-1].kind == "rolled_out")
    before, bundles = client.list_endpoint_events("again").events, bundle_ids(client, "again")
    again = client.deploy(same, name="again", app_config={"a": 1}, load_model_fn=dict, **SMALL)
    assert again.changes == []
    assert again.model_endpoint.status == "READY"
    assert again.model_endpoint.bundle_id == first.model_endpoint.bundle_id
    assert bundle_ids(client, "again") == bundles
    assert client.list_endpoint_events("again").events == before


def test_another_process_packs_the_same_functions_to_the_same_bundle(client, tmp_path):
    (tmp_path / "program.py").write_text(
        "import openlaunch\n"
        "def load():\n"
        "    return {'one': 1}\n"
        "def predict(model, x):\n"
        "    return model[x]\n"
        f"client = openlaunch.LaunchClient({client.server.api_key!r}, {client.url!r})\n"
        "endpoint = client.deploy(predict, name='processes', load_model_fn=load, min_workers=0)\n"
        "print(endpoint.changes)\n"
    )
    said = [
        subprocess.run(
            [sys.executable, str(tmp_path / "program.py")],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert said == ["None\n", "[]\n"]


def test_a_setting_alone_replaces_no_worker_and_makes_no_bundle(client):
    client.deploy(same, name="setting", **IDLE)
    endpoint = client.deploy(same, name="setting", max_workers=12, labels={"a": "b"})
    assert endpoint.changes == ["max_workers: 10 → 12", "labels"]
    assert len(bundle_ids(client, "setting")) == 1


def test_a_minimum_alone_raises_the_maximum(client):
    client.deploy(same, name="least", max_workers=1, **IDLE)
    endpoint = client.deploy(same, name="least", min_workers=2)
    assert endpoint.changes == ["min_workers: 0 → 2", "max_workers: 1 → 2"]
    most = client.deploy(same, name="most", wait=False, gpus=0, **SMALL | {"min_workers": 11})
    assert most.worker_settings().max_workers == 11
    client.delete_model_endpoint("most")


def test_a_reset_sets_the_defaults(client):
    client.deploy(same, name="reset", **SETTINGS, **IDLE)
    endpoint = client.deploy(same, name="reset", reset=True, min_workers=0)
    fresh = client.deploy(same, name="fresh", min_workers=0)
    assert "timeout_seconds" in endpoint.changes
    own = {"id", "name", "deployment_name", "destination", "bundle_id", "bundle_name", "created_at"}
    own |= {"serving_bundle_id", "serving_bundle_name"}
    left, right = (described(client, name) for name in ("reset", "fresh"))
    assert {k: v for k, v in left.items() if k not in own} == {k: v for k, v in right.items() if k not in own}
    assert fresh.changes is None


def test_calls_that_shared_a_loop_do_not_come_to_share_a_model_in_threads(client):
    client.deploy(shares_a_loop, name="loop", **IDLE)
    assert client.deploy(same, name="loop").changes == ["code", "per_worker: 10 → 1"]
    assert client.deploy(other, name="loop", per_worker=3).changes == ["code", "per_worker: 1 → 3"]
    assert client.deploy(same, name="loop").worker_settings().per_worker == 3


def test_an_endpoint_keeps_its_type(client):
    client.deploy(same, name="type", endpoint_type="async", **IDLE)
    assert client.deploy(other, name="type").model_endpoint.endpoint_type == "async"
    with pytest.raises(Conflict, match="is of type 'async' and can't become 'streaming'"):
        client.deploy(items, name="type")
    with pytest.raises(Conflict, match="is of type 'async' and can't become 'sync'"):
        client.deploy(same, name="type", endpoint_type="sync")


def test_requirements_that_could_not_be_built_are_not_kept(client):
    with pytest.raises(EndpointFailed):
        client.deploy(same, name="unbuilt", requirements=["cloudpickle==0.0.0"], **IDLE)
    assert client.deploy(same, name="unbuilt").changes == ["requirements"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"memory": 8}, "memory is 8: .*give a unit, such as 8Gi"), ({"cpus": "8G"}, "not a number of cores")],
)
def test_what_can_not_be_meant_is_refused(client, settings, message):
    with pytest.raises(Unprocessable, match=message):
        client.deploy(same, name="refused", **settings)
    assert bundle_ids(client, "refused") == []


def test_a_slip_in_a_keyword_is_named(client):
    with pytest.raises(TypeError, match=r"the keyword cpu is unknown; did you mean cpus\?"):
        client.deploy(same, name="slip", cpu=2)
    with pytest.raises(TypeError, match=r"the keyword requirement is unknown; did you mean requirements\?"):
        client.deploy(same, name="slip", requirement=["numpy"])
    with pytest.raises(TypeError, match=r"the keyword nam is unknown; did you mean name\?"):
        client.deploy(same, nam="slip")
