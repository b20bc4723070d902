"""Makes what a function's annotations name of the JSON that a request has for it."""

import datetime as dt
import json
import re
import sys
import types
import typing
from collections import deque
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Mapping,
    MutableSequence,
    MutableSet,
    Sequence,
    Set,
)
from contextvars import ContextVar
from dataclasses import InitVar, fields, is_dataclass, replace
from enum import Enum
from typing import Any, Final

from openlaunch_worker import times
from openlaunch_worker.binaries import Misfit, binary_maker, name_of
from openlaunch_worker.by_pydantic import is_encoded, is_marked, validator_of
from openlaunch_worker.documents import Limits
from openlaunch_worker.failures import InvalidInput, one_line
from openlaunch_worker.fetch import Transfer
from openlaunch_worker.files import SCRATCH, File, Scratch
from openlaunch_worker.generics import filled_in, is_name, unnamed
from openlaunch_worker.shapes import FIELDS, ITEM, TAKES

OTHERS: Final = "**"
"""The name that the type of further arguments is under, of which no parameter can have it."""

Make = Callable[[Any], Any]
"""Makes a value of an annotation's type of JSON; a `Misfit` says why that can't be."""


class Arguments:
    """Makes the arguments of one function, or for one that batches, the `item` of a request."""

    def __init__(
        self, takes: Mapping[str, Any], fields: Mapping[Any, Mapping[str, Any]], item: Any = None
    ) -> None:
        makers = Makers(fields)
        self.of_batches = item is not None
        self._build = None if item is None else _item_of(item)
        self._named = takes.keys() - {OTHERS}
        self._makers = {name: make for name in self._named if (make := makers.of(takes[name])) is not None}
        others = takes.get(OTHERS, Any)
        self._others = makers.of(others)
        self._files = [name for name in self._named if is_binary(takes[name])]
        self._others_are_files = is_binary(others)

    def make(self, args: Any, scratch: Scratch) -> Any:
        """Return the arguments to call with, or the item. Raise `InvalidInput` where one does not fit."""
        if type(args) is not dict:
            return args
        SCRATCH.set(scratch)
        token = _TRIED.set({})
        try:
            made = _each(self._of(args), args)
            return made if self._build is None else self._build(made)
        except Misfit as misfit:
            raise InvalidInput(f"{'.'.join(map(str, misfit.path)) or 'args'}: {misfit.reason}") from None
        except RecursionError:
            raise InvalidInput("the args are nested too deep") from None
        finally:
            _TRIED.reset(token)

    def _of(self, args: dict[str, Any]) -> dict[str, Make]:
        """Return what makes these arguments, by name."""
        if self._others is None:
            return self._makers
        return dict.fromkeys(args.keys() - self._named, self._others) | self._makers

    def downloads(self, args: Any) -> "Downloads | None":
        """Return the download of the files that are given by URL; None where there are none."""
        if not (self._files or self._others_are_files) or type(args) is not dict:
            return None
        files = self._files + (sorted(args.keys() - self._named) if self._others_are_files else [])
        places: list[tuple[Any, Any, Transfer]] = []
        for name in files:
            given = args.get(name)
            found = (
                [(args, name, given)] if type(given) is not list else [(given, *e) for e in enumerate(given)]
            )
            urls = ((of, key, url) for of, key, url in found if isinstance(url, str) and url.startswith(_WEB))
            places += ((of, key, Transfer(url)) for of, key, url in urls)
        return Downloads(args, places) if places else None


class Downloads:
    """The files that the arguments of one request name by URL."""

    def __init__(self, args: Any, places: list[tuple[Any, Any, Transfer]]) -> None:
        self._args = args
        self._places = places

    def abort(self) -> None:
        """Cut the download off, from any thread."""
        for _, _, transfer in self._places:
            transfer.abort()

    def fetch(self, limits: Limits) -> Any:
        """Return the arguments with the files in them. Raise `Refusal` where one can't be fetched."""
        left = limits.max_url_bytes
        for of, key, transfer in self._places:
            data = transfer.fetch(replace(limits, max_url_bytes=left))
            left -= len(data)
            of[key] = File(data, name=of[key].partition("?")[0].rpartition("/")[2])
        return self._args


_WEB: Final = ("https://", "http://")


