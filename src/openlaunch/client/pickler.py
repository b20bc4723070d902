"""Pickles functions: what workers can import goes along by name, the rest by value."""

import ast
import dis
import functools
import importlib
import linecache
import marshal
import os
import sys
import types
import weakref
from collections.abc import Iterator, Mapping, Set
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final, TypeVar

import cloudpickle

from openlaunch.client.bytecode import marshalled
from openlaunch.client.class_names import name_class
from openlaunch.client.own_code import (
    CACHED,
    MAIN,
    OwnModules,
    absolute,
    is_installed,
    parents_and,
    source_of,
)
from openlaunch.client.registrations import registrations
from openlaunch.client.unpicklable import Search
from openlaunch.errors import BundleError
from openlaunch_worker.own_code import Definition, attribute, cached, namespace

_CLIENT: Final = f"{Path(__file__).parents[1]}{os.sep}"
_REWRITTEN: Final = "@pytest_ar"
"""The global by which functions call pytest where it has rewritten their asserts."""

_Place = tuple[str, str]
_WITH_STATE: Final = 6
"""Members of what an object is reduced to that has a state, and a function to set it."""

MAX_DEFINITION: Final = 1 << 18
"""Bytes of a definition that nothing uses for certain."""


class _Namespace:
    """Stands for a module's globals: functions of a module that is there in the worker share them with it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return namespace, (self._name,)


class _InOrder:
    """Stands for a set of texts, whose order differs from one run of a program to the next."""

    def __init__(self, items: Set[Any]) -> None:
        self._items = items

    def __reduce__(self) -> tuple[Any, ...]:
        items = list(self._items)
        return type(self._items), (sorted(items) if all(type(one) is str for one in items) else items,)


def _reduce_weak(weak: Any) -> tuple[Any, ...]:
    return type(weak), (dict(weak),)


def _reduce_cached_property(one: functools.cached_property[Any]) -> tuple[Any, ...]:
    return functools.cached_property, (one.func,), {"attrname": one.attrname}


class FunctionPickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles functions, and notes what has to go along with them.

    Attributes:
        named: own modules that the pickle or the code in it imports.
        restored: modules whose functions and classes are in the pickle by value, with those that have a name there.
        texts: the source files of code in the pickle, by the name that tracebacks show.
    """

    dispatch_table = cloudpickle.Pickler.dispatch_table.new_child(
        {
            weakref.WeakKeyDictionary: _reduce_weak,
            weakref.WeakValueDictionary: _reduce_weak,
            functools.cached_property: _reduce_cached_property,
        }
    )

    def __init__(self, file: BytesIO, own: OwnModules) -> None:
        super().__init__(file)
        self.file = file
        self._own = own
        self._met: set[str] = set()
        self._sets: dict[int, _InOrder] = {}
        self._registered: list[ModuleType] = []
        self.named: set[str] = set()
        self.restored: dict[str, dict[str, Any]] = {}
        self.texts: dict[str, str | None] = {}

    def close(self) -> None:
        """Undo what cloudpickle was asked to remember."""
        for module in self._registered:
            cloudpickle.unregister_pickle_by_value(module)

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is CodeType:
            return marshal.loads, (marshalled(self._plain(obj)),)
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
        if isinstance(obj, types.BuiltinFunctionType):
            self._meet(obj.__module__)
        return super().reducer_override(obj)

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
        return super().reducer_override(module)

    def _reduce_function(self, function: FunctionType) -> Any:
        self._meet(function.__module__)
        home = self._home(function)
        if home is not None:
            self.globals_ref.setdefault(id(function.__globals__), _Namespace(home))
        reduced = super().reducer_override(function)
        if reduced is NotImplemented:
            self._check_fresh(function)
            return reduced
        self._keep_name(function, reduced)
        self._note_imports(function)
        values = reduced[2][1]["__globals__"]
        if home in self.named:
            values.clear()  # the module makes them when it is imported
        for name, value in list(values.items()):
            if name.startswith("@"):
                del values[name]
            elif type(value) in (set, frozenset):
                values[name] = self._sets.setdefault(id(value), _InOrder(value))
        return reduced

    def _home(self, function: FunctionType) -> str | None:
        """Return the module, there in the worker, whose globals a function uses."""
        name = function.__globals__.get("__name__")
        self._meet(name)
        module = sys.modules.get(name) if isinstance(name, str) else None
        if name not in self.restored and name not in self.named:
            return None
        return name if getattr(module, "__dict__", None) is function.__globals__ else None

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
        for name in _imports_in(function.__code__, package):
            for one in parents_and(name):
                self._meet(one)

    def _plain(self, code: CodeType) -> CodeType:
        """Return code as its source has it, and note that: without what pytest makes of asserts."""
        if code.co_filename.startswith(_CLIENT):
            return _renamed(code, "<openlaunch>")
        text = self._text_of(code)
        if _REWRITTEN in _names_in(code) and text is not None:
            return _codes_in(text, code.co_filename).get(_key(code), [code])[0]
        return code

    def _text_of(self, code: CodeType) -> str | None:
        name = code.co_filename
        if is_installed(name):
            return None
        if name not in self.texts:
            linecache.checkcache(name)
            self.texts[name] = "".join(linecache.getlines(name)) or None
            if not _is_from(code, self.texts[name]):
                self.texts[name] = None  # the lines are others than those that run
        return self.texts[name]

    def _check_fresh(self, function: FunctionType) -> None:
        """Refuse a function of a file that is another by now than the one that was imported."""
        source = source_of(function.__module__) if function.__module__ in self.named else None
        if source is None or function.__code__.co_filename != str(source.file):
            return
        if not _is_from(function.__code__, source.file.read_text("utf-8", "replace")):
            raise BundleError(
                f"{source.file} was changed after {function.__module__} was imported: import it again "
                "(importlib.reload, or a new session), so that what is deployed is what you have here"
            )


