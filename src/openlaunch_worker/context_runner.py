"""Runs a predict function that takes a context, and sends what it says before its end."""

import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, Final

from openlaunch_worker.context import Context, Notes
from openlaunch_worker.documents import About, Limits
from openlaunch_worker.frames import Outcome
from openlaunch_worker.jobs import Job
from openlaunch_worker.outbox import Outbox
from openlaunch_worker.runner import Runner
from openlaunch_worker.threads import ThreadPool

SAY_SECONDS: Final = 0.05
"""How long notes are gathered that come faster than they are sent."""

_CONTEXT: Final[ContextVar[Context]] = ContextVar("context")


class ContextRunner(Runner):
    """Gives each call the context of its request, in the parameter `name`."""

    def __init__(
        self,
        predict: Callable[..., Any],
        name: str,
        limits: Limits,
        outbox: Outbox,
        on_idle: Callable[[], None],
        thread: ThreadPool,
    ) -> None:
        super().__init__(predict, limits, outbox, on_idle, thread)
        self._predict = partial(_with_context, self._predict, name)
        self._about: dict[int, About] = {}
        self._notes: dict[int, Notes] = {}
        self._said_at: dict[int, float] = {}

    def tell(self, request_id: int, about: About) -> None:
        """Keep what the next request of this id is about."""
        self._about[request_id] = about

    def _call(self, job: Job) -> Any:
        _CONTEXT.set(self._context_of(job))
        return super()._call(job)

    def _context_of(self, job: Job) -> Context:
        about = self._about.get(job.id) or About()
        trace = job.traceparent or about.headers.get("traceparent")
        left = job.deadline - self._loop.time()
        return Context(
            headers=about.headers,
            request_id=about.request_id,
            caller=about.caller,
            deadline=time.time() + left if job.limit > 0 else None,
            trace=None if trace is None else str(trace),
            is_cancelled=lambda: job.stop is not None,
            notes=self._new_notes(job) if about.is_heard else None,
        )

    def _new_notes(self, job: Job) -> Notes:
        notes = self._notes[job.id] = Notes(lambda: self._outbox.post(self._say_soon, job))
        return notes

    def _say_soon(self, job: Job) -> None:
        now = self._loop.time()
        due = self._said_at.get(job.id, 0.0) + SAY_SECONDS
        if due > now:
            self._loop.call_at(due, self._say, job)
        else:
            self._say(job)

    def _say(self, job: Job) -> None:
        if self._running.get(job.id) is job and job.stop is None and (notes := self._notes.get(job.id)):
            self._said_at[job.id] = self._loop.time()
            for kind, payload in notes.take():
                self._outbox.control(kind, job.id, payload)

    def _finish_from_thread(self, job: Job, outcome: Outcome, body: bytes) -> None:
        # By the loop, so that what was said before goes out before.
        self._outbox.post(self._finish, job, outcome, body)

    def _finish(self, job: Job, outcome: Outcome, body: bytes) -> None:
        self._say(job)
        super()._finish(job, outcome, body)

    def _forget(self, job: Job) -> None:
        for kept in (self._about, self._notes, self._said_at):
            kept.pop(job.id, None)
        super()._forget(job)


def _with_context(predict: Callable[..., Any], name: str, /, *args: Any, **values: Any) -> Any:
    values[name] = _CONTEXT.get()
    return predict(*args, **values)
