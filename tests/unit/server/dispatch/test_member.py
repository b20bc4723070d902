"""Whether a worker takes requests: decided in one place, whatever comes in which order."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lanes import make_lane
from server_links import FakeWorker, Owner, WaitedCall, in_loop

from openlaunch.errors import Unavailable, WorkerDied
from openlaunch.server.dispatch.arriving_answers import ArrivingAnswers
from openlaunch.server.dispatch.member import Member
from openlaunch_worker.frames import Kind, Outcome, encode


class Heard:
    """What the controller is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def worker_ready(self, worker_id: str) -> None:
        self.told.append("ready")

    def worker_load_failed(self, worker_id: str, reason: str, traceback: str | None) -> None:
        self.told.append("load failed")

    def worker_stuck(self, worker_id: str, reason: str) -> None:
        self.told.append("stuck")

    def worker_worn(self, worker_id: str, reason: str) -> None:
        raise AssertionError("no worker is worn here")

    def worker_unhealthy(self, worker_id: str, reason: str) -> None:
        self.told.append("unhealthy")

    def worker_rested(self, worker_id: str, problem: str) -> None:
        self.told.append(problem or "asleep")

    def worker_leaving(self, worker_id: str, reason: str) -> None:
        self.told.append("leaving")

    def worker_lost(self, worker_id: str, reason: str = "") -> None:
        self.told.append(reason or "lost")

    def prediction_failed(self, endpoint_id: str) -> None:
        raise AssertionError("no generation is on trial")

    def worker_note(self, worker_id: str, text: str) -> None:
        self.told.append(text)

    def demand(self, endpoint_id: str) -> None:
        """Something waits for a worker."""


class Fleet:
    """One member, its lane, and the worker at the other end."""

    def __init__(self) -> None:
        self.heard, self.lane = Heard(), make_lane()
        expected = Owner(slots=2).expected
        self.member = Member(expected, "token", self.lane, ArrivingAnswers(0), self.heard)
        self.worker = FakeWorker("w")
        self.member.connect(self.worker.wire)
        assert self.member.link is not None
        self.worker.link = self.member.link

    def says(self, kind: Kind, payload: bytes = b"") -> None:
        if not self.worker.wire.closed:
            self.worker.link.data_received(encode(kind, 0, payload))

    def kinds(self) -> list[int]:
        return [kind for kind, _, _ in self.worker.frames()]

    def takes_requests(self) -> bool:
        self.lane.submit(call := WaitedCall())
        return call.running


@in_loop
async def test_a_worker_takes_requests_from_its_ready_on():
    fleet = Fleet()
    assert not fleet.takes_requests()
    fleet.says(Kind.READY, b"{}")
    assert fleet.heard.told == ["ready"]
    assert fleet.kinds() == [Kind.REQUEST]
    assert fleet.takes_requests()


@in_loop
async def test_one_that_is_drained_before_it_is_ready_never_takes_any():
    fleet = Fleet()
    fleet.member.drain()
    assert fleet.kinds() == []  # it does not read before it is ready
    fleet.says(Kind.READY, b"{}")
    assert fleet.kinds() == [Kind.DRAIN]
    assert fleet.heard.told == []
    assert not fleet.takes_requests()


@pytest.mark.parametrize(("said", "told"), [(Kind.LEAVING, "leaving"), (Kind.UNHEALTHY, "unhealthy")])
@in_loop
async def test_one_that_leaves_or_is_not_healthy_is_drained_at_once_and_runs_what_it_has(said, told):
    fleet = Fleet()
    fleet.says(Kind.READY, b"{}")
    assert fleet.takes_requests()
    fleet.says(said)
    assert fleet.kinds() == [Kind.REQUEST, Kind.DRAIN]
    assert not fleet.takes_requests()
    assert fleet.heard.told == ["ready", told]


@in_loop
async def test_what_has_not_run_in_one_whose_server_is_gone_waits_for_another_before_its_owners_other_work():
    fleet = Fleet()
    fleet.says(Kind.READY, b"{}")
    calls = [WaitedCall(b'{"args": %d}' % number) for number in range(3)]
    for call in calls:
        fleet.lane.submit(call, call.owner)
    fleet.worker.take()
    for _ in range(2):
        fleet.worker.answer(b"", Outcome.UNSERVED)
    assert not any(call.cancelled or call.running for call in calls)
    assert not fleet.takes_requests()
    other = FakeWorker("other", slots=4).join(fleet.lane)
    assert other.take() == [calls[1].body, b"{}", calls[0].body, calls[2].body]  # owners take turns
    other.answer()
    assert await calls[1].answer == (Outcome.SUCCESS, b"{}")
    assert fleet.heard.told == ["ready"]


