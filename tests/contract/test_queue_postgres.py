"""No question that the queue asks makes PostgreSQL read or sort more than a few tasks, however many there are.

It has no statistics of a new table, and old ones of a table that has grown: a plan must be good without.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection
from store_drivers import POSTGRES, Database, database, open_postgres

from openlaunch.tasks import control, housekeeping, lookups, outbox, queue
from openlaunch.tasks.callback import Callback
from openlaunch.tasks.position import position
from openlaunch.tasks.queue import Finished, NewTask
from openlaunch.tasks.states import State
from openlaunch.wire.ids import new_id
from openlaunch.wire.keys import ALL_OWNERS

Operation = Callable[[Connection], Any]

DONE, WAITING, RUNNING, FEW = 40_000, 20_000, 200, 500
LIMIT = 20
OF_TASKS = {"task_inputs", "queue", "task_results", "deliveries"}
EXPLAINED = {
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_format": "json",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
    "client_min_messages": "log",
}
FILL = f"""
TRUNCATE queue, task_results, task_inputs;
ALTER TABLE task_inputs SET (autovacuum_enabled = off);
ALTER TABLE task_results SET (autovacuum_enabled = off);
ALTER TABLE queue SET (autovacuum_enabled = off);
INSERT INTO task_inputs (id, endpoint_id, owner, priority, created_at, expires_at, max_attempts, return_pickled,
                         idempotency_key)
SELECT 't' || n, 'end', 'ada', 0, 1, 1000, 3, false, 'k' || n
FROM generate_series(1, {DONE + WAITING + RUNNING}) AS n;
INSERT INTO task_results (seq, status, finished_at, attempts, recoveries, failed_of)
SELECT seq, CASE WHEN seq % 100 = 0 THEN 'FAILURE' ELSE 'SUCCESS' END, 500 + seq, 1, 0,
       CASE WHEN seq % 100 = 0 THEN 'ada' END
FROM task_inputs ORDER BY seq LIMIT {DONE};
INSERT INTO queue (seq, id, endpoint_id, owner, priority, created_at, expires_at, max_attempts, lease_owner,
                   lease_until)
SELECT i.seq, i.id, 'end', CASE WHEN i.seq % 2 = 0 THEN 'ada' ELSE 'bob' END, 0, 1, 1000, 3,
       CASE WHEN i.id > 't{DONE + WAITING}' AND length(i.id) = 6 THEN 'me' END, 1000
FROM task_inputs AS i LEFT JOIN task_results AS r ON r.seq = i.seq WHERE r.seq IS NULL;
INSERT INTO deliveries (id, task_id, endpoint_id, owner, receiver, url, status, created_at, next_at, failures,
                        attempts, progress)
SELECT n, n, 'end', 'ada', 'a', 'http://a/', 'PENDING', 1, 1, 0, '[]', false FROM generate_series(1, 5000) AS n;
"""

VACUUMED_WHEN_EMPTY = "UPDATE pg_class SET reltuples = 0, relpages = 100 WHERE relname = 'queue'"
"""What a vacuum leaves behind that found nothing in the queue's pages."""

ALL_DELETED = (
    "UPDATE pg_class SET reltuples = 0, relpages = 100 WHERE relname IN ('task_inputs', 'task_results')"
)
"""What a vacuum leaves behind once all tasks were deleted."""

MISTAKEN = (
    "UPDATE queue SET expires_at = 0",
    "ANALYZE queue",
    "UPDATE queue SET expires_at = 1000",
)
"""Has PostgreSQL believe that an index of what has not expired finds next to nothing."""


@pytest.fixture(autouse=True)
def _of_no_other_test(tmp_path: Path) -> Iterator[None]:
    """The database is not emptied for the next test: PostgreSQL has wrong ideas of its tables by then."""
    yield
    POSTGRES.drop(tmp_path)


def fill(folder: Path, tasks: int = DONE + WAITING + RUNNING) -> None:
    """Beside the store, which waits a few seconds for a statement, and no longer."""
    with psycopg.connect(POSTGRES.url_of(folder)) as connection:
        connection.execute(FILL.replace(str(DONE + WAITING + RUNNING), str(tasks)).encode())


def plans(conn: Connection, operation: Operation) -> list[Any]:
    """What PostgreSQL did for each statement of the operation: its plan, with the rows that each step met."""
    driver: Any = conn.connection.driver_connection
    found: list[Any] = []

    def note(message: Any) -> None:
        text = message.message_primary
        if "plan:" in text:
            found.append(json.loads(text.partition("plan:")[2])["Plan"])

    driver.execute("LOAD 'auto_explain'")
    driver.add_notice_handler(note)
    for name, value in EXPLAINED.items():
        driver.execute(f"SET {name} = {value}")
    operation(conn)
    for name in EXPLAINED:
        driver.execute(f"RESET {name}")
    driver.remove_notice_handler(note)
    return found


def steps(plan: Any) -> Iterator[Any]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from steps(below)


def met(step: Any) -> int:
    """The rows that a step looked at, in all of its loops."""
    looked_at = step["Actual Rows"] + step.get("Rows Removed by Filter", 0)
    return int(looked_at * step["Actual Loops"])


def new(key: str | None = None) -> NewTask:
    return NewTask(new_id(0), "end", "ada", 900, 3, b"", idempotency_key=key, callback=Callback("http://a/"))


