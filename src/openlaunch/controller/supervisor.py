"""One endpoint's workers: observes, asks the plan what to do, and does it."""

import asyncio
import json
import logging
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

from sqlalchemy import Connection

from openlaunch.background import BackgroundTasks
from openlaunch.controller.backoff import History
from openlaunch.controller.environments import EnvironmentFailed, Environments
from openlaunch.controller.events import EventLog, Scale, scaling_event
from openlaunch.controller.explain import explain
from openlaunch.controller.fleet import Fleet, Load
from openlaunch.controller.gpu_pool import GpuPool
from openlaunch.controller.images import Images, is_image, load_seconds
from openlaunch.controller.logs import EndpointLogs, tail
from openlaunch.controller.plan import (
    Action,
    Build,
    BuildEnvironment,
    DrainWorker,
    Generation,
    Gpus,
    Phase,
    Refuse,
    SetCanary,
    SetStatus,
    Situation,
    StartWorker,
    StopWorker,
    Worker,
    plan,
)
from openlaunch.controller.scaling import (
    DesireWindow,
    Usage,
    capacity_limit,
    desired_workers,
    needed_workers,
    usage_of,
)
from openlaunch.controller.settings import ControllerSettings
from openlaunch.controller.trial import Trial
from openlaunch.engines.base import Engine, WorkerExit, WorkerSpec
from openlaunch.engines.containers import ContainerError
from openlaunch.store import bundles, endpoints
from openlaunch.store.base import Store
from openlaunch.store.records import BundleRecord, EndpointRecord
from openlaunch.wire.endpoint_settings import EndpointSpec
from openlaunch.wire.endpoints import EndpointStatus
from openlaunch.wire.events import EventKind
from openlaunch.wire.why import EndpointWhy
from openlaunch_worker.documents import IMAGE

log = logging.getLogger(__name__)

MIN_INTERVAL = 0.01
"""Seconds between two looks at an endpoint: events that come closer together are seen at once."""

MAX_INTERVAL = 10.0
"""Seconds between two looks after errors in a row."""

MAX_REASON = 2000
LOG_LINES = 5
LOG_TAIL_BYTES = 2000
PRUNE_LOGS_EVERY = 10.0
THREAD_STACK_BYTES = 8 * 1024 * 1024
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Parts:
    """What all supervisors share. `usage_beside` gives what the workers of all other endpoints hold."""

    store: Store
    fleet: Fleet
    engine: Engine
    environments: Environments
    images: Images
    settings: ControllerSettings
    gpus: GpuPool
    logs: EndpointLogs
    clock: Callable[[], float]
    usage_beside: Callable[[str], Usage]
    environment_built: Callable[[], None]
    events: EventLog


@dataclass(slots=True)
class _Process:
    """A worker's process.

    `ready_at` is None until it was ready; `expected` once its end is no failure of its own; `told` once it has
    been told why it ends.
    """

    id: str
    short_id: str
    generation: int
    started_at: float
    log_path: Path
    phase: Phase = Phase.STARTING
    since: float = 0.0
    ready_at: float | None = None
    expected: bool = False
    told: bool = False
    end_reason: str | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def enter(self, phase: Phase, now: float) -> None:
        self.phase, self.since = phase, now


@dataclass(slots=True)
class _Generation:
    """A generation's bundle, environment and history."""

    build: Build = Build.NONE
    history: History = field(default_factory=History)
    bundle: BundleRecord | None = None
    python: Path | None = None
    ready_since: float | None = None

    def seen(self, trial: Trial) -> Generation:
        """As the plan sees it."""
        seconds = None if self.bundle is None else load_seconds(self.bundle.flavor)
        name = None if self.bundle is None else self.bundle.name
        return Generation(self.build, self.history, seconds, trial, self.ready_since, name)


