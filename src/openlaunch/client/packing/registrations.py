"""What a script has put into modules: workers import these anew, and never run the script."""

import abc
import sys
from abc import ABCMeta
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from functools import singledispatchmethod
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any

from openlaunch.client.packing.changed_values import changed_values, is_plain
from openlaunch.client.packing.own_code import CACHED, OwnModules, source_of, values_written_in
from openlaunch.client.packing.pickler import InOrder
from openlaunch.client.packing.set_attributes import set_attributes
from openlaunch_worker.own_code import Registration

MAX_ENTRIES = 10_000
"""A larger collection is data, not a registry."""


def registrations(
    names: list[str],
    own: OwnModules,
    can_pickle: Callable[[Any], bool],
    packed: Mapping[str, Collection[str]],
    used: Set[str],
) -> list[Registration]:
    """Find what scripts have put into these modules, their collections and objects, and the values that are changed.

    `packed` has the names of those functions and classes of scripts that workers get, `used` the names in their code.
    """

    def is_wanted(one: Any) -> bool:
        return _is_scripts(one, own) and can_pickle(one)

    found: list[Registration] = []
    by_name = set_attributes(names, packed, used, can_pickle)
    for name in names:
        for path, collection in _collections(name, own):
            entries = _entries(collection, is_wanted)
            if entries:
                found.append((name, path, entries))
        found += ((name, path, calls) for path, calls in _calls_of_register(name, is_wanted))
        set_by_script = _set_by_script(name, own, is_wanted)
        here = {path: values for (module, path), values in by_name.items() if module == name}
        for path, values in (*_changed(name).items(), *here.items()):
            made = {
                key: InOrder(one) if type(one) in (set, frozenset) else one for key, one in values.items()
            }
            set_by_script[path] = set_by_script.get(path, {}) | made
        found += [(name, path, values) for path, values in sorted(set_by_script.items())]
    return [*found, *_imported_elsewhere(found, names)]


def _imported_elsewhere(found: list[Registration], names: list[str]) -> list[Registration]:
    """Find where other modules, and objects there, have a value that is set in one.

    They took it once it was set, as by `from config import settings`; workers import them before.
    """
    copies: list[Registration] = []
    for module, path, values in found:
        for key, value in values.items() if not path and isinstance(values, dict) else ():
            set_here = vars(sys.modules[module]).get(key)
            for other, inner, holder in _holders(names):
                same = {
                    name: value
                    for name, one in list(holder.items())
                    if one is set_here
                    and (other, inner, name) != (module, (), key)
                    # Of plain values many are the same object.
                    and (not is_plain(one) or (not inner and name == key))
                }
                copies += [(other, inner, same)] if same else []
            if not is_plain(set_here):
                copies += _as_defaults(set_here, value, names)
    return copies


def _holders(names: Collection[str]) -> Iterator[tuple[str, tuple[str, ...], dict[str, Any]]]:
    """Give what modules, their classes and the objects of these hold, with the way there."""
    for name in names:
        held = getattr(sys.modules.get(name), "__dict__", {})
        yield name, (), held
        for attribute, value in list(held.items()):
            is_class = issubclass(type(value), type) and value.__module__ == name
            inner = getattr(value, "__dict__", None) if is_class or type(value).__module__ in names else None
            if is_class or type(inner) is dict:
                yield name, (attribute,), dict(inner or {})


def _as_defaults(set_here: Any, value: Any, names: Collection[str]) -> Iterator[Registration]:
    """Give the functions and methods of modules that have a value as a default of an argument."""
    for name, path, holder in _holders(names):
        for key, function in list(holder.items()):
            if type(function) is not FunctionType or function.__module__ != name:
                continue
            defaults, by_keyword = function.__defaults__ or (), function.__kwdefaults__ or {}
            # All are set at once, and another object would be a second one in workers.
            if any(one is set_here for one in defaults) and all(
                one is set_here or is_plain(one) for one in defaults
            ):
                made = tuple(value if one is set_here else one for one in defaults)
                yield name, (*path, key), {"__defaults__": made}
            if same := {each: value for each, one in by_keyword.items() if one is set_here}:
                yield name, (*path, key, "__kwdefaults__"), same


def _calls_of_register(name: str, wanted: Callable[[Any], bool]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give what `functools.singledispatch` and `abc.ABC` of a module know of a script, as arguments of `register`."""
    for attribute, value in vars(sys.modules[name]).copy().items():
        # By its type: an object that stands for another may refuse to be asked what it is.
        if not issubclass(type(value), type | FunctionType) or value.__module__ != name:
            continue
        yield from _of_dispatch((attribute,), value, wanted)
        if issubclass(type(value), type):
            for inner, held in vars(value).copy().items():
                if type(held) is singledispatchmethod:
                    yield from _of_dispatch((attribute, inner), held.dispatcher, wanted)
        if issubclass(type(value), ABCMeta) and (
            classes := [one for one in _registered_with(value) if wanted(one)]
        ):
            yield (attribute,), tuple((one,) for one in sorted(classes, key=lambda one: one.__qualname__))


def _of_dispatch(
    path: tuple[str, ...], function: Any, wanted: Callable[[Any], bool]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    registry = getattr(function, "registry", None) if type(function) is FunctionType else None
    if type(registry) is MappingProxyType:
        calls = tuple(pair for pair in registry.items() if any(map(wanted, pair)))
        yield from [(path, calls)] if calls else []


def _registered_with(cls: Any) -> Iterator[type]:
    """Give the classes that were registered with an abstract class; Python has no public way to ask."""
    try:
        registry, *_ = abc._get_dump(cls)  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError):
        return
    yield from (one for weak in registry if (one := weak()) is not None)


def replacements(names: list[str], scripts: set[str]) -> list[Registration]:
    """Find the functions and classes of scripts that were set in modules of others, or registered with these."""
    found: list[Registration] = []
    for name in names:
        values = vars(sys.modules[name])
        classes = [key for key, one in list(values.items()) if type(one) is type and one.__module__ == name]
        for path in [(), *((key,) for key in classes)]:
            holder = vars(values[path[0]]) if path else values
            put = {key: one for key, one in list(holder.items()) if _is_of(one, scripts)}
            if put:
                found.append((name, path, put))
        found += (
            (name, path, calls) for path, calls in _calls_of_register(name, lambda one: _is_of(one, scripts))
        )
    return found


def _is_of(one: Any, scripts: set[str]) -> bool:
    return type(one) in (FunctionType, type) and one.__module__ in scripts


def _changed(name: str) -> dict[tuple[str, ...], dict[str, Any]]:
    source, module = source_of(name), sys.modules.get(name)
    if source is None or not isinstance(module, ModuleType):
        return {}
    return changed_values(module, values_written_in(source))


def _set_by_script(
    name: str, own: OwnModules, wanted: Callable[[Any], bool]
) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return what a module and its classes have of a script's, such as a function in place of another."""
    module = sys.modules.get(name)
    classes = [
        (attribute,)
        for attribute, value in list(getattr(module, "__dict__", {}).items())
        if issubclass(type(value), type) and value.__module__ == name
    ]
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for path in [(), *classes]:
        holder = module if not path else vars(module)[path[0]]
        for attribute, value in list(getattr(holder, "__dict__", {}).items()):
            is_collection = issubclass(type(value), dict | list | set | tuple)
            if not is_collection and not attribute.startswith("__") and wanted(value):
                found.setdefault(path, {})[attribute] = value
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
