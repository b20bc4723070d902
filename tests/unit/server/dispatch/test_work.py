"""What a slot is used for: calls and streams end exactly once, and a slow reader slows the worker down."""

import asyncio
import time
import weakref

import pytest
from server_links import Pieces, WaitedCall, in_loop

from openlaunch.errors import DeadlineExceeded, ServerError, Unavailable, WorkerDied
from openlaunch.server.metrics.counts import PredictionCounts
from openlaunch.server.prediction.deadlines import Deadlines
from openlaunch_worker.frames import STREAM_WINDOW, Flags


class Link:
    """What work gets of a link."""

    def __init__(self) -> None:
        self.read_at = time.monotonic()
        self.cancelled: list[int] = []
        self.credits: list[tuple[int, int]] = []

    def cancel(self, request_id: int) -> None:
        self.cancelled.append(request_id)

    def credit(self, request_id: int, size: int) -> None:
        self.credits.append((request_id, size))

    def failed(self, name: str, reason: object) -> None:
        """A failure is counted."""


class TestFaultsOfOneClient:
    """What passes an answer on may raise; whoever brought the answer works for others too."""

    @in_loop
    async def test_an_answer_that_can_not_be_passed_on_is_logged(self, caplog):
        call = WaitedCall()
        call.answer.cancel()  # so that setting its result raises
        call.finished(0, b"answer")
        assert "could not be passed on" in caplog.text

    @in_loop
    async def test_a_fault_of_the_server_ends_the_request_with_the_id_that_the_log_has(self, caplog):
        class Broken(WaitedCall):
            def answered(self, outcome: int, payload: bytes) -> None:
                raise RuntimeError("a fault")

        call = Broken()
        call.finished(0, b"answer")
        with pytest.raises(ServerError) as caught:
            await call.answer
        assert f"failed on the request {caught.value.request_id}" in caplog.text

    @in_loop
    async def test_an_error_that_can_not_be_passed_on_is_logged(self, caplog):
        for end in ("lost", "refused", "abandon"):
            caplog.clear()
            call = WaitedCall()
            call.answer.cancel()
            getattr(call, end)("died" if end == "lost" else Unavailable("no"))
            assert "could not be passed on" in caplog.text

    @in_loop
    async def test_a_piece_that_can_not_be_passed_on_ends_its_stream_alone(self, caplog):
        class Broken(Pieces):
            def piece(self, data: bytes) -> None:
                raise RuntimeError("closed")

        stream, link = Broken(), Link()
        stream.started(link, 3)
        stream.chunk(b"data: 1\n\n")
        assert (stream.cancelled, link.cancelled) == (True, [3])
        assert isinstance(stream.seen[-1], ServerError)


class TestCall:
    @in_loop
    async def test_the_first_end_holds(self):
        call = WaitedCall()
        call.finished(0, b"first")
        call.finished(1, b"second")
        call.lost("was killed by signal 9")
        call.refused(Unavailable("no"))
        call.abandon(DeadlineExceeded("late"))
        assert await call.answer == (0, b"first")

    @in_loop
    async def test_a_lost_worker_is_an_error_that_says_how(self):
        call = WaitedCall()
        call.lost("was killed by signal 9")
        with pytest.raises(WorkerDied, match="was killed by signal 9"):
            await call.answer

    @in_loop
    async def test_giving_up_tells_the_worker(self):
        call, link = WaitedCall(), Link()
        call.started(link, 7)
        assert call.running
        call.abandon(DeadlineExceeded("late"))
        assert (call.cancelled, link.cancelled) == (True, [7])
        with pytest.raises(DeadlineExceeded):
            await call.answer

    @in_loop
    async def test_giving_up_what_only_waits_tells_nobody(self):
        call = WaitedCall()
        assert not call.running
        call.abandon(None)
        assert call.cancelled
        assert not call.answer.done()


def started(link: Link | None = None) -> Pieces:
    stream = Pieces()
    stream.started(link or Link(), 7)
    return stream


class TestStream:
    def test_what_comes_in_one_read_is_counted_as_one_that_came(self):
        link = Link()
        stream = started(link)
        stream.numbers = PredictionCounts()
        for later in (0.25, 0.0, 0.0, 0.5, 0.0):
            link.read_at += later
            stream.chunk(b"a")
        numbers = stream.numbers
        assert (sum(numbers.first_item.counts), sum(numbers.gaps.counts)) == (1, 1)
        assert numbers.gaps.sum == pytest.approx(0.5)
        assert 0 <= numbers.first_item.sum <= 0.25
        assert numbers.response_bytes == 5

    def test_wants_chunks(self):
        assert Pieces(Flags.PICKLED).flags == Flags.STREAM | Flags.PICKLED

    def test_pieces_before_an_end_come_and_none_after_it(self):
        stream = started()
        stream.chunk(b"a")
        stream.chunk(b"b")
        stream.finished(0, b"end")
        stream.chunk(b"c")
        assert stream.seen == [b"a", b"b", b"end"]

    def test_pieces_before_a_failure_come(self):
        stream = started()
        stream.chunk(b"a")
        stream.lost("exited with code 1")
        first, error = stream.seen
        assert first == b"a"
        assert isinstance(error, WorkerDied)

    def test_the_worker_gets_credit_for_all_that_was_passed_on_in_few_frames(self):
        link = Link()
        stream = started(link)
        for _ in range(64):
            stream.passed_on(STREAM_WINDOW // 16)
        assert sum(size for _, size in link.credits) == 64 * (STREAM_WINDOW // 16)
        assert {request_id for request_id, _ in link.credits} == {7}
        assert len(link.credits) == 16

    def test_a_stream_that_has_ended_gets_no_credit(self):
        link = Link()
        stream = started(link)
        stream.finished(0, b"")
        stream.passed_on(STREAM_WINDOW)
        assert link.credits == []


class TestDeadlines:
    @in_loop
    async def test_each_call_ends_at_its_own_and_the_others_go_on(self):
        deadlines = Deadlines()
        calls = {seconds: WaitedCall(seconds=seconds) for seconds in (60.0, 0.05, 0.01)}
        for call in calls.values():
            deadlines.add(call)
        for seconds in (0.01, 0.05):
            with pytest.raises(DeadlineExceeded, match="waited for a worker"):
                await asyncio.wait_for(calls[seconds].answer, 10)
        assert not calls[60.0].cancelled

    @in_loop
    async def test_a_call_that_has_ended_is_left_alone(self):
        deadlines = Deadlines()
        ended, late = (WaitedCall(seconds=seconds, deadlines=deadlines) for seconds in (0.01, 0.02))
        deadlines.add(ended)
        deadlines.add(late)
        ended.finished(0, b"in time")
        with pytest.raises(DeadlineExceeded):
            await asyncio.wait_for(late.answer, 10)
        assert await ended.answer == (0, b"in time")

    @in_loop
    async def test_a_call_that_ends_in_whatever_way_is_not_held(self):
        deadlines = Deadlines()
        for end in (
            lambda call: call.finished(0, b""),
            lambda call: call.refused(Unavailable("no")),
            lambda call: call.lost("was killed by signal 9"),
            lambda call: call.abandon(),
        ):
            call = WaitedCall(deadlines=deadlines)
            held = weakref.ref(call)
            deadlines.add(call)
            end(call)
            del call
            assert held() is None
