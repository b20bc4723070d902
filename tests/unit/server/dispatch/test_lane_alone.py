"""Work that runs alone in a lane's worker."""

from lanes import AloneCall, make_lane, submit
from server_links import FakeWorker, in_loop

from openlaunch.controller.fleet import Load


class TestAlone:
    @in_loop
    async def test_it_waits_until_a_worker_runs_nothing_and_the_worker_waits_for_it(self):
        lane = make_lane()
        worker = FakeWorker("w", slots=3).join(lane)
        submit(lane, "a", "b")
        lane.submit(AloneCall(b"alone"))
        submit(lane, "c")
        assert worker.take() == [b"a", b"b"]
        worker.answer()
        assert worker.take() == []
        worker.answer()
        assert worker.take() == [b"alone"]
        assert lane.load() == Load(in_flight=1, queued=1)
        worker.answer()
        assert worker.take() == [b"c"]

    @in_loop
    async def test_the_other_workers_go_on(self):
        lane = make_lane()
        first, second = (FakeWorker(name, slots=2).join(lane) for name in "ab")
        submit(lane, "1", "2", "3")
        lane.submit(AloneCall(b"alone"))
        submit(lane, "4", "5")
        assert (first.take(), second.take()) == ([b"1", b"3"], [b"2"])
        first.answer()
        assert first.take() == [b"4"]
        second.answer()
        assert second.take() == [b"alone"]

    @in_loop
    async def test_several_run_one_after_the_other(self):
        lane = make_lane()
        worker = FakeWorker("w", slots=2).join(lane)
        for name in (b"1", b"2"):
            lane.submit(AloneCall(name))
        assert worker.take() == [b"1"]
        worker.answer()
        assert worker.take() == [b"2"]

    @in_loop
    async def test_owners_take_turns(self):
        lane = make_lane()
        worker = FakeWorker("w").join(lane)
        for owner, name in (("a", b"a0"), ("a", b"a1"), ("a", b"a2"), ("b", b"b0")):
            lane.submit(AloneCall(name), owner)
        ran = []
        while running := worker.take():
            ran += running
            worker.answer()
        assert ran == [b"a0", b"a1", b"b0", b"a2"]

    @in_loop
    async def test_a_new_worker_takes_other_work_first(self):
        lane = make_lane()
        lane.submit(AloneCall(b"alone"))
        submit(lane, "a")
        worker = FakeWorker("w").join(lane)
        assert worker.take() == [b"a"]
        worker.answer()
        assert worker.take() == [b"alone"]

    @in_loop
    async def test_a_worker_that_ends_meanwhile_hands_its_part_to_another(self):
        lane = make_lane()
        first = FakeWorker("a", slots=2).join(lane)
        submit(lane, "1")
        lane.submit(AloneCall(b"alone"))
        first.die()
        second = FakeWorker("b", slots=2).join(lane)
        assert second.take() == [b"alone"]
        assert second.link.excused

    @in_loop
    async def test_a_worker_is_given_back_when_nobody_wants_it_any_more(self):
        lane = make_lane()
        worker = FakeWorker("w", slots=3).join(lane)
        submit(lane, "a", "b")
        alone = AloneCall(b"alone")
        lane.submit(alone)
        alone.abandon(None)
        assert lane.load().queued == 0
        submit(lane, "c", "d")
        worker.take()
        worker.answer()
        assert worker.take() == [b"c", b"d"]
