"""What can be done with an endpoint, without a server: the rules over each kind of store."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from example_bundles import make_bundle, make_flavor
from store_drivers import OPENERS, Database, database

from openlaunch.errors import Conflict, NotFound, Unprocessable
from openlaunch.server.endpoints.changes import new_endpoint
from openlaunch.server.endpoints.service import Endpoints
from openlaunch.store import bundles, endpoints
from openlaunch.store.records import EndpointRecord
from openlaunch.wire.endpoint_settings import EndpointSpec
from openlaunch.wire.endpoints import (
    CanaryStatus,
    CreateModelEndpointRequest,
    EndpointStatus,
    EndpointType,
    StartCanaryRequest,
    UpdateModelEndpointRequest,
)
from openlaunch.wire.events import EventKind

REQUEST = {
    "name": "digits",
    "model_bundle_id": "plain",
    "endpoint_type": "async",
    "metadata": {},
    "cpus": "500m",
    "gpus": 0,
    "memory": "1Gi",
    "storage": "1Gi",
    "min_workers": 1,
    "max_workers": 3,
    "per_worker": 4,
    "labels": {},
}
FLAVORS = {
    "plain": "cloudpickle_artifact",
    "better": "cloudpickle_artifact",
    "command": "command",
    "image": "runnable_image",
}


class Machine:
    """Stands for the controller and the queue: keeps in order what it is asked for."""

    def __init__(self) -> None:
        self.done: list[tuple[object, ...]] = []
        self.events = self

    def apply(self, record: EndpointRecord) -> None:
        self.done.append(("apply", record.id, record.generation))

    def remove(self, record: EndpointRecord) -> None:
        self.done.append(("remove", record.id))

    def check_gpus(self, spec: EndpointSpec) -> None:
        if spec.gpus:
            raise Unprocessable("this machine has 0 GPUs", code="not_enough_gpus")

    def add(self, endpoint_id: str, kind: EventKind, detail: str = "") -> None:
        self.done.append((kind, endpoint_id, detail))

    async def fail_endpoint(self, endpoint_id: str, reason: str) -> None:
        self.done.append(("fail", endpoint_id, reason))


class World:
    """The service over a store with bundles of ada's."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.machine = Machine()
        self._service = Endpoints(database._store, self.machine, self.machine)
        flavors = {name: make_flavor(kind) for name, kind in FLAVORS.items()}
        flavors["generator"] = make_flavor(is_generator=True)
        for name, flavor in flavors.items():
            record = make_bundle(name, flavor)
            database.write(lambda conn, record=record: bundles.insert(conn, record))

    def do(self, name: str, *args: Any) -> Any:
        return self.database._runner.run(getattr(self._service, name)(*args))

    def create(self, owner: str = "ada", **changes: object) -> EndpointRecord:
        request = CreateModelEndpointRequest.model_validate(REQUEST | changes)
        return self.do("create", owner, request)

    def update(self, endpoint: EndpointRecord, owner: str = "ada", **settings: object) -> EndpointRecord:
        return self.do("update", owner, endpoint.id, UpdateModelEndpointRequest.model_validate(settings))

    def start_canary(
        self, endpoint: EndpointRecord, bundle: str = "better", **settings: Any
    ) -> EndpointRecord:
        request = StartCanaryRequest(model_bundle_id=bundle, **settings)
        return self.do("start_canary", "ada", endpoint.id, request)

    def stored(self, endpoint: EndpointRecord) -> EndpointRecord | None:
        return self.database.read(lambda conn: endpoints.get(conn, endpoint.id))

    def ready(self, **changes: object) -> EndpointRecord:
        endpoint = replace(self.create(**changes), status=EndpointStatus.READY, ready_generation=1)
        self.database.write(lambda conn: endpoints.update(conn, endpoint))
        self.machine.done.clear()
        return endpoint

    def serving(self, endpoint: EndpointRecord) -> None:
        """Record that the canary is loaded, as the controller does."""
        generation, serving = endpoint.canary.generation, CanaryStatus.SERVING
        self.database.write(lambda conn: endpoints.set_canary(conn, endpoint.id, generation, serving, None))


@pytest.fixture(params=sorted(OPENERS))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with database(OPENERS[request.param], tmp_path) as opened:
        yield World(opened)


