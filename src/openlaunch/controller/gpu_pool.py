"""The machine's GPUs, counted exactly: each is held by one worker at a time."""

from openlaunch.wire.endpoint_settings import EndpointSpec


class GpuPool:
    """Hands out GPU indices to workers of all endpoints, the lowest first."""

    def __init__(self, indices: tuple[int, ...]) -> None:
        self.total = len(indices)
        self._free = sorted(indices)
        self._held: dict[str, tuple[int, ...]] = {}

    @property
    def free(self) -> int:
        """How many GPUs no worker holds."""
        return len(self._free)

    def take(self, worker_id: str, count: int) -> tuple[int, ...] | None:
        """So many GPUs for the worker until it gives them back; None when fewer are free."""
        if count > len(self._free):
            return None
        taken, self._free = tuple(self._free[:count]), self._free[count:]
        self._held[worker_id] = taken
        return taken

    def hold(self, worker_id: str, indices: tuple[int, ...]) -> None:
        """Have it hold these, which it has held since before this pool was made."""
        self._free = [index for index in self._free if index not in indices]
        self._held[worker_id] = indices

    def give_back(self, worker_id: str) -> None:
        """The worker's process is gone. Unknown ids are ignored."""
        self._free = sorted((*self._free, *self._held.pop(worker_id, ())))

    def problem(self, spec: EndpointSpec) -> str | None:
        """Why this machine can never serve such an endpoint; None when it can."""
        if spec.gpus > self.total:
            return f"asks for {spec.gpus} GPUs per worker, this machine has {self.total}"
        if spec.gpus * spec.min_workers > self.total:
            return (
                f"asks for {spec.gpus} GPUs per worker and at least {spec.min_workers} workers, "
                f"this machine has {self.total} GPUs"
            )
        return None

    def waits_for(self, spec: EndpointSpec) -> str | None:
        """What a further worker has to wait for; None when its GPUs are free."""
        if spec.gpus <= self.free:
            return None
        return f"a worker waits for {spec.gpus} GPU{'s' if spec.gpus > 1 else ''}: {self.free} of {self.total} free"