@in_loop
async def test_one_falls_asleep_once_it_has_finished_what_runs_and_takes_requests_when_it_is_awake():
    fleet = Fleet()
    fleet.says(Kind.READY, b"{}")
    fleet.lane.submit(call := WaitedCall())
    fleet.worker.take()
    fleet.member.rest()
    assert not fleet.takes_requests()
    fleet.worker.answer()
    assert (await call.answer)[0] == Outcome.SUCCESS
    async with asyncio.timeout(10):
        while fleet.kinds() != [Kind.SLEEP]:
            await asyncio.sleep(0.005)
    fleet.says(Kind.ASLEEP)
    assert not fleet.takes_requests()
    fleet.member.wake()
    assert fleet.kinds() == [Kind.WAKE]
    fleet.says(Kind.AWAKE)
    assert Kind.REQUEST in fleet.kinds()  # what has waited
    assert fleet.heard.told == ["ready", "asleep", "ready"]


@in_loop
async def test_one_that_can_not_wake_up_takes_no_requests():
    fleet = Fleet()
    fleet.says(Kind.READY, b"{}")
    fleet.member.wake()
    fleet.says(Kind.AWAKE, b"out of memory")
    assert fleet.heard.told == ["ready", "out of memory"]


@in_loop
async def test_what_has_not_run_is_refused_where_no_worker_comes():
    fleet = Fleet()
    fleet.says(Kind.READY, b"{}")
    fleet.lane.submit(call := WaitedCall())
    fleet.worker.take()
    fleet.lane.refusal = "it can't be loaded"
    fleet.worker.answer(b"", Outcome.UNSERVED)
    with pytest.raises(Unavailable, match="it can't be loaded"):
        await call.answer


@in_loop
async def test_one_that_leaves_before_it_is_ready_is_drained_once_it_is():
    fleet = Fleet()
    fleet.says(Kind.LEAVING)
    fleet.says(Kind.READY, b"{}")
    assert fleet.kinds() == [Kind.DRAIN]
    assert not fleet.takes_requests()


@in_loop
async def test_one_that_has_not_heard_of_a_cancel_takes_no_requests():
    fleet = Fleet()
    fleet.worker.hears = False
    fleet.says(Kind.READY, b"{}")
    fleet.lane.submit(call := WaitedCall())
    call.abandon()
    fleet.kinds()
    fleet.lane.submit(waiting := WaitedCall())
    assert not waiting.running
    fleet.says(Kind.HEARD)
    assert waiting.running
    assert fleet.takes_requests() is False  # both slots are taken: the cancelled one until it has stopped


@in_loop
async def test_what_runs_fails_with_how_its_worker_broke_the_protocol():
    fleet = Fleet()
    fleet.says(Kind.READY, b"{}")
    fleet.lane.submit(call := WaitedCall())
    fleet.says(Kind.READY, b"{}")
    fleet.worker.die()
    assert fleet.heard.told[-1].startswith("broke the protocol: ")
    fleet.member.forget(fleet.heard.told[-1])
    with pytest.raises(WorkerDied, match="broke the protocol"):
        await call.answer


STEPS = {
    "ready": lambda fleet: fleet.says(Kind.READY, b"{}"),
    "drain": lambda fleet: fleet.member.drain(),
    "leaving": lambda fleet: fleet.says(Kind.LEAVING),
    "unhealthy": lambda fleet: fleet.says(Kind.UNHEALTHY),
    "load failed": lambda fleet: fleet.says(Kind.LOAD_FAILED, b'{"reason": "no"}'),
    "lost": lambda fleet: fleet.worker.die(),
    "ended": lambda fleet: fleet.member.forget("ended"),
}


@given(st.lists(st.sampled_from(list(STEPS)), max_size=4))
def test_whatever_comes_in_which_order_only_a_ready_worker_takes_requests(steps):
    @in_loop
    async def main() -> None:
        fleet = Fleet()
        for step in steps:
            STEPS[step](fleet)
        assert fleet.takes_requests() == (steps == ["ready"])

    main()
