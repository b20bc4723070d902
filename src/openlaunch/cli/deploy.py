"""`openlaunch deploy`."""

import importlib
import inspect
import json
import shlex
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer

from openlaunch.cli.connection import connect
from openlaunch.cli.endpoints import Timeout, Wait
from openlaunch.cli.output import Json, emit, note, say_status, waiting
from openlaunch.cli.settings import given, with_settings

_SAMPLES: dict[str, object] = {"str": "text", "bool": True, "float": 1.5, "list": [1], "dict": {}}
"""Values for a first try by the parameter's annotation; 1 for any other."""


@with_settings()
def deploy(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="The predict function.")],
    name: Annotated[
        str | None, typer.Option(help="The endpoint's name.  [default: the function's name]")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--type",
            help="sync, async or streaming.  [default: streaming for a generator function, else sync]",
        ),
    ] = None,
    load: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FUNCTION", help="Function that loads the model, once in every worker."),
    ] = None,
    requirement: Annotated[
        list[str] | None, typer.Option(help="A requirement such as numpy>=2; may be given several times.")
    ] = None,
    requirements: Annotated[Path | None, typer.Option(help="A file with one requirement per line.")] = None,
    wait: Wait = True,
    timeout: Timeout = 600,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Serve a function as an endpoint, or update the endpoint of that name.

    The module is looked for in the current folder first.
    """
    sys.path.insert(0, str(Path.cwd()))
    function = _function(target)
    loader = None if load is None else _function(load)
    endpoint_name = name or _name_of(function)
    look = f"openlaunch endpoints get {endpoint_name}"
    with connect(context) as client, waiting(f"deploying {endpoint_name} …", look) as update:
        endpoint = client.deploy(
            function,
            name=endpoint_name,
            endpoint_type=kind,
            load_model_fn=loader,
            requirements=_requirements(requirement, requirements),
            wait=wait,
            timeout=timeout,
            on_status=say_status(update),
            **given(settings),
        )
    described = endpoint.model_endpoint
    summary = f"{described.name} is {described.status.value} ({described.endpoint_type.value})"
    emit(described, as_json, lambda: print(summary))
    # What an input is does not show in the signature of a function that takes a list of them.
    sample = "{}" if settings["max_batch_size"] else _sample_args(function, skip=0 if loader is None else 1)
    args = shlex.quote(sample)
    note(f"try it: openlaunch tasks send {described.name} --args {args}")


def _sample_args(function: Callable[..., Any], skip: int) -> str:
    """Return args for a first try: a value for each parameter that has no default, after the first `skip`."""
    try:
        parameters = list(inspect.signature(function).parameters.values())[skip:]
    except (TypeError, ValueError):
        return "{}"
    needed = (
        p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    )
    return json.dumps({p.name: _sample(p.annotation) for p in needed})


def _sample(annotation: object) -> object:
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return _SAMPLES.get(name.partition("[")[0], 1)


def _function(target: str) -> Callable[..., Any]:
    module_name, separator, path = target.partition(":")
    if not separator or not module_name or not path:
        raise typer.BadParameter(f"{target!r} is not MODULE:FUNCTION, such as model:predict")
    found: Any = _module(module_name)
    for part in path.split("."):
        if not hasattr(found, part):
            raise typer.BadParameter(f"{module_name} has no {path!r}; {_offer(part, found)}")
        found = getattr(found, part)
    if not callable(found):
        raise typer.BadParameter(f"{target} is {type(found).__name__}, a function is needed")
    return found  # type: ignore[no-any-return]


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise typer.BadParameter(f"{name} can't be imported: {error}") from error
        raise typer.BadParameter(
            f"there is no module {name!r} in {Path.cwd()} nor among the packages; {_modules_here()}"
        ) from None
    except Exception as error:
        raise typer.BadParameter(f"{name} can't be imported: {type(error).__name__}: {error}") from error


def _modules_here() -> str:
    names = sorted(path.stem for path in Path.cwd().glob("*.py") if path.stem.isidentifier())[:10]
    return f"the folder has: {', '.join(names)}" if names else "the folder has no Python file"


def _offer(wanted: str, module: Any) -> str:
    names = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
    similar = get_close_matches(wanted, names) or sorted(names)[:10]
    return f"it has: {', '.join(similar)}" if similar else "it has no function"


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__).strip("_").lower().replace("_", "-")


def _requirements(single: list[str] | None, file: Path | None) -> list[str]:
    found = list(single or [])
    if file is not None:
        try:
            lines = [line.partition(" #")[0].strip() for line in file.read_text().splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise typer.BadParameter(f"{file} can't be read: {error}", param_hint="--requirements") from None
        found += [line for line in lines if line and not line.startswith("#")]
    return found
