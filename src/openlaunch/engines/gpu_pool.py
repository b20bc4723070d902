"""The machine's GPUs, counted exactly: each is held by one worker at a time."""


class GpuPool:
    """Hands out indices of GPUs to workers and jobs, the lowest first."""

    def __init__(self, indices: tuple[int, ...]) -> None:
        self.total = len(indices)
        self._free = sorted(indices)
        self._held: dict[str, tuple[int, ...]] = {}

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self, worker_id: str, count: int) -> tuple[int, ...] | None:
        """Give `count` GPUs to a worker until `give_back`; None when fewer are free."""
        if count > len(self._free):
            return None
        taken, self._free = tuple(self._free[:count]), self._free[count:]
        self._held[worker_id] = taken
        return taken

    def hold(self, worker_id: str, indices: tuple[int, ...]) -> None:
        """Have a job hold these, which it has held since before this pool was made."""
        self._free = [index for index in self._free if index not in indices]
        self._held[worker_id] = indices

    def give_back(self, worker_id: str) -> None:
        self._free = sorted((*self._free, *self._held.pop(worker_id, ())))