def arguments_of(predict: Any) -> Arguments | None:
    """Return what makes the arguments of a predict function; None where JSON is enough."""
    takes = getattr(predict, TAKES, None)
    if not isinstance(takes, dict):
        return None
    return Arguments(takes, getattr(predict, FIELDS, {}), getattr(predict, ITEM, None))


def _item_of(item: Any) -> Make:
    """Return what makes an item of a batch of the args of a request."""
    if isinstance(item, str):

        def value(args: Any) -> Any:
            if item not in args:
                raise Misfit("it is needed", item)
            return args[item]

        return value
    return _guarded(item, lambda args: args if typing.is_typeddict(item) else item(**args))


class Makers:
    """Finds what makes values of a type, for each class once; a class may be within itself.

    `fields` has the types of the fields of classes whose annotations are names that may not be here. `within` are the
    names of `type` statements that the types are part of, for whose values nothing is made here.
    """

    def __init__(
        self, fields: Mapping[Any, Mapping[str, Any]] | None = None, within: Set[Any] = frozenset()
    ) -> None:
        self._fields = fields or {}
        self._within = within
        self._of_records: dict[Any, Make] = {}
        self._of_names: dict[Any, Make | None] = {}

    def of(self, kind: Any) -> Make | None:
        """Return what makes values of a type; None where those of JSON are values of it, or it is not known."""
        if is_marked(kind):
            return self._of_marked(kind)
        if (made := binary_maker(kind)) is not None:
            return made
        if is_name(kind):
            return self._of_name(kind)
        kind, origin, inner = taken_apart(kind)
        if origin in (typing.Union, types.UnionType):
            return self._of_union(inner)
        if origin is typing.Literal:
            return _of_literal(inner)
        if not isinstance(origin, type):
            return None
        if origin in _SIMPLE:
            return _SIMPLE[origin]
        if is_record(origin):
            return self._of_record(origin, inner)
        if issubclass(origin, Mapping):
            return _of_mapping(_of_key(self, inner[0]), self.of(inner[1])) if len(inner) == 2 else None
        if origin in _COLLECTIONS:
            return self._of_collection(origin, inner)
        return self._of_model(origin) if hasattr(origin, "model_validate") else _of_class(origin)

    def _of_marked(self, kind: Any) -> Make:
        """Return what has pydantic make a value; of a file, an image or an array, it gets that."""
        inner = typing.get_args(kind)[0]
        prepare = self.of(inner) if holds_binary(inner) and not is_encoded(kind) else None
        validate = validator_of(kind)

        def make(value: Any) -> Any:
            if prepare is not None:
                value = prepare(value)
            try:
                return validate(value.read() if prepare is None and isinstance(value, File) else value)
            except (ValueError, TypeError, LookupError, ArithmeticError, AssertionError) as error:
                if (misfit := _of_model(error)) is None:
                    raise Misfit(one_line(error)) from None
                raise Misfit(misfit.reason, *misfit.path[1:]) from None

        return make

    def _of_model(self, kind: Any) -> Make:
        """Return what makes a model of pydantic's, whose files, images and arrays are made here."""
        key = kind, ()
        if key not in self._of_records:
            self._of_records[key] = lambda value: self._of_records[key](value)
            makers: dict[str, Make] = {}
            for name, field in kind.model_fields.items():
                hint: Any = field.annotation
                make = self.of(typing.Annotated[(hint, *field.metadata, "")]) if holds_binary(hint) else None
                if make is not None:
                    each = _or_as_it_is(make) if holds_binary(hint, only=("bytes",)) else make
                    makers |= dict.fromkeys(_names_of(name, field), each)
            self._of_records[key] = _of_model_fields(kind, makers)
        return self._of_records[key]

    def _of_name(self, name: Any) -> Make | None:
        """Return what makes values of what a `type` statement names, which may be within itself."""
        if name in self._within:
            return None
        if name not in self._of_names:
            # What is there beside itself decides whether anything is made.
            made = Makers(self._fields, {*self._within, name}).of(unnamed(name))
            if self._within or made is None:
                return made
            self._of_names[name] = lambda value: within(value)
            self._of_names[name] = within = self.of(unnamed(name)) or made
        return self._of_names[name]

    def _of_union(self, kinds: Sequence[Any]) -> Make | None:
        """Return what makes a value of the first type that it fits, after those that JSON has."""
        makers = [found for each in kinds if (found := self._of_choice(each)) is not None]
        as_is = tuple(origin for _, origin, _ in map(taken_apart, kinds) if origin in _JSON)

        def make(value: Any) -> Any:
            if isinstance(value, as_is):
                return value
            misfits = []
            for each in makers:
                try:
                    return each(value)
                except Misfit as misfit:
                    misfits.append(misfit)
            raise _of_all(misfits)

        if len(makers) < 2:
            return makers[0] if makers and not as_is else make if makers else None
        return _once(make)

    def _of_choice(self, kind: Any) -> Make | None:
        """Return what makes a value of one of several types: it refuses what is of another one."""
        return _only_whole if taken_apart(kind)[1] is int and not is_marked(kind) else self.of(kind)

    def _of_collection(self, kind: Any, inner: tuple[Any, ...]) -> Make | None:
        if kind is tuple and inner and inner[-1] is not Ellipsis:
            return _of_tuple([self.of(each) for each in inner])
        make = self.of(inner[0]) if inner else None
        build = _COLLECTIONS[kind]
        if make is None:
            return None if build is list else _guarded(build, build)

        def made(value: Any) -> Any:
            if not isinstance(value, list):  # a text could be taken for a list of its characters
                raise Misfit(f"it is {type(value).__name__}, a list is needed")
            return build(_at(number, make, item) for number, item in enumerate(value))

        return made

    def _of_record(self, kind: Any, given: tuple[Any, ...]) -> Make:
        key = kind, given
        if key not in self._of_records:
            self._of_records[key] = lambda value: self._of_records[key](value)
            hints = self._fields[kind] if kind in self._fields else hints_of(kind)
            types_of = dict(zip(getattr(kind, "__parameters__", ()), given, strict=False))
            found = ((name, self.of(filled_in(hint, types_of))) for name, hint in hints.items())
            makers = {name: make for name, make in found if make is not None}
            self._of_records[key] = (
                _of_named_tuple(kind, makers) if issubclass(kind, tuple) else _of_fields(makers, kind)
            )
        return self._of_records[key]


