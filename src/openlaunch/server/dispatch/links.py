"""The gateway's side of the connections to workers: handshake, frames, and who is where."""

import asyncio
import json
import logging
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

from openlaunch.server.dispatch.outcome_counts import OutcomeCounts
from openlaunch.server.dispatch.work import Work
from openlaunch_worker.documents import Start
from openlaunch_worker.frames import (
    BUNDLE_PIECE,
    COPY_BYTES,
    CREDIT_BODY,
    MAX_PAYLOAD,
    FrameError,
    FrameParser,
    Kind,
    Outcome,
    encode,
    request_head,
)

log = logging.getLogger(__name__)
HANDSHAKE_SECONDS = 30.0
MAX_HELLO_BYTES = 64 * 1024
"""Limit on a frame of a connection that has not sent a valid token yet."""

DRAIN_FRAME = encode(Kind.DRAIN, 0)
_LAST_OUTCOME = int(max(Outcome))


@dataclass(frozen=True, slots=True)
class Expected:
    """A worker that may connect, and what it gets."""

    worker_id: str
    slots: int
    start: Start
    bundle: Callable[[], AsyncIterator[bytes]] = field(repr=False)
    grace: float = 5.0
    """Seconds within which what is cancelled has to stop."""
    generation: int = 0


class LinkOwner(Protocol):
    """The receiver of what happens on a link: the dispatcher."""

    def expected(self, token: str) -> Expected | None:
        """The worker that may connect with this token, once: a token is used up by asking."""
        ...

    def link_ready(self, link: "WorkerLink") -> None:
        """The worker takes requests."""
        ...

    def link_load_failed(self, worker_id: str, reason: str, traceback: str | None) -> None:
        """The worker could not load its bundle."""
        ...

    def link_leaving(self, worker_id: str) -> None:
        """The worker wants to end: it waits for a DRAIN."""
        ...

    def link_freed(self, link: "WorkerLink") -> None:
        """A slot of the worker has become free."""
        ...

    def link_stuck(self, link: "WorkerLink") -> None:
        """Something in the worker has not stopped within the grace time after it was cancelled; said once."""
        ...

    def link_closed(self, link: "WorkerLink") -> None:
        """The connection of a worker that had said HELLO is gone."""
        ...


