"""One endpoint's traffic: order, fairness, slots, refusals."""

import asyncio
from dataclasses import replace

import pytest
from controller_simulation import make_spec
from lanes import ENDPOINT, call, make_lane, submit
from server_links import FakeWorker, WaitedCall, in_loop

from openlaunch.controller.fleet import Load
from openlaunch.errors import APIError, DeadlineExceeded, NotFound, TooManyRequests, Unavailable
from openlaunch.server.dispatch.lane import Lane
from openlaunch.wire.endpoints import EndpointStatus, EndpointType


class TestOrder:
    @in_loop
    async def test_what_waits_is_served_in_order_of_arrival(self):
        lane = make_lane()
        submit(lane, "a", "b", "c")
        worker = FakeWorker("w").join(lane)
        served = []
        for _ in range(3):
            served += worker.take()
            worker.answer()
        assert served == [b"a", b"b", b"c"]

    @in_loop
    async def test_a_new_request_does_not_overtake_those_that_wait(self):
        lane = make_lane()
        worker = FakeWorker("w").join(lane)
        submit(lane, "a", "b")
        assert worker.take() == [b"a"]
        submit(lane, "c")
        worker.answer()
        assert worker.take() == [b"b"]
        worker.answer()
        assert worker.take() == [b"c"]

    @in_loop
    async def test_requests_are_spread_evenly(self):
        lane = make_lane()
        workers = [FakeWorker(name, slots=4).join(lane) for name in "abc"]
        submit(lane, *(str(n) for n in range(6)))
        assert [len(worker.take()) for worker in workers] == [2, 2, 2]

    @pytest.mark.parametrize("slots", [1, 4])
    @in_loop
    async def test_one_request_after_the_other_goes_to_the_worker_that_is_warm(self, slots):
        lane = make_lane()
        warm, cold = (FakeWorker(name, slots=slots).join(lane) for name in "ab")
        for name in "abc":
            submit(lane, name)
            assert warm.take() == [name.encode()]
            warm.answer()
        assert cold.take() == []

    @in_loop
    async def test_nothing_waits_behind_a_busy_worker_while_another_is_free(self):
        lane = make_lane()
        busy, idle = (FakeWorker(name).join(lane) for name in "ab")
        submit(lane, "a", "b")
        busy.take(), idle.take()
        idle.answer()
        submit(lane, "c")
        assert idle.take() == [b"c"]
        assert busy.take() == []

    @in_loop
    async def test_no_worker_gets_more_than_its_slots(self):
        lane = make_lane()
        worker = FakeWorker("w", slots=3).join(lane)
        submit(lane, *"abcde")
        assert worker.take() == [b"a", b"b", b"c"]
        assert lane.load() == Load(in_flight=3, queued=2)

    @in_loop
    async def test_the_answer_reaches_its_own_request(self):
        lane = make_lane()
        worker = FakeWorker("w", slots=2).join(lane)
        first, second = submit(lane, "a", "b")
        worker.take()
        worker.waiting.reverse()
        worker.answer(b'"of b"')
        assert not first.answer.done()
        assert (await second.answer)[1] == b'"of b"'


class TestTurns:
    @in_loop
    async def test_owners_whose_requests_wait_take_turns(self):
        lane = make_lane()
        for owner, name in [("ada", "a"), ("ada", "b"), ("ada", "c"), ("bob", "d")]:
            lane.submit(call(name), owner)
        worker = FakeWorker("w").join(lane)
        served = []
        for _ in range(4):
            served += worker.take()
            worker.answer()
        assert served == [b"a", b"d", b"b", b"c"]

    @in_loop
    async def test_who_fills_the_queue_makes_room_for_others(self):
        lane = make_lane(bound=3)
        calls = [call(name) for name in "abc"]
        for one in calls:
            lane.submit(one, "ada")
        lane.submit(call("d"), "bob")
        with pytest.raises(TooManyRequests, match="3 requests wait"):
            await calls[2].answer
        assert lane.load().queued == 3
        with pytest.raises(TooManyRequests):
            lane.submit(call("e"), "ada")


