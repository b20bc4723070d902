"""Generic types, with the types that are given for their variables."""

import sys
import typing
from collections.abc import Mapping
from types import GenericAlias
from typing import Any, Final


def filled_in(kind: Any, types_of: Mapping[Any, Any]) -> Any:
    """Return a type with the types that are given for its variables; for a `TypeVarTuple`, there are several."""
    if isinstance(kind, typing.TypeVar):
        return types_of.get(kind, kind)
    variables = getattr(kind, "__parameters__", ())
    if not variables or not types_of:
        return kind
    return kind[tuple(one for each in variables for one in _given_for(each, types_of))]


def _given_for(variable: Any, types_of: Mapping[Any, Any]) -> tuple[Any, ...]:
    if isinstance(variable, typing.TypeVarTuple):
        return tuple(types_of.get(variable, (typing.Unpack[variable],)))
    return (types_of.get(variable, variable),)


def is_name(kind: Any) -> bool:
    """Return whether a type is the name of a `type` statement, also with types for its variables."""
    return type(typing.get_origin(kind) or kind).__name__ == "TypeAliasType"


def value_of(alias: Any) -> Any:
    """Return the value of the name of a type. Texts in it, of which Python makes no types, are read in its module."""

    def holder() -> None: ...

    holder.__annotations__ = {"it": alias.__value__}
    known = vars(sys.modules.get(alias.__module__, typing))
    try:
        return typing.get_type_hints(holder, known, include_extras=True)["it"]
    except (NameError, TypeError, SyntaxError, AttributeError):
        return alias.__value__


def unnamed(kind: Any) -> Any:
    """Return the type that a `type` statement names, and any other as it is.

    Since NumPy 2.5, `numpy.typing.NDArray` is such a name.
    """
    if not is_name(kind):
        return kind
    alias = typing.get_origin(kind) or kind
    return unnamed(filled_in(value_of(alias), _by_variable(alias.__type_params__, typing.get_args(kind))))


def _by_variable(variables: tuple[Any, ...], types: tuple[Any, ...]) -> dict[Any, Any]:
    """Return the types for each variable; one that stands for several has those that are left."""
    several = next((n for n, each in enumerate(variables) if isinstance(each, typing.TypeVarTuple)), None)
    if several is None or len(types) < len(variables) - 1:
        return dict(zip(variables, types, strict=False))
    end = len(types) - (len(variables) - several - 1)
    return dict(zip(variables, (*types[:several], types[several:end], *types[end:]), strict=True))


def alias(name: str, module: str, variables: tuple[Any, ...], value: list[Any]) -> Any:
    """Return what a `type` statement makes, whose value is the one that the list has by the time it is asked for.

    So it may be within its own value.
    """
    if not hasattr(typing, "TypeAliasType"):
        return TypeAliasType(name, module, variables, value)
    names = ", ".join(f"v{number}" for number in range(len(variables)))
    written = ", ".join(f"{_STARS.get(type(each), '')}v{number}" for number, each in enumerate(variables))
    given = f"[{written}]" if variables else ""

    def late(*own: Any) -> Any:
        several = ((typing.Unpack[each],) if isinstance(each, typing.TypeVarTuple) else each for each in own)
        return filled_in(value[0], dict(zip(variables, several, strict=True)))

    scope: dict[str, Any] = {"_late": late, "__name__": module}
    exec(f"type {name}{given} = _late({names})", scope)  # noqa: S102 -- nothing else makes one of a late value
    return scope[name]


def set_value(_alias: Any, state: tuple[list[Any], Any]) -> None:
    """Give an alias its value."""
    value, given = state
    value.append(given)


_STARS: Final[dict[type, str]] = {typing.TypeVarTuple: "*", typing.ParamSpec: "**"}


class TypeAliasType:
    """Stands for what a `type` statement makes, before Python 3.12."""

    def __init__(self, name: str, module: str, variables: tuple[Any, ...], value: list[Any]) -> None:
        self.__name__ = name
        self.__module__ = module
        self.__type_params__ = self.__parameters__ = variables
        self._value = value

    @property
    def __value__(self) -> Any:
        return self._value[0]

    def __getitem__(self, types: Any) -> GenericAlias:
        return GenericAlias(self, types)  # type: ignore[arg-type]  # it is used as a class is

    def __or__(self, other: Any) -> Any:
        return typing.Union[self, other]  # noqa: UP007 -- it is what makes this

    def __ror__(self, other: Any) -> Any:
        return typing.Union[other, self]  # noqa: UP007

    def __repr__(self) -> str:
        return self.__name__
