"""Which GPUs there are, asked of NVIDIA's management library (NVML)."""

import ctypes
import logging
import os
from collections.abc import Mapping, Sequence

log = logging.getLogger(__name__)


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
