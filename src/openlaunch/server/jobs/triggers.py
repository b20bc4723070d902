"""Triggers at work: a docker-image batch job for each time that a cron schedule names, in UTC.

When a trigger is due, its job is stored and its next time set in one transaction: so each time has one job, whatever
ends the server between. Times that passed while there was no server are made up by one job, of the last of them.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError
from sqlalchemy import Connection

from openlaunch.server.jobs.image_jobs import ImageJobs, new_job
from openlaunch.server.settings import JobSettings
from openlaunch.store import image_jobs as job_store
from openlaunch.store import triggers as trigger_store
from openlaunch.store.base import Store
from openlaunch.store.records import ImageJobRecord

log = logging.getLogger(__name__)

MAX_SLEEP_SECONDS = 30.0
"""So that a clock that was set is noticed."""
AGAIN_SECONDS = 1.0
FIRED_AT_ONCE = 20
"""Triggers of one transaction. The others that are due follow at once."""
FIELDS = 5


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


class Triggers:
    """Fires what is due. Used in the event loop's thread."""

    def __init__(
        self, settings: JobSettings, store: Store, jobs: ImageJobs, clock: Callable[[], float] = time.time
    ) -> None:
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
        if not await self._store.read(lambda conn: trigger_store.list_due(conn, now, 1)):
            return
        check = self._jobs.runner.leads()

        def fire(conn: Connection) -> list[ImageJobRecord]:
            check(conn)
            return self._fire_due(conn, now)

        for job in await self._store.write(fire):
            log.info("trigger %s: job %s", job.trigger_id, job.id)
            self._jobs.runner.begin(job)

    def _fire_due(self, conn: Connection, now: float) -> list[ImageJobRecord]:
        fired: list[ImageJobRecord] = []
        for trigger in trigger_store.list_due(conn, now, FIRED_AT_ONCE):
            due_at = max(trigger.next_at, last_time(trigger.cron_schedule, now))
            bundle = job_store.get_bundle(conn, trigger.bundle_id)
            # A time has had its job already where the clock was set back and the schedule changed then.
            if bundle is not None and not job_store.has_due(conn, trigger.id, due_at):
                job = new_job(
                    self._settings,
                    bundle,
                    job_config=trigger.default_job_config,
                    labels=trigger.default_job_metadata or {},
                    trigger_id=trigger.id,
                    due_at=due_at,
                )
                if self._jobs.insert_due(conn, job):
                    fired.append(job)
            trigger_store.change(conn, trigger.id, next_at=next_time(trigger.cron_schedule, now))
        return fired
