"""Makes what a function's annotations name of the JSON that a request has for it."""

import datetime as dt
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, Final

from openlaunch_worker.binaries import Misfit, binary_maker
from openlaunch_worker.documents import Limits
from openlaunch_worker.failures import InvalidInput, one_line
from openlaunch_worker.fetch import Transfer
from openlaunch_worker.files import SCRATCH, File, Scratch
from openlaunch_worker.shapes import TAKES

Make = Callable[[Any], Any]
"""Makes a value of an annotation's type of JSON; a `Misfit` says why that can't be."""


class Arguments:
    """Makes the arguments of one function."""

    def __init__(self, takes: Mapping[str, Any]) -> None:
        makers = Makers()
        self._makers = {name: make for name, kind in takes.items() if (make := makers.of(kind)) is not None}
        self._files = [name for name, kind in takes.items() if is_binary(kind)]

    def make(self, args: Any, scratch: Scratch) -> Any:
        """Return the arguments to call with. Raise `InvalidInput` where one does not fit."""
        if type(args) is not dict:
            return args
        SCRATCH.set(scratch)
        token = _TRIED.set({})
        try:
            return _each(self._makers, args)
        except Misfit as misfit:
            raise InvalidInput(f"{'.'.join(map(str, misfit.path))}: {misfit.reason}") from None
        except RecursionError:
            raise InvalidInput("the args are nested too deep") from None
        finally:
            _TRIED.reset(token)

    def downloads(self, args: Any) -> "Downloads | None":
        """Return the download of the files that are given by URL; None where there are none."""
        if not self._files or type(args) is not dict:
            return None
        places: list[tuple[Any, Any, Transfer]] = []
        for name in self._files:
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
    return Arguments(takes) if isinstance(takes, dict) else None


class Makers:
    """Finds what makes values of a type, for each class once; a class may be within itself."""

    def __init__(self) -> None:
        self._of_records: dict[Any, Make] = {}

    def of(self, kind: Any) -> Make | None:
        """Return what makes values of a type; None where those of JSON are values of it, or it is not known."""
        if (made := binary_maker(kind)) is not None:
            return made
        kind, origin, inner = _taken_apart(kind)
        if origin in (typing.Union, types.UnionType):
            return self._of_union(inner)
        if not isinstance(origin, type):
            return None
        if origin in _SIMPLE:
            return _SIMPLE[origin]
        if typing.is_typeddict(origin) or (is_dataclass(origin) and not hasattr(origin, "model_validate")):
            return self._of_record(origin)
        if issubclass(origin, Mapping):
            return _of_mapping(self.of(inner[1])) if len(inner) == 2 else None
        if origin in _COLLECTIONS:
            return self._of_collection(origin, inner)
        return _of_class(origin)

    def _of_union(self, kinds: Sequence[Any]) -> Make | None:
        """Return what makes a value of the first type that it fits, after those that JSON has."""
        makers = [found for each in kinds if (found := self.of(each)) is not None]
        as_is = tuple(origin for _, origin, _ in map(_taken_apart, kinds) if origin in _JSON)

        def make(value: Any) -> Any:
            if isinstance(value, as_is):
                return value
            misfits = []
            for each in makers:
                try:
                    return each(value)
                except Misfit as misfit:
                    misfits.append(misfit)
            raise misfits[-1]

        if len(makers) < 2:
            return makers[0] if makers and not as_is else make if makers else None
        return _once(make)

    def _of_collection(self, kind: Any, inner: tuple[Any, ...]) -> Make | None:
        if kind is tuple and inner and inner[-1] is not Ellipsis:
            return _of_tuple([self.of(each) for each in inner])
        make = self.of(inner[0]) if inner else None
        build = list if kind is Sequence else kind
        if make is None:
            return None if build is list else _guarded(build, build)
        return lambda value: build(_at(number, make, item) for number, item in enumerate(value))

    def _of_record(self, kind: Any) -> Make:
        if kind not in self._of_records:
            self._of_records[kind] = lambda value: self._of_records[kind](value)
            hints = _hints(kind)
            found = ((name, self.of(hint)) for name, hint in hints.items())
            makers = {name: make for name, make in found if make is not None}
            self._of_records[kind] = _of_fields(makers, kind)
        return self._of_records[kind]


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


