"""Which GPUs there are, asked of NVIDIA's management library (NVML), and who holds each of them."""

import contextlib
import ctypes
import logging
import os
from collections.abc import Mapping, Sequence
from functools import cache

from openlaunch.engines.base import GpuUse

log = logging.getLogger(__name__)


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
        """Give `count` GPUs to a worker until `give_back`; None when fewer are free. It keeps those that it has."""
        if worker_id in self._held:
            return self._held[worker_id]
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


def visible_gpus(environ: Mapping[str, str] | None = None) -> tuple[int, ...]:
    """Return the indices of the GPUs that this process may use, in NVML's order; none without a driver.

    The server's own CUDA_VISIBLE_DEVICES (indices, or UUIDs and their beginnings) narrows them down.
    """
    uuids = _uuids()
    limit = (os.environ if environ is None else environ).get("CUDA_VISIBLE_DEVICES")
    return tuple(range(len(uuids))) if limit is None else select_gpus(limit, uuids)


def select_gpus(limit: str, uuids: Sequence[str]) -> tuple[int, ...]:
    """Return the indices that a CUDA_VISIBLE_DEVICES names; as in CUDA, the first wrong entry ends the list."""
    chosen: list[int] = []
    for entry in limit.split(","):
        index = _index_of(entry.strip(), uuids)
        if index is None or index in chosen:
            break
        chosen.append(index)
    return tuple(chosen)


def _index_of(entry: str, uuids: Sequence[str]) -> int | None:
    if entry.isascii() and entry.isdigit():
        index = int(entry)
        return index if index < len(uuids) else None
    matches = [i for i, uuid in enumerate(uuids) if entry and uuid.startswith(entry)]
    return matches[0] if len(matches) == 1 else None


def gpu_use() -> list[GpuUse]:
    """Return how busy the visible GPUs are, those left out that the driver says nothing of."""
    if not (indices := _known_gpus()):
        return []
    import pynvml

    found = []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        for index in indices:
            with contextlib.suppress(pynvml.NVMLError):
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                memory, busy = (
                    pynvml.nvmlDeviceGetMemoryInfo(handle),
                    pynvml.nvmlDeviceGetUtilizationRates(handle),
                )
                found.append(GpuUse(index, busy.gpu / 100, int(memory.used), int(memory.total)))
    finally:
        pynvml.nvmlShutdown()
    return found


@cache
def _known_gpus() -> tuple[int, ...]:
    return visible_gpus()


def _uuids() -> list[str]:
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError as error:
        log.debug("no GPUs: %s", error)
        return []
    import pynvml  # 11 MiB, which a machine without GPUs is spared

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        log.debug("no GPUs: %s", error)
        return []
    try:
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return [_text(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    except pynvml.NVMLError as error:
        log.warning("the GPUs can't be counted, so none is used: %s", error)
        return []
    finally:
        pynvml.nvmlShutdown()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