def _of_all(misfits: Sequence[Misfit]) -> Misfit:
    """Return what says why a value fits none of several types."""
    if len({misfit.path for misfit in misfits}) > 1:
        return misfits[-1]
    return Misfit("; or ".join(dict.fromkeys(misfit.reason for misfit in misfits)), *misfits[0].path)


def _once(make: Make) -> Make:
    """Have each value made once in a request, however often it is tried.

    A type may fit all but the last part of a value, which is then tried with the next type. The work would double
    with every level of a value that has a union at each.
    """

    def made(value: Any) -> Any:
        if (tried := _TRIED.get(None)) is None:
            return make(value)
        key = id(make), id(value)
        if key not in tried:
            try:
                tried[key] = make(value)
            except Misfit as misfit:
                tried[key] = misfit
        if isinstance(found := tried[key], Misfit):
            raise Misfit(found.reason, *found.path)
        return found

    return made


_TRIED: Final[ContextVar[dict[tuple[int, int], Any]]] = ContextVar("tried")
"""What was made in unions of the values of the request whose arguments are made, and what does not fit."""


def is_binary(kind: Any, within: Set[Any] = frozenset()) -> bool:
    """Return whether a type is that of a file, an image or an array, of a list of those, or also null.

    `within` are the names of `type` statements that it is part of.
    """
    if binary_maker(kind) is not None:
        return True
    if is_name(kind):
        if kind in within:
            return False
        within = {*within, kind}
    _, origin, inner = taken_apart(kind)
    if origin in (typing.Union, types.UnionType, list, tuple, Sequence):
        return any(is_binary(each, within) for each in inner)
    return False


_JSON: Final = (str, bool, int, float)
_COLLECTIONS: Final[dict[Any, Callable[[Any], Any]]] = {
    **{kind: kind for kind in (list, tuple, set, frozenset, deque)},
    **dict.fromkeys((Sequence, MutableSequence, Iterable, Collection), list),
    **dict.fromkeys((Set, MutableSet), set),
}
"""What makes a collection of a type of a list."""
_QUALIFIERS: Final = (typing.Annotated, typing.Required, typing.NotRequired, typing.Final)


def taken_apart(kind: Any) -> tuple[Any, Any, tuple[Any, ...]]:
    """Return a type without what qualifies it, what it is of, such as a list, and the types within it."""
    while True:
        kind = unnamed(kind)
        if typing.get_origin(kind) in _QUALIFIERS:
            kind = typing.get_args(kind)[0]
        elif hasattr(kind, "__supertype__"):
            kind = kind.__supertype__  # of a NewType
        else:
            return kind, typing.get_origin(kind) or kind, typing.get_args(kind)


