"""A predict function that is served from the files that it is in, as they are saved."""

import asyncio
import functools
import importlib
import inspect
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Final

from openlaunch_worker.failures import user_traceback
from openlaunch_worker.process import log
from openlaunch_worker.reloading import Broken, Modules
from openlaunch_worker.shapes import Shape, shape_of

LOOK_SECONDS: Final = 0.02
"""How old what is known of the files may be when a request comes."""


class WorkingTree:
    """The function and its model, which is loaded again only where the code that loads it has changed."""

    def __init__(self, folder: str, path: Sequence[str], module: str, name: str, loader: str | None) -> None:
        """Import a module, with `path` behind what is there, in a folder, where relative paths begin.

        The names are of a function and of the one that loads its model, such as `predict` or `Model.predict`.
        """
        sys.path += [each for each in path if each not in sys.path]
        os.chdir(folder)
        self._module = importlib.import_module(module)
        self._name, self._loader = name, loader
        self._modules = Modules()
        self._lock = threading.Lock()
        self._looked_at = 0.0
        self._model: tuple[Any, ...] = ()

    def load(self) -> Any:
        """Load the model, and return this, or what is to be awaited for it."""
        if self._loader is not None:
            model = attribute(self._module, self._loader)()
            if inspect.iscoroutine(model):
                return self._awaited(model)
            self._model = (model,)
        return self

    async def _awaited(self, model: Any) -> "WorkingTree":
        self._model = (await model,)
        return self

    @property
    def function(self) -> Callable[..., Any]:
        found: Callable[..., Any] = attribute(self._module, self._name)
        return found

    def predict(self) -> Callable[..., Any]:
        """Return what predicts, as the files say when it is called; it has the shape of the function."""
        match shape_of(self.function):
            case Shape.GENERATOR:
                return functools.partial(_stream, self)
            case Shape.COROUTINE:
                return functools.partial(_coroutine, self)
            case Shape.ASYNC_GENERATOR:
                return functools.partial(_async_stream, self)
        return functools.partial(_plain, self)

    def current(self) -> Callable[..., Any]:
        """Return the function with its model, both up to date."""
        with self._lock:
            if (now := time.monotonic()) - self._looked_at > LOOK_SECONDS:
                self._looked_at = now
                self._refresh()
        return functools.partial(self.function, *self._model)

    def _refresh(self) -> None:
        try:
            changed = self._modules.refresh() or ()
            if self._loader is not None and (self._module.__name__, self._loader) in changed:
                log(f"{self._loader} has changed: the model is loaded again")
                model = attribute(self._module, self._loader)()
                self._model = (asyncio.run(model) if inspect.iscoroutine(model) else model,)
        except Broken:
            return  # the command has said it
        except Exception as error:
            log(f"the model of before stays: {user_traceback(error)}")


def attribute(module: Any, name: str) -> Any:
    """Return what a module has by a name, which may be a method's."""
    return functools.reduce(getattr, name.split("."), module)


def _plain(tree: WorkingTree, *args: Any, **keywords: Any) -> Any:
    return tree.current()(*args, **keywords)


def _stream(tree: WorkingTree, *args: Any, **keywords: Any) -> Iterator[Any]:
    yield from tree.current()(*args, **keywords)


async def _coroutine(tree: WorkingTree, *args: Any, **keywords: Any) -> Any:
    return await tree.current()(*args, **keywords)


async def _async_stream(tree: WorkingTree, *args: Any, **keywords: Any) -> AsyncIterator[Any]:
    async for item in tree.current()(*args, **keywords):
        yield item
