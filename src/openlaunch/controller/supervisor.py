"""Looks after one endpoint: observes, asks the plan what to do, and does it."""

import asyncio
import logging
import math
from contextlib import suppress
from dataclasses import replace
from typing import assert_never

from sqlalchemy import Connection

from openlaunch.controller import actions, scaling
from openlaunch.controller.endpoint import Parts, WatchedEndpoint
from openlaunch.controller.explain import explain
from openlaunch.controller.fleet import Load
from openlaunch.controller.gpu_shares import is_held_up, lacks_workers, share_of
from openlaunch.controller.gpus import Gpus
from openlaunch.controller.plan import ALIVE, plan
from openlaunch.controller.recorder import Recorder
from openlaunch.controller.scaling import DesireWindow
from openlaunch.controller.situation import Phase, Situation
from openlaunch.controller.worker_control import WorkerControl
from openlaunch.controller.worker_events import WorkerEvents
from openlaunch.engines.documents import Capacity, KeptWorker
from openlaunch.store import endpoints
from openlaunch.store.records import EndpointRecord
from openlaunch.wire.why import EndpointWhy

log = logging.getLogger(__name__)

MIN_INTERVAL = 0.01
"""Seconds between two looks at an endpoint: events that come closer together are seen at once."""

IDLE_INTERVAL = 10.0
"""Seconds between two looks at an endpoint that is idle."""

IDLE_TICKS = 4
"""Ticks between two checks whether an endpoint is still idle."""

MAX_INTERVAL = 10.0
"""Seconds between two looks after errors in a row."""


