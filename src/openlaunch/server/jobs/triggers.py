"""Triggers at work: an image job, or a task of an async endpoint, for each time that a cron schedule names, in UTC.

When a trigger is due, its job or task is stored and its next time set in one transaction: so each time has one,
whatever ends the server between. Times that passed while there was no server are made up by one, of the last of them.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

from cronsim import CronSim, CronSimError
from sqlalchemy import Connection

from openlaunch.errors import APIError
from openlaunch.server import clock
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.server.jobs.image_jobs import ImageJobs, new_job
from openlaunch.server.prediction.schemas import written
from openlaunch.server.queue.submitting import Submitter
from openlaunch.server.settings import JobSettings
from openlaunch.store import image_jobs as job_store
from openlaunch.store import triggers as trigger_store
from openlaunch.store.base import Store
from openlaunch.store.records import ImageJobRecord, TriggerRecord
from openlaunch.tasks import queue
from openlaunch.tasks.queue import NewTask
from openlaunch.wire.endpoints import EndpointType

log = logging.getLogger(__name__)

MAX_SLEEP_SECONDS = 30.0
"""Longest sleep at a time, so that a clock that was set is noticed."""
AGAIN_SECONDS = 1.0
FIRED_AT_ONCE = 20
"""Triggers of one transaction. The others that are due follow at once."""
FIELDS = 5
MAX_ARGS_BYTES = 64 * 1024
"""Limit on what a trigger gives its tasks."""


class BadSchedule(ValueError):
    """A text that is not a cron schedule; the message says why."""


def next_time(schedule: str, after: float) -> float:
    """Return the schedule's first time after then.

    Raises:
        BadSchedule: the text is not a schedule, or names no time at all.
    """
    return _times(schedule, after, reverse=False)


def last_time(schedule: str, until: float) -> float:
    """Return the schedule's last time up to then."""
    return _times(schedule, until + 1, reverse=True)


def _times(schedule: str, moment: float, *, reverse: bool) -> float:
    try:
        if len(schedule.split()) != FIELDS:
            raise CronSimError("Wrong number of fields")
        return next(CronSim(schedule, datetime.fromtimestamp(int(moment), UTC), reverse=reverse)).timestamp()
    except (CronSimError, StopIteration) as error:
        raise BadSchedule(
            f"{schedule!r} is not a cron schedule ({str(error).lower() or 'it names no time'}): minute, hour, day, "
            "month and weekday are needed, such as '30 4 * * 1' for Mondays at 4:30 UTC"
        ) from None


def task_body(args: dict[str, Any] | None) -> bytes:
    """Return the body of a task of a trigger with these args."""
    return written({"args": args or {}})


class _DueTask(NamedTuple):
    """What a trigger is to submit, to which lane; or why it can't."""

    trigger: TriggerRecord
    lane: Lane | None
    task: NewTask | None
    error: str | None = None


