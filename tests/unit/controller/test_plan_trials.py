"""What is planned for bundles on trial: on probation, and canaries."""

from dataclasses import replace

import pytest
from controller_simulation import POLICY, RULE, make_spec
from situations import BUILT, CHANGED, FAILED, NOW, PENDING, ROLLED_OUT, actions_of, look, worker

from openlaunch.controller.actions import (
    BuildEnvironment,
    DrainWorker,
    SetCanary,
    SetStatus,
    StartWorker,
    StopWorker,
)
from openlaunch.controller.gpus import Gpus
from openlaunch.controller.plan import plan
from openlaunch.controller.situation import (
    Build,
    Generation,
    Phase,
)
from openlaunch.controller.trial import PROBATION_SECONDS, Trial
from openlaunch.store.records import CanaryRecord
from openlaunch.wire.endpoints import CanaryStatus, EndpointStatus

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
