"""Why an endpoint serves or does not, and the sentences of events: from situations, with `now` given."""

from typing import Any

import pytest
from controller_simulation import Simulation, make_record, make_spec

from openlaunch.controller.events import Scale, message_of, scaling_event
from openlaunch.controller.explain import explain, for_callers, task_message
from openlaunch.controller.fleet import Load
from openlaunch.controller.gpus import Gpus
from openlaunch.controller.situation import Policy, Situation
from openlaunch.wire.events import EventKind
from openlaunch.wire.why import EndpointWhy, ReasonCode


def simulated(bundle: str = "good", seconds: float = 0.0, **changes: Any) -> Simulation:
    gpus, load, cpus = (
        changes.pop("machine_gpus", 0),
        changes.pop("load", Load(0, 0)),
        changes.pop("cpus", 1000),
    )
    simulation = Simulation(make_record(make_spec(**changes), bundle_id=bundle), gpus)
    simulation.load, simulation.engine.cpus = load, cpus
    simulation.run(seconds)
    return simulation


def why(simulation: Simulation) -> EndpointWhy:
    return simulation.why()


def codes(simulation: Simulation) -> list[ReasonCode]:
    return [reason.code for reason in why(simulation).reasons]


def test_an_environment_that_is_being_built() -> None:
    simulation = simulated(seconds=1)
    assert codes(simulation) == [ReasonCode.BUILDING_ENVIRONMENT]
    assert why(simulation).pending


def test_what_is_built_is_for_the_owner_alone() -> None:
    simulation = simulated(seconds=1)
    message = "the environment is being built, for 1 s so far: downloading torch (846.6MiB)"
    assert [reason.message for reason in why(simulation).reasons] == [message]
    assert [r.message for r in for_callers(why(simulation)).reasons] == ["the environment is being built"]


def test_a_worker_that_loads() -> None:
    simulation = simulated(seconds=4)
    assert codes(simulation) == [ReasonCode.STARTING]
    assert why(simulation).starting_workers == 1


def test_before_anything_is_under_way_there_is_a_reason_too() -> None:
    situation = Situation(make_record(make_spec()), (), {}, desired=1, limit=1, gpus=Gpus(), now=0.0)
    assert [r.message for r in explain(situation, Load(0, 0), Policy()).reasons] == [
        "a worker is about to start"
    ]


def test_a_worker_that_serves() -> None:
    simulation = simulated(seconds=10)
    assert codes(simulation) == [ReasonCode.SERVING]
    assert (why(simulation).pending, why(simulation).slots) == (False, 1)


def test_all_slots_are_taken() -> None:
    simulation = simulated(seconds=30, load=Load(in_flight=3, queued=9))
    assert codes(simulation) == [ReasonCode.BUSY]
    assert "9 requests wait" in why(simulation).reasons[0].message


def test_the_only_slot_is_taken() -> None:
    simulation = simulated(seconds=30, load=Load(in_flight=1, queued=1), max_workers=1)
    message = why(simulation).reasons[0].message
    assert message == "the slot of its 1 worker is taken, and 1 request waits; max_workers is 1"


def test_nothing_is_asked() -> None:
    assert codes(simulated(seconds=60, min_workers=0)) == [ReasonCode.IDLE]


def test_no_workers_are_allowed() -> None:
    assert codes(simulated(seconds=5, min_workers=0, max_workers=0)) == [ReasonCode.MAX_WORKERS_ZERO]


def test_a_bundle_that_can_not_be_loaded_has_a_next_try() -> None:
    simulation = simulated("does-not-load", seconds=60)
    (reason, *_) = why(simulation).reasons
    assert reason.code is ReasonCode.CAN_NOT_LOAD
    assert "no module named torch" in reason.message
    assert reason.next_try_in is not None
    assert 0 <= reason.next_try_in <= 30


def test_a_bundle_that_can_not_be_loaded_is_not_tried_while_nobody_asks() -> None:
    simulation = simulated("does-not-load", seconds=5, load=Load(0, 1), min_workers=0)
    simulation.run(10)
    simulation.load = Load(0, 0)
    simulation.run(60)
    (reason, *_) = why(simulation).reasons
    assert (reason.code, reason.next_try_in) == (ReasonCode.CAN_NOT_LOAD, None)


