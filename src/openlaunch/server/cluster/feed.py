"""Reads again what other servers have changed: when one says so, and every few seconds."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from openlaunch.background import Background

log = logging.getLogger(__name__)

POLL_SECONDS = 5.0


class Feed(Background):
    """Calls, for each table that was changed elsewhere, what reads it again."""

    def __init__(self, readers: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
        self._readers = readers
        self._due: set[str] = set()
        self._wake = asyncio.Event()
        super().__init__("what other servers change is read no longer")

    def changed(self, tables: set[str]) -> None:
        """Read these tables again."""
        self._due |= tables & self._readers.keys()
        if self._due:
            self._wake.set()

    def everything(self) -> None:
        """Read all tables again: it is not known what was changed."""
        self.changed(set(self._readers))

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            due, self._due = self._due or set(self._readers), set()
            for table in sorted(due):
                try:
                    await self._readers[table]()
                except Exception as error:
                    log.warning("what other servers have changed in %s is read later: %s", table, error)