def _is_named(obj: Any) -> bool:
    """Return whether an object is found in its module under its name."""
    found: Any = sys.modules.get(obj.__module__)
    for part in obj.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is obj


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _names_in(code: CodeType) -> set[str]:
    return {name for one in _nested(code) for name in one.co_names}


def _renamed(code: CodeType, filename: str) -> CodeType:
    constants = (_renamed(one, filename) if isinstance(one, CodeType) else one for one in code.co_consts)
    return code.replace(co_filename=filename, co_consts=tuple(constants))


def _imports_in(code: CodeType, package: str) -> Iterator[str]:
    """Return the modules that code imports when it runs."""
    for one in _nested(code):
        if dis.opmap["IMPORT_NAME"] not in one.co_code[::2]:
            continue
        steps = list(dis.get_instructions(one))
        for position, step in enumerate(steps):
            if step.opname == "IMPORT_NAME":
                level, names = steps[position - 2].argval, steps[position - 1].argval
                aliases = [ast.alias(name) for name in names or ()]
                yield from absolute(step.argval, level, package, aliases)


def _key(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _is_from(code: CodeType, text: str | None) -> bool:
    """Return whether a text is the source of code, as far as that can be known."""
    if text is None:
        return False
    if not Path(code.co_filename).exists():
        return True  # a notebook's cell, whose text can't change
    known = _codes_in(text, code.co_filename).get(_key(code), [])
    return code in known or (bool(known) and _REWRITTEN in _names_in(code))


@lru_cache(maxsize=64)
def _codes_in(text: str, filename: str) -> dict[tuple[str, int], list[CodeType]]:
    try:
        module = compile(text, filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return {}
    found: dict[tuple[str, int], list[CodeType]] = {}
    for code in _nested(module):
        found.setdefault(_key(code), []).append(code)
    return found


class DefinitionPickler(FunctionPickler):
    """Pickles one function or class of a restored module; others go by name, as `known` has them by their id."""

    def __init__(self, file: BytesIO, own: OwnModules, subject: object, known: Mapping[int, _Place]) -> None:
        super().__init__(file, own)
        self._subject = subject
        self._known = known
        self.used: set[str] = set()

    def reducer_override(self, obj: Any) -> Any:
        if obj is not self._subject and id(obj) in self._known:
            return attribute, self._known[id(obj)]
        return super().reducer_override(obj)

    def _reduce_function(self, function: FunctionType) -> Any:
        reduced = super()._reduce_function(function)
        if reduced is not NotImplemented:
            values = reduced[2][1]["__globals__"]
            for name in [name for name, value in values.items() if id(value) in self._known]:
                del values[name]  # two that use each other could not be made one after the other
                self.used.add(name)
        return reduced


class _Small(BytesIO):
    """Takes what a definition needs; a table of data among it would cost each deployment."""

    def write(self, data: Any, /) -> int:
        if self.tell() > MAX_DEFINITION:
            raise ValueError("the definition is too large")
        return super().write(data)


@dataclass(frozen=True, slots=True)
class Pickles:
    """What functions are pickled to: the bytes, and all that has to go along.

    Attributes:
        functions: pickles as `openlaunch_worker.own_code` describes them.
        named: own modules that are imported.
        restored: modules that are put together.
        texts: source files by the name that tracebacks show.
    """

    functions: bytes
    named: set[str]
    restored: list[str]
    texts: dict[str, str]


def pickled(functions: dict[str, Any], own: OwnModules) -> Pickles:
    """Pickle functions, and what belongs to them."""
    file = BytesIO()
    with closing(FunctionPickler(file, own)) as pickler:
        try:
            pickler.dump(functions)
            loaded = sorted(name for name in own.follow(pickler.named) if name in sys.modules)
            pickler.dump(registrations(loaded, own, lambda one: _can_pickle(one, own, _Small())))
            pickler.dump(pickler.restored)
        except BundleError:
            raise
        except Exception as error:
            raise BundleError(_advice(functions, own, error)) from error
        pickler.dump(_definitions(pickler, own))
    texts = {name: text for name, text in sorted(pickler.texts.items()) if text is not None}
    restored = sorted({MAIN, *pickler.restored})
    return Pickles(file.getvalue(), pickler.named, restored, texts)


def _can_pickle(one: Any, own: OwnModules, file: BytesIO) -> bool:
    with closing(FunctionPickler(file, own)) as pickler:
        try:
            pickler.dump(one)
        except Exception:
            return False
    return True


def _advice(functions: dict[str, Any], own: OwnModules, error: Exception) -> str:
    search = Search(lambda one: _can_pickle(one, own, BytesIO()), own.is_by_value)
    trail = search.trail(functions)
    return (
        f"the functions can't be pickled: {error}; it is {trail or 'somewhere in what they use'}. Make what can't be "
        "copied (connections, locks, models) in load_model_fn, or in a module that they import"
    )


def _definitions(pickler: FunctionPickler, own: OwnModules) -> dict[str, dict[str, Definition]]:
    """Pickle what pickles may name beside what the functions use: of the script all, of other modules classes."""
    found = {name: dict(_defined_in(name)) for name in sorted({MAIN, *pickler.restored})}
    known = {
        id(value): (name, key) for name, values in pickler.restored.items() for key, value in values.items()
    }
    wanted = {name: {k: v for k, v in values.items() if id(v) not in known} for name, values in found.items()}
    known |= {id(value): (name, key) for name, values in wanted.items() for key, value in values.items()}
    made: dict[str, dict[str, Definition]] = {}
    for name, values in wanted.items():
        for key, value in values.items():
            with suppress(Exception), closing(DefinitionPickler(_Small(), own, value, known)) as one:
                one.dump(value)
                made.setdefault(name, {})[key] = one.file.getvalue(), tuple(sorted(one.used))
                pickler.texts.update(one.texts)
                if isinstance(value, type):
                    pickler.named |= one.named
    return made


def _defined_in(name: str) -> Iterator[tuple[str, Any]]:
    kinds = (FunctionType, type, CACHED) if name == MAIN else (type,)
    for key, value in list(vars(sys.modules[name]).items()) if name in sys.modules else ():
        # By its type: an object that stands for another may refuse to be asked what it is.
        if issubclass(type(value), kinds) and value.__module__ == name and value.__qualname__ == key:
            yield key, value
