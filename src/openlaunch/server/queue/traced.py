"""Tasks of a server that traces: each attempt is a span within the request that has submitted the task."""

from functools import partial

from openlaunch.errors import APIError
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.logs import current_scope
from openlaunch.server.queue.running import Runner, TaskWork
from openlaunch.server.queue.service import TaskService
from openlaunch.server.spans import TRACE, Spans, Trace, traceparent_in, with_traceparent
from openlaunch.tasks.queue import ClaimedTask
from openlaunch_worker.frames import Body, Outcome


def trace_tasks(tasks: TaskService, spans: Spans) -> None:
    """Store with each task the span of the request that submits it, and send a span for each attempt."""
    tasks.submitter.traced = _with_submitter
    tasks.runner.work_of = partial(TracedTask, spans)


def _with_submitter(payload: Body) -> Body:
    trace: Trace | None = (current_scope() or {}).get(TRACE)
    return payload if trace is None else with_traceparent(payload, trace.traceparent)


class TracedTask(TaskWork):
    """A task whose attempt is a span, if the request was traced that has submitted it."""

    __slots__ = ("_spans", "_trace")

    def __init__(
        self, spans: Spans, runner: Runner, lane: Lane, task: ClaimedTask, payload: bytes, seconds: float
    ) -> None:
        super().__init__(runner, lane, task, payload, seconds)
        self._spans = spans
        self._trace = Trace.of(traceparent_in(payload))
        if self._trace is not None:
            self._trace.work = self
            self.body = with_traceparent(payload, self._trace.traceparent_of_work)

    def finished(self, outcome: int, payload: Body) -> None:
        self._end_span("model_error" if outcome == Outcome.FAILURE else None)
        super().finished(outcome, payload)

    def count_end(self, error: APIError | None) -> None:
        super().count_end(error)
        self._end_span("cancelled" if error is None else error.code)

    def _end_span(self, error: str | None) -> None:
        trace, self._trace = self._trace, None
        if trace is None:
            return
        self._spans.remember(self.task.id, trace)
        attributes: dict[str, str | int] = {
            "messaging.system": "openlaunch",
            "messaging.operation.type": "process",
            "messaging.destination.name": self.lane.endpoint.name,
            "messaging.message.id": self.task.id,
            "openlaunch.owner": self.task.owner,
            "openlaunch.attempt": self.task.attempts,
        }
        self._spans.end(trace, f"task {self.lane.endpoint.name}", "CONSUMER", attributes, error)
