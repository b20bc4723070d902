"""Finds the objects of the user's modules that scripts name, and where workers find these."""

import linecache
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final

from openlaunch.client.packing.changed_values import is_plain
from openlaunch.client.packing.own_code import MAIN, is_installed, source_of, values_written_in
from openlaunch.client.packing.script_texts import LOADED, Place, Text, read

Spot = tuple[str, Place]
"""Where workers find an object: a module, and the names that lead from it to the object."""

NOTHING: Final = object()
_SHARED: Final = (str, bytes, int, float, complex, bool, tuple, frozenset, type(None), ModuleType)
"""Types of values that are one object wherever they are used."""


class Finder:
    """Finds the objects that the names of a script lead to, and where workers find these."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = names
        self.spots = _spots(names)

    def scripts(self) -> Iterator[tuple[str, str, Text]]:
        """Give the scripts that use a module of these names: the module, the file, and what its text says."""
        for name, module in sorted(sys.modules.copy().items()):
            file = getattr(module, "__file__", None) if type(module) is ModuleType else None
            if not isinstance(file, str) or name in self.names or is_installed(file):
                continue
            if name == MAIN or any(id(value) in self.spots for value in vars(module).copy().values()):
                yield name, Path(file).name, read("".join(linecache.getlines(file, vars(module))))
        cells = vars(sys.modules[MAIN]).get("In")  # of a notebook
        for number, cell in enumerate(cells if isinstance(cells, list) else ()):
            yield MAIN, f"cell {number}", read(str(cell))

    def function(self, known: Mapping[str, Any], path: Place) -> tuple[FunctionType | None, Any]:
        """Return a function of these modules by the names that lead to it, and whose method it is."""
        holder, spot = self.find(known, path[:-1]) if path[1:] else (None, None)
        found = known.get(path[0]) if not path[1:] else attribute_of(holder, path[-1])
        subject = found.__self__ if type(found) is MethodType else None
        found = found.__func__ if type(found) is MethodType else found
        if type(found) is not FunctionType or found.__module__ not in self.names:
            return None, None
        return (None, None) if subject is not None and spot is None else (found, subject)

    def find(self, known: Mapping[str, Any], path: Place) -> tuple[Any, Spot | None]:
        """Return an object, and where workers find it; None for one that is not in a module of theirs."""
        first = path[0]
        known = sys.modules if first.startswith(LOADED) else known
        holder, spot = known.get(first.removeprefix(LOADED), NOTHING), None
        for number, name in enumerate(path):
            holder = holder if number == 0 else attribute_of(holder, name)
            if holder is NOTHING:
                return None, None
            if (here := self.spots.get(id(holder))) is not None:
                spot = here
            elif spot is not None:
                spot = spot[0], (*spot[1], name)
        return holder, spot


def unsure_in(holder: Any) -> set[str]:
    """Return the names in an object, a module or a dictionary whose plain values may have been set by any name.

    What a module's file writes down for a name is compared with that (`changed_values.py`).
    """
    values = holder if issubclass(type(holder), dict) else getattr(holder, "__dict__", {})
    source = source_of(holder.__name__) if isinstance(holder, ModuleType) else None
    known = set() if source is None else {one.name for one in values_written_in(source) if not one.path}
    return {
        name
        for name, value in list(values.items())
        if isinstance(name, str) and not name.startswith("__") and name not in known and is_plain(value)
    }


def shown(spot: Spot, *more: str) -> str:
    """Return a spot as a program names it."""
    return ".".join((spot[0], *spot[1], *more))


def _spots(names: Collection[str]) -> dict[int, Spot]:
    """Return where modules, and the objects that they have by name, are found, by their id."""
    found: dict[int, Spot] = {}
    for name in names:
        module = sys.modules[name]
        found[id(module)] = name, ()
        for key, value in vars(module).copy().items():
            if _is_held(value, names):
                found.setdefault(id(value), (name, (key,)))
    return found


def _is_held(value: Any, names: Collection[str]) -> bool:
    """Return whether a value is an object of these modules, and not one of others that many use."""
    kind = type(value)
    if issubclass(kind, type | FunctionType):
        return value.__module__ in names
    return kind not in _SHARED and kind.__module__ != "typing"


def value_of(holder: Any, name: str) -> Any:
    """Return the value of an attribute, or the entry of a dictionary; `NOTHING` if there is none."""
    return holder.get(name, NOTHING) if issubclass(type(holder), dict) else attribute_of(holder, name)


def attribute_of(holder: Any, name: str) -> Any:
    """Return the value of an attribute; `NOTHING` if there is none."""
    try:
        return getattr(holder, name)
    except Exception:
        return NOTHING  # it may be anything
