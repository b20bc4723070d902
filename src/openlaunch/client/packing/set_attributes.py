"""Finds what scripts set by name in the user's modules and in objects there, as in `settings.debug = True`.

It is found in the text of the scripts, because any value may have been there before. What a worker runs itself, its
modules and functions, sets there what it sets here.
"""

import ast
import linecache
import logging
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from types import FunctionType, ModuleType
from typing import Any, Final, NamedTuple

from openlaunch.client.packing.own_code import MAIN, is_installed

log = logging.getLogger(__name__)

Place = tuple[str, ...]
_NOTHING: Final = object()
_SHARED: Final = (str, bytes, int, float, complex, bool, tuple, frozenset, type(None), ModuleType)
"""Types of values that are one object wherever they are used."""


class _Setting(NamedTuple):
    """A statement that sets an attribute: the names that lead to the object, and the function or class it is in."""

    path: Place
    attribute: str
    within: str


class _Text(NamedTuple):
    """What a text sets, and the modules and names that it imports, wherever in it."""

    settings: tuple[_Setting, ...] = ()
    imported: tuple[tuple[str, str, str], ...] = ()


def set_attributes(
    names: Collection[str], packed: Mapping[str, Collection[str]], can_pickle: Callable[[Any], bool]
) -> dict[tuple[str, Place], dict[str, Any]]:
    """Return what scripts have set in the modules of these names, by the module and the way to the object.

    `packed` has the names of those functions and classes of scripts that workers get. What can't go along stays
    here, with a warning.
    """
    places = _places(names)
    found: dict[tuple[str, Place], dict[str, Any]] = {}
    for script, text in _scripts(names, places):
        known = _imported(text) | vars(sys.modules[script])
        for path, attribute, within in text.settings:
            holder, place = _find(known, path, places)
            if place is None or within in packed.get(script, ()):
                continue
            if (value := _value(holder, attribute)) is _NOTHING:
                continue
            if _can_be_set(holder, attribute) and can_pickle(value):
                found.setdefault(place, {})[attribute] = value
            else:
                log.warning(
                    "%s does not go along as it is set here: a %s can't be pickled, or is too large; set it in "
                    "load_model_fn",
                    ".".join((place[0], *place[1], attribute)),
                    type(value).__qualname__,
                )
    return found


def _places(names: Collection[str]) -> dict[int, tuple[str, Place]]:
    """Return where modules, and the objects that they have by name, are found, by their id."""
    found: dict[int, tuple[str, Place]] = {}
    for name in names:
        module = sys.modules[name]
        found[id(module)] = name, ()
        for key, value in list(vars(module).items()):
            if _is_held(value, names):
                found.setdefault(id(value), (name, (key,)))
    return found


def _is_held(value: Any, names: Collection[str]) -> bool:
    """Return whether a value is an object of these modules, and not one of others that many use."""
    kind = type(value)
    if issubclass(kind, type | FunctionType):
        return value.__module__ in names
    return kind not in _SHARED and kind.__module__ != "typing"


def _scripts(names: Collection[str], places: Collection[int]) -> Iterator[tuple[str, _Text]]:
    """Give the user's modules that workers do not import and that use one which they do, and what their texts say."""
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None) if type(module) is ModuleType else None
        if not isinstance(file, str) or name in names or is_installed(file):
            continue
        if name == MAIN or any(id(value) in places for value in list(vars(module).values())):
            yield name, _read("".join(linecache.getlines(file, vars(module))))
    cells = vars(sys.modules[MAIN]).get("In")  # of a notebook
    for cell in cells if isinstance(cells, list) else ():
        yield MAIN, _read(str(cell))


@lru_cache(maxsize=1024)
def _read(text: str) -> _Text:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _Text()
    settings = (one for node in tree.body for one in _set_in(node, getattr(node, "name", "")))
    return _Text(tuple(sorted(set(settings))), tuple(_imports_in(tree)))


def _set_in(tree: ast.AST, within: str) -> Iterator[_Setting]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if path := _path(node.value):
                yield _Setting(path, node.attr, within)
        elif isinstance(node, ast.Call) and _path(node.func) == ("setattr",):
            match node.args:
                case [holder, ast.Constant(value=str(attribute)), _] if path := _path(holder):
                    yield _Setting(path, attribute, within)


def _path(node: ast.expr) -> Place:
    """Return the names of `a.b.c`; none for another expression."""
    if isinstance(node, ast.Name):
        return (node.id,)
    above = _path(node.value) if isinstance(node, ast.Attribute) else ()
    return (*above, node.attr) if isinstance(node, ast.Attribute) and above else ()


def _imports_in(tree: ast.AST) -> Iterator[tuple[str, str, str]]:
    """Give names, the module that each is imported from, and its name there; none for a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name if alias.asname else alias.name.partition(".")[0]
                yield alias.asname or top, top, ""
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((alias.asname or alias.name, node.module, alias.name) for alias in node.names)


def _imported(text: _Text) -> dict[str, Any]:
    """Return what a text imports, as far as it has been imported."""
    found: dict[str, Any] = {}
    for name, module, inner in text.imported:
        value = sys.modules.get(module, _NOTHING)
        value = _value(value, inner) if inner and value is not _NOTHING else value
        if value is not _NOTHING:
            found[name] = value
    return found


def _find(
    known: Mapping[str, Any], path: Place, places: Mapping[int, tuple[str, Place]]
) -> tuple[Any, tuple[str, Place] | None]:
    """Return an object, and where workers find it; None for one that is not in a module of theirs."""
    holder, place = known.get(path[0], _NOTHING), None
    for number, name in enumerate(path):
        holder = holder if number == 0 else _value(holder, name)
        if holder is _NOTHING:
            return None, None
        if (here := places.get(id(holder))) is not None:
            place = here
        elif place is not None:
            place = place[0], (*place[1], name)
    return holder, place


def _value(holder: Any, name: str) -> Any:
    try:
        return getattr(holder, name)
    except Exception:
        return _NOTHING  # it may be anything


def _can_be_set(holder: Any, attribute: str) -> bool:
    """Return whether a worker can set an attribute: of a dictionary, it sets entries."""
    kind = type(holder)
    return not issubclass(kind, list | set) and (not issubclass(kind, dict) or attribute in holder)
