"""The gateway's side of the connections to workers: handshake, frames, and who is where."""

import asyncio
import json
import logging
import socket
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from openlaunch.server.dispatch.answer_rules import SMALL_BYTES, check_answer, read_object, size_limits
from openlaunch.server.dispatch.outcome_counts import OutcomeCounts
from openlaunch.server.dispatch.work import Work
from openlaunch.server.operations.listener import Listener
from openlaunch_worker.documents import Start
from openlaunch_worker.frames import (
    BUNDLE_PIECE,
    COPY_BYTES,
    CREDIT_BODY,
    FrameError,
    FrameParser,
    Kind,
    encode,
    request_head,
)

log = logging.getLogger(__name__)
HANDSHAKE_SECONDS = 30.0
MAX_UNREAD_BYTES = 1024 * 1024
"""Limit on what a worker has not read yet, beside the requests that it runs."""

MAX_STRANGERS = 128
"""Connections that have not sent a valid token yet; past the limit, the oldest of them is closed."""

DRAIN_FRAME = encode(Kind.DRAIN, 0)


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
        """Return the worker that may connect with this token, once: a token is used up by asking."""
        ...

    def link_ready(self, link: "WorkerLink") -> None:
        """Note that the worker takes requests."""
        ...

    def link_load_failed(self, worker_id: str, reason: str, traceback: str | None) -> None:
        """Note that the worker could not load its bundle."""
        ...

    def link_leaving(self, worker_id: str) -> None:
        """Note that the worker wants to end: it waits for a DRAIN."""
        ...

    def link_freed(self, link: "WorkerLink") -> None:
        """Use a slot of the worker that has become free."""
        ...

    def link_heard(self, link: "WorkerLink") -> None:
        """Use the worker again: it has heard of all that was cancelled."""
        ...

    def link_stuck(self, link: "WorkerLink") -> None:
        """Note once that something in the worker has not stopped within the grace time after it was cancelled."""
        ...

    def link_closed(self, link: "WorkerLink") -> None:
        """Note that the connection of a worker that had said HELLO is gone."""
        ...


