"""Write the PostgreSQL database of a version that is not released yet anew, from the SQLite one beside it.

Run `python tests/contract/dump_schema.py` after each change of `tests/data/schema_0_1.sql`. A released version's
file is never written again.
"""

import asyncio
import hashlib
import re
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

from postgres_server import PostgresServer, binaries

from openlaunch.store.copying import copy_records
from openlaunch.store.postgres import PostgresStore
from openlaunch.store.sqlite import SqliteStore

VERSION = "0_1"
DATA = Path(__file__).parents[1] / "data"
OF_SQLITE = DATA / f"schema_{VERSION}.sql"
HEAD = f"""\
-- A PostgreSQL database of version {VERSION.replace("_", ".")}, as that server made it, with the same rows as
-- {OF_SQLITE.name}. Written by tests/contract/dump_schema.py, and never changed once that version is
-- released. SHA-256 of the file that it was made from: {{digest}}
"""
OF_SESSION = re.compile(r"^(SET |SELECT pg_catalog\.set_config|--|\\).*\n|^\n", re.MULTILINE)
"""What differs between versions of pg_dump, and says nothing of the database."""


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def fill(source: Path, url: str) -> None:
    """Copy the records of a SQLite database."""
    records = await SqliteStore.open(source)
    target = await PostgresStore.open(url)
    try:
        await copy_records(records, target)
    finally:
        await target.close()
        await records.close()


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as folder, PostgresServer() as server:
        path = Path(folder) / "store.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(OF_SQLITE.read_text())
        server.execute("CREATE DATABASE released")
        asyncio.run(fill(path, server.url("released")))
        dump = [binaries() / "pg_dump", "--inserts", "--no-owner", "--no-privileges", server.url("released")]
        text = subprocess.run(dump, stdout=subprocess.PIPE, check=True, text=True).stdout
    head = HEAD.format(digest=digest_of(OF_SQLITE))
    (DATA / f"postgres_{VERSION}.sql").write_text(head + OF_SESSION.sub("", text))


if __name__ == "__main__":
    main()
