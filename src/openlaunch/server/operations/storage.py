"""What uses the disk, by kind, and when each kind is deleted."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from openlaunch.artifacts.base import Artifacts
from openlaunch.errors import Unavailable
from openlaunch.server.operations.datadir import DataDir
from openlaunch.server.settings import JobSettings, ResultSettings
from openlaunch.store.base import Store
from openlaunch.wire.quantities import size_text
from openlaunch.wire.storage import StorageKind, StorageResponse

HOUR = 3600.0
DAY = 24 * HOUR
LISTING_SECONDS = 10.0
"""How long the objects of a kind are listed: a bucket may hold millions of them."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of files: where they lie, when they are deleted, and which folders of the artifacts they are."""

    name: str
    paths: tuple[Path, ...]
    goes: str
    folders: tuple[str, ...] = ()


class Storage:
    """Adds up the files of the data directory, in a thread, and the objects of a bucket; one look at a time."""

    def __init__(
        self,
        data: DataDir,
        store: Store,
        artifacts: Artifacts,
        results: ResultSettings,
        jobs: JobSettings,
        cache_bytes: int,
    ) -> None:
        self._root, self._store, self._artifacts = data.root, store, artifacts
        self._kinds = _kinds(
            data, results.result_retention_seconds, jobs.batch_retention_seconds, cache_bytes
        )
        self._looking = asyncio.Lock()

    async def report(self) -> StorageResponse:
        """Return what there is now."""
        async with self._looking:
            space = await self._store.space()
            kinds = await asyncio.to_thread(lambda: [_measured(kind) for kind in self._kinds])
            if self._artifacts.is_service:
                counts = (_counted(self._artifacts, kind) for kind in self._kinds if kind.folders)
                listed = {kind.kind: kind for kind in await asyncio.gather(*counts)}
                kinds = [listed.get(kind.kind, kind) for kind in kinds]
            disk = await asyncio.to_thread(os.statvfs, self._root)
        records = StorageKind(kind="database", count=1, **asdict(space))
        return StorageResponse(
            kinds=[records, *kinds],
            disk_free_bytes=disk.f_bavail * disk.f_frsize,
            disk_bytes=disk.f_blocks * disk.f_frsize,
        )


def _kinds(data: DataDir, result_seconds: float, batch_seconds: float, cache_bytes: int) -> tuple[Kind, ...]:
    ended = f"{_span(result_seconds)} after their task ended"
    jobs = f"{_span(batch_seconds)} after their job ended"
    log = data.database.with_name(data.database.name + "-wal")
    return (
        Kind("write-ahead log", (log, log.with_name(data.database.name + "-shm")), "when the server stops"),
        _artifacts(data, "bundles", "uploads that no bundle names: after 24 hours", "bundles"),
        _artifacts(data, "files", "when their owner deletes them", "files"),
        _artifacts(
            data,
            "batch inputs",
            f"{_span(batch_seconds)} after their job, or 24 hours unused",
            "batch-inputs",
        ),
        _artifacts(data, "batch results", jobs, "batch-results"),
        _artifacts(data, "job logs", jobs, "job-logs"),
        _artifacts(data, "payloads", ended, "payloads"),
        _artifacts(data, "results", ended, "results", "answers"),
        _artifacts(data, "recordings", "as `record` of their endpoint says", "recordings"),
        Kind("environments", (data.environments,), "past 50: those used least recently"),
        Kind("build caches", (data.uv_caches,), "past 32 GiB, or a day after the owner's environments"),
        Kind(
            "caches",
            (data.caches,),
            f"past {size_text(cache_bytes)} of an owner: what was used least recently",
        ),
        Kind("logs", (data.logs,), "with their endpoint; a worker's past 10 MiB"),
        Kind("workers", (data.workers, data.jobs), "with their worker or job"),
        Kind("backups", tuple(data.root.glob("*.tar*")), "never"),
    )


def _artifacts(data: DataDir, name: str, goes: str, *folders: str) -> Kind:
    return Kind(name, tuple(data.artifacts / folder for folder in folders), goes, folders)


async def _counted(artifacts: Artifacts, kind: Kind) -> StorageKind:
    """Add up the objects of a kind, as far as they are listed in time."""
    found = StorageKind(kind=kind.name, bytes=0, count=0, goes=kind.goes)
    try:
        async with asyncio.timeout(LISTING_SECONDS):
            for folder in kind.folders:
                async for page in artifacts.pages(folder):
                    found.count += len(page)
                    found.bytes += sum(artifact.size for artifact in page)
    except TimeoutError:
        found.goes = f"more than this; {kind.goes}"
    except Unavailable:
        found.goes = f"not counted, the bucket can't be listed; {kind.goes}"
    return found


def _measured(kind: Kind) -> StorageKind:
    count = size = 0
    for path in kind.paths:
        for found in _sizes(path):
            count += 1
            size += found
    return StorageKind(kind=kind.name, bytes=size, count=count, goes=kind.goes)


def _sizes(path: Path) -> Iterator[int]:
    """Yield what each file below a path takes on the disk; no link is followed, and any depth is borne."""
    if not path.is_dir():
        with suppress(OSError):
            yield _taken(path.lstat())
        return
    folders = [str(path)]
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    with suppress(OSError):
                        yield _taken(entry.stat(follow_symlinks=False))


def _taken(found: os.stat_result) -> int:
    return found.st_blocks * 512


def _span(seconds: float) -> str:
    if seconds >= 2 * DAY:
        return f"{seconds / DAY:g} days"
    return f"{seconds / HOUR:g} hours" if seconds >= HOUR else f"{seconds:g} seconds"
