"""What was acknowledged survives the sudden death of the process that wrote it."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from openlaunch.store import keys
from openlaunch.store.sqlite import SqliteStore

WRITER = """
import asyncio, itertools, sys
from pathlib import Path
from openlaunch.store import keys
from openlaunch.store.records import KeyRecord
from openlaunch.store.sqlite import SqliteStore
from openlaunch.wire.keys import Role

async def write_for_ever(store, numbers):
    for n in numbers:
        name = f"k{n}"
        record = KeyRecord(name, "ada", Role.USER, "x", name.encode(), created_at=n)
        await store.write(lambda conn: keys.insert(conn, record))
        print(name, flush=True)

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    numbers = itertools.count()
    await asyncio.gather(*(write_for_ever(store, numbers) for _ in range(20)))

asyncio.run(main())
"""


@pytest.mark.parametrize("acknowledged", [1, 400])
def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path: Path, acknowledged: int) -> None:
    path = tmp_path / "store.db"
    told = _write_until_killed(path, acknowledged)

    async def stored() -> set[str]:
        store = await SqliteStore.open(path)
        try:
            return {key.id for key in await store.read(keys.list_all)}
        finally:
            await store.close()

    assert len(told) >= acknowledged
    assert told <= asyncio.run(stored())


def _write_until_killed(path: Path, count: int) -> set[str]:
    """Kill the writer after it has acknowledged `count` keys; all that it said until it died."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(count)]
        process.kill()
        lines += process.stdout.readlines()
    return {line.decode().strip() for line in lines if line.endswith(b"\n")}
