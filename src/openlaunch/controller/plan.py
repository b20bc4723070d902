"""Decides what to do, from what is wanted and what is there. Pure: the time is part of the situation.

The newest generation of an endpoint replaces the older ones worker by worker: as many old workers stay as the
newest lacks ready ones. While the newest is not known to load, the `ready` generation is the fallback: it is
kept at its full size, and still serves when the newest fails. Where a rule asks for it, the fallback's workers are
kept until the newest has passed its probation; the newest is rejected when its first predictions fail.

A canary is a generation beside these, with workers on top of theirs, so its fate does not change them. Its number is
above the endpoint's, and becomes the endpoint's when the canary is promoted.
"""

import math
from collections.abc import Iterable, Iterator

from openlaunch.controller.actions import (
    Action,
    BuildEnvironment,
    DrainWorker,
    SetCanary,
    StartWorker,
    StopWorker,
)
from openlaunch.controller.situation import (
    BUILD_PROGRESS,
    UNKNOWN,
    Build,
    Phase,
    Policy,
    Situation,
    Worker,
    bundle_label,
)
from openlaunch.controller.status import record
from openlaunch.controller.trial import Rule, failed_predictions
from openlaunch.store.records import CanaryRecord
from openlaunch.wire.endpoints import CanaryStatus, EndpointStatus


def plan(s: Situation, policy: Policy) -> list[Action]:
    """Return what to do now. Doing it, and planning again after each event, leads to what is wanted.

    Nothing is planned for an endpoint that is being deleted: its workers are retired, and its status stays.
    """
    if s.endpoint.status is EndpointStatus.DELETE_IN_PROGRESS:
        return []
    older = list(_older_workers(s, policy))
    newest = list(_newest_workers(s, policy, _starts(older)))
    return [
        *_stop_overdue(s, policy),
        *_stop_outdated_sleepers(s),
        *_build(s, policy),
        *newest,
        *older,
        *_canary(s, policy, _starts(older) + _starts(newest)),
        *record(s),
    ]


def _starts(actions: Iterable[Action]) -> int:
    return sum(isinstance(action, StartWorker) for action in actions)


def _stop_overdue(s: Situation, policy: Policy) -> Iterator[Action]:
    for worker in (*s.select(Phase.STARTING), *s.beside(Phase.STARTING)):
        allowed = s.generations.get(worker.generation, UNKNOWN).load_seconds or policy.load_timeout
        if s.now - worker.since > allowed:
            yield StopWorker(worker.id, f"a worker was not ready within {allowed:g} s of its start")
    for worker in (*s.select(Phase.DRAINING), *s.beside(Phase.DRAINING)):
        if s.now - worker.since > policy.drain_timeout:
            yield StopWorker(worker.id)


def _stop_outdated_sleepers(s: Situation) -> Iterator[Action]:
    for worker in s.workers:
        if worker.phase is Phase.ASLEEP and worker.generation != s.endpoint.generation:
            yield StopWorker(worker.id)


def _build(s: Situation, policy: Policy) -> Iterator[Action]:
    """Build what is missing; after a failure only while there is somebody to serve, and with back-off."""
    endpoint = s.endpoint
    if s.rejection is None and (s.problem is None or s.target > 0):
        yield from _build_one(s, endpoint.generation, endpoint.bundle_id, policy)
    if s.fallback is not None and endpoint.ready_bundle_id is not None and s.target > 0:
        yield from _build_one(s, s.fallback, endpoint.ready_bundle_id, policy)


def _build_one(s: Situation, generation: int, bundle_id: str, policy: Policy) -> Iterator[Action]:
    state = s.generations.get(generation, UNKNOWN)
    if state.build is Build.NONE and state.history.next_start(policy.retry) <= s.now:
        yield BuildEnvironment(generation, bundle_id)


ALIVE = (Phase.STARTING, Phase.READY, Phase.LOST)
"""LOST workers keep their place until it is known how they ended, which decides on the back-off."""


def _newest_workers(s: Situation, policy: Policy, promised: int) -> Iterator[Action]:
    """Scale the newest generation; the GPUs of `promised` workers are for the fallback, which is known to load."""
    alive = s.count(*ALIVE, newest=True)
    if s.rejection is not None:
        yield from _scale_down(s, alive, newest=True)
        return
    if alive > s.target:
        lost = s.count(Phase.LOST, newest=True)  # they serve nobody, and are ending
        yield from _scale_down(s, alive - lost - s.target, newest=True)
        return
    missing = s.target - alive
    if s.problem is not None:  # one worker at a time tries whether it loads again
        missing = min(missing, 1 - s.count(Phase.STARTING, newest=True))
    if missing <= 0 or s.gpus.problem is not None or not s.may_start(s.endpoint.generation, policy):
        return
    startable = _startable(s, missing, promised)
    yield from (StartWorker(s.endpoint.generation, s.endpoint.bundle_id) for _ in range(startable))
    coming = 0 if s.needs_room else startable
    if s.problem is None:
        yield from _make_room(s, missing - coming, alive + coming)


def _startable(s: Situation, missing: int, promised: int = 0) -> int:
    gpus = s.endpoint.spec.gpus
    return min(missing, max(0, s.gpus.room_for(gpus) - promised)) if gpus else missing


def _make_room(s: Situation, short: int, coming: int) -> Iterator[Action]:
    """Let old workers give up what they hold; one serves until a new one is ready, unless none can come with it."""
    leaving = s.count(Phase.DRAINING, Phase.STOPPING, newest=False)
    there, serving = s.count(Phase.STARTING, Phase.READY, newest=False), s.count(Phase.READY, newest=False)
    keeps_one = not s.count(Phase.READY, newest=True) and (serving > 1 or leaving + coming > 0)
    yield from _scale_down(s, min(short - leaving, there - keeps_one), newest=False)


