"""Loads a bundle: from its bytes to the function that predicts."""

import importlib
import json
import os
import pickle
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from openlaunch_worker.archives import unpack
from openlaunch_worker.context import context_parameter
from openlaunch_worker.documents import Start
from openlaunch_worker.event_loop import LoadingLoop
from openlaunch_worker.failures import one_line, user_traceback
from openlaunch_worker.hooks import HOOKS, Hooks, problem_of
from openlaunch_worker.imports import install
from openlaunch_worker.own_code import ZIP, load_functions
from openlaunch_worker.process import log

Predict = Callable[..., Any]


class Loaded(NamedTuple):
    """A bundle that can serve."""

    predict: Predict
    hooks: Hooks = Hooks()


class LoadError(Exception):
    """The bundle can't be loaded: `reason` is one line, `traceback` the user's frames, None if none ran."""

    def __init__(self, reason: str, traceback: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.traceback = traceback


def load(start: Start, file: BinaryIO, folder: Path, image: str | None, loop: LoadingLoop) -> Loaded:
    """Load a bundle, in the empty `folder`; `image` is an `ImageOrder` in JSON. Raise `LoadError` if a step fails."""
    flavor = start.bundle
    kind = flavor.get("flavor")
    install()
    if kind in ("cloudpickle_artifact", "zip_artifact") and start.env:
        os.environ.update(start.env)
        time.tzset()
    if kind == "cloudpickle_artifact":
        return _checked(_load_pickle(start, file, folder, loop), start, loop)
    if kind == "zip_artifact":
        return _checked(_load_zip(flavor, file, folder, loop), start, loop)
    if kind == "command":
        return _load_command(start, file, folder)
    if image is not None:
        return _load_image(start, image, folder)
    raise LoadError(f"the bundle's flavor is {kind!r}, which this worker does not load")


def _checked(loaded: Loaded, start: Start, loop: LoadingLoop) -> Loaded:
    predict, hooks = loaded
    if start.limits.batch is not None and (name := context_parameter(predict)) is not None:
        raise LoadError(
            f"the predict function has the parameter {name!r} for a context, and is called with batches of several "
            "requests: leave the parameter out, or set max_batch_size to 0"
        )
    if hooks.health_fn is not None:
        # As it is called later, so that one that can't be called like that never serves.
        problem = loop.call(problem_of, hooks.health_fn, start.limits.health_timeout)
        if problem is not None:
            raise LoadError(problem)
    return loaded


def _load_pickle(start: Start, file: BinaryIO, folder: Path, loop: LoadingLoop) -> Loaded:
    flavor = start.bundle
    _check_python(flavor.get("python_version"))
    with _step("unpickling the bundle"):
        is_zip = file.read(len(ZIP)) == ZIP
        file.seek(0)
        bundle = load_functions(file, folder) if is_zip else pickle.load(file)
        load_model, load_predict = _functions(bundle)
        hooks = {name: bundle.get(name) for name in HOOKS} if isinstance(bundle, dict) else {}
    config = flavor.get("app_config")
    alone = start.limits.per_worker == 1 or start.limits.batch is not None
    in_thread = alone and getattr(load_model, "for_thread", False)
    given = () if config is None else (config,)
    return _build(load_model, load_predict, hooks, given, loop, in_thread=in_thread)


def _functions(bundle: Any) -> tuple[Any, Any]:
    """Return a bundle's two functions. Launch's first `create_model_bundle` packed three shapes, this among them.

    The others: the model itself beside `load_predict_fn`, and the predict function or a class of it alone.
    """
    if isinstance(bundle, dict) and "model" in bundle:
        return (lambda *_: bundle["model"]), bundle["load_predict_fn"]
    if isinstance(bundle, dict):
        return bundle["load_model_fn"], bundle["load_predict_fn"]
    if callable(bundle):
        return (lambda *_: bundle() if isinstance(bundle, type) else bundle), (lambda *args: args[-1])
    raise TypeError(
        f"the pickle is {type(bundle).__name__}, a dict of load_model_fn and load_predict_fn is needed"
    )


def _load_zip(flavor: dict[str, Any], file: BinaryIO, folder: Path, loop: LoadingLoop) -> Loaded:
    with _step("unpacking the bundle"):
        unpack(file, folder)
        os.chdir(folder)
        sys.path.insert(0, str(folder))
    load_model = _import(flavor, "load_model_fn_module_path")
    load_predict = _import(flavor, "load_predict_fn_module_path")
    fields = {name: f"{name}_module_path" for name in HOOKS}
    hooks = {name: _import(flavor, field) for name, field in fields.items() if flavor.get(field)}
    return _build(load_model, load_predict, hooks, (flavor.get("app_config"),), loop)


def _load_command(start: Start, file: BinaryIO, folder: Path) -> Loaded:
    from openlaunch_worker.command import start_command  # other flavours have no use for it
    from openlaunch_worker.server_process import NotReady

    if start.bundle.get("location"):
        with _step("unpacking the bundle"):
            unpack(file, folder)
    try:
        return Loaded(*start_command(start.bundle, folder, start.streaming, start.limits))
    except NotReady as error:
        raise LoadError(str(error)) from None


def _load_image(start: Start, image: str, folder: Path) -> Loaded:
    from openlaunch_worker.containers import ImageOrder  # other flavours have no use for them
    from openlaunch_worker.image import start_image
    from openlaunch_worker.server_process import NotReady

    try:
        order = ImageOrder.from_json(json.loads(image))
        return Loaded(*start_image(start.bundle, order, folder, start.streaming, start.limits))
    except (NotReady, ValueError) as error:
        raise LoadError(str(error)) from None


def _import(flavor: dict[str, Any], field: str) -> Any:
    path = str(flavor.get(field))
    module_name, _, name = path.rpartition(".")
    if not module_name:
        raise LoadError(f"{field} is {path!r}, a dotted path such as module.function is needed")
    with _step(f"importing {path}"):
        module = importlib.import_module(module_name)
    if not hasattr(module, name):
        raise LoadError(f"{field} is {path!r}, but the module {module_name} has no {name!r}")
    return getattr(module, name)


def _build(
    load_model: Any,
    load_predict: Any,
    hooks: dict[str, Any],
    config: tuple[Any, ...],
    loop: LoadingLoop,
    *,
    in_thread: bool = False,
) -> Loaded:
    with _step("load_model_fn"):
        model = _load_model(load_model, config, loop, in_thread=in_thread)
    with _step("load_predict_fn"):
        predict = loop.call(load_predict, *config, model)
    if tasks := ", ".join(loop.stray_tasks()):
        log(
            f"loading left tasks on an event loop that does not run: {tasks}. Make load_model_fn an async function, "
            "or use asyncio.get_event_loop() in it, which is the loop that serves"
        )
    if not callable(predict):
        raise LoadError(
            f"load_predict_fn returned an object of type {type(predict).__qualname__}, a function is needed: "
            "it has to return the function that predicts, not a prediction"
        )
    given = {name: partial(hook, model) for name, hook in hooks.items() if hook is not None}
    return Loaded(predict, Hooks(**given))


def _load_model(load_model: Any, config: tuple[Any, ...], loop: LoadingLoop, *, in_thread: bool) -> Any:
    try:
        return loop.call(load_model, *config, in_thread=in_thread)
    except ValueError as error:
        if not in_thread or "main thread" not in str(error):
            raise
        log(f"load_model_fn is called again, in the main thread, because it needs that: {error}")
        return loop.call(load_model, *config)


@contextmanager
def _step(name: str) -> Iterator[None]:
    """Make whatever user code raises, SystemExit too, the reason why the bundle can't be loaded."""
    try:
        yield
    except LoadError:
        raise
    except BaseException as error:
        raise LoadError(f"{name} failed: {one_line(error)}{_hint(error)}", user_traceback(error)) from error


def _hint(error: BaseException) -> str:
    if isinstance(error, MemoryError) and (most := resource.getrlimit(resource.RLIMIT_DATA)[0]) > 0:
        return f"; the worker may use {most // 2**20} MiB: give the endpoint more `memory`"
    if isinstance(error, ModuleNotFoundError):
        return f"; add the package that has {error.name!r} to the bundle's `requirements`, or its code to the bundle"
    if isinstance(error, TypeError) and str(error).startswith(("code()", "code expected")):
        return f"; it looks packed with another Python than {_running()}: pack it with {_running()}"
    if isinstance(error, ValueError) and "unsupported pickle protocol" in str(error):
        return f"; it was packed with a newer Python than {_running()}"
    if isinstance(error, FileNotFoundError) and os.path.isabs(str(error.filename)):  # noqa: PTH117 -- any value
        return (
            "; a worker does not see the files of the machine that deploys, nor, if it is isolated, home and "
            "temporary folders: send the file along with code_dir and include, or put it into one of the server's "
            "OPENLAUNCH_SHARED_FOLDERS"
        )
    return ""


def _check_python(packed_with: str | None) -> None:
    # Known beforehand, because bytecode of another version may crash the process rather than raise.
    if packed_with is not None and packed_with != _running():
        raise LoadError(
            f"the bundle was packed with Python {packed_with}, and this worker runs {_running()}: "
            f"pickled functions run only under the version that packed them; pack it with {_running()}"
        )


def _running() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
