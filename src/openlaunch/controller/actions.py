"""What a plan can ask for."""

from dataclasses import dataclass

from openlaunch.wire.endpoints import CanaryStatus, EndpointStatus


@dataclass(frozen=True, slots=True)
class BuildEnvironment:
    """Build the environment of this generation's bundle."""

    generation: int
    bundle_id: str


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a worker of this generation."""

    generation: int
    bundle_id: str


@dataclass(frozen=True, slots=True)
class DrainWorker:
    """Let the worker finish what it runs, and exit."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Stop the worker. `failure` says why that counts as a failure to load; None when it is just not needed."""

    worker_id: str
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Record where the endpoint stands, which generation was ready last, and one that is rolled back."""

    status: EndpointStatus
    reason: str | None
    ready_generation: int | None
    ready_bundle_id: str | None
    rejected_generation: int | None = None


@dataclass(frozen=True, slots=True)
class SetCanary:
    """Record where the canary of this generation stands."""

    generation: int
    status: CanaryStatus
    reason: str | None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Refuse what waits and can't be queued, because no worker can be started."""

    reason: str


Action = BuildEnvironment | StartWorker | DrainWorker | StopWorker | SetStatus | SetCanary | Refuse
