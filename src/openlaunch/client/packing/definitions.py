"""Pickles the functions and classes that pickles made in workers may name, each as a pickle of its own."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from io import BytesIO
from types import FunctionType
from typing import Any, Final

from openlaunch.client.packing.own_code import CACHED, MAIN, OwnModules
from openlaunch.client.packing.pickler import FunctionPickler
from openlaunch_worker.own_code import Definition, attribute

MAX_DEFINITION: Final = 1 << 18
"""Bytes of a definition that nothing uses for certain."""
_Place = tuple[str, str]


def definitions(pickler: FunctionPickler, own: OwnModules) -> dict[str, dict[str, Definition]]:
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
            with suppress(Exception), closing(DefinitionPickler(Bounded(), own, value, known)) as one:
                one.dump(value)
                made.setdefault(name, {})[key] = one.file.getvalue(), tuple(sorted(one.used))
                pickler.sources.texts.update(one.sources.texts)
                if isinstance(value, type):
                    pickler.named |= one.named
    return made


def _defined_in(name: str) -> Iterator[tuple[str, Any]]:
    kinds = (FunctionType, type, CACHED) if name == MAIN else (type,)
    for key, value in list(vars(sys.modules[name]).items()) if name in sys.modules else ():
        # By its type: an object that stands for another may refuse to be asked what it is.
        if issubclass(type(value), kinds) and value.__module__ == name and value.__qualname__ == key:
            yield key, value


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


class Bounded(BytesIO):
    """Takes what a definition needs; a table of data among it would cost each deployment."""

    def write(self, data: Any, /) -> int:
        if self.tell() > MAX_DEFINITION:
            raise ValueError("the definition is too large")
        return super().write(data)
