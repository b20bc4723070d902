"""Packs functions with the user's own code that they use."""

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from openlaunch.client.packing.code_files import collect
from openlaunch.client.packing.folders import Choice
from openlaunch.client.packing.large_values import large_values
from openlaunch.client.packing.own_code import OwnModules
from openlaunch.client.packing.pickles import pickled
from openlaunch.client.packing.zips import bounded, readable, zipped
from openlaunch.errors import BundleError
from openlaunch_worker.own_code import CHILD_CODE, CHILD_MAIN, FUNCTIONS, MANIFEST, Manifest, Restored

_pickling = threading.RLock()
# A process is forked between two packings: in the child, nobody would end the one under way.
os.register_at_fork(
    before=_pickling.acquire, after_in_parent=_pickling.release, after_in_child=_pickling.release
)


def python_version() -> str:
    """Return the minor version of Python, such as 3.11: a pickle of code needs the same to be read."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def pack_callables(
    load_model_fn: Callable[..., Any],
    load_predict_fn: Callable[..., Any],
    code_dir: str | Path | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    hooks: Mapping[str, Callable[..., Any] | None] | None = None,
) -> bytes:
    """Zip the two functions, pickled, with the user's own modules that they use; the same code gives the same bytes.

    `hooks` are the health_fn and the shutdown_fn, as far as there are any, which are called with the model.
    `code_dir` is a folder that goes along; with an `include` alone, it is the current one.

    Raises:
        BundleError: one of them is not a function, or something that they use can't go along.
    """
    given = {name: hook for name, hook in (hooks or {}).items() if hook is not None}
    functions = {"load_model_fn": load_model_fn, "load_predict_fn": load_predict_fn, **given}
    for name, function in functions.items():
        if not callable(function):
            raise BundleError(f"{name} is {function!r}, a function is needed")
    own = OwnModules()
    with _pickling:
        pickles = pickled(functions, own)
    if code_dir is None and include:
        code_dir = "."
    chosen = _patterns("include", include)
    # What matches everything names nothing.
    choice = Choice(chosen, _patterns("exclude", exclude), tuple(one for one in chosen if one.strip("*/")))
    with readable():
        code = collect(
            own.follow(pickles.named).values(), None if code_dir is None else Path(code_dir), choice
        )
    manifest = Manifest(code.path, tuple(map(_restored, pickles.restored)), pickles.texts, code.folder)
    document = json.dumps(manifest.to_json()).encode()
    made = {FUNCTIONS: pickles.functions, MANIFEST: document, f"{CHILD_MAIN}.py": CHILD_CODE}
    return bounded(zipped(code.files, made | code.bytecode), partial(large_values, functions))


def _patterns(name: str, given: Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(given, str) or not all(isinstance(one, str) for one in given or ()):
        raise BundleError(f"{name} is {given!r}, a list of patterns such as ['*.json'] is needed")
    return tuple(given or ())


def _restored(name: str) -> Restored:
    module = sys.modules.get(name)
    return Restored(name, getattr(module, "__file__", None), getattr(module, "__package__", None))
