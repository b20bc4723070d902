"""Records the results of tasks, many in one transaction, and wakes those who wait for them."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import orjson
from sqlalchemy import Connection

from openlaunch.errors import Unavailable, Unprocessable
from openlaunch.server import clock
from openlaunch.server.asgi import server_fault
from openlaunch.server.dispatch.work import Work
from openlaunch.server.prediction.batch_lines import body_of_line, text_of_line
from openlaunch.server.prediction.results import MISFIT, is_success
from openlaunch.server.prediction.schemas import QUICK_BYTES
from openlaunch.server.queue.shared import MAX_TOGETHER, MAX_TOGETHER_BYTES, Shared
from openlaunch.store.records import EndpointRecord
from openlaunch.tasks import queue
from openlaunch.tasks.queue import Finished, failed
from openlaunch.tasks.states import State, failure
from openlaunch.wire.failures import reason_of
from openlaunch_worker.frames import Body, Outcome

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Results that wait in memory for a store that can't be written; past it those that are not small are artifacts."""
SMALL_BYTES = 1024
MAX_STORING_BYTES = 256 * 1024 * 1024
"""Results that are kept in memory while artifacts can't be written; with more, tasks run again."""
NOT_AN_ANSWER = (
    "the worker's answer does not have the form of answers: its bundle has changed how the worker works"
)


