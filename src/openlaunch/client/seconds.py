"""Timeouts as callers give them."""

import math


def check_seconds(timeout: object) -> None:
    """Raise TypeError unless a timeout is a number of seconds, or None, and ValueError where it is nan."""
    if not (timeout is None or isinstance(timeout, int | float)):
        raise TypeError(f"timeout is {timeout!r:.100}: a number of seconds is needed")
    if timeout is not None and math.isnan(timeout):
        raise ValueError("timeout is nan: a number of seconds is needed")
