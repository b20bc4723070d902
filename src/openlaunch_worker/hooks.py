"""What a bundle may have beside its predict function: a check of its health, and what is called before it ends."""

import asyncio
import inspect
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from openlaunch_worker.failures import one_line, user_traceback
from openlaunch_worker.process import log

HOOKS: Final = ("health_fn", "shutdown_fn")


@dataclass(frozen=True, slots=True)
class Hooks:
    """A worker's two hooks, which need no arguments; None where the bundle has none.

    `sleep` puts the bundle's own server to sleep, or with False wakes it up, where it has routes for that.
    """

    health_fn: Callable[[], Any] | None = None
    shutdown_fn: Callable[[], Any] | None = None
    sleep: Callable[[bool], None] | None = None


class Unhealthy(Exception):
    """The bundle's own server is not healthy; the text says why."""


class NoAnswer(Unhealthy):
    """It does not answer, which says something only while no request is under way that may keep it from that."""


async def problem_of(health_fn: Callable[[], Any], seconds: float) -> str | None:
    """Say why a worker is not healthy: its health_fn returned something false, raised, or took too long.

    Raises:
        NoAnswer: it is a server that has not answered.
    """
    try:
        answer = await _call(health_fn, seconds)
        healthy = answer is None or bool(answer)
    except _Late:
        return f"health_fn has not returned within {seconds:g} s"
    except NoAnswer:
        raise
    except Unhealthy as error:
        return str(error)
    except Exception as error:
        log(f"health_fn failed:\n{user_traceback(error)}".rstrip())
        return f"health_fn failed: {one_line(error)}"
    return None if healthy else f"health_fn returned {' '.join(repr(answer).split())[:80]}"


async def watch(
    hooks: Hooks,
    interval: float,
    timeout: float,
    tell: Callable[[str], None],
    is_idle: Callable[[], bool],
    is_awake: Callable[[], bool] = lambda: True,
) -> None:
    """Call health_fn every `interval` seconds while the worker is awake, until it says no; `tell` gets the reason."""
    if hooks.health_fn is None:
        return
    while True:
        await asyncio.sleep(interval)
        if not is_awake():
            continue
        was_idle = is_idle()
        try:
            problem = await problem_of(hooks.health_fn, timeout)
        except NoAnswer as silence:
            problem = str(silence) if was_idle and is_idle() else None
        if problem is not None and is_awake():
            tell(problem)
            return


async def shut_down(hooks: Hooks, timeout: float) -> None:
    """Call shutdown_fn, where there is one. What it raises goes to the log, as does that it took too long."""
    if hooks.shutdown_fn is None:
        return
    try:
        await _call(hooks.shutdown_fn, timeout)
    except _Late:
        log(f"shutdown_fn has not returned within {timeout:g} s, and is left")
    except Exception as error:
        log(f"shutdown_fn failed:\n{user_traceback(error)}".rstrip())


async def put_to_sleep(sleep: Callable[[bool], None], asleep: bool, timeout: float) -> str:
    """Put the bundle's own server to sleep, or wake it up, and return why that has failed; "" where it has not."""
    try:
        await _call(lambda: sleep(asleep), timeout)
    except _Late:
        return f"it has taken over {timeout:g} s"
    except Exception as error:
        return str(error) if isinstance(error, Unhealthy) else one_line(error)
    return ""


class _Late(Exception):
    """A hook takes too long. Not a TimeoutError, which it may raise itself."""


async def _call(function: Callable[[], Any], seconds: float) -> Any:
    """Call a function in a thread of its own, and await in the loop what it returns; raise `_Late`.

    Not in the thread of predictions, because these may take longer than the answer to whether they ever end.
    """
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    ends: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        try:
            ends.append((function(), None))
        except BaseException as error:
            ends.append((None, error))
        with suppress(RuntimeError):  # the loop is closed: nobody waits any longer
            loop.call_soon_threadsafe(over.set)

    threading.Thread(target=run, name="hook", daemon=True).start()
    late = loop.time() + seconds
    with suppress(TimeoutError):
        async with asyncio.timeout_at(late):
            await over.wait()
    if not ends:  # else it may have been the loop that was late
        raise _Late
    value, error = ends[0]
    if error is not None:
        raise error if isinstance(error, Exception) else RuntimeError(one_line(error))
    if not inspect.isawaitable(value):
        return value
    try:
        async with asyncio.timeout_at(late) as bound:
            return await value
    except TimeoutError:
        if bound.expired():
            raise _Late from None
        raise
