"""The controller's plan: what it does in each situation."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from controller_simulation import POLICY, RULE, make_record, make_spec

from openlaunch.controller.actions import (
    Action,
    BuildEnvironment,
    DrainWorker,
    Refuse,
    SetCanary,
    SetStatus,
    StartWorker,
    StopWorker,
)
from openlaunch.controller.backoff import Backoff, History, RetryPolicy
from openlaunch.controller.gpus import Gpus
from openlaunch.controller.plan import plan
from openlaunch.controller.situation import (
    ROOM_SECONDS,
    TRY_SECONDS,
    Build,
    Generation,
    NoRoomSince,
    Phase,
    Policy,
    Situation,
    Worker,
)
from openlaunch.controller.trial import PROBATION_SECONDS, Trial
from openlaunch.store.records import CanaryRecord, EndpointRecord
from openlaunch.wire.endpoints import CanaryStatus, EndpointStatus

NOW = 1000.0
FAILED = History().load_failed(NOW - 100, NOW - 110, "ImportError: no module named torch")
BUILT = Generation(Build.BUILT)

PENDING = make_record(make_spec())
ROLLED_OUT = replace(PENDING, status=EndpointStatus.READY, ready_generation=1, ready_bundle_id="good")
"""Generation 1 is ready, and is what is wanted."""

CHANGED = replace(ROLLED_OUT, bundle_id="better", generation=2, status=EndpointStatus.UPDATE_IN_PROGRESS)
"""Generation 1 is ready, generation 2 is wanted."""


WAITS = "a worker waits for 2 CPUs on the cluster"


def worker(name: str, generation: int, phase: Phase, age: float = 10.0) -> Worker:
    return Worker(name, generation, phase, NOW - age)


def look(
    endpoint: EndpointRecord,
    *workers: Worker,
    generations: Mapping[int, Generation] | None = None,
    desired: int = 1,
    limit: int = 100,
    gpus: Gpus | None = None,
    waits_since: float | None = None,
) -> Situation:
    no_room = None if waits_since is None else NoRoomSince(WAITS, waits_since, NOW)
    known = {1: BUILT, 2: BUILT} if generations is None else generations
    return Situation(endpoint, workers, known, desired, limit, gpus or Gpus(), NOW, no_room)


def actions_of(situation: Situation, *kinds: type, policy: Policy = POLICY) -> list[Action]:
    return [action for action in plan(situation, policy) if isinstance(action, kinds)]


def status_of(situation: Situation) -> tuple[EndpointStatus, str | None]:
    """The status that holds after the plan."""
    changes = [a for a in plan(situation, POLICY) if isinstance(a, SetStatus)]
    if changes:
        return changes[0].status, changes[0].reason
    return situation.endpoint.status, situation.endpoint.status_reason


class TestRoom:
    """Where the engine had no room for the last worker that was to be started."""

    LONG_AGO = NOW - ROOM_SECONDS

    def test_the_endpoint_says_what_its_worker_waits_for(self):
        pending = replace(PENDING, spec=make_spec(min_workers=1))
        assert status_of(look(pending, waits_since=NOW - 1)) == (
            EndpointStatus.UPDATE_IN_PROGRESS,
            f"0 of 1 workers are ready; {WAITS}",
        )

    def test_a_worker_that_is_missing_beside_others_is_spoken_of(self):
        ready = worker("a", 1, Phase.READY)
        assert status_of(look(ROLLED_OUT, ready, desired=2, waits_since=NOW)) == (EndpointStatus.READY, WAITS)
        assert status_of(look(ROLLED_OUT, ready, waits_since=NOW)) == (EndpointStatus.READY, None)

    def test_an_older_generation_makes_room_after_a_while(self):
        old = worker("a", 1, Phase.READY)
        for since, drained in ((self.LONG_AGO + 1, []), (self.LONG_AGO, [DrainWorker("a")])):
            situation = look(CHANGED, old, waits_since=since)
            assert actions_of(situation, StartWorker, DrainWorker) == [StartWorker(2, "better"), *drained]

    def test_of_several_one_serves_until_the_first_of_the_newest_does(self):
        old = [worker("a", 1, Phase.READY, 20), worker("b", 1, Phase.READY, 10)]
        situation = look(CHANGED, *old, desired=2, waits_since=self.LONG_AGO)
        assert actions_of(situation, DrainWorker) == [DrainWorker("b")]

    def test_the_fallback_leaves_room_to_the_newest(self):
        situation = look(CHANGED, waits_since=NOW)
        assert actions_of(situation, StartWorker) == [StartWorker(2, "better")]

    def test_a_worker_of_the_same_generation_makes_none(self):
        """As one on a node that is drained: what it holds there is of no use."""
        leaving = replace(worker("a", 1, Phase.READY), worn=True)
        situation = look(ROLLED_OUT, leaving, waits_since=self.LONG_AGO)
        assert actions_of(situation, DrainWorker) == []

    def test_what_was_not_tried_of_late_is_not_waited_for(self):
        first = NoRoomSince(WAITS, 0.0, 0.0)
        assert first.again("more", TRY_SECONDS) == NoRoomSince("more", 0.0, TRY_SECONDS)
        assert not first.stands(TRY_SECONDS + 1)
        assert first.again("more", TRY_SECONDS + 1).since == TRY_SECONDS + 1


class TestBuilding:
    def test_a_new_endpoint_begins_with_its_environment(self):
        assert plan(look(PENDING, generations={}), POLICY) == [BuildEnvironment(1, "good")]

    @pytest.mark.parametrize("build", [Build.QUEUED, Build.BUILDING, Build.BUILT])
    def test_an_environment_is_not_built_twice(self, build):
        assert actions_of(look(PENDING, generations={1: Generation(build)}), BuildEnvironment) == []

    def test_no_worker_starts_before_the_environment_is_built(self):
        situation = look(PENDING, generations={1: Generation(Build.BUILDING)})
        assert actions_of(situation, StartWorker) == []

    def test_a_failed_build_is_tried_again_only_after_its_back_off(self):
        history = History().load_failed(NOW - 1, NOW - 5, "no such package")
        slow = Policy(retry=RetryPolicy(load=Backoff(first=10.0)))
        fast = Policy(retry=RetryPolicy(load=Backoff(first=0.5)))
        situation = look(PENDING, generations={1: Generation(Build.NONE, history)})
        assert actions_of(situation, BuildEnvironment, policy=slow) == []
        assert actions_of(situation, BuildEnvironment, policy=fast) == [BuildEnvironment(1, "good")]

    def test_a_failed_build_is_left_alone_while_nobody_is_to_be_served(self):
        situation = look(PENDING, generations={1: Generation(Build.NONE, FAILED)}, desired=0)
        assert actions_of(situation, BuildEnvironment) == []

    def test_a_fallback_of_before_a_restart_of_the_server_is_built_too(self):
        built = actions_of(look(CHANGED, generations={}), BuildEnvironment)
        assert built == [BuildEnvironment(2, "better"), BuildEnvironment(1, "good")]

    def test_a_fallback_is_not_built_when_nobody_is_to_be_served(self):
        built = actions_of(look(CHANGED, generations={}, desired=0), BuildEnvironment)
        assert built == [BuildEnvironment(2, "better")]


@pytest.mark.parametrize("phase", list(Phase))
def test_nothing_is_planned_for_an_endpoint_that_is_being_deleted(phase):
    deleted = replace(CHANGED, status=EndpointStatus.DELETE_IN_PROGRESS)
    overdue = worker("a", 1, phase, age=10_000)
    assert plan(look(deleted, overdue, generations={}), POLICY) == []


class TestScaling:
    def test_starts_what_is_missing(self):
        situation = look(ROLLED_OUT, worker("a", 1, Phase.READY), desired=3)
        assert plan(situation, POLICY) == [StartWorker(1, "good"), StartWorker(1, "good")]

    def test_does_nothing_when_all_is_as_wanted(self):
        assert plan(look(ROLLED_OUT, worker("a", 1, Phase.READY)), POLICY) == []

    def test_workers_that_start_count(self):
        situation = look(ROLLED_OUT, worker("a", 1, Phase.STARTING), desired=2)
        assert actions_of(situation, StartWorker) == [StartWorker(1, "good")]

    def test_a_lost_worker_keeps_its_place_until_its_end_is_known(self):
        situation = look(ROLLED_OUT, worker("a", 1, Phase.LOST))
        assert actions_of(situation, StartWorker) == []

    def test_a_lost_worker_takes_no_ready_one_with_it(self):
        situation = look(ROLLED_OUT, worker("a", 1, Phase.READY), worker("b", 1, Phase.LOST))
        assert actions_of(situation, DrainWorker, StopWorker, StartWorker) == []

    def test_workers_that_leave_are_replaced(self):
        situation = look(ROLLED_OUT, worker("a", 1, Phase.DRAINING), worker("b", 1, Phase.STOPPING))
        assert actions_of(situation, StartWorker) == [StartWorker(1, "good")]

    def test_scales_down_those_that_are_not_ready_first_then_the_youngest(self):
        situation = look(
            ROLLED_OUT,
            worker("old", 1, Phase.READY, age=300),
            worker("young", 1, Phase.READY, age=20),
            worker("starting", 1, Phase.STARTING, age=1),
        )
        assert plan(situation, POLICY) == [StopWorker("starting"), DrainWorker("young")]

    def test_scales_to_zero(self):
        situation = look(ROLLED_OUT, worker("a", 1, Phase.READY), desired=0)
        assert plan(situation, POLICY) == [DrainWorker("a")]

    def test_a_machine_that_is_full_caps_scaling_up_and_the_status_says_so(self):
        situation = look(ROLLED_OUT, worker("a", 1, Phase.READY), desired=3, limit=1)
        assert actions_of(situation, StartWorker) == []
        status, reason = status_of(situation)
        assert status is EndpointStatus.READY
        assert reason == "3 workers are wanted, and 1 fit this machine's cores and memory"

    def test_a_limit_that_falls_takes_no_ready_worker_away(self):
        ready = [worker(name, 1, Phase.READY) for name in "abc"]
        assert actions_of(look(ROLLED_OUT, *ready, desired=3, limit=1), DrainWorker, StopWorker) == []

    def test_a_crash_loop_waits_for_its_back_off(self):
        history = History()
        for at in (NOW - 3, NOW - 2, NOW - 1):
            history = history.crashed(at, at - 0.1, at - 0.2, "was killed by signal 9", RetryPolicy())
        situation = look(ROLLED_OUT, generations={1: Generation(Build.BUILT, history)})
        assert actions_of(situation, StartWorker) == []
        later = replace(situation, now=NOW + 60)
        assert actions_of(later, StartWorker) == [StartWorker(1, "good")]


class TestOverdue:
    def test_a_worker_that_does_not_load_in_time_is_stopped_and_that_is_a_failure(self):
        overdue = worker("a", 1, Phase.STARTING, age=POLICY.load_timeout + 1)
        (stop, *_) = actions_of(look(ROLLED_OUT, overdue), StopWorker)
        assert isinstance(stop, StopWorker)
        assert stop.failure == "a worker was not ready within 60 s of its start"

    def test_a_worker_that_does_not_drain_in_time_is_stopped_without_blame(self):
        situation = look(
            ROLLED_OUT,
            worker("a", 1, Phase.READY),
            worker("b", 1, Phase.DRAINING, age=POLICY.drain_timeout + 1),
        )
        assert plan(situation, POLICY) == [StopWorker("b")]

    def test_a_worker_within_its_time_is_left_alone(self):
        situation = look(
            ROLLED_OUT,
            worker("a", 1, Phase.STARTING, age=POLICY.load_timeout - 1),
            worker("b", 1, Phase.DRAINING, age=POLICY.drain_timeout - 1),
        )
        assert plan(situation, POLICY) == []


class TestRollOut:
    def test_new_workers_start_beside_the_old_ones(self):
        situation = look(CHANGED, worker("a", 1, Phase.READY), worker("b", 1, Phase.READY), desired=2)
        assert actions_of(situation, StartWorker, DrainWorker, StopWorker) == [StartWorker(2, "better")] * 2

    def test_each_new_worker_that_is_ready_replaces_an_old_one(self):
        situation = look(
            CHANGED,
            worker("a", 1, Phase.READY, age=300),
            worker("b", 1, Phase.READY, age=200),
            worker("c", 2, Phase.READY),
            worker("d", 2, Phase.STARTING),
            desired=2,
        )
        assert actions_of(situation, StartWorker, DrainWorker, StopWorker) == [DrainWorker("b")]

    def test_the_last_old_worker_goes_when_the_new_ones_are_ready(self):
        situation = look(CHANGED, worker("a", 1, Phase.READY), worker("b", 2, Phase.READY))
        assert plan(situation, POLICY) == [
            DrainWorker("a"),
            SetStatus(EndpointStatus.READY, None, 2, "better"),
        ]

    def test_starting_workers_of_a_generation_that_was_overtaken_are_stopped(self):
        overtaken = replace(CHANGED, generation=3, bundle_id="best")
        situation = look(
            overtaken,
            worker("a", 1, Phase.READY),
            worker("b", 2, Phase.STARTING),
            generations={1: BUILT, 2: BUILT, 3: BUILT},
        )
        assert actions_of(situation, StartWorker, DrainWorker, StopWorker) == [
            StartWorker(3, "best"),
            StopWorker("b"),
        ]

    def test_the_fallback_is_scaled_while_the_new_generation_is_built(self):
        building = {1: BUILT, 2: Generation(Build.BUILDING)}
        situation = look(CHANGED, worker("a", 1, Phase.READY), generations=building, desired=2)
        assert actions_of(situation, StartWorker) == [StartWorker(1, "good")]

    def test_a_generation_that_does_not_load_leaves_the_old_one_serving(self):
        failed = {1: BUILT, 2: Generation(Build.BUILT, FAILED)}
        situation = look(CHANGED, worker("a", 1, Phase.READY), generations=failed)
        assert actions_of(situation, DrainWorker, StopWorker, Refuse) == []
        assert status_of(situation) == (EndpointStatus.UPDATE_FAILED, FAILED.failure)

    def test_the_fallback_is_scaled_and_woken_after_a_failed_update(self):
        endpoint = replace(CHANGED, status=EndpointStatus.UPDATE_FAILED, status_reason=FAILED.failure)
        backing_off = History().load_failed(NOW, NOW - 5, "ImportError")
        failed = {1: BUILT, 2: Generation(Build.BUILT, backing_off)}
        situation = look(endpoint, generations=failed, desired=2)
        assert actions_of(situation, StartWorker) == [StartWorker(1, "good")] * 2

    def test_one_worker_at_a_time_tries_whether_it_loads_again(self):
        failed = {1: BUILT, 2: Generation(Build.BUILT, FAILED)}
        old = [worker(name, 1, Phase.READY) for name in "abc"]
        assert actions_of(look(CHANGED, *old, generations=failed, desired=3), StartWorker) == [
            StartWorker(2, "better")
        ]
        trying = look(CHANGED, *old, worker("d", 2, Phase.STARTING), generations=failed, desired=3)
        assert actions_of(trying, StartWorker) == []

    def test_the_ready_generation_is_recorded_with_the_first_ready_worker(self):
        endpoint = replace(CHANGED, spec=make_spec(min_workers=2))
        situation = look(endpoint, worker("a", 1, Phase.READY), worker("b", 2, Phase.READY), desired=2)
        (status,) = actions_of(situation, SetStatus)
        assert status == SetStatus(EndpointStatus.UPDATE_IN_PROGRESS, "1 of 2 workers are ready", 2, "better")


class TestStatus:
    @pytest.mark.parametrize(
        ("build", "status", "reason"),
        [
            (Build.NONE, EndpointStatus.UPDATE_PENDING, None),
            (
                Build.QUEUED,
                EndpointStatus.UPDATE_PENDING,
                "the environment waits for those of other endpoints to be built",
            ),
            (Build.BUILDING, EndpointStatus.UPDATE_IN_PROGRESS, "the environment is being built"),
            (Build.BUILT, EndpointStatus.UPDATE_IN_PROGRESS, "0 of 1 workers are ready"),
        ],
    )
    def test_a_roll_out_says_how_far_it_is(self, build, status, reason):
        assert status_of(look(PENDING, generations={1: Generation(build)})) == (status, reason)

    def test_ready_when_the_minimum_is(self):
        assert status_of(look(PENDING, worker("a", 1, Phase.READY), desired=3)) == (
            EndpointStatus.READY,
            None,
        )

    def test_an_endpoint_that_may_be_at_zero_is_ready_with_its_environment(self):
        endpoint = replace(PENDING, spec=make_spec(min_workers=0))
        assert status_of(look(endpoint, desired=0)) == (EndpointStatus.READY, None)

    def test_an_endpoint_to_be_warmed_up_is_ready_with_its_first_worker(self):
        endpoint = replace(PENDING, spec=make_spec(min_workers=0, prewarm=True))
        assert status_of(look(endpoint))[0] is EndpointStatus.UPDATE_IN_PROGRESS
        assert status_of(look(endpoint, worker("a", 1, Phase.READY)))[0] is EndpointStatus.READY

    def test_a_ready_endpoint_stays_ready_while_a_crashed_worker_is_replaced(self):
        history = History().crashed(NOW - 5, NOW - 100, NOW - 102, "was killed by signal 9", RetryPolicy())
        situation = look(ROLLED_OUT, generations={1: Generation(Build.BUILT, history)})
        status, reason = status_of(situation)
        assert status is EndpointStatus.READY
        assert reason == "1 worker crashed in the last minute: it was killed by signal 9"

    def test_a_ready_endpoint_that_can_not_load_any_more_has_failed(self):
        situation = look(ROLLED_OUT, generations={1: Generation(Build.BUILT, FAILED)})
        assert status_of(situation) == (EndpointStatus.UPDATE_FAILED, FAILED.failure)

    def test_a_ready_endpoint_that_can_not_scale_up_stays_ready_and_says_why(self):
        endpoint = replace(ROLLED_OUT, spec=make_spec(min_workers=2))
        situation = look(
            endpoint, worker("a", 1, Phase.READY), generations={1: Generation(Build.BUILT, FAILED)}, desired=2
        )
        status, reason = status_of(situation)
        assert status is EndpointStatus.READY
        assert reason == f"a worker could not be started: {FAILED.failure}"

    def test_a_further_try_is_no_success_yet(self):
        endpoint = replace(PENDING, status=EndpointStatus.UPDATE_FAILED, status_reason="ImportError")
        assert actions_of(look(endpoint, worker("a", 1, Phase.STARTING)), SetStatus) == []

    def test_a_further_try_that_is_ready_is_a_success(self):
        endpoint = replace(PENDING, status=EndpointStatus.UPDATE_FAILED, status_reason="ImportError")
        situation = look(endpoint, worker("a", 1, Phase.READY))
        assert plan(situation, POLICY) == [SetStatus(EndpointStatus.READY, None, 1, "good")]

    def test_what_waits_is_refused_when_nothing_can_serve(self):
        situation = look(PENDING, generations={1: Generation(Build.NONE, FAILED)})
        assert actions_of(situation, Refuse) == [Refuse(FAILED.failure or "")]

    def test_what_waits_is_not_refused_while_the_fallback_can_come(self):
        failed = {1: BUILT, 2: Generation(Build.NONE, FAILED)}
        assert actions_of(look(CHANGED, generations=failed), Refuse) == []

    def test_what_waits_is_refused_when_the_fallback_fails_too(self):
        failed = {1: Generation(Build.NONE, FAILED), 2: Generation(Build.NONE, FAILED)}
        assert actions_of(look(CHANGED, generations=failed), Refuse) == [Refuse(FAILED.failure or "")]


class TestGpus:
    ASKS_ONE = replace(PENDING, spec=make_spec(gpus=1))
    CHANGED = replace(CHANGED, spec=make_spec(gpus=1))

    def test_starts_only_what_has_its_gpus(self):
        situation = look(self.ASKS_ONE, desired=3, gpus=Gpus(free=2))
        assert actions_of(situation, StartWorker) == [StartWorker(1, "good")] * 2

    def test_a_worker_takes_all_its_gpus_or_none(self):
        endpoint = replace(PENDING, spec=make_spec(gpus=4))
        waits = "a worker waits for 4 GPUs: 3 of 8 free"
        situation = look(endpoint, desired=1, gpus=Gpus(free=3, waits_for=waits))
        assert actions_of(situation, StartWorker) == []
        assert status_of(situation)[1] == f"0 of 1 workers are ready; {waits}"

    def test_more_than_there_are_is_a_failure_with_its_reason(self):
        problem = "asks for 9 GPUs per worker, this machine has 8"
        situation = look(self.ASKS_ONE, gpus=Gpus(free=8, problem=problem))
        assert actions_of(situation, StartWorker) == []
        assert status_of(situation) == (EndpointStatus.UPDATE_FAILED, problem)
        assert actions_of(situation, Refuse) == [Refuse(problem)]

    def test_an_old_worker_makes_room_for_the_new_one(self):
        situation = look(self.CHANGED, worker("a", 1, Phase.READY), gpus=Gpus(free=0))
        assert actions_of(situation, DrainWorker, StartWorker) == [DrainWorker("a")]

    def test_no_second_one_makes_room_while_the_first_is_leaving(self):
        situation = look(
            self.CHANGED, worker("a", 1, Phase.READY), worker("b", 1, Phase.DRAINING), gpus=Gpus(free=0)
        )
        assert actions_of(situation, DrainWorker, StopWorker) == []

    def test_only_as_many_make_room_as_are_short(self):
        situation = look(
            self.CHANGED,
            worker("a", 1, Phase.READY, age=300),
            worker("b", 1, Phase.READY, age=200),
            worker("c", 1, Phase.DRAINING),
            worker("d", 2, Phase.READY),
            desired=3,
            gpus=Gpus(free=0),
        )
        assert actions_of(situation, DrainWorker, StopWorker) == [DrainWorker("b")]

    def test_what_waits_is_refused_when_the_fallback_can_not_have_its_gpus_either(self):
        problem = "asks for 9 GPUs per worker, this machine has 8"
        situation = look(self.CHANGED, gpus=Gpus(free=8, problem=problem))
        assert actions_of(situation, Refuse) == [Refuse(problem)]

    def test_one_of_several_old_workers_goes_on_serving_until_a_new_one_is_ready(self):
        old = [worker(name, 1, Phase.READY) for name in "abc"]
        situation = look(self.CHANGED, *old, desired=3, gpus=Gpus(free=0))
        assert len(actions_of(situation, DrainWorker)) == 2

    def test_the_fallback_leaves_free_gpus_to_the_newest(self):
        situation = look(self.CHANGED, generations={1: BUILT, 2: BUILT}, gpus=Gpus(free=1))
        assert actions_of(situation, StartWorker) == [StartWorker(2, "better")]

    def test_no_more_workers_start_than_there_are_gpus_for(self):
        failed = {1: BUILT, 2: Generation(Build.BUILT, FAILED)}
        situation = look(self.CHANGED, generations=failed, desired=2, gpus=Gpus(free=2))
        assert len(actions_of(situation, StartWorker)) == 2


ON_PROBATION = replace(CHANGED, status=EndpointStatus.READY, spec=make_spec(**RULE))
"""Generation 2 has become ready, and its first predictions are counted."""


def tried(requests: int, *failed_at: int, seconds: float = 10.0) -> dict[int, Generation]:
    """Both generations, the newest with predictions of which these failed."""
    trial = Trial(requests, len(failed_at), failed_at, "ValueError: no" if failed_at else None)
    return {1: BUILT, 2: replace(BUILT, trial=trial, ready_since=NOW - seconds)}


class TestProbation:
    BOTH = (worker("a", 1, Phase.READY), worker("b", 2, Phase.READY))

    def test_the_workers_of_before_are_kept_and_the_status_says_so(self):
        situation = look(ON_PROBATION, *self.BOTH, generations=tried(4))
        (status,) = plan(situation, POLICY)
        assert isinstance(status, SetStatus)
        assert (status.status, status.ready_generation) == (EndpointStatus.READY, 1)
        assert "on probation" in (status.reason or "")

    @pytest.mark.parametrize("generations", [tried(5), tried(0, seconds=PROBATION_SECONDS)])
    def test_ends_with_the_last_prediction_that_counts_or_with_its_time(self, generations):
        actions = plan(look(ON_PROBATION, *self.BOTH, generations=generations), POLICY)
        assert actions == [DrainWorker("a"), SetStatus(EndpointStatus.READY, None, 2, "better")]

    def test_failures_too_many_reject_the_newest(self):
        actions = plan(look(ON_PROBATION, *self.BOTH, generations=tried(4, 1, 3)), POLICY)
        reason = "2 of the first 3 predictions of the bundle better failed: ValueError: no"
        assert actions == [
            DrainWorker("b"),
            SetStatus(EndpointStatus.UPDATE_FAILED, reason, 1, "good", rejected_generation=2),
        ]

    def test_failures_that_come_later_do_not(self):
        actions = plan(look(ON_PROBATION, *self.BOTH, generations=tried(7, 1, 6, 7)), POLICY)
        assert DrainWorker("b") not in actions

    def test_what_was_rejected_is_neither_built_nor_started_again(self):
        rejected = replace(
            ON_PROBATION,
            status=EndpointStatus.UPDATE_FAILED,
            status_reason="it failed",
            rejected_generation=2,
        )
        assert plan(look(rejected, generations={}), POLICY) == [BuildEnvironment(1, "good")]
        assert plan(look(rejected, desired=2), POLICY) == [StartWorker(1, "good")] * 2

    def test_the_first_generation_has_nothing_to_go_back_to(self):
        first = replace(PENDING, spec=make_spec(**RULE))
        generations = {1: replace(BUILT, trial=Trial(2, 2, (1, 2), "no"), ready_since=NOW)}
        (status,) = plan(look(first, worker("a", 1, Phase.READY), generations=generations), POLICY)
        assert status == SetStatus(EndpointStatus.READY, None, 1, "good")


CANARY = CanaryRecord("bold", 2, 50, CanaryStatus.SERVING, None, NOW, **RULE)
WITH_CANARY = replace(ROLLED_OUT, canary=CANARY)
"""Generation 1 is ready, generation 2 is its canary."""


class TestCanary:
    OLD = worker("a", 1, Phase.READY)
    NEW = worker("b", 2, Phase.READY)

    def test_starts_beside_the_others(self):
        assert plan(look(WITH_CANARY, self.OLD), POLICY) == [StartWorker(2, "bold")]

    def test_has_the_workers_of_its_share_and_takes_none_from_the_endpoint(self):
        old = [worker(name, 1, Phase.READY) for name in "abc"]
        assert plan(look(WITH_CANARY, *old, desired=3), POLICY) == [StartWorker(2, "bold")] * 2

    def test_keeps_one_when_nothing_is_asked(self):
        assert plan(look(WITH_CANARY, self.NEW, desired=0), POLICY) == []

    def test_has_no_more_than_fit_beside_the_endpoints_own(self):
        old = [worker(name, 1, Phase.READY) for name in "abc"]
        assert plan(look(WITH_CANARY, *old, desired=3, limit=3), POLICY) == [StartWorker(2, "bold")]

    def test_scales_down_with_its_share(self):
        young = worker("c", 2, Phase.READY, age=1)
        assert plan(look(WITH_CANARY, self.OLD, self.NEW, young), POLICY) == [DrainWorker("c")]

    def test_a_worn_worker_serves_until_another_one_does(self):
        worn, young = replace(self.NEW, worn=True), worker("c", 2, Phase.STARTING)
        assert plan(look(WITH_CANARY, self.OLD, worn), POLICY) == [StartWorker(2, "bold")]
        assert plan(look(WITH_CANARY, self.OLD, worn, young), POLICY) == []
        ready = replace(young, phase=Phase.READY)
        assert plan(look(WITH_CANARY, self.OLD, worn, ready), POLICY) == [DrainWorker("b")]

    def test_gets_only_the_gpus_that_the_endpoint_leaves(self):
        endpoint = replace(WITH_CANARY, spec=make_spec(gpus=1))
        assert plan(look(endpoint, gpus=Gpus(free=1)), POLICY) == [StartWorker(1, "good")]

    def test_serves_when_its_first_worker_is_ready(self):
        starting = replace(WITH_CANARY, canary=replace(CANARY, status=CanaryStatus.STARTING))
        actions = plan(look(starting, self.OLD, self.NEW), POLICY)
        assert actions == [SetCanary(2, CanaryStatus.SERVING, None)]

    def test_that_can_not_load_has_failed_and_the_endpoint_has_not(self):
        failed = {1: BUILT, 2: Generation(Build.BUILT, FAILED)}
        actions = plan(
            look(WITH_CANARY, self.OLD, worker("b", 2, Phase.STARTING), generations=failed), POLICY
        )
        assert actions == [StopWorker("b"), SetCanary(2, CanaryStatus.FAILED, FAILED.failure)]

    def test_a_further_worker_that_can_not_load_is_no_end(self):
        failed = {1: BUILT, 2: Generation(Build.BUILT, FAILED)}
        assert actions_of(look(WITH_CANARY, self.OLD, self.NEW, generations=failed), SetCanary) == []

    def test_that_fails_its_first_predictions_is_rolled_back(self):
        actions = plan(look(WITH_CANARY, self.OLD, self.NEW, generations=tried(2, 1, 2)), POLICY)
        reason = "2 of the first 2 predictions of the bundle bold failed: ValueError: no"
        assert actions == [DrainWorker("b"), SetCanary(2, CanaryStatus.FAILED, reason)]

    def test_that_has_ended_leaves_and_never_serves_as_an_older_generation(self):
        ended = replace(WITH_CANARY, canary=replace(CANARY, status=CanaryStatus.ROLLED_BACK))
        assert plan(look(ended, self.NEW, worker("c", 2, Phase.STARTING)), POLICY) == [
            StartWorker(1, "good"),
            StopWorker("c"),
            DrainWorker("b"),
        ]


class TestWornWorkers:
    """One that has had its number of requests serves until another one does."""

    worn = replace(worker("old", 1, Phase.READY, age=100), worn=True)

    def test_another_one_is_started_beside_it(self):
        assert plan(look(ROLLED_OUT, self.worn), POLICY) == [StartWorker(1, "good")]

    def test_it_stays_while_the_other_one_loads(self):
        assert plan(look(ROLLED_OUT, self.worn, worker("new", 1, Phase.STARTING)), POLICY) == []

    def test_it_leaves_when_the_other_one_is_ready(self):
        situation = look(ROLLED_OUT, self.worn, worker("new", 1, Phase.READY))
        assert plan(situation, POLICY) == [DrainWorker("old")]

    def test_it_gives_up_its_gpus_where_the_other_one_needs_them(self):
        endpoint = replace(ROLLED_OUT, spec=make_spec(gpus=1))
        situation = look(endpoint, self.worn, gpus=Gpus(free=0))
        assert actions_of(situation, DrainWorker) == [DrainWorker("old")]

    def test_it_leaves_where_it_is_not_needed(self):
        assert plan(look(ROLLED_OUT, self.worn, desired=0), POLICY) == [DrainWorker("old")]
