"""Which workers fit which GPUs, without the GPUs: by their number, their parts and their type."""

import re
from collections.abc import Iterable
from typing import Final

WHOLE: Final = 100
"""A GPU is shared in hundredths."""

_MODELS: Final = {
    "nvidia-tesla-t4": "T4",
    "nvidia-ampere-a10": "A10",
    "nvidia-ampere-a100": "A100",
    "nvidia-ampere-a100e": "A100",
    "nvidia-hopper-h100": "H100",
    "nvidia-hopper-h100-1g20gb": "H100 MIG 1g.20gb",
    "nvidia-hopper-h100-3g40gb": "H100 MIG 3g.40gb",
}
"""Words of a driver's name for a GPU of each type."""


def is_of_kind(name: str, kind: str) -> bool:
    """Return whether a GPU that the driver calls so is of a type; one without a name may be of any."""
    words = re.split(r"[^a-z0-9.]+", name.lower())
    model = _MODELS.get(kind, "").lower().split()
    return not name or all(word in words or f"{word}g" in words for word in model)


def room_for(gpus: float, free: int, parts: Iterable[float]) -> int:
    """Return how many workers with this number of GPUs fit those that are free, and parts of others."""
    asked = round(gpus * WHOLE)
    if asked >= WHOLE:
        return free * WHOLE // asked
    return sum(round(part * WHOLE) // asked for part in (*parts, *[1.0] * free))
