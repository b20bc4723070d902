"""Kubernetes-style quantities: 2, 0.5, "500m" cores; 1024, "8Gi", "500M" bytes."""

import math
import re

_NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)([A-Za-z]*)")
_FACTORS = {
    "": 1.0,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "P": 1e15,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
    "Pi": 2.0**50,
}


def parse_quantity(value: str | float) -> float:
    """Return the number that a quantity stands for.

    Raises:
        ValueError: it is not a quantity, or is negative.
    """
    match = _NUMBER.fullmatch(str(value).strip())
    if match is None or match[2] not in _FACTORS:
        raise ValueError(
            f"{value!r} is not a quantity: a number of 0 or more, with a unit such as m, Mi or Gi"
        )
    number = float(match[1]) * _FACTORS[match[2]]
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is too large a quantity")
    return number
