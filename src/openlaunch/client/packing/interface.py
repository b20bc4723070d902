"""What a predict function takes and returns, by its annotations."""

import functools
import inspect
import types
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    MutableSequence,
    Sequence,
    Set,
)
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import typing_extensions

from openlaunch.client.packing.checker_imports import names_for_checkers
from openlaunch.client.packing.decorators import signature_of, supplied_to
from openlaunch_worker.arguments import (
    OTHERS,
    FieldsAlone,
    Makers,
    hints_of,
    is_binary,
    is_record,
    taken_apart,
)
from openlaunch_worker.binaries import name_of
from openlaunch_worker.by_pydantic import ByPydantic, needs_pydantic
from openlaunch_worker.context import Context, is_context
from openlaunch_worker.files import Shape
from openlaunch_worker.generics import filled_in, is_name, unnamed

NONE = inspect.Parameter.empty
LEFT_OUT = object()
"""The default of what may be left out and then is not there."""
_PRESENCE = (typing.Required, typing.NotRequired)
_UNPACK = (typing.Unpack, typing_extensions.Unpack)
MAX_NAMES = 1000
"""Limit on the `type` statements that are looked into: one may contain itself with ever other types."""


class Interface(NamedTuple):
    """The types of a function's parameters and of its value; `is_open`: it takes others by name, too, of `others`.

    The fields of a TypedDict that `**` takes with `Unpack` are parameters.

    `parameters` is None, and `returns` is `NONE`, where nothing is annotated. `context` is the name of the parameter
    that no request has, which is for the context. `item` is what a function that batches gets of each request: an
    object of a class with fields, which are the parameters, or the value of the one parameter that it names.
    """

    parameters: dict[str, inspect.Parameter] | None
    is_open: bool
    returns: Any
    context: str | None = None
    unread: tuple[str, ...] = ()
    others: Any = NONE
    item: Any = None


NOTHING = Interface(None, False, NONE)


def interface_of(fn: Callable[..., Any], *, has_model: bool, batches: bool = False) -> Interface:
    """Return what a function takes and returns; with `has_model`, its first parameter is not a request's.

    With `batches`, its parameter is a list of what requests have, and it returns a list of their results.
    """
    try:
        signature = signature_of(fn)
    except (TypeError, ValueError):
        return NOTHING
    hints = _hints(fn)
    written = [*signature.parameters.values()][has_model:]
    given = [p.replace(annotation=hints.get(p.name, NONE)) for p in written]
    if batches:
        if not given:
            return NOTHING
        why = _why_unread(written[0], given[0])
        return _of_batch(given[0], _item(hints.get("return", NONE)))._replace(unread=(why,) if why else ())
    unread = tuple(why for one, read in zip(written, given, strict=True) if (why := _why_unread(one, read)))
    context = next((p.name for p in given if is_context(p.annotation)), None)
    supplied = supplied_to(fn)
    given = [
        one.replace(default=LEFT_OUT) if _is_supplied(one, supplied) else one
        for p in given
        if p.name != context
        for one in _unpacked(p)
    ]
    named = {p.name: p for p in given if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    others = [p.annotation for p in given if p.kind is p.VAR_KEYWORD]
    is_annotated = any(kind is not NONE for kind in (*(p.annotation for p in named.values()), *others))
    returns = _item(hints.get("return", NONE))
    return Interface(
        named if is_annotated else None, bool(others), returns, context, unread, *others or (NONE,)
    )


def _is_supplied(parameter: inspect.Parameter, names: Set[str] | None) -> bool:
    """Return whether a decorator may supply an argument that has no default; one of no names may supply any."""
    is_one = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return is_one and parameter.default is NONE and (names is None or parameter.name in names)


def _unpacked(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    """Return a parameter, or those that `**options: Unpack[Options]` stands for."""
    if parameter.kind is not parameter.VAR_KEYWORD or typing.get_origin(parameter.annotation) not in _UNPACK:
        return [parameter]
    kind = typing.get_args(parameter.annotation)[0]
    if not typing.is_typeddict(kind):
        return [parameter]
    try:
        hints = hints_of(kind)
    except Exception:
        return [parameter.replace(annotation=NONE)]  # it names what is not there
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=_without_marks(hint),
            default=NONE if _is_needed(name, hint, kind) else LEFT_OUT,
        )
        for name, hint in hints.items()
    ]


def _without_marks(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) in _PRESENCE else hint


def _is_needed(name: str, hint: Any, kind: Any) -> bool:
    """Return whether a field has to be there; of annotations that are texts, Python does not read that."""
    origin = typing.get_origin(hint)
    return origin is typing.Required if origin in _PRESENCE else name in kind.__required_keys__


