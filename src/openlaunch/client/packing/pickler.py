"""Pickles functions: what workers can import goes along by name, the rest by value."""

import copyreg
import functools
import importlib
import linecache
import logging
import marshal
import re
import sys
import types
import typing
import weakref
from collections.abc import Mapping, Set
from contextvars import Context, ContextVar
from io import BytesIO
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, Final, NewType, ParamSpec, TypeVar, TypeVarTuple

import cloudpickle
import typing_extensions
from pydantic_core import SchemaSerializer, SchemaValidator

from openlaunch.client.packing.bytecode import marshalled
from openlaunch.client.packing.changed_values import is_plain
from openlaunch.client.packing.class_names import name_class
from openlaunch.client.packing.code_objects import imports_in, names_in, nested, texts_in
from openlaunch.client.packing.own_code import CACHED, MAIN, OwnModules, modules_named, parents_and, source_of
from openlaunch.client.packing.script_texts import IMPORTERS, read
from openlaunch.client.packing.source_texts import SourceTexts, check_fresh
from openlaunch_worker import generics
from openlaunch_worker.own_code import attribute, cached, context_variable, namespace, of_client

log = logging.getLogger(__name__)

_TYPING_ALIAS: Final = getattr(typing, "TypeAliasType", typing_extensions.TypeAliasType)
_ALIASES: Final = (_TYPING_ALIAS, typing_extensions.TypeAliasType)
"""What `type` statements make, from Python 3.12 on, and what stands for it."""
_NAMED_TYPES: Final = (ParamSpec, TypeVarTuple, NewType, *_ALIASES)
"""What is found under its name in its module, and otherwise made anew."""
_BY_TEXT: Final = ("eval", "exec", "globals", "vars")
_WORD: Final = re.compile(r"[^\W\d]\w*")
_WITH_STATE: Final = 6
"""Members of what an object is reduced to that has a state, and a function to set it."""


