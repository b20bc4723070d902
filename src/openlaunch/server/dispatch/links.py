"""The gateway's side of the connection to a worker: its bundle and requests go out, its answers come back."""

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Protocol

from openlaunch.errors import Unavailable
from openlaunch.server.asgi import server_fault
from openlaunch.server.dispatch.answer_rules import check_answer, read_object, size_limits
from openlaunch.server.dispatch.arriving_answers import ArrivingAnswer, ArrivingAnswers
from openlaunch.server.dispatch.frame_link import FrameLink, handlers
from openlaunch.server.dispatch.recent_outcomes import Tally, traceback_of
from openlaunch.server.dispatch.trial_counts import OutcomeCounts
from openlaunch.server.dispatch.work import QUICK_BYTES, Work
from openlaunch.server.metrics.counts import PredictionCounts
from openlaunch_worker.documents import Start
from openlaunch_worker.frames import (
    BUNDLE_PIECE,
    COPY_BYTES,
    CREDIT_BODY,
    Body,
    FrameError,
    Kind,
    Outcome,
    encode,
    request_head,
)

log = logging.getLogger(__name__)

MAX_UNREAD_BYTES = 1024 * 1024
"""Limit on what a worker has not read yet, beside the requests that it runs."""

MAX_WORDS = 500
"""Limit on what a worker says of why it ends, in bytes."""

DRAIN_FRAME = encode(Kind.DRAIN, 0)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a worker gets that connects."""

    worker_id: str
    start: Start
    bundle: Callable[[], AsyncIterator[bytes]] = field(repr=False)
    grace: float = 5.0
    """Seconds within which what is cancelled has to stop."""
    generation: int = 0
    max_requests: int = 0
    """Requests after which the worker is to be replaced; 0: never."""


class LinkOwner(Protocol):
    """The receiver of what happens on a link."""

    arriving: ArrivingAnswers
    expected: Expected
    numbers: PredictionCounts
    tally: Tally

    def ready(self, link: "WorkerLink") -> None:
        """Note that the worker has loaded its bundle."""
        ...

    def load_failed(self, reason: str, traceback: str | None) -> None:
        """Note that the worker could not load its bundle."""
        ...

    def leaving(self, reason: str) -> None:
        """Drain the worker, which wants to end."""
        ...

    def worn(self, reason: str) -> None:
        """Replace the worker, which serves until another can."""
        ...

    def unhealthy(self, reason: str) -> None:
        """Drain the worker, whose bundle says that it is not healthy."""
        ...

    def freed(self, link: "WorkerLink") -> None:
        """Use a slot of the worker that has become free."""
        ...

    def unserved(self, link: "WorkerLink", work: Work) -> None:
        """Give this to another worker, and nothing more to this one: it says soon why, or ends."""
        ...

    def heard(self, link: "WorkerLink") -> None:
        """Use the worker again: it has heard of all that was cancelled."""
        ...

    def stuck(self) -> None:
        """Note once that something in the worker has not stopped within the grace time after it was cancelled."""
        ...

    def rested(self, problem: str, *, asleep: bool) -> None:
        """Note that the worker's server has fallen asleep, or has woken up; `problem` is why it has not."""
        ...

    def closed(self, link: "WorkerLink") -> None:
        """Note that the connection is gone."""
        ...


