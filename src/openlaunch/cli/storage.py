"""`openlaunch storage`."""

import typer

from openlaunch.cli.connection import connect
from openlaunch.cli.output import Json, emit, note, table
from openlaunch.wire.quantities import size_text
from openlaunch.wire.storage import StorageKind


def storage(context: typer.Context, as_json: Json = False) -> None:
    """Show what uses the server's disk, and when it is deleted; for admins."""
    with connect(context) as client:
        found = client.get_storage()
    largest_first = sorted(found.kinds, key=lambda kind: -kind.bytes)
    rows = [(kind.kind, size_text(kind.bytes), kind.count, _goes(kind)) for kind in largest_first]
    emit(found, as_json, lambda: table(("KIND", "SIZE", "FILES", "WHAT GOES, AND WHEN"), rows, ("FILES",)))
    if not as_json:
        note(f"{size_text(found.disk_free_bytes)} of {size_text(found.disk_bytes)} on the disk are free")


def _goes(kind: StorageKind) -> str:
    return f"{size_text(kind.free_bytes)} hold nothing; {kind.goes}" if kind.free_bytes else kind.goes