class _Namespace:
    """Stands for a module's globals: functions of a module that is there in the worker share them with it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return namespace, (self._name,)


class _Cell:
    """Stands for a variable of an enclosing function, which the functions within share; it gets its value later."""

    def __reduce__(self) -> tuple[Any, ...]:
        return CellType, ()


class InOrder:
    """Stands for a set of texts, whose order differs from one run of a program to the next."""

    def __init__(self, items: Set[Any]) -> None:
        self._items = items

    def __reduce__(self) -> tuple[Any, ...]:
        items = list(self._items)
        return type(self._items), (sorted(items) if all(type(one) is str for one in items) else items,)


def _reduce_weak(weak: Any) -> tuple[Any, ...]:
    return type(weak), (dict(weak),)


def _reduce_context_variable(variable: ContextVar[Any]) -> tuple[Any, ...]:
    try:
        return context_variable, (variable.name, Context().run(variable.get))
    except LookupError:
        return context_variable, (variable.name,)


def _reduce_cached_property(one: functools.cached_property[Any]) -> tuple[Any, ...]:
    return functools.cached_property, (one.func,), {"attrname": one.attrname}


def _reduce_schema(made: Any) -> tuple[Any, ...]:
    kind, made_of = made.__reduce__()
    return kind, _unshared(made_of)


def _unshared(schema: Any) -> Any:
    """Return the schema of a pydantic model with collections of its own.

    Models within others share them. One of these may be made in a worker while a collection around it is still empty.
    """
    if type(schema) is dict:
        return {key: _unshared(value) for key, value in schema.items()}
    return type(schema)(map(_unshared, schema)) if type(schema) in (list, tuple) else schema


class FunctionPickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles functions, and notes what has to go along with them.

    Attributes:
        named: own modules that the pickle or the code in it imports.
        unknown: files and lines that import under a name that is made there.
        uses: names that the code in the pickle uses.
        given: modules and names of globals that functions in the pickle bring along.
        others: modules of others that the code in the pickle uses.
        restored: modules whose functions and classes are in the pickle by value, with those that have a name there.
        sources: the source files of code in the pickle.
    """

    dispatch_table = cloudpickle.Pickler.dispatch_table.new_child(
        {
            weakref.WeakKeyDictionary: _reduce_weak,
            weakref.WeakValueDictionary: _reduce_weak,
            functools.cached_property: _reduce_cached_property,
            ContextVar: _reduce_context_variable,
            SchemaSerializer: _reduce_schema,
            SchemaValidator: _reduce_schema,
        }
    )

    def __init__(
        self, file: BytesIO, own: OwnModules, by_name: Mapping[int, tuple[str, str]] | None = None
    ) -> None:
        """Pickle into a file; `by_name` has the places of objects, by their id, that workers find in a module."""
        super().__init__(file)
        self.file = file
        self._own = own
        self._by_name = by_name or {}
        self._met: set[str] = set()
        self._sets: dict[int, InOrder] = {}
        self._cells: dict[int, tuple[CellType, _Cell]] = {}
        self._registered: list[ModuleType] = []
        self.named: set[str] = set()
        self.unknown: set[tuple[str, int]] = set()
        self.uses: set[str] = set()
        self.given: set[tuple[str, str]] = set()
        self.others: set[str] = set()
        self.restored: dict[str, dict[str, Any]] = {}
        self.sources = SourceTexts()

    def close(self) -> None:
        """Undo what cloudpickle was asked to remember."""
        for module in self._registered:
            cloudpickle.unregister_pickle_by_value(module)

    def reducer_override(self, obj: Any) -> Any:
        if (place := self._by_name.get(id(obj))) is None:
            return self._reduce(obj)
        self._meet(place[0])
        if getattr(obj, "__dict__", None):
            log.warning(
                "%s can't be pickled: workers have it as the module makes it, without what was changed in it here",
                ".".join(place),
            )
        return attribute, place

    def _reduce(self, obj: Any) -> Any:
        if isinstance(obj, type | FunctionType | ModuleType) and _is_of_client(obj):
            return of_client, (*_place_of(obj), isinstance(obj, type) and issubclass(obj, BaseException))
        if type(obj) is CodeType:
            return marshal.loads, (marshalled(self.sources.plain(obj)),)
        if isinstance(obj, ModuleType):
            return self._reduce_module(obj)
        if isinstance(obj, FunctionType):
            return self._reduce_function(obj)
        if isinstance(obj, type):
            self._meet(obj.__module__)
            if obj.__module__ in self.restored:
                name_class(obj)
            reduced = super().reducer_override(obj)
            if isinstance(reduced, tuple) and len(reduced) == _WITH_STATE and "." in obj.__qualname__:
                reduced[2][0]["__qualname__"] = obj.__qualname__  # else it is found under its name alone
            self._keep_name(obj, reduced)
            return reduced
        if isinstance(obj, CACHED):
            return self._reduce_cached(obj)
        if isinstance(obj, TypeVar):
            name_class(obj)
        if isinstance(obj, _NAMED_TYPES) and not self._is_imported(obj):
            return self._reduce_named_type(obj)
        if isinstance(obj, types.BuiltinFunctionType):
            self._meet(obj.__module__)
        reduced = super().reducer_override(obj)
        return self._reduce_by_name(obj) if reduced is NotImplemented else reduced

    def _reduce_by_name(self, obj: Any) -> Any:
        """Reduce an object of a script that is pickled by a name, such as a mark for what is missing."""
        kind: Any = type(obj)
        if kind.__reduce__ is object.__reduce__ or not self._own.is_by_value(kind.__module__):
            return NotImplemented
        name = obj.__reduce__()
        if not isinstance(name, str) or self._is_in_library(obj, name):
            return NotImplemented
        self._meet(kind.__module__)
        if "." not in name:
            self.restored[kind.__module__][name] = obj
        return copyreg.__newobj__, (kind,), obj.__getstate__()  # type: ignore[attr-defined]  # what pickle itself calls

    def _is_in_library(self, obj: Any, name: str) -> bool:
        """Return whether a module has an object whose class has none that is a file, as functions of Cython have."""
        home = getattr(obj, "__module__", None)
        found = getattr(sys.modules.get(home), name, None) if isinstance(home, str) else None
        return found is obj and not self._own.is_by_value(str(home))

    def _meet(self, name: object) -> None:
        """Decide how a module goes along, at the first thing of it that is pickled."""
        if not isinstance(name, str) or name in self._met:
            return
        self._met.add(name)
        if self._own.is_by_value(name):
            self.restored.setdefault(name, {})
            module = sys.modules.get(name)
            if (
                module is not None
                and name != MAIN
                and name not in cloudpickle.list_registry_pickle_by_value()
            ):
                cloudpickle.register_pickle_by_value(module)
                self._registered.append(module)
        elif source_of(name) is not None:
            self.named.add(name)

    def _reduce_module(self, module: ModuleType) -> Any:
        name = module.__name__
        self._meet(name)
        if name in self.restored and sys.modules.get(name) is module:
            return importlib.import_module, (name,)
        if name not in self.named and sys.modules.get(name) is module:
            self.others.add(name)
        return super().reducer_override(module)

    def _reduce_function(self, function: FunctionType) -> Any:
        self._meet(function.__module__)
        home = self._home(function)
        if home is not None:
            self.globals_ref.setdefault(id(function.__globals__), _Namespace(home))
        reduced = super().reducer_override(function)
        if reduced is NotImplemented:
            if function.__module__ in self.named and (source := source_of(function.__module__)) is not None:
                check_fresh(function, source)
            return reduced
        self._keep_name(function, reduced)
        self._note_imports(function)
        self.uses |= names_in(function.__code__) | ({MAIN} & texts_in(function.__code__))
        reduced[2][1]["_cloudpickle_submodules"] = _modules_below(function)
        reduced = (reduced[0], self._with_cells(reduced[1], function), *reduced[2:])
        values = reduced[2][1]["__globals__"]
        values.update(_named_in_texts(function))
        if home in self.named:
            values.clear()  # the module makes them when it is imported
        for name, value in list(values.items()):
            if name.startswith("@"):
                del values[name]
            elif type(value) in (set, frozenset):
                values[name] = self._sets.setdefault(id(value), InOrder(value))
        self.given.update((str(home), name) for name in values)
        return reduced

    def _with_cells(self, made_of: tuple[Any, ...], function: FunctionType) -> tuple[Any, ...]:
        """Return what a function is made of, with the cells that it shares; cloudpickle gives each its own."""
        if not function.__closure__:
            return made_of
        cells = tuple(self._cells.setdefault(id(one), (one, _Cell()))[1] for one in function.__closure__)
        return (*made_of[:-1], cells)

    def _home(self, function: FunctionType) -> str | None:
        """Return the module, there in the worker, whose globals a function uses."""
        name = function.__globals__.get("__name__")
        self._meet(name)
        module = sys.modules.get(name) if isinstance(name, str) else None
        if name not in self.restored and name not in self.named:
            return None
        return name if getattr(module, "__dict__", None) is function.__globals__ else None

    def _is_imported(self, obj: Any) -> bool:
        """Return whether the worker finds something under its name, because its module is there."""
        self._meet(obj.__module__)
        found = getattr(sys.modules.get(obj.__module__), obj.__name__, None)
        return found is obj and obj.__module__ not in self.restored

    def _reduce_named_type(self, obj: Any) -> tuple[Any, ...]:
        if isinstance(obj, NewType):
            return NewType, (obj.__name__, obj.__supertype__)
        return self._reduce_alias(obj) if isinstance(obj, _ALIASES) else (type(obj), (obj.__name__,))

    def _reduce_alias(self, alias: Any) -> tuple[Any, ...]:
        """Reduce the name of a type; it comes before its value, which it may be within."""
        value: list[Any] = []
        made_of = alias.__name__, alias.__module__, alias.__type_params__, value
        return generics.alias, made_of, (value, generics.value_of(alias)), None, None, generics.set_value

    def _reduce_cached(self, wrapper: Any) -> Any:
        self._meet(wrapper.__module__)
        if _is_named(wrapper) and wrapper.__module__ not in self.restored:
            return NotImplemented
        known = wrapper.cache_parameters()
        reduced = cached, (wrapper.__wrapped__, known["maxsize"], known["typed"]), dict(vars(wrapper))
        self._keep_name(wrapper, reduced)
        return reduced

    def _keep_name(self, obj: Any, reduced: Any) -> None:
        names = self.restored.get(obj.__module__)
        if (
            names is not None
            and reduced is not NotImplemented
            and _is_named(obj)
            and "." not in obj.__qualname__
        ):
            names[obj.__qualname__] = obj

    def _note_imports(self, function: FunctionType) -> None:
        package = function.__globals__.get("__package__") or ""
        found = [*imports_in(function.__code__, package)]
        if names_in(function.__code__) & {*IMPORTERS}:
            file = function.__code__.co_filename
            text = read("".join(linecache.getlines(file, function.__globals__)))
            found += (named := [*modules_named(text.names, package)])
            own = {line for code in nested(function.__code__) for *_, line in code.co_lines()}
            self.unknown.update((file, line) for line in text.imports if line in own and not named)
        for name in found:
            for one in parents_and(name):
                self._meet(one)