class TestSlots:
    @in_loop
    async def test_tasks_are_wanted_for_slots_that_nothing_waits_for(self):
        lane = make_lane()
        assert lane.claims.wanted() == 0
        worker = FakeWorker("w", slots=3).join(lane)
        assert lane.claims.wanted() == 3
        submit(lane, "a", "b")
        assert lane.claims.wanted() == 1
        worker.take()
        worker.answer()
        assert lane.claims.wanted() == 2

    @pytest.mark.parametrize(("slots", "wanted"), [(1, 1), (2, 1), (4, 3), (16, 12)])
    @in_loop
    async def test_lines_of_batches_leave_a_fifth_of_the_slots_to_requests(self, slots, wanted):
        lane = make_lane(endpoint=replace(ENDPOINT, endpoint_type=EndpointType.STREAMING))
        assert lane.claims.wanted() == 0
        FakeWorker("w", slots=slots).join(lane)
        assert lane.claims.wanted() == wanted
        submit(lane, "a")
        assert lane.claims.wanted() == wanted - 1

    @in_loop
    async def test_a_draining_worker_gets_nothing_more(self):
        lane = make_lane()
        worker = FakeWorker("w", slots=2).join(lane)
        (running,) = submit(lane, "a")
        worker.take()
        worker.link.drain()
        assert lane.claims.wanted() == 0
        submit(lane, "b")
        worker.answer()
        assert running.answer.done()
        assert worker.take() == []
        assert lane.load().queued == 1

    @in_loop
    async def test_a_worker_that_has_left_gets_nothing_more(self):
        lane = make_lane()
        FakeWorker("w").join(lane).die()
        submit(lane, "a")
        assert lane.load() == Load(in_flight=0, queued=1)
        other = FakeWorker("v").join(lane)
        assert other.take() == [b"a"]

    @in_loop
    async def test_a_request_that_was_given_up_does_not_free_its_slot_before_the_worker_says_so(self):
        lane = make_lane()
        worker = FakeWorker("w").join(lane)
        running, _ = submit(lane, "a", "b")
        worker.take()
        running.abandon(DeadlineExceeded("late"))
        assert lane.load() == Load(in_flight=1, queued=1)
        worker.answer()
        assert worker.take() == [b"b"]

    @in_loop
    async def test_demand_is_told_when_something_has_to_wait(self):
        asked: list[str] = []
        lane = make_lane(asked=asked)
        FakeWorker("w").join(lane)
        submit(lane, "a")
        assert asked == []
        submit(lane, "b")
        assert asked == [ENDPOINT.id]

    @in_loop
    async def test_the_load_counts_tasks_in_the_store(self):
        lane = make_lane()
        lane.backlog.add("anna", 7)
        submit(lane, "a")
        assert lane.load() == Load(in_flight=0, queued=8)


class TestClaimingAhead:
    @in_loop
    async def test_short_tasks_are_claimed_before_there_are_slots_and_long_ones_are_not(self):
        lane = make_lane(bound=1000)
        FakeWorker("w", slots=8).join(lane)
        lane.claims.task_took(0.001)
        assert lane.claims.wanted() == 8 + 160
        for _ in range(100):
            lane.claims.task_took(10.0)
        assert lane.claims.wanted() == 8

    @in_loop
    async def test_what_is_on_its_way_is_counted_and_claims_are_few(self):
        lane = make_lane(bound=1000)
        FakeWorker("w", slots=8).join(lane)
        lane.claims.task_took(0.001)
        lane.backlog.claiming = 88
        assert lane.claims.wanted() == 0
        lane.backlog.claiming = 87
        assert lane.claims.wanted() == 81

    @in_loop
    async def test_no_more_is_claimed_than_may_wait(self):
        lane = make_lane(bound=10)
        FakeWorker("w", slots=8).join(lane)
        lane.claims.task_took(1e-6)
        assert lane.claims.wanted() == 18

    @in_loop
    async def test_what_waited_past_its_deadline_is_refused_and_not_lost(self):
        lane = make_lane()
        late = WaitedCall(seconds=-1)
        lane.submit(late)
        worker = FakeWorker("w").join(lane)
        assert worker.take() == []
        with pytest.raises(DeadlineExceeded):
            await late.answer


class TestWhatIsNotWantedAnyMore:
    @in_loop
    async def test_what_was_given_up_while_it_waited_is_dropped(self):
        lane = make_lane()
        first, _ = submit(lane, "a", "b")
        first.abandon(DeadlineExceeded("late"))
        assert FakeWorker("w").join(lane).take() == [b"b"]

    @in_loop
    async def test_what_was_given_up_while_it_waited_is_no_load(self):
        lane = make_lane()
        first, _ = submit(lane, "a", "b")
        first.abandon(DeadlineExceeded("late"))
        assert lane.load().queued == 1

    @in_loop
    async def test_what_has_expired_while_it_waited_is_dropped(self):
        lane = make_lane()
        lane.submit(call("late", seconds=-1.0))
        lane.submit(call("in time"))
        assert FakeWorker("w").join(lane).take() == [b"in time"]

    @in_loop
    async def test_what_was_given_up_does_not_fill_the_queue(self):
        lane = make_lane(bound=2)
        for given_up in submit(lane, "a", "b"):
            given_up.abandon(DeadlineExceeded("late"))
        submit(lane, "c")
        assert lane.load().queued == 1


