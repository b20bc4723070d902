"""`openlaunch deploy`."""

import inspect
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from openlaunch.cli.connection import connect, options_of
from openlaunch.cli.endpoints import Kind, Timeout, Wait
from openlaunch.cli.output import Json, emit, note, say_status, waiting
from openlaunch.cli.settings import given, with_settings
from openlaunch.cli.targets import load_functions
from openlaunch.wire.keywords import DEPLOY_DEFAULTS_HELP

_SAMPLES: dict[str, object] = {"str": "text", "bool": True, "float": 1.5, "list": [1], "dict": {}}
"""Values for a first try by the parameter's annotation; 1 for any other."""


@with_settings(defaults=DEPLOY_DEFAULTS_HELP)
def deploy(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="FILE.py:FUNCTION",
            help="The predict function; FILE.py alone where it has one function, or MODULE:FUNCTION.",
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="The endpoint's name.  [default: the function's name]")
    ] = None,
    kind: Annotated[
        Kind | None,
        typer.Option(
            "--type",
            "--endpoint-type",
            help="How predictions are sent and answered.  [default: streaming for a generator function, else sync]",
        ),
    ] = None,
    load: Annotated[
        str | None,
        typer.Option(
            metavar="FUNCTION",
            help="Function that loads the model, once in every worker, in the same file or as FILE.py:FUNCTION.",
        ),
    ] = None,
    health: Annotated[
        str | None,
        typer.Option(
            metavar="FUNCTION",
            help="Function that says from time to time whether a worker is healthy; where it is as for --load.",
        ),
    ] = None,
    shutdown: Annotated[
        str | None,
        typer.Option(metavar="FUNCTION", help="Function that is called before a worker ends."),
    ] = None,
    requirement: Annotated[
        list[str] | None,
        typer.Option(metavar="REQUIREMENT", help="Such as numpy>=2; may be given several times."),
    ] = None,
    requirements: Annotated[Path | None, typer.Option(help="A file with one requirement per line.")] = None,
    code_dir: Annotated[
        Path | None,
        typer.Option(help="A folder that goes along, in which workers run; not what git ignores."),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Files of --code-dir that go along beside Python files, such as '*.json'; may be given "
            "several times.  [default: all]",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="Files that stay behind, such as 'data/'; may be given several times."
        ),
    ] = None,
    check_types: Annotated[
        bool, typer.Option(help="Whether arguments have to fit the function's annotations.")
    ] = True,
    reset: Annotated[
        bool, typer.Option("--reset", help="Set what is not given to its default, in place of keeping it.")
    ] = False,
    wait: Wait = True,
    timeout: Timeout = 600,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Serve a function as an endpoint, or update the endpoint of that name, which keeps what is not given.

    For example `openlaunch deploy app.py`, `app.py:predict` or, of a package, `package.module:predict`.
    """
    function, loader, health_fn, shutdown_fn = load_functions(target, load, health, shutdown)
    folder: dict[str, Any] = {"code_dir": code_dir, "include": include, "exclude": exclude}
    endpoint_name = name or _name_of(function)
    look = f"openlaunch endpoints get {endpoint_name}"
    with connect(context) as client, waiting(f"deploying {endpoint_name} …", look) as update:
        endpoint = client.deploy(
            function,
            name=endpoint_name,
            endpoint_type=kind,
            load_model_fn=loader,
            health_fn=health_fn,
            shutdown_fn=shutdown_fn,
            requirements=_requirements(requirement, requirements),
            check_types=check_types,
            reset=reset,
            wait=wait,
            timeout=timeout,
            on_status=say_status(update),
            **folder,
            **given(settings),
        )
    described = endpoint.model_endpoint
    summary = f"{described.name} is {described.status.value} ({described.endpoint_type.value})"
    emit(described, as_json, lambda: print(summary))
    if endpoint.changes is not None:
        note(f"changed: {'; '.join(endpoint.changes) or 'nothing'}")
    # What an input is does not show in the signature of a function that takes a list of them.
    sample = "{}" if settings["max_batch_size"] else sample_args(function, skip=0 if loader is None else 1)
    args = shlex.quote(sample)
    for_another = options_of(context).owner is not None or "/" in endpoint_name
    owner = f" --owner {described.created_by}" if for_another else ""
    note(f"try it: openlaunch tasks send {described.name}{owner} --args {args}")


def sample_args(function: Callable[..., Any], skip: int) -> str:
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


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__).strip("_").lower().replace("_", "-")


def _requirements(single: list[str] | None, file: Path | None) -> list[str] | None:
    """Return what is given, None where nothing is."""
    if single is None and file is None:
        return None
    from openlaunch.client.packing.requirements import (
        read_requirements,  # only here: `openlaunch --help` stays fast
    )

    return [*(single or []), *(read_requirements(file) if file is not None else [])]