class Supervisor:
    """Keeps one endpoint at what is asked for. Used in the event loop's thread only."""

    def __init__(self, record: EndpointRecord, parts: Parts) -> None:
        self.endpoint = WatchedEndpoint(record, parts)
        self._control = WorkerControl(self.endpoint)
        self.roster = self._control.roster
        self.generations = self._control.generations
        self.events = WorkerEvents(self._control)
        self._recorder = Recorder(self.endpoint)
        self._parts = parts
        self._demanded = False
        self._window = DesireWindow(parts.settings.scale_down_after)
        self._gives = 0
        """How many workers it gives up at this look, because others wait for their GPUs."""
        self._look_at = 0.0
        """When to look again, although the endpoint is idle."""
        self._loop = asyncio.create_task(self._run())

    def demand(self) -> None:
        """Look at the endpoint now, because something waits for a worker."""
        self._demanded = True
        self.endpoint.changed.set()

    def adopt(self, kept: KeptWorker) -> bool:
        """Use a worker of an earlier server, for a while at least, if the endpoint still has such workers."""
        if not self._control.adopt(kept):
            return False
        self._window = self._window.add(self.endpoint.now(), len(self.roster))
        self.endpoint.changed.set()
        return True

    def explain(self) -> EndpointWhy:
        """Say why it serves or does not, now. What the next look goes by stays as it is."""
        demanded, window = self._demanded, self._window
        try:
            situation = self.observe()
        finally:
            self._demanded, self._window = demanded, window
        return explain(situation, self._parts.traffic.load(self.endpoint.id), self._parts.settings.policy)

    async def _run(self) -> None:
        """Look at the endpoint when something happened and every tick, for ever. Errors are logged."""
        errors = 0
        while True:
            self.endpoint.changed.clear()
            try:
                await self._reconcile()
                errors = 0
            except Exception:
                errors += 1
                name = self.endpoint.record.name
                log.exception("the endpoint %r could not be looked after; trying again", name)
            pause = MIN_INTERVAL if not errors else min(MAX_INTERVAL, self._parts.settings.tick * 2**errors)
            await asyncio.sleep(pause)
            await self._next_event()

    async def _next_event(self) -> None:
        changed, pause = self.endpoint.changed, self._parts.settings.tick
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await changed.wait()
            if changed.is_set() or not self._is_idle():
                return
            pause = self._parts.settings.tick * IDLE_TICKS

    def _is_idle(self) -> bool:
        """Return whether nothing is to be done without an event, which saves the work of planning."""
        if self.endpoint.now() >= self._look_at or self.endpoint.tasks:
            return False
        return self._parts.traffic.load(self.endpoint.id) == Load(0, 0)

    def _replace_old(self) -> float:
        """Have workers replaced that are as old as they may be, and return when the next one will be."""
        age, now, due = self.endpoint.record.spec.max_worker_age, self.endpoint.now(), math.inf
        for worker in self.roster if age else ():
            if worker.ready_at is not None and worker.phase is Phase.READY and not worker.worn:
                old_at = worker.ready_at + (age or 0)
                if old_at <= now:
                    self.events.worn(worker.id, f"it is {age:g} s old")
                else:
                    due = min(due, old_at)
        return due

    async def _reconcile(self) -> None:
        next_old = self._replace_old()
        if self._parts.sleepers:
            self._parts.sleepers.keep_within(self._control.sleep_room())
        situation = self.observe()
        self._recorder.set_scale(min(situation.desired, situation.limit), gives=self._gives > 0)
        actions = plan(situation, self._parts.settings.policy)
        settled = not actions and situation.is_settled
        look_at = min(situation.now + IDLE_INTERVAL, self._window.falls_at, next_old)
        self._look_at = look_at if settled else 0.0
        self._control.ahead = 0
        for action in actions:
            await self._do(action)

    def observe(self) -> Situation:
        """Return what a plan is made of, and count the load of now among the last."""
        record, parts, now = self.endpoint.record, self._parts, self.endpoint.now()
        spec, capacity = record.spec, parts.engine.capacity()
        load = parts.traffic.load(record.id)
        floor = scaling.needed_workers(spec) if self.endpoint.is_rolling_out else 0
        demanded, self._demanded = int(self._demanded), False
        wanted = max(scaling.desired_workers(Load(load.in_flight, max(load.queued, demanded)), spec), floor)
        self._window = self._window.add(now, wanted)
        no_room = self._control.no_room
        situation = Situation(
            endpoint=record,
            workers=self.roster.seen(parts.engine.nodes.leaving()),
            generations=self.generations.seen(parts.traffic.trials(record.id)),
            desired=min(max(self._window.highest, spec.min_workers), spec.max_workers),
            limit=scaling.capacity_limit(spec, capacity, parts.holdings.beside(record.id)),
            gpus=Gpus.of(spec, capacity),
            now=now,
            no_room=no_room if no_room is not None and no_room.stands(now) else None,
        )
        if spec.gpus >= 1 and not capacity.elastic:
            return self._shared(situation, capacity, is_busy=load != Load(0, 0))
        self._gives = 0
        parts.gpu_shares.forget(record.id)
        return situation

    def _shared(self, s: Situation, capacity: Capacity, *, is_busy: bool) -> Situation:
        """Return the situation with the GPUs that the endpoint may take, and without workers that it gives up."""
        shares, spec, endpoint_id = self._parts.gpu_shares, s.endpoint.spec, self.endpoint.id
        share, wake = share_of(s, is_busy=is_busy), self.endpoint.changed.set
        lacks = lacks_workers(s, self._parts.settings.policy)
        waits = lacks and not is_held_up(s, capacity.free_gpus)
        waited = shares.report(endpoint_id, share, s.now, wake, waits=waits)
        if waited is not None:
            self._parts.traffic.numbers(endpoint_id).waited_for_gpus(waited)
        swaps = shares.swaps(capacity.free_gpus, s.now)
        shares.wake_givers(swaps, but=endpoint_id)
        may_take = swaps.free_for(endpoint_id, capacity.free_gpus)
        gpus = Gpus.of(spec, replace(capacity, free_gpus=may_take))
        if lacks and gpus.waits_for is not None:
            gpus = replace(gpus, waits_for=f"{gpus.waits_for}; {shares.whose(endpoint_id, s.now)}")
        gives = self._gives = swaps.gives.get(endpoint_id, 0)
        if gives:  # what was wanted before counts no more
            self._window = DesireWindow(self._parts.settings.scale_down_after)
        keeps = max(spec.min_workers, s.count(*ALIVE) - gives) if gives else s.desired
        return replace(s, gpus=gpus, desired=min(s.desired, keeps))

    async def _do(self, action: actions.Action) -> None:
        match action:
            case actions.BuildEnvironment(generation, bundle_id):
                self.generations.begin_build(generation, bundle_id)
            case actions.StartWorker(generation):
                await self._control.start(generation)
            case actions.DrainWorker(worker_id):
                if not self._gives:
                    self._control.drain(worker_id)
                else:
                    self._control.rest(worker_id)
                    self._parts.traffic.numbers(self.endpoint.id).swapped()
            case actions.StopWorker(worker_id, failure):
                self._control.stop(worker_id, failure)
            case actions.SetStatus():
                await self._recorder.set_status(action)
            case actions.SetCanary():
                await self._recorder.set_canary(action)
            case actions.Refuse(reason):
                self._parts.traffic.fail_waiting(self.endpoint.id, reason)
            case _:
                assert_never(action)

    async def end_loop(self) -> None:
        """Change nothing more."""
        self._loop.cancel()
        await asyncio.wait({self._loop})

    async def retire(self, grace: float) -> None:
        """Let workers finish what they run, and stop them after `grace` seconds. The loop must have ended before."""
        self.endpoint.tasks.cancel()
        await self._control.retire(grace)

    def leave(self) -> None:
        """Leave the workers as they are. The loop must have ended before."""
        self.endpoint.tasks.cancel()

    async def delete(self) -> None:
        endpoint_id, parts = self.endpoint.id, self._parts
        parts.traffic.remove_endpoint(endpoint_id)
        await self.retire(parts.settings.delete_grace)
        parts.holdings.forget(endpoint_id)
        parts.gpu_shares.forget(endpoint_id)

        def remove(conn: Connection) -> None:
            parts.check_leads(conn)
            endpoints.delete(conn, endpoint_id)

        await parts.store.write(remove)
        await parts.events.forget(endpoint_id)
        await parts.engine.logs.remove(endpoint_id)
        await asyncio.to_thread(parts.logs.remove, endpoint_id)
