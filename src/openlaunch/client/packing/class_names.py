"""Names the classes of scripts as cloudpickle knows them, so that one is the same in each run of a program.

cloudpickle gives a class that it pickles by value a random name, by which it knows the class again in a pickle that
comes back. With a name made from the class itself, the same code is the same bytes.
"""

import hashlib
import marshal
from collections.abc import Iterator
from enum import EnumMeta
from itertools import count
from types import FunctionType
from typing import Any, TypeVar

from cloudpickle import cloudpickle


def name_class(cls: type | TypeVar) -> None:
    """Have cloudpickle know a class or type variable by its module, its name and its code."""
    try:
        with cloudpickle._DYNAMIC_CLASS_TRACKER_LOCK:
            by_class: Any = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS
            by_name: Any = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID
            if cls in by_class:
                return
            name = _name(cls)
            if isinstance(cls, TypeVar):  # those of `def first[T]` and `class Box[T]` are alike
                name = next(each for each in _numbered(name) if each not in by_name)
            if name in by_name:
                return  # the second of two such classes keeps a random name
            by_class[cls] = name
            by_name[name] = cls
    except AttributeError:
        return  # another cloudpickle: the name is random, and all else works


def _numbered(name: str) -> Iterator[str]:
    return (f"{name}{number}" for number in count())


def _name(cls: type | TypeVar) -> str:
    if isinstance(cls, TypeVar):
        return hashlib.sha256(f"{cls.__module__}\0{cls.__name__}\0{cls!r}".encode()).hexdigest()[:32]
    digest = hashlib.sha256(f"{cls.__module__}\0{cls.__qualname__}".encode())
    if isinstance(cls, EnumMeta):
        values: dict[str, Any] = {name: cls[name].value for name in cls.__members__}
        members = [(name, str(value)) for name, value in values.items() if _is_plain(value)]
        digest.update(repr(members).encode("utf-8", "backslashreplace"))
    for name, value in vars(cls).items():
        function = getattr(value, "__func__", getattr(value, "fget", value))
        if isinstance(function, FunctionType):
            value = marshal.dumps((function.__code__.co_code, function.__code__.co_names), 2)
        else:
            value = value if _is_plain(value) else ""
        digest.update(f"\0{name}\0{value}".encode("utf-8", "backslashreplace"))
    return digest.hexdigest()[:32]


def _is_plain(value: object) -> bool:
    return type(value) in (str, int, float, bool, type(None))
