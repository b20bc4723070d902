"""Workers as a lane sees them: real links, whose bytes stay in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from functools import wraps
from typing import Any

from openlaunch.errors import APIError
from openlaunch.server.dispatch.arriving_answers import ArrivingAnswers
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.links import Expected, WorkerLink
from openlaunch.server.dispatch.recent_outcomes import Tally
from openlaunch.server.dispatch.work import Call, StreamCall, Work
from openlaunch.server.metrics.counts import PredictionCounts
from openlaunch.server.prediction.deadlines import Deadlines
from openlaunch_worker.documents import Limits, Start
from openlaunch_worker.frames import REQUEST_HEAD, Flags, FrameParser, Kind, Outcome, encode

GRACE_SECONDS = 0.05
START = Start({}, Limits(1, 1 << 20, 1 << 20, 1.0, False))


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in an event loop of its own."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class WaitedCall(Call):
    """A call whose end is awaited: `answer` is a future of (outcome, payload)."""

    def __init__(
        self,
        body: bytes = b"{}",
        flags: Flags = Flags.NONE,
        seconds: float = 60.0,
        deadlines: Deadlines | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(body, flags, loop.time() + seconds, deadlines)
        self.sender = "ada"
        self.answer: asyncio.Future[tuple[int, bytes]] = loop.create_future()

    @property
    def name(self) -> str:
        return "request req_1"

    @property
    def owner(self) -> str:
        return self.sender

    def answered(self, outcome: int, payload: bytes) -> None:
        self.answer.set_result((outcome, payload))

    def failed(self, error: APIError) -> None:
        self.answer.set_exception(error)
        self.answer.exception()


class Pieces(StreamCall):
    """Keeps its pieces."""

    def __init__(self, flags: Flags = Flags.NONE) -> None:
        super().__init__(b"{}", flags, 0.0)
        self.seen: list[bytes | int | APIError] = []

    @property
    def name(self) -> str:
        return "request req_2"

    @property
    def owner(self) -> str:
        return "ada"

    def piece(self, data: bytes) -> None:
        self.seen.append(data)

    def answered(self, outcome: int, payload: bytes) -> None:
        self.seen.append(payload)

    def failed(self, error: APIError) -> None:
        self.seen.append(error)


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False
        self.is_read = True

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """What comes is given to the link by the test."""

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True


async def no_bundle() -> AsyncIterator[bytes]:
    """A bundle without a byte."""
    for piece in ():
        yield piece


class Owner:
    """Does what a member of the fleet does with its link, for one lane."""

    def __init__(self, name: str = "w", slots: int = 1, generation: int = 1) -> None:
        start = replace(START, limits=replace(START.limits, per_worker=slots))
        self.expected = Expected(name, start, no_bundle, GRACE_SECONDS, generation)
        self.arriving = ArrivingAnswers(1 << 30)
        self.lane: Lane | None = None
        self.stuck_times = 0
        self.notes: list[tuple[str, str]] = []
        self.numbers = PredictionCounts()
        self.tally = Tally(lambda worker_id, text: self.notes.append((worker_id, text)), lambda: 0.0)

    def ready(self, link: WorkerLink) -> None:
        if self.lane is not None:
            self.lane.add_worker(link)

    def load_failed(self, reason: str, traceback: str | None) -> None:
        raise AssertionError(reason)

    def leaving(self, reason: str) -> None:
        raise AssertionError("no worker is told to end here")

    def unhealthy(self, reason: str) -> None:
        raise AssertionError("every worker is healthy here")

    def worn(self, reason: str) -> None:
        """It serves on."""

    def freed(self, link: WorkerLink) -> None:
        if self.lane is not None:
            self.lane.freed(link)

    def rested(self, problem: str, *, asleep: bool) -> None:
        raise AssertionError("no worker sleeps here")

    def unserved(self, link: WorkerLink, work: Work) -> None:
        raise AssertionError("every worker has a server here")

    def heard(self, link: WorkerLink) -> None:
        if self.lane is not None:
            self.lane.heard(link)

    def stuck(self) -> None:
        self.stuck_times += 1

    def closed(self, link: WorkerLink) -> None:
        if self.lane is not None:
            self.lane.remove_worker(link)


class FakeWorker:
    """The worker at the other end of a link."""

    def __init__(self, name: str, slots: int = 1, generation: int = 1) -> None:
        self.wire, self.owner = Wire(), Owner(name, slots, generation)
        self.link = WorkerLink(self.owner)
        self.link.connection_made(self.wire)
        self._parser = FrameParser()
        self._frames: list[tuple[int, int, bytes]] = []
        self.waiting: list[int] = []
        self.hears = True
        """Whether it answers a CANCEL; a worker that is stopped does not."""

    def join(self, lane: Lane | None = None) -> "FakeWorker":
        """Say READY."""
        self.owner.lane = lane
        self.link.data_received(encode(Kind.READY, 0, b"{}"))
        return self

    def frames(self) -> list[tuple[int, int, bytes]]:
        """What came since the last call, without the handshake's frames."""
        self._read()
        frames, self._frames = self._frames, []
        return frames

    def _read(self) -> None:
        self.link.flush()
        sent, self.wire.written = bytes(self.wire.written), bytearray()
        frames = [f for f in self._parser.feed(sent) if f[0] not in (Kind.START, Kind.BUNDLE)]
        self._frames += frames
        for kind, request_id, _ in frames:
            if kind == Kind.CANCEL and self.hears:
                self.link.data_received(encode(Kind.HEARD, request_id))

    def take(self) -> list[bytes]:
        """The bodies of the requests that came since the last call."""
        requests = [f for f in self.frames() if f[0] == Kind.REQUEST]
        self.waiting += [request_id for _, request_id, _ in requests]
        return [payload[REQUEST_HEAD.size :] for _, _, payload in requests]

    def answer(self, body: bytes = b"{}", outcome: Outcome = Outcome.SUCCESS) -> None:
        """Answer the oldest request that was taken."""
        self._read()
        payload = bytes([outcome]) + body
        self.link.data_received(encode(Kind.RESULT, self.waiting.pop(0), payload))

    def chunk(self, data: bytes) -> None:
        """Send a piece of the stream that was taken last."""
        self.link.data_received(encode(Kind.CHUNK, self.waiting[-1], data))

    def die(self) -> None:
        """End the connection."""
        self.wire.closed = True
        self.link.connection_lost(None)
