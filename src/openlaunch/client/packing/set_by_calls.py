"""Warns of what functions of the user's modules have set because a script called them, which no worker does."""

import logging
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from types import FunctionType, ModuleType
from typing import Any, Final, NamedTuple

from openlaunch.client.packing.changed_values import differs
from openlaunch.client.packing.own_code import source_of, starts_in
from openlaunch.client.packing.script_texts import COMPUTED, Call, read_function
from openlaunch.client.packing.spots import NOTHING, Finder, Spot, shown, unsure_in, value_of

log = logging.getLogger(__name__)

_MOST_SHOWN: Final = 8
_MOST_FUNCTIONS: Final = 100
"""Limit on the functions that are looked into of those that a function calls."""


class Calling(NamedTuple):
    """A call in a script, the name of its file, and what the names there are."""

    call: Call
    file: str
    known: Mapping[str, Any]


def warn_of_calls(
    calls: Iterable[Calling], finder: Finder, used: Set[str], found: Mapping[Spot, Collection[str]]
) -> None:
    """Warn of what calls have set, unless it is among what is `found`, or workers call the function, too.

    `used` has the names that the code of workers uses.
    """
    known_of = {(spot, name) for spot, values in found.items() for name in values}
    for call, file, known in calls:
        function, subject = finder.function(known, call.path)
        if function is None or function.__name__ in used:
            continue
        changed = {one for one in _set_by(function, subject, finder) if one not in known_of}
        known_of |= changed
        if changed:
            log.warning(
                "line %s of %s calls %s, which sets %s: in workers, which do not run the script, that is as the "
                "module makes it; call it in load_model_fn, too, or set it by name in the script",
                call.line,
                file,
                ".".join(call.path),
                ", ".join(sorted(shown(spot, name) for spot, name in changed)[:_MOST_SHOWN]),
            )


def _set_by(function: FunctionType, subject: Any, finder: Finder) -> Iterator[tuple[Spot, str]]:
    """Give what a function of a module, and those that it calls, have set; `subject` is whose method it is."""
    todo: list[tuple[FunctionType, Any]] = [(function, subject)]
    seen: set[tuple[FunctionType, int]] = set()
    while todo and len(seen) < _MOST_FUNCTIONS:
        function, subject = todo.pop()
        if (function, id(subject)) in seen:
            continue
        seen.add((function, id(subject)))
        text, module = read_function(function.__code__), sys.modules.get(function.__module__)
        local = function.__code__.co_varnames
        known = {name: value for name, value in function.__globals__.items() if name not in local}
        if subject is not None and local:
            known[local[0]] = subject
        for name in text.of_module if id(module) in finder.spots else ():
            if _is_set(module, name):
                yield (function.__module__, ()), name
        for path, attribute, _, _ in text.settings:
            holder, spot = finder.find(known, path)
            if spot is None or issubclass(type(holder), dict | list | set):
                continue  # a cache, most often
            names = unsure_in(holder) if attribute == COMPUTED else {attribute}
            yield from ((spot, name) for name in names if _is_set(holder, name))
        inner = (finder.function(known, call.path) for call in text.calls)
        todo += [(one, its) for one, its in inner if one is not None]


def _is_set(holder: Any, name: str) -> bool:
    """Return whether an attribute has another value than the one that the module's file begins with."""
    value = value_of(holder, name)
    for module, path in _homes_of(holder):
        source = source_of(module)
        for one in () if source is None else starts_in(source):
            if (one.path, one.name) == (path, name) and not differs(value, one.value):
                return False
    return value is not NOTHING


def _homes_of(holder: Any) -> list[tuple[str, tuple[str, ...]]]:
    """Return the modules and classes in whose files it stands what an object begins with."""
    if isinstance(holder, ModuleType):
        return [(holder.__name__, ())]
    kind = holder if isinstance(holder, type) else type(holder)
    return [(each.__module__, (each.__name__,)) for each in kind.__mro__]