class WorkerLink(asyncio.Protocol):
    """One worker's connection: requests go out with an id, answers come back in any order."""

    def __init__(self, owner: LinkOwner, strangers: "dict[WorkerLink, None] | None" = None) -> None:
        """Wait for a HELLO; `strangers` are the links that have not sent a valid token, the oldest first."""
        self.worker_id = ""
        self._strangers = {} if strangers is None else strangers
        self.running: dict[int, Work] = {}
        self.draining = False
        self.takes_work = True
        """Whether it may be sent requests: it is not draining, and has heard of each CANCEL.

        A worker that is stopped or whose interpreter is held up by a request hears of none, and would only hold up
        what it is sent, until it is replaced.
        """
        self.slots = 0
        self.generation = 0
        self.pool: deque[WorkerLink] | None = None
        """The lane's list of workers with a free slot that is for this one; None: it gets nothing."""
        self.listed = False
        """Whether that list holds this one."""
        self.counts: OutcomeCounts | None = None
        """Where its answers are counted, if they are."""
        self.answered = False
        """Whether it has answered a request: its bundle serves."""
        self.excused = False
        """Whether its end tells nothing against its bundle, because it runs alone what has ended others."""
        self.stuck = False
        """Whether something in it does not stop."""
        self.broke = ""
        """How it broke the protocol."""
        self._grace = 0.0
        self._stopping: dict[int, asyncio.TimerHandle] = {}
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._parser = FrameParser(self._check_head)
        self._handlers = _GREETING
        self._size_limits: dict[int, int] = {}
        self._max_result_bytes = 0
        self._last_id = 0
        self._unheard = 0
        """CANCELs that the worker has not answered yet."""
        self._frames: list[bytes] = []
        self._large = False
        """Whether one of them is so large that joining them would cost more than a write of each."""
        self._writable = asyncio.Event()
        self._writable.set()
        self._sending: asyncio.Task[None] | None = None

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
            self._unheard += 1
            self.takes_work = False
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
        if not self._writable.is_set():
            self._check_unread()

    def _check_unread(self) -> None:
        """End the link of a worker that answers what it has not read, for which more and more would be kept."""
        unread = self._transport.get_write_buffer_size() - sum(
            len(each.body) for each in self.running.values()
        )
        if self._handlers is _SERVING and unread > MAX_UNREAD_BYTES:
            self._break_off("it answers requests and does not read them")

    def drain(self) -> None:
        """Ask the worker to finish what runs and then to exit."""
        self.draining = True
        self.takes_work = False
        self._send(DRAIN_FRAME)

    def close(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has another base class
        self._deadline = self._loop.call_later(HANDSHAKE_SECONDS, self._transport.abort)
        self._strangers[self] = None
        if len(self._strangers) > MAX_STRANGERS:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.close()

    def data_received(self, data: bytes) -> None:
        try:
            for kind, request_id, payload in self._parser.feed(data):
                self._handlers[kind](self, kind, request_id, payload)
        except FrameError as error:
            self._break_off(str(error))
        except Exception:
            log.exception(
                "a frame of worker %s could not be handled; its connection is closed", self.worker_id
            )
            self._transport.abort()

    def _break_off(self, reason: str) -> None:
        self.broke = f"broke the protocol: {reason}"
        if self.worker_id:  # a stranger must not be able to fill the log
            log.error("worker %s %s; its connection is closed", self.worker_id, self.broke)
        self._transport.abort()

    def _check_head(self, kind: int, request_id: int, length: int) -> None:
        """Refuse a frame by its head, before the rest of it is kept."""
        if self._handlers[kind] is _misplaced:
            _misplaced(self, kind, request_id, b"")
        if kind in (Kind.RESULT, Kind.END, Kind.CHUNK):
            work = self.running.get(request_id)
            if work is None:
                raise _not_running(kind)
            if kind == Kind.CHUNK:
                work.check_chunk()
        if length > (limit := self._size_limits.get(kind, SMALL_BYTES)):
            raise FrameError(f"a frame {Kind(kind).name} of {length} bytes, over the limit of {limit} bytes")

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        self._strangers.pop(self, None)
        for timer in self._stopping.values():
            timer.cancel()
        self._writable.set()
        if self._sending is not None:
            self._sending.cancel()
        if self.worker_id:
            self._owner.link_closed(self)

    # What the worker sends.

    def _on_hello(self, kind: int, request_id: int, payload: bytes) -> None:
        expected = self._owner.expected(str(read_object(payload, "a HELLO").get("token")))
        if expected is None:
            raise FrameError("a HELLO with a token that is not expected")
        self._deadline.cancel()
        self._strangers.pop(self, None)
        self._handlers = _LOADING
        self._max_result_bytes = expected.start.limits.max_result_bytes
        self._size_limits = size_limits(self._max_result_bytes)
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

    def _on_ready(self, kind: int, request_id: int, payload: bytes) -> None:
        self._handlers = _SERVING
        self._owner.link_ready(self)

    def _on_load_failed(self, kind: int, request_id: int, payload: bytes) -> None:
        failure = read_object(payload, "a LOAD_FAILED")
        reason, traceback = failure.get("reason"), failure.get("traceback")
        if type(reason) is not str or not (traceback is None or type(traceback) is str):
            raise FrameError("a LOAD_FAILED without a reason, or with a traceback that is not text")
        self._handlers = _FAILED
        self._owner.link_load_failed(self.worker_id, reason, traceback)

    def _on_leaving(self, kind: int, request_id: int, payload: bytes) -> None:
        self._owner.link_leaving(self.worker_id)

    def _on_answer(self, kind: int, request_id: int, payload: bytes) -> None:
        work = self.running.get(request_id)
        if work is None or kind != work.answer_kind or not payload:
            raise _not_running(kind)
        outcome, body = payload[0], payload[1:]
        if outcome or len(body) > self._max_result_bytes:
            check_answer(work, outcome, body, self._max_result_bytes)
        del self.running[request_id]
        if self._stopping and (timer := self._stopping.pop(request_id, None)) is not None:
            timer.cancel()
        self.answered = True
        work.finished(outcome, body)
        if self.counts is not None:
            self.counts.ended(outcome, body)
        self._owner.link_freed(self)

    def _on_chunk(self, kind: int, request_id: int, payload: bytes) -> None:
        if (work := self.running.get(request_id)) is None:
            raise _not_running(kind)
        work.chunk(payload)

    def _on_heard(self, kind: int, request_id: int, payload: bytes) -> None:
        if not self._unheard:
            raise FrameError("a HEARD without a CANCEL before it")
        self._unheard -= 1
        self.takes_work = not self._unheard and not self.draining
        if self.takes_work:
            self._owner.link_heard(self)


def _not_running(kind: int) -> FrameError:
    return FrameError(f"a frame {Kind(kind).name} for a request that does not run, or is answered otherwise")


Handler = Callable[[WorkerLink, int, int, bytes], None]


def _misplaced(link: WorkerLink, kind: int, request_id: int, payload: bytes) -> None:
    raise FrameError(f"a frame of the kind {kind}, which does not belong there")


def _table(*known: tuple[Kind, Handler]) -> Sequence[Handler]:
    """Return what handles each kind of frame in one state of a link."""
    table: list[Handler] = [_misplaced] * 256
    for kind, handler in known:
        table[kind] = handler
    return table


_GREETING = _table((Kind.HELLO, WorkerLink._on_hello))
_FAILED = _table((Kind.LEAVING, WorkerLink._on_leaving))
_LOADING = _table(
    (Kind.READY, WorkerLink._on_ready),
    (Kind.LOAD_FAILED, WorkerLink._on_load_failed),
    (Kind.LEAVING, WorkerLink._on_leaving),
)
_SERVING = _table(
    (Kind.RESULT, WorkerLink._on_answer),
    (Kind.END, WorkerLink._on_answer),
    (Kind.CHUNK, WorkerLink._on_chunk),
    (Kind.HEARD, WorkerLink._on_heard),
    (Kind.LEAVING, WorkerLink._on_leaving),
)


class LinkServer:
    """The unix socket that workers connect to, in a private folder with a short path.

    The folder is not in the data directory: a socket's path may be at most 104 bytes long on macOS.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="openlaunch-")
        self.address = str(Path(self._folder.name) / "workers.sock")
        self._listener: Listener | None = None
        self._strangers: dict[WorkerLink, None] = {}
        self._opening: set[asyncio.Task[Any]] = set()

    async def start(self, owner: LinkOwner) -> None:
        """Listen for workers in a folder that this user alone can read."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(self.address)
        self._listener = Listener(listener, lambda sock: self._open(owner, sock))
        self._listener.start()

    def _open(self, owner: LinkOwner, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        opened = loop.connect_accepted_socket(lambda: WorkerLink(owner, self._strangers), sock)
        task = loop.create_task(opened)
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._listener is not None:
            self._listener.close()
        self._folder.cleanup()
