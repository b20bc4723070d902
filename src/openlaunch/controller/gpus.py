"""Whether an endpoint's workers can have the GPUs that they ask for, in words."""

from dataclasses import dataclass
from typing import Self

from openlaunch.engines.base import Capacity
from openlaunch.wire.endpoint_settings import EndpointSpec


@dataclass(frozen=True, slots=True)
class Gpus:
    """The GPUs: `waits_for` is what a further worker waits for, `problem` why there can never be enough."""

    free: int = 0
    waits_for: str | None = None
    problem: str | None = None

    @classmethod
    def of(cls, spec: EndpointSpec, capacity: Capacity) -> Self:
        """Compare what an endpoint asks for with what there is."""
        if capacity.elastic:
            return cls(spec.gpus * spec.max_workers)
        return cls(capacity.free_gpus, _waits_for(spec, capacity), gpu_problem(spec, capacity.gpus))


def gpu_problem(spec: EndpointSpec, there: int) -> str | None:
    """Say why a machine with `there` GPUs can never serve such an endpoint; None when it can."""
    if spec.gpus > there:
        return f"asks for {spec.gpus} GPUs per worker, this machine has {there}"
    if spec.gpus * spec.min_workers > there:
        return (
            f"asks for {spec.gpus} GPUs per worker and at least {spec.min_workers} workers, "
            f"this machine has {there} GPUs"
        )
    return None


def _waits_for(spec: EndpointSpec, capacity: Capacity) -> str | None:
    if spec.gpus <= capacity.free_gpus:
        return None
    plural = "s" if spec.gpus > 1 else ""
    return f"a worker waits for {spec.gpus} GPU{plural}: {capacity.free_gpus} of {capacity.gpus} free"
