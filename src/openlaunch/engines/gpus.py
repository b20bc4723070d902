"""Which GPUs there are, asked of NVIDIA's management library (NVML), and who holds each of them."""

import contextlib
import ctypes
import logging
import os
from collections.abc import Mapping, Sequence
from functools import cache

from openlaunch.engines.documents import GpuUse
from openlaunch.engines.gpu_fit import WHOLE, is_of_kind

log = logging.getLogger(__name__)


class GpuPool:
    """Hands out indices of GPUs to workers and jobs, the lowest first; or hundredths of one, which they share.

    A part goes where the least room is that is enough, so that as many GPUs as possible stay free as a whole.
    """

    def __init__(self, indices: tuple[int, ...], names: tuple[str, ...] = ()) -> None:
        self.total = len(indices)
        self.names = names
        self._names = dict(zip(indices, names, strict=False))
        self._room = dict.fromkeys(sorted(indices), WHOLE)
        self._held: dict[str, dict[int, int]] = {}
        self._lent: dict[str, dict[int, int]] = {}
        """GPUs of workers that sleep, which others may have now."""

    @property
    def free(self) -> int:
        """How many GPUs nobody has anything of."""
        return sum(room == WHOLE for room in self._room.values())

    @property
    def parts(self) -> tuple[float, ...]:
        """What is free of each GPU that is shared."""
        return tuple(room / WHOLE for room in self._room.values() if 0 < room < WHOLE)

    def take(self, worker_id: str, count: float, kind: str = "") -> tuple[int, ...] | None:
        """Give GPUs of a kind, or a part of one, to a worker until `give_back`; None when there is no room.

        It keeps those that it has.
        """
        if worker_id in self._held:
            return tuple(self._held[worker_id])
        asked = round(count * WHOLE)
        each = min(asked, WHOLE)
        fitting = [
            index
            for index, room in self._room.items()
            if room >= each and is_of_kind(self._names.get(index, ""), kind)
        ]
        number = -(-asked // WHOLE)
        if number > len(fitting):
            return None
        fitting.sort(key=lambda index: (self._room[index], index))
        taken = self._held[worker_id] = dict.fromkeys(fitting[:number], each)
        for index in taken:
            self._room[index] -= each
        return tuple(taken)

    def hold(self, worker_id: str, indices: tuple[int, ...]) -> None:
        """Have a job hold these, which it has held since before this pool was made; it keeps those that it has."""
        if worker_id in self._held:
            return
        self._held[worker_id] = {index: self._room[index] for index in indices if index in self._room}
        self._room |= dict.fromkeys(self._held[worker_id], 0)

    def lend(self, worker_id: str) -> None:
        """Let others have what a worker holds that sleeps."""
        held = dict(self._held.get(worker_id, {}))
        self.give_back(worker_id)
        self._lent[worker_id] = held

    def take_back(self, worker_id: str) -> bool:
        """Give a worker that has slept what it had; return False where that is not free."""
        lent = self._lent.get(worker_id)
        if lent is None or any(self._room[index] < part for index, part in lent.items()):
            return False
        self._held[worker_id] = self._lent.pop(worker_id)
        for index, part in lent.items():
            self._room[index] -= part
        return True

    def give_back(self, worker_id: str) -> None:
        self._lent.pop(worker_id, None)
        for index, part in self._held.pop(worker_id, {}).items():
            self._room[index] += part


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


def gpu_names(indices: Sequence[int]) -> tuple[str, ...]:
    """Return what the driver calls these GPUs, such as NVIDIA H100 80GB HBM3."""
    if not indices:
        return ()
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, indices)
        return tuple(_text(pynvml.nvmlDeviceGetName(handle)) for handle in handles)
    except pynvml.NVMLError as error:
        log.warning("the GPUs have no names, so types of GPUs are not checked: %s", error)
        return ()
    finally:
        pynvml.nvmlShutdown()


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