class Triggers:
    """Fires what is due. Used in the event loop's thread."""

    def __init__(
        self,
        settings: JobSettings,
        store: Store,
        jobs: ImageJobs,
        lanes: Lanes,
        submitter: Submitter,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._lanes = lanes
        self._submitter = submitter
        self._settings = settings
        self._store = store
        self._jobs = jobs
        self._clock = clock
        self._changed = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._loop = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)

    def changed(self) -> None:
        """Look again when the next trigger is due, because some were made, changed or deleted."""
        self._changed.set()

    async def changed_elsewhere(self) -> None:
        """Do the same, because another server has changed them."""
        self.changed()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                await self._fire()
                due = await self._store.read(trigger_store.next_due)
                pause = MAX_SLEEP_SECONDS if due is None else due - self._clock()
            except Exception:
                log.exception("triggers could not be fired; retrying")
                pause = AGAIN_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(min(max(pause, 0.0), MAX_SLEEP_SECONDS)):
                    await self._changed.wait()

    async def _fire(self) -> None:
        now = self._clock()
        due = await self._store.read(lambda conn: trigger_store.list_due(conn, now, FIRED_AT_ONCE))
        if not due:
            return
        tasks = {each.id: self._due_task(each, now) for each in due if each.endpoint_name is not None}
        check = self._jobs.runner.leads()

        def fire(conn: Connection) -> tuple[list[ImageJobRecord], list[_DueTask]]:
            check(conn)
            return self._fire_due(conn, now, tasks)

        jobs, submitted = await self._store.write(fire)
        for job in jobs:
            log.info("trigger %s: job %s", job.trigger_id, job.id)
            self._jobs.runner.begin(job)
        for each in submitted:
            log.info("trigger %s: %s", each.trigger.id, each.error or f"task {each.task and each.task.id}")
            if each.lane is not None and each.task is not None:
                self._submitter.arrived(each.lane, each.trigger.owner)

    def _due_task(self, trigger: TriggerRecord, now: float) -> _DueTask:
        """Make the task of a trigger that is due, or say why there is none."""
        name = trigger.endpoint_name or ""
        lane = self._lanes.by_name.get(trigger.owner, name)
        if lane is None:
            return _DueTask(trigger, None, None, f"there is no endpoint named {name!r}")
        if lane.endpoint.endpoint_type is not EndpointType.ASYNC:
            kind = lane.endpoint.endpoint_type.value
            return _DueTask(trigger, None, None, f"the endpoint {name!r} is {kind}, not async")
        # The key keeps a time from having two tasks where the clock was set back, or two servers lead.
        key = f"trigger {trigger.id} at {_due_at(trigger, now):.0f}"
        try:
            task = self._submitter.new_task(lane, trigger.owner, task_body(trigger.args), key)
        except APIError as refusal:
            return _DueTask(trigger, None, None, refusal.message)
        return _DueTask(trigger, lane, task)

    def _fire_due(
        self, conn: Connection, now: float, tasks: Mapping[str, _DueTask]
    ) -> tuple[list[ImageJobRecord], list[_DueTask]]:
        jobs: list[ImageJobRecord] = []
        submitted: list[_DueTask] = []
        for trigger in trigger_store.list_due(conn, now, FIRED_AT_ONCE):
            values: dict[str, Any] = {"next_at": next_time(trigger.cron_schedule, now)}
            if trigger.endpoint_name is not None:
                due = tasks.get(trigger.id)
                if due is None or due.trigger != trigger:
                    continue  # it has changed since: it is looked at again at once
                values |= {"last_at": clock.now(), "last_task_id": None, "last_error": due.error}
                if due.task is not None:
                    (task_id,) = queue.submit(conn, [due.task], clock.now())
                    values["last_task_id"] = task_id
                    due = due if task_id == due.task.id else due._replace(task=None, error=f"task {task_id}")
                submitted.append(due)
            elif (job := self._due_job(conn, trigger, now)) is not None:
                jobs.append(job)
            trigger_store.change(conn, trigger.id, **values)
        return jobs, submitted

    def _due_job(self, conn: Connection, trigger: TriggerRecord, now: float) -> ImageJobRecord | None:
        """Store the image job of a trigger that is due; None where there is none to be run."""
        due_at, bundle = _due_at(trigger, now), job_store.get_bundle(conn, trigger.bundle_id or "")
        # A time has had its job already where the clock was set back and the schedule changed then.
        if bundle is None or job_store.has_due(conn, trigger.id, due_at):
            return None
        job = new_job(
            self._settings,
            bundle,
            job_config=trigger.default_job_config,
            labels=trigger.default_job_metadata or {},
            trigger_id=trigger.id,
            due_at=due_at,
        )
        return job if self._jobs.insert_due(conn, job) else None


def _due_at(trigger: TriggerRecord, now: float) -> float:
    """Return the time for which a trigger fires now: the last one of those that have passed."""
    return max(trigger.next_at, last_time(trigger.cron_schedule, now))
