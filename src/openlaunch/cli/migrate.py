"""`openlaunch migrate`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openlaunch.cli.output import Json, emit, note, progress
from openlaunch.cli.serve import check_installed, hide_password
from openlaunch.errors import ConfigurationError

if TYPE_CHECKING:
    from openlaunch.server.operations.datadir import DataDir
    from openlaunch.server.operations.migration import CopyReport
    from openlaunch.store.base import Store

FOLDER = "folder"


@dataclass(frozen=True)
class Places:
    """Where things are to be: a database and a bucket, or, with `folder`, in the data directory itself."""

    store: str | None = None
    bucket: str | None = None
    folder: bool = False
    data_dir: Path | None = None


@dataclass
class Moved:
    """What was moved: the records by table, and the artifacts; None where that was not asked for."""

    records: dict[str, int] | None = None
    artifacts: "CopyReport | None" = None


def migrate(
    to: Annotated[
        list[str],
        typer.Option(
            metavar="PLACE",
            help="Where it goes: the records to postgresql://USER@HOST/NAME, the artifacts to s3://BUCKET/PREFIX "
            "(gs://…, az://…), or both back to `folder`, the data directory.",
        ),
    ],
    also_to: Annotated[
        list[str] | None, typer.Argument(metavar="PLACE", help="More places, after that of --to.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PLACE",
            help="The server's data directory; or, to bring records back, postgresql://USER@HOST/NAME.  "
            "[default: OPENLAUNCH_DATA_DIR, else ~/.openlaunch]",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Move a stopped server's records to PostgreSQL, its artifacts into a bucket, or both back.

    Everything is read again and compared. It can be run again after it was broken off. What was copied stays where it
    was, until you delete it there.
    """
    check_installed()
    places = _places([*to, *(also_to or [])])
    came_from = source if source and _is_store(source) else None
    if came_from is not None and not places.folder:
        raise ConfigurationError(
            "records come back from a database into a data directory, and go elsewhere from there: name the "
            "directory with --to"
        )
    if (
        source
        and came_from is None
        and places.data_dir
        and places.data_dir.resolve() != Path(source).resolve()
    ):
        raise ConfigurationError(
            f"{source} and {places.data_dir} are both folders: a database is named as postgresql://USER@HOST/NAME, "
            "and a bucket as s3://BUCKET/PREFIX. From one folder into another, use `openlaunch backup` and `restore`"
        )
    hide_password(places.store or came_from)
    from openlaunch.client.config import data_dir as default
    from openlaunch.server.operations.datadir import DataDir

    data = DataDir(places.data_dir or (Path(source) if source and not came_from else default()))
    if came_from is None and not data.database.is_file() and data.places.records is None:
        raise ConfigurationError(
            f"there is no database in {data.root}: name the server's data directory with --from"
        )
    with progress("copying …"), data.locked():
        moved = asyncio.run(_move(data, places, came_from))
    _tell(moved, places, as_json)


def _places(names: list[str]) -> Places:
    stores = [name for name in names if _is_store(name)]
    buckets = [name for name in names if "://" in name and not _is_store(name)]
    folders = [name for name in names if "://" not in name]
    if max(len(stores), len(buckets), len(folders)) > 1 or (folders and (stores or buckets)):
        raise ConfigurationError(
            f"{', '.join(names)} can't all be where it goes: name one database and one bucket at most, or the "
            "data directory alone"
        )
    data_dir = Path(folders[0]) if folders and folders[0] != FOLDER else None
    return Places(next(iter(stores), None), next(iter(buckets), None), bool(folders), data_dir)


def _is_store(place: str) -> bool:
    return place.startswith(("postgresql://", "postgres://"))


async def _move(data: "DataDir", places: Places, came_from: str | None) -> Moved:
    moved = Moved()
    if places.store is not None:
        moved.records = await _move_records_out(data, places.store)
    if places.folder and (came_from is not None or data.places.records is not None):
        moved.records = await _bring_records_back(data, came_from)
    if places.bucket is not None or (places.folder and data.places.bucket):
        moved.artifacts = await _move_artifacts(data, places.bucket or "")
    return moved


async def _move_records_out(data: "DataDir", url: str) -> dict[str, int]:
    from openlaunch.store.copying import copy_records

    if not data.database.is_file():
        return await _count_moved(data, url)
    async with _opened(data, url) as (own, other, name):
        copied = await copy_records(own, other)
        data.places.move_records_to(name)
    return copied


async def _count_moved(data: "DataDir", url: str) -> dict[str, int]:
    """Return what is in the database, to which the records have moved before: artifacts may have to follow."""
    from openlaunch.server.drivers import open_postgres
    from openlaunch.store.copying import count_records

    other = await open_postgres(url)
    try:
        if data.places.records != other.name:
            raise ConfigurationError(f"the records of {data.root} are in the {data.places.records} already")
        note("records: an earlier run has moved them")
        return await count_records(other)
    finally:
        await other.close()


async def _bring_records_back(data: "DataDir", url: str | None) -> dict[str, int]:
    from openlaunch.store.copying import copy_records

    if url is None:
        raise ConfigurationError(
            f"the records of {data.root} are in the {data.places.records}: name it, with what is needed to "
            "connect, as --from postgresql://USER@HOST/NAME"
        )
    async with _opened(data, url) as (own, other, _):
        copied = await copy_records(other, own)
        data.places.bring_records_back()
    return copied


@asynccontextmanager
async def _opened(data: "DataDir", url: str) -> "AsyncIterator[tuple[Store, Store, str]]":
    """Open the directory's own database, and the other, with its name, which the directory may know already."""
    from openlaunch.server.drivers import open_postgres, open_sqlite

    async with AsyncExitStack() as stack:
        other = await open_postgres(url)
        stack.push_async_callback(other.close)
        if data.places.records not in (None, other.name):
            raise ConfigurationError(
                f"the records of {data.root} are in the {data.places.records}, and not in the {other.name}"
            )
        own = await open_sqlite(data)
        stack.push_async_callback(own.close)
        yield own, other, other.name


async def _move_artifacts(data: "DataDir", target: str) -> "CopyReport":
    from openlaunch.server.drivers import open_artifacts
    from openlaunch.server.operations.migration import copy_artifacts

    there = await open_artifacts(target, data)
    report = await copy_artifacts(await open_artifacts(data.places.bucket, data), there)
    data.places.bucket = target.rstrip("/")
    return report


def _tell(moved: Moved, places: Places, as_json: bool) -> None:
    def say() -> None:
        if moved.records is not None:
            tables = ", ".join(f"{count:,} in {name}" for name, count in moved.records.items() if count)
            note(f"records: {tables or 'none'}; read again and compared")
        if (artifacts := moved.artifacts) is not None:
            note(
                f"artifacts: {artifacts.count:,}, of {artifacts.bytes:,} bytes, read again and compared; "
                f"{artifacts.copied:,} of them were copied now"
            )
        if moved == Moved():
            note("nothing to move: all is in the data directory")
        note(f"hint: start the server with `{_command(places)}`, then delete what lies where it was")

    emit(asdict(moved), as_json, say)


def _command(places: Places) -> str:
    store = "" if places.store is None else " --store postgresql://…"
    return f"openlaunch serve{store}" + ("" if places.bucket is None else f" --artifacts {places.bucket}")
