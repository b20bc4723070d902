"""What `/readyz` looks at: whether the server can write, read and answer, and what is wrong if it can't."""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from openlaunch.artifacts.base import Artifacts
from openlaunch.errors import APIError
from openlaunch.server import clock
from openlaunch.store.base import Store
from openlaunch.wire.health import Check, CheckStatus, ReadinessResponse

log = logging.getLogger(__name__)

CACHED_SECONDS = 1.0
CHECK_SECONDS = 2.0
"""A check that takes longer has failed."""
ANSWER_SECONDS = 0.5
"""A look that takes longer is not waited for, and the report is that of the look before: a balancer that waits for a
hanging database takes the server for one that hangs itself."""

TICK_SECONDS = 0.5
TICKS_KEPT = 20
LAG_WARNING = 0.25
CLOCK_WARNING = 5.0

MIB = 1024 * 1024
NEARLY_FULL = (1024 * MIB, 0.1)
FULL = (32 * MIB, 0.02)
"""Free bytes, and free part of the disk; the smaller of the two is the limit."""

SERVICE_SECONDS = 5.0
"""A service whose every request is paid for is looked at no more often, for as long as it works."""

_ORDER = list(CheckStatus)


class Health:
    """Looks at the parts of a running server, at most once a second. Used in the event loop's thread."""

    def __init__(
        self,
        store: Store,
        artifacts: Artifacts,
        folder: Path,
        nodes: Callable[[], dict[str, str]] | None = None,
        leads: Callable[[], bool] | None = None,
    ) -> None:
        self.stopping = False
        self.on_lag: Callable[[float], None] = lambda seconds: None
        """Called with how late the event loop was, twice a second."""
        self.unrecorded: Callable[[], tuple[int, int]] = lambda: (0, 0)
        """Returns how many results of tasks wait in memory for the store, and their bytes."""
        self._store = store
        self._artifacts = artifacts
        self._folder = folder
        self._nodes = nodes
        """Returns why each node that can't be used can't be; None where there are no nodes."""
        self._leads = leads
        """Returns whether this server has the workers; None where it shares its database with no other."""
        self._lags: deque[float] = deque(maxlen=TICKS_KEPT)
        self._looking: asyncio.Task[ReadinessResponse] | None = None
        self._looked_at = 0.0
        self._found: ReadinessResponse | None = None
        self._artifacts_good_until = 0.0
        self._last: list[Check] = []

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ticking = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        tasks = [task for task in (self._ticking, self._looking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            due = self._loop.time() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            lag = self._loop.time() - due
            self._lags.append(lag)
            self.on_lag(max(0.0, lag))

    async def report(self) -> ReadinessResponse:
        """Return how everything stands, as of at most a second ago, or of three where a check takes long."""
        stale = self._loop.time() - self._looked_at >= CACHED_SECONDS
        if self._looking is None or (stale and self._looking.done()):
            self._looked_at = self._loop.time()
            self._found = self._looking.result() if self._looking is not None else None
            self._looking = asyncio.create_task(self._look())
        await asyncio.wait([self._looking], timeout=None if self._found is None else ANSWER_SECONDS)
        found = self._looking.result() if self._looking.done() else self._found
        assert found is not None
        stop = _failed("stopping", "the server is stopping") if self.stopping else Check(name="stopping")
        self._last = checks = with_since([stop, *found.checks], self._last, datetime.now(UTC))
        return ReadinessResponse(status=_worst(checks), checks=checks)

    async def _look(self) -> ReadinessResponse:
        store, *others = await asyncio.gather(
            _within("store", self._store_check(), _without(self._store)),
            self._artifacts_check(),
            _within("disk", asyncio.to_thread(disk_check, self._folder)),
        )
        checks = [
            with_unrecorded(store, *self.unrecorded()),
            *others,
            lag_check(max(self._lags, default=0.0)),
            clock_check(clock.was_set_by()),
            *([] if self._nodes is None else [nodes_check(self._nodes())]),
            *([] if self._leads is None else [leader_check(leads=self._leads())]),
        ]
        return ReadinessResponse(status=_worst(checks), checks=checks)

    async def _store_check(self) -> Check:
        """Write, which a lock, a full disk and a read-only file forbid, after the store's look at itself."""
        problem = await self._store.problem()
        if problem is not None:
            return _failed("store", problem)
        await self._store.write(_probe)
        return Check(name="store")

    async def _artifacts_check(self) -> Check:
        """Write and delete; where the bytes are with a service, predictions go through without it."""
        if not self._artifacts.is_service:
            return await _within("artifacts", self._probe_artifacts())
        if self._loop.time() >= self._artifacts_good_until:
            check = await _within("artifacts", self._probe_artifacts(), CheckStatus.WARNING)
            if check.status is not CheckStatus.OK:
                return check
            self._artifacts_good_until = self._loop.time() + SERVICE_SECONDS
        return Check(name="artifacts")

    async def _probe_artifacts(self) -> Check:
        await self._artifacts.probe()
        return Check(name="artifacts")


def _without(part: Store) -> CheckStatus:
    """Return what it means where this can't be used."""
    return CheckStatus.WARNING if part.is_service else CheckStatus.FAILED


def _probe(conn: Connection) -> None:
    # A row that is there in every database: to write it as it is changes nothing, but is a write.
    conn.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")


async def _within(
    name: str, check: Coroutine[Any, Any, Check], status: CheckStatus = CheckStatus.FAILED
) -> Check:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check
    except TimeoutError:
        detail = f"no answer within {CHECK_SECONDS:g} s"
    except APIError as error:
        detail = error.message
    except Exception as error:
        log.exception("the check of %s failed", name)
        detail = getattr(error, "strerror", None) or type(error).__name__
    return Check(name=name, status=status, detail=detail)


def with_since(checks: Iterable[Check], before: Iterable[Check], now: datetime) -> list[Check]:
    """Add to each check that is not OK since when it has that status, by what the checks were `before`."""
    known = {(check.name, check.status): check.since for check in before}
    return [
        check
        if check.status is CheckStatus.OK
        else check.model_copy(update={"since": known.get((check.name, check.status)) or now})
        for check in checks
    ]


def with_unrecorded(store: Check, results: int, size: int) -> Check:
    """Add to what is wrong with the store which results of tasks wait for it."""
    if store.status is CheckStatus.OK or not results:
        return store
    waiting = f"{results} results of tasks ({-(-size // 1024)} KiB) wait in memory to be recorded"
    return store.model_copy(update={"detail": f"{store.detail}; {waiting}"})


def leader_check(*, leads: bool) -> Check:
    """Look at who has the workers: a balancer sends nothing to a server that has none, and so can't predict."""
    if leads:
        return Check(name="leader")
    return _failed("leader", "another server of the cluster leads, and has the workers")


def nodes_check(problems: dict[str, str]) -> Check:
    """Look at the nodes that can't be used: a warning, because every server of the cluster may lack the same."""
    if not problems:
        return Check(name="nodes")
    detail = "; ".join(f"{address}: {problem}" for address, problem in problems.items())
    return Check(name="nodes", status=CheckStatus.WARNING, detail=detail)


def disk_check(folder: Path) -> Check:
    """Check how full the disk is that the data directory lies on."""
    disk = os.statvfs(folder)
    return disk_room(
        free=disk.f_bavail * disk.f_frsize,
        size=disk.f_blocks * disk.f_frsize,
        no_files_left=disk.f_files > 0 and disk.f_favail == 0,
        read_only=bool(disk.f_flag & os.ST_RDONLY),
    )


def disk_room(*, free: int, size: int, no_files_left: bool, read_only: bool) -> Check:
    """Check the room on a disk from its numbers, in bytes."""
    if read_only:
        return _failed("disk", "it is mounted read-only")
    if no_files_left:
        return _failed("disk", "no more files can be made on it (no free inodes)")
    text = f"{free // MIB} MiB of {size // MIB} MiB are free"
    if free < _bound(FULL, size):
        return _failed("disk", f"it is full: {text}")
    if free < _bound(NEARLY_FULL, size):
        return Check(name="disk", status=CheckStatus.WARNING, detail=f"it is nearly full: {text}")
    return Check(name="disk")


def _bound(limit: tuple[int, float], size: int) -> float:
    return min(limit[0], limit[1] * size)


def lag_check(seconds: float) -> Check:
    """Check how late the event loop, which answers everything, has been at worst."""
    if seconds < LAG_WARNING:
        return Check(name="event_loop")
    return Check(name="event_loop", status=CheckStatus.WARNING, detail=f"it was held up for {seconds:.1f} s")


def clock_check(set_by: float) -> Check:
    """Check whether the machine's clock was set while the server ran."""
    if abs(set_by) < CLOCK_WARNING:
        return Check(name="clock")
    way = "forward" if set_by > 0 else "back"
    detail = (
        f"the machine's clock was set {way} by {abs(set_by):.0f} s while the server ran; times of tasks do "
        "not follow that before the server is restarted, nor where the records are in PostgreSQL"
    )
    return Check(name="clock", status=CheckStatus.WARNING, detail=detail)


def _failed(name: str, detail: str) -> Check:
    return Check(name=name, status=CheckStatus.FAILED, detail=detail)


def _worst(checks: list[Check]) -> CheckStatus:
    return max((check.status for check in checks), key=_ORDER.index)
