"""`openlaunch migrate`."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openlaunch.cli.output import Json, emit, note, progress
from openlaunch.cli.serve import check_installed
from openlaunch.errors import ConfigurationError

if TYPE_CHECKING:
    from openlaunch.server.operations.datadir import DataDir
    from openlaunch.server.operations.migration import CopyReport

FOLDER = "folder"


def migrate(
    to: Annotated[
        str,
        typer.Option(
            metavar="URL", help="Where the artifacts go: s3://BUCKET/PREFIX, gs://…, az://…, or folder."
        ),
    ],
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--from", help="The server's data directory.  [default: OPENLAUNCH_DATA_DIR, else ~/.openlaunch]"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Move a stopped server's artifacts into a bucket, or back into the folder of its data directory.

    Every byte is read again and compared. It can be run again after it was broken off. What was copied stays where it
    was, until you delete it there.
    """
    check_installed()
    from openlaunch.client.config import data_dir as default
    from openlaunch.server.operations.datadir import DataDir

    data = DataDir(data_dir or default())
    if not data.database.is_file() and data.records_elsewhere is None:
        raise ConfigurationError(
            f"there is no database in {data.root}: name the server's data directory with --from"
        )
    target = "" if to == FOLDER else to
    with progress(f"copying the artifacts to {to} …"), data.locked():
        report = asyncio.run(_migrate(data, target))
    _tell(report, to, target, as_json)


async def _migrate(data: "DataDir", target: str) -> "CopyReport":
    from openlaunch.server.operations.migration import copy_artifacts
    from openlaunch.server.serve import open_artifacts

    there = await open_artifacts(target, data)
    report = await copy_artifacts(await open_artifacts(data.bucket, data), there)
    data.bucket = target.rstrip("/")
    return report


def _tell(report: "CopyReport", to: str, target: str, as_json: bool) -> None:
    text = f"{report.count} artifacts, {report.bytes:,} bytes, are in {to}; {report.copied} of them were copied now"
    emit({"count": report.count, "bytes": report.bytes, "copied": report.copied}, as_json, lambda: note(text))
    if not as_json:
        option = f" --artifacts {target}" if target else ""
        note(f"hint: `openlaunch serve{option}` uses them; what lies where they were can then be deleted")