class FieldsAlone:
    """The base of classes that stand in place of a TypedDict of another library, which a worker may not have."""


def is_dict(kind: Any) -> bool:
    """Return whether values of a class with fields are dictionaries."""
    return typing.is_typeddict(kind) or (isinstance(kind, type) and issubclass(kind, FieldsAlone))


def is_record(kind: Any) -> bool:
    """Return whether a class has fields with types: a dataclass, a TypedDict or a named tuple."""
    if is_dict(kind) or (is_dataclass(kind) and not hasattr(kind, "model_validate")):
        return True
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def hints_of(kind: Any) -> dict[str, Any]:
    """Return the types of a record's fields. Raise what reading its annotations raises."""
    hints = typing.get_type_hints(kind, include_extras=True)
    if not is_dataclass(kind):
        return hints
    taken = {field.name for field in fields(kind) if field.init}
    # What `__init__` alone takes is not among the fields.
    only_taken = {name: hint.type for name, hint in hints.items() if isinstance(hint, InitVar)}
    return {name: hint for name, hint in hints.items() if name in taken} | only_taken


def holds_binary(kind: Any, *, only: Collection[str] | None = None, within: Set[Any] = frozenset()) -> bool:
    """Return whether a file, an image or an array is in values of a type, at any depth; with `only`, one of these.

    A path does not count: within a model, it is text. `within` are the classes that it is part of.
    """
    kind, origin, inner = taken_apart(kind)
    if (name := name_of(origin)) is not None:
        return name != "path" if only is None else name in only
    if origin in within:
        return False
    if hasattr(origin, "model_fields"):
        inner = (*inner, *(field.annotation for field in origin.model_fields.values()))
    elif is_record(origin):
        inner = (*inner, *hints_of(origin).values())
    return any(holds_binary(each, only=only, within={*within, origin}) for each in inner)


def _names_of(name: str, field: Any) -> Iterable[str]:
    """Return the names that a field of a model may have in JSON."""
    aliases = field.validation_alias, field.alias
    choices = (each for alias in aliases for each in getattr(alias, "choices", (alias,)))
    return [name, *(each for each in choices if isinstance(each, str))]


def _or_as_it_is(make: Make) -> Make:
    """Have pydantic say what it makes of a text that is not a file, for a field with bytes."""

    def made(value: Any) -> Any:
        try:
            return make(value)
        except Misfit:
            return value

    return made


def _of_model_fields(kind: Any, makers: Mapping[str, Make]) -> Make:
    is_root = "root" in makers and getattr(kind, "__pydantic_root_model__", False)

    def make(value: Any) -> Any:
        if is_root:
            value = makers["root"](value)
        elif makers and isinstance(value, dict):
            value = _each(makers, value)
        try:
            return kind.model_validate(value)
        except ValueError:
            if makers:
                raise
            return kind.model_validate_json(json.dumps(value))  # where it is strict, a date in JSON is a text

    return _guarded(kind, make)


def _of_class(kind: type) -> Make | None:
    if issubclass(kind, Enum):
        return _guarded(kind, kind)
    if kind.__module__ in _OF_TEXT and kind is getattr(sys.modules.get(kind.__module__), kind.__name__, None):
        return _guarded(kind, lambda value: kind(str(value)))
    return None


_OF_TEXT: Final = ("decimal", "uuid", "ipaddress", "zoneinfo", "fractions")
"""Modules of the standard library whose classes are made of a text."""


def _of_literal(values: tuple[Any, ...]) -> Make | None:
    """Return what finds a member of an `Enum` that a `Literal` names by its value."""
    members = [each for each in values if isinstance(each, Enum)]

    def make(value: Any) -> Any:
        return next((each for each in members if each.value == value), value)

    return make if members else None


def _guarded(kind: Any, make: Make) -> Make:
    """Have whatever is raised where a value is made say what was expected."""

    def guarded(value: Any) -> Any:
        try:
            return make(value)
        except (ValueError, TypeError, LookupError, ArithmeticError, re.error) as error:
            raise _of_model(error) or Misfit(f"it is not {kind.__name__}: {one_line(error)}") from None

    return guarded


