"""Calls of the queue that its suites make, with what most of them ask."""

from store_drivers import Database

from openlaunch.tasks import control, lookups, queue
from openlaunch.tasks.lookups import TaskRecord
from openlaunch.tasks.queue import Finished, NewTask
from openlaunch.tasks.states import State


def task(
    task_id: str,
    endpoint_id: str = "end",
    owner: str = "ada",
    priority: int = 0,
    expires_at: float = 1000,
    max_attempts: int = 3,
    key: str | None = None,
    digest: bytes | None = None,
) -> NewTask:
    return NewTask(
        task_id,
        endpoint_id,
        owner,
        expires_at,
        max_attempts,
        payload=task_id.encode(),
        priority=priority,
        idempotency_key=key,
        idempotency_digest=digest,
    )


def success(task_id: str, result: bytes = b"{}") -> Finished:
    return Finished(task_id, State.SUCCESS, 200, result)


def submit(db: Database, *new: NewTask, now: float = 0) -> list[str]:
    return db.write(lambda conn: queue.submit(conn, new, now))


def claim(
    db: Database,
    limit: int = 10,
    endpoint_id: str = "end",
    lease_owner: str = "me",
    now: float = 1,
    after: str = "",
) -> list[str]:
    claimed = db.write(lambda conn: queue.claim(conn, endpoint_id, limit, lease_owner, 30, now, after))
    return [one.id for one in claimed]


def complete(db: Database, *results: Finished, now: float = 2) -> set[str]:
    return db.write(lambda conn: queue.complete(conn, results, now))


def die(db: Database, *ids: str, died: bool = True) -> list[tuple[str, State]]:
    return db.write(lambda conn: queue.give_back(conn, ids, "was killed by SIGKILL", 2, died=died))


def cancel(db: Database, task_id: str, owner: str = "ada") -> State | None:
    return db.write(lambda conn: control.cancel(conn, owner, task_id, 3))


def get(db: Database, task_id: str, owner: str = "ada") -> TaskRecord | None:
    return db.read(lambda conn: lookups.get(conn, owner, task_id))


def stored(db: Database, task_id: str) -> TaskRecord:
    record = get(db, task_id)
    assert record is not None
    return record
