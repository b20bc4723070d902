"""No question that the queue asks makes SQLite read all tasks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from store_drivers import Database, database, open_sqlite

from openlaunch.tasks import control, housekeeping, lookups, queue
from openlaunch.tasks.position import position
from openlaunch.tasks.queue import Finished, NewTask
from openlaunch.tasks.states import State
from openlaunch.wire.keys import ALL_OWNERS


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with database(open_sqlite, tmp_path) as opened:
        yield opened


def plans(conn: Connection, operation: Callable[[Connection], Any]) -> list[str]:
    """How SQLite gets at the rows, for each step of each statement of the operation."""
    statements: list[str] = []
    driver: Any = conn.connection.driver_connection
    driver.set_trace_callback(statements.append)
    try:
        operation(conn)
    finally:
        driver.set_trace_callback(None)
    explained = [conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}") for statement in statements]
    return [row.detail for rows in explained for row in rows]


def new(task_id: str, key: str | None = None) -> NewTask:
    return NewTask(task_id, "end", "ada", 9, 3, payload=b"", idempotency_key=key)


@pytest.mark.parametrize(
    ("operation", "index"),
    [
        (lambda conn: [queue.submit(conn, [new(i, key="k")], 1) for i in "bc"], "uq_tasks_idempotency"),
        (lambda conn: queue.claim(conn, "end", 1, "me", 30, 1), "ix_tasks_claim"),
        (lambda conn: queue.claim(conn, "end", 1, "me", 30, 1, "ada"), "COVERING INDEX ix_tasks_claim"),
        (lambda conn: queue.renew(conn, "me", ["a"], 30, 1), "(id=?)"),
        (lambda conn: housekeeping.recover(conn, 1), "ix_tasks_leases"),
        (lambda conn: housekeeping.recover(conn, 1, ["me"]), "ix_tasks_leases"),
        (lambda conn: housekeeping.expire(conn, 1), "ix_tasks_expiry"),
        (
            lambda conn: housekeeping.find_old(conn, 9, 1, (0.5, 3)),
            "ix_tasks_finished",
        ),
        (lambda conn: queue.complete(conn, [Finished("a", State.SUCCESS, 200)], 1), "(id=?)"),
        (lambda conn: lookups.get_many(conn, "ada", ["a", "b"]), "(id=?)"),
        (lambda conn: lookups.progress_of(conn, "ada", ["a", "b"]), "(id=?)"),
        (lambda conn: control.cancel(conn, "ada", "a", 1), "(id=?)"),
        (lambda conn: queue.give_back(conn, ["a"], "died", 1, died=True), "(id=?)"),
        (lambda conn: lookups.list_page(conn, "ada"), "ix_tasks_owner"),
        (lambda conn: lookups.list_page(conn, "ada", "end"), "ix_tasks_endpoint"),
        (lambda conn: lookups.list_page(conn, "ada", None, State.FAILURE), "ix_tasks_unsuccessful"),
        (lambda conn: lookups.list_page(conn, "ada", "end", State.FAILURE), "ix_tasks_unsuccessful"),
        (lambda conn: lookups.list_page(conn, "ada", "end", State.STARTED), "ix_tasks_leases"),
        (
            lambda conn: lookups.list_page(conn, "ada", None, State.SUCCESS),
            "ix_tasks_owner (owner=?)",
        ),
        (lambda conn: lookups.list_page(conn, ALL_OWNERS, "end", State.STARTED), "ix_tasks_leases"),
        (lambda conn: lookups.list_page(conn, "ada", times=(1, 2)), "(id>?)"),
        (lambda conn: lookups.list_page(conn, "ada", times=(1, 2)), "(owner=? AND seq>? AND seq<?)"),
        (lambda conn: lookups.queued_counts(conn, 1), "COVERING INDEX ix_tasks_claim"),
        (lambda conn: position(conn, "ada", "a", 1, 10), "COVERING INDEX ix_tasks_claim"),
        (lambda conn: control.fail_endpoint(conn, "end", "deleted", 1), "ix_tasks_endpoint"),
    ],
)
def test_an_index_answers(db: Database, operation: Callable[[Connection], Any], index: str) -> None:
    db.write(lambda conn: queue.submit(conn, [new("a"), new("old")], 0))
    db.write(lambda conn: queue.complete(conn, [Finished("old", State.SUCCESS, 200)], 1))
    steps = db.write(lambda conn: plans(conn, operation))
    assert any(index in step for step in steps), steps
    assert all("USING" in step for step in steps if " tasks" in step), steps


@pytest.mark.parametrize("state", [None, State.SUCCESS, State.FAILURE])
def test_tasks_of_all_owners_are_looked_for_among_the_newest_alone(db: Database, state: State | None) -> None:
    """Inputs of a batch job are passed over, and what is behind the tasks looked at is for the next page."""
    tasks = [
        NewTask("first", "end", "ada", 9, 1, b"{}"),
        *(NewTask(f"{i}", "job", "job", 9, 1, b"{}") for i in range(9)),
    ]
    db.write(lambda conn: queue.submit(conn, [*tasks, NewTask("last", "end", "bob", 9, 1, b"{}")], 0))
    if state is not None:
        db.write(lambda conn: queue.complete(conn, [Finished(i, state, 200) for i in ("first", "last")], 1))
    found, cursor = [], None
    while not found or cursor is not None:
        page, cursor = db.write(
            lambda conn, after=cursor: lookups.list_page(conn, ALL_OWNERS, None, state, 5, after, most=4)
        )
        found.append([(task.id, task.owner) for task in page])
    assert found == [[("last", "bob")], [], [("first", "ada")]]


@pytest.mark.parametrize("state", [State.FAILURE, State.STARTED])
def test_a_rare_status_is_not_looked_for_among_all_of_an_endpoints_tasks(db: Database, state: State) -> None:
    steps = db.write(lambda conn: plans(conn, lambda conn: lookups.list_page(conn, "ada", "end", state)))
    assert not any("ix_tasks_endpoint" in step or "ix_tasks_owner" in step for step in steps), steps


def test_steps_from_owner_to_owner_search_the_index(db: Database) -> None:
    def plan(conn: Connection) -> str:
        query = "SELECT min(owner) FROM deliveries WHERE status = 'PENDING' AND owner > 'a'"
        return str(conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}").fetchall())

    assert "SEARCH deliveries USING INDEX ix_deliveries_due (owner>?)" in db.read(plan)
