"""Ids of what comes in large numbers."""

import secrets


def new_id(now: float) -> str:
    """Make an id of 32 hexadecimal digits, of which the first twelve are the time `now`, in seconds since the epoch.

    New ones so stand together in an index, however many there are in it.
    """
    return f"{int(now * 1000):012x}{secrets.token_hex(10)}"
