"""A worker's event loop: uvloop's where that is available, on which a request takes half the time."""

import asyncio
import contextvars
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from openlaunch_worker.threads import ThreadPool

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


class LoadingLoop:
    """Calls what loads the bundle where its predictions will run: with the loop that serves, and in its context.

    So tasks and clients that load_model_fn makes work when predict runs, and predict sees its context variables.
    `thread` is the one in which plain functions run that are called one at a time. What is loaded there is used in
    its own thread, as SQLite's connections, a GPU that was chosen, and torch's modes need it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.context = contextvars.copy_context()
        self.thread: Final = ThreadPool(1)

    def call(self, function: Callable[..., Any], *args: Any, in_thread: bool = False) -> Any:
        """Call a function outside of the running loop, in which `asyncio.run` works; a coroutine function in it."""
        value = self._call_in_thread(function, *args) if in_thread else self._call(function, *args)
        if isinstance(value, Coroutine):
            return self.loop.run_until_complete(self.loop.create_task(value, context=self.context))
        return value

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        asyncio.set_event_loop(self.loop)  # a call before may have set another one
        return self.context.run(function, *args)

    def _call_in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        over, values, errors = threading.Event(), [], []

        def run() -> None:
            try:
                values.append(self._call(function, *args))
            except BaseException as error:
                errors.append(error)
            asyncio.set_event_loop(None)  # predictions in the thread are outside of the loop
            over.set()

        self.thread.submit(run, wanted=1)
        over.wait()  # an error is raised here as it is, with the frames of the function
        for error in errors:
            raise error
        return values[0]

    def stray_tasks(self) -> list[str]:
        """Return the names of tasks that were left on loops which do not run, and never will."""
        tasks: Any = asyncio.tasks
        known: Iterable[asyncio.Task[Any]] = getattr(tasks, "_all_tasks", ()) or getattr(
            tasks, "_scheduled_tasks", ()
        )
        return [
            task.get_name()
            for task in list(known)
            if not task.done() and task.get_loop() is not self.loop and not task.get_loop().is_running()
        ]