class TestRefusals:
    def refusal(self, lane: Lane) -> APIError:
        with pytest.raises(APIError) as caught:
            submit(lane, "x")
        return caught.value

    @in_loop
    async def test_a_full_queue(self):
        lane = make_lane(bound=2)
        submit(lane, "a", "b")
        error = self.refusal(lane)
        assert type(error) is TooManyRequests
        assert str(error).startswith("2 requests wait for the endpoint 'digits' already")
        assert error.retry_after == 5
        assert lane.load().queued == 2

    @in_loop
    async def test_a_deadline_that_would_pass_before_its_turn(self):
        spec = make_spec(max_workers=1)
        lane = make_lane(bound=1000, endpoint=replace(ENDPOINT, spec=spec))
        FakeWorker("w").join(lane)
        submit(lane, *(str(n) for n in range(101)))
        lane.submit(call("nothing is known yet", seconds=0.1))
        now = asyncio.get_running_loop().time()
        for n in range(21):
            lane._rate.ended(now - 2 + n / 10)  # ten a second
        with pytest.raises(TooManyRequests, match=r"101 requests .* about 10.1 s, .* in 5.0 s") as caught:
            lane.submit(call("too late", seconds=5.0), "")
        assert caught.value.code == "deadline_unreachable"
        assert caught.value.retry_after == pytest.approx(11, abs=1)
        lane.submit(call("in time", seconds=20.0))
        lane.submit(call("has its turn soon", seconds=5.0), "bob")

    @in_loop
    async def test_an_endpoint_that_is_being_deleted(self):
        deleted = replace(ENDPOINT, status=EndpointStatus.DELETE_IN_PROGRESS)
        assert type(self.refusal(make_lane(endpoint=deleted))) is NotFound

    @in_loop
    async def test_an_endpoint_without_a_worker_that_has_failed(self):
        asked: list[str] = []
        failed = replace(ENDPOINT, status=EndpointStatus.UPDATE_FAILED, status_reason="ImportError: torch")
        error = self.refusal(make_lane(endpoint=failed, asked=asked))
        assert type(error) is Unavailable
        assert "ImportError: torch" in str(error)
        assert error.retry_after is not None
        assert asked == [failed.id], "a further try is asked for"

    @in_loop
    async def test_a_failed_update_with_an_old_worker_serves(self):
        lane = make_lane(endpoint=replace(ENDPOINT, status=EndpointStatus.UPDATE_FAILED))
        worker = FakeWorker("w").join(lane)
        submit(lane, "a", "b")
        assert worker.take() == [b"a"]

    @in_loop
    async def test_an_endpoint_that_may_have_no_worker(self):
        lane = make_lane(endpoint=replace(ENDPOINT, spec=make_spec(min_workers=0, max_workers=0)))
        assert "max_workers=0" in str(self.refusal(lane))

    @in_loop
    async def test_a_refusal_ends_with_a_worker_that_is_ready(self):
        lane = make_lane()
        lane.refusal = "no GPU"
        assert "no GPU" in str(self.refusal(lane))
        FakeWorker("w").join(lane)
        submit(lane, "a", "b")
        assert lane.refusal is None

    @in_loop
    async def test_all_that_waits_is_refused_at_once(self):
        lane = make_lane()
        calls = submit(lane, "a", "b")
        lane.refuse_waiting(Unavailable("the server stops"))
        for one in calls:
            with pytest.raises(Unavailable, match="the server stops"):
                await one.answer
        assert lane.load().queued == 0


@in_loop
async def test_the_bundle_serves_while_a_worker_has_answered_a_moment_ago():
    lane = make_lane()
    first = FakeWorker("a").join(lane)
    second = FakeWorker("b").join(lane)
    assert not lane.serves(second.link)
    submit(lane, "1", "2")
    first.take()
    first.answer()
    assert lane.serves(second.link)
    first.die()
    assert lane.serves(second.link)