class WorkerLink(FrameLink):
    """One worker's connection: requests go out with an id, answers come back in any order."""

    def __init__(self, owner: LinkOwner) -> None:
        super().__init__(_LOADING)
        expected = owner.expected
        self.worker_id = expected.worker_id
        self.slots = expected.start.limits.per_worker
        self.generation = expected.generation
        self.running: dict[int, Work] = {}
        self.draining = False
        self.takes_work = True
        """Whether it may be sent requests: it is open, not draining, and has heard of each CANCEL.

        A worker that is stopped or whose interpreter is held up by a request hears of none, and would only hold up
        what it is sent, until it is replaced.
        """
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
        self.is_stuck = False
        """Whether something in it does not stop."""
        self._owner = owner
        self._tally = owner.tally
        self._numbers = owner.numbers
        self._freed = owner.freed
        self._stopping: dict[int, asyncio.TimerHandle] = {}
        self._max_result_bytes = expected.start.limits.max_result_bytes
        self._size_limits = size_limits(self._max_result_bytes)
        self._last_id = 0
        self._worn_at = expected.max_requests
        self._said: set[int] = set()
        """Kinds of frames that the worker may send once, and has sent."""
        self._rests: Kind | None = None
        """SLEEP while the worker falls asleep, WAKE while it wakes up."""
        self._unheard = 0
        """CANCELs that the worker has not answered yet."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._sending: asyncio.Task[None] | None = self._loop.create_task(
            self._send_bundle(self._owner.expected)
        )

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
            self._owner.load_failed(f"the bundle could not be read: {error}", None)
            self.close()

    def send_work(self, work: Work) -> None:
        """Send a request to the worker. The caller has seen to it that a slot is free."""
        self._last_id = request_id = self._last_id % 0xFFFFFFFF + 1
        self.running[request_id] = work
        left = max(work.deadline - self._loop.time(), 0.001)
        body = work.body
        size = len(body)
        work.numbers = numbers = self._numbers
        numbers.request_bytes += size
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
        if request_id == self._worn_at:
            self._owner.worn(f"it has had {request_id} requests")

    def _send_with_context(self, work: Work) -> None:
        about = json.dumps(work.about().to_json()).encode()
        self._send(encode(Kind.CONTEXT, self._last_id % 0xFFFFFFFF + 1, about))
        WorkerLink.send_work(self, work)

    def cancel(self, request_id: int) -> None:
        """Tell the worker that nobody wants the answer. The slot is free once the worker has stopped the request."""
        if request_id in self.running and request_id not in self._stopping:
            self._send(encode(Kind.CANCEL, request_id))
            self._unheard += 1
            self.takes_work = False
            self._await_stop(request_id)

    def _await_stop(self, request_id: int) -> None:
        """Have the worker replaced where a request that is cancelled does not stop."""
        self._stopping[request_id] = self._loop.call_later(self._owner.expected.grace, self._not_stopped)

    def _not_stopped(self) -> None:
        if not self.is_stuck:
            self.is_stuck = True
            self._owner.stuck()

    def failed(self, name: str, reason: Callable[[], str]) -> None:
        """Count the failure of a prediction that ran here, and write it to the endpoint's log."""
        self._tally.failed(self.worker_id, name, reason)

    def ended_without_answer(self, work: Work, reason: str) -> None:
        """Count a prediction that ran when the worker died."""
        self._tally.predictions += 1
        if not work.cancelled:
            self.failed(work.name, lambda: f"the worker {reason}")

    def credit(self, request_id: int, size: int) -> None:
        """Grant the worker `size` more bytes of a stream, which have been passed on."""
        self._send(encode(Kind.CREDIT, request_id, CREDIT_BODY.pack(size)))

    def rest(self, kind: Kind) -> None:
        """Send a SLEEP, while nothing runs, or a WAKE."""
        self._rests = kind
        self._send(encode(kind, 0))

    def drain(self) -> None:
        """Ask the worker to finish what runs and then to exit."""
        if not self.draining:
            self.draining = True
            self.takes_work = False
            self._send(DRAIN_FRAME)

    def close(self) -> None:
        self.takes_work = False  # the loop says only later that the connection is lost
        super().close()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in self._stopping.values():
            timer.cancel()
        self._writable.set()
        if self._sending is not None:
            self._sending.cancel()
        self._owner.closed(self)

    def _check_head(self, kind: int, request_id: int, length: int) -> None:
        super()._check_head(kind, request_id, length)
        if kind in _OF_REQUESTS:
            work = self.running.get(request_id)
            if work is None:
                raise _not_running(kind)
            if kind == Kind.CHUNK:
                work.check_chunk()

    def _new_buffer(self, kind: int, request_id: int, length: int) -> bytearray:
        if kind not in _OF_REQUESTS:
            return super()._new_buffer(kind, request_id, length)
        answer = ArrivingAnswer(self.running[request_id].owner, length)
        self._owner.arriving.admit(answer, self._transport, partial(self._refuse_large, kind, request_id))
        return answer

    def _refuse_large(self, kind: int, request_id: int) -> None:
        """Drop an answer that has begun to come, because there is no memory for it."""
        self._parser.replace_large(b"" if kind == Kind.CHUNK else bytes((Outcome.CANCELLED,)))
        self.cancel(request_id)
        text = "the model has answered, but other large answers take up the memory for it"
        self.running[request_id].abandon(Unavailable(text, code="answers_full", retry_after=1))

    def _check_unread(self) -> None:
        """End the link of a worker that answers what it has not read, for which more and more would be kept."""
        running = sum(len(work.body) for work in self.running.values())
        if (
            self._handlers is _SERVING
            and self._transport.get_write_buffer_size() - running > MAX_UNREAD_BYTES
        ):
            self._break_off("it answers requests and does not read them")

    def _fail_on(self, fault: Exception, kind: int, request_id: int) -> None:
        """End the one request on which the server fails: its worker has broken nothing, and works for others."""
        if kind not in _OF_REQUESTS:
            super()._fail_on(fault, kind, request_id)
            return
        error, work = server_fault(log, fault), self.running.get(request_id)
        if work is None:
            return  # it has been answered; what failed came after that
        if kind == Kind.CHUNK:
            work.fail_on(error)
            return
        del self.running[request_id]
        if (timer := self._stopping.pop(request_id, None)) is not None:
            timer.cancel()
        work.fail_on(error)
        self._freed(self)

    def _on_ready(self, kind: int, request_id: int, payload: Body) -> None:
        self._handlers = _SERVING
        self._owner.ready(self)

    def _on_wants_context(self, kind: int, request_id: int, payload: Body) -> None:
        # In place of the method, so that other links need not look whether there is to be a context.
        self.send_work = self._send_with_context  # type: ignore[method-assign]

    def _on_note(self, kind: int, request_id: int, payload: Body) -> None:
        try:
            work = self.running[request_id]
        except KeyError:
            raise _not_running(kind) from None
        if not work.cancelled:
            work.note(kind, payload)

    def _on_load_failed(self, kind: int, request_id: int, payload: Body) -> None:
        failure = read_object(payload, "a LOAD_FAILED")
        reason, traceback = failure.get("reason"), failure.get("traceback")
        if type(reason) is not str or not (traceback is None or type(traceback) is str):
            raise FrameError("a LOAD_FAILED without a reason, or with a traceback that is not text")
        self._handlers = _FAILED
        self._owner.load_failed(reason, traceback)

    def _on_leaving(self, kind: int, request_id: int, payload: Body) -> None:
        self._note_once(kind)
        self._owner.leaving(_words(payload))

    def _on_unhealthy(self, kind: int, request_id: int, payload: Body) -> None:
        self._note_once(kind)
        self._owner.unhealthy(_words(payload))

    def _on_rested(self, kind: int, request_id: int, payload: Body) -> None:
        asleep = kind == Kind.ASLEEP
        if self._rests is not (Kind.SLEEP if asleep else Kind.WAKE):
            raise FrameError(f"an {Kind(kind).name} that was not asked for")
        self._rests = None
        self._owner.rested(_words(payload), asleep=asleep)

    def _note_once(self, kind: int) -> None:
        if kind in self._said:
            raise FrameError(f"a second {Kind(kind).name}")
        self._said.add(kind)

    def _on_renew(self, kind: int, request_id: int, payload: Body) -> None:
        self._owner.worn(_words(payload))

    def _on_batch(self, kind: int, request_id: int, payload: Body) -> None:
        rule = self._owner.expected.start.limits.batch
        size = CREDIT_BODY.unpack(payload)[0] if len(payload) == CREDIT_BODY.size else 0
        if rule is None or not 0 < size <= rule.max_size:
            raise FrameError("a BATCH of a size that no batch of this worker can have")
        self._numbers.batches.observe(size)

    def _on_answer(self, kind: int, request_id: int, payload: Body) -> None:
        try:
            work = self.running[request_id]
        except KeyError:
            raise _not_running(kind) from None
        if kind != work.answer_kind or not payload:
            raise _not_running(kind)
        outcome = payload[0]
        if type(payload) is bytes:  # cheaper than isinstance
            body: Body = payload[1:]
        else:
            assert isinstance(payload, bytearray)
            del payload[:1]  # which moves nothing
            body = payload
        size = len(body)
        if outcome or size > self._max_result_bytes:
            body = check_answer(work, outcome, body, self._max_result_bytes)
            if outcome == Outcome.UNSERVED:
                self._unserved(request_id, work)
                return
            if outcome == Outcome.CANCELLED and request_id not in self._stopping:
                raise FrameError("an answer without a value to a request that was not cancelled")
            if outcome == Outcome.FAILURE and not work.cancelled:
                self.failed(work.name, lambda: traceback_of(bytes(body)))
        if size > QUICK_BYTES and kind == Kind.END:
            work.check_events(body)
        del self.running[request_id]
        if self._stopping and (timer := self._stopping.pop(request_id, None)) is not None:
            timer.cancel()
        self.answered = True
        tally = self._tally
        tally.predictions += 1
        if tally.sampler is not None:
            tally.sampler.answered(work, outcome, body, is_stream=kind == Kind.END)
        self._numbers.response_bytes += size
        work.finished(outcome, body)
        if self.counts is not None:
            self.counts.ended(outcome, body, monotonic() - work.started_at, work.first_item_after)
        self._freed(self)

    def _unserved(self, request_id: int, work: Work) -> None:
        """Have another worker run what this one has not, because its bundle's own server is gone."""
        del self.running[request_id]
        if (timer := self._stopping.pop(request_id, None)) is not None:
            timer.cancel()
        self._owner.unserved(self, work)

    def _on_chunk(self, kind: int, request_id: int, payload: Body) -> None:
        try:
            work = self.running[request_id]
        except KeyError:
            raise _not_running(kind) from None
        if self._tally.sampler is not None:
            self._tally.sampler.piece(work, payload)
        work.chunk(payload)

    def _on_head(self, kind: int, request_id: int, payload: Body) -> None:
        try:
            work = self.running[request_id]
        except KeyError:
            raise _not_running(kind) from None
        if not work.cancelled:
            work.head(payload)

    def _on_heard(self, kind: int, request_id: int, payload: Body) -> None:
        if not self._unheard:
            raise FrameError("a HEARD without a CANCEL before it")
        self._unheard -= 1
        self.takes_work = not self._unheard and not self.draining
        if self.takes_work:
            self._owner.heard(self)


