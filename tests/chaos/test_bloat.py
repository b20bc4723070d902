"""A queue on PostgreSQL through which very many tasks pass, and of which few are in it at once."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from chaos_server import descendants
from postgres_server import PostgresServer
from store_drivers import Database, database

from openlaunch.store.base import Store
from openlaunch.store.postgres import PostgresStore
from openlaunch.tasks import queue
from openlaunch.tasks.queue import Finished, NewTask
from openlaunch.tasks.states import State
from openlaunch.wire.ids import new_id

AT_ONCE = 1_000
"""The most tasks that are in the queue at once."""
MAX_BYTES = 20_000_000
TICKS_A_SECOND = 100


def pass_through(db: Database, count: int) -> None:
    for _ in range(count // AT_ONCE):
        new = [NewTask(new_id(1), "end", "ada", 900, 3, b"x" * 200) for _ in range(AT_ONCE)]
        db.write(lambda conn, new=new: queue.submit(conn, new, 1))
        while claimed := db.write(lambda conn: queue.claim(conn, "end", 250, "me", 30, 1)):
            results = [Finished(task.id, State.SUCCESS, 200, b"{}") for task in claimed]
            db.write(lambda conn, results=results: queue.complete(conn, results, 1))


def processor_seconds(server: PostgresServer) -> float:
    """What all processes of PostgreSQL have used: what they wait for on a busy machine is not in it."""
    ticks = 0
    for pid in (server.pid, *descendants(server.pid)):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended, and is counted with its parent
            continue
        ticks += sum(map(int, fields[11 : 15 if pid == server.pid else 13]))
    return ticks / TICKS_A_SECOND


def test_a_queue_stays_as_small_and_as_fast_as_what_is_in_it(
    tmp_path: Path, long_form: bool, figure: Callable[[str], None]
) -> None:
    """A million tasks in the long form."""
    tenth = 100_000 if long_form else 3_000
    with PostgresServer() as server:

        @asynccontextmanager
        async def opened(_: Path) -> AsyncIterator[Store]:
            store = await PostgresStore.open(server.url("postgres"))
            try:
                yield store
            finally:
                await store.close()

        took = []
        with database(opened, tmp_path) as db:
            for _ in range(10):
                began, used = time.monotonic(), processor_seconds(server)
                pass_through(db, tenth)
                took.append((processor_seconds(server) - used, time.monotonic() - began))
        server.execute("VACUUM queue")
        size = int(str(server.one("SELECT pg_total_relation_size('queue')")))
    (first, first_whole), (last, last_whole) = took[0], took[-1]
    figure(
        f"{10 * tenth:,} tasks: {size / 1e6:.1f} MB; tasks/s of the first and last tenth, and PostgreSQL's CPU:"
    )
    figure(f"{tenth / first_whole:,.0f}/s, {first:.1f} s; {tenth / last_whole:,.0f}/s, {last:.1f} s")
    figure(f"CPU of all tenths: {', '.join(f'{seconds:.1f}' for seconds, _ in took)} s")
    assert size <= MAX_BYTES
    assert last <= 2 * first + 1, "what has passed through slows down what comes after it"
