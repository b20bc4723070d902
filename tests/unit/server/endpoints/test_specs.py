"""From the settings of a request to a specification."""

import re
from typing import Any

import pytest
from controller_simulation import make_record, make_spec
from pydantic import ValidationError

from openlaunch.errors import Unprocessable
from openlaunch.server.endpoints.specs import (
    changed_spec,
    needs_new_workers,
    new_spec,
    spec_of_job,
    updated_spec,
)
from openlaunch.wire.endpoint_settings import Batching, EndpointSpec
from openlaunch.wire.endpoints import CreateModelEndpointRequest, UpdateModelEndpointRequest
from openlaunch.wire.keywords import DEFAULTS

REQUEST: dict[str, Any] = {
    "name": "digits",
    "model_bundle_id": "bun_1",
    "endpoint_type": "async",
    "metadata": {"team": "vision"},
    "cpus": "500m",
    "gpus": 1,
    "memory": "1Gi",
    "storage": 10**9,
    "min_workers": 1,
    "max_workers": 3,
    "per_worker": 4,
    "labels": {"a": "b"},
    "gpu_type": "nvidia-hopper-h100",
}


def create(**changes: Any) -> CreateModelEndpointRequest:
    return CreateModelEndpointRequest.model_validate(REQUEST | changes)


def update(**settings: Any) -> UpdateModelEndpointRequest:
    return UpdateModelEndpointRequest.model_validate(settings)


@pytest.mark.parametrize(("given", "kept"), [(0.25, 0.25), (2.0, 2), (0, 0), ("0.5", 0.5)])
def test_gpus_are_whole_or_a_part_of_one(given, kept):
    spec = new_spec(create(gpus=given))
    assert (spec.gpus, type(spec.gpus)) == (kept, type(kept))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (1.5, "give a whole number, or a part of one GPU"),
        (0.333, "in hundredths"),
        (-1, "greater than or equal"),
    ],
)
def test_other_numbers_of_gpus_are_refused(given, said):
    with pytest.raises(ValidationError, match=said):
        create(gpus=given)


@pytest.mark.parametrize(("field", "value"), [("gpus", 10**11), ("cpus", "many"), ("nodes_per_worker", 0)])
def test_what_no_job_can_have_is_the_callers_fault_by_name(field, value):
    resources = {"cpus": 1, "memory": "1Gi", "storage": "1Gi", "gpus": 0, "min_workers": 0}
    wanted = resources | {"max_workers": 1, "per_worker": 1}
    assert spec_of_job(wanted).max_workers == 1
    with pytest.raises(Unprocessable, match=f"^{field}: "):
        spec_of_job(wanted | {field: value})


def test_values_are_normalised():
    spec = new_spec(create())
    assert (spec.cores, spec.memory_bytes) == (0.5, 2**30)
    assert (spec.min_workers, spec.max_workers, spec.per_worker) == (1, 3, 4)
    assert (spec.gpus, spec.gpu_type) == (1, "nvidia-hopper-h100")


def test_the_rest_is_kept_as_it_came():
    request = create(labels={"a": "b"})
    given = request.model_dump(exclude={"name", "model_bundle_id", "endpoint_type"}, exclude_none=True)
    assert new_spec(request).model_dump(exclude_none=True) == given


@pytest.mark.parametrize("field", ["cpus", "memory", "storage"])
@pytest.mark.parametrize("value", ["much", "-1", "1e999"])
def test_what_is_no_quantity_is_named(field, value):
    with pytest.raises(ValidationError, match=re.escape(repr(value))) as caught:
        create(**{field: value})
    assert caught.value.errors()[0]["loc"] == (field,)


@pytest.mark.parametrize("field", ["cpus", "memory", "storage"])
def test_more_than_any_machine_has_is_refused(field):
    with pytest.raises(ValidationError, match="'1e300' is more than any machine has"):
        create(**{field: "1e300"})


def test_an_update_changes_only_what_it_gives():
    before = new_spec(create())
    after = changed_spec(before, update(max_workers=5, labels={"c": "d"}))
    assert after.max_workers == 5
    assert after == before.model_copy(update={"max_workers": 5, "labels": {"c": "d"}})
    assert changed_spec(before, update()) == before


def test_a_maximum_below_the_minimum_is_refused():
    with pytest.raises(
        Unprocessable, match="would be 0, less than min_workers, which is 1: give min_w"
    ) as caught:
        changed_spec(new_spec(create()), update(max_workers=0))
    assert caught.value.errors[0]["loc"] == ["body", "max_workers"]


