"""Makes a user's own code be in a worker what it is at home: modules by name, the script as `__main__`.

A bundle of functions is a zip:

=====================  ==============================================================================
`bundle.json`          a `Manifest`
`functions.pickle`     pickles with one memo: the functions; `Registration`s; what restored modules have by name;
                       what else they may be asked for, a pickle each
`modules/`, `code/`    the user's modules, and the folder that was sent along
`_openlaunch_main.py`  what spawned processes run
=====================  ==============================================================================
"""

import functools
import importlib
import json
import linecache
import os
import pickle
import sys
import threading
import zipfile
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, Final

from openlaunch_worker import failures
from openlaunch_worker.archives import extract
from openlaunch_worker.documents import Document

ZIP: Final = b"PK"
"""What a zip begins with; a pickle does not."""

MANIFEST: Final = "bundle.json"
FUNCTIONS: Final = "functions.pickle"
FOR_CHILDREN: Final = "bundle.zip"
MAX_FOR_CHILDREN: Final = 1 << 26
"""Bytes of a bundle that is kept for spawned processes; the script of a larger one is not there in these."""
CHILD_MAIN: Final = "_openlaunch_main"
CHILD_CODE: Final = b"""\
from openlaunch_worker.own_code import main_of_child
globals().update(main_of_child(__file__))
"""

MODULES: Final = "modules"
CODE: Final = "code"
_CODE: Final = (f"{MODULES}/", f"{CODE}/")


Registration = tuple[str, tuple[str, ...], Any]
"""A module, the names that lead from it to a collection or a class, and what the script has put there.

A tuple has the arguments of each call of `register` there.
"""

Definition = tuple[bytes, tuple[str, ...]]
"""A pickle, and the names of the same module that it uses."""


@dataclass(frozen=True, slots=True)
class Restored(Document):
    """A module that is put together from pickled functions and classes, because importing it would run a script."""

    name: str
    file: str | None
    package: str | None


@dataclass(frozen=True, slots=True)
class Manifest(Document):
    """What a worker does before it unpickles.

    `path` is for `sys.path`, `folder` where relative paths begin, and `texts` has source files for tracebacks.
    """

    path: tuple[str, ...]
    restored: tuple[Restored, ...]
    texts: dict[str, str]
    folder: str | None = None


def load_functions(file: BinaryIO, folder: Path) -> Any:
    """Unpack a bundle's code into an empty folder, make it importable, and return the bundle's functions."""
    with zipfile.ZipFile(file) as archive:
        extract(archive, folder, [one for one in archive.infolist() if one.filename.startswith(_CODE)])
        manifest = _manifest(archive)
        path = [str(folder / one) for one in manifest.path]
        failures.SHORTENED.extend(f"{one}{os.sep}" for one in sorted(path, key=len, reverse=True))
        sys.path[:0] = path
        _forget(path)
        if manifest.folder is not None:
            os.chdir(folder / manifest.folder)
        functions = _restore(archive, manifest)
    _prepare_children(file, folder / FOR_CHILDREN)
    return functions


def _forget(path: list[str]) -> None:
    """Have modules that are named as one of Python's be imported, also where that one was before."""
    finders = [FileFinder(each, (SourceFileLoader, [".py"])) for each in path]
    for name in sys.stdlib_module_names & sys.modules.keys():
        specs = (finder.find_spec(name) for finder in finders)
        # A folder without Python files is not a package: one of data may have any name.
        if any(spec is not None and spec.loader is not None for spec in specs):
            del sys.modules[name]


def _manifest(archive: zipfile.ZipFile) -> Manifest:
    return Manifest.from_json(json.loads(archive.read(MANIFEST)))


def _restore(archive: zipfile.ZipFile, manifest: Manifest) -> Any:
    """Put the restored modules together, and return the functions."""
    for name, text in manifest.texts.items():
        # Tracebacks show these lines, whatever lies at these paths here.
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    modules = {one.name: _empty(one) for one in manifest.restored}
    sys.modules |= modules
    for name in modules:
        _make_parents(name)
    with archive.open(FUNCTIONS) as pickled:
        unpickler = pickle.Unpickler(pickled)
        functions, registrations, attributes, definitions = (unpickler.load() for _ in range(4))
    for registration in registrations:
        _register(*registration)
    for name, module in modules.items():
        vars(module).update(attributes.get(name, {}))
        module.__getattr__ = Definitions(module, definitions.get(name, {}))  # type: ignore[method-assign]
    return functions