def test_a_crash_loop_says_how_they_crash_and_when_the_next_is_tried() -> None:
    simulation = simulated("crashes", seconds=30)
    while simulation.workers:  # until the last one has crashed, and the next is not started yet
        simulation.run(0.5)
    found = [reason for reason in why(simulation).reasons if reason.code is ReasonCode.CRASH_LOOP]
    assert found
    assert "crashed in the last minute" in found[0].message
    assert found[0].next_try_in is not None


def test_gpus_that_others_hold() -> None:
    simulation = simulated(machine_gpus=2)
    simulation.others_hold(2)
    simulation.deploy("good", gpus=1)
    simulation.run(10)
    assert ReasonCode.WAITS_FOR_GPUS in codes(simulation)


def test_gpus_that_this_machine_does_not_have() -> None:
    simulation = simulated(seconds=10)
    simulation.deploy("good", gpus=4)
    simulation.run(10)
    found = {reason.code: reason.message for reason in why(simulation).reasons}
    assert "this machine has 0" in found[ReasonCode.DOES_NOT_FIT]


def test_workers_that_do_not_fit_the_machine() -> None:
    simulation = simulated(seconds=30, cpus=1, load=Load(in_flight=1, queued=5))
    found = {reason.code: reason.message for reason in why(simulation).reasons}
    assert found[ReasonCode.DOES_NOT_FIT] == "3 workers are wanted, and 1 fit this machine's cores and memory"


@pytest.mark.parametrize(
    ("ahead", "exceeds", "text"),
    [
        (0, False, "it is the next"),
        (1, False, "1 task is before it"),
        (12, False, "12 tasks are before it"),
        (10_000, True, "more than 10,000 tasks are before it"),
    ],
)
def test_a_tasks_place_in_words(ahead: int, exceeds: bool, text: str) -> None:
    serving = why(simulated(seconds=10))
    assert (
        task_message(ahead, exceeds, serving) == f"it waits for a free slot: {text}, for 1 slot in 1 worker"
    )


def test_a_task_whose_endpoint_has_no_worker_says_why() -> None:
    assert task_message(0, False, why(simulated(seconds=1))) == (
        "the endpoint has no worker yet: the environment is being built, for 1 s so far: "
        "downloading torch (846.6MiB); it is the next"
    )


@pytest.mark.parametrize(
    ("kind", "detail", "count", "text"),
    [
        (EventKind.WORKER_CRASHED, "killed by signal 9", 3, "3 workers crashed: killed by signal 9"),
        (EventKind.WORKER_CRASHED, "exited with code 1", 1, "1 worker crashed: exited with code 1"),
        (EventKind.WORKER_DRAINED, "", 1, "1 worker finished what it ran, and ended"),
        (EventKind.WORKER_DRAINED, "", 2, "2 workers finished what they ran, and ended"),
        (EventKind.RESTARTED, "", 2, "restarted: its workers are replaced, 2 times"),
        (EventKind.UPDATE_FAILED, "no torch", 1, "the update failed: no torch"),
    ],
)
def test_an_event_in_words(kind: EventKind, detail: str, count: int, text: str) -> None:
    assert message_of(kind, detail, count) == text


def test_every_kind_of_event_has_words() -> None:
    assert all(message_of(kind, "", 1) for kind in EventKind)


def scale(wanted: int, in_flight: int = 0, queued: int = 0, lowest: int = 0, highest: int = 9) -> Scale:
    return Scale(wanted, in_flight, queued, lowest, highest)


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (None, scale(3), None),
        (scale(3), scale(3, queued=2), None),
        (scale(1), scale(3, 2, 4), "from 1 to 3 workers, with 2 requests in workers and 4 waiting"),
        (scale(3), scale(1), "from 3 to 1 workers, because there was less to do for a while"),
        (
            scale(1),
            scale(2, lowest=2),
            "from 1 to 2 workers, because min_workers and max_workers are now 2 and 9",
        ),
    ],
)
def test_a_change_of_scale_is_told_with_its_reason(
    before: Scale | None, now: Scale, told: str | None
) -> None:
    event = scaling_event(before, now)
    assert (None if event is None else event[1]) == told
