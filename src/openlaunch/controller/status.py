"""Which status an endpoint has, and the reason that its owner reads. Pure."""

from collections.abc import Iterator

from openlaunch.controller.actions import Action, Refuse, SetStatus
from openlaunch.controller.scaling import needed_workers
from openlaunch.controller.situation import BUILD_PROGRESS, UNKNOWN, Build, Phase, Situation, does_not_fit
from openlaunch.controller.trial import PROBATION_SECONDS
from openlaunch.wire.endpoints import EndpointStatus


def record(s: Situation) -> Iterator[Action]:
    """Record the status and its reason where they change, and refuse what waits where nothing can serve it."""
    endpoint = s.endpoint
    status, reason = _status(s)
    proven = s.ready_newest > 0 and not s.on_probation
    ready = (
        (endpoint.generation, endpoint.bundle_id)
        if proven
        else (endpoint.ready_generation, endpoint.ready_bundle_id)
    )
    rejected = endpoint.generation if s.rejection is not None else endpoint.rejected_generation
    new = SetStatus(status, reason, *ready, rejected)
    old = SetStatus(
        endpoint.status,
        endpoint.status_reason,
        endpoint.ready_generation,
        endpoint.ready_bundle_id,
        endpoint.rejected_generation,
    )
    if new != old:
        yield new
    if status is EndpointStatus.UPDATE_FAILED and reason is not None and not _can_serve(s):
        yield Refuse(reason)


def _can_serve(s: Situation) -> bool:
    """Return whether a worker is ready, or an older generation can provide one."""
    if s.count(Phase.READY):
        return True
    if s.fallback is None or s.gpus.problem is not None:
        return False
    return s.generations.get(s.fallback, UNKNOWN).history.failure is None


def _status(s: Situation) -> tuple[EndpointStatus, str | None]:
    status, ready = s.endpoint.status, s.ready_newest
    needed = needed_workers(s.endpoint.spec)
    if s.rejection is not None:
        return EndpointStatus.UPDATE_FAILED, s.rejection
    if ready and ready >= needed:
        return EndpointStatus.READY, _ready_note(s)
    if s.problem is not None and (not ready or status is not EndpointStatus.READY):
        return EndpointStatus.UPDATE_FAILED, s.problem
    if status is EndpointStatus.UPDATE_FAILED and s.endpoint.spec.max_workers:
        # Another try is under way, and has not succeeded yet. Where no worker may be, there will be no try.
        return status, s.endpoint.status_reason
    if status is EndpointStatus.READY or (s.newest.build is Build.BUILT and not needed):
        return EndpointStatus.READY, _ready_note(s)
    return _progress(s, ready, needed)


def _ready_note(s: Situation) -> str | None:
    history = s.newest.history
    if history.failure is not None:
        return f"a worker could not be started: {history.failure}"
    if (note := history.crash_note(s.now) or history.stuck_note(s.now)) is not None:
        return note
    if history.early_end is not None:
        return history.early_end
    if s.count(Phase.READY) < s.target and s.waits_for is not None:
        return s.waits_for
    if s.desired > s.target:
        return does_not_fit(s)
    if s.on_probation and s.rule is not None:
        return (
            f"on probation: the older workers are kept until {s.rule.among} predictions have ended, "
            f"or {PROBATION_SECONDS:g} s have passed"
        )
    return None


def _progress(s: Situation, ready: int, needed: int) -> tuple[EndpointStatus, str | None]:
    match s.newest.build:
        case Build.NONE:
            return s.endpoint.status, s.endpoint.status_reason
        case Build.QUEUED:
            return s.endpoint.status, BUILD_PROGRESS[Build.QUEUED]
        case Build.BUILDING:
            return EndpointStatus.UPDATE_IN_PROGRESS, BUILD_PROGRESS[Build.BUILDING]
        case Build.BUILT:
            count = f"{ready} of {needed} workers are ready"
            note = s.newest.history.early_end or s.waits_for
            return EndpointStatus.UPDATE_IN_PROGRESS, f"{count}; {note}" if note else count