class WorkerLink(asyncio.Protocol):
    """One worker's connection: requests go out with an id, answers come back in any order."""

    def __init__(self, owner: LinkOwner) -> None:
        self.worker_id = ""
        self.running: dict[int, Work] = {}
        self.draining = False
        self.slots = 0
        self.generation = 0
        self.pool: deque[WorkerLink] | None = None
        """The lane's list of workers with a free slot that is for this one; None: it gets nothing."""
        self.listed = False
        """Whether that list holds this one."""
        self.counts: OutcomeCounts | None = None
        """Where its answers are counted, if they are."""
        self.excused = False
        """Whether its end tells nothing against its bundle: it has answered, or runs alone what has ended others."""
        self.stuck = False
        """Whether something in it does not stop."""
        self._grace = 0.0
        self._stopping: dict[int, asyncio.TimerHandle] = {}
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._parser = FrameParser(MAX_HELLO_BYTES)
        self._loaded = False
        self._last_id = 0
        self._frames: list[bytes] = []
        self._large = False
        """Whether one of them is so large that joining them would cost more than a write of each."""
        self._writable = asyncio.Event()
        self._writable.set()
        self._sending: asyncio.Task[None] | None = None
        self._handlers: dict[int, Callable[[int, bytes], None]] = {
            Kind.RESULT: self._on_answer,
            Kind.END: self._on_answer,
            Kind.CHUNK: self._on_chunk,
            Kind.HELLO: self._on_hello,
            Kind.READY: self._on_ready,
            Kind.LOAD_FAILED: self._on_load_failed,
            Kind.LEAVING: self._on_leaving,
        }

    # What the dispatcher calls.

    def send_work(self, work: Work) -> None:
        """Send a request to the worker. The caller has seen to it that a slot is free."""
        self._last_id = request_id = self._last_id % 0xFFFFFFFF + 1
        self.running[request_id] = work
        left = max(work.deadline - self._loop.time(), 0.001)
        body = work.body
        size = len(body)
        head = request_head(request_id, work.flags, left, size)
        if size >= COPY_BYTES:
            self._large = True
        if self._frames or len(self.running) > 1:
            self._send(head)
            self._frames.append(body)
        else:
            self._frames += (head, body)
            self.flush()  # an idle worker need not wait for what else comes in this turn of the loop
        work.started(self, request_id)

    def cancel(self, request_id: int) -> None:
        """Tell the worker that nobody wants the answer. The slot is free once the worker has stopped the request."""
        if request_id in self.running and request_id not in self._stopping:
            self._send(encode(Kind.CANCEL, request_id))
            self._stopping[request_id] = self._loop.call_later(self._grace, self._not_stopped)

    def _not_stopped(self) -> None:
        if not self.stuck:
            self.stuck = True
            self._owner.link_stuck(self)

    def credit(self, request_id: int, size: int) -> None:
        """Grant the worker `size` more bytes of a stream, which have been passed on."""
        self._send(encode(Kind.CREDIT, request_id, CREDIT_BODY.pack(size)))

    def _send(self, frame: bytes) -> None:
        """Queue a frame: all frames of one turn of the loop go out in one write."""
        self._frames.append(frame)
        if len(self._frames) == 1:
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what was sent so far."""
        frames, self._frames = self._frames, []
        if not frames or self._transport.is_closing():
            return
        if self._large:
            self._large = False
            self._transport.writelines(frames)
        else:
            self._transport.write(b"".join(frames))

    def drain(self) -> None:
        """Ask the worker to finish what runs and then to exit."""
        self.draining = True
        self._send(DRAIN_FRAME)

    def close(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has another base class
        self._deadline = self._loop.call_later(HANDSHAKE_SECONDS, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        try:
            for kind, request_id, payload in self._parser.feed(data):
                self._handlers[kind](request_id, payload)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            # The error may say what was sent, which is a tenant's: its type is enough to go by.
            what = error if isinstance(error, FrameError) else type(error).__name__
            log.error("worker %s broke the protocol: %s; its connection is closed", self.worker_id, what)
            self._transport.abort()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        for timer in self._stopping.values():
            timer.cancel()
        self._writable.set()
        if self._sending is not None:
            self._sending.cancel()
        if self.worker_id:
            self._owner.link_closed(self)

    # What the worker sends.

    def _on_hello(self, _: int, payload: bytes) -> None:
        hello = json.loads(payload)
        expected = self._owner.expected(str(hello["token"]))
        if self.worker_id or expected is None:
            raise FrameError("HELLO with a token that is not expected")
        self._deadline.cancel()
        self._parser.max_payload = MAX_PAYLOAD
        self.worker_id, self.slots, self._grace = expected.worker_id, expected.slots, expected.grace
        self.generation = expected.generation
        self._sending = self._loop.create_task(self._send_bundle(expected))

    async def _send_bundle(self, expected: Expected) -> None:
        try:
            self._transport.write(encode(Kind.START, 0, json.dumps(expected.start.to_json()).encode()))
            async for piece in expected.bundle():
                for start in range(0, len(piece), BUNDLE_PIECE):
                    await self._writable.wait()
                    self._transport.write(encode(Kind.BUNDLE, 0, piece[start : start + BUNDLE_PIECE]))
            self._transport.write(encode(Kind.BUNDLE, 0))
        except Exception as error:
            log.exception("the bundle could not be sent to worker %s", self.worker_id)
            self._owner.link_load_failed(self.worker_id, f"the bundle could not be read: {error}", None)
            self._transport.abort()

    def _on_ready(self, _: int, payload: bytes) -> None:
        self._end_loading()
        self._owner.link_ready(self)

    def _end_loading(self) -> None:
        if not self.worker_id or self._loaded:
            raise FrameError("a bundle was loaded twice, or before there was one")
        self._loaded = True

    def _on_load_failed(self, _: int, payload: bytes) -> None:
        failure = json.loads(payload)
        reason, traceback = str(failure["reason"]), failure.get("traceback")
        self._end_loading()
        self._owner.link_load_failed(self.worker_id, reason, None if traceback is None else str(traceback))

    def _on_leaving(self, _: int, payload: bytes) -> None:
        self._owner.link_leaving(self.worker_id)

    def _on_answer(self, request_id: int, payload: bytes) -> None:
        outcome = payload[0]
        if outcome > _LAST_OUTCOME:
            raise FrameError(f"an answer with the outcome {outcome}")
        work = self.running.pop(request_id)
        if self._stopping and (timer := self._stopping.pop(request_id, None)) is not None:
            timer.cancel()
        self.excused = True
        work.finished(outcome, payload[1:])
        if self.counts is not None:
            self.counts.ended(outcome, payload[1:])
        self._owner.link_freed(self)

    def _on_chunk(self, request_id: int, payload: bytes) -> None:
        self.running[request_id].chunk(payload)


class LinkServer:
    """The unix socket that workers connect to, in a private folder with a short path.

    The folder is not in the data directory: a socket's path may be at most 104 bytes long on macOS.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="openlaunch-")
        self.address = str(Path(self._folder.name) / "workers.sock")
        self._server: asyncio.Server | None = None

    async def start(self, owner: LinkOwner) -> None:
        """Listen; the folder is readable by this user alone."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: WorkerLink(owner), self.address, backlog=1024)

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
        self._folder.cleanup()
