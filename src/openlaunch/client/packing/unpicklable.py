"""Finds what in a function can't be pickled, and says where it is: the module, the variable, the type."""

import types
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType, FunctionType
from typing import Any, Final

MAX_DEPTH: Final = 12
MAX_TRIALS: Final = 400

Child = tuple[str, Any]
CanPickle = Callable[[Any], bool]


class Search:
    """Walks from functions to what they use, as long as that can't be pickled.

    `can_pickle` tells for one object; `by_value` for a module whether its globals are pickled with its functions.
    """

    def __init__(self, can_pickle: CanPickle, by_value: Callable[[str], bool]) -> None:
        self._can_pickle = can_pickle
        self._by_value = by_value
        self._seen: set[int] = set()
        self._trials = 0

    def trail(self, functions: dict[str, Any]) -> str | None:
        """Return the way to what can't be pickled, in words; None if it was not found."""
        steps: list[str] = []
        children: Iterator[Child] = iter([(f"the function {name}", one) for name, one in functions.items()])
        culprit: Any = None
        while len(steps) < MAX_DEPTH and (step := self._first_bad(children)) is not None:
            holder, (words, culprit) = culprit, step
            if _is_the_clients(holder):  # its own variables mean nothing to the user
                words = f"the function {getattr(culprit, '__qualname__', None) or _type_of(culprit)}"
            if not _is_the_clients(culprit):
                steps.append(f"{words}, of type {_type_of(culprit)}" if _is_data(culprit) else words)
            children = self.children(culprit)
        return " → ".join(steps) or None

    def _first_bad(self, children: Iterator[Child]) -> Child | None:
        for words, child in children:
            if id(child) in self._seen or isinstance(child, str | int | float | bytes | None):
                continue
            self._seen.add(id(child))
            self._trials += 1
            if self._trials > MAX_TRIALS:
                return None
            if not self._can_pickle(child):
                return words, child
        return None

    def children(self, one: Any) -> Iterator[Child]:
        """Give what is in an object, or what a function uses, with words for it."""
        if isinstance(one, FunctionType):
            yield from self._used_by(one)
        elif isinstance(one, types.MethodType):
            yield "the object of the method", one.__self__
            yield f"the function {one.__qualname__}", one.__func__
        elif isinstance(one, partial):
            yield from (
                (f"the argument {position} of a partial", value) for position, value in enumerate(one.args)
            )
            yield from (
                (f"the argument {name!r} of a partial", value) for name, value in one.keywords.items()
            )
            yield "the function of a partial", one.func
        elif isinstance(one, dict):
            yield from ((f"the value of {str(key)[:60]!r}", value) for key, value in list(one.items()))
        elif isinstance(one, list | tuple | set | frozenset):
            yield from ((f"the item {position}", value) for position, value in enumerate(one))
        elif isinstance(one, staticmethod | classmethod):
            yield f"the function {one.__func__.__qualname__}", one.__func__
        else:
            yield from ((f"the attribute {name!r}", value) for name, value in _attributes(one))

    def _used_by(self, function: FunctionType) -> Iterator[Child]:
        yield from self._enclosed_by(function)
        if self._by_value(function.__module__):
            for name in sorted(_names_in(function.__code__)):
                if name in function.__globals__:
                    yield f"the global {name!r} of {function.__module__}", function.__globals__[name]
        for value in (function.__defaults__, function.__kwdefaults__, vars(function)):
            yield f"a default or attribute of {function.__qualname__}", value

    def _enclosed_by(self, function: FunctionType) -> Iterator[Child]:
        outer = function.__qualname__.rpartition(".<locals>")[0] or function.__module__
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                yield f"the variable {name!r} of the enclosing function {outer}", cell.cell_contents
            except ValueError:
                continue  # it has no value yet


def _attributes(one: Any) -> list[Child]:
    slots = getattr(type(one), "__slots__", ())
    names = [slots] if isinstance(slots, str) else list(slots)
    found = [(name, getattr(one, name)) for name in names if hasattr(one, name)]
    return [*found, *getattr(one, "__dict__", {}).items()]


def _names_in(code: CodeType) -> set[str]:
    nested = (_names_in(one) for one in code.co_consts if isinstance(one, CodeType))
    return set(code.co_names).union(*nested)


def _is_data(one: Any) -> bool:
    return not isinstance(one, FunctionType | types.MethodType | type)


def _is_the_clients(one: Any) -> bool:
    return isinstance(one, FunctionType) and (one.__module__ or "").startswith("openlaunch.")


def _type_of(one: Any) -> str:
    kind = type(one)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
