"""What a slot is used for: calls and streams end exactly once, and a slow reader slows the worker down."""

import asyncio

import pytest
from server_links import in_loop

from openlaunch.errors import DeadlineExceeded, Unavailable, WorkerDied
from openlaunch.server.work import Call, Stream
from openlaunch_worker.frames import CREDIT_BODY, STREAM_WINDOW, Flags, FrameParser, Kind


class Link:
    """What work gets of a link."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.sent = b""

    def start(self, work: Call, request_id: int = 7) -> None:
        work.started(self.cancel, self.send, request_id)

    def cancel(self) -> None:
        self.cancelled += 1

    def send(self, data: bytes) -> None:
        self.sent += data

    def credits(self) -> list[tuple[int, int]]:
        frames = FrameParser().feed(self.sent)
        return [(request_id, *CREDIT_BODY.unpack(p)) for kind, request_id, p in frames if kind == Kind.CREDIT]


def make(cls: type[Call] = Call, flags: Flags = Flags.NONE) -> Call:
    loop = asyncio.get_running_loop()
    return cls(b"{}", flags, loop.time() + 60, loop)


class TestCall:
    @in_loop
    async def test_the_first_end_holds(self):
        call = make()
        call.finished(0, b"first")
        call.finished(1, b"second")
        call.lost("was killed by signal 9")
        call.refused(Unavailable("no"))
        assert await call.answer == (0, b"first")

    @in_loop
    async def test_a_lost_worker_is_an_error_that_says_how(self):
        call = make()
        call.lost("was killed by signal 9")
        with pytest.raises(WorkerDied, match="was killed by signal 9"):
            await call.answer

    @in_loop
    async def test_giving_up_tells_the_worker(self):
        call, link = make(), Link()
        link.start(call)
        assert call.running
        call.abandon(DeadlineExceeded("late"))
        assert (call.cancelled, link.cancelled) == (True, 1)
        with pytest.raises(DeadlineExceeded):
            await call.answer

    @in_loop
    async def test_giving_up_what_only_waits_tells_nobody(self):
        call = make()
        assert not call.running
        call.abandon(DeadlineExceeded("late"))
        assert call.cancelled

    @in_loop
    async def test_an_error_that_nobody_waits_for_is_not_reported(self, caplog):
        make().refused(Unavailable("no"))
        assert caplog.records == []


class TestStream:
    @in_loop
    async def test_wants_chunks(self):
        assert make(Stream, Flags.PICKLED).flags == Flags.STREAM | Flags.PICKLED

    @in_loop
    async def test_what_is_there_together_goes_out_together_in_order(self):
        stream = make(Stream)
        assert isinstance(stream, Stream)
        stream.chunk(b"a")
        assert await stream.next_pieces() == b"a"
        stream.chunk(b"b")
        stream.chunk(b"c")
        assert await stream.next_pieces() == b"bc"

    @in_loop
    async def test_a_reader_is_woken_by_a_piece_and_by_the_end(self):
        stream = make(Stream)
        assert isinstance(stream, Stream)
        loop = asyncio.get_running_loop()
        loop.call_soon(stream.chunk, b"a")
        assert await stream.next_pieces() == b"a"
        loop.call_soon(stream.finished, 0, b"end")
        assert await stream.next_pieces() == b""
        assert await stream.answer == (0, b"end")

    @in_loop
    async def test_pieces_before_a_failure_still_come(self):
        stream = make(Stream)
        assert isinstance(stream, Stream)
        stream.chunk(b"a")
        stream.lost("exited with code 1")
        assert await stream.next_pieces() == b"a"
        assert await stream.next_pieces() == b""
        with pytest.raises(WorkerDied):
            await stream.answer

    @in_loop
    async def test_the_worker_gets_credit_for_all_that_was_passed_on_in_few_frames(self):
        stream, link = make(Stream), Link()
        assert isinstance(stream, Stream)
        link.start(stream)
        for _ in range(64):
            stream.passed_on(STREAM_WINDOW // 16)
        granted = link.credits()
        assert sum(size for _, size in granted) == 64 * (STREAM_WINDOW // 16)
        assert {request_id for request_id, _ in granted} == {7}
        assert len(granted) == 16

    @in_loop
    async def test_a_stream_that_has_ended_gets_no_credit(self):
        stream, link = make(Stream), Link()
        assert isinstance(stream, Stream)
        link.start(stream)
        stream.finished(0, b"")
        stream.passed_on(STREAM_WINDOW)
        assert link.credits() == []
