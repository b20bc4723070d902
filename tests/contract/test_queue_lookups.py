"""What can be seen of tasks, whatever database is behind the queue."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from queue_calls import cancel, claim, complete, get, submit, success, task
from sqlalchemy import Connection
from store_drivers import Database

from openlaunch.tasks import lookups, queue
from openlaunch.tasks.lookups import Payload, TaskRecord
from openlaunch.tasks.position import position
from openlaunch.tasks.queue import ClaimedTask, Finished, NewTask
from openlaunch.tasks.states import State
from openlaunch.wire.ids import new_id


def test_nobody_sees_another_owners_task(db: Database) -> None:
    submit(db, task("a"))
    assert get(db, "a", owner="bob") is None
    assert db.read(lambda conn: lookups.get_many(conn, "bob", ["a"])) == []
    assert set(db.read(lambda conn: lookups.progress_of(conn, "bob", ["a"]))) == set()
    assert db.read(lambda conn: lookups.list_page(conn, "bob")) == ([], None)


def test_a_thousand_ids_can_be_asked_for_at_once(db: Database) -> None:
    ids = [f"t{n:04}" for n in range(1000)]
    submit(db, *map(task, ids))
    complete(db, *map(success, ids[:10]))
    assert len(db.read(lambda conn: lookups.get_many(conn, "ada", ids))) == 1000
    progress = db.read(lambda conn: lookups.progress_of(conn, "ada", ids))
    assert progress.keys() == set(ids)
    assert sorted(task_id for task_id, size in progress.items() if size is not None) == ids[:10]


def pages(db: Database, limit: int, endpoint_id: str | None, state: State | None) -> list[str]:
    ids: list[str] = []
    cursor = None
    while True:
        page, cursor = db.read(
            lambda conn, at=cursor: lookups.list_page(conn, "ada", endpoint_id, state, limit, at)
        )
        assert len(page) <= limit
        ids += [record.id for record in page]
        if cursor is None:
            return ids


def test_tasks_are_found_by_the_time_of_their_submission_and_by_their_endpoints(db: Database) -> None:
    """However many lie around them: the list begins near the time."""
    ids = {}
    for at in range(1000, 3000, 100):
        ids[at] = new_id(at)
        new = NewTask(ids[at], f"end{at % 200}", "ada", at + 9000, 3, b"{}")
        db.write(lambda conn, new=new, at=at: queue.submit(conn, [new], at))

    def found(since: float | None, until: float | None, **more: Any) -> list[str]:
        wanted = partial(lookups.list_page, owner="ada", most=4, times=(since, until), **more)
        return [record.id for record in db.read(wanted)[0]]

    assert found(1500, 1800) == [ids[1700], ids[1600], ids[1500]]
    assert found(None, 1200) == [ids[1100], ids[1000]]
    assert found(2800, None) == [ids[2900], ids[2800]]
    assert found(9000, None) == []
    assert found(1500, 1800, among=["end100", "end0"]) == [ids[1700], ids[1600], ids[1500]]
    assert found(1500, 1800, among=["end0"]) == [ids[1600]]
    assert found(1500, 1800, state=State.PENDING) == [ids[1700], ids[1600], ids[1500]]
    claimed = db.write(lambda conn: queue.claim(conn, "end0", 9, "me", 9000, 1))
    assert found(1500, 1800, state=State.STARTED) == [ids[1600]] * bool(claimed)


def test_a_page_of_a_status_looks_at_a_bounded_number_of_tasks(db: Database) -> None:
    submit(db, *(task(f"t{n}") for n in range(10)))
    complete(db, success("t0"), success("t8"))

    def found(state: State, cursor: str | None, most: int = 4) -> tuple[list[str], str | None]:
        list_some = partial(lookups.list_page, owner="ada", state=state, cursor=cursor, most=most)
        page, after = db.read(list_some)
        return [record.id for record in page], after

    first, cursor = found(State.SUCCESS, None)
    second, next_cursor = found(State.SUCCESS, cursor)
    assert (first, second) == (["t8"], [])
    assert next_cursor is not None
    assert found(State.SUCCESS, next_cursor) == (["t0"], None)
    claim(db, limit=1)
    assert found(State.STARTED, None) == (["t1"], None)


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_hold_every_task_once_newest_first(db: Database, limit: int) -> None:
    submit(db, *(task(f"t{n}", endpoint_id=f"end{n % 2}") for n in range(6)), task("x", owner="bob"))
    complete(db, success("t3"), Finished("t4", State.FAILURE, 500, b"{}"))
    cancel(db, "t5")
    assert pages(db, limit, None, None) == ["t5", "t4", "t3", "t2", "t1", "t0"]
    assert pages(db, limit, "end1", None) == ["t5", "t3", "t1"]
    assert pages(db, limit, None, State.FAILURE) == ["t5", "t4"]
    assert pages(db, limit, "end0", State.PENDING) == ["t2", "t0"]
    assert pages(db, limit, None, State.SUCCESS) == ["t3"]


def test_counts_are_of_pending_tasks_by_endpoint_and_owner(db: Database) -> None:
    submit(db, task("a"), task("b"), task("c", endpoint_id="other"), task("d", endpoint_id="third"))
    claim(db, limit=1)
    cancel(db, "d")
    submit(db, task("e", owner="bob"), task("f", owner="bob"))
    assert db.read(lambda conn: lookups.queued_counts(conn, 0)) == {
        "end": {"ada": 1, "bob": 2},
        "other": {"ada": 1},
    }


def test_a_submit_that_fails_stores_none_of_its_tasks(db: Database) -> None:
    submit(db, task("a"))

    def twice(conn: Connection) -> Sequence[str]:
        return queue.submit(conn, [task("b"), task("a")], 0)

    with pytest.raises(Exception, match=r"(?i)unique"):
        db.write(twice)
    assert get(db, "b") is None


@pytest.mark.parametrize("state", [State.FAILURE, State.CANCELLED])
def test_what_was_sent_in_is_kept_with_a_task_that_did_not_succeed(db: Database, state: State) -> None:
    submit(db, task("a"), NewTask("b", "end", "ada", 1000, 3, payload_key="in/b"))
    done = [Finished(task_id, state, 500, b"{}") for task_id in "ab"]
    db.write(lambda conn: queue.complete(conn, done, 1))
    found = [db.read(lambda conn, i=i: lookups.get_payload(conn, "ada", i)) for i in "ab"]
    assert found == [Payload("end", state, b"a", None), Payload("end", state, None, "in/b")]
    assert db.read(lambda conn: lookups.get_payload(conn, "eve", "a")) is None


def test_what_was_sent_in_is_not_kept_with_a_task_that_succeeded(db: Database) -> None:
    submit(db, task("a"), NewTask("b", "end", "ada", 1000, 3, payload_key="in/b"))
    db.write(lambda conn: queue.complete(conn, [success("a"), success("b")], 1))
    for task_id in "ab":
        found = db.read(lambda conn, i=task_id: lookups.get_payload(conn, "ada", i))
        assert found == Payload("end", State.SUCCESS, None, None)


def test_the_last_attempt_is_known_when_there_may_be_several(db: Database) -> None:
    submit(db, task("a"))
    submit(db, NewTask("once", "other", "ada", 1000, 1, payload=b"x"))
    seen = []
    for _ in range(3):
        (claimed,) = db.write(lambda conn: queue.claim(conn, "end", 1, "me", 30, 1))
        seen.append(claimed.is_last_attempt)
        db.write(lambda conn: queue.give_back(conn, ["a"], "was killed", 2, died=True))
    assert seen == [False, False, True]
    (claimed,) = db.write(lambda conn: queue.claim(conn, "other", 1, "me", 30, 1))
    assert not claimed.is_last_attempt


def test_no_record_shows_payload_or_result(db: Database) -> None:
    assert "secret" not in repr(
        [
            NewTask("a", "end", "ada", 1, 1, payload=b"secret"),
            ClaimedTask("a", "ada", b"secret", None, 1, 3),
            Payload("end", State.FAILURE, b"secret", None),
            success("a", b"secret"),
            TaskRecord("a", "end", "ada", State.SUCCESS, 1, 1, 1, 200, None, b"secret", None),
        ]
    )


def ahead(db: Database, task_id: str, most: int = 100, owner: str = "ada", now: float = 1) -> int | None:
    found = db.read(lambda conn: position(conn, owner, task_id, now, most))
    assert found is not None
    return found.ahead


def test_a_place_in_the_queue_goes_by_priority_and_then_by_arrival(db: Database) -> None:
    submit(db, task("a"), task("b"), task("urgent", priority=1), task("c"), task("x", endpoint_id="other"))
    assert [ahead(db, one) for one in ("urgent", "a", "b", "c", "x")] == [0, 1, 2, 3, 0]


def test_what_runs_and_what_has_expired_is_before_nobody(db: Database) -> None:
    submit(db, task("a"), task("brief", expires_at=2), task("b"))
    assert claim(db, limit=1) == ["a"]
    assert ahead(db, "b", now=3) == 0
    assert ahead(db, "a") is None


def test_a_place_is_counted_no_further_than_asked(db: Database) -> None:
    submit(db, *(task(str(n)) for n in range(20)), *(task(f"u{n}", priority=1) for n in range(3)))
    assert ahead(db, "19", most=10) == 11
    assert ahead(db, "7", most=10) == 10


def test_somebody_elses_task_has_no_place(db: Database) -> None:
    submit(db, task("a"))
    assert db.read(lambda conn: position(conn, "eve", "a", 1, 10)) is None
