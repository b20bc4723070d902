"""What kind of function predict is, as far as can be known before it is called."""

import functools
import inspect
import itertools
from collections.abc import Callable
from enum import Enum
from typing import Any, Final

TAKES: Final = "takes"
"""The attribute of a predict function with the types of those of its parameters for which JSON is not enough."""
FIELDS: Final = "fields"
"""The attribute with the types of the fields of the classes among them, whose own annotations may be names."""
ITEM: Final = "item"
"""The attribute of one that batches: what it gets of each request, a class of these fields or the name of one."""


class Shape(Enum):
    """COROUTINE and ASYNC_GENERATOR are called on the event loop, which costs nothing; the others in a thread.

    PLAIN may still return an iterator or an awaitable, which shows when it does.
    """

    PLAIN = "def"
    GENERATOR = "def with yield"
    COROUTINE = "async def"
    ASYNC_GENERATOR = "async def with yield"

    @property
    def on_loop(self) -> bool:
        return self in (Shape.COROUTINE, Shape.ASYNC_GENERATOR)

    @property
    def yields(self) -> bool:
        """Whether predict surely gives a stream."""
        return self in (Shape.GENERATOR, Shape.ASYNC_GENERATOR)


def by_name(predict: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that takes by name what another one takes by position alone; else that one itself."""
    try:
        signature = inspect.signature(predict)
    except (TypeError, ValueError):
        return predict
    parameters = signature.parameters.values()
    names = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_ONLY)
    if not names:
        return predict
    made: Any = functools.partial(_by_position, predict, names)
    taken = [p.replace(kind=p.POSITIONAL_OR_KEYWORD) if p.name in names else p for p in parameters]
    made.__signature__ = signature.replace(parameters=taken)
    return made  # type: ignore[no-any-return]


def _by_position(predict: Callable[..., Any], names: tuple[str, ...], /, *args: Any, **values: Any) -> Any:
    given = tuple(values.pop(name) for name in itertools.takewhile(values.__contains__, names))
    return predict(*args, *given, **values)


def shape_of(predict: Callable[..., Any]) -> Shape:
    """Return the shape of a function, a method, a partial, or an object with `__call__`."""
    target: Any = predict
    while isinstance(target, functools.partial):
        target = target.func
    if not inspect.isroutine(target):
        target = type(target).__call__
    if inspect.iscoroutinefunction(target):
        return Shape.COROUTINE
    if inspect.isasyncgenfunction(target):
        return Shape.ASYNC_GENERATOR
    return Shape.GENERATOR if inspect.isgeneratorfunction(target) else Shape.PLAIN
