"""Predictions and tasks."""

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from openlaunch.client import bucket
from openlaunch.client.effects import (
    IDEMPOTENCY_KEY,
    Attempt,
    Flow,
    Pause,
    Request,
    Response,
    answered_with,
    asked,
    call,
    document_of,
    json_body,
    path_to,
    url_with,
    work,
)
from openlaunch.client.predictions import (
    DONE,
    Answer,
    EndpointRequest,
    Seen,
    StreamReader,
    answer_of,
    checked_request,
    encode,
    parse_answer,
    parse_seen,
    read_answer,
    unpickled,
)
from openlaunch.client.retry import TransportFailure
from openlaunch.client.seconds import check_seconds
from openlaunch.errors import APIError, ConnectionFailed, OpenlaunchError, WaitTimeout
from openlaunch.wire import routes
from openlaunch.wire.ids import new_id
from openlaunch.wire.sse import BEAT, LAST_EVENT_ID, RESUME
from openlaunch.wire.tasks import MAX_BULK, MAX_WAIT_SECONDS

PREDICT_SECONDS = 330.0
"""How long to wait for a prediction that names no timeout: a little longer than the server's own default."""

STREAM_SILENCE_SECONDS = 3630.0
MARGIN_SECONDS = 15.0
"""What an answer may take beyond the time for which the server was asked to hold the request."""

RESUME_SECONDS = 10.0
"""Seconds for which the client tries to resume a stream while the server is unreachable: it keeps one no longer."""

ANSWER_SECONDS = 5.0
"""How long a server that sends beats may take to say whether it has a stream: another one may have to ask for it."""

RESUME_PAUSE_SECONDS = 0.05
"""Twice as long before each further try that follows one which brought nothing."""

STOP_SECONDS = 2.0
OUTAGE_SECONDS = 60.0
"""Seconds for which a wait for a task, which is safe on the server's disk, outlasts an unreachable server."""

BULK_BYTES = 8 * 1024 * 1024
ROTATION_SECONDS = 0.2
EARLY_PAUSE_SECONDS = 0.2
"""Between polls that a server does not hold: because it is stopping, or because it knows no long polls."""


def predict_sync(
    endpoint_id: str, request: EndpointRequest, timeout: float | None = None, limit: float | None = None
) -> Flow[Answer]:
    """Run a prediction and wait for its answer; `limit` is the endpoint's own `timeout_seconds`."""
    default = PREDICT_SECONDS if limit is None else limit + MARGIN_SECONDS
    return (
        yield from answered_with(
            _prediction(routes.SYNC_TASKS, endpoint_id, request, timeout, default), answer_of
        )
    )


def _prediction(
    path: str, endpoint_id: str, request: EndpointRequest, timeout: float | None, default: float
) -> Request:
    headers = _checked(request, timeout).headers()
    body, media_type = encode(request.document(timeout_seconds=timeout), in_parts=True)
    if media_type is not None:
        headers["content-type"] = media_type
    return Request(
        "POST",
        f"{path}?model_endpoint_id={endpoint_id}",
        body,
        headers,
        timeout=default if timeout is None else timeout + MARGIN_SECONDS,
        idempotent=IDEMPOTENCY_KEY in headers,
        prediction=True,
    )


def _checked(request: object, timeout: object = None) -> EndpointRequest:
    check_seconds(timeout)
    if timeout == math.inf:
        raise ValueError(
            "timeout is inf: a number of seconds is needed, or None for the endpoint's own limit"
        )
    return checked_request(request)