def _of_model(error: Exception) -> Misfit | None:
    """Return what pydantic says of the first field that does not fit; None for another error."""
    if not hasattr(error, "errors") or not callable(error.errors):
        return None
    try:
        first, *others = error.errors()
        more = f" (and {len(others)} more)" if others else ""
        return Misfit(f"{first['msg'].removeprefix('Value error, ')}{more}", *first["loc"])
    except (TypeError, ValueError, LookupError, AttributeError):
        return None


def _of_tuple(makers: Sequence[Make | None]) -> Make:
    def make(value: Any) -> Any:
        if not isinstance(value, list) or len(value) != len(makers):
            raise Misfit(f"a list of {len(makers)} values is needed")
        pairs = enumerate(zip(makers, value, strict=True))
        return tuple(item if each is None else _at(number, each, item) for number, (each, item) in pairs)

    return make


def _of_mapping(make_key: Make | None, make: Make | None) -> Make | None:
    if make is None and make_key is None:
        return None

    def made(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Misfit(f"it is {type(value).__name__}, an object is needed")
        pairs = ((key, item if make is None else _at(key, make, item)) for key, item in value.items())
        result = {key if make_key is None else _at(key, make_key, key): item for key, item in pairs}
        if len(result) < len(value):
            raise Misfit("two of its keys are the same")
        return result

    return made


def _of_key(makers: Makers, kind: Any) -> Make | None:
    """Return what makes a key, which is text in JSON; None where its type is text, or not known."""
    _, origin, _ = taken_apart(kind)
    if origin in _KEYS:
        return _guarded(origin, _KEYS[origin])
    if isinstance(origin, type) and issubclass(origin, Enum):
        return _guarded(origin, lambda text: _member(origin, text))
    return (
        None
        if origin is str or (isinstance(origin, type) and issubclass(origin, Mapping))
        else makers.of(kind)
    )


def _whole_number(text: str) -> int:
    if re.fullmatch(r"-?[0-9]+", text) is None:
        raise ValueError(f"{text[:80]!r} is not a whole number")
    return int(text)


_KEYS: Final[dict[Any, Make]] = {
    int: _whole_number,
    float: float,
    bool: {"true": True, "false": False}.__getitem__,
}
"""What makes keys of the text that JSON has for numbers."""


def _member(kind: type[Enum], text: str) -> Enum:
    """Return the member of an Enum that a key names; a value that is a number is text there."""
    return next((each for each in kind if str(each.value) == text), None) or kind(text)


def _of_named_tuple(kind: Any, makers: Mapping[str, Make]) -> Make:
    build = _guarded(kind, lambda values: kind(**values))

    def make(value: Any) -> Any:
        if isinstance(value, list) and len(value) <= len(kind._fields):
            value = dict(zip(kind._fields, value, strict=False))
        if not isinstance(value, dict):
            raise Misfit(f"a list of {len(kind._fields)} values is needed for {kind.__name__}")
        return build(_each(makers, value))

    return make


def _of_fields(makers: Mapping[str, Make], kind: Any) -> Make:
    build = _guarded(kind, lambda value: value if is_dict(kind) else kind(**value))

    def make(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Misfit(f"it is {type(value).__name__}, an object is needed for {kind.__name__}")
        return build(_each(makers, value))

    return make


def _each(makers: Mapping[str, Make], values: dict[str, Any]) -> dict[str, Any]:
    return {name: _at(name, makers[name], v) if name in makers else v for name, v in values.items()}


def _at(place: object, make: Make, value: Any) -> Any:
    """Make a value; null stays as it is, because the schema says where it may be."""
    try:
        return None if value is None else make(value)
    except Misfit as misfit:
        raise Misfit(misfit.reason, place, *misfit.path) from None


def _whole(value: Any) -> Any:
    return int(value) if type(value) is float and value.is_integer() else value


def _only_whole(value: Any) -> int:
    whole = _whole(value)
    if type(whole) is not int:
        raise Misfit(f"it is {type(value).__name__}, a whole number is needed")
    return whole


_SIMPLE: Final[dict[Any, Make]] = {
    int: _whole,
    complex: _guarded(complex, complex),
    re.Pattern: _guarded(re.Pattern, re.compile),
    dt.datetime: _guarded(dt.datetime, times.read_datetime),
    dt.date: _guarded(dt.date, times.read_date),
    dt.time: _guarded(dt.time, times.read_time),
    dt.timedelta: _guarded(dt.timedelta, times.read_duration),
}
