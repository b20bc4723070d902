"""Generic types, with the types that are given for their variables."""

import typing
from collections.abc import Mapping
from typing import Any


def filled_in(kind: Any, types_of: Mapping[Any, Any]) -> Any:
    """Return a type with the types that are given for its variables."""
    if isinstance(kind, typing.TypeVar):
        return types_of.get(kind, kind)
    variables = getattr(kind, "__parameters__", ())
    return kind[tuple(types_of.get(each, each) for each in variables)] if variables and types_of else kind


def is_name(kind: Any) -> bool:
    """Return whether a type is the name of a `type` statement, also with types for its variables."""
    return type(typing.get_origin(kind) or kind).__name__ == "TypeAliasType"


def unnamed(kind: Any) -> Any:
    """Return the type that a `type` statement names, and any other as it is.

    Since NumPy 2.5, `numpy.typing.NDArray` is such a name.
    """
    if not is_name(kind):
        return kind
    alias = typing.get_origin(kind) or kind
    given = dict(zip(alias.__type_params__, typing.get_args(kind), strict=False))
    return unnamed(filled_in(alias.__value__, given))
