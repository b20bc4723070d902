"""`openlaunch run`."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from openlaunch.cli.inputs import Args, arguments
from openlaunch.cli.output import Json
from openlaunch.cli.targets import load_functions
from openlaunch.cli.user_errors import describe
from openlaunch.cli.values import Printer

Output = Annotated[
    Path | None, typer.Option(help="A file for a value that is bytes, such as an image.  [default: stdout]")
]


def run_here(
    target: Annotated[
        str,
        typer.Argument(
            metavar="FILE.py:FUNCTION",
            help="The predict function; FILE.py alone where it has one function, or MODULE:FUNCTION.",
        ),
    ],
    args: Args = None,
    load: Annotated[
        str | None,
        typer.Option(
            metavar="FUNCTION", help="Function that loads the model, in the same file or as FILE.py:FUNCTION."
        ),
    ] = None,
    batch: Annotated[
        bool,
        typer.Option(
            "--batch",
            help="The function takes a list of inputs, as with max_batch_size: call it with a list of one.",
        ),
    ] = False,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Call a predict function here, without a server, as a worker would: with its types, files and model.

    For example `openlaunch run app.py:predict --args '{"x": 1}'`, or `--args x=1 --args image=@cat.png`. Items of a
    stream are printed one per line.
    """
    from openlaunch.client.deployable import check_functions

    given = arguments(args)
    with describe(target):
        function, loader, *_ = load_functions(target, load)
    check_functions(function, loader, None)
    call = _Call(function, loader, batch=batch)
    made = call.checked(given)
    printer = Printer(output, as_json=as_json)
    with describe(target), asyncio.Runner() as runner:
        for value in call.values(made, runner):
            printer.show(value)


class _Call:
    """One call of a function in this process, with what a worker makes of the arguments."""

    def __init__(
        self, function: Callable[..., Any], loader: Callable[..., Any] | None, *, batch: bool
    ) -> None:
        from openlaunch.client.packing.interface import interface_of
        from openlaunch_worker.shapes import by_name

        self._function, self._loader, self._batch = by_name(function), loader, batch
        self._interface = interface_of(function, has_model=loader is not None, batches=batch)

    def checked(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments, files for paths; raise BadParameter where the function does not take them."""
        from openlaunch.client.packing.checking import misfits
        from openlaunch_worker.files import File

        given = {
            name: File(each.read_bytes(), name=each.name) if isinstance(each, Path) else each
            for name, each in given.items()
        }
        model = [None] if self._loader else []
        try:
            bind = inspect.signature(self._function).bind
            if self._batch:
                bind(*model, [given])
            else:
                bind(*model, **self._with_context(given))
        except TypeError as error:
            raise typer.BadParameter(f"{error}; {self._takes()}", param_hint="--args") from None
        except ValueError:
            return given  # it is written in C, and says nothing of its parameters
        if wrong := misfits(self._interface, given):
            raise typer.BadParameter("; ".join(wrong), param_hint="--args")
        return given

    def _with_context(self, given: dict[str, Any]) -> dict[str, Any]:
        from openlaunch_worker.context import Context

        name = self._interface.context
        return given if name is None else {**given, name: Context()}

    def _takes(self) -> str:
        parameters = list(inspect.signature(self._function).parameters.values())[bool(self._loader) :]
        return f"it takes: {', '.join(map(str, parameters)) or 'nothing'}"

    def values(self, given: dict[str, Any], runner: asyncio.Runner) -> Iterator[Any]:
        """Yield what the function returns, or each item of a stream."""
        from openlaunch.client.packing.interface import made_types
        from openlaunch_worker.arguments import Arguments
        from openlaunch_worker.files import Scratch

        model = [] if self._loader is None else [self._awaited(self._loader(), runner)]
        scratch = Scratch()
        try:
            item = self._interface.item if self._batch else None
            made = Arguments(made_types(self._interface), {}, item).make(given, scratch)
            if self._batch:
                yield _only(self._awaited(self._function(*model, [made]), runner))
                return
            value = self._awaited(self._function(*model, **self._with_context(made)), runner)
            if isinstance(value, AsyncIterator):
                with suppress(StopAsyncIteration):
                    while True:
                        yield runner.run(_next(value))
            elif isinstance(value, Iterator):
                yield from value
            else:
                yield value
        finally:
            scratch.remove()

    def _awaited(self, value: Any, runner: asyncio.Runner) -> Any:
        return runner.run(_wait(value)) if inspect.isawaitable(value) else value


def _only(returned: Any) -> Any:
    """Return the result for the one input; raise an exception that stands for it."""
    from openlaunch_worker.batching import results_of
    from openlaunch_worker.failures import Refusal

    [result] = results_of(returned, 1)
    if isinstance(result, BaseException):
        raise Refusal(f"the function gives {type(result).__name__} for this input: {result}")
    return result


async def _wait(value: Any) -> Any:
    return await value


async def _next(items: AsyncIterator[Any]) -> Any:
    return await anext(items)
