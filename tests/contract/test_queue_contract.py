"""What the queue does, whatever database is behind it. Time is virtual: every function takes `now`."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from example_bundles import make_bundle
from sqlalchemy import Connection
from store_drivers import OPENERS, Database, database

from openlaunch.errors import Unprocessable
from openlaunch.store import batch_jobs, bundles
from openlaunch.store.records import BatchJobRecord
from openlaunch.tasks import control, housekeeping, lookups, queue
from openlaunch.tasks.housekeeping import FIRST, OldTasks, Place
from openlaunch.tasks.lookups import Payload, TaskRecord
from openlaunch.tasks.position import position
from openlaunch.tasks.queue import ClaimedTask, Finished, NewTask
from openlaunch.tasks.states import State
from openlaunch.wire.batch_jobs import BatchJobStatus, SerializationFormat
from openlaunch.wire.endpoint_settings import EndpointSpec
from openlaunch.wire.ids import new_id


@pytest.fixture(params=OPENERS)
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with database(OPENERS[request.param], tmp_path) as opened:
        yield opened


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


# Submit and claim.


def test_a_submitted_task_is_pending(db: Database) -> None:
    assert submit(db, task("a"), now=5) == ["a"]
    assert stored(db, "a") == TaskRecord("a", "end", "ada", State.PENDING, 0, 5, None, None, None, None, None)


def test_a_claim_takes_the_task_with_what_was_asked_for(db: Database) -> None:
    large = NewTask(
        "large", "end", "ada", 1000, 3, None, "tasks/large", return_pickled=True, timeout_seconds=2.5
    )
    submit(db, task("small"), large)
    taken = db.write(lambda conn: queue.claim(conn, "end", 5, "me", 30, 1))
    assert taken == [
        ClaimedTask("small", "ada", b"small", None, 1, 3, return_pickled=False, timeout_seconds=None),
        ClaimedTask("large", "ada", None, "tasks/large", 1, 3, return_pickled=True, timeout_seconds=2.5),
    ]
    assert stored(db, "small").state is State.STARTED
    assert claim(db) == []


def test_claims_go_by_priority_and_then_by_arrival(db: Database) -> None:
    submit(db, task("low", priority=-1), task("a"), task("b"))
    submit(db, task("high", priority=5), task("c"))
    assert claim(db, limit=2) == ["high", "a"]
    assert claim(db) == ["b", "c", "low"]


def test_a_claim_takes_only_its_endpoints_tasks_and_no_expired_one(db: Database) -> None:
    submit(db, task("other", endpoint_id="other"), task("late", expires_at=5), task("a"))
    assert claim(db, now=5) == ["a"]


def test_claimers_at_once_share_no_task(db: Database) -> None:
    ids = [f"t{n:03}" for n in range(200)]
    submit(db, *map(task, ids))
    claims = db.write_at_once(
        [lambda conn, me=f"me{n}": queue.claim(conn, "end", 7, me, 30, 1) for n in range(40)]
    )
    assert sorted(one.id for batch in claims for one in batch) == ids


# Owners take turns.


def test_owners_take_turns_whatever_each_has_waiting(db: Database) -> None:
    submit(db, *(task(f"a{n}") for n in range(5)))
    submit(db, task("b0", owner="bob"), task("c0", owner="cyd"), task("c1", owner="cyd"))
    assert claim(db, limit=6) == ["a0", "b0", "c0", "a1", "c1"]
    assert claim(db, limit=6) == ["a2", "a3", "a4"]


def test_a_claim_begins_behind_the_owner_whose_turn_was_last(db: Database) -> None:
    submit(db, *(task(f"{owner}{n}", owner=owner) for owner in "abc" for n in range(3)))
    served = [claim(db, limit=1, after=after)[0] for after in ("", "a", "b", "c", "a")]
    assert served == ["a0", "b0", "c0", "a1", "b1"]
    assert claim(db, limit=2, after="b") == ["c1", "a2"]


def test_a_priority_is_among_an_owners_own_tasks(db: Database) -> None:
    submit(db, *(task(f"a{n}", priority=100) for n in range(4)))
    submit(db, task("b0", owner="bob", priority=-100), task("b1", owner="bob"))
    assert claim(db, limit=4) == ["a0", "b1", "a1", "b0"]


def test_an_owner_whose_tasks_have_expired_has_no_turn(db: Database) -> None:
    submit(db, task("late", expires_at=5), task("b0", owner="bob"))
    assert claim(db, limit=1, now=5) == ["b0"]


def test_more_owners_than_slots_are_all_served(db: Database) -> None:
    owners = [f"o{n:02}" for n in range(20)]
    submit(db, *(task(f"{owner}-{n}", owner=owner) for owner in owners for n in range(2)))
    after, served = "", []
    while claimed := claim(db, limit=3, after=after):
        served += claimed
        after = claimed[-1].partition("-")[0]
    assert served[:20] == [f"{owner}-0" for owner in owners]
    assert len(served) == 40


# Idempotency.


def test_an_idempotency_key_names_the_first_task(db: Database) -> None:
    submit(db, task("a", key="k"))
    assert submit(db, task("b", key="k"), task("c")) == ["a", "c"]
    complete(db, success("a"))
    assert submit(db, task("d", key="k")) == ["a"]
    assert get(db, "b") is None


def test_an_idempotency_key_holds_within_one_batch(db: Database) -> None:
    assert submit(db, task("a", key="k"), task("b", key="k"), task("c")) == ["a", "a", "c"]


def test_an_idempotency_key_is_its_owners_alone(db: Database) -> None:
    submit(db, task("a", key="k"), task("b", key="m", owner="bob"))
    assert submit(db, task("c", key="k", owner="bob"), task("d", key="m")) == ["c", "d"]


def test_a_key_that_was_used_for_something_else_is_refused_and_nothing_is_stored(db: Database) -> None:
    submit(db, task("a", key="k#0", digest=b"1"))
    assert submit(db, task("b", key="k#0", digest=b"1")) == ["a"]
    with pytest.raises(Unprocessable, match="'k' was sent with another body") as caught:
        submit(db, task("c"), task("d", key="k#0", digest=b"2"))
    assert caught.value.code == "idempotency_key_reused"
    assert db.read(lambda conn: lookups.queued_counts(conn, 0)) == {"end": {"ada": 1}}


def test_submits_at_once_with_one_key_make_one_task(db: Database) -> None:
    first = db.write_at_once(
        [lambda conn, n=n: queue.submit(conn, [task(f"t{n}", key="k")], 0) for n in range(20)]
    )
    assert len({ids[0] for ids in first}) == 1
    assert db.read(lambda conn: lookups.queued_counts(conn, 0)) == {"end": {"ada": 1}}


# Results.


def test_the_first_result_wins(db: Database) -> None:
    submit(db, task("a"))
    claim(db)
    assert complete(db, success("a", b"1"), success("a", b"2")) == {"a"}
    assert complete(db, Finished("a", State.FAILURE, 500, b"3"), now=9) == set()
    assert (stored(db, "a").state, stored(db, "a").result, stored(db, "a").finished_at) == (
        State.SUCCESS,
        b"1",
        2,
    )


def test_a_result_that_comes_after_the_task_went_back_is_taken(db: Database) -> None:
    submit(db, task("a"))
    claim(db)
    die(db, "a")
    assert complete(db, success("a")) == {"a"}
    assert claim(db) == []


def test_a_result_of_a_task_that_is_not_there_is_dropped(db: Database) -> None:
    assert complete(db, success("gone")) == set()


# Workers and servers that die.


def test_a_task_that_keeps_killing_its_worker_fails_with_the_reason(db: Database) -> None:
    submit(db, task("a", max_attempts=2))
    claim(db)
    assert die(db, "a") == [("a", State.PENDING)]
    assert claim(db) == ["a"]
    assert die(db, "a") == [("a", State.FAILURE)]
    record = stored(db, "a")
    reason = "the task's worker was killed by SIGKILL; that was attempt 2 of 2"
    assert (record.state, record.status_code, record.reason) == (State.FAILURE, 500, reason)
    assert json.loads(record.result or b"")["traceback"] == reason


def test_a_task_that_is_handed_back_has_lost_no_attempt(db: Database) -> None:
    submit(db, task("a", max_attempts=1))
    for _ in range(3):
        assert claim(db) == ["a"]
        assert die(db, "a", died=False) == [("a", State.PENDING)]
    assert stored(db, "a").attempts == 0


def test_only_running_tasks_go_back(db: Database) -> None:
    submit(db, task("waits"), task("done"))
    complete(db, success("done"))
    assert die(db, "waits", "done", "gone") == []


def test_many_tasks_go_back_at_once(db: Database) -> None:
    ids = [f"t{n:04}" for n in range(2000)]
    submit(db, *map(task, ids))
    assert len(claim(db, limit=2000)) == 2000
    assert sorted(task_id for task_id, _ in die(db, *ids)) == ids
    assert db.read(lambda conn: lookups.queued_counts(conn, 0)) == {"end": {"ada": 2000}}


def test_tasks_are_recovered_when_their_lease_has_run_out(db: Database) -> None:
    submit(db, task("a"))
    claim(db, now=1)
    assert db.write(lambda conn: housekeeping.recover(conn, 31)) == []
    assert db.write(lambda conn: queue.renew(conn, "me", ["a", "b"], 30, 20)) == 1
    assert db.write(lambda conn: queue.renew(conn, "me", [], 30, 30)) == 0
    assert db.write(lambda conn: queue.renew(conn, "you", ["a"], 30, 30)) == 0
    assert db.write(lambda conn: housekeeping.recover(conn, 32)) == []
    assert db.write(lambda conn: housekeeping.recover(conn, 50.5)) == ["a"]
    assert (stored(db, "a").state, stored(db, "a").attempts) == (State.PENDING, 0)
    assert claim(db) == ["a"]


def test_a_task_that_ends_each_server_that_runs_it_does_not_run_for_ever(db: Database) -> None:
    submit(db, task("a"), task("b"))
    for server in range(housekeeping.MAX_RECOVERIES + 1):
        assert claim(db, limit=1, lease_owner=str(server)) == ["a"]
        assert db.write(lambda conn: housekeeping.recover(conn, 2, ["new"])) == ["a"]
    assert (stored(db, "a").state, stored(db, "a").reason) == (State.FAILURE, housekeeping.LOST)
    assert claim(db) == ["b"]


def test_leases_of_dead_servers_end_at_once_and_those_of_living_ones_do_not(db: Database) -> None:
    submit(db, *(task(f"t{n:04}") for n in range(1200)))
    claim(db, limit=1198, lease_owner="dead")
    claim(db, limit=1, lease_owner="other")
    claim(db, lease_owner="me")
    assert db.write(lambda conn: housekeeping.recover(conn, 2)) == []
    assert len(db.write(lambda conn: housekeeping.recover(conn, 2, ["me", "other"]))) == 1198
    assert [stored(db, f"t119{n}").state for n in (7, 8, 9)] == [State.PENDING, State.STARTED, State.STARTED]


# Expiry, cancel, the end of an endpoint, purge.


def test_a_task_that_waited_too_long_fails(db: Database) -> None:
    submit(db, task("late", expires_at=5), task("runs", expires_at=5), task("waits", expires_at=6))
    claim(db, limit=2, now=1)
    die(db, "late")
    assert db.write(lambda conn: housekeeping.expire(conn, 4.9)) == []
    assert db.write(lambda conn: housekeeping.expire(conn, 5)) == ["late"]
    record = stored(db, "late")
    assert (record.state, record.status_code) == (State.FAILURE, 504)
    assert "it waited 5 s" in (record.reason or "")
    assert stored(db, "runs").state is State.STARTED


def test_one_call_expires_no_more_than_its_limit(db: Database) -> None:
    submit(db, *(task(f"t{n}", expires_at=5) for n in range(5)))
    assert len(db.write(lambda conn: housekeeping.expire(conn, 9, limit=3))) == 3
    assert len(db.write(lambda conn: housekeeping.expire(conn, 9, limit=3))) == 2


def test_cancel(db: Database) -> None:
    submit(db, task("started"), task("pending"), task("done"))
    claim(db, limit=1)
    complete(db, success("done"))
    assert cancel(db, "pending", owner="bob") is None
    assert [cancel(db, name) for name in ("started", "pending", "done", "gone")] == [
        State.STARTED,
        State.PENDING,
        State.SUCCESS,
        None,
    ]
    assert [stored(db, name).state for name in ("started", "pending", "done")] == [
        State.CANCELLED,
        State.CANCELLED,
        State.SUCCESS,
    ]
    assert complete(db, success("started")) == set()
    assert claim(db) == []


def test_an_endpoints_end_fails_its_tasks(db: Database) -> None:
    submit(db, task("a"), task("b"), task("done"), task("other", endpoint_id="other"))
    claim(db, limit=1)
    complete(db, success("done"))
    ended = db.write(lambda conn: control.fail_endpoint(conn, "end", "the endpoint was deleted", 4))
    assert ended == ["a", "b"]
    record = stored(db, "a")
    assert (record.state, record.status_code, record.finished_at) == (State.FAILURE, 404, 4)
    assert json.loads(record.result or b"")["traceback"] == "the endpoint was deleted"
    assert [stored(db, name).state for name in ("done", "other")] == [State.SUCCESS, State.PENDING]
    assert complete(db, success("a")) == set()


def test_one_call_ends_no_more_of_an_endpoints_tasks_than_its_limit(db: Database) -> None:
    submit(db, *(task(f"t{n}") for n in range(5)))
    claim(db, limit=1)
    counts = [
        len(db.write(lambda conn: control.fail_endpoint(conn, "end", "deleted", 4, limit=3)))
        for _ in range(3)
    ]
    assert counts == [3, 2, 0]


def delete_old(
    db: Database, now: float = 99, retention_seconds: float = 1, after: Place = FIRST, limit: int = 500
) -> OldTasks:
    old = db.read(lambda conn: housekeeping.find_old(conn, now, retention_seconds, after, limit))
    db.write(lambda conn: housekeeping.delete_old(conn, old))
    return old


def test_purge_deletes_old_tasks_and_names_all_their_artifacts(db: Database) -> None:
    submit(db, NewTask("old", "end", "ada", 1000, 3, payload_key="in/old"), task("new"), task("waits"))
    complete(db, Finished("old", State.SUCCESS, 200, result_key="out/old"), now=2)
    complete(db, success("new"), now=3)
    old = delete_old(db, now=12, retention_seconds=10)
    assert old.keys == ["in/old", "out/old"]
    assert get(db, "old") is None
    assert delete_old(db, now=12, retention_seconds=10).ids == []
    assert set(db.read(lambda conn: lookups.progress_of(conn, "ada", ["old", "new", "waits"]))) == {
        "new",
        "waits",
    }


def test_one_call_purges_no_more_than_its_limit(db: Database) -> None:
    submit(db, *(task(f"t{n}") for n in range(5)))
    complete(db, *(success(f"t{n}") for n in range(5)))
    old = delete_old(db, limit=3)
    assert old.more
    assert len(db.read(lambda conn: lookups.list_page(conn, "ada"))[0]) == 2
    assert not delete_old(db, after=old.place, limit=3).more
    assert db.read(lambda conn: lookups.list_page(conn, "ada"))[0] == []


def test_large_tasks_are_deleted_in_smaller_numbers(db: Database) -> None:
    size = housekeeping.MAX_DELETED_BYTES // 2
    submit(db, *(NewTask(f"t{n}", "end", "ada", 1000, 3, payload=b"x" * size) for n in range(4)))
    complete(db, *(Finished(f"t{n}", State.FAILURE, 500, result=b"{}") for n in range(4)))
    old = delete_old(db)
    assert (old.ids, old.more) == (["t0", "t1"], True)


def test_what_has_to_stay_is_passed_once(db: Database) -> None:
    spec = EndpointSpec(min_workers=0, max_workers=1, per_worker=1, cpus=1, memory=1, storage=1)
    kind = BatchJobStatus.RUNNING, None, "in", SerializationFormat.JSON
    job = BatchJobRecord("job", "ada", "bun", *kind, {}, spec, 60, 0)
    submit(db, task("mine"), *(task(f"t{n}", owner="job") for n in range(3)), task("last"))
    complete(db, *(success(name) for name in ("mine", "t0", "t1", "t2", "last")))
    db.write(lambda conn: bundles.insert(conn, make_bundle("bun")))
    db.write(lambda conn: batch_jobs.insert(conn, job))
    first = delete_old(db, limit=3)
    assert (first.ids, first.more) == (["mine"], True)
    assert delete_old(db, after=first.place, limit=3).ids == ["last"]


# Looking.


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
