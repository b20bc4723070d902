"""Where the plan leads in virtual time: the real controller with a small engine and fleet.

To look for longer: `OPENLAUNCH_PLAN_EXAMPLES=1000 pytest tests/unit/controller/test_simulation.py`.
"""

import os

import pytest
from controller_simulation import POLICY, RULE, Simulation, make_record, make_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from openlaunch.controller.actions import (
    Action,
    DrainWorker,
    Refuse,
    SetStatus,
    StartWorker,
    StopWorker,
)
from openlaunch.controller.fleet import Load
from openlaunch.controller.situation import Phase, Situation, Worker
from openlaunch.wire.endpoints import CanaryStatus, EndpointStatus

EXAMPLES = int(os.environ.get("OPENLAUNCH_PLAN_EXAMPLES", "30"))
"""Examples of what can happen to an endpoint; each run tries others."""


def ready_of(workers: tuple[Worker, ...], actions: list[Action]) -> int:
    leaving = {a.worker_id for a in actions if isinstance(a, DrainWorker | StopWorker)}
    return sum(w.phase is Phase.READY and w.id not in leaving for w in workers)


def check_invariants(s: Situation, actions: list[Action]) -> None:
    """What holds for every plan of every situation."""
    spec = s.endpoint.spec
    leaving = {a.worker_id for a in actions if isinstance(a, DrainWorker | StopWorker)}
    all_starts = [a for a in actions if isinstance(a, StartWorker)]
    starts = [a for a in all_starts if not s.is_beside(a.generation)]
    workers = tuple(w for w in s.workers if not s.is_beside(w.generation))
    newest = sum(a.generation == s.endpoint.generation for a in starts)
    alive = (Phase.STARTING, Phase.READY, Phase.LOST)
    staying = [w for w in workers if w.phase in alive and w.id not in leaving]
    if newest:
        kept = sum(w.generation == s.endpoint.generation for w in staying)
        assert kept + newest <= spec.max_workers, "more workers than the maximum"
    if len(starts) > newest:
        older = sum(w.generation != s.endpoint.generation for w in staying)
        assert older + len(starts) - newest <= spec.max_workers, "more fallback workers than the maximum"
    generations = 2 if s.on_probation else 1
    unneeded = sum(w.phase is Phase.READY for w in staying) - spec.max_workers * generations
    assert unneeded <= 0, "more workers serve than the maximum"
    assert len(all_starts) * spec.gpus <= max(s.gpus.free, 0), "GPUs are handed out twice"
    serving = s.count(Phase.READY)
    # Where GPUs are short, the only one that serves may have to make room.
    if s.target > 0 and serving and not (spec.gpus and serving == 1) and s.rejection is None:
        assert ready_of(workers, actions) > 0, "the last worker that serves is taken away"
    if not spec.gpus and s.rejection is None:
        assert ready_of(workers, actions) >= min(serving, s.target)
    if s.rejection is not None:
        kept = [w for w in staying if w.generation != s.endpoint.generation and w.phase is Phase.READY]
        assert len(kept) >= min(s.count(Phase.READY, newest=False), s.target), (
            "nothing to roll back to is left"
        )
    for status in (a for a in actions if isinstance(a, SetStatus)):
        assert status.status is not EndpointStatus.UPDATE_FAILED or status.reason
    for refuse in (a for a in actions if isinstance(a, Refuse)):
        assert refuse.reason
        assert serving == 0, "requests are refused although a worker serves"


def assert_converged(sim: Simulation) -> None:
    """What is wanted is there, and nothing else."""
    desired, bundle = sim.situation().desired, sim.record.bundle_id
    assert sim.record.status is EndpointStatus.READY, sim.record
    assert sim.count(Phase.READY, bundle=bundle) == desired
    assert len(sim.workers) == desired


def new_simulation(bundle: str = "good", **changes: object) -> Simulation:
    gpus = changes.pop("machine_gpus", 0)
    record = make_record(make_spec(**changes), bundle_id=bundle)
    return Simulation(record, gpus=gpus, check=check_invariants)  # type: ignore[arg-type]


