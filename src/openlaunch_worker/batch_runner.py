"""Runs predict for several requests at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from openlaunch_worker.batching import BatchRule, results_of, seconds_until_due
from openlaunch_worker.documents import Limits
from openlaunch_worker.files import Scratch
from openlaunch_worker.frames import CREDIT_BODY, Kind, Outcome
from openlaunch_worker.in_flight import STOPPED, failure
from openlaunch_worker.jobs import Job, Stop
from openlaunch_worker.outbox import Outbox
from openlaunch_worker.runner import Runner
from openlaunch_worker.threads import ThreadPool

End = tuple[Job, Outcome, bytes]


class BatchRunner(Runner):
    """Runs one batch at a time; while it runs, the next gathers.

    Predict is called with a list of what the requests have for it. A job that is stopped while it gathers is not in
    the batch. One that is stopped later is answered at once while others wait for the same batch; the last of them
    stops the batch, and is answered when that has ended.
    """

    def __init__(
        self,
        predict: Callable[..., Any],
        limits: Limits,
        rule: BatchRule,
        outbox: Outbox,
        on_idle: Callable[[], None],
        thread: ThreadPool,
    ) -> None:
        # Batches have a thread apart from the others, where all may be busy with fetching.
        super().__init__(predict, limits, outbox, on_idle, ThreadPool(1))
        self._rule = rule
        self._gathered: dict[int, tuple[float, Job]] = {}
        """Jobs that have all that predict needs, with when they had, in that order. Each is queued, too."""
        self._batch: list[Job] = []
        self._batch_itself = self._new_batch_itself()
        self._batch_task: asyncio.Task[Any] | None = None
        self._batch_thread = thread
        self._due_timer: asyncio.TimerHandle | None = None
        self._left_files: list[Scratch] = []
        """Files of members that were answered, which the batch that runs may still read."""
        self._makes = self._arguments is not None and self._arguments.of_batches

    def _new_batch_itself(self) -> Job:
        """Return what stands for the whole batch where its thread is interrupted; requests never have the id 0."""
        return Job(0, 0, 0, self._loop.time(), self._outbox)

    def _begin(self, job: Job) -> None:
        self._queued[job.id] = job
        if job.transfer is None and not self._makes:
            self._gather(job)
        else:
            self._submit(job, self._prepare_in_thread)

    def _prepare_in_thread(self, job: Job) -> None:
        """Fetch and make what predict gets of a job: beside the batch that runs, and failing that job alone."""
        if self._queued.pop(job.id, None) is None:
            return
        try:
            if job.transfer is not None:
                job.args = job.transfer.fetch(self._limits)
            if self._makes:
                assert self._arguments is not None
                job.scratch = Scratch()
                job.args = self._interrupts.run(job, self._arguments.make, job.args, job.scratch)
        except BaseException as error:
            self._outbox.post(self._finish, job, *failure(job, error))
        else:
            self._outbox.post(self._prepared, job)

    def _prepared(self, job: Job) -> None:
        job.transfer = None
        if job.stop is not None:
            self._finish(job, *STOPPED)
            return
        self._queued[job.id] = job
        self._gather(job)

    def _gather(self, job: Job) -> None:
        self._gathered[job.id] = (self._loop.time(), job)
        if self._batch:
            return
        if len(self._gathered) >= self._rule.max_size:
            self._look()
        elif self._due_timer is None:
            # Without a wait, too: what comes in the same read goes into the same batch.
            self._due_timer = self._loop.call_later(self._rule.max_wait, self._look)

    def _look(self) -> None:
        """Run a batch if one is due, else look again when one will be."""
        if self._due_timer is not None:
            self._due_timer.cancel()
            self._due_timer = None
        if self._batch or not self._gathered:
            return
        since, _ = next(iter(self._gathered.values()))
        wait = seconds_until_due(self._rule, len(self._gathered), since, self._loop.time())
        if wait > 0:
            self._due_timer = self._loop.call_later(wait, self._look)
        else:
            self._start_batch()

    def _stop(self, job: Job, stop: Stop) -> None:
        if job not in self._batch:
            self._gathered.pop(job.id, None)
            super()._stop(job, stop)
        elif job.stop is None:
            job.stop = stop
            if not self._is_unwanted():
                if job.scratch is not None:
                    self._left_files.append(job.scratch)
                    job.scratch = None
                self._finish(job, *STOPPED)
            elif self._batch_task is not None:
                self._batch_task.cancel()
            else:
                self._batch_itself.stop = stop
                self._interrupts.interrupt(self._batch_itself)

    def _is_unwanted(self) -> bool:
        return all(member.stop is not None for member in self._batch)

    def _start_batch(self) -> None:
        ids = list(self._gathered)[: self._rule.max_size]
        self._batch = [self._gathered.pop(request_id)[1] for request_id in ids]
        self._batch_itself = self._new_batch_itself()
        inputs = [job.args for job in self._batch]
        for request_id in ids:
            del self._queued[request_id]
        if self._is_on_loop:
            self._spawn(self._run_batch(partial(self._predict, inputs)))
        else:
            work = partial(self._context.copy().run, self._run_batch_in_thread, inputs)
            self._batch_thread.submit(work, wanted=1)

    async def _run_batch(self, call: Callable[[], Any]) -> None:
        self._batch_task = asyncio.current_task()
        try:
            returned = call()
            if self._is_unwanted():
                if isinstance(returned, Coroutine):
                    returned.close()
                raise asyncio.CancelledError
            ends = self._ends(await returned if isinstance(returned, Awaitable) else returned)
        except BaseException as error:
            ends = self._failures(error)
        self._end_batch(ends)

    def _run_batch_in_thread(self, inputs: list[Any]) -> None:
        try:
            returned = self._interrupts.run(self._batch_itself, self._predict, inputs)
            if isinstance(returned, Awaitable):
                self._outbox.post(self._spawn, self._run_batch(lambda: returned))
                return
            ends = self._ends(returned)
        except BaseException as error:
            ends = self._failures(error)
        self._outbox.post(self._end_batch, ends)

    def _ends(self, returned: Any) -> list[End]:
        results = results_of(returned, len(self._batch))
        return [self._end(job, result) for job, result in zip(self._batch, results, strict=True)]

    def _end(self, job: Job, result: Any) -> End:
        try:
            if isinstance(result, Exception):
                return job, *failure(job, result)
            return job, *self._answer(job, result)
        except BaseException as error:
            return job, *failure(job, error)

    def _failures(self, error: BaseException) -> list[End]:
        return [(job, *failure(job, error)) for job in self._batch]

    def _end_batch(self, ends: list[End]) -> None:
        self._batch, self._batch_task = [], None
        while self._left_files:
            self._left_files.pop().remove()
        self._outbox.control(Kind.BATCH, 0, CREDIT_BODY.pack(len(ends)))  # which goes out with the answers
        for job, outcome, body in ends:
            if self._running.get(job.id) is job:
                self._finish(job, outcome, body)
        if self._gathered:
            # After what was answered is on its way.
            self._loop.call_soon(self._look)
