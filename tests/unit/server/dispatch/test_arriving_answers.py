"""Large answers on their way from workers: their memory is counted until its end, and owners have shares of it."""

import asyncio

import pytest
from server_links import FakeWorker, Pieces, WaitedCall, in_loop

from openlaunch.errors import Unavailable
from openlaunch.server.dispatch import arriving_answers
from openlaunch.server.dispatch.arriving_answers import ArrivingAnswers
from openlaunch_worker.frames import LARGE_BYTES, Kind, Outcome, encode

ANSWER = b"\x00" + b"x" * LARGE_BYTES
SIZE = len(ANSWER)


class Answering:
    """A worker that runs one request of an owner and has begun to send a large answer."""

    def __init__(self, arriving, owner="ada", kind=Kind.RESULT, answer=ANSWER):
        self.worker = FakeWorker("w")
        self.worker.owner.arriving = arriving
        self.worker.join()
        self.call = Pieces() if kind == Kind.CHUNK else WaitedCall()
        self.call.sender = owner
        self.worker.link.send_work(self.call)
        self.worker.take()
        frame = encode(kind, self.worker.waiting[0], answer)
        self.rest = frame[1000:]
        self.worker.link.data_received(frame[:1000])

    @property
    def is_read(self):
        return self.worker.wire.is_read

    def go_on(self):
        self.worker.link.data_received(self.rest)

    def result(self):
        return self.call.answer.result()


async def turns():
    for _ in range(3):
        await asyncio.sleep(0)


@in_loop
async def test_a_worker_whose_answer_has_no_room_is_read_when_there_is():
    arriving = ArrivingAnswers(2 * SIZE)
    first, second = Answering(arriving), Answering(arriving)
    assert (first.is_read, second.is_read) == (True, False)
    first.go_on()
    await turns()
    assert not second.is_read, "the first answer is still held"
    assert first.result() == (Outcome.SUCCESS, b"x" * LARGE_BYTES)
    first.call = None
    await turns()
    assert second.is_read
    second.go_on()
    assert second.result()[1] == b"x" * LARGE_BYTES
    first.worker.die()
    second.worker.die()


@in_loop
async def test_one_owner_leaves_room_for_another():
    arriving = ArrivingAnswers(2 * SIZE)
    ada, more, bob = Answering(arriving), Answering(arriving), Answering(arriving, "bob")
    assert (ada.is_read, more.is_read, bob.is_read) == (True, False, True)
    for each in (ada, more, bob):
        each.worker.die()


@in_loop
async def test_an_answer_larger_than_the_limit_is_taken_where_it_is_alone():
    arriving = ArrivingAnswers(0)
    first, second = Answering(arriving), Answering(arriving, "bob")
    assert (first.is_read, second.is_read) == (True, False)
    first.go_on()
    first.call = None
    await turns()
    assert second.is_read
    for each in (first, second):
        each.worker.die()


@pytest.mark.parametrize("kind", [Kind.RESULT, Kind.CHUNK])
@in_loop
async def test_an_answer_without_room_for_long_is_refused_and_its_worker_serves_on(monkeypatch, kind):
    monkeypatch.setattr(arriving_answers, "WAIT_SECONDS", 0)
    arriving = ArrivingAnswers(SIZE)
    first, second = Answering(arriving), Answering(arriving, kind=kind)
    await turns()
    link = second.worker.link
    assert second.is_read
    assert not link.broke
    second.go_on()
    second.worker.frames()  # it hears of the CANCEL behind what it was sending
    if kind == Kind.RESULT:
        with pytest.raises(Unavailable, match="other large answers"):
            second.result()
    else:
        assert [error.code for error in second.call.seen] == ["answers_full"]
        link.data_received(encode(Kind.END, second.worker.waiting[0], bytes((Outcome.CANCELLED,))))
    assert (link.running, link.takes_work, link.broke) == ({}, True, "")
    for each in (first, second):
        each.worker.die()


@in_loop
async def test_a_worker_that_ends_while_its_answer_waits_holds_nothing():
    arriving = ArrivingAnswers(SIZE)
    first, second, third = Answering(arriving), Answering(arriving), Answering(arriving)
    second.worker.die()
    first.go_on()
    first.call = None
    await turns()
    assert third.is_read
    for each in (first, third):
        each.worker.die()
