"""Runs predict for the requests that come in, each to exactly one answer."""

import asyncio
import contextvars
import json
import sys
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from openlaunch_worker import answers
from openlaunch_worker.arguments import arguments_of
from openlaunch_worker.defaults import filler, parameters_of
from openlaunch_worker.documents import Limits
from openlaunch_worker.failures import Refusal
from openlaunch_worker.fetch import Transfer
from openlaunch_worker.files import File, Scratch
from openlaunch_worker.frames import Flags, Outcome, document_behind
from openlaunch_worker.in_flight import STOPPED, JobsInFlight, event_of, failure, no_memory
from openlaunch_worker.jobs import CURRENT, Job, Routed, Stop
from openlaunch_worker.outbox import Outbox
from openlaunch_worker.shapes import Shape, by_name, shape_of
from openlaunch_worker.spans import enter_span
from openlaunch_worker.threads import ThreadPool

if TYPE_CHECKING:  # most workers have no use for it
    from openlaunch_worker.passing import PassThrough

# What most functions return, and what is surely neither a stream nor to be awaited.
_VALUES: Final = frozenset((dict, list, str, int, float, bool, bytes, tuple, type(None)))
_END: Final = object()
_BAD_INPUT: Final = 400
_UNAVAILABLE: Final = 503
_RAW: Final = int(Flags.RAW)
_PARTS: Final = int(Flags.PARTS)

_decoder: Final = json.JSONDecoder()
_SPACE: Final = " \t\n\r"