def is_binary(kind: Any) -> bool:
    """Return whether a type is that of a file, an image or an array, of a list of those, or also null."""
    if binary_maker(kind) is not None:
        return True
    _, origin, inner = _taken_apart(kind)
    if origin in (typing.Union, types.UnionType, list, tuple, Sequence):
        return any(is_binary(each) for each in inner)
    return False


_JSON: Final = (str, bool, int, float)
_COLLECTIONS: Final = (list, tuple, set, frozenset, Sequence)
_QUALIFIERS: Final = (typing.Annotated, typing.Required, typing.NotRequired, typing.Final)


def _taken_apart(kind: Any) -> tuple[Any, Any, tuple[Any, ...]]:
    """Return a type without what qualifies it, what it is of, such as a list, and the types within it."""
    while typing.get_origin(kind) in _QUALIFIERS or hasattr(kind, "__value__"):
        kind = kind.__value__ if hasattr(kind, "__value__") else typing.get_args(kind)[0]
    return kind, typing.get_origin(kind) or kind, typing.get_args(kind)


def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    if not is_dataclass(kind):
        return hints
    return {field.name: hints[field.name] for field in fields(kind) if field.init}


def _of_class(kind: type) -> Make | None:
    if (validate := getattr(kind, "model_validate", None)) is not None:
        return _guarded(kind, validate)
    if issubclass(kind, Enum):
        return _guarded(kind, kind)
    for name, module in (("Decimal", "decimal"), ("UUID", "uuid")):
        if kind is getattr(sys.modules.get(module), name, None):
            return _guarded(kind, lambda value: kind(str(value)))
    return None


def _guarded(kind: Any, make: Make) -> Make:
    """Have whatever is raised where a value is made say what was expected."""

    def guarded(value: Any) -> Any:
        try:
            return make(value)
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:
            raise Misfit(f"it is not {kind.__name__}: {one_line(error)}") from None

    return guarded


def _of_tuple(makers: Sequence[Make | None]) -> Make:
    def make(value: Any) -> Any:
        if not isinstance(value, list) or len(value) != len(makers):
            raise Misfit(f"a list of {len(makers)} values is needed")
        pairs = enumerate(zip(makers, value, strict=True))
        return tuple(item if each is None else _at(number, each, item) for number, (each, item) in pairs)

    return make


def _of_mapping(make: Make | None) -> Make | None:
    return None if make is None else lambda value: {key: _at(key, make, item) for key, item in value.items()}


def _of_fields(makers: Mapping[str, Make], kind: Any) -> Make:
    build = _guarded(kind, lambda value: value if typing.is_typeddict(kind) else kind(**value))

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


_SPAN: Final = re.compile(
    r"([-+])?P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", re.ASCII
)


def _span(value: Any) -> dt.timedelta:
    """Read a duration as ISO 8601 has it, or a number of seconds."""
    if isinstance(value, int | float):
        return dt.timedelta(seconds=value)
    if (found := _SPAN.fullmatch(value)) is None:
        raise ValueError(f"{value!r} is not a duration such as PT90S")
    weeks, days, hours, minutes, seconds = (float(part or 0) for part in found.groups()[1:])
    span = dt.timedelta(days, seconds, 0, 0, minutes, hours, weeks)
    return -span if found[1] == "-" else span


_SIMPLE: Final[dict[Any, Make]] = {
    int: _whole,
    dt.datetime: _guarded(dt.datetime, dt.datetime.fromisoformat),
    dt.date: _guarded(dt.date, dt.date.fromisoformat),
    dt.time: _guarded(dt.time, dt.time.fromisoformat),
    dt.timedelta: _guarded(dt.timedelta, _span),
}
