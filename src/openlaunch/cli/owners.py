"""The options with which an admin names whose things a command is about."""

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any

import typer

from openlaunch.cli.connection import options_of
from openlaunch.wire.keys import ALL_OWNERS

Owner = Annotated[
    str | None, typer.Option(help="For admins: whose things the command is about.  [default: your own]")
]
AllOwners = Annotated[bool, typer.Option("--all", help="For admins: list what all owners have.")]
LISTS = "list"


def add_owner_options(app: typer.Typer, *, but: str | None = None) -> None:
    """Give each command of a noun but one the option `--owner`, and its list also `--all`."""
    for command in app.registered_commands:
        assert command.callback is not None
        if command.name != but:
            command.callback = with_owner(command.callback, lists=command.name == LISTS)


def with_owner(command: Callable[..., Any], *, lists: bool = False) -> Callable[..., Any]:
    """Give a command the option `--owner`: its client then works for that owner."""

    @wraps(command)
    def run(*, owner: str | None = None, all_owners: bool = False, **given: Any) -> Any:
        if owner is not None and all_owners:
            raise typer.BadParameter("--owner and --all are both given: give one of them")
        options_of(given["context"]).owner = ALL_OWNERS if all_owners else owner
        return command(**given)

    signature = inspect.signature(command, eval_str=True)
    options: dict[str, tuple[Any, Any]] = {"owner": (Owner, None)}
    if lists:
        options["all_owners"] = AllOwners, False
    new = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in options.items()
    ]
    own = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in signature.parameters.values()]
    run.__signature__ = signature.replace(parameters=[*own, *new])  # type: ignore[attr-defined]
    return run


Row = Callable[[Any], Sequence[object]]


def with_owners(
    context: typer.Context,
    columns: Sequence[str],
    row: Row,
    owner: Callable[[Any], object],
    more: bool = False,
) -> tuple[Sequence[str], Row]:
    """Return a list's columns and rows, with the owner first where there may be `more` than one."""
    if not more and options_of(context).owner != ALL_OWNERS:
        return columns, row
    return ("OWNER", *columns), lambda each: (owner(each), *row(each))
