"""Finds what makes a bundle of functions large."""

import types
from functools import partial
from io import BytesIO
from types import FunctionType, ModuleType
from typing import Any, Final

from openlaunch.client.packing.own_code import OwnModules
from openlaunch.client.packing.pickler import FunctionPickler
from openlaunch.client.packing.unpicklable import Search

MIN_BYTES: Final = 64 * 1024
"""A smaller value is not worth naming."""
_SHOWN: Final = 3
_MEBI: Final = 1024 * 1024


def large_values(functions: dict[str, Any]) -> str:
    """Return words for the largest values that go along with functions, such as a table in a variable."""
    own = OwnModules()
    search = Search(lambda one: False, own.is_by_value)
    found: dict[int, tuple[int, str]] = {}
    todo: list[Any] = list(functions.values())
    seen: set[int] = set()
    while todo:
        holder = todo.pop()
        if id(holder) in seen:
            continue
        seen.add(id(holder))
        for words, one in search.children(holder):
            if isinstance(one, FunctionType | types.MethodType | partial):
                todo.append(one)
            elif not isinstance(one, ModuleType | type | None) and (size := _size(one, own)) >= MIN_BYTES:
                found[id(one)] = size, words
    largest = sorted(found.values(), reverse=True)[:_SHOWN]
    return ", ".join(f"{words} ({size / _MEBI:.1f} MiB)" for size, words in largest)


def _size(one: Any, own: OwnModules) -> int:
    file = BytesIO()
    pickler = FunctionPickler(file, own)
    try:
        pickler.dump(one)
    except Exception:
        return 0  # it went along in another way
    finally:
        pickler.close()
    return file.tell()