class Runner(JobsInFlight):
    """Runs jobs: coroutines as tasks of the event loop, everything else in threads.

    The loop's thread owns all state. Threads get a job, and post what comes of it to the loop.
    """

    def __init__(
        self,
        predict: Callable[..., Any],
        limits: Limits,
        outbox: Outbox,
        on_idle: Callable[[], None],
        thread: ThreadPool,
    ) -> None:
        super().__init__(limits, outbox, on_idle)
        self._predict = by_name(predict)
        self._shape = shape_of(predict)
        self._is_on_loop = self._shape.on_loop
        self._takes_route = getattr(predict, "takes_route", False)
        self._passes: PassThrough | None = getattr(predict, "passes", None)
        # A batch, and the server of a command or image, get what was sent as a whole, and not by name.
        is_by_name = limits.batch is None and not self._takes_route
        self._fill = filler(limits.request_schema, parameters_of(predict) if is_by_name else None)
        self._arguments = arguments_of(predict)
        self._pool = thread if limits.per_worker == 1 else ThreadPool(limits.per_worker)
        self._context = contextvars.copy_context()

    def start(self, request_id: int, flags: int, limit: float, body: bytes | memoryview) -> None:
        """Begin a request: `limit` is how many seconds it may take, 0 for no bound, `body` its JSON."""
        job = Job(request_id, flags, limit, self._loop.time(), self._outbox)
        self._running[request_id] = job
        try:
            if len(self._running) > (slots := self._limits.per_worker):
                raise Refusal(f"all {slots} slots of the worker are taken: retry", _UNAVAILABLE)
            job.size = len(body)
            if flags & _RAW:
                self._pass_through(job, body)
                return
            (_read_parts if flags & _PARTS else _read_input)(job, body)
            if job.route is not None and not self._takes_route:
                raise Refusal("destination_path is for bundles that are an image with routes", _BAD_INPUT)
            if self._fill is not None and job.transfer is None:
                self._fill(job.args)
            if self._arguments is not None and job.transfer is None:
                job.transfer = self._arguments.downloads(job.args)
            if job.deadline < self._next_expiry:
                self._expect_expiry(job.deadline)
            self._begin(job)
        except (Refusal, MemoryError, RecursionError) as error:
            self._queued.pop(request_id, None)
            self._fail(job, error)

    def _fail(self, job: Job, error: BaseException) -> None:
        end = failure(job, error)
        if isinstance(error, MemoryError):
            # Once what the callers hold is free, because then is looked how much memory stays in use.
            self._loop.call_soon(self._finish, job, *end)
        else:
            self._finish(job, *end)

    def refuse(self, request_id: int, flags: int, limit: float, size: int) -> None:
        """Fail a request of `size` bytes that there is no memory to read."""
        job = Job(request_id, flags, limit, self._loop.time(), self._outbox)
        self._running[request_id] = job
        self._finish(job, *failure(job, Refusal(f"there is no memory to read it: {no_memory(size)}")))

    def _begin(self, job: Job) -> None:
        if job.transfer is None and self._is_on_loop:
            self._spawn(self._run_on_loop(job))
        else:
            self._queued[job.id] = job
            self._submit(job, self._run_in_thread)

    def _pass_through(self, job: Job, body: bytes | memoryview) -> None:
        if (passes := self._passes) is None:
            raise Refusal("the bundle has no HTTP server that requests could pass through to", _BAD_INPUT)
        answer = job.stream = passes.answer_of(job, self._outbox, partial(self._passed, job))
        if job.deadline < self._next_expiry:
            self._expect_expiry(job.deadline)
        passes.send(bytes(body), answer)

    def _passed(self, job: Job, failure: Refusal | None) -> None:
        if failure is None:
            self._finish(job, Outcome.SUCCESS, b"")
        else:
            self._fail(job, failure)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        # A name spares the task the making of one.
        if sys.version_info >= (3, 12):
            # It starts at once; most functions end without having waited for anything.
            asyncio.Task(work, loop=self._loop, name="predict", eager_start=True)
        else:
            asyncio.Task(work, loop=self._loop, name="predict")

    async def _run_on_loop(self, job: Job) -> None:
        if not job.begin_task():
            self._finish(job, *STOPPED)
            return
        try:
            value = self._call(job)
            if self._shape is Shape.COROUTINE:
                value = await value
            if (rest := self._settle_on_loop(job, value)) is not None:
                await rest
        except BaseException as error:
            self._fail(job, error)

    async def _run_awaitable(self, job: Job, value: Any) -> None:
        if not job.begin_task():
            if isinstance(value, Coroutine):
                value.close()
            self._finish(job, *STOPPED)
            return
        try:
            value = await value if isinstance(value, Awaitable) else value
            if (rest := self._settle_on_loop(job, value)) is not None:
                await rest
        except BaseException as error:
            self._fail(job, error)

    def _settle_on_loop(self, job: Job, value: Any) -> Coroutine[Any, Any, None] | None:
        """Answer with a value, and return what is still to be awaited for that."""
        if type(value) not in _VALUES:
            if isinstance(value, AsyncIterator):
                return self._iterate_on_loop(job, value)
            if isinstance(value, Iterator):
                self._submit(job, partial(self._iterate_in_thread, value))
                return None
        self._finish(job, *self._answer(job, value))
        return None

    async def _iterate_on_loop(self, job: Job, items: AsyncIterator[Any]) -> None:
        stream, running, most = job.stream, self._running, self._limits.max_result_bytes
        event = event_of(job)
        try:
            if stream is None:
                raise _needs_streaming()
            async for item in items:
                stream.push(event(item, most, job.typed), len(running) == 1)
                # After every item: it may be long before the generator gives the next one, or awaits.
                await _turn()
                if stream.is_full():
                    await stream.wait()
                if stream.stopped:
                    break
        finally:
            if (close := getattr(items, "aclose", None)) is not None:
                await close()
        self._finish(job, Outcome.SUCCESS, answers.END_EVENT)

    def _submit(self, job: Job, work: Callable[[Job], None]) -> None:
        call = partial(self._context.copy().run, work, job)
        try:
            self._pool.submit(call, wanted=len(self._running))
        except RuntimeError as error:
            raise Refusal(
                f"no thread can be started ({error}): {no_memory(job.size)}", _UNAVAILABLE
            ) from None

    def _run_in_thread(self, job: Job) -> None:
        if self._queued.pop(job.id, None) is None:
            return
        try:
            if job.transfer is not None:
                job.args = job.transfer.fetch(self._limits)
                job.transfer = None
                if job.stop is not None or self._is_on_loop:
                    self._outbox.post(self._resume, job, self._run_on_loop)
                    return
            self._settle_in_thread(job, self._interrupts.run(job, self._call, job))
        except BaseException as error:
            self._outbox.post(self._finish, job, *failure(job, error))

    def _settle_in_thread(self, job: Job, value: Any) -> None:
        if type(value) not in _VALUES:
            if isinstance(value, Iterator):
                self._iterate_in_thread(value, job)
                return
            if isinstance(value, Awaitable | AsyncIterator):
                self._outbox.post(self._resume, job, partial(self._run_awaitable, value=value))
                return
        self._finish_from_thread(job, *self._answer(job, value))

    def _finish_from_thread(self, job: Job, outcome: Outcome, body: bytes) -> None:
        # Where nothing else runs: of several answers, the loop makes one write.
        if len(self._running) == 1 and job.stop is None and job.stream is None:
            self._outbox.answer_now(job.id, outcome, body, self._forget, job)
        else:
            self._outbox.post(self._finish, job, outcome, body)

    def _iterate_in_thread(self, items: Iterator[Any], job: Job) -> None:
        try:
            self._push_all(items, job)
        except BaseException as error:
            self._outbox.post(self._finish, job, *failure(job, error))
        else:
            self._outbox.post(self._finish, job, Outcome.SUCCESS, answers.END_EVENT)

    def _push_all(self, items: Iterator[Any], job: Job) -> None:
        stream, event = job.stream, event_of(job)
        try:
            if stream is None:
                raise _needs_streaming()
            # Interrupted within an item only: what sends must not stop half-way, and sees a flag instead.
            while (item := self._interrupts.run(job, next, items, _END)) is not _END:
                data = event(item, self._limits.max_result_bytes, job.typed)
                if not stream.push_and_wait(data, alone=len(self._running) == 1):
                    break
        finally:
            if (close := getattr(items, "close", None)) is not None:
                close()

    def _resume(self, job: Job, work: Callable[[Job], Coroutine[Any, Any, None]]) -> None:
        if job.stop is None and job.deadline <= self._loop.time():
            job.stop = Stop.EXPIRED
        self._spawn(work(job))

    def _call(self, job: Job) -> Any:
        args = job.args
        CURRENT.set(job)
        if job.traceparent is not None:
            enter_span(job.traceparent)
        if job.route is not None:
            return self._predict(Routed(job.route, args))
        if self._arguments is not None:
            job.scratch = Scratch()
            args = self._arguments.make(args, job.scratch)
        return self._predict(**args) if type(args) is dict else self._predict(args)