def test_a_minimum_above_the_maximum_raises_it():
    after = changed_spec(new_spec(create()), update(min_workers=4))
    assert (after.min_workers, after.max_workers) == (4, 4)


def test_a_reset_sets_what_is_not_given_to_its_default():
    before = new_spec(create(timeout_seconds=7, max_batch_size=8, public_inference=True))
    after = updated_spec(before, update(reset=True, cpus=2, max_workers=4))
    assert after == EndpointSpec.model_validate(DEFAULTS | {"cpus": 2, "max_workers": 4})
    assert updated_spec(before, update(cpus=2)).timeout_seconds == 7


@pytest.mark.parametrize(
    "change",
    [
        {"cpus": 2.0},
        {"memory": 1},
        {"gpus": 1},
        {"gpu_type": "nvidia-tesla-t4"},
        {"per_worker": 2},
    ],
)
def test_what_a_running_worker_can_not_take_over(change):
    assert needs_new_workers(make_record(make_spec()), make_spec(**change), "good")


@pytest.mark.parametrize(
    "change", [{}, {"min_workers": 2}, {"max_workers": 9}, {"labels": {}}, {"storage": 1}]
)
def test_what_running_workers_take_over(change):
    assert not needs_new_workers(make_record(make_spec()), make_spec(**change), "good")


def test_another_bundle_needs_new_workers():
    assert needs_new_workers(make_record(make_spec()), make_spec(), "better")


@pytest.mark.parametrize(
    "settings",
    [
        {"post_inference_hooks": ["callback", "insights"]},
        {"default_callback_url": "ftp://example.org/done"},
        {"nodes_per_worker": 2},
        {"optimize_costs": True},
        {"high_priority": True},
    ],
)
def test_what_is_not_served_is_refused(settings):
    (field,) = settings
    with pytest.raises(Unprocessable) as caught:
        new_spec(create(**settings))
    assert caught.value.errors[0]["loc"] == ["body", field]


@pytest.mark.parametrize("value", [False, None])
@pytest.mark.parametrize("field", ["optimize_costs", "high_priority"])
def test_a_demand_that_is_not_made_is_taken(field, value):
    assert getattr(new_spec(create(**{field: value})), field) is value


def test_a_worker_has_as_many_slots_as_were_asked_for():
    assert new_spec(create()).slots == 4
    assert new_spec(create(concurrent_requests_per_worker=9)).slots == 9
    assert new_spec(create(forwarder_max_concurrency=2)).slots == 2


def test_a_change_of_the_slots_needs_new_workers_and_one_of_the_scaling_alone_does_not():
    spec = new_spec(create(concurrent_requests_per_worker=9))
    before = make_record(spec)
    assert not needs_new_workers(before, changed_spec(spec, update(per_worker=2)), before.bundle_id)
    other = changed_spec(spec, update(concurrent_requests_per_worker=8))
    assert needs_new_workers(before, other, before.bundle_id)


def test_a_worker_that_batches_has_room_for_the_batch_that_runs_and_the_next():
    assert new_spec(create(max_batch_size=8)).slots == 16
    assert new_spec(create(max_batch_size=8, concurrent_requests_per_worker=40)).slots == 40
    assert new_spec(create(max_batch_size=8, forwarder_max_concurrency=2)).slots == 16


def test_a_batch_waits_for_as_long_as_was_asked_for():
    assert new_spec(create(max_batch_size=8)).batching == Batching(8, 0.005)
    assert new_spec(create(max_batch_size=8, max_batch_wait=0)).batching == Batching(8, 0.0)
    assert new_spec(create()).batching is None


def test_a_batch_size_of_0_ends_batching_and_its_wait():
    before = new_spec(create(max_batch_size=8, max_batch_wait=1))
    after = changed_spec(before, update(max_batch_size=0))
    assert after == new_spec(create())


def test_a_wait_without_a_batch_is_refused_and_one_for_the_batch_there_is_is_not():
    with pytest.raises(Unprocessable, match="give max_batch_size, too"):
        changed_spec(new_spec(create()), update(max_batch_wait=1))
    batched = new_spec(create(max_batch_size=8))
    assert changed_spec(batched, update(max_batch_wait=1)).batching == Batching(8, 1.0)


@pytest.mark.parametrize("change", [{"max_batch_size": 9}, {"max_batch_size": 0}, {"max_batch_wait": 1}])
def test_a_change_of_the_batches_needs_new_workers(change):
    spec = new_spec(create(max_batch_size=8, concurrent_requests_per_worker=40))
    before = make_record(spec)
    assert needs_new_workers(before, changed_spec(spec, update(**change)), before.bundle_id)
