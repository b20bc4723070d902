"""Ids of what the server stores."""

import secrets


def new_id(now: float) -> str:
    """Make an id of 32 hexadecimal digits, of which the first twelve are the time `now`, in seconds since the epoch.

    New ones so stand together in an index, however many there are in it.
    """
    return f"{first_id(now)}{secrets.token_hex(10)}"


def first_id(at: float) -> str:
    """Return what is at most as large, as text, as any id that is made from this time on."""
    return f"{int(at * 1000):012x}"


def object_id(kind: str) -> str:
    """Make an id that begins with its kind, such as "end" for an endpoint."""
    return f"{kind}_{secrets.token_hex(10)}"
