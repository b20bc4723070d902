"""The controller's plan: what it does in each situation."""

from dataclasses import replace

import pytest
from controller_simulation import POLICY, make_spec
from situations import BUILT, CHANGED, FAILED, NOW, PENDING, ROLLED_OUT, actions_of, look, status_of, worker

from openlaunch.controller.actions import (
    BuildEnvironment,
    DrainWorker,
    Refuse,
    SetStatus,
    StartWorker,
    StopWorker,
)
from openlaunch.controller.backoff import Backoff, History, RetryPolicy
from openlaunch.controller.gpus import Gpus
from openlaunch.controller.plan import plan
from openlaunch.controller.situation import (
    Build,
    Generation,
    Phase,
    Policy,
)
from openlaunch.wire.endpoints import EndpointStatus


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
