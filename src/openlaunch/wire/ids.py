"""Ids of what the server stores."""

import secrets


def new_id(now: float) -> str:
    """Make an id of 32 hexadecimal digits, of which the first twelve are the time `now`, in seconds since the epoch.

    New ones so stand together in an index, however many there are in it.
    """
    return f"{int(now * 1000):012x}{secrets.token_hex(10)}"


def object_id(kind: str) -> str:
    """Make an id that begins with its kind, such as "end" for an endpoint."""
    return f"{kind}_{secrets.token_hex(10)}"
