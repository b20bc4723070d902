"""The requests under way: each gets exactly one answer, on time."""

import asyncio
import traceback
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from openlaunch_worker import answers, tensors
from openlaunch_worker.documents import Limits
from openlaunch_worker.failures import Refusal, Unserved, explain, user_traceback
from openlaunch_worker.frames import Flags, Kind, Outcome
from openlaunch_worker.interrupts import Interrupts
from openlaunch_worker.jobs import Job, Stop
from openlaunch_worker.log_allowance import Allowance
from openlaunch_worker.memory import LOOK_AFTER, LOOK_DELAY, MEMORY
from openlaunch_worker.outbox import Outbox
from openlaunch_worker.process import UNENDED, log

STOPPED: Final = (Outcome.CANCELLED, b"")
MISSED_SECONDS: Final = 1.0
"""How long a bundle's server that nothing listens for may take to end, which says more of why."""
_UNSERVED: Final = Outcome.UNSERVED
_IN_PARTS: Final = int(Flags.IN_PARTS)
_NO_SERVER: Final = "nothing listens on the port of its server any longer"
_FAILED: Final = 500
_EXPIRED: Final = 504
_untold: Final = Allowance(20, 2.0)
"""Failures whose tracebacks foreign callers don't see, and which go to the log."""


class JobsInFlight:
    """Keeps the jobs under way, stops them, and answers each once. A runner begins them.

    Every method but `_answer` is for the loop's thread.
    """

    def __init__(self, limits: Limits, outbox: Outbox, on_idle: Callable[[], None]) -> None:
        self._limits = limits
        self._outbox = outbox
        self._on_idle = on_idle
        self._loop = asyncio.get_running_loop()
        self._interrupts = Interrupts()
        self._running: dict[int, Job] = {}
        # Jobs that no thread has begun. What takes a job out decides what becomes of it: a thread runs it,
        # or the loop drops it. Taking a key out of a dict happens once, in whichever thread.
        self._queued: dict[int, Job] = {}
        self._ended = 0
        self.on_full: Callable[[Kind, str], None] = lambda kind, reason: None
        """Called when the worker should be replaced: what to ask for, and why."""
        self._next_expiry = float("inf")
        self._expiry_timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        return not self._running

    def cancel(self, request_id: int) -> None:
        """Stop a request whose answer nobody wants. Requests that have ended are ignored."""
        if (job := self._running.get(request_id)) is not None:
            self._stop(job, Stop.CANCELLED)

    def credit(self, request_id: int, size: int) -> None:
        """Count `size` bytes of a stream as passed on. Requests that have ended are ignored."""
        job = self._running.get(request_id)
        if job is not None and job.stream is not None:
            job.stream.grant(size)

    def _answer(self, job: Job, value: Any) -> tuple[Outcome, bytes]:
        most = self._limits.max_result_bytes
        for output in list(UNENDED) if UNENDED else ():
            output.pass_on()
        if job.stream is not None:
            return Outcome.SUCCESS, event_of(job)(value, most, job.typed) + answers.END_EVENT
        if job.wants_pickle:
            return Outcome.PICKLED, answers.pickled(value, most)
        if job.accepts and job.tensors is not None:
            return Outcome.BINARY, tensors.answer(value, job.tensors, most)
        if job.accepts & _IN_PARTS:
            return answers.in_parts(value, most, job.typed)
        if job.accepts and (binary := answers.binary(value, most, job.accepts)) is not None:
            return Outcome.BINARY, binary
        return Outcome.SUCCESS, answers.success(value, most, job.typed)

    def _stop(self, job: Job, stop: Stop) -> None:
        if job.stop is not None:
            return
        job.stop = stop
        if self._queued.pop(job.id, None) is not None:
            self._finish(job, *STOPPED)
            return
        if job.transfer is not None:
            job.transfer.abort()
        if job.task is not None:
            job.task.cancel()
        if job.stream is not None:
            job.stream.stop()
        self._interrupts.interrupt(job)

    def _finish(self, job: Job, outcome: Outcome, body: bytes) -> None:
        """Send the answer, which frees the slot. A job that was stopped has no other answer than that."""
        if job.stop is Stop.CANCELLED:
            outcome, body = Outcome.CANCELLED, b""
        elif job.stop is Stop.EXPIRED:
            passed = f"the deadline of {job.limit:.3g} seconds passed before the request was done"
            outcome, body = failure(job, Refusal(f"{passed}: allow more, or retry later", _EXPIRED))
        elif outcome is _UNSERVED:
            self._loop.call_later(MISSED_SECONDS, self.on_full, Kind.UNHEALTHY, _NO_SERVER)
        is_last = len(self._running) == 1  # nothing else can come to go with it
        if job.stream is None:
            self._outbox.answer(Kind.RESULT, job.id, outcome, body, flushed=is_last)
        else:
            job.stream.send()
            self._outbox.answer(Kind.END, job.id, outcome, body, flushed=is_last)
        if is_last:
            self._outbox.flush()
        self._forget(job)

    def _forget(self, job: Job) -> None:
        del self._running[job.id]
        if job.scratch is not None:
            job.scratch.remove()
        self._ended += 1
        if self._ended >= MEMORY.look_at:
            self._plan_look()
        if not self._running:
            self._on_idle()

    def _plan_look(self) -> None:
        if MEMORY.look_at == 0:  # at once, so that no further request meets the bound
            self._look_at_memory()
        else:
            MEMORY.look_at = self._ended + LOOK_AFTER
            self._loop.call_later(LOOK_DELAY, self._look_at_memory)

    def _look_at_memory(self) -> None:
        if (advice := MEMORY.look(self._ended, idle=not self._running)) is not None:
            self.on_full(*advice)

    def _expect_expiry(self, deadline: float) -> None:
        # One timer, for the next deadline, because hardly any request reaches its own.
        if self._expiry_timer is not None:
            self._expiry_timer.cancel()
        self._next_expiry = deadline
        self._expiry_timer = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        now = self._loop.time()
        for job in [job for job in self._running.values() if job.deadline <= now]:
            self._stop(job, Stop.EXPIRED)
        self._next_expiry, self._expiry_timer = float("inf"), None
        left = [job.deadline for job in self._running.values() if now < job.deadline < float("inf")]
        if left:
            self._expect_expiry(min(left))