def _older_workers(s: Situation, policy: Policy) -> Iterator[Action]:
    """Keep as many as the newest lacks ready workers, on probation all; replace them only as the fallback."""
    outdated = [
        w for w in s.select(Phase.STARTING, newest=False) if w.generation != s.endpoint.ready_generation
    ]
    yield from (StopWorker(w.id) for w in outdated)
    wanted = max(0, s.target - s.ready_newest)
    kept = s.target if s.on_probation else wanted
    alive = s.count(*ALIVE, newest=False) - len(outdated)
    if alive > kept:
        lost = s.count(Phase.LOST, newest=False)
        yield from _scale_down(s, alive - lost - kept, newest=False, but=outdated)
    elif wanted > alive:
        yield from _start_fallback(s, wanted - alive, policy)


def _start_fallback(s: Situation, missing: int, policy: Policy) -> Iterator[Action]:
    generation, bundle_id = s.fallback, s.endpoint.ready_bundle_id
    if generation is None or bundle_id is None or not s.may_start(generation, policy):
        return
    newest_may_come = s.problem is None and s.newest.build is Build.BUILT
    is_scarce = s.endpoint.spec.gpus or s.no_room is not None
    if is_scarce and newest_may_come:  # the GPUs, or the room, are for the newest
        return
    yield from (StartWorker(generation, bundle_id) for _ in range(_startable(s, missing)))


def _scale_down(s: Situation, surplus: int, *, newest: bool, but: Iterable[Worker] = ()) -> Iterator[Action]:
    """Let `surplus` workers leave, of the ready ones the youngest: the oldest have the warmest caches."""
    spared = {worker.id for worker in but}
    there = s.select(Phase.STARTING, Phase.READY, newest=newest)
    yield from _leave([w for w in there if w.id not in spared], surplus)


def _leave(workers: Iterable[Worker], surplus: int) -> Iterator[Action]:
    """Let `surplus` of the workers leave, first those that are not ready, in the given order."""
    workers = list(workers)
    leaving: list[Action] = [StopWorker(w.id) for w in workers if w.phase is Phase.STARTING]
    leaving += [DrainWorker(w.id) for w in workers if w.phase is Phase.READY]
    yield from leaving[: max(0, surplus)]


def _canary(s: Situation, policy: Policy, promised: int) -> Iterator[Action]:
    """Keep the canary's workers at its share; those of one that has ended leave."""
    canary = s.endpoint.live_canary
    failure = None if canary is None else _canary_failure(s, canary)
    ended = canary is None or failure is not None
    staying = [w for w in s.beside(*ALIVE) if not ended and canary and w.generation == canary.generation]
    leaving = [w for w in s.beside(Phase.STARTING, Phase.READY) if w not in staying]
    yield from _leave(leaving, len(leaving))
    if canary is None:
        return
    if failure is None:
        yield from _canary_workers(s, canary, staying, policy, promised)
    yield from _record_canary(s, canary, failure)


def _canary_workers(
    s: Situation, canary: CanaryRecord, alive: list[Worker], policy: Policy, promised: int
) -> Iterator[Action]:
    yield from _build_one(s, canary.generation, canary.bundle_id, policy)
    target = _canary_target(s, canary)
    worn, alive = [w for w in alive if w.worn], [w for w in alive if not w.worn]
    if sum(w.phase is Phase.READY for w in alive) >= target:
        yield from _leave(worn, len(worn))
    if len(alive) > target:
        lost = sum(w.phase is Phase.LOST for w in alive)
        yield from _leave([w for w in alive if w.phase is not Phase.LOST], len(alive) - lost - target)
    elif s.may_start(canary.generation, policy):
        missing = _startable(s, target - len(alive), promised)
        yield from (StartWorker(canary.generation, canary.bundle_id) for _ in range(missing))


def _canary_target(s: Situation, canary: CanaryRecord) -> int:
    """Return how many workers its share of the load fills, within what fits beside the others; at least 1."""
    share = math.ceil(s.target * canary.percent / 100)
    return max(1, min(share, s.limit - s.target))


def _canary_failure(s: Situation, canary: CanaryRecord) -> str | None:
    """Say why the canary is over: none of its workers can load its bundle, or its first predictions failed."""
    state = s.generations.get(canary.generation, UNKNOWN)
    if state.history.failure is not None and not _ready_canaries(s, canary):
        return state.history.failure
    rule = Rule.of(canary)
    return failed_predictions(state.trial, rule, bundle_label(state, canary.bundle_id))


def _ready_canaries(s: Situation, canary: CanaryRecord) -> int:
    return sum(w.generation == canary.generation for w in s.beside(Phase.READY))


def _record_canary(s: Situation, canary: CanaryRecord, failure: str | None) -> Iterator[Action]:
    if failure is not None:
        new = SetCanary(canary.generation, CanaryStatus.FAILED, failure)
    elif canary.status is CanaryStatus.SERVING or _ready_canaries(s, canary):
        note = s.generations.get(canary.generation, UNKNOWN).history.crash_note(s.now)
        new = SetCanary(canary.generation, CanaryStatus.SERVING, note)
    else:
        new = SetCanary(canary.generation, CanaryStatus.STARTING, _canary_progress(s, canary))
    if new != SetCanary(canary.generation, canary.status, canary.reason):
        yield new


def _canary_progress(s: Situation, canary: CanaryRecord) -> str | None:
    state = s.generations.get(canary.generation, UNKNOWN)
    if state.build is Build.BUILDING:
        return BUILD_PROGRESS[state.build]
    started = any(w.generation == canary.generation for w in s.beside(Phase.STARTING))
    return state.history.early_end or (None if started else s.waits_for)
