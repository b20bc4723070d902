"""`openlaunch backup` and `openlaunch restore`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openlaunch.cli.output import Json, emit, note, progress
from openlaunch.cli.serve import check_installed

if TYPE_CHECKING:
    from openlaunch.server.operations.backup import BackupReport
    from openlaunch.server.operations.datadir import DataDir

DataDirectory = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="The server's data directory.  [default: OPENLAUNCH_DATA_DIR, else ~/.openlaunch]"
    ),
]


def backup(
    target: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file to write; gzipped where it ends with .gz.")
    ],
    data_dir: DataDirectory = None,
    as_json: Json = False,
) -> None:
    """Back up the data directory of a server, which may be running, into one file.

    Run it on the server's machine. The file contains all keys, bundles, endpoints, tasks and secrets: keep it safe.
    """
    check_installed()
    from openlaunch.server.operations.backup import back_up

    with progress(f"backing up into {target} …"):
        report = back_up(data := _data(data_dir), target)
    _tell(report, f"backed up into {target}", as_json)
    if data.places.bucket:
        note(f"warning: the artifacts in {data.places.bucket} are not in it; keep versions of them there")


def restore(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="The file that `openlaunch backup` wrote.")],
    data_dir: DataDirectory = None,
    as_json: Json = False,
) -> None:
    """Restore a backup into a new data directory, for `openlaunch serve`. One that is in use is left unchanged."""
    check_installed()
    from openlaunch.server.operations.backup import restore as run

    data = _data(data_dir)
    with progress(f"restoring {source} …"):
        report = run(source, data)
    _tell(report, f"restored to {data.root}", as_json)
    if not as_json:
        note(f"hint: `openlaunch serve --data-dir {data.root}` starts a server on it")


def _data(data_dir: Path | None) -> "DataDir":
    from openlaunch.client.config import data_dir as default
    from openlaunch.server.operations.datadir import DataDir

    return DataDir(data_dir or default())


def _tell(report: "BackupReport", text: str, as_json: bool) -> None:
    emit(
        {"files": report.files, "bytes": report.bytes},
        as_json,
        lambda: note(f"{text}: {report.files} files, {report.bytes:,} bytes"),
    )
