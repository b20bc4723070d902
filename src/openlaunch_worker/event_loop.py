"""A worker's event loop: uvloop's where that is available, on which a request takes half the time."""

import asyncio
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Any, Final

UVLOOP: Final = "OPENLAUNCH_WORKER_UVLOOP"
"""The folder that has the server's own uvloop, for environments without one. Not set: asyncio's loop is wanted."""

_INCOMPATIBLE: Final = ("nest_asyncio",)
"""Packages that change the loop from within, and only asyncio's has an inside that can be changed."""

NewLoop = Callable[[], asyncio.AbstractEventLoop]


def loop_maker() -> NewLoop:
    """Return what makes this process's loop. With uvloop, that is imported when this returns."""
    folder = os.environ.pop(UVLOOP, None)
    if folder is None or any(importlib.util.find_spec(name) is not None for name in _INCOMPATIBLE):
        return asyncio.new_event_loop
    uvloop = _import_uvloop(folder)
    return asyncio.new_event_loop if uvloop is None else uvloop.new_event_loop


def _import_uvloop(folder: str) -> Any:
    """Import the environment's own uvloop, else the server's; return None where neither is for this Python."""
    # At the end of the path, and for this import alone: nothing else of the server's is to be found there.
    sys.path.append(folder)
    try:
        import uvloop
    except ImportError:
        return None
    finally:
        sys.path.remove(folder)
    return uvloop