@types.coroutine
def _turn() -> Generator[None, None, None]:
    """Let the loop turn once: as `asyncio.sleep(0)`, without the coroutine around it."""
    yield


def _parse_json(text: str) -> Any:
    """Parse JSON as `json.loads` does. Most has no white space around it, and is quicker without a look for that."""
    try:
        document, end = _decoder.raw_decode(text)
    except ValueError:
        return _decoder.decode(text)  # there is white space before it, or this says what is wrong
    return _decoder.decode(text) if text[end:].strip(_SPACE) else document


def _read_input(job: Job, body: bytes | memoryview) -> None:
    """Set the job's `args`, or the transfer that fetches it. Raise `Refusal` if there are none."""
    try:
        document = _parse_json(str(body, "utf-8"))
        args = job.args = document.get("args")
        if args is not None and len(document) == 1:
            return
        url = document.get("url")
        job.route = document.get("destination_path")
        job.typed = document.get("typed_result") is True
        job.traceparent = document.get("traceparent")
    except (ValueError, RecursionError, AttributeError) as error:
        raise Refusal(f"the request can't be read: {error}", _BAD_INPUT) from None
    if url is None and args is None:
        raise Refusal("the request has neither args nor url: give one of them", _BAD_INPUT)
    job.transfer = None if url is None else Transfer(str(url))


def _read_parts(job: Job, body: bytes | memoryview) -> None:
    """Set the job's `args` from a body with parts, each of which is a file among them."""
    try:
        document = _parse_json(str(document_behind(body), "utf-8"))
        args = job.args = document["args"]
        for path, start, end, media_type, name in document["parts"]:
            of, key = (args, path[0]) if len(path) == 1 else (args[path[0]], path[1])
            of[key] = File(bytes(body[start:end]), name=name, media_type=media_type)
        job.typed = document.get("typed_result") is True
        job.tensors = document.get("tensors")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise Refusal(f"the request can't be read: {error}", _BAD_INPUT) from None


def _needs_streaming() -> Refusal:
    return Refusal(
        "predict_fn yields its result in pieces: call it through a streaming endpoint, or return one value"
    )