def _words(payload: Body) -> str:
    """Return what a worker says as one line that may be shown."""
    text = " ".join(str(payload[:MAX_WORDS], "utf-8", "replace").split())
    return "".join(letter for letter in text if letter.isprintable())


def _not_running(kind: int) -> FrameError:
    return FrameError(f"a frame {Kind(kind).name} for a request that does not run, or is answered otherwise")


_OF_REQUESTS = (Kind.RESULT, Kind.END, Kind.CHUNK)
_FAILED = handlers((Kind.LEAVING, WorkerLink._on_leaving))
_LOADING = handlers(
    (Kind.WANTS_CONTEXT, WorkerLink._on_wants_context),
    (Kind.READY, WorkerLink._on_ready),
    (Kind.LOAD_FAILED, WorkerLink._on_load_failed),
    (Kind.LEAVING, WorkerLink._on_leaving),
)
_SERVING = handlers(
    (Kind.RESULT, WorkerLink._on_answer),
    (Kind.END, WorkerLink._on_answer),
    (Kind.CHUNK, WorkerLink._on_chunk),
    (Kind.PROGRESS, WorkerLink._on_note),
    (Kind.PARTIAL, WorkerLink._on_note),
    (Kind.HEAD, WorkerLink._on_head),
    (Kind.HEARD, WorkerLink._on_heard),
    (Kind.LEAVING, WorkerLink._on_leaving),
    (Kind.RENEW, WorkerLink._on_renew),
    (Kind.BATCH, WorkerLink._on_batch),
    (Kind.UNHEALTHY, WorkerLink._on_unhealthy),
    (Kind.ASLEEP, WorkerLink._on_rested),
    (Kind.AWAKE, WorkerLink._on_rested),
)