class Recorder:
    """Stores results: whatever comes until a transaction begins goes into it."""

    def __init__(self, shared: Shared) -> None:
        self.on_callbacks: Callable[[], None] = lambda: None
        """Called when callbacks may have become due."""
        self.has_callbacks = False
        """Whether any task of this server has a callback; without one `on_callbacks` is never called."""
        self._settings, self._schemas, self._background = shared.settings, shared.schemas, shared.background
        self._store, self._artifacts, self._hub = shared.store, shared.artifacts, shared.hub
        self._finished: deque[Finished] = deque()
        self.waiting = 0
        """The results that are not recorded yet."""
        self.waiting_bytes = 0
        self._asked = False
        """Whether a write waits for the store's thread, which takes all results that have come until it begins."""
        self.storing: dict[str, int] = {}
        """Sizes of the results that are being checked or stored as artifacts, by the ids of their tasks."""

    def answered(
        self, work: Work, task_id: str, endpoint: EndpointRecord, outcome: int, payload: Body
    ) -> None:
        """Record a worker's answer."""
        if self._needs_care(outcome, payload):
            careful = partial(self._record_with_care, work, task_id, endpoint, outcome, payload)
            self._background.spawn(self._record_apart(task_id, len(payload), careful))
        elif outcome == Outcome.SUCCESS and not is_success(payload):
            self._record_misfit(work, task_id)
        else:
            self.record(_finished(task_id, outcome, bytes(payload)))

    def _record_misfit(self, work: Work, task_id: str) -> None:
        work.note_failure(NOT_AN_ANSWER)
        self.record(failed(task_id, NOT_AN_ANSWER, 500))

    def _needs_care(self, outcome: int, payload: Body) -> bool:
        if outcome == Outcome.PICKLED or self._is_artifact(len(payload)):
            return True
        return self._settings.check_responses and outcome == Outcome.SUCCESS

    def _is_artifact(self, size: int) -> bool:
        """Return whether a result of this size is stored as an artifact: it is large, or too much waits in memory."""
        if size > self._settings.inline_bytes:
            return True
        return size > SMALL_BYTES and self.waiting_bytes > MAX_WAITING_BYTES

    def record_line(
        self, finished: Finished, owner: str, answer: bytearray, line_of: Callable[[bytes], bytes]
    ) -> None:
        """Record the end of a line of a batch, whose result is a line of a file."""
        if not self._is_artifact(len(answer)):
            self.record(replace(finished, result=line_of(body_of_line(answer))))
            return

        async def store() -> None:
            try:
                body = await self._schemas.checks.body_of_line(owner, answer)
            except Unprocessable:  # it takes too long to be read
                body = text_of_line(answer)
            key = f"results/{finished.id}.json"
            await self._artifacts.put(key, line_of(body))
            self.record(replace(finished, result_key=key))

        self._background.spawn(self._record_apart(finished.id, len(answer), store))

    async def _record_apart(self, task_id: str, size: int, store: Callable[[], Awaitable[None]]) -> None:
        self.storing[task_id] = size
        try:
            while True:
                try:
                    return await store()
                except Unavailable as error:
                    if self._hub.closed or sum(self.storing.values()) > MAX_STORING_BYTES:
                        raise  # the task runs again
                    text = "the result of the task %s could not be stored; trying again in %g s: %s"
                    log.error(text, task_id, RETRY_SECONDS, error)
                    await asyncio.sleep(RETRY_SECONDS)
        except Unavailable:
            self._hub.forget(task_id)
            raise
        except Exception as fault:
            self.record(_broken(task_id, fault))
        finally:
            self.storing.pop(task_id, None)

    async def _record_with_care(
        self, work: Work, task_id: str, endpoint: EndpointRecord, outcome: int, payload: Body
    ) -> None:
        """Check the answer against the response schema, and store it as an artifact, where that is asked for."""
        if outcome == Outcome.PICKLED:
            key = f"results/{task_id}.pkl"
            await self._artifacts.put(key, payload)
            self.record(Finished(task_id, State.SUCCESS, 200, result_key=key))
            return
        if outcome == Outcome.SUCCESS and not await asyncio.to_thread(is_success, payload):
            self._record_misfit(work, task_id)
            return
        if outcome == Outcome.SUCCESS and self._settings.check_responses:
            schemas = await self._schemas.get(endpoint.serving_bundle_id)
            checked = await self._schemas.checks.response(endpoint.owner, payload, schemas)
            if checked is not payload:
                work.note_failure(MISFIT)
                outcome, payload = Outcome.FAILURE, checked
        if not self._is_artifact(len(payload)):
            self.record(_finished(task_id, outcome, bytes(payload)))
            return
        key = f"results/{task_id}.json"
        await self._artifacts.put(key, payload)
        if outcome == Outcome.SUCCESS:
            self.record(Finished(task_id, State.SUCCESS, 200, result_key=key))
        else:
            finished = _finished(task_id, outcome, bytes(payload))
            self.record(replace(finished, result=None, result_key=key))

    def record(self, finished: Finished) -> None:
        """Store a result soon, together with the others that come before the store's thread begins."""
        self._finished.append(self._kept(finished))
        if not self._asked:
            self._asked = True
            self._background.spawn(self.flush())

    def _kept(self, finished: Finished) -> Finished:
        """Count a result among those that wait in memory, and return it."""
        self.waiting += 1
        self.waiting_bytes += len(finished.result or b"")
        return finished

    def _let_go(self, results: list[Finished]) -> None:
        """Count results no longer among those that wait in memory."""
        self.waiting -= len(results)
        self.waiting_bytes -= sum([len(each.result or b"") for each in results])

    async def flush(self) -> None:
        """Store all results that have come; while the store can't be written they are kept, and tried again."""
        await self._write([])
        while self._finished and not self._asked:
            await self._write([])

    def _take(self, results: list[Finished]) -> None:
        """Take what has come, up to a limit, in whatever thread."""
        self._asked = False  # first: what comes behind the last that is taken asks for a write of its own
        room = MAX_TOGETHER_BYTES
        while self._finished and len(results) < MAX_TOGETHER and room > 0:
            results.append(self._finished.popleft())
            room -= len(results[-1].result or b"")

    def _complete(self, conn: Connection, results: list[Finished]) -> set[str]:
        if not results:
            self._take(results)
        return queue.complete(conn, results, clock.now())

    async def _write(self, results: list[Finished], *, in_place_of_another: bool = False) -> None:
        """Store these results; none: those that have come when the store's thread begins, which are put into it."""
        while True:
            try:
                recorded = await self._store.write(lambda conn: self._complete(conn, results))
            except Unavailable as error:
                if self._hub.closed:
                    raise
                text = "%d results could not be recorded; trying again in %g s: %s"
                log.error(text, len(results) or len(self._finished), RETRY_SECONDS, error)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception as fault:
                if not results:
                    self._take(results)
                if len(results) == 1 and in_place_of_another:
                    self._hub.forget(results[0].id)
                    self._let_go(results)
                    raise
                if len(results) == 1:
                    self._let_go(results)
                    broken = self._kept(_broken(results[0].id, fault))
                    await self._write([broken], in_place_of_another=True)
                    return
                log.exception(
                    "%d results could not be recorded together, each is recorded alone", len(results)
                )
                for result in results:
                    self._background.spawn(self._write([result]))
                return
            else:
                self._let_go(results)
                self._hub.announce([r.id for r in results], {r.id: r for r in results if r.id in recorded})
                if self.has_callbacks:
                    self.on_callbacks()
                return


def _broken(task_id: str, fault: Exception) -> Finished:
    """Make the end of a task on whose result the server failed."""
    error = server_fault(log, fault)
    return failed(task_id, str(error), error.status)


def _finished(task_id: str, outcome: int, payload: bytes) -> Finished:
    """Make the result of a worker's answer."""
    if outcome == Outcome.SUCCESS:
        return Finished(task_id, State.SUCCESS, 200, result=payload)
    if len(payload) > QUICK_BYTES:
        payload = failure(f"the text of the failure has {len(payload)} bytes, too many to be kept", 500)
    document = orjson.loads(payload)
    reason = reason_of(document) or None
    return Finished(task_id, State.FAILURE, document["status_code"], result=payload, reason=reason)
