"""Coroutines that never wait, run without an event loop.

Transports, drivers and streams are written once, as coroutines. Below those of the awaitable client is an event
loop; below those of the blocking client are functions that block, so the first step of a coroutine is its last.
"""

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits, and give what it returns."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise RuntimeError("a coroutine of the blocking client waits for an event loop")


def as_coroutine(function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Make a coroutine function, which never waits, of a function that blocks."""

    async def called(*args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs)

    return called
