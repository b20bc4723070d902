"""Databases of every released version work with this one, and the migrations make the tables that `tables.py` says.

Each release adds two files to `tests/data/`: a database of each kind that it made, with a row in every table. Such a
file is never changed after its release. Until 0.1 is released, a change to `tables.py` is made in `schema_0_1.sql` as
well, and then `python tests/contract/dump_schema.py` writes the one for PostgreSQL.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import dump_schema
import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from dump_schema import digest_of
from postgres_server import shared_server
from sqlalchemy import Connection, func, select
from store_drivers import OPENERS, POSTGRES, Database, Opener, database, open_postgres, open_sqlite

from openlaunch.store import (
    answers,
    audit,
    batch_jobs,
    bundles,
    endpoints,
    events,
    files,
    image_jobs,
    keys,
    triggers,
)
from openlaunch.store.schema import migrate
from openlaunch.store.tables import metadata
from openlaunch.tasks import lookups, outbox, queue
from openlaunch.tasks.queue import ClaimedTask

DATA = Path(__file__).parents[1] / "data"
DUMPS = [*sorted(DATA.glob("schema_*.sql")), *sorted(DATA.glob("postgres_*.sql"))]
NOT_COMPARED = {
    "sqlite": {"ix_tasks_claim"},
    # Made by the statements of `store.postgres_queue`.
    "postgresql": {
        "tasks",
        "task_inputs",
        "task_results",
        "queue",
        "last_commit",
        "cluster",
        "leader",
        "gateways",
    },
}
"""Alembic can't compare an index with a descending column."""


def differences(conn: Connection) -> list[object]:
    """What Alembic would have to change to get from the database's tables to those of `tables.py`."""

    def comparable(_: object, name: str | None, *__: object) -> bool:
        return name not in NOT_COMPARED[conn.dialect.name]

    context = MigrationContext.configure(conn, opts={"include_object": comparable})
    return list(compare_metadata(context, metadata))


MADE = {
    "sqlite": "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
    "postgresql": """
        SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default)
              FROM information_schema.columns WHERE table_schema = 'public'
        UNION SELECT definition FROM pg_views WHERE schemaname = 'public'
        UNION SELECT concat_ws(' ', relname, reloptions) FROM pg_class WHERE reloptions IS NOT NULL""",
}


def made(conn: Connection) -> set[str]:
    """What Alembic does not compare: what rows indexes are for, and tables and views that statements make."""
    return {" ".join(sql.split()) for (sql,) in conn.exec_driver_sql(MADE[conn.dialect.name])}


def revision(conn: Connection) -> str | None:
    return MigrationContext.configure(conn).get_current_revision()


@pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS)
def test_a_new_database_has_the_tables_and_the_revision_to_which_the_migrations_lead(
    opener: Opener, tmp_path: Path
) -> None:
    def migrate_anew(conn: Connection) -> None:
        conn.exec_driver_sql("DELETE FROM alembic_version")
        migrate(conn, "head")

    with database(opener, tmp_path) as db:
        new = db.read(differences), db.read(revision)
        db.write(migrate_anew)
        migrated = db.read(differences), db.read(revision)
    assert new == migrated == ([], "0001")


@pytest.fixture(params=DUMPS, ids=lambda path: path.stem)
def dump(request: pytest.FixtureRequest) -> Path:
    """A file of a released version."""
    path: Path = request.param
    if path.stem.startswith("postgres"):
        source = DATA / path.name.replace("postgres_", "schema_")
        if digest_of(source) not in path.read_text():
            pytest.skip(f"{source.name} was changed since {path.name} was made: run {dump_schema.__file__}")
    return path


@pytest.fixture
def opener(dump: Path) -> Opener:
    return open_postgres if dump.stem.startswith("postgres") else open_sqlite


@pytest.fixture
def upgraded(dump: Path, opener: Opener, tmp_path: Path) -> Iterator[Database]:
    """A database of a released version, opened by this one."""
    if opener is open_postgres:
        url = POSTGRES.url_of(tmp_path)
        shared_server().execute(
            "DROP SCHEMA public CASCADE", "CREATE SCHEMA public", database=url.rpartition("/")[2]
        )
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(dump.read_bytes())
    else:
        with closing(sqlite3.connect(tmp_path / "store.db")) as conn:
            conn.executescript(dump.read_text())
    with database(opener, tmp_path) as db:
        yield db
    if opener is open_postgres:
        POSTGRES.drop(tmp_path)


def test_an_upgraded_database_has_the_tables_and_indexes_of_a_new_one(
    upgraded: Database, opener: Opener, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    with database(opener, tmp_path / "new") as new:
        assert upgraded.read(made) == new.read(made)
    assert upgraded.read(differences) == []


def test_an_upgrade_loses_no_row(upgraded: Database) -> None:
    counts = {
        table.name: upgraded.read(lambda conn, t=table: conn.scalar(select(func.count()).select_from(t)))
        for table in metadata.sorted_tables
    }
    assert counts == {name: 2 if name == "tasks" else 1 for name in counts}


def test_records_of_an_upgraded_database_can_be_read(upgraded: Database) -> None:
    def read(conn: Connection) -> list[str]:
        kept = answers.get(conn, "ada", "k", 20)
        sent = outbox.of_task(conn, "ada", "done")
        task = lookups.get(conn, "ada", "done")
        assert kept is not None
        assert sent is not None
        assert task is not None
        return [
            *(key.id for key in keys.list_all(conn)),
            *keys.usage(conn),
            *(entry.action for entry in audit.list_page(conn, audit.AuditFilter(), 10)[0]),
            *(bundle.name for bundle in bundles.get_many(conn, bundles.ids_of_owner(conn, "ada"))),
            *(endpoint.name for endpoint in endpoints.list_all(conn)),
            *(event.kind for event in events.list_after(conn, "end-1")),
            *(each.filename for each in files.get_many(conn, files.ids_of_owner(conn, "ada"), "ada")),
            *batch_jobs.ids_of_owner(conn, "ada"),
            *(
                each.name
                for each in image_jobs.get_bundles(conn, image_jobs.bundle_ids_of_owner(conn, "ada"))
            ),
            *(job.id for job in image_jobs.list_unfinished(conn)),
            *(trigger.name for trigger in triggers.get_many(conn, triggers.ids_of_owner(conn, "ada"))),
            *(task.id, sent.id, str(kept.body, "ascii")),
        ]

    assert upgraded.read(read) == [
        *(
            "key-1",
            "key-1",
            "create_endpoint",
            "cat",
            "cats",
            "created",
            "cats.csv",
            "job-1",
            "report",
            "run-1",
        ),
        *("nightly", "done", "msg_done", "{}"),
    ]


def test_a_task_that_waited_during_an_upgrade_runs_as_it_was_asked_for(upgraded: Database) -> None:
    claimed = upgraded.write(lambda conn: queue.claim(conn, "end-1", 10, "me", 30, 20))
    assert claimed == [
        ClaimedTask("waits", "ada", b"{}", None, 2, 3, return_pickled=True, timeout_seconds=2.5)
    ]
