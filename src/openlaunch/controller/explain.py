"""Why an endpoint serves or does not, in words: pure, from what a plan is made of."""

from collections.abc import Iterator

from openlaunch.controller.fleet import Load
from openlaunch.controller.situation import (
    BUILD_PROGRESS,
    Build,
    Phase,
    Policy,
    Situation,
    count_of_workers,
    does_not_fit,
)
from openlaunch.wire.endpoints import EndpointStatus
from openlaunch.wire.why import EndpointWhy, Reason, ReasonCode


def explain(s: Situation, load: Load, policy: Policy) -> EndpointWhy:
    """Say how the endpoint stands."""
    ready = s.count(Phase.READY)
    return EndpointWhy(
        pending=ready == 0,
        reasons=list(_reasons(s, load, policy))
        or [_reason(ReasonCode.STARTING, "a worker is about to start")],
        ready_workers=ready,
        starting_workers=s.count(Phase.STARTING),
        slots=ready * s.endpoint.spec.slots,
        in_flight=load.in_flight,
        queued=load.queued,
    )


_FOR_CALLERS = {
    ReasonCode.BUILDING_ENVIRONMENT: BUILD_PROGRESS[Build.BUILDING],
    ReasonCode.CAN_NOT_LOAD: "it can't be loaded",
    ReasonCode.CRASH_LOOP: "its workers crash",
}
"""In place of messages that have what its code raised, or what it is made of, which is for its owner alone."""


def for_callers(why: EndpointWhy) -> EndpointWhy:
    """Return what those may read who call an endpoint that is somebody else's."""
    shown = [
        reason.model_copy(update={"message": _FOR_CALLERS.get(reason.code, reason.message)})
        for reason in why.reasons
    ]
    return why.model_copy(update={"reasons": shown})


def _reasons(s: Situation, load: Load, policy: Policy) -> Iterator[Reason]:
    spec, ready = s.endpoint.spec, s.count(Phase.READY)
    if s.endpoint.status is EndpointStatus.DELETE_IN_PROGRESS:
        yield _reason(ReasonCode.DELETING, "it is being deleted: its workers finish what they run")
        return
    if spec.max_workers == 0:
        yield _reason(ReasonCode.MAX_WORKERS_ZERO, "max_workers is 0: raise it to let it serve")
        return
    if ready:
        yield _serving(s, load)
    yield from _trouble(s, policy)
    if ready == 0 or s.count(Phase.STARTING):
        yield from _progress(s)


def _serving(s: Situation, load: Load) -> Reason:
    ready, slots = s.count(Phase.READY), s.count(Phase.READY) * s.endpoint.spec.slots
    if load.queued and load.in_flight >= slots:
        return _reason(
            ReasonCode.BUSY,
            f"{_taken(slots)} of its {count_of_workers(ready)} {'is' if slots == 1 else 'are'} taken, and "
            f"{load.queued} request{' waits' if load.queued == 1 else 's wait'}; "
            f"max_workers is {s.endpoint.spec.max_workers}",
        )
    with_slots = f"{count_of_workers(ready)} with {count_of_slots(slots)}"
    return _reason(ReasonCode.SERVING, f"{with_slots} {'serves' if ready == 1 else 'serve'}")


def _taken(slots: int) -> str:
    return "the slot" if slots == 1 else f"all {slots} slots"


def _trouble(s: Situation, policy: Policy) -> Iterator[Reason]:
    """Say what fails, whether or not an older worker serves meanwhile."""
    history = s.newest.history
    wait = max(0.0, history.next_start(policy.retry) - s.now)
    if s.gpus.problem is not None:
        yield _reason(ReasonCode.DOES_NOT_FIT, f"it {s.gpus.problem}")
    elif history.failure is not None:
        yield _reason(ReasonCode.CAN_NOT_LOAD, f"it can't be loaded: {history.failure}", _try(s, wait))
    elif (note := history.crash_note(s.now) or history.early_end) is not None:
        yield _reason(ReasonCode.CRASH_LOOP, f"its workers crash: {note}", _try(s, wait))
    if s.desired > s.count(Phase.READY, Phase.STARTING):
        if s.gpus.waits_for is not None and s.gpus.problem is None:
            yield _reason(ReasonCode.WAITS_FOR_GPUS, s.gpus.waits_for)
        elif s.no_room is not None:
            yield _reason(ReasonCode.WAITS_FOR_ROOM, s.no_room.waits_for)
        if s.desired > s.target and s.count(Phase.READY) >= s.limit:
            yield _reason(ReasonCode.DOES_NOT_FIT, does_not_fit(s))


def _try(s: Situation, wait: float) -> float | None:
    """Return when the next try is; None while nobody asks, and while there are as many workers as asked for."""
    return round(wait, 1) if s.count(Phase.READY, Phase.STARTING, newest=True) < s.target else None


def _progress(s: Situation) -> Iterator[Reason]:
    """Say what is under way to the first worker, or to a further one."""
    starting = s.select(Phase.STARTING)
    if starting:
        oldest = max(s.now - worker.since for worker in starting)
        yield _reason(
            ReasonCode.STARTING,
            f"{count_of_workers(len(starting))} started {oldest:.0f} s ago, and load the bundle",
        )
    elif (build := s.newest.build_progress(s.now)) is not None:
        yield _reason(_BUILD_CODES[s.newest.build], build)
    elif s.target == 0:
        does = "wakes one up that sleeps" if s.count(Phase.ASLEEP) else "starts a worker"
        yield _reason(ReasonCode.IDLE, f"nothing is asked and min_workers is 0: the first request {does}")


_BUILD_CODES = {Build.QUEUED: ReasonCode.BUILD_QUEUED, Build.BUILDING: ReasonCode.BUILDING_ENVIRONMENT}


def _reason(code: ReasonCode, message: str, wait: float | None = None) -> Reason:
    if wait is not None:
        message = message.removesuffix(".")
        message += "; the next try is now" if wait == 0 else f"; the next try is in {wait:g} s"
    return Reason(code=code, message=message, next_try_in=wait)


def task_message(ahead: int, exceeds: bool, endpoint: EndpointWhy) -> str:
    """Say why a task is pending: its place, the slots, and what holds the endpoint up."""
    place = (
        f"more than {ahead:,} tasks are" if exceeds else f"{ahead:,} task{' is' if ahead == 1 else 's are'}"
    )
    before = "it is the next" if ahead == 0 else f"{place} before it"
    slots = count_of_slots(endpoint.slots)
    if not endpoint.pending:
        return (
            f"it waits for a free slot: {before}, for {slots} in {count_of_workers(endpoint.ready_workers)}"
        )
    why = "; ".join(reason.message for reason in endpoint.reasons)
    return f"the endpoint has no worker yet: {why}; {before}"


def count_of_slots(count: int) -> str:
    """Return "1 slot", or "3 slots"."""
    return "1 slot" if count == 1 else f"{count} slots"