class TestSimulation:
    def test_a_new_endpoint_becomes_ready(self):
        sim = new_simulation()
        sim.run(20)
        assert_converged(sim)
        kinds = [status for status, _ in sim.statuses]
        assert kinds == [EndpointStatus.UPDATE_IN_PROGRESS] * 2 + [EndpointStatus.READY]

    def test_a_load_scales_up_at_once_and_down_after_a_quiet_period(self):
        sim = new_simulation()
        sim.run(20)
        sim.load = Load(in_flight=1, queued=7)
        sim.run(5)
        assert sim.count(Phase.READY) == 3
        sim.load = Load(0, 0)
        sim.run(20)
        assert sim.count(Phase.READY) == 3
        sim.run(40)
        assert_converged(sim)

    def test_a_worker_that_is_not_needed_before_it_is_ready_is_drained_at_once(self):
        sim = new_simulation()
        sim.run(20)
        sim.scale(2, 3)
        sim.run(0.1)
        (starting,) = [w.id for w in sim.workers.values() if w.phase is Phase.STARTING]
        sim.scale(1, 1)
        sim.run(0.1)
        assert sim.engine.drained == [starting]

    @pytest.mark.parametrize("workers", [0, 3])
    def test_an_idle_endpoint_is_looked_at_seldom(self, workers):
        looks = []
        record = make_record(make_spec(min_workers=workers))
        sim = Simulation(record, check=lambda *_: looks.append(None))
        sim.run(60)
        looks.clear()
        sim.run(600)
        assert len(looks) <= 600 / 10 + 1
        sim.load = Load(0, workers + 1)
        sim.run(5)
        assert sim.count(Phase.READY) >= 1

    def test_from_zero_and_back(self):
        sim = new_simulation(min_workers=0)
        sim.run(20)
        assert_converged(sim)
        sim.load = Load(0, 1)
        sim.run(5)
        assert sim.count(Phase.READY) == 1
        sim.load = Load(0, 0)
        sim.run(60)
        assert_converged(sim)
        assert sim.workers == {}

    def test_a_change_of_bundle_replaces_worker_by_worker(self):
        sim = new_simulation(min_workers=2)
        sim.run(20)
        sim.deploy("better")
        sim.run(30)
        assert_converged(sim)

    def test_an_update_that_fails_leaves_the_old_bundle_serving_and_scaling(self):
        sim = new_simulation(min_workers=0)
        sim.run(20)
        sim.load = Load(0, 1)
        sim.run(5)
        sim.deploy("does-not-load")
        sim.run(60)
        assert sim.record.status is EndpointStatus.UPDATE_FAILED
        assert sim.record.status_reason == "ImportError: no module named torch"
        assert sim.count(Phase.READY, bundle="good") == 1
        sim.load = Load(0, 3)
        sim.run(20)
        assert sim.count(Phase.READY, bundle="good") == 3
        assert sim.fleet.refused == []

    @pytest.mark.parametrize("bundle", ["does-not-load", "no-environment", "dies-early", "hangs"])
    def test_a_bundle_that_does_not_load_fails_with_its_reason_and_is_tried_ever_more_seldom(self, bundle):
        sim = new_simulation(bundle)
        sim.run(1000)
        assert sim.record.status is EndpointStatus.UPDATE_FAILED
        assert sim.record.status_reason
        assert sim.fleet.refused
        assert len(sim.engine.started) < 1000 / POLICY.retry.load.cap + 10

    def test_a_fallback_that_was_at_zero_wakes_on_demand_after_a_failed_update(self):
        sim = new_simulation(min_workers=0)
        sim.run(20)
        sim.load = Load(0, 1)
        sim.run(10)
        sim.load = Load(0, 0)
        sim.run(60)
        sim.deploy("no-environment")
        sim.run(60)
        assert sim.record.status is EndpointStatus.UPDATE_FAILED
        sim.load = Load(0, 2)
        sim.run(60)
        assert sim.count(Phase.READY, bundle="good") == 2

    def test_a_bundle_that_crashes_again_and_again_is_held_back(self):
        sim = new_simulation("crashes")
        sim.run(1000)
        assert len(sim.engine.started) < 1000 / POLICY.retry.crash.cap + 10
        assert "crashed in the last minute" in (sim.record.status_reason or "")

    def test_a_single_gpu_passes_from_the_old_worker_to_the_new_one(self):
        sim = new_simulation(gpus=1, max_workers=1, machine_gpus=1)
        sim.run(20)
        sim.deploy("better")
        sim.run(30)
        assert_converged(sim)

    def test_a_single_gpu_goes_back_to_the_old_bundle_when_the_new_one_fails(self):
        sim = new_simulation(gpus=1, max_workers=1, machine_gpus=1)
        sim.run(20)
        sim.deploy("does-not-load")
        sim.run(60)
        assert sim.record.status is EndpointStatus.UPDATE_FAILED
        assert sim.count(Phase.READY, bundle="good") == 1

    def test_a_change_of_the_number_of_gpus_finds_room(self):
        sim = new_simulation(gpus=1, min_workers=2, max_workers=2, machine_gpus=2)
        sim.run(20)
        sim.deploy("good", gpus=2, min_workers=1, max_workers=1)
        sim.run(60)
        assert_converged(sim)

    def test_a_worker_that_will_not_drain_is_stopped_and_the_roll_out_ends(self):
        sim = new_simulation(gpus=1, max_workers=1, machine_gpus=1)
        sim.engine.drain_seconds = 10_000.0
        sim.run(20)
        sim.deploy("better")
        sim.run(POLICY.drain_timeout + 60)
        assert_converged(sim)

    def test_after_a_restart_of_the_server_the_endpoint_comes_back_and_stays_ready(self):
        sim = new_simulation(min_workers=2)
        sim.run(20)
        sim.statuses.clear()
        sim.restart_server()
        sim.run(20)
        assert_converged(sim)
        assert {status for status, _ in sim.statuses} <= {EndpointStatus.READY}

    def test_after_a_restart_of_the_server_the_fallback_serves_again(self):
        sim = new_simulation()
        sim.run(20)
        sim.deploy("does-not-load")
        sim.run(30)
        sim.restart_server()
        sim.run(30)
        assert sim.record.status is EndpointStatus.UPDATE_FAILED
        assert sim.record.status_reason == "ImportError: no module named torch"
        assert sim.count(Phase.READY, bundle="good") == 1

    def test_a_canary_comes_beside_the_others_and_its_workers_stay_when_it_is_promoted(self):
        sim = new_simulation(min_workers=2)
        sim.run(20)
        sim.start_canary("better", 50)
        sim.run(20)
        assert (sim.count(Phase.READY, bundle="good"), sim.count(Phase.READY, bundle="better")) == (2, 1)
        (warm,) = [w.id for w in sim.workers.values() if w.bundle == "better"]
        sim.promote()
        sim.run(30)
        assert_converged(sim)
        assert warm in sim.workers

    def test_a_canary_that_is_rolled_back_leaves_and_its_number_is_not_used_again(self):
        sim = new_simulation()
        sim.run(20)
        sim.start_canary("better", 50)
        sim.run(20)
        sim.roll_back()
        sim.deploy("best")
        assert sim.record.generation == 3
        sim.run(30)
        assert_converged(sim)

    def test_a_canary_comes_back_after_a_restart_of_the_server(self):
        sim = new_simulation()
        sim.run(20)
        sim.start_canary("better", 50)
        sim.run(20)
        sim.restart_server()
        sim.run(20)
        assert (sim.count(Phase.READY, bundle="good"), sim.count(Phase.READY, bundle="better")) == (1, 1)

    def test_a_new_bundle_that_fails_on_a_single_gpu_gives_it_back(self):
        sim = new_simulation(gpus=1, max_workers=1, machine_gpus=1, **RULE)
        sim.run(20)
        sim.deploy("better")
        sim.run(30)
        sim.predict(2, 2, "ValueError: no")
        sim.run(30)
        assert sim.record.status is EndpointStatus.UPDATE_FAILED
        assert sim.count(Phase.READY, bundle="good") == 1

    def test_a_lost_worker_is_replaced_when_its_process_has_ended(self):
        sim = new_simulation()
        sim.run(20)
        sim.lose(0)
        assert len(sim.workers) == 1
        sim.run(20)
        assert_converged(sim)


