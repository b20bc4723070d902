"""Quantities: cores such as 2, 0.5 or "500m", and sizes in bytes such as "8Gi", "8GB" or 1048576."""

import math
import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from openlaunch.wire.keywords import Quantity

_NUMBER = r"(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
_CORES = re.compile(rf"{_NUMBER}(m?)")
_SIZE = re.compile(rf"{_NUMBER}\s*(?:([kKMGTPgtp])([iI]?)[bB]?|[bB])?")

MAX_QUANTITY = 2.0**60
"""Cores or bytes: so that sums over all workers stay finite."""

LEAST_SIZE = 2**20
"""Bytes of the smallest memory or disk that anybody means: below it, a unit was forgotten."""


_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size_text(count: float) -> str:
    """Return a number of bytes as people read it, such as "1.5 GiB"."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.1f}".removesuffix(".0") + f" {_UNITS[unit]}"


def parse_cores(value: str | float) -> float:
    """Return the number of cores that a quantity stands for.

    Raises:
        ValueError: it is not a number of cores, or is too large.
    """
    match = _CORES.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(f"{value!r} is not a number of cores: write it as 2, 0.5 or 500m")
    return _bounded(value, float(match[1]) * (1e-3 if match[2] else 1.0))


def parse_size(value: str | float) -> int:
    """Return the bytes that a size stands for: 64MB are 64,000,000 bytes, 64MiB, 64Mi as in Kubernetes, 67,108,864.

    Raises:
        ValueError: it is not a size, or is too large.
    """
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(
            f"{value!r} is not a size: write a number of bytes with a unit, such as 500MB, 8GB or 8Gi"
        )
    power = "KMGTP".index(match[2].upper()) + 1 if match[2] else 0
    return int(_bounded(value, float(match[1]) * (1024 if match[3] else 1000) ** power))


def _bounded(value: str | float, number: float) -> float:
    if not math.isfinite(number) or number > MAX_QUANTITY:
        raise ValueError(f"{value!r} is more than any machine has")
    return number


def _check_size(value: str | float) -> None:
    size = parse_size(value)
    if size < LEAST_SIZE and value not in (0, "0"):
        raise ValueError(
            f"{value!r} stands for {size} bytes, less than 1Mi: give a unit, such as 8Gi or 500MB"
        )


def _checked(check: Callable[[str | float], object]) -> AfterValidator:
    def spelled_as_before(value: Any) -> Any:
        check(value)
        return value

    return AfterValidator(spelled_as_before)


Cores = Annotated[Quantity, _checked(parse_cores)]
"""A number of cores; it keeps its spelling."""
Size = Annotated[Quantity, _checked(_check_size)]
"""Memory or disk of 1 MiB or more, so that a size without its unit is found; it keeps its spelling."""
SizeText = Annotated[str, _checked(_check_size)]
"""Memory or disk of 1 MiB or more, as text."""
Bytes = Annotated[int, BeforeValidator(parse_size)]
"""A number of bytes, which may be written as a size."""