ANSWERED = [Finished(f"t{DONE + n}", State.SUCCESS, 200, b"x" * 3000) for n in range(1, 9)]
SOME = [f"t{n}" for n in range(1, 9)]
OPERATIONS: dict[str, Operation] = {
    "submit": lambda conn: queue.submit(conn, [new(), new("k"), new()], 1),
    "submit again": lambda conn: queue.submit(conn, [new("k")], 1),
    "claim": lambda conn: queue.claim(conn, "end", LIMIT, "other", 30, 1, "ada"),
    "claim of a sole owner": lambda conn: queue.claim(conn, "lone", LIMIT, "other", 30, 1),
    "renew": lambda conn: queue.renew(conn, "me", [f"t{DONE + WAITING + n}" for n in range(1, 9)], 30, 1),
    "give back": lambda conn: queue.give_back(conn, [f"t{DONE + WAITING + 1}"], "died", 1, died=True),
    "complete": lambda conn: queue.complete(conn, ANSWERED, 1),
    "cancel": lambda conn: control.cancel(conn, "ada", f"t{DONE + 9}", 1),
    "recover": lambda conn: housekeeping.recover(conn, 1),
    "recover others'": lambda conn: housekeeping.recover(conn, 1, ["me", "other"]),
    "expire": lambda conn: housekeeping.expire(conn, 1),
    "old tasks": lambda conn: housekeeping.find_old(conn, 30_000, 100, (15_000.0, 14_500), LIMIT),
    "delete": lambda conn: housekeeping.delete_old(
        conn, housekeeping.OldTasks([1], ["t1"], [], (0, 0), False)
    ),
    "receivers": lambda conn: [outbox.owners(conn), outbox.due(conn, "ada", 1000, LIMIT)],
    "get": lambda conn: lookups.get_many(conn, "ada", SOME),
    "payload": lambda conn: lookups.get_payload(conn, "ada", "t5"),
    "progress": lambda conn: lookups.progress_of(conn, "ada", SOME),
    "done": lambda conn: lookups.done_of(conn, SOME),
    "list": lambda conn: lookups.list_page(conn, "ada", limit=LIMIT),
    "list of an endpoint": lambda conn: lookups.list_page(conn, "ada", "end", limit=LIMIT),
    "list of failed": lambda conn: lookups.list_page(conn, "ada", None, State.FAILURE, LIMIT),
    "list of running": lambda conn: lookups.list_page(conn, "ada", "end", State.STARTED, LIMIT),
    "list of a status": lambda conn: lookups.list_page(conn, "ada", None, State.SUCCESS, LIMIT, most=LIMIT),
    "list of all": lambda conn: lookups.list_page(conn, ALL_OWNERS, None, None, LIMIT, most=LIMIT),
    "list of a time": lambda conn: lookups.list_page(
        conn, "ada", None, None, LIMIT, most=LIMIT, among=["end"], times=(0, 2e9)
    ),
    "position": lambda conn: position(conn, "ada", f"t{DONE + 1000}", 1, LIMIT),
    "fail": lambda conn: control.fail_endpoint(conn, "end", "deleted", 1, LIMIT),
}
READ = {
    name
    for name in OPERATIONS
    if name.startswith(("receivers", "get", "payload", "progress", "done", "list", "old", "pos"))
}


def check_plans(db: Database) -> None:
    for name, operation in OPERATIONS.items():
        run = db.read if name in READ else db.write
        found = run(lambda conn, operation=operation: plans(conn, operation))
        assert found, name
        for step in (step for plan in found for step in steps(plan)):
            shown = name, json.dumps(step, indent=1)
            assert step["Node Type"] != "Seq Scan" or step["Relation Name"] not in OF_TASKS, shown
            assert met(step) <= FEW, shown


def test_of_a_few_thousand_tasks_those_that_are_asked_for_are_read_alone(tmp_path: Path) -> None:
    """PostgreSQL believes of these that an owner has few, until it has statistics of them."""
    many = [f"t{n}" for n in range(1000, 1100)]
    again = [new(f"k{n}") for n in range(1000, 1100)]  # keys that are known
    with database(open_postgres, tmp_path) as db:
        fill(tmp_path, 5000)
        for _ in range(2):
            for look in (lookups.get_many, lookups.progress_of):
                (plan,) = db.read(lambda conn, look=look: plans(conn, lambda conn: look(conn, "ada", many)))
                assert max(met(step) for step in steps(plan)) == len(many)
            (plan,) = db.read(lambda conn: plans(conn, lambda conn: lookups.done_of(conn, many)))
            assert max(met(step) for step in steps(plan)) == len(many)
            found = db.write(lambda conn: plans(conn, lambda conn: queue.submit(conn, again, 1)))
            assert max(met(step) for plan in found for step in steps(plan)) == len(many)
            db.write(lambda conn: conn.exec_driver_sql(ALL_DELETED).rowcount)


def test_few_tasks_are_read_of_any_number(tmp_path: Path) -> None:
    with database(open_postgres, tmp_path) as db:
        check_plans(db)
        fill(tmp_path)
        check_plans(db)  # as planned while there was nothing
    with database(open_postgres, tmp_path) as anew:
        check_plans(anew)  # as planned without statistics
        anew.write(lambda conn: conn.exec_driver_sql("ANALYZE").rowcount)
        check_plans(anew)
        anew.write(lambda conn: conn.exec_driver_sql(VACUUMED_WHEN_EMPTY).rowcount)
        check_plans(anew)
        for statement in MISTAKEN:
            anew.write(lambda conn, statement=statement: conn.exec_driver_sql(statement).rowcount)
    with database(open_postgres, tmp_path) as anew:
        check_plans(anew)