def _of_batch(inputs: inspect.Parameter, returns: Any) -> Interface:
    """Return what each request has where the items of a list are files, arrays or objects with fields."""
    _, origin, inner = taken_apart(inputs.annotation)
    if origin not in _LISTS or len(inner) != 1:
        return NOTHING
    [item] = inner
    made_of: Any = None
    _, kind, given = taken_apart(item)
    named = functools.partial(inspect.Parameter, kind=inspect.Parameter.KEYWORD_ONLY)
    if is_binary(item):
        found, made_of = {inputs.name: named(inputs.name, annotation=item)}, inputs.name
    elif is_record(kind):
        try:
            hints = hints_of(kind)
        except Exception:
            return NOTHING  # a class may name what is not there
        types_of = dict(zip(getattr(kind, "__parameters__", ()), given, strict=False))
        found = {
            name: named(
                name, annotation=filled_in(_without_marks(hint), types_of), default=_default(name, hint, kind)
            )
            for name, hint in hints.items()
        }
        made_of = kind
    else:
        return NOTHING
    return Interface(found, False, _each_of(returns), item=made_of)


_LISTS = (list, Sequence, MutableSequence, Iterable, Collection)


def _default(name: str, hint: Any, kind: Any) -> Any:
    """Return the default of a record's field; `NONE` where it is needed."""
    if typing.is_typeddict(kind):
        return NONE if _is_needed(name, hint, kind) else LEFT_OUT
    if not is_dataclass(kind):
        return kind._field_defaults.get(name, NONE)  # of a named tuple
    field = next((each for each in fields(kind) if each.name == name), None)
    if field is None:
        return getattr(kind, name, NONE)  # of an InitVar
    if field.default_factory is not MISSING:
        return LEFT_OUT
    return NONE if field.default is MISSING else field.default


def _each_of(returns: Any) -> Any:
    """Return the type of one result of those that a function returns for a batch, as a list or rows of an array."""
    kind, origin, inner = taken_apart(returns)
    if name_of(origin) in ("array", "tensor"):
        more = typing.get_args(returns)[1:] if typing.get_origin(returns) is typing.Annotated else ()
        kept = tuple(Shape(*each.lengths[1:]) if isinstance(each, Shape) else each for each in more)
        return typing.Annotated[(kind, *kept)] if kept else kind
    if origin not in _LISTS or len(inner) != 1:
        return NONE
    _, origin, kinds = taken_apart(inner[0])
    if origin not in (typing.Union, types.UnionType):
        return inner[0]
    kinds = tuple(each for each in kinds if not (isinstance(each, type) and issubclass(each, BaseException)))
    return typing.Union[kinds] if kinds else NONE  # noqa: UP007 -- made of any number


def _why_unread(written: inspect.Parameter, read: inspect.Parameter) -> str | None:
    """Say why nothing is made of JSON for a parameter, where its annotation may name something that is."""
    what = None
    if read.annotation is NONE:
        if written.annotation is not NONE:
            what = (
                f"the annotation {written.annotation!r} names nothing that is there outside of TYPE_CHECKING, "
                "nor a module of your own"
            )
    else:
        what = _unreadable_field(read.annotation)
    return f"{written.name}: {what}" if what else None


def _unreadable_field(kind: Any) -> str | None:
    """Say which annotation within a type is a name that is not there, as of an import for type checkers alone."""
    try:
        made_fields({"": kind})
    except NameError as error:
        return f"an annotation in {getattr(kind, '__name__', kind)} names nothing outside of TYPE_CHECKING ({error})"
    except Exception:
        return None  # it may be anything
    return None


def made_types(interface: Interface, *, of_request: bool = True) -> dict[str, Any]:
    """Return the types of those parameters for which a worker makes something of JSON, and that of a context.

    Without `of_request`, what comes is given to the function as it is.
    """
    makers = Makers()
    parameters = interface.parameters or {} if of_request else {}
    types_of = {name: _for_worker(parameter.annotation) for name, parameter in parameters.items()}
    made = {name: kind for name, kind in types_of.items() if _is_made(makers, kind)}
    others = _for_worker(interface.others)
    if interface.parameters is not None and of_request and _is_made(makers, others):
        # What has a name of its own is not among the others.
        made = dict.fromkeys(parameters, Any) | made | {OTHERS: others}
    return made if interface.context is None else made | {interface.context: Context}


def made_fields(takes: dict[str, Any]) -> dict[Any, dict[str, Any]]:
    """Return the types of the fields of the classes in `takes`.

    Where annotations are texts (`from __future__ import annotations`), a worker may not have what they name: nothing
    but the annotation uses it.
    """
    found: dict[Any, dict[str, Any]] = {}
    names: set[Any] = set()
    makers = Makers()
    todo = list(takes.values())
    while todo and len(names) < MAX_NAMES:
        if is_name(kind := todo.pop()):
            if kind in names:
                continue  # it is within itself
            names.add(kind)
        _, kind, inner = taken_apart(kind)
        todo += inner
        if not is_record(kind) or kind in found:
            continue
        hints = {name: _for_worker(hint) for name, hint in _fields_of(kind).items()}
        found[kind] = {name: hint for name, hint in hints.items() if _is_open(hint) or _is_made(makers, hint)}
        todo += found[kind].values()
    return found


