"""Whether an endpoint's workers can have the GPUs that they ask for, in words."""

import math
from dataclasses import dataclass
from typing import Self

from openlaunch.engines.documents import Capacity
from openlaunch.engines.gpu_fit import is_of_kind, room_for
from openlaunch.wire.endpoint_settings import EndpointSpec


@dataclass(frozen=True, slots=True)
class Gpus:
    """The GPUs: `waits_for` is what a further worker waits for, `problem` why there can never be enough.

    `parts` is what is free of those that workers share.
    """

    free: int = 0
    waits_for: str | None = None
    problem: str | None = None
    parts: tuple[float, ...] = ()

    def room_for(self, gpus: float) -> int:
        """Return how many workers with this number of GPUs can be started."""
        return room_for(gpus, self.free, self.parts)

    @classmethod
    def of(cls, spec: EndpointSpec, capacity: Capacity) -> Self:
        """Compare what an endpoint asks for with what there is."""
        if capacity.elastic:
            return cls(math.ceil(spec.gpus * spec.max_workers))
        problem = gpu_problem(spec, capacity)
        return cls(capacity.free_gpus, _waits_for(spec, capacity), problem, capacity.gpu_parts)


def gpu_problem(spec: EndpointSpec, capacity: Capacity) -> str | None:
    """Say why a machine that has this can never serve such an endpoint; None when it can."""
    if not spec.gpus:
        return None
    there, kind = capacity.gpus, spec.gpu_type or ""
    if kind and capacity.gpu_names:
        fitting = sum(is_of_kind(name, kind) for name in capacity.gpu_names)
        if not fitting:
            names = ", ".join(sorted(set(capacity.gpu_names)))
            return f"asks for GPUs of the type {kind}, this machine has {there} of another: {names}"
        there = min(there, fitting)
    of_kind = f" of the type {kind}" if there != capacity.gpus else ""
    if spec.gpus > there:
        return f"asks for {_gpus(spec.gpus)} per worker, this machine has {there}{of_kind}"
    if room_for(spec.gpus, there, ()) < spec.min_workers:
        return (
            f"asks for {_gpus(spec.gpus)} per worker and at least {spec.min_workers} workers, "
            f"this machine has {_gpus(there)}{of_kind}"
        )
    return None


def _gpus(count: float) -> str:
    return f"{count:g} GPU{'' if count == 1 else 's'}"


def _waits_for(spec: EndpointSpec, capacity: Capacity) -> str | None:
    if not spec.gpus or room_for(spec.gpus, capacity.free_gpus, capacity.gpu_parts):
        return None
    plural = "s" if spec.gpus > 1 else ""
    shared = (
        f", and of others {', '.join(f'{part:g}' for part in capacity.gpu_parts)}"
        if capacity.gpu_parts
        else ""
    )
    return (
        f"a worker waits for {spec.gpus:g} GPU{plural}: {capacity.free_gpus} of {capacity.gpus} free{shared}"
    )