def event_of(job: Job) -> Callable[[Any, int, bool], bytes]:
    """Return what makes the event of an item of a job's stream."""
    if (wanted := job.tensors) is None:
        return answers.event

    def event(item: Any, most: int, as_typed: bool) -> bytes:
        return answers.event(tensors.text(item, wanted, most), 2 * most, as_typed)

    return event


def failure(job: Job, error: BaseException) -> tuple[Outcome, bytes]:
    """Return the end of a job that failed like this. What a foreign caller does not see goes to the log."""
    if isinstance(error, Unserved):
        return Outcome.UNSERVED, b""
    hint = _make_room(job, error) if isinstance(error, MemoryError) else None
    try:
        if job.foreign and not isinstance(error, Refusal) and _untold.take(monotonic()):
            log(f"a request of another owner failed:\n{user_traceback(error)}")
        text, status_code, described = explain(error, foreign=job.foreign)
    except BaseException as problem:
        names = f"{type(error).__name__}, which can't be shown: {type(problem).__name__}"
        text, status_code, described = f"the model raised {names}", _FAILED, None
    if hint is not None and described is not None:
        text = f"{text.rstrip()}\n{hint}"
        described["message"] = f"{described['message']}\n{hint}".strip()
    body = answers.failure if job.stream is None else answers.failure_event
    return Outcome.FAILURE, body(text, status_code, described)


def no_memory(size: int) -> str:
    """Say how much memory there is for a request of this size, and what to do."""
    hint = "give the endpoint more `memory`, or send and return less at a time"
    return f"{MEMORY.state()}; the request has {size} bytes: {hint}"


def _make_room(job: Job, error: MemoryError) -> str:
    """Free what a job that has met the bound of memory holds, and say what the bound is."""
    MEMORY.failed()
    hint = no_memory(job.size)
    traceback.clear_frames(error.__traceback__)
    job.args = None
    return hint