class TestCreate:
    def test_is_stored_then_applied_then_an_event(self, world):
        endpoint = world.create()
        assert world.stored(endpoint) == endpoint
        assert world.machine.done == [("apply", endpoint.id, 1), (EventKind.CREATED, endpoint.id, "")]

    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            ({"model_bundle_id": "none"}, NotFound),
            ({"gpus": 1}, Unprocessable),
            ({"max_workers": 2, "max_batch_wait": 1}, Unprocessable),
            ({"model_bundle_id": "image", "endpoint_type": "streaming"}, Unprocessable),
            ({"model_bundle_id": "generator"}, Unprocessable),
            ({"model_bundle_id": "generator", "endpoint_type": "sync"}, Unprocessable),
            ({"model_bundle_id": "command", "max_batch_size": 4}, Unprocessable),
        ],
    )
    def test_what_is_refused_leaves_nothing(self, world, changes, error):
        with pytest.raises(error):
            world.create(**changes)
        assert world.database.read(endpoints.list_all) == []
        assert world.machine.done == []

    def test_a_name_is_used_once(self, world):
        world.create()
        with pytest.raises(Conflict) as caught:
            world.create()
        assert caught.value.code == "endpoint_exists"

    def test_another_owners_bundle_is_not_found(self, world):
        with pytest.raises(NotFound, match="no bundle has the id 'plain'"):
            world.create(owner="bob")


class TestUpdate:
    def test_of_the_scaling_keeps_the_workers(self, world):
        endpoint = world.ready()
        changed = world.update(endpoint, max_workers=9)
        assert (changed.generation, changed.status) == (1, EndpointStatus.READY)
        assert world.stored(endpoint).spec.max_workers == 9
        assert world.machine.done == [
            ("apply", endpoint.id, 1),
            (EventKind.UPDATED, endpoint.id, "max_workers"),
        ]

    def test_that_changes_nothing_is_no_event(self, world):
        endpoint = world.ready()
        changed = world.update(endpoint, max_workers=endpoint.spec.max_workers, model_bundle_id="plain")
        assert (changed.generation, changed.status) == (1, EndpointStatus.READY)
        assert world.machine.done == [("apply", endpoint.id, 1)]

    def test_naming_the_bundle_of_a_failed_update_again_retries_it(self, world):
        failed = replace(world.ready(), status=EndpointStatus.UPDATE_FAILED)
        world.database.write(lambda conn: endpoints.update(conn, failed))
        assert world.update(failed, max_workers=9).generation == 1
        assert world.update(failed, model_bundle_id="plain").generation == 2

    @pytest.mark.parametrize("settings", [{"cpus": 2}, {"model_bundle_id": "better"}, {"per_worker": 5}])
    def test_that_workers_can_not_take_over_wants_new_ones(self, world, settings):
        changed = world.update(world.ready(), **settings)
        assert (changed.generation, changed.status) == (2, EndpointStatus.UPDATE_PENDING)

    def test_naming_a_rejected_bundle_again_retries_it(self, world):
        rejected = replace(world.ready(), rejected_generation=1)
        world.database.write(lambda conn: endpoints.update(conn, rejected))
        assert world.update(rejected, max_workers=9).generation == 1
        assert world.update(rejected, model_bundle_id="plain").generation == 2

    def test_of_another_owners_endpoint_is_not_found(self, world):
        with pytest.raises(NotFound):
            world.update(world.ready(), owner="bob", max_workers=9)

    def test_only_a_streaming_endpoint_takes_a_generator_function(self, world):
        endpoint = world.ready()
        with pytest.raises(Unprocessable, match="yields its items one by one"):
            world.update(endpoint, model_bundle_id="generator")
        with pytest.raises(Unprocessable, match="yields its items one by one"):
            world.start_canary(endpoint, bundle="generator")
        streaming = world.ready(name="stream", endpoint_type="streaming")
        assert world.update(streaming, model_bundle_id="generator").generation == 2


def test_a_restart_wants_new_workers(world):
    endpoint = world.ready()
    world.do("restart", "ada", endpoint.id)
    assert world.stored(endpoint).generation == 2
    assert world.machine.done[-1] == (EventKind.RESTARTED, endpoint.id, "")


