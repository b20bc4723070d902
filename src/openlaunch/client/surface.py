"""Makes methods of operations.

An operation is a function that gives a flow. `blocking(operation)` and `awaitable(operation)` are methods
with the same parameters and the same docstring, which run the flow; `then` turns what the flow gives into what
the method gives, such as an endpoint that knows its client.
"""

import inspect
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, get_args, get_type_hints, overload

from openlaunch.client.effects import Flow
from openlaunch.client.operations.keywords import check_known
from openlaunch.client.watcher import AsyncWatcher, Watcher

MAX_NAMED = 5
"""Keywords that an error lists."""

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


class BlockingClient(Protocol):
    """What endpoints, futures and streams need of their client."""

    @property
    def watcher(self) -> Watcher:
        """Calls callbacks."""

    def run(self, flow: Flow[T]) -> T:
        """Run a flow."""


class AwaitableClient(Protocol):
    """What endpoints, futures and streams need of the awaitable client."""

    @property
    def watcher(self) -> AsyncWatcher:
        """Calls callbacks."""

    def run(self, flow: Flow[T]) -> Coroutine[Any, Any, T]:
        """Run a flow."""


C = TypeVar("C", bound=BlockingClient)
A = TypeVar("A", bound=AwaitableClient)


@overload
def blocking(operation: Callable[P, Flow[T]]) -> Callable[Concatenate[Any, P], T]: ...
@overload
def blocking(
    operation: Callable[P, Flow[T]], then: Callable[[C, T], R]
) -> Callable[Concatenate[C, P], R]: ...
def blocking(
    operation: Callable[P, Flow[Any]], then: Callable[[Any, Any], Any] | None = None
) -> Callable[..., Any]:
    """Make a method of a blocking client."""
    signature = _signature_of(operation)

    def method(self: BlockingClient, *args: P.args, **kwargs: P.kwargs) -> Any:
        _check_given(args, kwargs, signature)
        result = self.run(operation(*args, **kwargs))
        return result if then is None else then(self, result)

    return _described(method, operation, signature)


@overload
def awaitable(operation: Callable[P, Flow[T]]) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]: ...
@overload
def awaitable(
    operation: Callable[P, Flow[T]], then: Callable[[A, T], R]
) -> Callable[Concatenate[A, P], Coroutine[Any, Any, R]]: ...
def awaitable(
    operation: Callable[P, Flow[Any]], then: Callable[[Any, Any], Any] | None = None
) -> Callable[..., Any]:
    """Make a method of an awaitable client."""
    signature = _signature_of(operation)

    async def method(self: AwaitableClient, *args: P.args, **kwargs: P.kwargs) -> Any:
        _check_given(args, kwargs, signature)
        result = await self.run(operation(*args, **kwargs))
        return result if then is None else then(self, result)

    return _described(method, operation, signature)


def _described(
    method: Callable[..., Any], operation: Callable[..., Any], signature: inspect.Signature
) -> Callable[..., Any]:
    method.__name__ = operation.__name__
    method.__qualname__ = operation.__qualname__
    method.__doc__ = operation.__doc__
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [itself, *signature.parameters.values()]
    method.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return method


def _check_given(args: tuple[Any, ...], kwargs: dict[str, Any], signature: inspect.Signature) -> None:
    """Raise TypeError, which says what to write, for an unknown keyword, or for too many values without a name."""
    check_known(kwargs, signature.parameters)
    parameters = signature.parameters.values()
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return
    first = [one.name for one in parameters if one.kind is not one.KEYWORD_ONLY]
    if len(args) > len(first):
        named = [f"{one.name}=…" for one in parameters if one.kind is one.KEYWORD_ONLY]
        raise TypeError(
            f"{len(args)} values came without a name, and {', '.join(first) or 'none'} can be given so; "
            + (f"give others by name: {', '.join(named[:MAX_NAMED])}" if named else "there are no others")
        )


def _signature_of(operation: Callable[..., Any]) -> inspect.Signature:
    signature = inspect.signature(operation)
    return signature.replace(parameters=list(_named(signature)))


def _named(signature: inspect.Signature) -> Iterator[inspect.Parameter]:
    """Give the parameters with the keywords of an unpacked TypedDict by their names, as `help` is to show them."""
    for parameter in signature.parameters.values():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            yield parameter
            continue
        keywords = get_args(parameter.annotation)[0]
        for name, kind in get_type_hints(keywords).items():
            default = inspect.Parameter.empty if name in keywords.__required_keys__ else None
            yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
