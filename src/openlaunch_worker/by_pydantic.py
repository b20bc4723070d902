"""Values of types that pydantic makes, such as a SecretStr, and of those that a validator for it checks.

Nothing here imports pydantic: an annotation that needs it brings it along.
"""

import importlib
import types
import typing
from collections.abc import Callable
from typing import Any, Final

from openlaunch_worker.binaries import name_of

CORE: Final = "__get_pydantic_core_schema__"
"""What a class or metadata has that tells pydantic how values are made."""

_CHANGES: Final = ("strip_whitespace", "to_lower", "to_upper")
"""What metadata may have that changes texts."""


class ByPydantic:
    """Marks a type whose values pydantic makes, in `Annotated[kind, ByPydantic()]`."""


def is_marked(kind: Any) -> bool:
    """Return whether a type is marked so."""
    more = typing.get_args(kind)[1:] if typing.get_origin(kind) is typing.Annotated else ()
    return any(isinstance(each, ByPydantic) for each in more)


def needs_pydantic(kind: Any) -> bool:
    """Return whether pydantic makes the values of a type, which is neither a model nor a dataclass.

    A constraint alone, such as `Field(ge=1)`, is in the schema, and needs nothing else.
    """
    if typing.get_origin(kind) is typing.Annotated:
        return any(map(_makes_values, typing.get_args(kind)[1:]))
    origin = typing.get_origin(kind) or kind
    is_own = any(hasattr(origin, each) for each in ("model_validate", "__dataclass_fields__", "_fields"))
    return isinstance(origin, type) and hasattr(origin, CORE) and not is_own and name_of(origin) is None


def _makes_values(metadata: Any) -> bool:
    return hasattr(metadata, CORE) or any(getattr(metadata, name, None) for name in _CHANGES)


def is_encoded(kind: Any) -> bool:
    """Return whether bytes or texts come in an encoding of pydantic's, such as those of `Base64Bytes`."""
    return any(hasattr(each, "encoder") for each in typing.get_args(kind)[1:])


def validator_of(kind: Any) -> Callable[[Any], Any]:
    """Return what makes a value of such a type; it raises what pydantic does, with 0 first in the path."""
    pydantic = importlib.import_module("pydantic")
    # In a tuple, because models and dataclasses alone take no config.
    alone: Any = types.GenericAlias(tuple, (kind,))
    adapter = pydantic.TypeAdapter(alone, config=pydantic.ConfigDict(arbitrary_types_allowed=True))
    return lambda value: adapter.validate_python((value,))[0]