GOOD = st.sampled_from(["good", "better"])
BAD = st.sampled_from(["does-not-load", "no-environment", "dies-early", "hangs"])
BOUNDS = st.tuples(st.integers(0, 3), st.integers(0, 3)).map(lambda pair: (min(pair), max(pair)))
EVENTS = [
    st.tuples(st.just("wait"), st.none()),
    st.tuples(st.just("load"), st.integers(0, 5)),
    st.tuples(st.just("kill"), st.integers(0, 5)),
    st.tuples(st.just("lose"), st.integers(0, 5)),
]
CHANGES = [
    st.tuples(st.just("deploy"), GOOD | BAD),
    st.tuples(st.just("scale"), BOUNDS),
    st.tuples(st.just("limit"), st.integers(1, 4)),
    st.tuples(st.just("restart server"), st.none()),
    st.tuples(st.just("others hold"), st.integers(0, 3)),
    st.tuples(st.just("canary"), GOOD | BAD),
    st.tuples(st.just("end canary"), st.booleans()),
    st.tuples(st.just("predict"), st.tuples(st.booleans(), st.booleans())),
]
PAUSES = st.sampled_from([0.0, 0.5, 1.0, 3.0, 10.0, 40.0, 100.0])


def take_with_canary(sim: Simulation, step: tuple[str, object]) -> None:
    canary = sim.record.live_canary
    match step:
        case "canary", str(bundle) if canary is None:
            sim.start_canary(bundle, 50, **RULE)
        case "end canary", bool(promoted) if canary is not None:
            if promoted and canary.status is CanaryStatus.SERVING:
                sim.promote()
            else:
                sim.roll_back()
        case "predict", (bool(of_canary), bool(failed)):
            of = canary.generation if of_canary and canary else sim.record.generation
            if sim.has_been_ready(of):
                sim.predict(of, 3, "ValueError: no" if failed else None)


