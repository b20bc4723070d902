"""What a script has put into the registries of modules: workers import these anew, and never run the script."""

import sys
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from openlaunch.client.packing.own_code import CACHED, OwnModules
from openlaunch_worker.own_code import Registration

MAX_ENTRIES = 10_000
"""A larger collection is data, not a registry."""


def registrations(names: list[str], own: OwnModules, can_pickle: Callable[[Any], bool]) -> list[Registration]:
    """Find the functions, classes and objects of scripts in collections of these modules."""
    found: list[Registration] = []
    for name in names:
        for path, collection in _collections(name, own):
            entries = _entries(collection, lambda one: _is_scripts(one, own) and can_pickle(one))
            if entries:
                found.append((name, path, entries))
    return found


def _collections(name: str, own: OwnModules) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give the collections of a module, of its classes and of the objects that it holds, with the way there."""
    module = sys.modules.get(name)
    for attribute, value in list(getattr(module, "__dict__", {}).items()):
        if attribute.startswith("__"):
            continue
        yield (attribute,), value
        # By its type: an object that stands for another may refuse to be asked what it is.
        is_own = own.imports((value if issubclass(type(value), type) else type(value)).__module__)
        for inner, held in list(getattr(value, "__dict__", {}).items()) if is_own else ():
            yield (attribute, inner), held


def _entries(collection: Any, wanted: Callable[[Any], bool]) -> Any:
    kind = type(collection)
    if not issubclass(kind, dict | list | set) or len(collection) > MAX_ENTRIES:
        return None
    if issubclass(kind, dict):
        return {key: value for key, value in list(collection.items()) if wanted(value) or wanted(key)}
    return [value for value in list(collection) if wanted(value)]


def _is_scripts(one: Any, own: OwnModules) -> bool:
    if type(one) in (tuple, list):
        return any(_is_scripts(each, own) for each in one)
    made_in = one if issubclass(type(one), FunctionType | type | CACHED) else type(one)
    return own.is_by_value(getattr(made_in, "__module__", "") or "")
