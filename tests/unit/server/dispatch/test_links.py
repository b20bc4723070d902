"""The gateway's side of a worker's connection: who may connect, and what breaks it."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from server_links import GRACE_SECONDS, START, FakeWorker, Owner, Pieces, WaitedCall, Wire, in_loop

from openlaunch.server.dispatch.links import WorkerLink
from openlaunch_worker.documents import Start
from openlaunch_worker.frames import BUNDLE_PIECE, REQUEST_HEAD, Flags, FrameParser, Kind


class OneWorker(Owner):
    """Has a bundle of these pieces, and remembers what it is told."""

    def __init__(self, *pieces: bytes, broken: bool = False) -> None:
        super().__init__()
        self.expected = replace(self.expected, start=START, bundle=self._bundle)
        self.told: list[tuple[str, str]] = []
        self._pieces, self._broken = pieces, broken

    async def _bundle(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        if self._broken:
            raise OSError("the artifact is gone")

    def load_failed(self, reason: str, traceback: str | None) -> None:
        self.told.append(("load failed", reason))

    def closed(self, link: WorkerLink) -> None:
        self.told.append((link.worker_id, "closed"))


def connect(owner: Owner) -> tuple[WorkerLink, Wire]:
    link, wire = WorkerLink(owner), Wire()
    link.connection_made(wire)
    return link, wire


async def sent(wire: Wire, kind: int, seconds: float = 10.0) -> list[tuple[int, int, bytes]]:
    """All frames up to the last one of this kind, an empty one for BUNDLE."""
    async with asyncio.timeout(seconds):
        while True:
            frames = list(FrameParser().feed(bytes(wire.written)))
            if any(k == kind and (kind != Kind.BUNDLE or not payload) for k, _, payload in frames):
                return frames
            await asyncio.sleep(0)


def call() -> WaitedCall:
    return WaitedCall(b'{"args": {}}', Flags.PICKLED, 30)


class TestHandshake:
    @in_loop
    async def test_an_expected_worker_gets_its_start_and_its_bundle_in_pieces(self):
        bundle = b"x" * (BUNDLE_PIECE * 2 + 7)
        link, wire = connect(OneWorker(bundle, b"yz"))
        frames = await sent(wire, Kind.BUNDLE)
        assert [kind for kind, _, _ in frames] == [Kind.START] + [Kind.BUNDLE] * 5
        assert Start.from_json(json.loads(frames[0][2])) == START
        assert b"".join(payload for _, _, payload in frames[1:]) == bundle + b"yz"
        assert (link.worker_id, link.slots) == ("w", 1)
        link.connection_lost(None)

    @in_loop
    async def test_a_bundle_that_can_not_be_read_is_a_failure_to_load(self):
        owner = OneWorker(b"half", broken=True)
        link, wire = connect(owner)
        async with asyncio.timeout(10):
            while not wire.closed:
                await asyncio.sleep(0)
        assert owner.told == [("load failed", "the bundle could not be read: the artifact is gone")]
        link.connection_lost(None)

    @in_loop
    async def test_a_slow_worker_holds_the_bundle_back(self):
        link, wire = WorkerLink(OneWorker(b"x")), Wire()
        link.pause_writing()
        link.connection_made(wire)
        await sent(wire, Kind.START)
        for _ in range(5):
            await asyncio.sleep(0)
        assert [k for k, _, _ in FrameParser().feed(bytes(wire.written))] == [Kind.START]
        link.resume_writing()
        assert await sent(wire, Kind.BUNDLE)
        link.connection_lost(None)


class TestProtocol:
    @in_loop
    async def test_a_request_carries_its_flags_and_the_seconds_that_are_left(self):
        worker, one = FakeWorker("w").join(), call()
        worker.link.send_work(one)
        ((kind, _, payload),) = worker.frames()
        flags, left = REQUEST_HEAD.unpack(payload[: REQUEST_HEAD.size])
        assert (kind, flags) == (Kind.REQUEST, Flags.PICKLED)
        assert left == pytest.approx(30, abs=5)
        assert payload[REQUEST_HEAD.size :] == one.body
        worker.die()

    @in_loop
    async def test_a_request_that_is_given_up_is_cancelled_in_its_worker_once(self):
        worker, one = FakeWorker("w").join(), call()
        worker.link.send_work(one)
        worker.take()
        one.abandon(None)
        assert [kind for kind, _, _ in worker.frames()] == [Kind.CANCEL]
        worker.answer()
        one.abandon(None)
        assert worker.frames() == []
        worker.die()

    @in_loop
    async def test_chunks_reach_their_stream(self):
        worker, stream = FakeWorker("w").join(), Pieces()
        worker.link.send_work(stream)
        worker.take()
        worker.chunk(b"a")
        worker.chunk(b"b")
        assert stream.seen == [b"a", b"b"]
        worker.die()

    @in_loop
    async def test_draining_is_told_only_while_the_connection_is_open(self):
        worker = FakeWorker("w").join()
        worker.link.drain()
        assert [kind for kind, _, _ in worker.frames()] == [Kind.DRAIN]
        worker.wire.closed = True
        worker.link.drain()
        assert worker.frames() == []
        worker.die()


@in_loop
async def test_a_worker_in_which_something_does_not_stop_is_told_of_once():
    worker = FakeWorker("w", slots=3).join()
    calls = [call() for _ in range(3)]
    for one in calls:
        worker.link.send_work(one)
    worker.take()
    for one in calls[:2]:
        one.abandon(None)
    await asyncio.sleep(GRACE_SECONDS * 3)
    assert worker.owner.stuck_times == 1
    assert len(worker.link.running) == 3


@in_loop
async def test_what_stops_in_time_is_no_reason_to_replace_a_worker():
    worker = FakeWorker("w", slots=2).join()
    first, second = call(), call()
    worker.link.send_work(first)
    worker.link.send_work(second)
    worker.take()
    first.abandon(None)
    worker.answer()
    await asyncio.sleep(GRACE_SECONDS * 3)
    assert worker.owner.stuck_times == 0
    assert list(worker.link.running.values()) == [second]


@in_loop
async def test_a_connection_that_has_ended_is_not_told_of_any_more():
    worker = FakeWorker("w").join()
    one = call()
    worker.link.send_work(one)
    one.abandon(None)
    worker.die()
    await asyncio.sleep(GRACE_SECONDS * 3)
    assert worker.owner.stuck_times == 0