class TestDelete:
    def test_marks_stops_the_workers_and_ends_the_tasks(self, world):
        endpoint = world.ready()
        world.do("delete", "ada", endpoint.id)
        assert world.stored(endpoint).status is EndpointStatus.DELETE_IN_PROGRESS
        assert world.machine.done == [
            ("remove", endpoint.id),
            ("fail", endpoint.id, "the endpoint 'digits' was deleted"),
        ]

    def test_is_the_last_change(self, world):
        endpoint = world.ready()
        world.do("delete", "ada", endpoint.id)
        for change in (world.update, world.start_canary, lambda e: world.do("delete", "ada", e.id)):
            with pytest.raises(Conflict) as caught:
                change(endpoint)
            assert caught.value.code == "endpoint_deleted"

    def test_what_a_job_discards_may_be_gone_or_going(self, world):
        spec = EndpointSpec(min_workers=0, max_workers=1, per_worker=1, cpus=1, memory=1, storage=1)
        endpoint = new_endpoint("job_1", "job", EndpointType.ASYNC, "plain", spec, "job_1")
        world.do("add", endpoint)
        for _ in range(2):
            world.do("discard", "job_1", "the job has ended")
        world.database.write(lambda conn: endpoints.delete(conn, "job_1"))
        world.do("discard", "job_1", "the job has ended")
        assert [done[0] for done in world.machine.done] == ["apply", *["remove", "fail"] * 2, "fail"]


class TestCanary:
    def test_has_a_generation_above_the_endpoints_and_its_settings(self, world):
        endpoint = world.ready(probation_requests=30)
        canary = world.start_canary(endpoint, percent=25).canary
        assert (canary.bundle_id, canary.generation, canary.percent) == ("better", 2, 25)
        assert (canary.rollback_after_failures, canary.probation_requests) == (5, 30)
        assert world.machine.done == [("apply", endpoint.id, 1)]

    @pytest.mark.parametrize(("bundle", "code"), [("plain", "same_bundle"), ("better", "endpoint_not_ready")])
    def test_needs_another_bundle_and_a_ready_endpoint(self, world, bundle, code):
        endpoint = world.ready() if code == "same_bundle" else world.create()
        with pytest.raises(Conflict) as caught:
            world.start_canary(endpoint, bundle)
        assert caught.value.code == code

    def test_of_a_command_is_refused_where_the_endpoint_batches(self, world):
        with pytest.raises(Unprocessable, match="'command' is a command"):
            world.start_canary(world.ready(max_batch_size=4), "command")

    def test_that_could_never_be_rolled_back_is_refused(self, world):
        with pytest.raises(Unprocessable, match="more than probation_requests"):
            world.start_canary(world.ready(probation_requests=3))

    def test_holds_up_what_needs_new_workers_and_nothing_else(self, world):
        endpoint = world.ready()
        world.start_canary(endpoint)
        assert world.update(endpoint, max_workers=9).spec.max_workers == 9
        for change in (
            lambda: world.update(endpoint, cpus=2),
            lambda: world.start_canary(endpoint),
            lambda: world.do("restart", "ada", endpoint.id),
        ):
            with pytest.raises(Conflict) as caught:
                change()
            assert caught.value.code == "canary_exists"

    def test_is_promoted_once_it_serves(self, world):
        endpoint = world.ready()
        started = world.start_canary(endpoint)
        with pytest.raises(Conflict, match="not loaded yet"):
            world.do("promote_canary", "ada", endpoint.id)
        world.serving(started)
        changed = world.do("promote_canary", "ada", endpoint.id)
        assert (changed.bundle_id, changed.generation, changed.canary) == ("better", 2, None)

    def test_that_was_rolled_back_takes_no_further_change(self, world):
        endpoint = world.ready()
        world.start_canary(endpoint)
        assert world.do("set_canary_percent", "ada", endpoint.id, 50).canary.percent == 50
        ended = world.do("roll_back_canary", "ada", endpoint.id).canary
        assert (ended.status, ended.reason) == (CanaryStatus.ROLLED_BACK, "it was rolled back by hand")
        for change in [("set_canary_percent", 10), ("promote_canary",), ("roll_back_canary",)]:
            name, *args = change
            with pytest.raises(Conflict, match="the last one is ROLLED_BACK"):
                world.do(name, "ada", endpoint.id, *args)

    def test_after_one_that_ended_has_a_new_generation(self, world):
        endpoint = world.ready()
        world.start_canary(endpoint)
        world.do("roll_back_canary", "ada", endpoint.id)
        assert world.start_canary(endpoint).canary.generation == 3


def test_of_two_changes_at_the_same_time_none_is_lost(world):
    endpoint = world.ready()

    async def both():
        requests = [UpdateModelEndpointRequest(max_workers=9), UpdateModelEndpointRequest(cpus=2)]
        await asyncio.gather(*(world._service.update("ada", endpoint.id, request) for request in requests))

    world.database._runner.run(both())
    spec = world.stored(endpoint).spec
    assert (spec.max_workers, spec.cpus) == (9, 2)
