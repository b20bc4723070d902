"""Artifacts that no record names are deleted, and the others are kept."""

import asyncio
import time
from dataclasses import replace

from openlaunch.artifacts.folder import FolderArtifacts
from openlaunch.artifacts.locations import location_of
from openlaunch.server.operations.unused import UNUSED_SECONDS, UnusedArtifacts
from openlaunch.server.settings import ResultSettings
from openlaunch.store import bundles, files
from openlaunch.store.records import BundleRecord, FileRecord
from openlaunch.store.sqlite import SqliteStore
from openlaunch.tasks import queue
from openlaunch.tasks.queue import NewTask
from openlaunch.wire.bundles import FLAVOR

COMMAND = {
    "flavor": "command",
    "command": ["x"],
    "requirements": [],
    "location": location_of("bundles/ada/used"),
}
USED = [
    "bundles/ada/used",
    "bundles/ada/schemas",
    "files/file_1",
    "payloads/task-1.json",
    "results/task-1.json",
]
UNUSED = [
    *("bundles/ada/unused", "batch-inputs/ada/unused", "files/file_2", "payloads/task-2.json"),
    *("results/task-2.json", "batch-results/bat_1.json", "answers/1.json"),
]


def test_what_no_record_names_goes_once_it_is_old(tmp_path):
    async def main():
        store = await SqliteStore.open(tmp_path / "x.db")
        artifacts = FolderArtifacts(tmp_path / "artifacts")
        unused = UnusedArtifacts(store, artifacts, ResultSettings(result_retention_seconds=60), 1)
        bundle = BundleRecord(
            *(
                "bun_1",
                "ada",
                "b",
                FLAVOR.validate_python(COMMAND),
                {},
                location_of("bundles/ada/schemas"),
                {},
                1.0,
            )
        )
        old = FLAVOR.validate_python(COMMAND | {"location": location_of("bundles/ada/unused")})
        for made in (replace(bundle, id="bun_0", flavor=old, created_at=time.time()), bundle):
            await store.write(lambda conn, made=made: bundles.insert(conn, made))
        await store.write(
            lambda conn: files.insert(conn, FileRecord("file_1", "ada", "f", 1, "files/file_1", 1.0))
        )
        await store.write(
            lambda conn: queue.submit(conn, [NewTask("task-1", "end", "ada", 1e12, 3, payload=b"{}")], 1)
        )
        for key in (*USED, *UNUSED):
            await artifacts.put(key, b"x")

        async def there():
            return sorted([each.key async for page in artifacts.pages("") for each in page])

        await unused.delete(time.time() + UNUSED_SECONDS - 60)
        assert await there() == sorted([*USED, *UNUSED]), "all are young"
        await unused.delete(time.time() + UNUSED_SECONDS + 120)
        assert await there() == sorted(USED)
        await store.close()

    asyncio.run(main())