def _make_parents(name: str) -> None:
    """Have the packages that a restored module is in be found: pickles look for these, too."""
    parent, _, _ = name.rpartition(".")
    if not parent or parent in sys.modules:
        return
    _make_parents(parent)
    try:
        importlib.import_module(parent)
    except ImportError:
        sys.modules[parent] = ModuleType(parent)


def _register(module: str, path: tuple[str, ...], entries: Any) -> None:
    """Put into a module, a class or a collection in it what the script had put there."""
    try:
        found: Any = importlib.import_module(module)
    except ImportError:
        return  # only a late import, which may never run here, needs it
    for name in path:
        if (found := getattr(found, name, None)) is None:
            return  # the script had put an object there that can't go along
    if isinstance(entries, tuple):
        for arguments in entries:
            found.register(*arguments)
    elif isinstance(found, list):
        before = list(found)  # a class may register itself where it is made
        found.extend(one for one in entries if not _is_in(one, before))
    elif isinstance(found, set) or (isinstance(found, dict) and isinstance(entries, dict)):
        found.update(entries)
    else:
        for name, value in entries.items():
            setattr(found, name, value)


def _is_in(one: Any, found: list[Any]) -> bool:
    try:
        return one in found
    except Exception:
        return False  # an array is compared item by item


def _prepare_children(file: BinaryIO, kept: Path) -> None:
    """Have processes that multiprocessing spawns, which import `__main__` anew, find the same one in the bundle."""
    if file.seek(0, os.SEEK_END) <= MAX_FOR_CHILDREN:
        file.seek(0)
        kept.write_bytes(file.read())
        sys.path.append(str(kept))
        sys.modules["__main__"].__spec__ = ModuleSpec(CHILD_MAIN, None)


def main_of_child(file: str) -> dict[str, Any]:
    """Return the globals of the script, in a spawned process that runs this file of the bundle."""
    with zipfile.ZipFile(Path(file).parent) as archive:
        _restore(archive, _manifest(archive))
    values = vars(sys.modules["__main__"])
    return {name: value for name, value in values.items() if name not in ("__name__", "__spec__")}


def _empty(restored: Restored) -> ModuleType:
    module = ModuleType(restored.name)
    # With the name `__main__`, processes that multiprocessing spawns run no file.
    module.__spec__ = ModuleSpec(restored.name, None)
    module.__package__ = restored.package
    if restored.file is not None:
        module.__file__ = restored.file
    return module


class Definitions:
    """Makes a function or class of a restored module when it is asked for: a pickle may name any."""

    def __init__(self, module: ModuleType, pending: dict[str, Definition]) -> None:
        self._module = module
        self._pending = pending
        self._lock = threading.RLock()

    def __call__(self, name: str) -> Any:
        """Return what the module has by this name. Raise `AttributeError` if there is nothing."""
        with self._lock:
            values = vars(self._module)
            if name not in self._pending:
                if name in values:
                    return values[name]
                raise AttributeError(f"module {self._module.__name__!r} has no attribute {name!r}")
            data, used = self._pending[name]
            before = dict(values)
            made = pickle.loads(data)
            values.update({name: made, **before})  # what the module has by now keeps its state
            del self._pending[name]
            for other in used:
                if other in self._pending:
                    self(other)
            return values[name]


def namespace(module: str) -> dict[str, Any]:
    """Return the globals of a module; pickled functions of it share them."""
    return vars(importlib.import_module(module))


def attribute(module: str, name: str) -> Any:
    """Return what a module has by a name."""
    return getattr(importlib.import_module(module), name)


def cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Callable[..., Any]:
    """Return the function with an empty cache, as `functools.cache` makes it."""
    return functools.lru_cache(maxsize, typed)(function)


def context_variable(name: str, *default: Any) -> ContextVar[Any]:
    """Return a context variable, with the default if there is one."""
    return ContextVar(name, default=default[0]) if default else ContextVar(name)


def of_client(module: str, name: str, is_error: bool) -> Any:
    """Return what the client's package has by a name, or a class that says when called that it is not here."""
    try:
        found = importlib.import_module(module)
        return getattr(found, name) if name else found
    except (ImportError, AttributeError):
        shown = name or module

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError(
            f"{shown} is of Openlaunch's client, which this worker does not have: openlaunch.endpoint(NAME) calls "
            "another endpoint from within a worker"
        )

    return type(shown, (Exception if is_error else object,), {"__new__": refuse})
