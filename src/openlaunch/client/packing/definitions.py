"""Pickles the functions and classes that pickles made in workers may name, each as a pickle of its own."""

import sys
from collections.abc import Collection, Iterator, Mapping, Set
from contextlib import closing, suppress
from io import BytesIO
from types import FunctionType, ModuleType
from typing import Any, Final

from openlaunch.client.packing.changed_values import is_plain
from openlaunch.client.packing.own_code import CACHED, MAIN, OwnModules
from openlaunch.client.packing.pickler import FunctionPickler, InOrder
from openlaunch_worker.own_code import Definition, attribute

MAX_DEFINITION: Final = 1 << 18
"""Bytes of a definition that nothing uses for certain."""
_Place = tuple[str, str]


def definitions(pickler: FunctionPickler, own: OwnModules) -> dict[str, dict[str, Definition]]:
    """Pickle what may be asked for beside what the functions use.

    A pickle may name any function or class of the script, and any class of another module that is put together. Code
    may use what a module has, as `helpers.load` does.
    """
    made: dict[str, dict[str, Definition]] = {}
    known = {
        id(value): (name, key) for name, values in pickler.restored.items() for key, value in values.items()
    }
    tried: set[_Place] = set()
    while found := dict(_wanted(pickler, known.keys(), tried)):
        tried |= found.keys()
        known |= {id(value): place for place, value in found.items() if not is_plain(value)}
        for (name, key), value in found.items():
            # A large value that code names is wanted; what else may be named is small, or costs each deployment.
            file = BytesIO() if key in pickler.uses and name != MAIN else Bounded()
            with suppress(Exception), closing(DefinitionPickler(file, own, value, known)) as one:
                one.dump(InOrder(value) if type(value) in (set, frozenset) else value)
                made.setdefault(name, {})[key] = file.getvalue(), tuple(sorted(one.used))
                pickler.sources.texts.update(one.sources.texts)
                if key in pickler.uses:
                    pickler.uses |= one.uses
                    pickler.restored |= {each: {} for each in one.restored.keys() - pickler.restored.keys()}
                if isinstance(value, type) or key in pickler.uses:
                    pickler.named |= one.named
    return made


def _wanted(
    pickler: FunctionPickler, known: Collection[int], tried: Set[_Place]
) -> Iterator[tuple[_Place, Any]]:
    for name in sorted({MAIN, *pickler.restored} & sys.modules.keys()):
        kinds = (FunctionType, type, CACHED) if name == MAIN else (type,)
        is_used = name != MAIN or MAIN in pickler.uses
        for key, value in vars(sys.modules[name]).copy().items():
            if key.startswith("__") or (name, key) in tried or id(value) in known:
                continue
            if _is_defined(value, kinds, name, key) or (
                is_used
                and key in pickler.uses
                and (name, key) not in pickler.given
                and not isinstance(value, ModuleType)
            ):
                yield (name, key), value


def _is_defined(value: Any, kinds: tuple[type, ...], module: str, name: str) -> bool:
    # By its type: an object that stands for another may refuse to be asked what it is.
    return issubclass(type(value), kinds) and value.__module__ == module and value.__qualname__ == name


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
            home = self._home(function)
            for name in [name for name, one in values.items() if self._known.get(id(one)) == (home, name)]:
                del values[name]  # two that use each other could not be made one after the other
                self.used.add(name)
        return reduced


class Bounded(BytesIO):
    """Takes what a definition needs; a table of data among it would cost each deployment."""

    def write(self, data: Any, /) -> int:
        if self.tell() > MAX_DEFINITION:
            raise ValueError("the definition is too large")
        return super().write(data)
