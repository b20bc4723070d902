"""`openlaunch init`, `diff` and `apply`: endpoints as a file says them."""

from pathlib import Path
from typing import Annotated

import typer

from openlaunch.cli.connection import connect
from openlaunch.cli.exits import Exit, code_of, show
from openlaunch.cli.output import Json, emit, note, progress
from openlaunch.cli.project_file import FILE, Project, read_project
from openlaunch.errors import ConfigurationError, OpenlaunchError

File = Annotated[
    Path | None,
    typer.Option(
        "--file", "-f", help=f"The file.  [default: {FILE}, else pyproject.toml with [tool.openlaunch]]"
    ),
]
Prune = Annotated[
    bool,
    typer.Option(
        "--prune", help="Delete the endpoints that the file has made before, and does not name now."
    ),
]
PruneToo = Annotated[
    bool,
    typer.Option("--prune", help="Show also which endpoints `apply --prune` would delete."),
]

_EXAMPLE = """\
# What this folder serves: `openlaunch diff` shows what `openlaunch apply` would change.
# `openlaunch docs project-file` says what may stand here.

[endpoints.greet]
function = "app.py:greet"
min_workers = 0
max_workers = 2

# For all endpoints. Secrets are values of `openlaunch secrets set NAME`, which workers find in a variable.
[env]
GREETING = "Hello"
"""
_APP = """\
import os


def greet(name: str = "world") -> str:
    return f"{os.environ.get('GREETING', 'Hi')}, {name}!"
"""


def init() -> None:
    """Write an openlaunch.toml with an example that works, and the app.py that it serves."""
    if Path(FILE).exists():
        raise ConfigurationError(f"{FILE} already exists: change it, or delete it first")
    Path(FILE).write_text(_EXAMPLE)
    note(f"{FILE} is written")
    if Path("app.py").exists():
        note(f"app.py already exists and was left alone: name a function of it in {FILE} in place of greet")
        note("then try it: openlaunch diff, and openlaunch apply")
        return
    Path("app.py").write_text(_APP)
    note("app.py is written")
    note("try it: openlaunch run app.py:greet; then openlaunch diff, and openlaunch apply")


def diff(context: typer.Context, file: File = None, prune: PruneToo = False, as_json: Json = False) -> None:
    """Show what `apply` would change; nothing is changed."""
    _go_through(context, read_project(file), prune=prune, changing=False, as_json=as_json)


def apply(context: typer.Context, file: File = None, prune: Prune = False, as_json: Json = False) -> None:
    """Make the endpoints and bundles what the file says, and wait until they are READY.

    Settings that the file does not give are set to their defaults. What is as it should be is left alone. Where a
    change is refused, the others are made, and the command ends with another code than 0.
    """
    _go_through(context, read_project(file), prune=prune, changing=True, as_json=as_json)


def _go_through(
    context: typer.Context, project: Project, *, prune: bool, changing: bool, as_json: bool
) -> None:
    from openlaunch.cli.project_plan import Plan

    done: list[dict[str, object]] = []
    refused = Exit.OK
    with connect(context) as client:
        for about, make in Plan(client, project).steps(prune=prune):
            try:
                step = make()
                if changing and step.mark != "=":
                    with progress(f"{step.what} …"):
                        step.run()
            except (OpenlaunchError, typer.BadParameter, TypeError) as error:
                note(f"{about} is refused:")
                show(error)
                refused = refused or (code_of(error) if isinstance(error, OpenlaunchError) else Exit.USAGE)
                continue
            done.append({"mark": step.mark, "what": step.what, "details": step.details})
            if not as_json and (step.mark != "=" or step.details):
                print(
                    f"{step.mark} {step.what}{': ' if step.details else ''}{'; '.join(step.details)}",
                    flush=True,
                )
    changed = sum(each["mark"] != "=" for each in done)
    emit({"steps": done, "refused": refused != Exit.OK}, as_json, lambda: None)
    note(f"{changed} {'changed' if changing else 'to change'}, {len(done) - changed} as they are")
    if refused:
        raise typer.Exit(refused)