class OpenStream:
    """A prediction whose items come one by one, over as many connections as it takes."""

    def __init__(
        self,
        endpoint_id: str,
        request: EndpointRequest,
        timeout: float | None = None,
        limit: float | None = None,
        *,
        resume: bool = True,
    ) -> None:
        self.reader = StreamReader()
        silence = STREAM_SILENCE_SECONDS if limit is None else limit + MARGIN_SECONDS
        first = _prediction(routes.STREAMING_TASKS, endpoint_id, request, timeout, silence)
        headers = {RESUME: "true", **first.headers} if resume else first.headers
        self._request = replace(first, headers=headers, stream=True)
        self.pickled = request.return_pickled
        self._beats = False

    def begin(self) -> Flow[Response]:
        """Send the request; the answer's `stream` is open."""
        response = yield from call(self._request)
        self.reader = StreamReader(response.headers.get(LAST_EVENT_ID))
        self._beats = BEAT in response.headers
        return response

    def resume(self, reason: object = "the connection was closed") -> Flow[Response | None]:
        """Resume where the bytes were cut; None at the stream's own end.

        Raises StreamInterrupted when it can't be resumed.
        """
        last_event_id = self.reader.finish(reason)
        if last_event_id is None:
            return None
        if (again := self.reader.resumes - 1) > 0:
            yield Pause(RESUME_PAUSE_SECONDS * 2**again)
        try:
            return (yield from call(self._after(last_event_id)))
        except (APIError, ConnectionFailed) as error:
            raise self.reader.interrupted(f"{reason}; it can't be resumed: {error}") from error

    def _after(self, last_event_id: str) -> Request:
        headers = {**self._request.headers, LAST_EVENT_ID: last_event_id}
        timeout = ANSWER_SECONDS if self._beats else self._request.timeout
        return replace(
            self._request,
            body=b"",
            headers=headers,
            idempotent=True,
            patience=RESUME_SECONDS,
            timeout=timeout,
        )

    def stop(self) -> Flow[None]:
        """Stop the server from waiting for a resume of a stream that has not ended."""
        last_event_id = self.reader.last_event_id
        if last_event_id is None or self.reader.ended:
            return
        request = replace(self._after(last_event_id), method="DELETE", stream=False, timeout=STOP_SECONDS)
        # A server that does not hear of it stops a little later; a closed client sends nothing.
        with contextlib.suppress(TransportFailure, RuntimeError):
            yield Attempt(request)


def submit(endpoint_id: str, request: EndpointRequest, timeout: float | None = None) -> Flow[str]:
    """Put a task into the queue; gives its id once it is on the server's disk."""
    url = f"{routes.ASYNC_TASKS}?model_endpoint_id={endpoint_id}"
    body = _checked(request, timeout).body(timeout_seconds=timeout)
    return (
        yield from asked(
            _submission(url, body, request.headers()), lambda body: str(document_of(body)["task_id"])
        )
    )


def submit_many(endpoint_id: str, requests: Sequence[EndpointRequest]) -> Flow[list[str]]:
    """Put many tasks into the queue, up to 1,000 with one HTTP request; gives their ids in the same order.

    Raises:
        ValueError: a request has headers or a key of its own, which tasks that travel together can't have.
        APIError: the server refused some; a note tells how many it had taken before.
    """
    for request in requests:
        if _checked(request).extra_headers or request.idempotency_key is not None:
            what = "extra_headers" if request.extra_headers else "an idempotency_key"
            raise ValueError(f"request {request.request_id!r} has {what}: send it with predict()")
    url = f"{routes.ASYNC_TASKS_BULK}?model_endpoint_id={endpoint_id}"
    task_ids: list[str] = []
    for bodies in _batches(request.body() for request in requests):
        body = b'{"requests":[' + b",".join(bodies) + b"]}"
        try:
            task_ids += yield from asked(
                _submission(url, body, {}), lambda body: document_of(body)["task_ids"]
            )
        except OpenlaunchError as error:
            error.add_note(f"{len(task_ids)} of {len(requests)} tasks had been submitted before")
            raise
    return task_ids


def _submission(url: str, body: bytes, headers: dict[str, str]) -> Request:
    # The key makes it safe to send again: the server returns the same task.
    keyed = {IDEMPOTENCY_KEY: new_id(time.time()), **headers}
    return Request("POST", url, body, keyed, idempotent=True, prediction=True)


