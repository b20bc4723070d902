"""Deletes old bundles, and artifacts that no record names: uploads that were not used, and what a crash has left."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from openlaunch.artifacts.base import Artifacts
from openlaunch.background import Background
from openlaunch.server.settings import ResultSettings
from openlaunch.store import bundles, named_artifacts
from openlaunch.store.base import Store

log = logging.getLogger(__name__)

FIRST_SECONDS = 10.0
INTERVAL_SECONDS = 3600.0
UNUSED_SECONDS = 24 * 3600.0
PARTIAL_SECONDS = 3600.0
"""How long an upload may stand still before what it has written goes."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of artifacts. `named` returns which keys records name, `kept` is for how long the others stay."""

    name: str
    named: Callable[[Connection, Sequence[str]], set[str]]
    kept: float = UNUSED_SECONDS


class UnusedArtifacts(Background):
    """Looks through the bundles and the artifacts every hour."""

    def __init__(
        self, store: Store, artifacts: Artifacts, settings: ResultSettings, bundle_versions: int | None = None
    ) -> None:
        self._store, self._artifacts = store, artifacts
        self._bundle_versions = bundle_versions
        # Answers to sync requests belong to no task, and are kept as long as results.
        kept = settings.result_retention_seconds + UNUSED_SECONDS
        self._folders = (
            Folder("bundles", named_artifacts.named_uploads),
            Folder("batch-inputs", named_artifacts.named_uploads),
            Folder("files", named_artifacts.named_files),
            Folder("payloads", named_artifacts.named_by_tasks),
            Folder("results", named_artifacts.named_by_tasks, kept),
            Folder("batch-results", named_artifacts.named_by_jobs),
            Folder("answers", _none, kept),
        )
        super().__init__("artifacts that no record names could not be looked for")

    async def _run(self) -> None:
        await self._try(
            self._delete_partial(time.time())
        )  # what an earlier server was writing, nobody writes now
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            await self._try(self.delete(time.time()))
            await asyncio.sleep(INTERVAL_SECONDS)
            await self._try(self._delete_partial(time.time() - PARTIAL_SECONDS))

    async def _try(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            log.exception("artifacts that no record names could not all be deleted; trying again later")

    async def _delete_partial(self, before: float) -> None:
        if count := await self._artifacts.delete_partial(before):
            log.info("%d uploads that were broken off are deleted", count)

    async def delete(self, now: float) -> None:
        """Delete old bundles that nothing uses, and every artifact that is old enough and that no record names."""
        if (kept := self._bundle_versions) is not None:
            await self._delete_bundles(kept, now - UNUSED_SECONDS)
        for folder in self._folders:
            async for page in self._artifacts.pages(folder.name):
                old = [each.key for each in page if each.stored_at < now - folder.kept]
                if not old:
                    continue
                named = await self._store.read(lambda conn, f=folder, old=old: f.named(conn, old))  # type: ignore[misc]
                unused = [key for key in old if key not in named]
                if unused:
                    await self._artifacts.delete(*unused)
                    log.info("%d artifacts in %s that no record names are deleted", len(unused), folder.name)

    async def _delete_bundles(self, kept: int, before: float) -> None:
        while count := await self._store.write(lambda conn: bundles.delete_old(conn, kept, before)):
            log.info("%d bundles are deleted: nothing uses them, and there are %d newer ones", count, kept)


def _none(conn: Connection, keys: Sequence[str]) -> set[str]:
    return set()