def _modules_below(function: FunctionType) -> list[ModuleType]:
    """Return the modules that code uses as attributes of packages, as `PIL.Image` is one of `PIL`.

    cloudpickle itself finds those of the function alone, and not of lambdas, comprehensions and others within it.
    """
    words = names_in(function.__code__)
    known = [function.__globals__.get(word) for word in words]
    known += [_content(cell) for cell in function.__closure__ or ()]
    packages = {f"{one.__name__}." for one in known if isinstance(one, ModuleType) and one.__package__}
    return [
        module
        for name, module in sorted(sys.modules.copy().items())
        for package in packages
        if name.startswith(package) and words.issuperset(name.removeprefix(package).split("."))
    ]


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it has none yet
        return None


def _named_in_texts(function: FunctionType) -> dict[str, Any]:
    """Return the plain globals that code names in texts, for `eval`, `globals()` and the like, or of `__main__`."""
    code = function.__code__
    words = names_in(code)
    if not words & {*_BY_TEXT, MAIN} and MAIN not in texts_in(code):
        return {}
    words |= {word for text in texts_in(code) for word in _WORD.findall(text)}
    known = function.__globals__
    return {
        name: known[name]
        for name in sorted(words & known.keys())
        if name[:2] != "__" and is_plain(known[name])
    }


def _is_of_client(obj: Any) -> bool:
    """Return whether something is of the client's package, which workers do not have, and is found by its name."""
    module, name = _place_of(obj)
    return module.startswith("openlaunch.") and (not name or _is_named(obj))


def _place_of(obj: Any) -> tuple[str, str]:
    if isinstance(obj, ModuleType):
        return obj.__name__, ""
    module = getattr(obj, "__module__", None)
    return module if isinstance(module, str) else "", obj.__qualname__


def _is_named(obj: Any) -> bool:
    """Return whether an object is found in its module under its name."""
    found: Any = sys.modules.get(obj.__module__)
    for part in obj.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is obj
