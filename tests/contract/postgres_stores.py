"""Stores in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openlaunch.store.postgres import PostgresStore


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(url)
    try:
        async with asyncio.timeout(100):
            yield store
    finally:
        await store.close()


async def open_and_close(url: str) -> None:
    async with opened(url):
        pass