def _is_open(hint: Any) -> bool:
    """Return whether a type has variables, for which its class is given types."""
    return isinstance(hint, typing.TypeVar) or bool(getattr(hint, "__parameters__", ()))


def _for_worker(kind: Any) -> Any:
    """Return a type as a worker gets it.

    Metadata of other libraries is left out, which a worker may not have and does not read. A type whose values only
    pydantic can make keeps its own, and is marked.
    """
    return rebuilt(kind, keep=_is_ours, whole=_marked)


def _marked(kind: Any) -> Any:
    if needs_pydantic(kind):
        return typing.Annotated[kind, ByPydantic()]
    return _stand_in(kind) if _is_foreign_dict(kind) else None


def _fields_of(kind: Any) -> dict[str, Any]:
    if kind not in _IN_PLACE_OF:
        return hints_of(kind)
    hints = typing.get_type_hints(_IN_PLACE_OF[kind], include_extras=True)
    return {name: _without_qualifiers(hint) for name, hint in hints.items()}


def _without_qualifiers(hint: Any) -> Any:
    return _without_qualifiers(typing.get_args(hint)[0]) if typing.get_origin(hint) in _QUALIFIERS else hint


_QUALIFIERS = (typing_extensions.Required, typing_extensions.NotRequired, typing_extensions.ReadOnly)


def _is_foreign_dict(kind: Any) -> bool:
    return typing_extensions.is_typeddict(kind) and not typing.is_typeddict(kind)


def _stand_in(kind: Any) -> Any:
    """Return what stands in place of a TypedDict of typing_extensions, which a worker may not have."""
    if kind not in _STAND_INS:
        _STAND_INS[kind] = type(kind.__name__, (FieldsAlone,), {"__module__": kind.__module__})
        _IN_PLACE_OF[_STAND_INS[kind]] = kind
    return _STAND_INS[kind]


_STAND_INS: "WeakKeyDictionary[Any, Any]" = WeakKeyDictionary()
_IN_PLACE_OF: "WeakKeyDictionary[Any, Any]" = WeakKeyDictionary()


def _is_ours(metadata: Any) -> bool:
    return type(metadata).__module__.startswith("openlaunch_worker")


def rebuilt(
    kind: Any,
    leaf: Callable[[Any], Any] = lambda kind: kind,
    keep: Callable[[Any], bool] = lambda metadata: True,
    whole: Callable[[Any], Any] = lambda kind: None,
) -> Any:
    """Return a type with what `leaf` gives in place of each class, and of metadata what is to be kept.

    An array of a type of values, as `numpy.typing.NDArray` has it, is one class. What `whole` gives for a type stands
    in place of it, and of what is within.
    """
    if (instead := whole(kind)) is not None:
        return instead
    named = unnamed(kind)
    if name_of(typing.get_origin(named) or named) is not None:
        return leaf(named)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if not inner or origin is typing.Literal:
        return leaf(kind)
    if origin is typing.Annotated:
        kept = tuple(filter(keep, inner[1:]))
        made = rebuilt(inner[0], leaf, keep, whole)
        return typing.Annotated[(made, *kept)] if kept else made
    parts = tuple(rebuilt(each, leaf, keep, whole) for each in inner)
    if origin in (typing.Union, types.UnionType):
        return typing.Union[parts]  # noqa: UP007 -- made of any number
    return (
        types.GenericAlias(origin, parts) if isinstance(kind, types.GenericAlias) else kind.copy_with(parts)
    )


def _is_made(makers: Makers, kind: Any) -> bool:
    try:
        return makers.of(kind) is not None
    except Exception:
        return False  # a class may name what is not there


def _hints(fn: Any) -> dict[str, Any]:
    """Return the annotations of a function; what can't be found under its name is left out."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = inspect.unwrap(fn)
    if not inspect.isroutine(fn):
        fn = type(fn).__call__
    fn = getattr(fn, "__func__", fn)
    known = getattr(fn, "__globals__", {})
    for_checkers = functools.cache(lambda: names_for_checkers(known) | known)
    found = {}
    for name, annotation in getattr(fn, "__annotations__", {}).items():
        try:
            try:
                found[name] = _resolved(annotation, known)
            except NameError:
                found[name] = _resolved(annotation, for_checkers())
        except Exception:  # noqa: S112 -- an annotation is an expression of a user's, such as of a name for type checkers alone
            continue
    return found


def _resolved(annotation: Any, known: dict[str, Any]) -> Any:
    def holder() -> None: ...

    holder.__annotations__ = {"it": annotation}
    return typing.get_type_hints(holder, known, include_extras=True)["it"]


_ITEMS = (Iterator, Iterable, Generator, AsyncIterator, AsyncGenerator)


def _item(returns: Any) -> Any:
    """Return the type of one value: of what is awaited, or of the items of a stream."""
    origin, inner = typing.get_origin(returns), typing.get_args(returns)
    if origin in (Awaitable, Coroutine) and inner:
        return _item(inner[-1])
    return inner[0] if origin in _ITEMS and inner else returns