def _batches(bodies: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for body in bodies:
        if batch and (len(batch) == MAX_BULK or size + len(body) > BULK_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(body)
        size += len(body)
    if batch:
        yield batch


def look(task_id: str, seconds: float = 0.0) -> Flow[Answer]:
    """Give a task's state: at once when it is done, else after at most `seconds`."""
    path = path_to(routes.ASYNC_TASKS, task_id)
    request = Request(
        "GET",
        url_with(path, {"wait": f"{seconds:.3f}" if seconds > 0 else None}),
        timeout=seconds + MARGIN_SECONDS,
        idempotent=True,
        prediction=True,
        patience=min(seconds, OUTAGE_SECONDS),
    )
    return (yield from asked(request, read_answer))


def look_at_progress(task_id: str, after: int, seconds: float) -> Flow[Seen]:
    """Give what a task has said behind the number `after`: at once where there is something, else after `seconds`."""
    path = path_to(routes.ASYNC_TASKS, task_id, "progress")
    request = Request(
        "GET",
        url_with(path, {"after": after, "wait": f"{seconds:.3f}" if seconds > 0 else None}),
        timeout=seconds + MARGIN_SECONDS,
        idempotent=True,
        patience=min(seconds, OUTAGE_SECONDS),
    )
    return (yield from asked(request, lambda body: parse_seen(document_of(body))))


class Following:
    """Follows what a task says, one look after the other, until it is done.

    `timeout` is how many seconds all looks together may take; None sets no bound.
    """

    def __init__(
        self, task_id: str, timeout: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        check_seconds(timeout)
        self.done = False
        self._task_id = task_id
        self._timeout = timeout
        self._clock = clock
        self._deadline = None if timeout is None else clock() + timeout
        self._after = 0

    def look(self) -> Flow[Seen]:
        """Wait for what the task says next. Raises WaitTimeout when time is over and it is not done."""
        began = self._clock()
        left = MAX_WAIT_SECONDS if self._deadline is None else max(self._deadline - began, 0.0)
        seconds = min(left, MAX_WAIT_SECONDS)
        seen = yield from look_at_progress(self._task_id, self._after, seconds)
        self.done = seen.status in DONE
        if self.done or seen.next > self._after:
            self._after = seen.next
            return seen
        if self._deadline is not None and self._clock() >= self._deadline:
            raise WaitTimeout(
                f"task {self._task_id} is {seen.status} after {self._timeout:g} seconds; it keeps running"
            )
        yield from _pause_if_early(began + seconds - self._clock())
        return seen


def wait_for(
    task_id: str, timeout: float | None = None, clock: Callable[[], float] = time.monotonic
) -> Flow[Answer]:
    """Wait until a task is done. Raises WaitTimeout when it is not, after `timeout` seconds; it keeps running."""
    check_seconds(timeout)
    deadline = None if timeout is None else clock() + timeout
    while True:
        began = clock()
        left = MAX_WAIT_SECONDS if deadline is None else deadline - began
        seconds = min(max(left, 0.0), MAX_WAIT_SECONDS)
        answer = yield from look(task_id, seconds)
        if answer.done:
            return answer
        if deadline is not None and clock() >= deadline:
            raise WaitTimeout(
                f"task {task_id} is {answer.status} after {timeout:g} seconds; it keeps running"
            )
        yield from _pause_if_early(began + seconds - clock())


def _pause_if_early(left: float) -> Flow[None]:
    if left > 0:
        yield Pause(min(left, EARLY_PAUSE_SECONDS))


def cancel_task(task_id: str) -> Flow[bool]:
    """Cancel a task; False when it was already done."""
    path = path_to(routes.ASYNC_TASKS, task_id, "cancel")
    request = Request("POST", path, idempotent=True)
    return (yield from asked(request, lambda body: bool(document_of(body)["cancelled"])))


class BulkWait:
    """Waits for many tasks with one request at a time, each for up to 1,000 of them.

    With more, the windows take turns: one that has nothing new must not keep the others' results back.
    """

    def __init__(self, task_ids: Iterable[str] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._pending = deque(task_ids)
        self._fresh = True
        self._clock = clock

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, task_id: str) -> None:
        self._pending.append(task_id)

    def poll(self, seconds: float) -> Flow[dict[str, Answer]]:
        """Give the tasks of the next window that are done, after at most `seconds`; at once where there is one."""
        count = min(len(self._pending), MAX_BULK)
        if count < len(self._pending):
            seconds = min(seconds, 0.0 if self._fresh else ROTATION_SECONDS)
        window = [self._pending[index] for index in range(count)]
        until = self._clock() + seconds
        done = yield from _wait_for_some(window, min(seconds, MAX_WAIT_SECONDS))
        if not done:
            yield from _pause_if_early(until - self._clock())
        for _ in range(count):
            self._pending.popleft()
        self._pending.extend(task_id for task_id in window if task_id not in done)
        self._fresh = bool(done)
        return done


def _wait_for_some(task_ids: list[str], seconds: float) -> Flow[dict[str, Answer]]:
    request = Request(
        "POST",
        routes.ASYNC_TASKS_WAIT,
        json_body({"task_ids": task_ids, "wait": seconds}),
        timeout=seconds + MARGIN_SECONDS,
        idempotent=True,
        prediction=True,
        patience=OUTAGE_SECONDS,
    )
    return (
        yield from asked(
            request,
            lambda body: {task["task_id"]: parse_answer(task) for task in document_of(body)["tasks"]},
        )
    )


def download(url: str) -> Flow[object]:
    """Unpickle a result, which runs what the pickle says: only for endpoints that are trusted."""
    data = yield from bucket.download(url)
    return (yield from work(lambda: unpickled(data)))
