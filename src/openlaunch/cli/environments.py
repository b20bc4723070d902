"""`openlaunch environments`."""

from operator import attrgetter
from typing import TYPE_CHECKING, Annotated

import typer

from openlaunch.cli.connection import connect
from openlaunch.cli.output import Json, emit, emit_rows, fields, note, when
from openlaunch.cli.owners import with_owners
from openlaunch.wire.quantities import size_text

if TYPE_CHECKING:
    from openlaunch.wire.environments import EnvironmentResponse

app = typer.Typer(help="Environments: what workers can import.", no_args_is_help=True)


_COLUMNS = ("ID", "PYTHON", "SIZE", "LAST USED", "USED BY", "REQUIREMENTS")


@app.command("list")
def list_environments(context: typer.Context, as_json: Json = False) -> None:
    """List your environments, those used last first."""
    with connect(context) as client:
        found = client.list_environments()
    columns, row = with_owners(context, _COLUMNS, _row, attrgetter("owner"))
    emit_rows(found, as_json, columns, row, optional=("REQUIREMENTS", "PYTHON", "LAST USED"))


def _row(each: "EnvironmentResponse") -> tuple[object, ...]:
    used_by, requirements = ", ".join(each.used_by) or None, ", ".join(each.requirements) or None
    return each.id, each.python, size_text(each.bytes), when(each.last_used_at), used_by, requirements


@app.command("show")
def show_environment(
    context: typer.Context,
    environment: Annotated[str, typer.Argument(help="The environment's id.")],
    as_json: Json = False,
) -> None:
    """Show one environment: its size, what is in it, and which endpoints use it."""
    with connect(context) as client:
        found = client.get_environment(environment)
    emit(found, as_json, lambda: _describe(found))


def _describe(found: "EnvironmentResponse") -> None:
    fields(
        (
            ("id", found.id),
            ("owner", found.owner or "everybody"),
            ("python", found.python),
            ("size", size_text(found.bytes)),
            ("last used", when(found.last_used_at)),
            ("used by", ", ".join(found.used_by) or "no endpoint"),
            ("requirements", ", ".join(found.requirements) or "none"),
        )
    )


@app.command("prune")
def prune_environments(context: typer.Context, as_json: Json = False) -> None:
    """Remove your environments that no endpoint uses; they are built again when one needs them."""
    with connect(context) as client:
        removed = client.prune_environments()
    emit({"removed": removed}, as_json, lambda: print("\n".join(removed), end="\n" if removed else ""))
    if not as_json:
        note(f"{len(removed)} environments are removed")
