"""`openlaunch audit`."""

from datetime import datetime
from typing import Annotated, Any

import typer

from openlaunch.cli.connection import connect
from openlaunch.cli.output import Json, emit, note, table, when
from openlaunch.wire.audit import AuditEntry

app = typer.Typer(help="Who changed what, for admins.", no_args_is_help=True)


@app.command("list")
def list_audit(
    context: typer.Context,
    owner: Annotated[
        str | None,
        typer.Option(help="Only actions of this owner's keys, and of admins on this owner's things."),
    ] = None,
    key_id: Annotated[str | None, typer.Option(help="Only actions of the key with this id.")] = None,
    action: Annotated[
        str | None, typer.Option(help="Only this action, such as update_model_endpoint.")
    ] = None,
    object_id: Annotated[str | None, typer.Option(help="Only actions on the object with this id.")] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Only entries from this time on, in local time.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(help="Only entries before this time, in local time.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Most entries to show.", min=1, max=1000)] = 100,
    cursor: Annotated[
        str | None, typer.Option(help="Continue after the previous page, with the cursor that it printed.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List changes and refused attempts at changes, newest first."""
    with connect(context) as client:
        page = client.list_audit_log(
            owner=owner,
            key_id=key_id,
            action=action,
            object_id=object_id,
            since=since,
            until=until,
            limit=limit,
            cursor=cursor,
        )
    rows = [
        (when(e.at), e.owner, e.key_id, e.address, e.action, _object(e), _status(e), _summary(e.summary))
        for e in page.entries
    ]
    columns = ("TIME", "OWNER", "KEY", "FROM", "ACTION", "OBJECT", "STATUS", "SUMMARY")
    optional = ("FROM", "KEY", "OBJECT", "STATUS")
    emit(page, as_json, lambda: table(columns, rows, optional))
    if page.next_cursor is not None and not as_json:
        note(f"there is more: --cursor {page.next_cursor}")


def _status(entry: AuditEntry) -> str:
    return f"{entry.status}" if entry.times == 1 else f"{entry.status} ({entry.times} times)"


def _object(entry: AuditEntry) -> str | None:
    return f"{entry.object_id} of {entry.object_owner}" if entry.object_owner else entry.object_id


def _summary(summary: dict[str, Any]) -> str | None:
    parts = [f"{name}={value}" for name, value in summary.items() if name != "also"]
    return " ".join([*parts, *summary.get("also", ())]) or None
