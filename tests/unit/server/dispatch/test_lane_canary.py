"""A lane of an endpoint with a canary."""

from dataclasses import replace

from lanes import ENDPOINT, make_lane, submit
from server_links import FakeWorker, in_loop

from openlaunch.store.records import CanaryRecord
from openlaunch.wire.endpoints import CanaryStatus
from openlaunch_worker.answers import failure
from openlaunch_worker.frames import Outcome

CANARY = CanaryRecord("bold", 2, 50, CanaryStatus.SERVING, None, 0.0, rollback_after_failures=2)
WITH_CANARY = replace(ENDPOINT, ready_generation=1, ready_bundle_id="good", canary=CANARY)


class TestCanary:
    @in_loop
    async def test_gets_every_second_request_at_half(self):
        lane = make_lane(endpoint=WITH_CANARY)
        old, new = FakeWorker("old", 8).join(lane), FakeWorker("new", 8, generation=2).join(lane)
        submit(lane, *"abcdef")
        assert old.take() == [b"a", b"c", b"e"]
        assert new.take() == [b"b", b"d", b"f"]

    @in_loop
    async def test_what_it_has_no_slot_for_goes_to_the_others(self):
        lane = make_lane(endpoint=WITH_CANARY)
        old, new = FakeWorker("old", 8).join(lane), FakeWorker("new", 1, generation=2).join(lane)
        submit(lane, *"abcdef")
        assert old.take() == [b"a", b"c", b"d", b"e", b"f"]
        assert new.take() == [b"b"]

    @in_loop
    async def test_what_is_the_others_waits_for_them(self):
        lane = make_lane(endpoint=WITH_CANARY)
        old, new = FakeWorker("old", 1).join(lane), FakeWorker("new", 8, generation=2).join(lane)
        submit(lane, *"abcd")
        assert new.take() == [b"b"]
        old.take()
        old.answer()
        assert old.take() == [b"c"]
        assert new.take() == [b"d"]

    @in_loop
    async def test_serves_alone_when_there_are_no_others(self):
        lane = make_lane(endpoint=WITH_CANARY)
        new = FakeWorker("new", 8, generation=2).join(lane)
        submit(lane, *"abc")
        assert new.take() == [b"a", b"b", b"c"]

    @in_loop
    async def test_workers_of_one_that_has_ended_are_no_others(self):
        lane = make_lane(endpoint=replace(WITH_CANARY, canary=replace(CANARY, generation=3)))
        ended, new = FakeWorker("ended", generation=2), FakeWorker("new", 8, generation=3)
        for worker in (ended, new):
            worker.join(lane)
        lane.update(replace(lane.endpoint, rejected_generation=2))
        submit(lane, *"abc")
        assert (new.take(), ended.take()) == ([b"a", b"b", b"c"], [])

    @in_loop
    async def test_gets_nothing_more_once_it_has_ended(self):
        lane = make_lane(endpoint=WITH_CANARY)
        old, new = FakeWorker("old", 8).join(lane), FakeWorker("new", 8, generation=2).join(lane)
        lane.update(replace(WITH_CANARY, canary=replace(CANARY, status=CanaryStatus.ROLLED_BACK)))
        submit(lane, *"abcd")
        assert (len(old.take()), new.take()) == (4, [])

    @in_loop
    async def test_gets_nothing_more_as_soon_as_it_has_failed_too_often(self):
        asked: list[str] = []
        lane = make_lane(endpoint=WITH_CANARY, failed=asked)
        old, new = FakeWorker("old", 8).join(lane), FakeWorker("new", 8, generation=2).join(lane)
        submit(lane, *"abcd")
        assert len(new.take()) == 2
        new.answer(failure("ValueError: no", 500), Outcome.FAILURE)
        assert asked == []
        new.answer(failure("ValueError: no", 500), Outcome.FAILURE)
        assert asked == [ENDPOINT.id]
        old.take()
        submit(lane, *"efgh")
        assert (len(old.take()), new.take()) == (4, [])
        assert lane.trials.counts[2].trial().failures == 2

    @in_loop
    async def test_promoted_its_workers_come_first_and_are_counted_no_more(self):
        lane = make_lane(endpoint=WITH_CANARY)
        old, new = FakeWorker("old", 1).join(lane), FakeWorker("new", 1, generation=2).join(lane)
        lane.update(replace(WITH_CANARY, generation=2, canary=None))
        submit(lane, *"ab")
        assert (new.take(), old.take()) == ([b"a"], [b"b"])
        assert new.link.counts is None