class Supervisor:
    """Everything in memory about one endpoint's workers. Used in the event loop's thread only."""

    def __init__(self, record: EndpointRecord, parts: Parts) -> None:
        self.record = record
        self._parts = parts
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._demanded = False
        self._processes: dict[str, _Process] = {}
        self._generations: dict[int, _Generation] = {}
        self._window = DesireWindow(parts.settings.scale_down_after)
        self._tasks = BackgroundTasks(f"a background task of endpoint {record.name!r} failed")
        self._pruned_at = 0.0
        self._scale: Scale | None = None

    @staticmethod
    def endpoint_of(worker_id: str) -> str:
        """The id of the endpoint that a worker belongs to: the worker's id begins with it."""
        return worker_id.rpartition(".")[0]

    # What the controller tells and asks.

    def adopt(self, record: EndpointRecord) -> None:
        """Go by this record from now on; an older generation's is ignored."""
        if record.generation < self.record.generation:
            return
        self.record = record
        self._parts.fleet.update_endpoint(record)
        self._wake.set()

    def demand(self) -> None:
        """Something waits for a worker."""
        self._demanded = True
        self._wake.set()

    def look(self) -> None:
        """Something has happened that the plan may depend on."""
        self._wake.set()

    def worker_ready(self, worker_id: str) -> None:
        """The worker takes requests."""
        process = self._processes.get(worker_id)
        if process is not None and process.phase is Phase.STARTING:
            process.ready_at = self._now()
            process.enter(Phase.READY, process.ready_at)
            generation = self._generation(process.generation)
            generation.history = generation.history.became_ready()
            generation.ready_since = generation.ready_since or process.ready_at
            self._note(f"worker {process.short_id} is ready")
            self._tell(EventKind.WORKER_READY)
            self._wake.set()

    def worker_load_failed(self, worker_id: str, reason: str, traceback: str | None) -> None:
        """The worker could not load the bundle, and exits."""
        process = self._processes.get(worker_id)
        if process is None or process.phase is not Phase.STARTING:
            return
        lines = reason.strip().splitlines() or ["the bundle could not be loaded"]
        self._note(f"worker {process.short_id} could not load the bundle: {reason}\n{traceback or ''}")
        self._load_failed(process, lines[0])
        self._tasks.spawn(self._end(process, self._parts.settings.lost_grace))

    def worker_stuck(self, worker_id: str, reason: str) -> None:
        """Something in the worker does not stop: it gets nothing more, and makes room for another one."""
        process = self._processes.get(worker_id)
        if process is None or process.phase not in (Phase.READY, Phase.DRAINING):
            return
        log.warning("worker %s of endpoint %r is replaced: %s", process.short_id, self.record.name, reason)
        self._note(f"worker {process.short_id} is replaced: {reason}")
        self._tell(EventKind.WORKER_REPLACED, reason)
        process.end_reason = f"was replaced, because {reason}"
        generation = self._generation(process.generation)
        generation.history = generation.history.was_stuck(self._now(), reason)
        self._drain(worker_id)
        self._wake.set()
        self._tasks.spawn(self._kill_when_unwanted(process))

    def worker_leaving(self, worker_id: str) -> None:
        """The worker was told to end by somebody else: it finishes what it runs, and another takes its place."""
        process = self._processes.get(worker_id)
        if process is not None and process.phase is Phase.READY:
            self._note(f"worker {process.short_id} was told to end, and finishes what it runs")
            self._drain(worker_id)
            self._wake.set()

    def worker_lost(self, worker_id: str) -> None:
        """The worker's connection has ended: its process has to follow."""
        process = self._processes.get(worker_id)
        if process is None:
            return
        if process.phase in (Phase.STARTING, Phase.READY):
            process.enter(Phase.LOST, self._now())
            self._wake.set()
        self._tasks.spawn(self._end(process, self._parts.settings.lost_grace))

    def counts(self) -> tuple[int, int]:
        """Workers that are ready, and workers that should be and are not yet; a canary's are left out."""
        canary = self.record.canary.generation if self.record.canary else None
        phases = [process.phase for process in self._processes.values() if process.generation != canary]
        return phases.count(Phase.READY), phases.count(Phase.STARTING) + phases.count(Phase.LOST)

    def ready_of(self, generation: int) -> int:
        """The ready workers of a generation."""
        return sum(p.phase is Phase.READY for p in self._processes.values() if p.generation == generation)

    def explain(self) -> EndpointWhy:
        """Why it serves or does not, now. Nothing of what the next look goes by is changed."""
        demanded, window = self._demanded, self._window
        try:
            situation = self._observe()
        finally:
            self._demanded, self._window = demanded, window
        return explain(situation, self._parts.fleet.load(self.record.id), self._parts.settings.policy)

    def usage(self) -> Usage:
        """What its workers hold."""
        return usage_of(self.record.spec, len(self._processes))

    def pythons(self) -> set[Path]:
        """The interpreters of the environments it uses."""
        return {g.python for g in self._generations.values() if g.python is not None}

    # The loop.

    async def run(self) -> None:
        """Look at the endpoint when something happened and every tick, for ever. Errors are logged."""
        errors = 0
        while True:
            self._wake.clear()
            try:
                await self._reconcile()
                errors = 0
            except Exception:
                errors += 1
                log.exception("the endpoint %r could not be looked after; trying again", self.record.name)
            pause = MIN_INTERVAL if not errors else min(MAX_INTERVAL, self._parts.settings.tick * 2**errors)
            await asyncio.sleep(pause)
            await self._next_event()

    async def _next_event(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._parts.settings.tick):
                    await self._wake.wait()
            if self._wake.is_set() or not self._is_idle():
                return

    def _is_idle(self) -> bool:
        """Whether nothing can have changed without an event: saves the work of planning for idle endpoints."""
        settled = self.record.status in (EndpointStatus.READY, EndpointStatus.UPDATE_FAILED)
        settled = settled and self.record.live_canary is None
        busy = self._processes or self._tasks or self._window.highest
        return settled and not busy and self._parts.fleet.load(self.record.id) == Load(0, 0)

    async def _reconcile(self) -> None:
        situation = self._observe()
        self._tell_scale(situation)
        for action in plan(situation, self._parts.settings.policy):
            await self._do(action)
        self._prune_logs()

    def _observe(self) -> Situation:
        now, spec, parts = self._now(), self.record.spec, self._parts
        load, trials = parts.fleet.load(self.record.id), parts.fleet.trials(self.record.id)
        floor = needed_workers(spec) if self._is_rolling_out() else 0
        demanded, self._demanded = int(self._demanded), False
        wanted = max(desired_workers(Load(load.in_flight, max(load.queued, demanded)), spec), floor)
        self._window = self._window.add(now, wanted)
        return Situation(
            endpoint=self.record,
            workers=tuple(Worker(p.id, p.generation, p.phase, p.since) for p in self._processes.values()),
            generations={n: g.seen(trials.get(n, Trial())) for n, g in self._generations.items()},
            desired=min(max(self._window.highest, spec.min_workers), spec.max_workers),
            limit=capacity_limit(spec, parts.engine.capacity(), parts.usage_beside(self.record.id)),
            gpus=Gpus(parts.gpus.free, parts.gpus.waits_for(spec), parts.gpus.problem(spec)),
            now=now,
        )

    def _is_rolling_out(self) -> bool:
        return self.record.status in (EndpointStatus.UPDATE_PENDING, EndpointStatus.UPDATE_IN_PROGRESS)

    async def _do(self, action: Action) -> None:
        match action:
            case BuildEnvironment(generation, bundle_id):
                self._begin_build(generation, bundle_id)
            case StartWorker(generation):
                await self._start(generation)
            case DrainWorker(worker_id):
                self._drain(worker_id)
            case StopWorker(worker_id, failure):
                self._stop(worker_id, failure)
            case SetStatus():
                await self._set_status(action)
            case SetCanary():
                await self._set_canary(action)
            case Refuse(reason):
                self._parts.fleet.fail_waiting(self.record.id, reason)
            case _:
                assert_never(action)

    # Status.

    async def _set_status(self, action: SetStatus) -> None:
        endpoint_id, generation, now = self.record.id, self.record.generation, self._parts.clock()

        def write(conn: Connection) -> EndpointRecord | None:
            endpoints.set_status(
                conn,
                endpoint_id,
                generation,
                action.status,
                action.reason,
                now,
                ready_generation=action.ready_generation,
                ready_bundle_id=action.ready_bundle_id,
                rejected_generation=action.rejected_generation,
            )
            return endpoints.get(conn, endpoint_id)

        before = self.record
        record = await self._parts.store.write(write)
        if record is None or record == before:
            return
        self.adopt(record)
        if (record.status, record.status_reason) != (before.status, before.status_reason):
            # What a model has raised may tell of its input: that is for the endpoint's owner alone.
            told = "its first predictions failed" if record.is_rejected else record.status_reason
            log.info("endpoint %r: %s%s", record.name, record.status, _after_colon(told))
            self._note(f"{record.status}{_after_colon(record.status_reason)}")
        self._tell_outcome(before, record)

    def _tell_outcome(self, before: EndpointRecord, now: EndpointRecord) -> None:
        if now.ready_generation not in (None, before.ready_generation):
            self._tell(
                EventKind.ROLLED_OUT, f"generation {now.ready_generation}, bundle {now.ready_bundle_id}"
            )
        failed = EndpointStatus.UPDATE_FAILED
        if now.status is failed and (before.status is not failed or before.generation != now.generation):
            self._tell(EventKind.UPDATE_FAILED, now.status_reason or "")

    def _tell_scale(self, s: Situation) -> None:
        """Tell how many workers there should be from now on; during a roll-out, that says nothing of the load."""
        if self._is_rolling_out():
            self._scale = _at_rest(self.record.spec)
            return
        load, spec = self._parts.fleet.load(self.record.id), self.record.spec
        wanted = min(s.desired, s.limit)
        scale = Scale(wanted, load.in_flight, load.queued, spec.min_workers, spec.max_workers)
        if (event := scaling_event(self._scale, scale)) is not None:
            self._tell(*event)
        self._scale = scale

    async def _set_canary(self, action: SetCanary) -> None:
        endpoint_id, generation = self.record.id, action.generation

        def write(conn: Connection) -> EndpointRecord | None:
            endpoints.set_canary(conn, endpoint_id, generation, action.status, action.reason)
            return endpoints.get(conn, endpoint_id)

        record = await self._parts.store.write(write)
        if record is None or record == self.record:
            return
        self.adopt(record)
        log.info("endpoint %r: its canary is %s", record.name, action.status)
        self._note(f"canary {action.status}{_after_colon(action.reason)}")
        self._tell(EventKind.CANARY, f"{action.status}{_after_colon(action.reason)}")

    # Environments.

    def _begin_build(self, number: int, bundle_id: str) -> None:
        generation = self._generation(number)
        generation.build = Build.QUEUED
        title = f"generation {number}: bundle {bundle_id}"
        if number == self.record.generation and generation.history.failure is None:
            self._parts.logs.begin_creation(self.record.id, title)
        else:
            self._note(title)
        self._tasks.spawn(self._build(generation, bundle_id))

    async def _build(self, generation: _Generation, bundle_id: str) -> None:
        began = self._now()

        def started() -> None:
            generation.build = Build.BUILDING
            self._tell(EventKind.ENVIRONMENT_BUILDING)
            self._wake.set()

        try:
            bundle = await self._parts.store.read(lambda conn: bundles.get(conn, bundle_id))
            if bundle is None:
                raise EnvironmentFailed(f"the bundle {bundle_id} is not there any more")
            requirements, version = (
                bundle.flavor.get("requirements") or [],
                bundle.flavor.get("python_version"),
            )
            if is_image(bundle.flavor):
                started()
                await self._parts.images.prepare(bundle.flavor, self.record.spec, self._note)
            generation.python = await self._parts.environments.ensure(
                requirements, version, self._note, started
            )
            generation.bundle, generation.build = bundle, Build.BUILT
            self._tell(EventKind.ENVIRONMENT_BUILT)
            self._parts.environment_built()
        except Exception as error:
            self._build_failed(generation, began, error)
        self._wake.set()

    def _build_failed(self, generation: _Generation, began: float, error: Exception) -> None:
        if not isinstance(error, EnvironmentFailed | ContainerError):
            log.error("the environment of endpoint %r failed", self.record.name, exc_info=error)
        reason = str(error)[:MAX_REASON] or type(error).__name__
        self._note(reason)
        self._tell(EventKind.ENVIRONMENT_FAILED, reason)
        generation.build = Build.NONE
        generation.history = generation.history.load_failed(self._now(), began, reason)

    # Workers.

    async def _start(self, number: int) -> None:
        generation, parts = self._generation(number), self._parts
        if generation.bundle is None or generation.python is None:
            return
        short_id, token = secrets.token_hex(4), secrets.token_urlsafe(32)
        worker_id = f"{self.record.id}.{short_id}"
        log_path = parts.logs.worker_path(self.record.id, short_id)
        asked = self.record.spec_of(number)
        gpus = parts.gpus.take(worker_id, asked.gpus)
        if gpus is None:
            return
        process = _Process(worker_id, short_id, number, self._now(), log_path, since=self._now())
        self._processes[worker_id] = process
        flavor = generation.bundle.flavor
        env: Mapping[str, str] = {}
        try:
            if is_image(flavor):
                order = parts.images.order(worker_id, flavor, asked, gpus)
                env = {**parts.images.environ, IMAGE: json.dumps(order.to_json())}
            parts.fleet.expect(worker_id, token, self.record, generation.bundle, number)
            spec = WorkerSpec(
                *(
                    worker_id,
                    self.record.id,
                    generation.python,
                    parts.fleet.address,
                    token,
                    log_path,
                    gpus,
                    env,
                ),
                isolated=not is_image(flavor),
                memory=_memory(asked) if parts.settings.limit_memory else 0,
            )
            await parts.engine.start(spec, self._on_exit)
            self._tell(EventKind.WORKER_STARTED)
        except (OSError, ContainerError) as error:
            generation.build = Build.NONE  # the environment may be gone: it is looked for again
            self._gone(process, f"could not be started: {error}")

    def _drain(self, worker_id: str) -> None:
        process = self._processes.get(worker_id)
        if process is not None and process.phase is Phase.READY:
            process.enter(Phase.DRAINING, self._now())
            process.expected = True
            self._parts.fleet.drain(worker_id)

    def _stop(self, worker_id: str, failure: str | None) -> None:
        process = self._processes.get(worker_id)
        if process is None or process.phase is Phase.STOPPING:
            return
        if failure is not None:
            self._note(f"worker {process.short_id} is stopped: {failure}")
            self._load_failed(process, failure)
        elif process.phase is Phase.DRAINING:
            process.end_reason = "was stopped: what it ran was not done in time"
        process.enter(Phase.STOPPING, self._now())
        process.expected = True
        self._tasks.spawn(self._parts.engine.stop(worker_id, self._parts.settings.stop_grace))

    def _load_failed(self, process: _Process, reason: str) -> None:
        generation = self._generation(process.generation)
        generation.history = generation.history.load_failed(
            self._now(), process.started_at, reason[:MAX_REASON]
        )
        process.enter(Phase.STOPPING, self._now())
        process.expected = process.told = True
        self._tell(EventKind.WORKER_FAILED, reason)
        self._wake.set()

    async def _end(self, process: _Process, grace: float) -> None:
        """The process should be ending by itself: see to it that it does."""
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await process.gone.wait()
        if not process.gone.is_set():
            process.end_reason = process.end_reason or "lost its connection, and was stopped"
            await self._parts.engine.stop(process.id, grace)

    async def _kill_when_unwanted(self, process: _Process) -> None:
        """Let what else runs in the worker finish, within bounds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._parts.settings.stuck_grace):
                while self._parts.fleet.is_wanted(process.id):  # noqa: ASYNC110 -- it has no event for this alone
                    await asyncio.sleep(POLL_SECONDS)
        await self._parts.engine.stop(process.id, grace=0)

    def _on_exit(self, worker_id: str, ended: WorkerExit) -> None:
        process = self._processes.get(worker_id)
        if process is not None:
            self._gone(process, process.end_reason or str(ended))

    def _gone(self, process: _Process, reason: str) -> None:
        del self._processes[process.id]
        self._parts.gpus.give_back(process.id)
        excused = self._parts.fleet.is_excused(process.id)
        self._parts.fleet.forget(process.id, reason)
        if not process.expected:
            self._failed(process, reason, excused)
        elif not process.told:
            drained = process.phase is Phase.DRAINING
            self._tell(EventKind.WORKER_DRAINED if drained else EventKind.WORKER_STOPPED)
        process.gone.set()
        self._wake.set()

    def _failed(self, process: _Process, end: str, excused: bool) -> None:
        """The worker ended by itself, while it served or before it was ready."""
        now, generation = self._now(), self._generation(process.generation)
        log.warning("worker %s of endpoint %r %s", process.short_id, self.record.name, end)
        self._note(f"worker {process.short_id} {end}")
        early = "" if process.ready_at is not None else " before it was ready"
        self._tell(EventKind.WORKER_CRASHED, end.removeprefix("was ") + early)
        if process.ready_at is not None:
            retry = self._parts.settings.policy.retry
            generation.history = generation.history.crashed(
                now, process.ready_at, process.started_at, end, retry, excused=excused
            )
            return
        last = "\n".join(tail(process.log_path, LOG_TAIL_BYTES).splitlines()[-LOG_LINES:])
        reason = f"a worker {end} before it was ready" + (f"; its log ends with:\n{last}" if last else "")
        generation.history = generation.history.exited_early(now, process.started_at, reason[:MAX_REASON])

    # The end.

    async def retire(self, grace: float) -> None:
        """Let every worker finish what it runs, and stop those that have not after `grace` seconds.

        The loop must have ended before.
        """
        self._tasks.cancel()
        processes = list(self._processes.values())
        for process in processes:
            self._drain(process.id)
        await asyncio.gather(*(self._finish(process, grace) for process in processes))

    async def _finish(self, process: _Process, grace: float) -> None:
        if process.phase is Phase.DRAINING:
            with suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await process.gone.wait()
        if not process.gone.is_set():
            process.expected = True
            await self._parts.engine.stop(process.id, grace=0)

    async def delete(self) -> None:
        """Retire the workers, then delete the endpoint's row and its logs."""
        endpoint_id = self.record.id
        self._parts.fleet.remove_endpoint(endpoint_id)
        await self.retire(self._parts.settings.delete_grace)
        await self._parts.store.write(lambda conn: endpoints.delete(conn, endpoint_id))
        await self._parts.events.forget(endpoint_id)
        await asyncio.to_thread(self._parts.logs.remove, endpoint_id)

    # Small things.

    def _now(self) -> float:
        return self._loop.time()

    def _generation(self, number: int) -> _Generation:
        """The generation's state; what nothing refers to any more is dropped when a new one comes."""
        if number not in self._generations:
            kept = {p.generation for p in self._processes.values()}
            kept |= {self.record.generation, self.record.ready_generation or 0}
            kept |= {self.record.canary.generation} if self.record.canary else set()
            self._generations = {n: g for n, g in self._generations.items() if n in kept}
            self._generations[number] = _Generation()
        return self._generations[number]

    def _note(self, text: str) -> None:
        self._parts.logs.add_creation(self.record.id, text)

    def _tell(self, kind: EventKind, detail: str = "") -> None:
        self._parts.events.add(self.record.id, kind, detail)

    def _prune_logs(self) -> None:
        if self._now() - self._pruned_at > PRUNE_LOGS_EVERY:
            self._pruned_at = self._now()
            running = {process.short_id for process in self._processes.values()}
            self._parts.logs.prune(self.record.id, running)


def _memory(spec: EndpointSpec) -> int:
    """What a worker may use: what its endpoint says, and the stack of a thread for each slot."""
    return spec.memory_bytes + spec.slots * THREAD_STACK_BYTES


def _at_rest(spec: EndpointSpec) -> Scale:
    """The scale without any load, which the first one is told against."""
    return Scale(spec.min_workers, 0, 0, spec.min_workers, spec.max_workers)


def _after_colon(text: str | None) -> str:
    return f": {text}" if text else ""
