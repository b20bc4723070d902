"""Situations of an endpoint, and what is planned in them."""

from collections.abc import Mapping
from dataclasses import replace

from controller_simulation import POLICY, make_record, make_spec

from openlaunch.controller.actions import (
    Action,
    SetStatus,
)
from openlaunch.controller.backoff import History
from openlaunch.controller.gpus import Gpus
from openlaunch.controller.plan import plan
from openlaunch.controller.situation import (
    Build,
    Generation,
    NoRoomSince,
    Phase,
    Policy,
    Situation,
    Worker,
)
from openlaunch.store.records import EndpointRecord
from openlaunch.wire.endpoints import EndpointStatus

NOW = 1000.0
FAILED = History().load_failed(NOW - 100, NOW - 110, "ImportError: no module named torch")
BUILT = Generation(Build.BUILT)

PENDING = make_record(make_spec())
ROLLED_OUT = replace(PENDING, status=EndpointStatus.READY, ready_generation=1, ready_bundle_id="good")
"""Generation 1 is ready, and is what is wanted."""

CHANGED = replace(ROLLED_OUT, bundle_id="better", generation=2, status=EndpointStatus.UPDATE_IN_PROGRESS)
"""Generation 1 is ready, generation 2 is wanted."""


WAITS = "a worker waits for 2 CPUs on the cluster"


def worker(name: str, generation: int, phase: Phase, age: float = 10.0) -> Worker:
    return Worker(name, generation, phase, NOW - age)


def look(
    endpoint: EndpointRecord,
    *workers: Worker,
    generations: Mapping[int, Generation] | None = None,
    desired: int = 1,
    limit: int = 100,
    gpus: Gpus | None = None,
    waits_since: float | None = None,
) -> Situation:
    no_room = None if waits_since is None else NoRoomSince(WAITS, waits_since, NOW)
    known = {1: BUILT, 2: BUILT} if generations is None else generations
    return Situation(endpoint, workers, known, desired, limit, gpus or Gpus(), NOW, no_room)


def actions_of(situation: Situation, *kinds: type, policy: Policy = POLICY) -> list[Action]:
    return [action for action in plan(situation, policy) if isinstance(action, kinds)]


def status_of(situation: Situation) -> tuple[EndpointStatus, str | None]:
    """The status that holds after the plan."""
    changes = [a for a in plan(situation, POLICY) if isinstance(a, SetStatus)]
    if changes:
        return changes[0].status, changes[0].reason
    return situation.endpoint.status, situation.endpoint.status_reason
