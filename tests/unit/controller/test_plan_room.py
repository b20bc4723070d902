"""What is planned where there is no room, or no GPU."""

from dataclasses import replace

from controller_simulation import make_spec
from situations import (
    BUILT,
    CHANGED,
    FAILED,
    NOW,
    PENDING,
    ROLLED_OUT,
    WAITS,
    actions_of,
    look,
    status_of,
    worker,
)

from openlaunch.controller.actions import (
    DrainWorker,
    Refuse,
    StartWorker,
    StopWorker,
)
from openlaunch.controller.gpus import Gpus
from openlaunch.controller.situation import (
    ROOM_SECONDS,
    TRY_SECONDS,
    Build,
    Generation,
    NoRoomSince,
    Phase,
)
from openlaunch.wire.endpoints import EndpointStatus


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