def take(sim: Simulation, step: tuple[str, object]) -> None:
    match step:
        case "load", int(queued):
            sim.load = Load(0, queued)
        case "deploy", str(bundle) if sim.record.live_canary is None:
            sim.deploy(bundle)
        case "scale", (int(low), int(high)):
            sim.scale(low, high)
        case "kill", int(index):
            sim.kill(index)
        case "lose", int(index):
            sim.lose(index)
        case "restart server", None:
            sim.restart_server()
        case "others hold", int(gpus):
            sim.others_hold(gpus)
        case "limit", int(workers):
            sim.engine.cpus = workers
        case _:
            take_with_canary(sim, step)


def test_a_demand_that_can_not_be_met_is_forgotten_with_it():
    sim = new_simulation(min_workers=0, max_workers=0, gpus=1, machine_gpus=1)
    sim.run(10)
    sim.scale(2, 2)
    sim.run(10)
    assert sim.record.status is EndpointStatus.UPDATE_FAILED
    sim.scale(0, 0)
    sim.run(10)
    assert_converged(sim)


@pytest.mark.timeout(60 + 5 * EXAMPLES)  # an example takes 0.1 s, and several times that on a busy machine
@settings(max_examples=EXAMPLES)
@given(
    bounds=BOUNDS,
    gpus=st.integers(0, 2),
    spare=st.integers(0, 2),
    queued=st.integers(0, 3),
    rule=st.sampled_from([{}, RULE]),
    steps=st.lists(st.tuples(st.one_of(*EVENTS, *CHANGES), PAUSES), min_size=2, max_size=12),
)
def test_whatever_happens_the_invariants_hold_and_the_endpoint_converges(
    bounds, gpus, spare, queued, rule, steps
):
    low, high = bounds
    machine_gpus = gpus * max(low, 1) + spare
    sim = new_simulation(min_workers=low, max_workers=high, gpus=gpus, machine_gpus=machine_gpus, **rule)
    sim.load = Load(0, queued)
    sim.run(10)
    for step, pause in steps:
        take(sim, step)
        sim.run(pause)
    sim.engine.cpus = 1000
    sim.others_hold(0)
    if sim.record.live_canary is not None:
        sim.roll_back()
    sim.deploy("good")
    sim.scale(low, high)
    sim.load = Load(0, 0)
    sim.run(400)
    if sim.situation().on_probation:
        sim.predict(sim.record.generation, 5)
        sim.run(60)
    assert_converged(sim)


@pytest.mark.timeout(60 + 5 * EXAMPLES)
@settings(max_examples=max(1, EXAMPLES // 2))
@given(
    bad=BAD,
    gpus=st.integers(0, 1),
    queued=st.integers(0, 5),
    steps=st.lists(st.tuples(st.one_of(*EVENTS), PAUSES), max_size=10),
)
def test_an_update_that_can_not_load_never_ends_the_service_of_the_bundle_before_it(bad, gpus, queued, steps):
    sim = new_simulation(gpus=gpus, machine_gpus=3)
    sim.run(30)
    sim.deploy(bad)
    for step, pause in steps:
        take(sim, step)
        sim.run(pause)
    sim.load = Load(0, queued)
    sim.run(400)
    assert sim.record.status is EndpointStatus.UPDATE_FAILED
    assert sim.record.status_reason
    assert sim.count(Phase.READY, bundle="good") == sim.situation().desired
