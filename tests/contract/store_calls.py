"""What the suites of stores write and read, where it is not what they are about."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

from sqlalchemy import Connection, select

from openlaunch.store import keys
from openlaunch.store.records import KeyRecord
from openlaunch.store.tables import api_keys
from openlaunch.wire.keys import Role

Run = Callable[[Awaitable[None]], None]


def key(name: str) -> KeyRecord:
    return KeyRecord(name, "ada", Role.USER, name[:4], name.encode(), created_at=1)


def add(name: str) -> Callable[[Connection], str]:
    def op(conn: Connection) -> str:
        keys.insert(conn, key(name))
        return name

    return op


def names(conn: Connection) -> list[str]:
    return sorted(conn.scalars(select(api_keys.c.id)))


class Gate:
    """An operation that holds the writer until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def op(self, conn: Connection) -> None:
        self.entered.set()
        assert self.opened.wait(30)

    async def wait_until_entered(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 30)
